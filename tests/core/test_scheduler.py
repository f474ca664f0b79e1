"""Whom to look at now: the rate, the order, the deadlines, and a heap that stays small."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxflex._core.gate import RateGate
from fluxflex._core.lifecycle import Key
from fluxflex._core.schedule import FixedPolling
from fluxflex._core.scheduler import PollScheduler, Scheduler
from tests.core.provider import chance, last_look, most_in_a_second

FOREVER = math.inf
KIND = ("1K", 0, 0)
Look = tuple[float, Key]


@attrs.frozen
class Given:
    """A policy that returns what it is given."""

    seconds: float

    def gap(self, age: float) -> float:  # noqa: ARG002 - the protocol
        """Return it."""
        return self.seconds


def drive(
    scheduler: PollScheduler, until: float, answer: Callable[[Key, float], object]
) -> list[Look]:
    """Look as the poller does: exactly when something is due, until a time."""
    looks: list[Look] = []
    while (now := scheduler.next_due()) <= until:
        key = scheduler.take(now)
        assert key is not None, "`next_due` promised a task"
        looks.append((now, key))
        answer(key, now)
    return looks


def still_running(scheduler: Scheduler) -> Callable[[Key, float], object]:
    """Return the answer that tells the scheduler that a task runs on."""
    return lambda key, now: scheduler.pending(key, now, now)


# -- the rate --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    rate=st.floats(0.5, 200),
    gap=st.floats(0.01, 40),
    adds=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 60), st.booleans()), max_size=12),
)
def test_never_faster_than_the_rate(
    rate: float, gap: float, adds: list[tuple[float, int, bool]]
) -> None:
    """However tasks come and go, no second has more than 1.15 times the rate, or one at least."""
    scheduler = Scheduler(FixedPolling(gap), rate, chance(1))
    looks: list[Look] = []
    now, key = 0.0, 0
    for wait, many, stay in adds:
        looks += drive(scheduler, now + wait, still_running(scheduler))
        now += wait
        # What is due by less than the rounding of a float after `now` may be given at `now`.
        assert scheduler.take(now - 1e-6) is None
        for _ in range(many):
            key += 1
            scheduler.add(key, KIND, now, now + (FOREVER if stay else gap / 2))
    looks += drive(scheduler, now + 3, still_running(scheduler))
    assert most_in_a_second([time for time, _ in looks]) <= max(math.ceil(rate), 1.15 * rate)


def test_a_far_look_does_not_starve_the_near_ones() -> None:
    """Asking when the next look is due uses up no time: tasks that come meanwhile get the rate."""
    scheduler = Scheduler(FixedPolling(60), 20, chance(1))
    scheduler.add(0, KIND, 0.0, FOREVER)
    assert scheduler.next_due() == 60.0
    for key in range(1, 101):
        scheduler.add(key, KIND, 0.0, 0.5)
    looks = drive(scheduler, 30.0, scheduler.forget)
    assert len(looks) == 100
    assert round(looks[-1][0], 6) == 0.5 + 97 / 20  # a burst of three, then twenty a second


def test_the_burst_is_a_small_part_of_the_rate() -> None:
    """After a rest 15 % of the rate pass at once, then one each interval."""
    gate = RateGate(100)
    for _ in range(15):
        assert gate.open_at(5.0) == 5.0
        gate.charge(5.0)
    assert gate.open_at(5.0) == 5.01
    assert gate.open_at(9.0) == 9.0
    assert gate.open_at(5.0) == 5.01  # asking about later changes nothing


@given(st.floats(0.01, 1000), st.floats(0, 1e6))
def test_the_gate_opens_when_it_says(rate: float, start: float) -> None:
    """At the time that `open_at` names one may pass: a rounding error never holds it shut."""
    gate = RateGate(rate)
    now = start
    for _ in range(30):
        now = gate.open_at(now)
        assert gate.open_at(now) == now
        gate.charge(now)


def test_no_rate_is_no_limit() -> None:
    """With `None` everything that is due is given at once."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    for key in range(1000):
        scheduler.add(key, KIND, 0.0, FOREVER)
    looks = drive(scheduler, 1.0, scheduler.forget)
    assert [time for time, _ in looks] == [1.0] * 1000


# -- callbacks that want a look ----------------------------------------------------------------


def test_a_hastened_task_is_looked_at_next() -> None:
    """A callback that says that it is over makes its look due at once, before all others; once."""
    scheduler = Scheduler(FixedPolling(10), None, chance(1))
    for key in range(3):
        scheduler.add(key, KIND, 0.0, FOREVER)
    scheduler.hasten(2)
    assert drive(scheduler, 9.0, still_running(scheduler)) == [(0.0, 2)]
    assert drive(scheduler, 10.0, still_running(scheduler)) == [(10.0, 0), (10.0, 1), (10.0, 2)]


