"""What the entries of a journal add up to, and where each of them stands, in words."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import attrs
from rich.cells import cell_len

from fluxflex import JournalEntry, TaskState
from fluxflex.cli import gallery, order, places
from fluxflex.cli.talk import counted, dollars, printable
from fluxflex.cli.target import Target

REPLACED = "submitted again"
_STYLES = {
    "FAILED": "red",
    "UNCERTAIN": "bold red",
    "TIMED_OUT": "yellow",
    "ABANDONED": "yellow",
    "RUNNING": "cyan",
    "QUEUED": "dim",
}
# The provider accepted it, and its end is not known.
GOES_ON = frozenset({TaskState.RUNNING, TaskState.TIMED_OUT, TaskState.ABANDONED})
# Problems, whether an error was written down with them or not.
_BAD = frozenset({TaskState.FAILED, TaskState.UNCERTAIN})
_NEWEST = 10


def word_of(entry: JournalEntry) -> str:
    """Return where an entry stands, in words."""
    return REPLACED if entry.replaced else standing(entry)


def standing(entry: JournalEntry) -> str:
    """Return where an entry stands, in words, whether it was submitted again or not."""
    return gallery.UNSAVED if _unsaved(entry) else gallery.WORDS[entry.state.name]


def _unsaved(entry: JournalEntry) -> bool:
    return entry.state is TaskState.COMPLETED and not entry.collected and entry.path is not None


def style_of(entry: JournalEntry) -> str:
    """Return how that is shown; what is well needs no style."""
    if entry.replaced:
        return "dim"
    return "yellow" if _unsaved(entry) else _STYLES.get(entry.state.name, "")


def number_of(entry: JournalEntry) -> str:
    """Return an entry's number in its run, or else its own in the file."""
    return f"#{entry.id}" if entry.number is None else str(entry.number)


def plain(text: str) -> str:
    """Return text as one line without control characters."""
    return printable(" ".join(text.split()))


@attrs.define
class Sum:
    """Adds up entries; money in USD."""

    count: int = 0
    spent: Decimal = Decimal(0)
    reserved: Decimal = Decimal(0)

    def add(self, entry: JournalEntry) -> None:
        """Add an entry."""
        self.count += 1
        self.spent += entry.spent
        self.reserved += entry.reserved

    def cells(self) -> tuple[str, str, str]:
        """Return it as a row of a table; no money is left blank."""
        amounts = (dollars(amount) if amount else "" for amount in (self.spent, self.reserved))
        return (f"{self.count:,}", *amounts)  # type: ignore[return-value]  # there are two


@attrs.define
class Overview:
    """What all entries add up to; of the entries themselves only the newest problems are kept.

    Attributes:
        folder: that of the journal.
        sums: by where the entries stand.
        runs: their names. widest: that of the numbers, of the money and of the pictures' names.
        open: how many are not finished or not saved.
    """

    folder: Path
    sums: dict[str, Sum] = attrs.field(factory=dict)
    total: Sum = attrs.field(factory=Sum)
    runs: set[str] = attrs.field(factory=set)
    widest: dict[str, int] = attrs.field(factory=dict)
    open: int = 0
    problems: int = 0
    _newest: deque[JournalEntry] = attrs.field(factory=lambda: deque(maxlen=_NEWEST))

    def add(self, entry: JournalEntry) -> None:
        """Take an entry into account."""
        self.sums.setdefault(word_of(entry), Sum()).add(entry)
        self.total.add(entry)
        self.runs |= {entry.run or ""}
        for name, text in (
            ("number", number_of(entry)),
            ("money", self.money(entry)),
            ("picture", self.picture(entry)),
        ):
            self.widest[name] = max(self.widest.get(name, 0), cell_len(text))
        if entry.replaced:
            return
        self.open += entry.state in GOES_ON or _unsaved(entry)
        if entry.state in _BAD or entry.error is not None:
            self.problems += 1
            self._newest.append(entry)

    def money(self, entry: JournalEntry) -> str:
        """Return what an entry cost; after a question mark what may still be billed."""
        if entry.spent or not entry.reserved:
            return dollars(entry.spent) if entry.spent else ""
        return f"? {dollars(entry.reserved)}"

    def picture(self, entry: JournalEntry) -> str:
        """Return where an entry's picture lies; below the journal's folder, without it."""
        if entry.path is None or not entry.collected:
            return ""
        whole, home = entry.path.absolute(), self.folder.absolute()
        return plain(str(whole.relative_to(home) if whole.is_relative_to(home) else entry.path))

    def in_order(self) -> Iterator[tuple[str, Sum]]:
        """Give the sums, the good ones first."""
        words = [gallery.WORDS["COMPLETED"], gallery.UNSAVED, *gallery.WORDS.values(), REPLACED]
        return ((word, self.sums[word]) for word in dict.fromkeys(words) if word in self.sums)

    def newest(self) -> Iterator[str]:
        """Give the newest problems, the last of them at the end."""
        if not self.problems:
            return
        more = f", the newest {_NEWEST} of them" if self.problems > _NEWEST else ""
        yield f"\n{counted(self.problems, 'problem')}{more}:"
        for entry in self._newest:
            why = "" if entry.error is None else f": {plain(entry.error.message)}"
            task = "" if entry.task_id is None else f" (task {printable(entry.task_id)})"
            yield f"  {number_of(entry)} {word_of(entry)}{why}{task}"

    def ways_on(self, place: Path) -> Iterator[str]:
        """Give what can be done about what is not well; `place` is what people call it."""
        if self.open and place.is_dir():
            rehearsal = places.is_rehearsal(place)
            target = Target(simulate=bool(rehearsal))
            paid = "" if rehearsal else " what was paid for"
            yield (
                f"{counted(self.open, 'picture')} not fetched. To fetch{paid}, "
                f"at no further cost: {order.resume_line(place, target)}"
            )
        if gallery.WORDS["FAILED"] in self.sums:
            yield "With --retry-failed the same batch command submits once more what failed."
        if gallery.WORDS["UNCERTAIN"] in self.sums:
            yield (
                "What is uncertain may have been billed: look at the account's usage first. With "
                "--resubmit-uncertain the same batch command submits it once more."
            )
