"""`fluxflex journal`: what a journal knows, as tables for people or lines for programs."""

from __future__ import annotations

from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluxflex import JournalEntry, read_journal
from fluxflex.cli.exits import Code, UsageError
from fluxflex.cli.overview import Overview, number_of, plain, style_of, word_of
from fluxflex.cli.places import JOURNAL
from fluxflex.cli.results import Row, as_line, describe
from fluxflex.cli.talk import Talk

_ID = 8
_PROMPT = 200
_GAP = 2
_COLUMNS = ("number", "run", "state", "task", "prompt", "USD", "picture")
_RIGHT = frozenset({"number", "USD"})
# Lines that are laid out together.
_PAGE = 500


def find(place: Path) -> Path:
    """Return the journal that a folder or a file's name stands for.

    Raises:
        UsageError: there is none.
    """
    if place.is_dir():
        if not (place / JOURNAL).is_file():
            raise UsageError(
                f"There is no journal in {place}: it holds no {JOURNAL}. "
                "Name the folder of a batch (its -o DIR), or a journal's file."
            )
        return place / JOURNAL
    if not place.exists():
        raise UsageError(f"There is no {place}. Name the folder of a batch, or a journal's file.")
    return place


async def show(place: Path, talk: Talk, *, as_json: bool) -> int:
    """Give all that a journal knows, and return the exit code.

    Raises:
        UsageError: there is no journal.
        JournalError: it cannot be read, or another process has it open.
    """
    path = find(place)
    if as_json:
        async for entry in read_journal(path):
            talk.out(as_line(row(entry)))
        return Code.DONE
    overview = Overview(path.parent)
    with talk.busy("Reading the journal"):
        async for entry in read_journal(path):
            overview.add(entry)
    paper = Paper(talk)
    if not overview.total.count:
        talk.say(f"{path} is empty: nothing was read or sent.")
        return Code.DONE
    paper.put(Text(plain(str(path))), _summary(overview))
    items = Items(overview, paper)
    async for entry in read_journal(path):
        items.add(entry)
    items.flush()
    for line in overview.newest():
        talk.out(line)
    for line in overview.ways_on(place):
        talk.say(line)
    return Code.DONE


def row(entry: JournalEntry) -> Row:
    """Return all that is known of an entry, for programs; times are seconds since the epoch."""
    request, result = entry.request, entry.result
    cost = None if result is None else result.cost
    return {
        "id": entry.id,
        "run": entry.run,
        "number": entry.number,
        "state": entry.state.name,
        "task_id": entry.task_id,
        "request": None if request is None else {"quality": request.quality, **request.to_dict()},
        "digest": entry.digest,
        "attempts": entry.attempts,
        "sent_at": entry.sent_at,
        "accepted_at": entry.accepted_at,
        "ended_at": entry.ended_at,
        "spent_usd": float(entry.spent),
        "reserved_usd": float(entry.reserved),
        "cost_usd": None if cost is None else float(cost),
        "urls": [] if result is None else list(result.urls),
        "raw": None if result is None else dict(result.raw),
        "error": describe(entry.error),
        "path": None if entry.path is None else str(entry.path),
        "collected": entry.collected,
        "replaced": entry.replaced,
    }


def _summary(overview: Overview) -> Table:
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for name in ("state", "items", "spent", "may still be billed"):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for word, found in overview.in_order():
        table.add_row(word, *found.cells())
    if len(overview.sums) > 1:
        table.add_row("in all", *overview.total.cells(), style="bold")
    return table


class Paper:
    """Lays out what goes to stdout; its width and `NO_COLOR` are respected."""

    def __init__(self, talk: Talk) -> None:
        self._console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
        self._talk = talk

    @property
    def width(self) -> int:
        """How many characters a line has."""
        return self._console.width

    def put(self, *parts: Table | Text) -> None:
        """Write one below the other."""
        with self._console.capture() as captured:
            for part in parts:
                self._console.print(part)
        self._talk.out("\n".join(line.rstrip() for line in captured.get().splitlines()))


class Items:
    """The list of entries, written page by page, a line each.

    Not a `Table`: that would lay out a hundred thousand entries for a minute.
    """

    def __init__(self, overview: Overview, paper: Paper) -> None:
        self._overview = overview
        self._paper = paper
        self._widths = _widths(overview, paper.width)
        self._lines = [Text(), Text(self._line({name: name for name in self._widths}), "bold")]

    def add(self, entry: JournalEntry) -> None:
        """Take an entry, and write the page where it is full."""
        prompt = "" if entry.request is None else entry.request.prompt[:_PROMPT]
        texts = {
            "number": number_of(entry),
            "run": plain(entry.run or ""),
            "state": word_of(entry),
            "task": plain(entry.task_id or "")[:_ID],
            "prompt": plain(prompt),
            "USD": self._overview.money(entry),
            "picture": self._overview.picture(entry),
        }
        self._lines.append(Text(self._line(texts), style_of(entry)))
        if len(self._lines) >= _PAGE:
            self.flush()

    def flush(self) -> None:
        """Write what there is."""
        if self._lines:
            self._paper.put(Text("\n").join(self._lines))
            self._lines.clear()

    def _line(self, texts: dict[str, str]) -> str:
        cells = (_fitted(texts[name], name, width) for name, width in self._widths.items())
        return _cut((" " * _GAP).join(cells).rstrip(), self._paper.width)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"


def _fitted(text: str, column: str, width: int) -> str:
    cell = _cut(text, width)
    space = " " * (width - cell_len(cell))
    return space + cell if column in _RIGHT else cell + space


def _widths(found: Overview, line: int) -> dict[str, int]:
    """Share a line out: what is short comes first, prompt and picture get what is left."""
    fixed = {
        "number": max(found.widest["number"], len("number")),
        "run": max(map(cell_len, found.runs)) if len(found.runs) > 1 else 0,
        "state": max(map(len, found.sums)),
        "task": _ID,
        "USD": max(found.widest["money"], len("USD")),
    }
    fixed = {name: width for name, width in fixed.items() if width}
    left = line - sum(fixed.values()) - _GAP * (len(fixed) + 1)
    picture = max(min(found.widest["picture"], left // 2), len("picture"))
    shared = {"picture": picture, "prompt": max(left - picture, len("prompt"))}
    return {name: width for name in _COLUMNS if (width := (fixed | shared).get(name))}
