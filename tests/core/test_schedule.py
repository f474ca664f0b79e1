"""The poll policies, and the schedule that is learnt: when to look next at one task."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxflex._core.durations import Law, LifeTable
from fluxflex._core.schedule import AdaptivePolling, FixedPolling, PollPolicy, Schedule
from tests.core.provider import KIND, chance


@pytest.mark.parametrize("seconds", [0.1, 1, 7.5, 3600.0])
def test_fixed_gaps(seconds: float) -> None:
    """The gap is the same at every age."""
    policy = FixedPolling(seconds)
    assert {policy.gap(age) for age in (0.0, 1.0, 1e6)} == {seconds}


@pytest.mark.parametrize("seconds", [0, 0.0, -1, float("nan"), float("-inf")])
def test_a_fixed_gap_is_more_than_nothing(seconds: float) -> None:
    """An interval that would never let time pass is refused, NaN included."""
    with pytest.raises(ValueError, match="seconds must be more than 0 seconds"):
        FixedPolling(seconds)


@pytest.mark.parametrize("lag_cost", [0, -1.0, float("nan"), math.inf, "1"])
def test_what_a_look_is_worth_is_more_than_nothing(lag_cost: Any) -> None:
    """A cost that would mean to look all the time, or never, is refused."""
    with pytest.raises(ValueError, match="lag_cost must be"):
        AdaptivePolling(lag_cost=lag_cost)


@pytest.mark.parametrize(
    ("in_flight", "cost"),
    [(0, 0.042), (1, 0.042), (12, 0.042), (36, 0.126), (46, 0.16), (10**6, 0.16)],
)
def test_many_in_flight_make_looks_dearer(in_flight: int, cost: float) -> None:
    """With few tasks it counts to be quick, with many the looks add up."""
    assert AdaptivePolling().cost(in_flight) == pytest.approx(cost)
    assert AdaptivePolling(lag_cost=0.5).cost(in_flight) == 0.5


@given(st.floats(allow_nan=True))
def test_gaps_of_the_unknown_are_bounded_at_any_age(age: float) -> None:
    """Whatever the clock says, the gap for a task of unknown age stays within its bounds."""
    assert 0.25 <= AdaptivePolling().gap(age) <= 30.0


def test_gaps_of_the_unknown_grow_with_the_age() -> None:
    """By the square root of what it may still take: about a second at first."""
    policy = AdaptivePolling()
    assert policy.gap(0.0) == math.sqrt(2 * 0.042 * 15)
    assert policy.gap(45.0) == pytest.approx(2 * policy.gap(0.0))
    assert policy.gap(1e9) == 30.0


@pytest.mark.parametrize("policy", [FixedPolling(1.0), AdaptivePolling(), AdaptivePolling(0.1)])
def test_policies_are_values(policy: PollPolicy) -> None:
    """Policies compare, hash and pickle by value, and are what the session takes."""
    again = pickle.loads(pickle.dumps(policy))  # noqa: S301 - our own bytes
    assert again == policy
    assert hash(again) == hash(policy)
    assert isinstance(policy, PollPolicy)
    assert not isinstance(object(), PollPolicy)


def test_an_interval_that_is_no_number_says_so() -> None:
    """Text is refused in words, as a bad number is."""
    seconds: Any = "1"
    with pytest.raises(ValueError, match="seconds must be more than 0"):
        FixedPolling(seconds)


# -- the learned schedule --------------------------------------------------------------------


def ages(schedule: Schedule, scale: float, step: float, until: float) -> list[float]:
    """Return the ages at which a task would be looked at."""
    found, age = [], 0.0
    while (age := schedule.next_age(age, scale, step)) < until:
        found.append(age)
    return found


@given(st.floats(0, 1e5), st.floats(0.1, 7200), st.floats(1e-3, 10))
def test_time_always_goes_on(age: float, scale: float, step: float) -> None:
    """The next look is later than now, at any age and any scale."""
    assert Schedule(LifeTable()).next_age(age, scale, step) > age


@given(st.floats(0, 1e3), st.floats(0.1, 1000), st.floats(0.01, 3), st.floats(0.01, 3))
def test_steps_add_up(age: float, scale: float, one: float, other: float) -> None:
    """It is the inverse of an integral: two steps lead where their sum leads."""
    schedule = Schedule(LifeTable())
    twice = schedule.next_age(schedule.next_age(age, scale, one), scale, other)
    assert twice == pytest.approx(schedule.next_age(age, scale, one + other), rel=1e-6)


def test_the_density_is_the_root_of_the_hazard() -> None:
    """Between two looks the mean of sqrt(h / 2 cost) is one over the gap (Keller 1974)."""
    table, scale, cost = LifeTable(), 20.0, 0.1
    schedule = Schedule(table)
    step = math.sqrt(2 * cost / scale)
    for age in (10.0, 18.0, 21.0, 40.0):
        gap = schedule.next_age(age, scale, step) - age
        places = [age + gap * (n + 0.5) / 400 for n in range(400)]
        density = [math.sqrt(hazard_at(table, at, scale) / (2 * cost)) for at in places]
        assert math.fsum(density) / 400 * gap == pytest.approx(1.0, rel=1e-2)


def hazard_at(table: LifeTable, age: float, scale: float) -> float:
    """Return the hazard of ending, per second."""
    delta = 1e-4

    def passed(at: float) -> float:
        place_of = 30 + 10 * math.asinh(math.log(at / scale) / 0.3)
        return table.passed[int(place_of)] + (place_of % 1) * table.hazards[int(place_of)]

    return (passed(age + delta) - passed(age - delta)) / (2 * delta)


def test_looks_come_where_the_answer_is_likely() -> None:
    """After a hundred tasks of about 20 seconds, looks are dense there and rare elsewhere."""
    law, rng = Law(chance(1)), chance(2)
    for _ in range(100):
        law.ended(KIND, 0.0, 20 * math.exp(rng.gauss(0, 0.1)), exact=True)
    looks = ages(Schedule(law.table), law.scale(KIND), math.sqrt(2 * 0.1 / 20), 60.0)
    assert sum(age < 15 for age in looks) <= 2
    assert sum(15 <= age <= 25 for age in looks) >= 6
    assert looks[0] > 5


def test_what_is_learnt_changes_the_schedule() -> None:
    """A schedule follows its table: the same question has another answer after the news."""
    law = Law(chance(1))
    schedule = Schedule(law.table)
    before = schedule.next_age(0.0, 15.0, 0.5)
    for _ in range(100):
        law.ended(KIND, 0.0, 15.0, exact=True)
    assert schedule.next_age(0.0, 15.0, 0.5) > before
