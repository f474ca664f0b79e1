"""What a session does with its journal: whose it is, what it brings along, taking it up again.

A file belongs to one account at one origin. The account is known by the provider's `user_id`; where
that cannot be read, by a hash of the key.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Self

from fluxflex._aio import account, adoption
from fluxflex._aio.engine import Engine
from fluxflex._aio.entry import ACCEPTED
from fluxflex._aio.handle import TaskHandle
from fluxflex._aio.journal import Journal
from fluxflex._aio.runs import Run
from fluxflex._aio.schema import HOME
from fluxflex._aio.store import Store
from fluxflex._core.lifecycle import Key
from fluxflex.errors import ConfigurationError, JournalError
from fluxflex.webhooks.tokens import NAME

log = logging.getLogger("fluxflex")

_DAY = 86_400.0
_STANDING = ", ".join(f"'{state.name}'" for state in ACCEPTED)
_UNFINISHED = f"state IN ({_STANDING}) AND task_id IS NOT NULL"
_UNCERTAIN = "state = 'UNCERTAIN' AND replaced IS NOT 1"
_OPEN = f"({_UNFINISHED}) OR ({_UNCERTAIN})"
_UNCOLLECTED = "state = 'COMPLETED' AND collected IS NOT 1"
_OWED = f"replaced IS NOT 1 AND (({_UNFINISHED}) OR ({_UNCOLLECTED}))"
# What may be forgotten: nothing of it is still to be followed, fetched or cleared up.
_FINISHED = (
    "noted_at < :then AND ((state = 'COMPLETED' AND collected = 1) "
    "OR state IN ('FAILED', 'QUEUED') OR replaced = 1)"
)


class Memory:
    """A journal in the hands of a session.

    Args:
        engine: that of the session.
        journal: the open journal.
        in_folder: whether its file is one of several in a folder.

    Attributes:
        engine: as given.
    """

    def __init__(self, engine: Engine, journal: Journal, *, in_folder: bool) -> None:
        self.engine = engine
        self._journal = journal
        self._store = journal.store
        self._in_folder = in_folder
        self._runs: set[str] = set()

    @classmethod
    async def open(cls, place: str, make: Callable[[Journal], Engine]) -> Self:
        """Open a journal file, or one of our own in a folder, and make the engine that uses it.

        Raises:
            JournalError, ConfigurationError: it cannot be used.
        """
        in_folder = os.path.isdir(place) or place.endswith(("/", os.sep))  # noqa: ASYNC240, PTH112 - once, before anything runs; `Path` drops the slash
        file = adoption.file_in(Path(place)) if in_folder else Path(place)
        journal = Journal(await Store.open(file, create=True), passing=in_folder)
        return cls(make(journal), journal, in_folder=in_folder)

    # -- at the beginning --------------------------------------------------------------------

    async def begin(self, key: str) -> Self:
        """Check whose the file is, and count what it brings along.

        Args:
            key: the API key; at most a hash of it is kept.

        Raises:
            JournalError: it is another account's or origin's, or there is no room left.
            APIError, APIConnectionError: whose it is cannot be told just now.
        """
        try:
            await self._begin(key)
        except BaseException:
            await self.engine.close(0)
            raise
        return self

    async def _begin(self, key: str) -> None:
        # A file in which nothing stands yet belongs to whoever comes.
        empty = await self._store.is_empty()
        await self._check_origin(empty=empty)
        await self._check_account(account.stand_in(key), empty=empty)
        self._store.put_aside()
        await self._forget()
        tasks = self.engine.tasks
        [[last_id]] = await self._store.read("SELECT coalesce(max(id), 0) FROM items")
        tasks.registry.last_key = int(str(last_id))
        tasks.till.budget.earlier = await self._store.money("true") + await self._store.forgotten()
        if tasks.callbacks is not None and await self._store.fact(HOME) is None:
            await self._store.note(HOME, secrets.token_hex(NAME))
        await self._load_open()

    async def _forget(self) -> None:
        keep = self.engine.settings.keep
        if keep is not None:
            await self._store.forget(_FINISHED, time.time() - keep * _DAY)

    async def _check_origin(self, *, empty: bool) -> None:
        origin = account.origin(self.engine.settings.base_url)
        known = await self._store.fact("origin")
        if known is None or empty:
            await self._store.note("origin", origin)
        elif known != origin:
            raise JournalError(
                f"The journal {self._store.path} belongs to {known}, not to {origin}",
                hint="Use a journal of its own for each address.",
            )

    async def _check_account(self, stand_in: str, *, empty: bool) -> None:
        sender, base_url = self.engine.sender, self.engine.settings.base_url
        known = await self._store.fact("account")
        user = await account.user(sender, base_url)
        if known is None or empty or (known == stand_in and user is not None):
            await self._store.note("account", user or stand_in)
            return
        if user is None and known.startswith("user"):
            # It was readable once: be patient, and let out why it is not now.
            user = await account.patient_user(sender, base_url)
        if known not in {user, stand_in}:
            raise JournalError(
                f"The journal {self._store.path} belongs to another account",
                hint="Use that account's key, or a journal of its own for each account.",
            )

    async def _load_open(self) -> None:
        """Learn what may have been billed, and what is to be known again by its id."""
        now, tasks = self.engine.loop.time(), self.engine.tasks
        async for entry in self._store.entries(_UNCERTAIN):
            tasks.uncertain[entry.id] = entry.record(now)
        rows = await self._store.read(
            f"SELECT task_id, id, attempts, spent FROM items WHERE {_UNFINISHED}"  # noqa: S608 - our own words
        )
        tasks.remembered = {
            str(task_id): (int(str(key)), int(str(attempts or 1)), Decimal(str(spent or 0)))
            for task_id, key, attempts, spent in rows
        }
        if tasks.callbacks is not None:
            homes = {name: bytes.fromhex(home) for name, home in await self._store.facts(HOME)}
            tasks.callbacks.belong(homes[HOME], await self._inherited(homes))

    async def _inherited(self, homes: Mapping[str, bytes]) -> dict[tuple[bytes, Key], Key]:
        """Return the keys of tasks of other files that callbacks may still tell of."""
        rows = await self._store.read(
            f"SELECT source, id FROM items WHERE source IS NOT NULL AND ({_OPEN})"  # noqa: S608 - our own words
        )
        known = {}
        for source, key in rows:
            file, _, theirs = str(source).rpartition(":")
            if home := homes.get(f"{HOME} {file}"):
                known[home, int(theirs)] = int(str(key))
        return known

    # -- taking it up ------------------------------------------------------------------------

    async def resume(self) -> list[TaskHandle]:
        """Return handles of what is paid for and not yet finished or not yet collected.

        Raises:
            JournalError: it cannot be read.
        """
        await self._journal.flush()
        if self._in_folder:
            await self._adopt()
        now, timeouts = self.engine.loop.time(), self.engine.settings.timeouts
        found = []
        async for entry in self._store.entries(_OWED):
            try:
                record = entry.record(now)
            except JournalError as error:
                log.error("task %s is not followed: %s", entry.task_id, error.message)  # noqa: TRY400 - the words are enough
            else:
                found.append(self.engine.tasks.restore(record, timeouts, entry.spent))
        return found

    async def _adopt(self) -> None:
        registry = self.engine.tasks.registry
        first, forgotten = registry.last_key, await self._store.forgotten()
        await adoption.adopt(self._store, registry.new_key)
        budget = self.engine.tasks.till.budget
        # What is our own, or was adopted before, counts already.
        budget.earlier += await self._store.money(f"source IS NOT NULL AND id > {first}")
        budget.earlier += await self._store.forgotten() - forgotten
        await self._forget()
        await self._load_open()

    # -- named runs --------------------------------------------------------------------------

    def check_run(self, name: object) -> str:
        """Return the name of a run that may begin.

        Raises:
            ConfigurationError: it is no name, or the journal is no single file.
        """
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise ConfigurationError(f"run must be a name in printable words, not {name!r}")
        if self._in_folder:
            raise ConfigurationError(
                "A named run needs a journal in one file, not a folder of them",
                hint="Give the session the path of a file.",
            )
        return name

    async def enter_run(self, name: str) -> Run:
        """Begin a pass over a named run.

        Raises:
            ConfigurationError: one is under way.
            JournalError: it cannot be read.
        """
        if name in self._runs:
            raise ConfigurationError(
                f"The run {name!r} is under way already",
                hint="Wait until it has ended, or give this one another name.",
            )
        self._runs.add(name)
        try:
            await self._journal.flush()
            run = Run(self._store, name)
            await run.open()
        except BaseException:
            self._runs.discard(name)
            raise
        return run

    def leave_run(self, run: Run) -> None:
        """End a pass, so that another may begin."""
        self._runs.discard(run.name)
