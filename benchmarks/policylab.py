"""Our policies in the interface of the policy lab, which grades them.

The lab names its tasks and calls each method in the order of its virtual time; a task has no
deadline there.
"""

from __future__ import annotations

import math
from collections import deque
from random import Random

from fluxflex import AdaptiveConcurrency, AdaptivePolling
from fluxflex._core.durations import kind_of
from fluxflex._core.scheduler import Scheduler


class Poller:
    """The scheduler of looks as a session has it by default."""

    def __init__(self, rng: Random) -> None:
        self._scheduler = scheduler = Scheduler(AdaptivePolling(), 100, rng)
        self.next_due, self.take = scheduler.next_due, scheduler.take
        self.pending, self.throttled = scheduler.pending, scheduler.throttled

    def add(
        self, task: int, key: tuple[str, int | None, int], now: float, webhook: int = 0
    ) -> None:
        """Begin to look at a task; the key is its quality, steps and references."""
        self._scheduler.add(task, kind_of(*key), now, math.inf, webhook=bool(webhook))

    def done(self, task: int, now: float, sent: float | None = None, via: str = "poll") -> None:
        """Note that a task ended."""
        self._scheduler.done(task, now, sent if via == "poll" else None)


def poller(rng: Random) -> Poller:
    """Return a fresh scheduler of looks."""
    return Poller(rng)


def limiter(rng: Random, ceiling: int) -> LabLimiter:
    """Return the default limiter, as the lab wants it."""
    return LabLimiter(rng, ceiling)


class LabLimiter:
    """Translates the lab's words."""

    retry_ambiguous = False

    def __init__(self, rng: Random, ceiling: int) -> None:
        self._limiter = AdaptiveConcurrency(ceiling).limiter(rng)
        self._sent: deque[float] = deque()  # the lab does not say which POST an answer is to
        self.ready = self._limiter.ready
        self.on_post = self._sent.append

    def on_accept(self, now: float, inflight: int) -> None:
        """A POST was accepted."""
        self._sent.popleft()
        self._limiter.accepted(now, inflight)

    def on_finish(self, now: float, duration: float, inflight: int) -> None:
        """A task finished."""
        self._limiter.finished(now, inflight, duration)

    def on_reject(
        self, now: float, inflight: int, retry_after: float | None, _attempt: int
    ) -> tuple[float, bool]:
        """A POST was turned away: back to the head of the queue."""
        self._limiter.refused(now, inflight, self._sent.popleft(), retry_after)
        return 0.0, False
