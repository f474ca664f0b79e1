"""What Ctrl-C and SIGTERM do while a command runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import attrs

from fluxflex.cli.exits import SignalledError

T = TypeVar("T")

# How long SIGTERM lets running tasks finish, in seconds.
GRACE = 20.0


@attrs.define
class Interrupts:
    """Ctrl-C once stops, twice detaches; SIGTERM stops, and detaches when its grace is over.

    Attributes:
        stop: reads no more, and lets finish what runs.
        detach: lets go of what runs.
        again: what to say of a second Ctrl-C.
        grace: how long SIGTERM lets running tasks finish, in seconds.
        signal: the first that came; `None` while there was none.
    """

    stop: Callable[[str], None]
    detach: Callable[[], None]
    again: str = "Press Ctrl-C again to leave them running at the provider."
    grace: float = GRACE
    signal: int | None = None
    _detached: bool = False

    def interrupt(self) -> None:
        """Take a Ctrl-C."""
        if self.signal is not None:
            self._leave()
            return
        self.signal = signal.SIGINT
        self.stop(self.again)

    def terminate(self) -> None:
        """Take a SIGTERM."""
        if self.signal is None:
            self.signal = signal.SIGTERM
            self.stop(f"They have {self.grace:g} seconds.")
        asyncio.get_running_loop().call_later(self.grace, self._leave)

    def _leave(self) -> None:
        if not self._detached:
            self._detached = True
            self.detach()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Take the signals of this process while the block runs."""
        with _handled({signal.SIGINT: self.interrupt, signal.SIGTERM: self.terminate}):
            yield


def _absorb() -> None:
    """Take a signal that comes while the command winds up: results and ids are worth the wait."""


@contextlib.contextmanager
def _handled(handlers: dict[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    taken = []
    for number, handler in handlers.items():
        # Windows has no such handlers, and only the main thread may set them.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, handler)
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.add_signal_handler(number, _absorb)


async def stoppable(work: Coroutine[Any, Any, T]) -> T:
    """Run one piece of work until it ends or a signal cancels it.

    Raises:
        SignalledError: a signal came first.
    """
    task = asyncio.ensure_future(work)
    came: list[int] = []

    def take(number: int) -> None:
        came.append(number)
        task.cancel()

    handlers: dict[signal.Signals, Callable[[], None]] = {
        number: functools.partial(take, number) for number in (signal.SIGINT, signal.SIGTERM)
    }
    with _handled(handlers):
        try:
            return await task
        except asyncio.CancelledError:
            if came:
                raise SignalledError(came[0]) from None
            raise
