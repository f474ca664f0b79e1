"""What each client is asked to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import attrs
from fast_server import due_of

KEY = "sk-1234567890"
# What a reply holds is foreign JSON.
Json = Any


@attrs.define(kw_only=True)
class Work:
    """So many tasks, so many of them at once.

    Attributes:
        url: where the provider listens.
        interval: seconds between two looks at a task; 0 for as soon as the client can. A client
            that looks by a plan of its own does not heed it.
        lags: how late the client learnt of each picture, in seconds; as they come.
        errors: what became of the tasks that brought none, by the name of their error.
    """

    url: str
    count: int
    at_once: int
    interval: float
    lags: list[float] = attrs.field(factory=list)
    errors: list[str] = attrs.field(factory=list)

    def prompts(self) -> Iterator[str]:
        """Give a different prompt for each task."""
        return (f"a lighthouse in fog, study {number}" for number in range(self.count))

    def learnt(self, picture: str) -> None:
        """Note that a client has just handed out a picture's URL."""
        self.lags.append(time.monotonic() - due_of(picture))

    def failed(self, error: Exception | None) -> None:
        """Note that a client has given up on a task."""
        self.errors.append(type(error).__name__)

    async def one(self, picture: Awaitable[str]) -> None:
        """Wait for the picture of one task, and note what came of it."""
        try:
            self.learnt(await picture)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this client's answer
            self.failed(error)


# Completes the work and gives each picture to `learnt`.
Client = Callable[[Work], Coroutine[None, None, None]]


async def in_lanes(work: Work, one: Callable[[str], Awaitable[str]]) -> None:
    """Run one coroutine a task, as many at once as the work says, the next when one is done."""
    prompts = work.prompts()

    async def lane() -> None:
        for prompt in prompts:
            await work.one(one(prompt))

    await asyncio.gather(*(lane() for _ in range(min(work.at_once, work.count))))
