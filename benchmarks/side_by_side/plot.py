"""The picture of the tables, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from side_by_side.entrants import DEFAULT, FLUXFLEX, GENERATE, TRANSPORT
from side_by_side.measures import Row

_OURS, _THEIRS = "#0b6e4f", "#9aa5b1"
_MINE = {FLUXFLEX, DEFAULT, GENERATE, TRANSPORT, "import fluxflex", "from fluxflex import Session"}
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
    """Write the bars of each measure, shorter is better, on a scale of powers of ten.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = [name for name in _PANELS if measured.get(name)]
    if not panels:
        return
    # The same figures give the same file.
    with mpl.rc_context({"svg.hashsalt": "fluxflex", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(11, 3.4 * math.ceil(len(panels) / 2)), layout="constrained")
        grid: Any = figure.subplots(math.ceil(len(panels) / 2), 2, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for name, axes in zip(panels, grid.flat, strict=False):
            _bars(axes, measured[name], *_PANELS[name])
        figure.suptitle(
            "fluxflex beside other clients, same work in the same run: shorter is better"
        )
        figure.savefig(path, format="svg", metadata={"Date": None})


def _bars(axes: Any, rows: Sequence[Row], title: str, key: str, pattern: str) -> None:
    shown = [row for row in rows if row.get(key)][::-1]
    bars = axes.barh(
        [_name(row) for row in shown],
        [row[key] for row in shown],
        color=[_OURS if row["client"] in _MINE else _THEIRS for row in shown],
    )
    axes.bar_label(bars, [format(row[key], pattern) for row in shown], padding=3)
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_title(title, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
