"""What stands between a session and the limiter of its concurrency policy."""

from __future__ import annotations

import logging
import math
from random import Random

from fluxflex._core.limits import ConcurrencyPolicy, FixedConcurrency

log = logging.getLogger("fluxflex")

_FALLING_BACK = "the concurrency policy %s; from now on only its ceiling holds"


class ForgivingLimiter:
    """A policy's limiter whose faults lose no task: the first is logged, and a semaphore follows.

    Faults are what it raises, what is no number, and to wait for an event when none can come.
    """

    def __init__(self, policy: ConcurrencyPolicy, rng: Random) -> None:
        self._limiter = self._usual = FixedConcurrency(policy.ceiling).limiter(rng)
        try:
            self._limiter = policy.limiter(rng)
        except Exception:
            log.exception(_FALLING_BACK, "raised")
            self._limiter = self._usual

    @property
    def window(self) -> int | None:
        """What the limiter says, for the statistics."""
        try:
            return self._limiter.window
        except Exception:
            log.exception(_FALLING_BACK, "raised")
            self._limiter = self._usual
            return None

    def ready(self, now: float, running: int, sending: int) -> float:
        """Return when a POST may start."""
        try:
            when = float(self._limiter.ready(now, running, sending))
        except Exception:
            log.exception(_FALLING_BACK, "raised")
            self._limiter = self._usual
        else:
            if when < math.inf or (when == math.inf and (running or sending)):
                return when
            log.error(_FALLING_BACK, f"would wait until {when}")
            self._limiter = self._usual
        return self._usual.ready(now, running, sending)

    def accepted(self, now: float, running: int) -> None:
        """A POST was accepted."""
        try:
            self._limiter.accepted(now, running)
        except Exception:
            log.exception(_FALLING_BACK, "raised")
            self._limiter = self._usual

    def finished(self, now: float, running: int, seconds: float) -> None:
        """A task finished."""
        try:
            self._limiter.finished(now, running, seconds)
        except Exception:
            log.exception(_FALLING_BACK, "raised")
            self._limiter = self._usual

    def refused(
        self, now: float, running: int, sent: float, retry_after: float | None
    ) -> float | None:
        """Return the end of the pause that a refusal makes."""
        try:
            answer = self._limiter.refused(now, running, sent, retry_after)
            until = None if answer is None else float(answer)
            if until is None or until < math.inf:
                return until
        except Exception:
            log.exception(_FALLING_BACK, "raised")
        else:
            log.error(_FALLING_BACK, f"would pause until {until}")
        self._limiter = self._usual
        return self._usual.refused(now, running, sent, retry_after)
