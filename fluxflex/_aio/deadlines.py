"""Deadlines of exchanges: what `asyncio.timeout` does, with one timer for all of them.

A timer of its own costs an exchange a twelfth of its time, and nearly all of them are cancelled
unused. Here the one timer stands at the earliest deadline that was known when it was set; when it
fires, it cuts off what is late and is set again.
"""

from __future__ import annotations

import asyncio
import math

import attrs


@attrs.define(eq=False)
class Deadline:
    """When the time of one exchange is up.

    Attributes:
        task: what is cancelled then.
        when: seconds on the loop's clock.
        passed: whether it was.
    """

    task: asyncio.Task[object]
    when: float
    _cancelling: int
    passed: bool = False

    def was_ours(self) -> bool:
        """Take a cancellation of ours back; say whether there was no other."""
        return self.passed and self.task.uncancel() <= self._cancelling


class Deadlines:
    """All deadlines of a transport. Create it inside a running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes = math.inf

    def __len__(self) -> int:
        """Return how many exchanges are under way."""
        return len(self._open)

    def begin(self, seconds: float) -> Deadline:
        """Cancel the present task after so many seconds; `end` must follow."""
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - an exchange is awaited by one
        deadline = Deadline(task, self._loop.time() + seconds, task.cancelling())
        self._open.add(deadline)
        if deadline.when < self._wakes:
            self._wake_at(deadline.when)
        return deadline

    def end(self, deadline: Deadline) -> None:
        """Cut it off no more."""
        self._open.discard(deadline)

    def hurry(self, seconds: float) -> None:
        """Give what is under way at most so many seconds more."""
        latest = self._loop.time() + seconds
        for deadline in self._open:
            deadline.when = min(deadline.when, latest)
        if self._open and latest < self._wakes:
            self._wake_at(latest)

    def close(self) -> None:
        """Let the timer go, unless an exchange lives on by a user's own connector."""
        if not self._open:
            self._wake_never()

    def _wake_never(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._wakes = None, math.inf

    def _wake_at(self, when: float) -> None:
        self._wake_never()
        self._wakes = when
        self._timer = self._loop.call_at(when, self._sweep)

    def _sweep(self) -> None:
        """Cut off what is late by now, and wait for the next."""
        # The loop runs a timer up to one tick of its clock early: this one's time has come.
        now = max(self._loop.time(), self._wakes)
        self._timer, self._wakes = None, math.inf
        for deadline in self._open:
            if deadline.when <= now and not deadline.passed:
                deadline.passed = True
                deadline.task.cancel()
        coming = [deadline.when for deadline in self._open if not deadline.passed]
        if coming:
            self._wake_at(min(coming))