def test_a_task_hastened_during_its_look_is_looked_at_again() -> None:
    """What is in the air was asked before the callback came: its reply does not settle it."""
    scheduler = Scheduler(FixedPolling(10), None, chance(1))
    scheduler.add(1, KIND, 0.0, FOREVER)
    assert scheduler.take(10.0) == 1
    scheduler.hasten(1)
    assert scheduler.take(10.0) is None
    scheduler.pending(1, 11.0, 10.0)
    assert scheduler.take(11.0) == 1
    scheduler.pending(1, 11.0, 11.0)
    assert scheduler.next_due() == 21.0


def test_hastened_ones_keep_to_the_rate_and_to_a_pause() -> None:
    """They are looks like all others: the rate holds, and so does a `Retry-After`."""
    scheduler = Scheduler(FixedPolling(60), 2, chance(1))
    for key in range(4):
        scheduler.add(key, KIND, 0.0, FOREVER)
        scheduler.hasten(key)
    assert drive(scheduler, 0.5, scheduler.forget) == [(0.0, 0), (0.5, 1)]
    scheduler.throttled(1, 0.5, 5.0)
    assert scheduler.next_due() == 5.5
    assert [key for _, key in drive(scheduler, 9.0, scheduler.forget)] == [2, 3]


def test_hastening_what_is_unknown() -> None:
    """Nothing comes of it."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    scheduler.hasten(1)
    assert scheduler.next_due() == FOREVER


# -- the order -------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_earliest_due_first(accepted: list[float]) -> None:
    """Tasks are given in the order in which they are due, first come first where that is equal."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    for key, now in enumerate(accepted):
        scheduler.add(key, KIND, now, FOREVER)
    order = []
    while (key_ := scheduler.take(1000.0)) is not None:
        order.append(key_)
    assert order == sorted(range(len(accepted)), key=lambda key: accepted[key] + 1)


def test_nothing_is_given_before_it_is_due() -> None:
    """`take` gives nothing early, nothing twice, and nothing where there is nothing."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    assert scheduler.next_due() == math.inf
    assert scheduler.take(0.0) is None
    scheduler.add(1, KIND, 0.0, FOREVER)
    assert scheduler.next_due() == 1.0
    assert scheduler.take(0.999) is None
    assert scheduler.take(1.0) == 1
    assert scheduler.take(1.0) is None
    assert scheduler.next_due() == math.inf
    assert scheduler.pending(1, 1.5, 1.5) is False
    assert scheduler.next_due() == 2.5


def test_next_due_is_never_in_the_past() -> None:
    """What is overdue is due now, at the latest time that was asked about."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    assert scheduler.take(7.0) is None
    scheduler.add(1, KIND, 0.0, FOREVER)
    assert scheduler.next_due() == 7.0


# -- deadlines -------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    gap=st.floats(0.1, 10),
    patience=st.floats(0, 30),
    replies=st.lists(st.tuples(st.floats(0, 3), st.booleans()), min_size=1, max_size=20),
)
def test_no_task_times_out_without_a_look_after_its_deadline(
    gap: float, patience: float, replies: list[tuple[float, bool]]
) -> None:
    """Time is up only by a look that began at the deadline or later, however slow replies are."""
    scheduler = Scheduler(FixedPolling(gap), None, chance(1))
    assert last_look(scheduler, KIND, patience, replies) >= patience


def test_the_look_at_the_deadline_is_not_late() -> None:
    """A look is due at the deadline itself, even where the gap would pass over it."""
    scheduler = Scheduler(FixedPolling(40), None, chance(1))
    scheduler.add(1, KIND, 0.0, 60.0)
    looks = drive(scheduler, 50.0, still_running(scheduler))
    assert looks == [(40.0, 1)]
    assert scheduler.next_due() == 60.0
    assert scheduler.take(60.0) == 1
    assert scheduler.pending(1, 60.1, 60.1) is True


def test_a_look_that_began_before_the_deadline_does_not_count() -> None:
    """A reply that comes after the deadline, to a look from before it, asks for another look."""
    scheduler = Scheduler(FixedPolling(9.9), None, chance(1))
    scheduler.add(1, KIND, 0.0, 10.0)
    assert scheduler.take(9.9) == 1
    assert scheduler.pending(1, 15.0, 15.0) is False
    assert scheduler.take(15.0) == 1
    assert scheduler.pending(1, 15.1, 15.1) is True


