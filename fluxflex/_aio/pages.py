"""Where the items of a batch stand in the journal: nowhere, or in a named run."""

from __future__ import annotations

from collections.abc import Collection

from fluxflex._aio.journal import Membership
from fluxflex._aio.memory import Memory
from fluxflex._aio.outcome import Item, SaveTo, place_of
from fluxflex._aio.runs import Match, Run
from fluxflex._aio.tasks import Tasks
from fluxflex._core.lifecycle import TaskState
from fluxflex.errors import JournalError, SessionClosedError


class Pages:
    """The items of a batch that has no name: each is new, and nothing is matched."""

    async def enter(self) -> None:
        """Begin a pass."""

    def leave(self) -> None:
        """End it."""

    def count(self, entry: Item) -> None:
        """Give an item its number, where nothing is known of it."""
        entry.number = entry.index + 1

    async def find(self, entry: Item, save_to: SaveTo | None) -> None:
        """Give an item its number and its place, and what the journal knows of it.

        Raises:
            ConfigurationError: `save_to` gave no path.
        """
        self.count(entry)
        if save_to is not None:
            entry.place = place_of(save_to, entry.number, entry.asked)


class RunPages(Pages):
    """The items of a named run.

    Args:
        memory: what the session does with its journal.
        tasks: those of the session.
        name: of the run.
        again: how items may have ended that are to be bought once more.
    """

    def __init__(
        self, memory: Memory, tasks: Tasks, name: str, again: Collection[TaskState]
    ) -> None:
        self._memory = memory
        self._tasks = tasks
        self._name = name
        self._bought = frozenset({TaskState.QUEUED, *again})
        self._run: Run | None = None

    async def enter(self) -> None:
        """Begin a pass.

        Raises:
            ConfigurationError: one is under way.
            JournalError: the journal cannot be read.
            SessionClosedError: the session closed meanwhile.
        """
        try:
            self._run = await self._memory.enter_run(self._name)
        except JournalError:
            self._memory.engine.check_open()  # the file may have been closed under it
            raise
        try:
            self._memory.engine.check_open()
        except SessionClosedError:
            self.leave()
            raise

    def leave(self) -> None:
        """End it, so that another may begin."""
        if self._run is not None:
            self._memory.leave_run(self._run)

    async def find(self, entry: Item, save_to: SaveTo | None) -> None:
        """Give an item its number and its place, and what the journal knows of it.

        An item that is to be bought is entered in the journal: its number is given.

        Raises:
            JournalError: the journal cannot be read.
            ConfigurationError: `save_to` gave no path.
        """
        match = await self._opened.match(entry.asked.digest)
        known, entry.number = match.entry, match.number
        if save_to is not None and not (known is not None and known.saved):
            kept = None if known is None else known.path
            entry.place = kept or place_of(save_to, match.number, entry.asked)
        if known is None or known.state in self._bought:
            self._enter(entry, match, keep=callable(save_to))
        else:
            entry.known = known

    def count(self, entry: Item) -> None:
        """Give an item its number, where nothing is known of it."""
        entry.number = self._opened.new_number()

    @property
    def _opened(self) -> Run:
        assert self._run is not None  # noqa: S101 - a batch enters before it reads
        return self._run

    def _enter(self, entry: Item, match: Match, *, keep: bool) -> None:
        """Note an item that is to be bought, and give it its key."""
        known, again = match.entry, None
        if known is not None and known.state is TaskState.QUEUED:
            entry.key = known.id
        else:
            entry.key = self._tasks.registry.new_key()
            again = None if known is None else known.id
        place = entry.place if keep else None
        assert self._tasks.journal is not None  # noqa: S101 - a run has one
        self._tasks.journal.enter(
            entry.key,
            entry.asked,
            Membership(self._name, match.number, match.digest, place, again),
        )
