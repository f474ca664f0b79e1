"""A receiver of callbacks for the simulator's tests: plain aiohttp, nothing of the SDK.

Test files name the fixture they want: `receiver = plain_receiver`.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from aiohttp import web


@attrs.frozen
class Delivery:
    """One POST as it came."""

    path: str
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        """Read the body."""
        return json.loads(self.body)


@attrs.define
class Receiver:
    """Note every POST, and answer with the next of `statuses`, or 200."""

    base: str = ""
    deliveries: list[Delivery] = attrs.field(factory=list)
    statuses: list[int] = attrs.field(factory=list)
    open: asyncio.Event = attrs.field(factory=asyncio.Event)
    arrived: asyncio.Condition = attrs.field(factory=asyncio.Condition)
    waiting: int = 0
    peak: int = 0

    def url(self, end: object = "t0ken") -> str:
        """Return a callback URL; its end is the token."""
        return f"{self.base}/hooks/{end}"

    async def answer(self, request: web.Request) -> web.Response:
        """Take a POST down; while `open` is not set nobody is answered."""
        body = await request.read()
        self.deliveries.append(Delivery(request.path, body, dict(request.headers)))
        self.waiting += 1
        self.peak = max(self.peak, self.waiting)
        async with self.arrived:
            self.arrived.notify_all()
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers={"Location": self.url("elsewhere")})

    async def wait_for(self, count: int) -> None:
        """Wait until so many POSTs came."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.deliveries) >= count)


@pytest.fixture
async def plain_receiver() -> AsyncIterator[Receiver]:
    """Give a receiver on this machine that answers at once."""
    receiver = Receiver()
    receiver.open.set()
    app = web.Application(client_max_size=2**23)
    app.router.add_route("*", "/{rest:.*}", receiver.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    receiver.open.set()
    await runner.cleanup()
