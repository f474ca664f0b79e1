"""When a task is due, by what was learnt: the law, the schedule and the order together.

It knows each task by its `Entry` and nothing of heaps, rates or deadlines; the scheduler asks it
when a task is due next, and tells it what a look or a callback brought.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from fluxflex._core.durations import Kind, Law
from fluxflex._core.lifecycle import Key
from fluxflex._core.order import Order
from fluxflex._core.schedule import AdaptivePolling, Schedule, clipped

if TYPE_CHECKING:
    from random import Random


@attrs.define(eq=False)
class Entry:
    """One task that is looked at.

    Attributes:
        key: whose it is.
        kind: `None` for a task of which not even the age is known.
        since, deadline: when it was accepted, and when its time is up.
        webhook: whether a callback is expected for it.
        turn: its place in the order; -1 outside it.
        slot: which entry of the heap is the live one; 0 while a look is in the air.
        planned: whether a look is planned before its deadline's, and holds.
        looked: when the latest look began.
        misses, late_misses: looks in a row without a usable answer; such looks after the deadline.
        alive: until when it surely ran.
        entered: when it came into the frontier; `None` where it did not have to wait for that.
        expected, in_line: ln of the duration that was expected of it when it was accepted, and
            when it came into the frontier.
        teaches: the kind, where its duration is to be learnt.
        urgent: whether a callback says that it is over, so that the next look is due at once.
        hastened: whether the latest look was such a one.
    """

    key: Key
    kind: Kind | None
    since: float
    deadline: float
    webhook: bool
    turn: int = -1
    slot: int = 0
    planned: bool = False
    looked: float = -math.inf
    misses: int = 0
    late_misses: int = 0
    alive: float = -math.inf
    entered: float | None = None
    expected: float = 0.0
    in_line: float = 0.0
    teaches: Kind | None = None
    urgent: bool = False
    hastened: bool = False


_LEAST_JITTER, _JITTER = 0.85, 0.3
# How quickly it is learnt how many tasks come by callback.
_SHARE_GAIN = 1 / 16
# How far polling relaxes while some callbacks are missing. The slowest hundredth of all tasks are
# then those whose callback is lost, and their wait is the gap, however few they are; so it stays
# at that down to a share of one in 20, and only below goes on, up to the most.
_RELAXED, _MOST_RELAXED = 2.0, 5.0
_HARDLY_ANY = 0.1
# Where in a life it relaxes: beyond that before half of the usual age, in which few end, and then
# ever more with age, where the hazard is highest and gaps are short without need.
_YOUNG, _YOUNG_RELAXED, _AGED = 0.5, 1.5, 0.25
# The clock of the frontier is used where its errors are so much smaller.
_BETTER = 0.8
_ERROR_GAIN = 0.1
# Every so many looks one is a sample from behind the frontier; more of them after a hit.
_OFTEN, _RARE = 4.0, 32.0
_FADE = 1.05
# When tasks become quicker by this, in ln, all are planned anew; with more than so many in flight
# it is the budget of looks that makes them late, and more looks make it worse.
_QUICKER = 0.18
_FEW = 200
# To learn from a task takes several times as long as all else, so lessons have a budget: so many a
# second, and a store for bursts. The emptier it is the more tasks are passed over.
_LESSONS = 20.0
_STORE = 2000.0


# The first task of a session is glanced at so soon: one look for each session, and a provider who
# is much quicker than usual, as a rehearsal is, is found out soon.
_GLANCE = 0.25


class Learning:
    """When tasks are due; all times are seconds on one clock.

    A second clock runs for a task that had to wait for its turn, from when it came into the
    frontier. The one that foretells better is used.

    Attributes:
        order: the tasks whose age is known.
    """

    def __init__(self, policy: AdaptivePolling, rng: Random) -> None:
        self.order: Order[Entry] = Order()
        self._policy = policy
        self._random = rng.random
        self._rng = rng
        self._ages = Law(rng)
        self._by_age = Schedule(self._ages.table)
        self._lines = Law(rng)
        self._by_line = Schedule(self._lines.table)
        self._age_error = self._line_error = 0.0
        self._line_is_better = False
        self._planned_for = -math.inf
        self._is_new = True
        self._polled = 0.5  # the share of tasks with a callback whose end a look has told
        self._every = _OFTEN
        self._looks = 0
        self._added, self._lessons = 0.0, _STORE

    def begin(self, entry: Entry) -> float:
        """Take in a task and return when it is due first: at once where nothing is known of it."""
        if entry.kind is None:
            return entry.since
        self.order.add(entry)
        lessons = min(_STORE, self._lessons + _LESSONS * (entry.since - self._added))
        if not entry.turn % int(_STORE / max(1.0, lessons)):
            entry.teaches = entry.kind
            lessons -= 1
        self._added, self._lessons = entry.since, lessons
        entry.expected = self._ages.expected(entry.kind)
        if math.isfinite(self.order.width) and entry.turn <= self.order.last:
            self._come((entry,), entry.since)
        due = self.due(entry, entry.since)
        if self._is_new:
            self._is_new = False
            return min(due, entry.since + _GLANCE)
        return due

    def due(self, entry: Entry, now: float) -> float:
        """Return when a task that ran just now is due again; never behind the frontier."""
        kind = entry.kind
        if kind is None:
            return now + self._policy.gap(now - entry.since)
        if entry.turn > self.order.last:
            return math.inf
        if entry.entered is not None and self._line_is_better:
            law, schedule, start = self._lines, self._by_line, entry.entered
        else:
            law, schedule, start = self._ages, self._by_age, entry.since
        age = now - start if now > start else 0.0
        scale = law.scale(kind)
        jitter = _LEAST_JITTER + _JITTER * self._random()
        step = jitter * math.sqrt(2 * self._policy.cost(len(self.order)) / scale)
        if entry.webhook:
            step *= _relaxed(self._polled, age / scale)
        return start + age + clipped(schedule.next_age(age, scale, step) - age)

    def spare(self) -> Entry | None:
        """Return a sample from behind the frontier, every so many looks."""
        if self.order.last == math.inf:
            return None
        self._looks += 1
        if self._looks < self._every:
            return None
        self._looks = 0
        self._every = min(self._every * _FADE, _RARE)
        return self.order.sample(self._rng)

    def runs(self, entry: Entry, sent: float) -> None:
        """Learn that a task ran when a look at it began."""
        alive, kind = entry.alive, entry.teaches
        if sent <= alive:
            return
        entry.alive = sent
        if kind is None:
            return
        since, entered = entry.since, entry.entered
        self._ages.survived(kind, alive - since if alive > since else 0.0, sent - since)
        if entered is not None:
            self._lines.survived(kind, alive - entered if alive > entered else 0.0, sent - entered)

    def ended(self, entry: Entry, now: float, sent: float | None) -> Sequence[Entry]:
        """Learn that a task ended, and return those to whose looks it matters.

        By a callback its duration is known, by a look that began at `sent` within an interval.
        """
        if entry.webhook:
            self._polled += _SHARE_GAIN * ((sent is not None) - self._polled)
        if entry.kind is None:
            return ()
        if entry.turn > self.order.last:
            self._every = _OFTEN
        came = self._come(self.order.ended(entry), now)
        if entry.teaches is None:
            return came
        self._learn(entry, entry.teaches, now if sent is None else sent, exact=sent is None)
        return [*came, *self._overdue()]

    def forget(self, entry: Entry, now: float) -> Sequence[Entry]:
        """Let go of a task, and return those to whose looks it matters."""
        return () if entry.kind is None else self._come(self.order.drop(entry), now)

    def _learn(self, entry: Entry, kind: Kind, end: float, *, exact: bool) -> None:
        """Learn a duration by both clocks, and which of them foretold it better."""
        alive, since, entered = entry.alive, entry.since, entry.entered
        age = alive - since if alive > since else 0.0
        self._ages.ended(kind, age, end - since, exact=exact)
        if entered is None:
            return
        missed = _missed(entry.expected, age, end - since)
        self._age_error += _ERROR_GAIN * (missed - self._age_error)
        age = alive - entered if alive > entered else 0.0
        self._lines.ended(kind, age, end - entered, exact=exact)
        missed = _missed(entry.in_line, age, end - entered)
        self._line_error += _ERROR_GAIN * (missed - self._line_error)
        self._line_is_better = self._line_error < _BETTER * self._age_error

    def _overdue(self) -> Sequence[Entry]:
        """Return all tasks of the frontier where they have become so much quicker.

        As after a stall of the provider: what was planned during it would be found long after.
        """
        level = (self._lines if self._line_is_better else self._ages).level.mean
        if level > self._planned_for - _QUICKER:
            self._planned_for = max(self._planned_for, level)
            return ()
        self._planned_for = level
        late = self.order.oldest(_FEW) if len(self.order) <= _FEW else ()
        for entry in late:
            entry.planned = False
        return late

    def _come(self, entries: Sequence[Entry], now: float) -> Sequence[Entry]:
        """Start the second clock of those that come into the frontier."""
        for entry in entries:
            entry.entered = now
            entry.in_line = self._lines.expected(entry.kind) if entry.kind else 0.0
        return entries


def _relaxed(polled: float, age: float) -> float:
    """Return by how much the step of a task with a callback is longer.

    Some of what looks tell a callback would have told a moment later, the more so the more looks
    there are: so polling relaxes by more than the root of the share.

    Args:
        polled: the share of such tasks whose end a look has told, more than 0.
        age: of the task, in units of the usual one.
    """
    relaxed = min(1 / polled, max(_RELAXED, min(_MOST_RELAXED, _HARDLY_ANY / polled)))
    if age < _YOUNG:
        return relaxed * min(_YOUNG_RELAXED, relaxed)
    return relaxed * math.pow(age, _AGED)


def _missed(expected: float, alive: float, end: float) -> float:
    """Return by how much, in ln, a duration was expected outside the interval in which it ended."""
    if alive > 0 and math.log(alive) > expected:
        return math.log(alive) - expected
    return max(0.0, expected - math.log(max(end, 1e-3)))
