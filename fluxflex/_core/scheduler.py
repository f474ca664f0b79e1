"""Whom to look at now: one heap over all tasks, deadlines included.

A task's deadline is no timer of its own. The heap simply never schedules a look later than the
deadline, and the look that finds the task running after it says that its time is up: no task
times out without a look after its deadline.
"""

from __future__ import annotations

import heapq
import math
from typing import Protocol

import attrs

from fluxflex._core.lifecycle import Key
from fluxflex._core.schedule import PollPolicy

# After the deadline a look without a usable answer is repeated this often before time is up.
_LAST_LOOKS = 5
_LAST_GAP = 1.0
# In a row without a usable answer: from here on the gap doubles, up to the longest.
_PATIENCE = 5
_MOST_DOUBLINGS = 60  # a float bears no more than a thousand
_LONGEST_GAP = 30.0
_PAUSE = 1.0
# A look costs the provider next to nothing; a pause of hours would outlast every deadline.
_LONGEST_PAUSE = 60.0
_ROUNDING = 1e-9
# So many entries of the heap may be stale, beyond one for each task.
_SLACK = 64


class PollScheduler(Protocol):
    """What the poller asks; all times are seconds on one clock."""

    def add(self, key: Key, now: float, deadline: float) -> None:
        """Begin to look at a task that was accepted now."""
        ...

    def next_due(self) -> float:
        """Return the earliest time at which `take` may give a task; infinity for none."""
        ...

    def take(self, now: float) -> Key | None:
        """Return a task to look at now; the rate is charged here."""
        ...

    def pending(self, key: Key, now: float, *, usable: bool) -> bool:
        """Note that a look found it running, or no usable answer; true when its time is up."""
        ...

    def throttled(self, key: Key, now: float, retry_after: float | None) -> bool:
        """Note that a look was turned away (429); true when its time is up."""
        ...

    def done(self, key: Key) -> None:
        """Forget a task; unknown ones are ignored."""
        ...


class RateGate:
    """A token bucket: so many a second, with a burst of a fifth of that on top.

    In any second at most 1.2 times the rate gets through, or the rate rounded up if that is more.
    """

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._burst = max(1.0, rate / 5) if rate is not None else math.inf
        self._tokens = self._burst
        self._at = -math.inf

    def open_at(self, now: float) -> float:
        """Return the earliest time, now or later, at which one may pass."""
        if self.rate is None:
            return now
        missing = 1 - self._tokens_at(now)
        return now + missing / self.rate if missing > _ROUNDING else now

    def charge(self, now: float) -> None:
        """Let one pass."""
        self._tokens = self._tokens_at(now) - 1
        self._at = max(self._at, now)

    def _tokens_at(self, now: float) -> float:
        if self.rate is None or now <= self._at:
            return self._tokens
        return min(self._burst, self._tokens + (now - self._at) * self.rate)


@attrs.define
class _Entry:
    since: float
    deadline: float
    turn: int = 0  # which heap entry is the live one
    looked: float = -math.inf  # when the latest look began
    misses: int = 0  # looks in a row without a usable answer
    late_misses: int = 0  # looks after the deadline without a usable answer


class Scheduler:
    """Polls and deadlines of all tasks in one heap.

    Args:
        policy: when to look next at one task.
        rate: status requests a second over all tasks; `None` for no limit.
    """

    def __init__(self, policy: PollPolicy, rate: float | None) -> None:
        self._policy = policy
        self._gate = RateGate(rate)
        self._entries: dict[Key, _Entry] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._turn = 0
        self._resume_at = -math.inf
        self._asked = -math.inf

    def __len__(self) -> int:
        """Return how many tasks are looked at."""
        return len(self._entries)

    def add(self, key: Key, now: float, deadline: float) -> None:
        """Begin to look at a task that was accepted now."""
        entry = self._entries[key] = _Entry(now, deadline)
        self._push(key, entry, min(now + self._gap(0.0), deadline))

    def next_due(self) -> float:
        """Return the earliest time at which `take` may give a task; infinity for none."""
        self._drop_stale()
        if not self._heap:
            return math.inf
        due = max(self._heap[0][0], self._resume_at)
        return self._gate.open_at(max(due, self._asked))

    def take(self, now: float) -> Key | None:
        """Return a task to look at now; the rate is charged here."""
        self._asked = max(self._asked, now)
        if self.next_due() > now:
            return None
        key = heapq.heappop(self._heap)[2]
        entry = self._entries[key]
        entry.turn, entry.looked = 0, now
        self._gate.charge(now)
        return key

    def pending(self, key: Key, now: float, *, usable: bool) -> bool:
        """Note that a look found it running, or no usable answer; true when its time is up."""
        return self._looked(key, now, usable=usable)

    def throttled(self, key: Key, now: float, retry_after: float | None) -> bool:
        """Note that a look was turned away (429); true when its time is up.

        A `Retry-After` holds for the whole session; without one only this task waits longer.
        """
        if retry_after is None:
            return self._looked(key, now, usable=False, least=_PAUSE)
        self._resume_at = max(self._resume_at, now + min(retry_after, _LONGEST_PAUSE))
        return self._looked(key, now, usable=False)

    def done(self, key: Key) -> None:
        """Forget a task; unknown ones are ignored."""
        self._entries.pop(key, None)
        self._tidy()

    def _looked(self, key: Key, now: float, *, usable: bool, least: float = 0.0) -> bool:
        entry = self._entries.get(key)
        if entry is None:
            return False
        entry.misses = 0 if usable else entry.misses + 1
        if entry.looked >= entry.deadline:
            entry.late_misses += 1
            if usable or entry.late_misses >= _LAST_LOOKS:
                return True
            self._push(key, entry, now + _LAST_GAP)
            return False
        gap = self._gap(now - entry.since)
        doublings = min(entry.misses - _PATIENCE, _MOST_DOUBLINGS)
        if doublings > 0:
            gap = max(gap, min(_LONGEST_GAP, gap * 2.0**doublings))
        self._push(key, entry, min(now + max(gap, least), entry.deadline))
        return False

    def _gap(self, age: float) -> float:
        return max(0.0, self._policy.gap(age))  # nought also for the NaN of a policy of the user's

    def _push(self, key: Key, entry: _Entry, due: float) -> None:
        self._turn += 1
        entry.turn = self._turn
        heapq.heappush(self._heap, (due, self._turn, key))
        self._tidy()

    def _tidy(self) -> None:
        """Keep the heap in proportion to the tasks: entries of what is done may lie there long."""
        if len(self._heap) > 2 * len(self._entries) + _SLACK:
            self._heap = [item for item in self._heap if self._is_live(item)]
            heapq.heapify(self._heap)

    def _is_live(self, item: tuple[float, int, Key]) -> bool:
        entry = self._entries.get(item[2])
        return entry is not None and entry.turn == item[1]

    def _drop_stale(self) -> None:
        while self._heap and not self._is_live(self._heap[0]):
            heapq.heappop(self._heap)
