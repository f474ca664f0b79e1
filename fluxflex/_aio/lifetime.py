"""How a session begins and ends."""

from __future__ import annotations

import asyncio
import logging
import random
from types import TracebackType
from typing import Self

import aiohttp

from fluxflex._aio.engine import Engine
from fluxflex._aio.journal import Journal
from fluxflex._aio.memory import Memory
from fluxflex._aio.settings import Settings
from fluxflex._aio.transport import AiohttpTransport, Transport
from fluxflex.errors import ConfigurationError, SessionClosedError
from fluxflex.webhooks.reach import doubt

log = logging.getLogger("fluxflex")


class Lifetime:
    """What opens and closes a session: its engine, and its journal where it has one.

    Args:
        settings: checked and complete.
        key: the API key.
        connector: the user's own, never closed here.
    """

    def __init__(
        self, settings: Settings, key: str, connector: aiohttp.BaseConnector | None
    ) -> None:
        self._settings = settings
        self._key = key
        self._connector = connector
        self._engine: Engine | None = None
        self._memory: Memory | None = None
        self._begun = self._closed = False
        self._open_or_not = asyncio.Event()

    def __repr__(self) -> str:
        state = "not open" if self._engine is None else repr(self._engine)
        return f"<fluxflex.Session at {self._settings.base_url}: {state}>"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for what runs; leaving by an exception, detach at once and let it out as it is."""
        await self.aclose(drain=None if error is None else 0)

    async def open(self) -> None:
        """Open the session in the running event loop.

        With a journal the account is asked once, since the file belongs to it.

        Raises:
            ConfigurationError: it was opened before, or the extra `journal` is not installed.
            WebhookError: the receiver belongs to another event loop.
            JournalError: the journal is in use, damaged, full, newer, or another account's.
            APIError, APIConnectionError: whose the journal is cannot be told just now.
        """
        if self._begun:
            raise ConfigurationError("A session is opened once", hint="Make a new `Session`.")
        if self._settings.webhooks is not None:
            self._settings.webhooks.check_loop()
            doubted = doubt(self._settings.webhooks.public_url, self._settings.base_url)
            if doubted is not None:
                log.warning("%s.", doubted)
        self._begun = True
        try:
            if self._settings.journal is None:
                self._engine = self._new_engine()
            else:
                await self._remember(self._settings.journal)
            callbacks = self._opened.tasks.callbacks
            if callbacks is not None:
                callbacks.open()  # now that it is known what the journal brought along
        finally:
            self._open_or_not.set()

    async def _remember(self, place: str) -> None:
        memory = await (await Memory.open(place, self._new_engine)).begin(self._key)
        if self._closed:
            await memory.engine.close(0)
            raise SessionClosedError("The session was closed while it opened")
        self._memory, self._engine = memory, memory.engine

    def _new_engine(self, journal: Journal | None = None) -> Engine:
        return Engine(self._settings, self._transport(), random.Random(), journal)  # noqa: S311 - jitter

    async def aclose(self, drain: float | None = None) -> None:
        """Close the session: refuse new submits, wait for what runs, let go of the rest.

        Args:
            drain: seconds to wait at most; `None` waits to the end. What still runs then is
                detached: its ids are logged, and `attach` in another session follows it.
        """
        if self._begun:
            self._closed = True
            await self._open_or_not.wait()
        if self._engine is not None:
            await self._engine.close(drain)

    def _transport(self) -> Transport:
        return AiohttpTransport(
            base_url=self._settings.base_url,
            key=self._key,
            connect=self._settings.timeouts.connect,
            connections=self._settings.lanes.connections,
            connector=self._connector,
        )

    @property
    def _opened(self) -> Engine:
        if self._engine is None:
            raise ConfigurationError(
                "The session is not open", hint="Use `async with` or `await session.open()`."
            )
        return self._engine

    @property
    def _remembered(self) -> Memory:
        self._opened.check_open()
        if self._memory is None:
            raise ConfigurationError(
                "The session has no journal", hint="Open it with `journal=path`."
            )
        return self._memory
