"""Where the items of a batch stand in the journal: nowhere, or in a named run."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from fluxflex._aio.entry import JournalEntry
from fluxflex._aio.journal import Membership
from fluxflex._aio.memory import Memory
from fluxflex._aio.outcome import Item, SaveTo, place_of
from fluxflex._aio.runs import Run
from fluxflex._aio.tasks import Tasks
from fluxflex._core.lifecycle import TaskState


class Pages:
    """The items of a batch that has no name: each is new, and nothing is matched."""

    async def enter(self) -> None:
        """Begin a pass."""

    def leave(self) -> None:
        """End it."""

    async def find(self, entry: Item, save_to: SaveTo | None) -> Item:
        """Return the item with its number, its place and what the journal knows of it."""
        if save_to is None:
            return entry
        return attrs.evolve(entry, place=place_of(save_to, entry.number, entry.asked))

    def unfit(self, entry: Item) -> Item:
        """Return an item that is no request, with its number."""
        return entry


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
        """
        self._run = await self._memory.enter_run(self._name)

    def leave(self) -> None:
        """End it, so that another may begin."""
        if self._run is not None:
            self._memory.leave_run(self._run)

    async def find(self, entry: Item, save_to: SaveTo | None) -> Item:
        """Return the item with its number, its place and what the journal knows of it.

        An item that is to be bought is entered in the journal: its number is given.

        Raises:
            JournalError: the journal cannot be read.
            ConfigurationError: `save_to` gave no path.
        """
        match = await self._opened.match(entry.asked.digest)
        known, place = match.entry, None
        if save_to is not None:
            kept = None if known is None else known.path
            place = kept or place_of(save_to, match.number, entry.asked)
        entry = attrs.evolve(entry, number=match.number, place=place)
        if known is None or known.state in self._bought:
            return attrs.evolve(entry, key=self._enter(entry, known, keep=callable(save_to)))
        return attrs.evolve(entry, known=known)

    def unfit(self, entry: Item) -> Item:
        """Return an item that is no request, with its number."""
        return attrs.evolve(entry, number=self._opened.new_number())

    @property
    def _opened(self) -> Run:
        assert self._run is not None  # noqa: S101 - a batch enters before it reads
        return self._run

    def _enter(self, entry: Item, known: JournalEntry | None, *, keep: bool) -> int:
        """Note an item that is to be bought, and return its key."""
        fresh = known is None or known.state is not TaskState.QUEUED
        key = self._tasks.registry.new_key() if fresh or known is None else known.id
        again = known.id if fresh and known is not None else None
        if again is not None:
            self._tasks.uncertain.pop(again, None)
        place = entry.place if keep else None
        assert self._tasks.journal is not None  # noqa: S101 - a run has one
        self._tasks.journal.enter(
            key, entry.asked, Membership(self._name, entry.number, place, again)
        )
        return key