def test_after_the_deadline_unusable_looks_are_repeated() -> None:
    """Time is up after five looks a second apart without a usable answer; none before counts."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    scheduler.add(1, KIND, 0.0, 4.0)
    verdicts: list[bool] = []
    looks = drive(
        scheduler,
        7.0,
        lambda key, now: verdicts.append(scheduler.pending(key, now, None)),
    )
    assert [time for time, _ in looks] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert verdicts == [False] * 7
    assert scheduler.take(8.0) == 1
    assert scheduler.pending(1, 8.0, None) is True


def test_a_usable_look_after_the_deadline_ends_it() -> None:
    """The first usable look after the deadline that finds the task running says: time is up."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    scheduler.add(1, KIND, 0.0, 1.0)
    assert scheduler.take(1.0) == 1
    assert scheduler.pending(1, 1.0, None) is False
    assert scheduler.take(2.0) == 1
    assert scheduler.pending(1, 2.0, 2.0) is True


def test_a_deadline_that_has_passed_is_due_at_once() -> None:
    """A task that is added late gets its look without any gap."""
    scheduler = Scheduler(FixedPolling(30), None, chance(1))
    scheduler.add(1, KIND, 10.0, 5.0)
    assert scheduler.take(10.0) == 1
    assert scheduler.pending(1, 10.0, 10.0) is True


# -- no news ---------------------------------------------------------------------------------


def gaps_of(scheduler: Scheduler, count: int, note: Callable[[float], object]) -> list[float]:
    """Return the gaps after each of so many looks at task 1."""
    gaps = []
    for _ in range(count):
        now = scheduler.next_due()
        assert scheduler.take(now) == 1
        note(now)
        gaps.append(scheduler.next_due() - now)
    return gaps


def test_the_gap_doubles_while_there_is_no_news() -> None:
    """After five looks in a row without a usable answer the gap doubles, up to 30 seconds."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    scheduler.add(1, KIND, 0.0, FOREVER)
    gaps = gaps_of(scheduler, 12, lambda now: scheduler.pending(1, now, None))
    assert gaps == [1, 1, 1, 1, 1, 2, 4, 8, 16, 30, 30, 30]
    assert gaps_of(scheduler, 1, lambda now: scheduler.pending(1, now, now)) == [1]


def test_a_long_gap_is_not_cut_by_the_longest() -> None:
    """Where the policy's own gap is longer than 30 seconds it stays."""
    scheduler = Scheduler(FixedPolling(60), None, chance(1))
    scheduler.add(1, KIND, 0.0, FOREVER)
    assert gaps_of(scheduler, 8, lambda now: scheduler.pending(1, now, None)) == [60] * 8


def test_a_day_without_news_overflows_nothing() -> None:
    """Thousands of looks in a row without an answer are borne: the gap stays the longest."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    scheduler.add(1, KIND, 0.0, FOREVER)
    gaps = gaps_of(scheduler, 3000, lambda now: scheduler.pending(1, now, None))
    assert gaps[-1] == 30


def test_a_429_with_retry_after_holds_for_all() -> None:
    """Nothing is looked at before the time the provider names, then all of it in order."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    for key in (1, 2, 3):
        scheduler.add(key, KIND, 0.0, FOREVER)
    assert scheduler.take(1.0) == 1
    assert scheduler.throttled(1, 1.0, 7.0) is False
    assert scheduler.next_due() == 8.0
    assert scheduler.take(7.9) is None
    assert [scheduler.take(8.0) for _ in range(4)] == [2, 3, 1, None]


def test_a_shorter_retry_after_does_not_cut_a_longer_one() -> None:
    """Of two pauses the later end holds."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    scheduler.add(1, KIND, 0.0, FOREVER)
    scheduler.add(2, KIND, 0.0, FOREVER)
    assert scheduler.take(1.0) == 1
    assert scheduler.take(1.0) == 2
    scheduler.throttled(1, 1.0, 7.0)
    scheduler.throttled(2, 1.0, 0.0)
    assert scheduler.next_due() == 8.0


def test_a_429_without_retry_after_holds_for_one() -> None:
    """Without a time only the task that was turned away waits, for a second at least."""
    scheduler = Scheduler(FixedPolling(0.5), None, chance(1))
    scheduler.add(1, KIND, 0.0, FOREVER)
    scheduler.add(2, KIND, 0.0, FOREVER)
    assert scheduler.take(0.5) == 1
    assert scheduler.throttled(1, 0.5, None) is False
    assert scheduler.take(0.5) == 2
    assert scheduler.next_due() == 1.5


def test_many_a_429_makes_the_gap_double_too() -> None:
    """Being turned away again and again is no news: the pause grows as with any other."""
    scheduler = Scheduler(FixedPolling(0.5), None, chance(1))
    scheduler.add(1, KIND, 0.0, FOREVER)
    gaps = gaps_of(scheduler, 11, lambda now: scheduler.throttled(1, now, None))
    assert gaps == [1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 30]


def test_turned_away_after_the_deadline_time_is_up_at_last() -> None:
    """A 429 after the deadline is repeated like any other unusable look, and not for ever."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    scheduler.add(1, KIND, 0.0, 1.0)
    verdicts: list[bool] = []
    looks = drive(
        scheduler, 5.0, lambda key, now: verdicts.append(scheduler.throttled(key, now, None))
    )
    assert [time for time, _ in looks] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert verdicts == [False, False, False, False, True]


