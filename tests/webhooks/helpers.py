"""What the tests of the receiver share: an inbox to look into, and callbacks as they come."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import uvicorn
from aiohttp import web
from aiohttp.test_utils import TestServer

from fluxflex.webhooks import WebhookReceiver, aiohttp_app, asgi_app
from fluxflex.webhooks.tokens import Ticket

URL = "https://callbacks.test/flux"
SECRET = "a secret for tests alone"
JSON = {"content-type": "application/json"}
BODY = json.dumps(
    {"task_id": "t1", "status": "completed", "data": {"image_url": "https://files.test/1.png"}}
).encode()
HOME, SESSION = b"journa", b"sessio"


class Box:
    """An inbox that keeps what comes, as far as there is room."""

    def __init__(self, session: bytes = SESSION, room: int = 1_000_000) -> None:
        self.session = session
        self.room = room
        self.taken: list[tuple[Ticket, bytes]] = []

    def put(self, ticket: Ticket, body: bytes) -> bool:
        """Take a callback, where there is room."""
        if len(self.taken) >= self.room:
            return False
        self.taken.append((ticket, body))
        return True


def joined(receiver: WebhookReceiver, room: int = 1_000_000) -> Box:
    """Return the inbox of a session that has just opened."""
    box = Box(room=room)
    receiver.join(box)
    return box


def ticket(key: int = 1, session: bytes = SESSION) -> Ticket:
    """Return the ticket of a task."""
    return Ticket(HOME, session, key)


def path_of(receiver: WebhookReceiver, of: Ticket | None = None) -> str:
    """Return the path at which a task's callback arrives."""
    return receiver.address(of or ticket()).removeprefix("https://callbacks.test")


def raw(
    path: str,
    body: bytes = BODY,
    method: str = "POST",
    headers: Mapping[str, str] = JSON,
    **more: str,
) -> bytes:
    """Return a request as it stands on the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: callbacks.test", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {text}" for name, text in {**headers, **more}.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@contextlib.asynccontextmanager
async def under_uvicorn(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI application on a free port of the loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        free.listen()
        config = uvicorn.Config(app, log_config=None, lifespan="on", ws="none")
        serving = uvicorn.Server(config)
        task = asyncio.create_task(serving._serve([free]))
        while not serving.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0)
        try:
            yield f"http://127.0.0.1:{free.getsockname()[1]}"
        finally:
            serving.should_exit = True
            await task


FRONTS = ("own", "aiohttp", "asgi")


@contextlib.asynccontextmanager
async def served(receiver: WebhookReceiver, front: str) -> AsyncIterator[str]:
    """Serve a receiver at `/flux` behind one of `FRONTS`."""
    if front == "own":
        async with receiver.serve() as server:
            yield f"http://127.0.0.1:{server.port}"
    elif front == "asgi":
        async with under_uvicorn(asgi_app(receiver)) as base:
            receiver._got_port(int(base.rpartition(":")[2]))
            yield base
    else:
        app = web.Application()
        app.add_subapp("/flux", aiohttp_app(receiver))
        async with TestServer(app) as server:
            receiver._got_port(int(str(server.port)))
            yield str(server.make_url("")).rstrip("/")


class Wire(asyncio.Transport):
    """A connection that keeps what is written, and is asked how much it reads at once."""

    max_size = 2**18

    def __init__(self) -> None:
        super().__init__()
        self.said = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.said += bytes(data)

    def can_write_eof(self) -> bool:
        """Say no, as TLS does."""
        return False

    def close(self) -> None:
        """Close."""

    def abort(self) -> None:
        """Close."""
