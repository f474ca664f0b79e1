"""Taking stock: what a folder's journal says of its batch, before a run and after it."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from fluxflex import JournalEntry, TaskState, read_journal
from fluxflex.cli import gallery, places, results
from fluxflex.cli.overview import GOES_ON, Sum, standing

# The name of the one run that a folder holds.
RUN = "batch"
_STATES = tuple(TaskState)
_BITS = 3
_CODES = {state.name: code for code, state in enumerate(_STATES)}


class Known:
    """The items of a folder, by content: a number and a state for each, in one integer.

    There may be very many, and what holds integers only costs the garbage collector nothing.
    """

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._twins: dict[str, list[int]] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._first

    def add(self, digest: str, number: int, state: TaskState) -> None:
        """Take an item."""
        code = number << _BITS | _CODES[state.name]
        if digest in self._first:
            twins = self._twins.setdefault(digest, [self._first[digest]])
            insort(twins, code)
        else:
            self._first[digest] = code

    def find(self, digest: str, occurrence: int) -> tuple[int, TaskState] | None:
        """Return number and state of an item; `occurrence` counts those of one content from 0."""
        first = self._first.get(digest)
        if first is None:
            return None
        twins = self._twins.get(digest, (first,))
        return _decoded(twins[occurrence]) if occurrence < len(twins) else None

    def all(self) -> Iterator[tuple[int, TaskState]]:
        """Give number and state of all items."""
        for digest, first in self._first.items():
            yield from map(_decoded, self._twins.get(digest, (first,)))


def _decoded(code: int) -> tuple[int, TaskState]:
    return code >> _BITS, _STATES[code & (1 << _BITS) - 1]


@attrs.define
class Stock:
    """What the journal of a folder knew when it was read.

    Attributes:
        known: numbers and states of the items, by the digest of their requests.
        states: how many items stand how, in words, and what they cost.
        earlier: what was submitted once more since: its money stays spent.
        fresh: as `states`, of what was bought since another stock was taken.
        sent: how many were bought, or may have been.
        last: the highest number that was given.
        newest: the highest id of an entry.
        unsent: ids of what was read and never sent.
        uncertain: entries of which nobody knows whether they were billed.
        left: entries that are not finished, or whose pictures are still to be saved.
        saved: pictures.
        files: the names in the folder; what is empty is as good as gone.
    """

    files: frozenset[str] = frozenset()
    known: Known = attrs.field(factory=Known)
    states: dict[str, Sum] = attrs.field(factory=dict)
    earlier: Sum = attrs.field(factory=Sum)
    fresh: dict[str, Sum] = attrs.field(factory=dict)
    sent: int = 0
    last: int = 0
    newest: int = 0
    unsent: set[int] = attrs.field(factory=set)
    uncertain: list[JournalEntry] = attrs.field(factory=list)
    left: list[JournalEntry] = attrs.field(factory=list)
    saved: int = 0

    @property
    def empty(self) -> bool:
        """Whether nothing was ever read here."""
        return not self.last

    def numbers(self) -> set[int]:
        """Return the numbers that were given."""
        return {number for number, _ in self.known.all()}

    @property
    def total(self) -> Sum:
        """What all of it cost, and how many were submitted for it."""
        return added([*self.states.values(), self.earlier])

    def has(self, entry: JournalEntry) -> bool:
        """Say whether the picture of an item was saved, and lies there still."""
        path = entry.path if entry.saved else None
        return path is not None and path.name in self.files

    def row_of(self, entry: JournalEntry, *, simulated: bool, way: str) -> results.Row:
        """Return the line of an item by what the journal knows of it; `way` goes on with it."""
        result, path = entry.result, entry.path
        known = entry.state is TaskState.COMPLETED or entry.state in GOES_ON
        return results.row(
            index=(entry.number or 1) - 1,
            request=entry.request,
            state=entry.state,
            task_id=entry.task_id,
            path=path.name if path is not None and self.has(entry) else None,
            url=result.urls[0] if result is not None else None,
            error=entry.error,
            cost=entry.cost if known else None,
            simulated=simulated,
            way=way,
        )

    def add(self, entry: JournalEntry, since: Stock) -> None:
        """Take an entry of the batch into account."""
        here = self.has(entry)
        word = gallery.UNSAVED if entry.saved and not here else standing(entry)
        new = entry.id > since.newest or entry.id in since.unsent
        self.newest = max(self.newest, entry.id)
        if new and entry.state is not TaskState.QUEUED:
            self.fresh.setdefault(word, Sum()).add(entry)
        if entry.replaced:
            self.earlier.add(entry)
            return
        self.states.setdefault(word, Sum()).add(entry)
        if entry.number is not None and entry.digest is not None:
            self.last = max(self.last, entry.number)
            self.known.add(entry.digest, entry.number, entry.state)
        self.sent += entry.state is not TaskState.QUEUED
        if here:
            self.saved += 1
        elif word == gallery.UNSAVED or entry.state in GOES_ON:
            self.left.append(entry)
        elif entry.state is TaskState.UNCERTAIN:
            self.uncertain.append(entry)
        elif entry.state is TaskState.QUEUED:
            self.unsent.add(entry.id)


def added(sums: Iterable[Sum]) -> Sum:
    """Add sums up."""
    total = Sum()
    for each in sums:
        total.count += each.count
        total.spent += each.spent
        total.reserved += each.reserved
    return total


async def take(
    folder: Path,
    since: Stock | None = None,
    each: Callable[[Stock, JournalEntry], None] = lambda _, __: None,
) -> Stock:
    """Read the journal of a folder; nothing else may have it open.

    Args:
        folder: of the batch.
        since: what was known before; what was bought after it is counted apart.
        each: called with the stock so far and every entry that was not replaced.

    Raises:
        JournalError: it is in use, or no journal.
    """
    stock, before = Stock(files=frozenset(places.filled(folder))), since or Stock()
    async for entry in read_journal(folder / places.JOURNAL):
        if entry.run != RUN:
            continue
        stock.add(entry, before)
        if not entry.replaced:
            each(stock, entry)
    return stock


class Walk:
    """Finds the items of a source in a stock, in the order of the source."""

    def __init__(self, stock: Stock) -> None:
        self._known = stock.known
        self._met: dict[str, int] = {}

    def find(self, digest: str) -> tuple[int, TaskState] | None:
        """Return the number and state of the next item of that content; `None` for a new one."""
        met = self._met.get(digest, 0)
        self._met[digest] = met + 1
        return self._known.find(digest, met)
