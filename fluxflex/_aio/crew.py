"""The tasks of a session, by what its end means for them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fluxflex.errors import SessionClosedError

T = TypeVar("T")


class Crew:
    """Runs coroutines as tasks that outlive their callers. Create it inside a running loop.

    `then` is called when one has ended, with its task.

    Args:
        on_end: called after that, each time.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._sending: set[asyncio.Task[Any]] = set()
        self._work: set[asyncio.Task[Any]] = set()
        self._reading: set[asyncio.Task[Any]] = set()
        self._dismissed = False
        self._create_task = asyncio.get_running_loop().create_task

    @property
    def busy(self) -> bool:
        """Whether something runs that leaving the session waits for."""
        return bool(self._sending or self._work)

    def launch(
        self, sending: Coroutine[object, object, T], then: Callable[[asyncio.Task[T]], object]
    ) -> asyncio.Task[T]:
        """Run a submit, which leaving waits for: what is in the air must tell its id."""
        return self._run(sending, self._sending, then)

    def work(
        self, work: Coroutine[object, object, T], then: Callable[[asyncio.Task[T]], object]
    ) -> asyncio.Task[T]:
        """Run something that leaving waits for, and then cancels."""
        task = self._run(work, self._work, then)
        if self._dismissed:
            task.cancel()  # it would outlive the session
        return task

    def read(
        self, reading: Coroutine[object, object, T], then: Callable[[asyncio.Task[T]], object]
    ) -> asyncio.Task[T]:
        """Run the reading of a source; leaving does not wait for it."""
        return self._run(reading, self._reading, then)

    def stop_reading(self) -> None:
        """Cancel the reading of all sources: what was not read would be a new submit."""
        for reading in self._reading:
            reading.cancel()

    async def dismiss(self) -> None:
        """Wait for the submits, none of which takes long any more, and cancel the rest."""
        self._dismissed = True
        if self._sending:
            await asyncio.wait(self._sending)
        while others := self._reading | self._work:  # the end of one may begin another
            for task in others:
                task.cancel()
            await asyncio.wait(others)

    def _run(
        self,
        work: Coroutine[object, object, T],
        group: set[asyncio.Task[T]],
        then: Callable[[asyncio.Task[T]], object],
    ) -> asyncio.Task[T]:
        task = self._create_task(work)
        group.add(task)
        task.add_done_callback(functools.partial(self._ended, group, then))
        return task

    def _ended(
        self,
        group: set[asyncio.Task[T]],
        then: Callable[[asyncio.Task[T]], object],
        task: asyncio.Task[T],
    ) -> None:
        group.discard(task)
        then(task)
        self._on_end()


def heard(sending: asyncio.Task[None]) -> None:
    """Take an error that nobody waits for any more: it is in the record."""
    if not sending.cancelled():
        sending.exception()


def closed() -> SessionClosedError:
    """Return the error of a submit that came too late."""
    return SessionClosedError("The session closed before the request was sent")
