"""Whom to look at now: one heap over all tasks, deadlines included.

A task's deadline is no timer of its own. The heap simply never schedules a look later than the
deadline, and the look that finds the task running after it says that its time is up: no task
times out without a look after its deadline.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from fluxflex._core.durations import Kind
from fluxflex._core.gate import RateGate
from fluxflex._core.lifecycle import Key
from fluxflex._core.plan import Entry, Learning
from fluxflex._core.schedule import AdaptivePolling, PollPolicy

if TYPE_CHECKING:
    from random import Random

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
# So many entries of the heap may be stale, beyond one for each task.
_SLACK = 64
# So many entries are passed over at once, at most: they take less than a millisecond.
_MOST_PASSED = 400


class PollScheduler(Protocol):
    """What the poller asks; all times are seconds on one clock."""

    def add(
        self, key: Key, kind: Kind | None, now: float, deadline: float, *, webhook: bool = False
    ) -> None:
        """Begin to look at a task that was accepted now; `kind` is `None` for an unknown age."""
        ...

    def hasten(self, key: Key) -> None:
        """Look at a task as soon as the rate allows; unknown ones are ignored."""
        ...

    def next_due(self) -> float:
        """Return the earliest time at which `take` may give a task; infinity for none."""
        ...

    def take(self, now: float) -> Key | None:
        """Return a task to look at now; the rate is charged here."""
        ...

    def pending(self, key: Key, now: float, sent: float | None) -> bool:
        """Note that a look that began at `sent` found it running; true when its time is up.

        `sent` is `None` where the look brought no usable answer.
        """
        ...

    def throttled(self, key: Key, now: float, retry_after: float | None) -> bool:
        """Note that a look was turned away (429); true when its time is up."""
        ...

    def done(self, key: Key, now: float, sent: float | None = None) -> None:
        """Forget a task that ended, and learn from it; unknown ones are ignored."""
        ...

    def forget(self, key: Key, now: float) -> None:
        """Forget a task of which nothing is to be learnt; unknown ones are ignored."""
        ...


class Scheduler:
    """Polls and deadlines of all tasks in one heap.

    Args:
        policy: when to look next at one task.
        rate: status requests a second over all tasks; `None` for no limit.
        rng: the source of the jitter.
    """

    def __init__(self, policy: PollPolicy, rate: float | None, rng: Random) -> None:
        self._gap = policy.gap
        self._learning = Learning(policy, rng) if isinstance(policy, AdaptivePolling) else None
        self._gate = RateGate(rate)
        self._entries: dict[Key, Entry] = {}
        # Of the entries of a task the live one has its slot; the others are stale.
        self._heap: list[tuple[float, int, Entry]] = []
        self._stale = 0
        self._slots = 0
        self._resume_at = -math.inf
        self._asked = -math.inf

    def __len__(self) -> int:
        """Return how many tasks are looked at."""
        return len(self._entries)

    def add(
        self, key: Key, kind: Kind | None, now: float, deadline: float, *, webhook: bool = False
    ) -> None:
        """Begin to look at a task that was accepted now."""
        if key in self._entries:
            self.forget(key, now)
        entry = self._entries[key] = Entry(key, kind, now, deadline, webhook)
        learning = self._learning
        self._push(entry, self._due(entry, now) if learning is None else learning.begin(entry))

    def hasten(self, key: Key) -> None:
        """Look at a task as soon as the rate allows; unknown ones are ignored.

        A callback says that it is over: it ended when that came, whenever the look tells of it.
        """
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.urgent = True
        if entry.slot:  # a look in the air brings its own next
            self._leave(entry)
            self._push(entry, entry.since)

    def next_due(self) -> float:
        """Return the earliest time at which `take` may give a task; infinity for none."""
        self._find_live()
        return self._first_due() if self._heap else math.inf

    def take(self, now: float) -> Key | None:
        """Return a task to look at now; the rate is charged here."""
        self._asked = max(self._asked, now)
        if not self._find_live() or self._first_due() > now:
            return None
        learning = self._learning
        # None in place of an urgent one: nobody would wake for that again.
        entry = None if learning is None or self._heap[0][2].urgent else learning.spare()
        if entry is None or not entry.slot:
            entry = heapq.heappop(self._heap)[2]
        else:
            self._stale += 1
        entry.slot, entry.looked = 0, now
        entry.hastened, entry.urgent = entry.urgent, False
        self._gate.charge(now)
        return entry.key

    def _first_due(self) -> float:
        return self._gate.open_at(max(self._asked, self._heap[0][0], self._resume_at))

    def pending(self, key: Key, now: float, sent: float | None) -> bool:
        """Note that a look found it running; true when its time is up."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        if sent is None:
            return self._missed(entry, now)
        if self._learning is not None:
            self._learning.runs(entry, sent)
        if entry.looked >= entry.deadline:
            return True
        entry.misses = 0
        self._push(entry, self._due(entry, now))
        return False

    def throttled(self, key: Key, now: float, retry_after: float | None) -> bool:
        """Note that a look was turned away (429); true when its time is up.

        A `Retry-After` holds for the whole session; without one only this task waits longer. The
        rate is halved either way, and comes back within a minute.
        """
        self._gate.cut(now)
        if retry_after is not None:
            self._resume_at = max(self._resume_at, now + min(retry_after, _LONGEST_PAUSE))
        entry = self._entries.get(key)
        if entry is None:
            return False
        return self._missed(entry, now, least=_PAUSE if retry_after is None else 0.0)

    def done(self, key: Key, now: float, sent: float | None = None) -> None:
        """Forget a task that ended, and learn from it; unknown ones are ignored.

        Args:
            key: of the task.
            now: when that was known.
            sent: when the look that told it began; `None` where a callback told it.
        """
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._leave(entry)
        if self._learning is not None:
            began = None if entry.hastened else sent
            self._plan_anew(self._learning.ended(entry, now, began))

    def forget(self, key: Key, now: float) -> None:
        """Forget a task of which nothing is to be learnt; unknown ones are ignored."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._leave(entry)
        if self._learning is not None:
            self._plan_anew(self._learning.forget(entry, now))

    def _due(self, entry: Entry, now: float) -> float:
        """Return when a task that ran just now is due again."""
        if self._learning is not None:
            return self._learning.due(entry, now)
        # At once where the policy's gap is less than nothing, or NaN.
        return now + max(0.0, self._gap(now - entry.since))

    def _missed(self, entry: Entry, now: float, *, least: float = 0.0) -> bool:
        """Plan the next look after one without a usable answer; true when time is up."""
        entry.misses += 1
        if entry.looked >= entry.deadline:
            entry.late_misses += 1
            if entry.late_misses >= _LAST_LOOKS:
                return True
            self._push(entry, now + _LAST_GAP, late=True)
            return False
        due = self._due(entry, now)
        doublings = min(entry.misses - _PATIENCE, _MOST_DOUBLINGS)
        if doublings > 0:
            gap = due - now
            due = now + max(gap, min(_LONGEST_GAP, gap * 2.0**doublings))
        self._push(entry, max(due, now + least))
        return False

    def _push(self, entry: Entry, due: float, *, late: bool = False) -> None:
        self._slots = entry.slot = self._slots + 1
        if entry.urgent:
            due = entry.since
        entry.planned = due < math.inf
        if due > entry.deadline and not late:
            due = entry.deadline
        heapq.heappush(self._heap, (due, entry.slot, entry))

    def _plan_anew(self, entries: Sequence[Entry]) -> None:
        """Plan the next looks at those that have none before their deadlines."""
        for entry in entries:
            # A look in the air brings its own next.
            if entry.slot and not entry.planned:
                self._leave(entry)
                # As if planned when it was last known to run: it may well be due already.
                start = max(entry.since, entry.alive)
                self._push(entry, self._due(entry, start))

    def _leave(self, entry: Entry) -> None:
        """Take a task off the heap, which is kept in proportion to the tasks."""
        if not entry.slot:
            return
        entry.slot = 0
        self._stale += 1
        if self._stale > len(self._entries) + _SLACK:
            self._heap = [item for item in self._heap if item[1] == item[2].slot]
            heapq.heapify(self._heap)
            self._stale = 0

    def _find_live(self) -> bool:
        """Clear the top of the heap of what is stale, and of what lost its place meanwhile.

        Returns whether the first entry is of a task to look at; if not there is more to clear.
        """
        heap, learning = self._heap, self._learning
        last = math.inf if learning is None else learning.order.last
        for _ in range(_MOST_PASSED):
            if not heap:
                return False
            due, slot, entry = heap[0]
            if slot != entry.slot:
                heapq.heappop(heap)
                self._stale -= 1
            elif entry.turn > last and due < entry.deadline and not entry.urgent:
                self._slots = entry.slot = self._slots + 1
                entry.planned = False
                heapq.heapreplace(heap, (entry.deadline, entry.slot, entry))
            else:
                return True
        return False
