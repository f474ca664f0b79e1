"""The picture of the tables, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from side_by_side.entrants import CALLBACKS, DEFAULT, FLUXFLEX, GENERATE, TRANSPORT
from side_by_side.measures import Row

_OURS, _THEIRS = "#0b6e4f", "#9aa5b1"
_MINE = {
    CALLBACKS,
    FLUXFLEX,
    DEFAULT,
    GENERATE,
    TRANSPORT,
    "import fluxflex",
    "from fluxflex import Session",
}
# Further apart than this, the short bars would be too short to see.
_FAR = 30
# Of each measure: what the bars say, the figure, and how it is written beside its bar.
_PANELS = {
    "cost": ("CPU a task, µs", "cpu_us", ".0f"),
    "burst": ("a burst: completion lag p99, s", "lag_p99", ".2f"),
    "crowd": ("in flight: KiB a task", "kib", ".1f"),
    "imports": ("import, ms", "ms", ".0f"),
}


def _name(row: Row) -> str:
    return f"{row['client']}, {row['count']:,}" if "count" in row else str(row["client"])


def draw(measured: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Write the bars of each measure, ours in green.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = [name for name in _PANELS if measured.get(name)]
    if not panels:
        return
    bars = [len(measured[name]) for name in panels]
    # The same figures give the same file.
    with mpl.rc_context({"svg.hashsalt": "fluxflex", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9, 0.22 * sum(bars) + 0.5 * len(bars) + 0.4), layout="constrained")
        grid: Any = figure.subplots(len(bars), squeeze=False, height_ratios=[n + 1 for n in bars])
        for name, axes in zip(panels, grid.flat, strict=True):
            _bars(axes, measured[name], *_PANELS[name])
        figure.suptitle("fluxflex beside other clients: shorter is better")
        figure.savefig(path, format="svg", metadata={"Date": None})


def _bars(axes: Any, rows: Sequence[Row], title: str, key: str, pattern: str) -> None:
    shown = [row for row in rows if row.get(key)][::-1]
    figures = [row[key] for row in shown]
    bars = axes.barh(
        [_name(row) for row in shown],
        figures,
        color=[_OURS if row["client"] in _MINE else _THEIRS for row in shown],
    )
    axes.bar_label(bars, [format(figure, pattern) for figure in figures], padding=3)
    if max(figures) > _FAR * min(figures):
        axes.set_xscale("log")
        axes.set_xlim(left=10 ** math.floor(math.log10(min(figures)) - 0.3))
        title += " (in powers of ten)"
    axes.margins(x=0.1, y=0.02)
    axes.set_title(title, loc="left", fontweight="bold")
    axes.xaxis.set_visible(False)  # each bar has its figure beside it
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
