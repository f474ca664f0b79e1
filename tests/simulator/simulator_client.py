"""What the simulator's tests share: a plain client, so that nothing of the SDK is in between.

Test files name the fixtures they want: `client = plain_client`.
"""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import attrs
import pytest

from fluxflex.simulator import Simulator

KEY = "sk-rehearsal"
SUBMIT = "/flux.2-flex/generate"


@attrs.define
class Clock:
    """A clock that stands still until a test moves it."""

    now: float = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@attrs.frozen
class Answer:
    """A reply as a plain client saw it."""

    status: int
    body: bytes
    headers: dict[str, str]
    json: Any


@attrs.frozen
class Client:
    """Ask a simulator with plain aiohttp; every call is a connection of its own."""

    http: aiohttp.ClientSession

    async def ask(
        self,
        method: str,
        url: str,
        *,
        key: str | None = KEY,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> Answer:
        """Send one request and read the whole reply; redirects are not followed."""
        sent = {} if key is None else {"Authorization": f"Bearer {key}"}
        sent |= headers or {}
        async with self.http.request(
            method, url, headers=sent, allow_redirects=False, **more
        ) as reply:
            body = await reply.read()
            is_json = reply.content_type == "application/json" and body
            return Answer(
                reply.status, body, dict(reply.headers), await reply.json() if is_json else None
            )

    async def submit(self, sim: Simulator, prompt: str = "a lighthouse", **fields: Any) -> Answer:
        """Submit a task."""
        return await self.ask("POST", sim.url + SUBMIT, json={"prompt": prompt, **fields})

    async def accepted(self, sim: Simulator, prompt: str = "a lighthouse", **fields: Any) -> str:
        """Submit a task that is accepted and return its id."""
        answer = await self.submit(sim, prompt, **fields)
        assert answer.status == 200, answer
        task_id: str = answer.json["data"]["task_id"]
        return task_id

    async def look(self, sim: Simulator, task_id: str) -> Answer:
        """Ask for the status of a task."""
        return await self.ask("GET", f"{sim.url}/flux.2-flex/status/{task_id}")

    async def state(self, sim: Simulator, task_id: str) -> str:
        """Return the provider's word for a task."""
        word: str = (await self.look(sim, task_id)).json["data"]["status"]
        return word


@pytest.fixture
async def plain_client() -> AsyncIterator[Client]:
    """Give a client that never reuses a connection."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        yield Client(http)


@pytest.fixture
def standing_clock() -> Clock:
    """Give a clock at zero."""
    return Clock()
