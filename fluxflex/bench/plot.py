"""The levels as a picture: throughput and what is waited for, against concurrency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fluxflex.bench.advice import Advice
from fluxflex.bench.levels import Level, Spread
from fluxflex.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INCHES = (7.2, 6.4)
_DPI = 150
_BLUE, _ORANGE, _GREEN, _GREY = "#2a6fbb", "#d1672e", "#3a8a54", "#8a8f98"


def check_plot() -> None:
    """See that plots can be made here.

    Raises:
        ConfigurationError: what makes them is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401 - only to see whether it is there
    except ImportError:
        raise ConfigurationError(
            "The plot needs matplotlib, not installed here",
            hint="Run: pip install 'fluxflex[plot]'",
        ) from None


def plot(
    levels: Sequence[Level], paths: Sequence[Path], *, advice: Advice | None = None, title: str = ""
) -> None:
    """Draw the levels into files; their suffixes say what they are, such as `.svg` and `.png`.

    Args:
        levels: what was measured.
        paths: where to draw.
        advice: the concurrency to mark.
        title: what stands above.

    Raises:
        ConfigurationError: what draws is not installed.
        OSError: a file cannot be written.
    """
    check_plot()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The same levels make the same file.
    with mpl.rc_context({"svg.hashsalt": "fluxflex", "font.size": 10}):
        figure = Figure(figsize=_INCHES, layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2.4))
        shown = sorted(levels, key=lambda level: level.concurrency)
        _throughput(above, shown)
        _waits(below, shown)
        for axes in (above, below):
            _common(axes, shown)
        if advice is not None:
            _mark(above, below, advice.concurrency)
        below.set_xlabel("concurrency: tasks sent and not yet finished")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=_DPI, metadata=metadata)


def _throughput(axes: Axes, levels: Sequence[Level]) -> None:
    there = [level for level in levels if level.throughput]
    at = [level.concurrency for level in there]
    made = [level.throughput for level in there]
    if there:
        steps = [made[0] / at[0] * number for number in at]
        axes.plot(at, steps, color=_GREY, ls=":", lw=1.2, label="if it grew in step")
        axes.plot(at, made, color=_BLUE, marker="o", lw=2, label="measured")
    for level in there:
        if level.turned_away:
            axes.annotate(
                f"429: {level.turned_away:,}",
                (level.concurrency, level.throughput),
                xytext=(0, -17),
                textcoords="offset points",
                ha="center",
                color=_ORANGE,
                fontsize=9,
            )
    axes.set_ylabel("pictures a second")
    if there:
        _log(axes, base=2)
        axes.legend(loc="upper left", frameon=False)


def _waits(axes: Axes, levels: Sequence[Level]) -> None:
    kinds: list[tuple[str, str, Callable[[Level], Spread | None]]] = [
        ("submit", _GREEN, lambda level: level.submit)
    ]
    if any(level.lag for level in levels):
        kinds.append(("completion lag", _ORANGE, lambda level: level.lag))
    else:
        kinds.append(("time to picture", _ORANGE, lambda level: level.picture))
    for name, colour, of in kinds:
        found = [(level.concurrency, of(level)) for level in levels]
        there = [(number, spread) for number, spread in found if spread is not None]
        if not there:
            continue
        at = [number for number, _ in there]
        middle, high = [s.p50 for _, s in there], [s.p95 for _, s in there]
        axes.plot(at, middle, color=colour, marker="o", lw=2, label=f"{name}, median")
        axes.plot(at, high, color=colour, lw=1, ls="--", label="p95")
        axes.fill_between(at, middle, high, color=colour, alpha=0.12, lw=0)
    axes.set_ylabel("seconds")
    if not axes.lines:
        return
    _log(axes, base=10)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=2 * len(kinds),
        frameon=False,
        fontsize=9,
        columnspacing=1.2,
    )


def _log(axes: Axes, *, base: int) -> None:
    """Make the upright scale logarithmic, with numbers as people write them."""
    from matplotlib.ticker import FuncFormatter

    axes.set_yscale("log", base=base)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _common(axes: Axes, levels: Sequence[Level]) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([level.concurrency for level in levels]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.grid(color="#e4e6ea", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _mark(above: Axes, below: Axes, concurrency: int) -> None:
    """Mark the concurrency to use."""
    for axes in (above, below):
        axes.axvline(concurrency, color=_BLUE, lw=9, alpha=0.13, zorder=0)
    above.annotate(
        f"use {concurrency}",
        (concurrency, 0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 5),
        textcoords="offset points",
        ha="center",
        color=_BLUE,
        fontweight="bold",
    )
