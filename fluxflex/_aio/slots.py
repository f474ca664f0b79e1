"""Slots: the one door that every POST goes through.

Whoever wants to send waits here, for a slot (`concurrency`), for the limiter and for a free
connection at once, and one synchronous method decides who is next. First come, first served; who
was turned away holds a slot already and goes before all who wait for their first.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from random import Random

from fluxflex._aio.limiter import ForgivingLimiter
from fluxflex._core import refusals
from fluxflex._core.lifecycle import LAST_WORDS, Attached, Change, Key, TaskState
from fluxflex._core.limits import ConcurrencyPolicy

_RUNNING = TaskState.RUNNING
# Seconds after which the limiter counts on no answer to a POST: one that hangs must not hold back
# all others until its time is up.
_HANGS = 10.0

# Who waits, and how many seconds their submit may take.
_Queue = OrderedDict[asyncio.Future[None], float]


class Slots:
    """A semaphore with a limiter, that can also be overdrawn by tasks submitted elsewhere.

    It costs the same per event however many wait: only the head of a queue is looked at, and one
    timer serves all.

    Args:
        policy: how many slots there are, and who decides below that.
        posts: POSTs in the air at once, so that the pool is never a queue.
        rng: the source of the limiter's jitter.

    Attributes:
        taken: slots in use.
        sending: POSTs that were let through and are not answered.
        running: tasks accepted and not finished.
        throttled: POSTs turned away (429, or 503 with Retry-After).
        pauses: how often everything stood still because of that.
    """

    def __init__(self, policy: ConcurrencyPolicy, *, posts: int, rng: Random) -> None:
        loop = asyncio.get_running_loop()
        self.ceiling = policy.ceiling
        self.taken = self.sending = self.running = 0
        self.throttled = self.pauses = 0
        self._posts = posts
        self._limiter = ForgivingLimiter(policy, rng)
        self._again: _Queue = OrderedDict()
        self._fresh: _Queue = OrderedDict()
        self._cleared: dict[Key, float] = {}  # since when, the longest first
        self._hanging: set[Key] = set()
        self._paused = -math.inf
        self._least = math.inf  # seconds for a submit: who waits has no fewer
        self._closed: Callable[[], Exception] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf
        self._call_at = loop.call_at
        self._clock = loop.time
        # The loop runs a timer up to one tick of its clock early.
        self._tick = time.get_clock_info("monotonic").resolution

    def __repr__(self) -> str:
        waiting = len(self._fresh) + len(self._again)
        return f"<Slots: {self.taken} of {self.ceiling} taken, {waiting} waiting>"

    @property
    def window(self) -> int | None:
        """How many tasks the limiter lets run; `None` while only the ceiling does."""
        return self._limiter.window

    # -- coming ------------------------------------------------------------------------------

    async def acquire(self, within: float = math.inf) -> None:
        """Wait for a slot and for leave to send, and take both; cancelled here, neither is taken.

        Args:
            within: seconds that the submit may take once it has a slot.

        Raises:
            RateLimitError: the provider asks for a pause that is longer.
        """
        now = self._clock()
        if self._fresh or self._again or self._closed or self._when(now, fresh=True) > now:
            await self._wait(self._fresh, within)
        else:
            self.taken += 1
            self.sending += 1

    def clear(self, key: Key) -> None:
        """Enter whose is the leave to send that was taken; `answered` gives it back."""
        self._cleared[key] = self._clock()

    async def again(self, key: Key) -> None:
        """Wait for leave to send once more, with the slot that is held."""
        await self._wait(self._again, math.inf)
        self.clear(key)

    def overdraw(self) -> None:
        """Take a slot without waiting, whether there is one or not."""
        self.taken += 1

    def resume(self) -> None:
        """Take a slot for a task that runs already."""
        self.taken += 1
        self.running += 1

    async def _wait(self, queue: _Queue, within: float) -> None:
        if self._closed is not None:
            raise self._closed()
        turn = asyncio.get_running_loop().create_future()
        queue[turn] = within
        self._least = min(self._least, within)
        self._too_long(self._clock())
        self._let_in()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # It was handed to us in the moment in which we were cancelled.
                self.taken -= queue is self._fresh
                self.sending -= 1
                self._let_in()
            else:
                queue.pop(turn, None)
            raise

    # -- what happens ------------------------------------------------------------------------

    def answered(self, key: Key) -> None:
        """Give back the leave to send, where there is one: answered, or not to be sent."""
        if self._cleared.pop(key, None) is not None:
            self._hanging.discard(key)
            self.sending -= 1
            self._let_in()

    def note(self, change: Change) -> None:
        """Count what runs, and tell the limiter what was accepted and what finished."""
        before, after = change.before, change.after
        ran = before.state is _RUNNING
        self.running += (after.state is _RUNNING) - ran
        if change.names and not isinstance(change.event, Attached):
            self._limiter.accepted(self._clock(), self.running)
        elif ran and before.accepted is not None and isinstance(change.event, LAST_WORDS):
            now = self._clock()
            self._limiter.finished(now, self.running, now - before.accepted)

    def turned_away(self, sent: float, retry_after: float | None) -> float | None:
        """Tell the limiter of a refusal, and return when the pause that it makes ends."""
        now = self._clock()
        self.throttled += 1
        until = self._limiter.refused(now, self.running, sent, retry_after)
        if until is not None and until > now:
            self.pauses += self._paused <= now
            self._paused = max(self._paused, until)
            self._too_long(now)
        return until

    def release(self) -> None:
        """Give a slot back."""
        self.taken -= 1
        self._let_in()

    def refuse(self, error: Callable[[], Exception]) -> None:
        """Let everyone who waits go with an error of their own, and nobody in any more."""
        self._closed = error
        for queue in (self._again, self._fresh):
            while queue:
                self._send_off(queue.popitem(last=False)[0], error())
        if self._timer is not None:
            self._timer.cancel()

    # -- the decision ------------------------------------------------------------------------

    def _when(self, now: float, *, fresh: bool) -> float:
        """Return when a POST may start; infinity for after the next event."""
        if self.sending >= self._posts or (fresh and self.taken >= self.ceiling):
            return math.inf
        when = self._ready(now)
        return when if when <= now else min(when, self._without_hanging(now))

    def _ready(self, now: float) -> float:
        return self._limiter.ready(now, self.running, self.sending - len(self._hanging))

    def _without_hanging(self, now: float) -> float:
        """Return when to ask again, since one in the air is then taken to hang; now if it helps."""
        for key, since in self._cleared.items():
            if key not in self._hanging:
                if now < since + _HANGS:
                    return since + _HANGS
                self._hanging.add(key)
                if self._ready(now) <= now:
                    return now
        return math.inf

    def _let_in(self) -> None:
        """Let in who may send now; set the timer for the next."""
        if not (self._fresh or self._again):
            return
        now = self._clock()
        while queue := self._again or self._fresh:
            fresh = queue is self._fresh
            when = self._when(now, fresh=fresh)
            if when > now + self._tick:
                self._wake_at(when)
                return
            turn, _ = queue.popitem(last=False)
            if not turn.done():
                self.taken += fresh
                self.sending += 1
                turn.set_result(None)

    def _too_long(self, now: float) -> None:
        """Tell at once who has less time for a submit than the pause takes, wherever they stand."""
        pause = self._paused - now
        if pause < self._least:
            return
        for turn, within in tuple(self._fresh.items()):
            if pause >= within:
                del self._fresh[turn]
                self._send_off(turn, refusals.paused(pause))
        self._least = min(self._fresh.values(), default=math.inf)

    def _send_off(self, turn: asyncio.Future[None], error: Exception) -> None:
        if not turn.done():
            turn.set_exception(error)

    def _wake_at(self, when: float) -> None:
        if when >= self._wakes_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = when  # a timer of uvloop's need not know it
        self._timer = self._call_at(when, self._wake)

    def _wake(self) -> None:
        self._timer, self._wakes_at = None, math.inf
        self._let_in()
