"""When a task is due: by the gaps of a simple policy, or by what was learnt.

A plan knows each task by its `Entry` and nothing of heaps, rates or deadlines; the scheduler asks
it when a task is due next, and tells it what a look or a callback brought.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import attrs

from fluxflex._core.durations import Kind, Law
from fluxflex._core.lifecycle import Key
from fluxflex._core.order import Order
from fluxflex._core.schedule import AdaptivePolling, PollPolicy, Schedule, clipped

if TYPE_CHECKING:
    from random import Random


@attrs.define(eq=False)
class Entry:
    """One task that is looked at.

    Attributes:
        key, turn: whose it is; how many were added before it.
        kind: `None` for a task of which not even the age is known.
        since, deadline: when it was accepted, and when its time is up.
        webhook: whether a callback is expected for it.
        slot: which entry of the heap is the live one; 0 while a look is in the air.
        looked: when the latest look began.
        alive: until when it surely ran.
        entered: when it came into the frontier; `None` as long as it did not.
        expected, in_line: ln of the duration that was expected of it when it was accepted, and
            when it came into the frontier.
        misses, late_misses: looks in a row without a usable answer; such looks after the deadline.
    """

    key: Key
    turn: int
    kind: Kind | None
    since: float
    deadline: float
    webhook: bool
    slot: int = 0
    looked: float = -math.inf
    alive: float = -math.inf
    entered: float | None = None
    expected: float = 0.0
    in_line: float = 0.0
    misses: int = 0
    late_misses: int = 0


class Plan(Protocol):
    """When tasks are due; all times are seconds on one clock."""

    def begin(self, entry: Entry) -> float:
        """Take in a task and return when it is due first."""
        ...

    def due(self, entry: Entry, now: float) -> float:
        """Return when a task that ran just now is due again."""
        ...

    def waits(self, entry: Entry) -> bool:
        """Say whether a task that is due need not be looked at before its turn has come."""
        ...

    def spare(self) -> Entry | None:
        """Return a task to look at instead of the one that is due, now and then."""
        ...

    def runs(self, entry: Entry, sent: float) -> None:
        """Learn that a task ran when a look at it began."""
        ...

    def ended(self, entry: Entry, now: float, sent: float | None) -> Sequence[Entry]:
        """Learn that a task ended, and return those whose turn has come by it."""
        ...

    def forget(self, entry: Entry, now: float) -> Sequence[Entry]:
        """Let go of a task, and return those whose turn has come by it."""
        ...


class Gaps:
    """A simple policy: nothing is learnt, and no task waits for another."""

    def __init__(self, policy: PollPolicy) -> None:
        self._gap = policy.gap

    def begin(self, entry: Entry) -> float:
        """Return the first look."""
        return self.due(entry, entry.since)

    def due(self, entry: Entry, now: float) -> float:
        """Return the next look; at once where the policy's gap is less than nothing, or NaN."""
        return now + max(0.0, self._gap(now - entry.since))

    def waits(self, entry: Entry) -> bool:  # noqa: ARG002 - no task does
        """Say no."""
        return False

    def spare(self) -> Entry | None:
        """Return none."""
        return None

    def runs(self, entry: Entry, sent: float) -> None:
        """Learn nothing."""

    def ended(self, entry: Entry, now: float, sent: float | None) -> Sequence[Entry]:  # noqa: ARG002
        """Learn nothing."""
        return ()

    def forget(self, entry: Entry, now: float) -> Sequence[Entry]:  # noqa: ARG002
        """Return none."""
        return ()


_LEAST_JITTER, _JITTER = 0.85, 0.3
# How quickly it is learnt how many tasks come by callback, and how far polling then relaxes.
_SHARE_GAIN = 1 / 16
_MOST_RELAXED = 5.0
# The clock of the frontier is used where its errors are so much smaller.
_BETTER = 0.8
_ERROR_GAIN = 0.1
# Every so many looks one is a sample from behind the frontier; more of them after a hit.
_OFTEN, _RARE = 4.0, 32.0
_FADE = 1.05


