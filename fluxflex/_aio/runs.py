"""Named runs: which item of a source is which item of the journal.

Items match by content and occurrence: the second of two equal items is the second that the journal
has. What a run holds in memory is 20 bytes for each item in the journal; the rows themselves are
read a stretch at a time, since a source is mostly read in the order it was read before.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque

import attrs

from fluxflex._aio.entry import JournalEntry
from fluxflex._aio.schema import LAST_NUMBER
from fluxflex._aio.store import Store

# How many entries one look into the file may bring.
_LONGEST = 512
_HEX, _BITS = 16, 16
# The sign keeps SQLite from the index by runs, which would sort the whole run each time.
_FROM = "+run = ? AND id >= ?"


@attrs.frozen
class Match:
    """What the journal knows of an item.

    Attributes:
        number: its number in the run, from 1; a new one where the item is new.
        digest: by which it was looked for.
        entry: the journal's; `None` for an item that is new.
    """

    number: int
    digest: str
    entry: JournalEntry | None = None


class Run:
    """One pass over the items of a named run.

    Args:
        store: the journal's file.
        name: of the run.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self._store = store
        self._heads = array("Q")  # the first 64 bits of each digest, in order
        self._ids = array("q")
        self._taken = array("L")  # at the first of equal digests: how many were matched
        self._last_number = 0
        self._ahead: deque[JournalEntry] = deque()
        self._stretch = 1

    def __repr__(self) -> str:
        return f"<Run {self.name!r}: {len(self._ids)} items in the journal>"

    async def open(self) -> None:
        """Learn which items the journal has.

        Raises:
            JournalError: it cannot be read.
        """
        rows = await self._store.read(
            "SELECT digest, id, number FROM items "
            "WHERE run = ? AND replaced IS NOT 1 ORDER BY digest, number",
            (self.name,),
        )
        self._last_number = int(await self._store.fact(LAST_NUMBER + self.name) or 0)
        for digest, entry_id, number in rows:
            assert isinstance(entry_id, int)  # noqa: S101 - as the schema has it
            assert isinstance(number, int)  # noqa: S101 - as above
            self._heads.append(_head(str(digest)))
            self._ids.append(entry_id)
            self._last_number = max(self._last_number, number)
        self._taken = array("L", bytes(array("L").itemsize * len(self._ids)))

    async def match(self, digest: str) -> Match:
        """Return what the journal has of the next item with this content.

        Raises:
            JournalError: it cannot be read.
        """
        entry_id = self._claim(_head(digest))
        entry = None if entry_id is None else await self._entry(entry_id)
        if entry is not None and entry.digest == digest and entry.number is not None:
            return Match(entry.number, digest, entry)
        return Match(self.new_number(), digest)

    def new_number(self) -> int:
        """Return the next number that no item has."""
        self._last_number += 1
        return self._last_number

    def _claim(self, head: int) -> int | None:
        first = bisect_left(self._heads, head)
        if first == len(self._heads) or self._heads[first] != head:
            return None
        here = first + self._taken[first]
        if here == len(self._heads) or self._heads[here] != head:
            return None
        self._taken[first] += 1
        return self._ids[here]

    async def _entry(self, entry_id: int) -> JournalEntry | None:
        while self._ahead and self._ahead[0].id < entry_id:
            self._ahead.popleft()
        if not self._ahead or self._ahead[0].id != entry_id:
            # In order so far: read further ahead; out of order: only this one.
            in_order = not self._ahead
            self._stretch = min(_LONGEST, self._stretch * 2) if in_order else 1
            self._ahead = deque(
                await self._store.stretch(self._stretch, _FROM, self.name, entry_id)
            )
        return self._ahead.popleft() if self._ahead else None


def _head(digest: str) -> int:
    return int(digest[:_HEX], _BITS)