# -- forgetting ------------------------------------------------------------------------------


def test_done_forgets() -> None:
    """A task that is done is never given again, and nothing noted about it brings it back."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    scheduler.add(1, KIND, 0.0, FOREVER)
    scheduler.add(2, KIND, 0.5, FOREVER)
    assert len(scheduler) == 2
    scheduler.forget(1, 1.0)
    scheduler.forget(1, 1.0)
    scheduler.forget(99, 1.0)
    scheduler.done(99, 1.0)
    assert len(scheduler) == 1
    assert scheduler.pending(1, 1.0, 1.0) is False
    assert scheduler.throttled(1, 1.0, None) is False
    assert scheduler.throttled(99, 1.0, 0.0) is False
    assert scheduler.next_due() == 1.5
    assert scheduler.take(9.0) == 2
    assert scheduler.take(9.0) is None


def test_added_again_a_task_starts_anew() -> None:
    """A task that is added while it is looked at has one look, by the new clock and deadline."""
    scheduler = Scheduler(FixedPolling(1), None, chance(1))
    scheduler.add(1, KIND, 0.0, 2.0)
    scheduler.add(1, KIND, 5.0, 50.0)
    assert len(scheduler) == 1
    assert scheduler.next_due() == 6.0
    assert scheduler.take(6.0) == 1
    assert scheduler.pending(1, 6.0, 6.0) is False
    assert scheduler.next_due() == 7.0


@pytest.mark.parametrize("live", [0, 1, 100])
def test_the_heap_follows_what_is_in_flight(live: int) -> None:
    """Tasks that callbacks end long before their look leave nothing behind, the others stay."""
    scheduler = Scheduler(FixedPolling(3600), None, chance(1))
    for key in range(live):
        scheduler.add(key, KIND, float(key), FOREVER)
    for key in range(live, live + 20_000):
        scheduler.add(key, KIND, 0.0, FOREVER)
        scheduler.forget(key, 1.0)
        assert len(scheduler._heap) <= 2 * live + 66
    order = [scheduler.take(1e6) for _ in range(live + 1)]
    assert order == [*range(live), None]


def test_the_heap_stays_small_when_one_task_is_added_for_ever() -> None:
    """Adding the same task again and again leaves no trail either."""
    scheduler = Scheduler(FixedPolling(3600), None, chance(1))
    for turn in range(5000):
        scheduler.add(1, KIND, float(turn), FOREVER)
    assert len(scheduler._heap) <= 66
    assert scheduler.next_due() == 4999.0 + 3600.0


# -- policies of the user's own --------------------------------------------------------------


@pytest.mark.parametrize("gap", [0.0, -5.0, float("nan"), float("-inf")])
def test_a_gap_that_is_none_means_at_once(gap: float) -> None:
    """A policy that names no time to wait makes a look due now: it disturbs no other task."""
    scheduler = Scheduler(Given(gap), 20, chance(1))
    scheduler.add(1, KIND, 5.0, FOREVER)
    scheduler.add(2, KIND, 4.0, FOREVER)
    assert scheduler.next_due() == 4.0
    assert scheduler.take(5.0) == 2
    assert scheduler.pending(2, 5.0, 5.0) is False
    assert scheduler.take(5.0) == 1


def test_a_gap_without_end_leaves_the_deadline() -> None:
    """A policy that never looks is met by the deadline's look; without one there is none."""
    scheduler = Scheduler(Given(math.inf), 10, chance(1))
    scheduler.add(1, KIND, 0.0, 600.0)
    scheduler.add(2, KIND, 0.0, FOREVER)
    assert drive(scheduler, 1e9, scheduler.forget) == [(600.0, 1)]
    assert scheduler.next_due() == math.inf
    scheduler.add(3, KIND, 1000.0, 1000.0)
    assert scheduler.take(1000.0) == 3
