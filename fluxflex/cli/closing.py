"""The end of a run: the results in order, the page, and what the journal says now."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import attrs

from fluxflex import JournalEntry, TaskState
from fluxflex.cli import exits, gallery, places, results, stock
from fluxflex.cli.exits import Code
from fluxflex.cli.results import Results, Row
from fluxflex.cli.stock import Stock
from fluxflex.cli.summary import Ending
from fluxflex.cli.talk import Talk, counted
from fluxflex.errors import FluxFlexError

_NAMED = 3
_ENDED = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.UNCERTAIN})


@attrs.define(kw_only=True)
class Closing:
    """Puts a folder in order when a run is over and its journal is free.

    Attributes:
        folder: of the batch. file: its results, still open.
        before: what the journal said when the run began.
        simulated: whether it was a rehearsal.
        way: the command that fetches what is left.
        codes: the exit codes that fit, to which it may add.
    """

    talk: Talk
    folder: Path
    file: Results
    before: Stock
    simulated: bool
    way: str
    codes: set[int]
    _missing: dict[int, Row] = attrs.field(factory=dict)

    async def stock(self, *, busy: bool) -> Stock:
        """Return what the journal says now; where nothing happened, that is known."""
        same = {word: each.count for word, each in self.before.states.items()}
        if not busy and same == self.file.words:
            return attrs.evolve(self.before, fresh={})
        try:
            return await stock.take(self.folder, self.before, self._compare)
        except FluxFlexError as error:
            self.codes.add(exits.code_of(error))
            self.talk.error(error)
            return self.before

    def _compare(self, found: Stock, entry: JournalEntry) -> None:
        """Keep the row of an item whose line was lost, or is behind, since a run was killed."""
        index = (entry.number or 1) - 1
        said = self.file.state(index)
        if said is None or (entry.state in _ENDED and said != entry.state.name):
            self._missing[index] = found.row_of(entry, simulated=self.simulated, way=self.way)

    def put_in_order(self, unread: Iterable[tuple[int, Row]] = ()) -> bool:
        """Write the results in one step, with the rows of what was never read.

        False where that cannot be done.
        """
        try:
            for index, found in self._missing.items():
                self.file.add(index, found)
            self.file.finish(unread)
        except OSError as error:
            self._failed(error)
            return False
        return True

    def write_page(self, end: Ending) -> bool:
        """Write the page, where it is not there as it would be; false where that cannot be done."""
        page = self.folder / places.GALLERY
        try:
            if not _is_newer(page, self.file.path):
                gallery.write(page, end.totals(), results.read(self.file.path))
        except OSError as error:
            self._failed(error)
            return False
        return True

    def _failed(self, error: OSError) -> None:
        self.codes.add(Code.OTHER)
        self.talk.complain(f"{self.folder} cannot be completed: {error.strerror or error}.")
        lost = list(self.file.unwritten.values())
        for found in lost[:_NAMED]:
            self.talk.say(f"Not written down: {results.as_line(found)}")
        if len(lost) > _NAMED:
            more = counted(len(lost) - _NAMED, "more line")
            self.talk.say(f"{more} not written down. The journal has them all.")


def _is_newer(page: Path, than: Path) -> bool:
    try:
        # A page of tomorrow tells nothing: the clock was set back since.
        return than.stat().st_mtime_ns < page.stat().st_mtime_ns <= time.time_ns()
    except OSError:
        return False
