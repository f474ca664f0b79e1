"""The policies in the interface of the policy lab, which grades them."""

from __future__ import annotations

import math
from collections import deque
from random import Random

from fluxflex import AdaptiveConcurrency, AdaptivePolling
from fluxflex._core.durations import kind_of
from fluxflex._core.scheduler import Scheduler

# -- the poller ----------------------------------------------------------------------------------


class Poller(Scheduler):
    """The session's scheduler of looks, with its defaults, where no task has a deadline."""

    def add(  # type: ignore[override]  # a simulator's tasks have no deadline
        self, key: int, kind: tuple[str, int, int], now: float, webhook: bool = False
    ) -> None:
        super().add(key, kind_of(*kind), now, math.inf, webhook=webhook)

    def done(  # type: ignore[override]
        self, key: int, now: float, sent: float | None = None, via: str = "poll"
    ) -> None:
        super().done(key, now, sent if via == "poll" else None)


def poller(rng: Random) -> Poller:
    """Return the default policy as a session makes it."""
    return Poller(AdaptivePolling(), 100, rng)


# -- the limiter ---------------------------------------------------------------------------------


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
