"""The limiters: how many submits a provider takes, learnt from those that it turns away.

Nothing is published about the provider's limits, and nothing in a reply says what kind they are:
so many tasks at once, or so many submits a minute. A window on the tasks that run serves for both,
since a rate is tasks at once divided by the seconds that a task takes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

# POSTs without an answer at the same time, which are what a limit can turn away in one burst: at
# the very first, so far at least while nothing was refused, so far at least afterwards, and at
# most; in between a sixteenth of the ceiling.
_FIRST_GATE = 4
_OPEN_GATE = 8
_LEAST_GATE = 4
_MOST_GATE = 64
_GATE_SHARE = 16

# The window after a refusal that came below it: a rate limit gave less than it did before.
_CUT = 0.75

# Seconds until a window expires, doubled by each expiry that found the old limit again.
_FIRST_PROBE = 10.0
_LAST_PROBE = 45.0
_PROBE_SPREAD = (0.8, 1.2)
_LONGEST_PROBE = 600.0
# A refusal at this share of the last limit, or above, has found that limit again.
_SAME = 0.9
# So far above the last limit it was raised: a share, and a few for small ones.
_RAISED, _RAISED_BY = 1.2, 2

# Seconds of the window's work that a refusal may cost before it counts as dear; a probe is then
# worth its price once in so many times these seconds, and the window stays a little below.
_DEAR = 0.5
_WORTH = 20.0
_BELOW = 0.05

# Seconds of a pause: how much later than asked everybody comes back at most; and without a
# Retry-After the first pause and the longest, doubling in between.
_LATER = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_PAUSE_SPREAD = (0.5, 1.0)

# What a task takes before one has finished, in seconds, and the weight of each one that has.
_USUAL_SECONDS = 15.0
_WEIGHT = 0.1


def _longer(retry_after: float, rng: Random) -> float:
    """Return a little more than was asked, by chance, so that not all come back at once."""
    return retry_after + rng.uniform(0.0, min(_LATER, retry_after))


class Pausing:
    """Wait as Retry-After asks, and limit nothing else.

    Args:
        rng: the source of the jitter.
    """

    window: int | None = None

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._pause = -math.inf

    def ready(self, now: float, running: int, sending: int) -> float:  # noqa: ARG002 - as called
        """Return the end of the pause."""
        return max(now, self._pause)

    def accepted(self, now: float, running: int) -> None:
        """Learn nothing."""

    def finished(self, now: float, running: int, seconds: float) -> None:
        """Learn nothing."""

    def refused(
        self,
        now: float,
        running: int,  # noqa: ARG002 - as it is called
        sent: float,  # noqa: ARG002 - as it is called
        retry_after: float | None,
    ) -> float | None:
        """Pause as asked; where nothing was asked for, the submit backs off by itself."""
        if retry_after is None:
            return None
        self._pause = max(self._pause, now + _longer(retry_after, self._rng))
        return self._pause


class ProbeWindow:
    """Learn a window from refusals, and forget it again from time to time.

    There is no window at first: the ceiling rules. The first refusal of a burst teaches one, and
    it holds until it expires. Then there is none again: the next refusal teaches the limit as it
    is by then, higher or lower. That is the probe. It costs a refusal, so it becomes rarer while
    it finds what was known (`_FIRST_PROBE` to `_LAST_PROBE` seconds), and rarer still where a
    refusal is dear because the provider asks for long pauses.

    Three things keep bursts of refusals small. The gate bounds the POSTs without an answer: it
    opens by one with each accept and closes to one with a refusal and with each probe. The pause
    holds back the whole client. And what was sent before the last cut only confirms it: a burst
    cuts once.

    Args:
        ceiling: what is never exceeded.
        rng: the source of the jitter.
    """

    def __init__(self, ceiling: int, rng: Random) -> None:
        self._ceiling = ceiling
        self._rng = rng
        self._window = math.inf
        self._expiry = math.inf
        self._known: float | None = None
        self._probe = _FIRST_PROBE
        self._gate = _FIRST_GATE
        self._widest = self._width(_OPEN_GATE)
        self._pause = -math.inf
        self._cut_at = -math.inf
        self._strikes = 0
        self._seconds: float | None = None

    def __repr__(self) -> str:
        return f"<ProbeWindow: {self.window} of {self._ceiling}, gate {self._gate}>"

    @property
    def window(self) -> int | None:
        """How many tasks may run by what was learnt; `None` while nothing limits them."""
        return None if math.isinf(self._window) else math.ceil(self._window)

    def ready(self, now: float, running: int, sending: int) -> float:
        """Return when a POST may start; infinity for after the next event."""
        if now >= self._expiry:
            self._window = self._expiry = math.inf
            self._gate = 1
        if sending >= self._gate or running + sending >= self._ceiling:
            return math.inf
        if running + sending >= self._window:
            return max(self._pause, self._expiry)
        return max(now, self._pause)

    def accepted(self, now: float, running: int) -> None:  # noqa: ARG002 - as it is called
        """Open the gate by one; far above the last limit, begin to probe often again."""
        if self._gate < self._widest:
            self._gate += 1
        self._strikes = 0
        if self._known is not None and running > _RAISED * self._known + _RAISED_BY:
            self._probe = _FIRST_PROBE

    def finished(self, now: float, running: int, seconds: float) -> None:  # noqa: ARG002 - as called
        """Learn how long a task takes: a moving average."""
        known = seconds if self._seconds is None else self._seconds
        self._seconds = known + _WEIGHT * (seconds - known)

    def refused(self, now: float, running: int, sent: float, retry_after: float | None) -> float:
        """Pause, and cut the window where this is the first refusal of its burst."""
        self._gate = 1
        self._widest = self._width(_LEAST_GATE)
        first = sent > self._cut_at and now >= self._pause
        if first:
            self._cut_at = now
            self._strikes += 1
            self._cut(now, running, self._loss(retry_after))
        if retry_after is not None:
            self._pause = max(self._pause, now + _longer(retry_after, self._rng))
        elif first:
            seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._strikes - 1, 60))
            self._pause = now + seconds * self._rng.uniform(*_PAUSE_SPREAD)
        return max(now, self._pause)

    def _width(self, least: int) -> int:
        """Return how far the gate opens: further for high ceilings."""
        return max(least, min(_MOST_GATE, math.ceil(self._ceiling / _GATE_SHARE)))

    def _cut(self, now: float, running: int, loss: float) -> None:
        """Learn the window from the tasks that ran when the refusal came.

        As many as run are what the provider takes. A few more than were known got in while a task
        was finished there and not yet seen to be here: half of that is believed. Where fewer run
        than the window allowed it is a rate that was met, perhaps by chance: the window then falls
        no further than by the cut.
        """
        known = self._known
        base = known if math.isinf(self._window) else self._window
        if base is None or running > _RAISED * base + _RAISED_BY:
            window = float(running)
        elif running >= base:
            window = (base + running) / 2
        else:
            window = max(running, _CUT * base)
        if loss > _DEAR:
            window -= max(1.0, _BELOW * window)
        if known is None or running >= _SAME * known:
            self._probe = min(_LAST_PROBE, 2 * self._probe)
        self._window = self._known = max(1.0, window)
        holds = min(_LONGEST_PROBE, max(self._probe, _WORTH * loss))
        self._expiry = now + self._rng.uniform(*_PROBE_SPREAD) * holds

    def _loss(self, retry_after: float | None) -> float:
        """Return what obeying a Retry-After costs, in seconds of the whole window's work.

        Tasks finish evenly over the S seconds that one takes, and none is started in a pause of R
        seconds. So a part t/S of the window is idle after t seconds: up to R < S that adds up to
        R²/2S, and for longer pauses, in which the window runs empty, to R - S/2.
        """
        pause = retry_after or 0.0
        seconds = _USUAL_SECONDS if self._seconds is None else self._seconds
        return pause**2 / (2 * seconds) if pause < seconds else pause - seconds / 2
