"""Slots: at most so many tasks sent and not yet finished. First come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Slots:
    """A semaphore that can also be overdrawn, by tasks that were submitted elsewhere.

    Args:
        ceiling: how many slots there are.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __repr__(self) -> str:
        return f"<Slots: {self.taken} of {self.ceiling} taken, {len(self._waiting)} waiting>"

    async def acquire(self) -> None:
        """Wait for a slot and take it; cancelled here, none is taken."""
        if self.taken < self.ceiling and not self._waiting:
            self.taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release()  # it was handed to us in the moment in which we were cancelled
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def overdraw(self) -> None:
        """Take a slot without waiting, whether there is one or not."""
        self.taken += 1

    def release(self) -> None:
        """Give a slot back; the longest waiting gets it."""
        self.taken -= 1
        while self._waiting and self.taken < self.ceiling:
            turn = self._waiting.popleft()
            if not turn.done():
                self.taken += 1
                turn.set_result(None)

    def refuse(self, error: Callable[[], Exception]) -> None:
        """Let everyone who waits go with an error of their own."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error())
