"""The levels as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import attrs

from fluxflex.bench.levels import Level, Spread
from fluxflex.bench.words import three

_NOTHING = "-"


@attrs.frozen
class _Column:
    """One column: two lines of heading, and what stands below for a level."""

    above: str
    below: str
    cell: Callable[[Level], str]


def _percentiles(of: Callable[[Level], Spread | None], *names: str) -> Callable[[Level], str]:
    def cell(level: Level) -> str:
        spread = of(level)
        values = [_NOTHING if spread is None else three(getattr(spread, name)) for name in names]
        return " ".join(f"{value:>5}" for value in values)

    return cell


_ALL, _TWO = ("p50", "p95", "p99"), ("p50", "p95")
_COLUMNS = (
    _Column("at", "once", lambda level: f"{level.concurrency}{'*' if level.cut else ''}"),
    _Column("", "tasks", lambda level: f"{level.accepted:,}"),
    _Column("pictures", "a second", lambda level: three(level.throughput)),
    _Column("submit, s       ", "p50   p95   p99", _percentiles(lambda at: at.submit, *_ALL)),
    _Column("lag, s          ", "p50   p95   p99", _percentiles(lambda at: at.lag, *_ALL)),
    _Column("picture, s", "p50   p95", _percentiles(lambda at: at.picture, *_TWO)),
    _Column("polls", "a task", lambda level: three(level.polls_a_task)),
    _Column("", "429s", lambda level: f"{level.turned_away:,}"),
    _Column("", "USD", lambda level: f"{level.spent:.2f}"),
)
# These stand there only where there are any.
_RARE = (
    _Column("", "failed", lambda level: f"{level.failed:,}"),
    _Column("un-", "certain", lambda level: f"{level.uncertain:,}"),
)


def table(levels: Sequence[Level]) -> list[str]:
    """Return the lines of a table with a line for each level, and what its columns mean below."""
    rare = [
        column
        for column, has in zip(_RARE, (lambda at: at.failed, lambda at: at.uncertain), strict=True)
        if any(map(has, levels))
    ]
    columns = [*_COLUMNS, *rare]
    rows = [
        [column.above for column in columns],
        [column.below for column in columns],
        *([column.cell(level) for column in columns] for level in levels),
    ]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [*lines, *_notes(levels)]


def _notes(levels: Sequence[Level]) -> Iterator[str]:
    yield (
        "submit: from having a slot to the task's id, 429s included. lag: from finished to known. "
        "picture: from having a slot to known."
    )
    if any(level.lag is None for level in levels):
        yield (
            "lag: not known here, since the provider does not say when a task was finished; "
            "picture has it in it."
        )
    if any(level.cut for level in levels):
        yield "* ended early, and does not count for the advice."
