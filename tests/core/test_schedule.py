"""The poll policies: small frozen values that name the gap to the next look."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxflex._core.schedule import AdaptivePolling, FixedPolling, PollPolicy


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


@pytest.mark.parametrize(
    ("age", "gap"), [(0.0, 0.25), (1.0, 0.25), (2.0, 0.5), (6.0, 1.5), (8.0, 2.0), (1e9, 2.0)]
)
def test_adaptive_gaps_are_a_quarter_of_the_age(age: float, gap: float) -> None:
    """The gap grows with the age, from a quarter of a second to two seconds."""
    assert AdaptivePolling().gap(age) == gap


@given(st.floats(allow_nan=True))
def test_adaptive_gaps_are_bounded_at_any_age(age: float) -> None:
    """Whatever the clock says, the gap stays within its bounds."""
    assert 0.25 <= AdaptivePolling().gap(age) <= 2.0


@pytest.mark.parametrize("policy", [FixedPolling(1.0), AdaptivePolling()])
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
