"""The policies in the interface of the policy lab, which grades them."""

from __future__ import annotations

from collections import deque
from random import Random

from fluxflex import AdaptiveConcurrency

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