class Learning:
    """The law, the schedule and the order together.

    Two clocks run for a task where there is an order: its age, and the time since it came into
    the frontier. The one that foretells better is used.
    """

    def __init__(self, policy: AdaptivePolling, rng: Random) -> None:
        self._policy = policy
        self._rng = rng
        self._ages = Law(rng)
        self._by_age = Schedule(self._ages.table)
        self._lines = Law(rng)
        self._by_line = Schedule(self._lines.table)
        self._age_error = self._line_error = 0.0
        self._order: Order[Entry] = Order()
        self._polled = 0.5  # the share of tasks with a callback whose end a look has told
        self._every = _OFTEN
        self._looks = 0

    def begin(self, entry: Entry) -> float:
        """Return the first look: at once at a task of which nothing is known."""
        if entry.kind is None:
            return entry.since
        entry.expected = self._ages.expected(entry.kind)
        self._order.add(entry)
        self._enter(entry, entry.since)
        return self.due(entry, entry.since)

    def due(self, entry: Entry, now: float) -> float:
        """Return the next look; never for a task behind the frontier."""
        kind = entry.kind
        if kind is None:
            return now + self._policy.gap(now - entry.since)
        if not self._order.has(entry):
            return math.inf
        law, schedule, start = self._ages, self._by_age, entry.since
        if entry.entered is not None and self._line_error < _BETTER * self._age_error:
            law, schedule, start = self._lines, self._by_line, entry.entered
        age = max(0.0, now - start)
        scale = law.scale(kind)
        jitter = _LEAST_JITTER + _JITTER * self._rng.random()
        step = jitter * math.sqrt(2 * self._policy.cost(len(self._order)) / scale)
        if entry.webhook:
            step *= min(_MOST_RELAXED, 1 / math.sqrt(self._polled))
        return start + age + clipped(schedule.next_age(age, scale, step) - age)

    def waits(self, entry: Entry) -> bool:
        """Say whether a task has lost its place in the frontier."""
        return entry.kind is not None and not self._order.has(entry)

    def spare(self) -> Entry | None:
        """Return a sample from behind the frontier, every so many looks."""
        if not self._order.outside:
            return None
        self._looks += 1
        if self._looks < self._every:
            return None
        self._looks = 0
        self._every = min(self._every * _FADE, _RARE)
        return self._order.sample(self._rng)

    def runs(self, entry: Entry, sent: float) -> None:
        """Learn that so old a task is not finished."""
        kind, alive = entry.kind, entry.alive
        if kind is None or sent <= alive:
            return
        entry.alive = sent
        self._ages.survived(kind, max(0.0, alive - entry.since), sent - entry.since)
        if entry.entered is not None:
            self._lines.survived(kind, max(0.0, alive - entry.entered), sent - entry.entered)

    def ended(self, entry: Entry, now: float, sent: float | None) -> Sequence[Entry]:
        """Learn the duration: by callback it is known, by a look within the interval."""
        if entry.webhook:
            self._polled += _SHARE_GAIN * ((sent is not None) - self._polled)
        kind = entry.kind
        if kind is None:
            return ()
        end, exact = (now, True) if sent is None else (sent, False)
        alive, since, entered = entry.alive, entry.since, entry.entered
        self._ages.ended(kind, max(0.0, alive - since), end - since, exact=exact)
        if entered is not None:
            missed = _missed(entry.expected, alive - since, end - since)
            self._age_error += _ERROR_GAIN * (missed - self._age_error)
            self._lines.ended(kind, max(0.0, alive - entered), end - entered, exact=exact)
            missed = _missed(entry.in_line, alive - entered, end - entered)
            self._line_error += _ERROR_GAIN * (missed - self._line_error)
        if not self._order.has(entry):
            self._every = _OFTEN
        return self._come(self._order.ended(entry), now)

    def forget(self, entry: Entry, now: float) -> Sequence[Entry]:
        """Let go of a task of which it is not known how long it took."""
        return () if entry.kind is None else self._come(self._order.drop(entry), now)

    def _come(self, entries: Sequence[Entry], now: float) -> Sequence[Entry]:
        for entry in entries:
            self._enter(entry, now)
        return entries

    def _enter(self, entry: Entry, now: float) -> None:
        """Start the second clock of a task that comes into a frontier."""
        if entry.kind is not None and math.isfinite(self._order.width) and self._order.has(entry):
            entry.entered = now
            entry.in_line = self._lines.expected(entry.kind)


def _missed(expected: float, alive: float, end: float) -> float:
    """Return by how much, in ln, a duration was expected outside the interval in which it ended."""
    if alive > 0 and math.log(alive) > expected:
        return math.log(alive) - expected
    return max(0.0, expected - math.log(max(end, 1e-3)))


def plan_for(policy: PollPolicy, rng: Random) -> Plan:
    """Return the plan that a policy stands for."""
    return Learning(policy, rng) if isinstance(policy, AdaptivePolling) else Gaps(policy)
