"""A small HTTP/1.1 server for callbacks and nothing else.

It bounds how many connections there are and how long each may take: one sweep serves all of them
instead of a timer for each.
"""

from __future__ import annotations

import asyncio
import errno
import ssl as tls
from collections.abc import Callable
from types import TracebackType
from typing import Self

from fluxflex.errors import WebhookError
from fluxflex.webhooks.connection import Connection, Handler

MOST_CONNECTIONS = 512
SWEEP_SECONDS = 1.0
_TAKEN = "Something listens there, perhaps this program's last run: end it, or take another port."
_UNUSABLE = (
    "Give `serve` an address of this machine, and a port from 0 (any that is free) to 65535."
)


class Server:
    """Listens for callbacks while it is entered. `WebhookReceiver.serve` makes it.

    Attributes:
        port: the one it listens at, once it was entered.
    """

    def __init__(
        self,
        handler: Handler,
        host: str,
        port: int,
        *,
        ssl: tls.SSLContext | None = None,
        started: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._handler = handler
        self._host = host
        self.port = port
        self._ssl = ssl
        self._started = started
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Server at {self._host}:{self.port}: {len(self._connections)} connections>"

    async def __aenter__(self) -> Self:
        if self._server is not None:
            raise WebhookError(
                "The server serves already",
                hint="Enter it once; `receiver.serve()` makes another one.",
            )
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self, self._handler), self._host, self.port, ssl=self._ssl
            )
        except (OSError, OverflowError, TypeError, ValueError) as error:
            raise WebhookError(
                f"Callbacks cannot be received at {self._host}:{self.port}: {error}",
                hint=_TAKEN if _is_taken(error) else _UNUSABLE,
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._started(self.port)
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening and close all connections."""
        server, self._server = self._server, None
        if self._sweeper is not None:
            self._sweeper.cancel()
        if server is not None:
            server.close()
        for connection in tuple(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # the connections are told of their end

    def admit(self, connection: Connection) -> bool:
        """Take in a connection; false where there are enough."""
        if len(self._connections) >= MOST_CONNECTIONS or self._server is None:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that is closed."""
        self._connections.discard(connection)

    def _sweep(self) -> None:
        """Close on whoever takes too long."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [each for each in self._connections if each.deadline <= now]:
            connection.late()
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)


def _is_taken(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE
