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
from fluxflex._core.plan import Entry, plan_for
from fluxflex._core.schedule import PollPolicy

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


class PollScheduler(Protocol):
    """What the poller asks; all times are seconds on one clock."""

    def add(
        self, key: Key, kind: Kind | None, now: float, deadline: float, *, webhook: bool = False
    ) -> None:
        """Begin to look at a task that was accepted now; `kind` is `None` for an unknown age."""
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
        self._plan = plan_for(policy, rng)
        self._gate = RateGate(rate)
        self._entries: dict[Key, Entry] = {}
        self._heap: list[tuple[float, int, Entry]] = []
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
        self._slots += 1
        entry = self._entries[key] = Entry(key, self._slots, kind, now, deadline, webhook)
        self._push(entry, self._plan.begin(entry))

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
        entry = self._plan.spare()
        if entry is None or not entry.slot:
            entry = heapq.heappop(self._heap)[2]
        entry.slot, entry.looked = 0, now
        self._gate.charge(now)
        return entry.key

    def pending(self, key: Key, now: float, sent: float | None) -> bool:
        """Note that a look found it running; true when its time is up."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        if sent is not None:
            self._plan.runs(entry, sent)
        return self._looked(entry, now, usable=sent is not None)

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
        return self._looked(entry, now, usable=False, least=_PAUSE if retry_after is None else 0.0)

    def done(self, key: Key, now: float, sent: float | None = None) -> None:
        """Forget a task that ended, and learn from it; unknown ones are ignored.

        Args:
            key: of the task.
            now: when that was known.
            sent: when the look that told it began; `None` where a callback told it.
        """
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._admit(self._plan.ended(entry, now, sent))

    def forget(self, key: Key, now: float) -> None:
        """Forget a task of which nothing is to be learnt; unknown ones are ignored."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._admit(self._plan.forget(entry, now))

    def _admit(self, entries: Sequence[Entry]) -> None:
        """Look from now on at tasks whose turn has come."""
        for entry in entries:
            if entry.slot:  # a look in the air brings its own next
                # As if planned when it was last known to run: it may well be due already.
                self._push(entry, self._plan.due(entry, max(entry.alive, entry.since)))
        self._tidy()

    def _looked(self, entry: Entry, now: float, *, usable: bool, least: float = 0.0) -> bool:
        entry.misses = 0 if usable else entry.misses + 1
        if entry.looked >= entry.deadline:
            entry.late_misses += 1
            if usable or entry.late_misses >= _LAST_LOOKS:
                return True
            self._push(entry, now + _LAST_GAP, late=True)
            return False
        due = self._plan.due(entry, now)
        doublings = min(entry.misses - _PATIENCE, _MOST_DOUBLINGS)
        if doublings > 0:
            gap = due - now
            due = now + max(gap, min(_LONGEST_GAP, gap * 2.0**doublings))
        self._push(entry, max(due, now + least))
        return False

    def _push(self, entry: Entry, due: float, *, late: bool = False) -> None:
        self._slots += 1
        entry.slot = self._slots
        when = due if late else min(due, entry.deadline)
        heapq.heappush(self._heap, (when, self._slots, entry))
        self._tidy()

    def _tidy(self) -> None:
        """Keep the heap in proportion to the tasks: entries of what is done may lie there long."""
        if len(self._heap) > 2 * len(self._entries) + _SLACK:
            self._heap = [item for item in self._heap if self._is_live(item)]
            heapq.heapify(self._heap)

    def _is_live(self, item: tuple[float, int, Entry]) -> bool:
        entry = item[2]
        return entry.slot == item[1] and self._entries.get(entry.key) is entry

    def _drop_stale(self) -> None:
        """Clear the top of the heap of what is done, and of what lost its place meanwhile."""
        heap = self._heap
        while heap:
            due, _, entry = heap[0]
            if not self._is_live(heap[0]):
                heapq.heappop(heap)
            elif due < entry.deadline and self._plan.waits(entry):
                self._slots += 1
                entry.slot = self._slots
                heapq.heapreplace(heap, (entry.deadline, self._slots, entry))
            else:
                return
