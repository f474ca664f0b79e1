"""The budget of status requests: a token bucket that yields to a provider's 429."""

from __future__ import annotations

import math

_ROUNDING = 1e-9
_BURST = 0.15
# After a 429 half the rate, one a second at least; a minute later all of it is back.
_LEAST_RATE = 1.0
_EPOCH = 1.0
_RECOVERY = 60.0


class RateGate:
    """A token bucket: so many a second, with a burst on top.

    In any second at most 1.15 times the rate gets through, or the rate rounded up if that is more.
    What a busy loop lets through evenly arrives a little less so: the provider sees 1.2 times.
    """

    def __init__(self, rate: float | None) -> None:
        self._full = math.inf if rate is None else rate
        self._limited = rate is not None
        self.rate = self._full
        self._burst = max(1.0, _BURST * self._full)
        self._tokens = self._burst
        self._at = -math.inf
        self._cut = -math.inf

    def open_at(self, now: float) -> float:
        """Return the earliest time, now or later, at which one may pass."""
        if not self._limited:
            return now
        missing = 1 - self._tokens_at(now)
        return now + missing / self.rate if missing > _ROUNDING else now

    def charge(self, now: float) -> None:
        """Let one pass."""
        if not self._limited:
            return
        self._tokens = self._tokens_at(now) - 1
        if now > self._at:
            if self.rate < self._full:
                regained = (now - self._at) * self._full / _RECOVERY
                self.rate = min(self._full, self.rate + regained)
            self._at = now

    def cut(self, now: float) -> None:
        """Halve the rate after a 429: once for all that were turned away together."""
        if self._limited and now >= self._cut + _EPOCH:
            self._tokens = min(self._tokens_at(now), 1.0)
            self._at = max(self._at, now)
            self._cut = now
            self.rate = max(min(_LEAST_RATE, self._full), self.rate / 2)

    def _tokens_at(self, now: float) -> float:
        if now <= self._at:
            return self._tokens
        return min(self._burst, self._tokens + (now - self._at) * self.rate)
