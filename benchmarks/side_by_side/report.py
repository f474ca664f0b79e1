"""The tables, the targets and the JSON, from the rows that were measured. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from side_by_side.entrants import CALLBACKS, DEFAULT, FAL, FLUXFLEX, PLAIN, REPLICATE
from side_by_side.figures import Target
from side_by_side.measures import FAULTS, Row

BEGIN, END = "<!-- the latest table: begin -->", "<!-- the latest table: end -->"


def _number(pattern: str) -> Callable[[object], str]:
    def say(value: object) -> str:
        if not isinstance(value, int | float) or not math.isfinite(value):
            return "-"
        return format(value, pattern)

    return say


def _words(value: object) -> str:
    return str(value or "-")


def _wire(value: object) -> str:
    """Say how often a submit was sent, how often that was bought, and how it ended."""
    assert isinstance(value, Mapping)  # noqa: S101 - `trouble` made it
    sent = f"{value['posts']}{'' if value['over'] else '+'}"
    end = "picture" if value["ok"] else ", ".join(value["errors"]) or "still trying"
    return f"{sent} sent, {value['bought']} bought: {end}"


def _figure(value: object) -> str:
    large = isinstance(value, int | float) and abs(value) >= 1000  # noqa: PLR2004 - where commas help
    return _number(",.0f" if large else ".4g")(value)


@attrs.frozen
class Column:
    """A column: its heading, the key in a row, and how a value is written."""

    heading: str
    key: str
    say: Callable[[object], str]


_RATIO = (
    Column("x fluxflex", "ratio", _number(".2f")),
    Column("least", "ratio_low", _number(".2f")),
    Column("most", "ratio_high", _number(".2f")),
)
_CLIENT = Column("client", "client", _words)
_ERRORS = Column("errors", "errors", _words)

COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "cost": (
        _CLIENT,
        *_RATIO,
        Column("CPU µs", "cpu_us", _number(".0f")),
        Column("time µs", "time_us", _number(".0f")),
        Column("requests", "requests", _number(".1f")),
        Column("provider's CPU µs a request", "server_us", _number(".0f")),
        _ERRORS,
    ),
    "burst": (
        _CLIENT,
        *_RATIO,
        Column("lag p99 s", "lag_p99", _number(".3f")),
        Column("lag p50 s", "lag_p50", _number(".3f")),
        Column("told", "told", _number("d")),
        Column("requests", "requests", _number(".1f")),
        Column("CPU ms", "cpu_ms", _number(".2f")),
        Column("loop lag p99 ms", "loop_p99_ms", _number(".1f")),
        _ERRORS,
    ),
    "crowd": (
        Column("in flight", "count", _number(",")),
        _CLIENT,
        Column("x fluxflex", "ratio", _number(".2f")),
        Column("KiB a task", "kib", _number(".2f")),
        Column("peak MiB", "peak_mib", _number(".0f")),
        Column("accepted", "accepted", _number(",")),
        Column("within s", "seconds", _number(".1f")),
        Column("loop lag p99 ms", "loop_p99_ms", _number(".1f")),
        Column("once submitted", "loop_held_p99_ms", _number(".1f")),
        Column("looks in the fullest second", "most_looks", _number(",")),
        _ERRORS,
    ),
    "trouble": (
        _CLIENT,
        Column("accepted, then dropped", "drop", _wire),
        *(Column(fault, fault, _wire) for fault in FAULTS if fault != "drop"),
    ),
    "imports": (
        Column("statement", "client", _words),
        *_RATIO,
        Column("ms", "ms", _number(".1f")),
    ),
}

TITLES: Mapping[str, str] = {
    "cost": "A task that is done at the first look, 64 at once: CPU of the client for each",
    "burst": "A burst, submitted together and due together: how late the client learns of it",
    "crowd": "In flight, and never done",
    "trouble": "One submit, and a provider in trouble: what is on the wire",
    "imports": "Import, in a fresh interpreter",
}


def table(rows: Iterable[Row], columns: Sequence[Column]) -> list[str]:
    """Return a Markdown table that also reads well as it is."""
    cells = [[column.heading for column in columns]]
    cells += [[column.say(row.get(column.key)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(map(str.ljust, line, widths)) + " |"  # as Markdown, left is the plain one
        for line in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _of(rows: Iterable[Row], client: str, key: str, **where: object) -> float | None:
    """Return one figure; `None` where it was not measured."""
    for row in rows:
        if row["client"] == client and all(row[name] == value for name, value in where.items()):
            value = row[key]
            return value if isinstance(value, int | float) and math.isfinite(value) else None
    return None


def targets(measured: Mapping[str, Sequence[Row]]) -> list[Target]:
    """Return what the measured figures must reach."""
    cost, burst, crowd = (measured.get(name, ()) for name in ("cost", "burst", "crowd"))
    most = 100_000
    theirs = _of(crowd, PLAIN, "loop_p99_ms", count=most)
    fal = _of(burst, FAL, "ratio")
    return [
        Target("CPU of aiohttp loops, x fluxflex", _of(cost, PLAIN, "ratio"), 1.1, least=True),
        Target(
            "CPU of aiohttp loops, x fluxflex with callbacks",
            _of(cost, CALLBACKS, "plain_to_this"),
            1.3,
            least=True,
        ),
        Target("CPU of replicate, x fluxflex", _of(cost, REPLICATE, "ratio"), 15, least=True),
        Target("CPU of fal-client, x fluxflex", _of(cost, FAL, "ratio"), 20, least=True),
        Target("µs of our own per request", _of(cost, FLUXFLEX, "over_transport_us"), 15),
        Target("burst: lag p99, of fal-client's", None if fal is None else 1 / fal, 0.02),
        Target("100,000: accepted", _of(crowd, DEFAULT, "accepted", count=most), most, least=True),
        Target("100,000: KiB a task", _of(crowd, DEFAULT, "kib", count=most), 3),
        Target(
            "100,000: looks in the fullest second",
            _of(crowd, DEFAULT, "most_looks", count=most),
            120,
        ),
        Target(
            "100,000: loop lag p99 in ms, at most aiohttp loops'",
            None if theirs is None else _of(crowd, DEFAULT, "loop_p99_ms", count=most),
            theirs or 0.0,
        ),
    ]


def verdict(found: Iterable[Target]) -> list[str]:
    """Return the targets that were measured, under their title."""
    words = {True: "met", False: "missed"}
    rows: list[Row] = [
        {
            "name": target.name,
            "value": target.value,
            "limit": f"{'at least' if target.least else 'at most'} {_figure(target.limit)}",
            "met": words[target.met],
        }
        for target in found
        if target.met is not None
    ]
    columns = (
        Column("target", "name", _words),
        Column("measured", "value", _figure),
        Column("wanted", "limit", _words),
        Column("", "met", _words),
    )
    return ["", "### Targets", "", *table(rows, columns)] if rows else []


def section(name: str, rows: Iterable[Row]) -> list[str]:
    """Return the table of one measure under its title."""
    return ["", f"### {TITLES[name]}", "", *table(rows, COLUMNS[name])]


def document(
    head: Sequence[str], measured: Mapping[str, Sequence[Row]], found: Sequence[Target]
) -> str:
    """Return all tables and the verdict on them, below what is to be said first."""
    lines = list(head)
    for name, rows in measured.items():
        lines += section(name, rows)
    lines += verdict(found)
    return "\n".join(lines) + "\n"


def put_into(page: str, text: str) -> str:
    """Return a page with the text in place of what stands between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"
