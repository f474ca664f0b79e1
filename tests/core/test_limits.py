"""How much at once and how long: values that refuse what makes no sense."""

from __future__ import annotations

import math
import pickle
import random
from typing import Any

import attrs
import pytest

from fluxflex._core.limits import (
    AdaptiveConcurrency,
    ConcurrencyPolicy,
    FixedConcurrency,
    Timeouts,
)

NAMES = [field.name for field in attrs.fields(Timeouts)]


POLICIES: list[type[FixedConcurrency | AdaptiveConcurrency]] = [
    FixedConcurrency,
    AdaptiveConcurrency,
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("ceiling", [1, 32, 100_000])
def test_a_ceiling_is_a_whole_number(
    policy: type[FixedConcurrency | AdaptiveConcurrency], ceiling: int
) -> None:
    """Any number of tasks from one is a ceiling."""
    assert policy(ceiling).ceiling == ceiling


def test_policies_make_a_limiter_for_each_session() -> None:
    """What one session learns is nothing to another."""
    chance = random.Random(0)  # noqa: S311 - jitter
    adaptive = AdaptiveConcurrency(50)
    assert isinstance(adaptive, ConcurrencyPolicy)
    first, second = adaptive.limiter(chance), adaptive.limiter(chance)
    first.refused(0.0, 5, 0.0, None)
    assert (first.window, second.window) == (5, None)
    fixed = FixedConcurrency(50)
    assert isinstance(fixed, ConcurrencyPolicy)
    assert fixed.limiter(chance).ready(1.0, 99, 99) == 1.0


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("ceiling", [0, -1, True, 1.0, 2.5, "8", None, math.nan, math.inf])
def test_what_is_no_ceiling_is_refused(
    policy: type[FixedConcurrency | AdaptiveConcurrency], ceiling: Any
) -> None:
    """Nought, fractions, text and booleans are refused by name."""
    with pytest.raises(ValueError, match="ceiling must be a whole number from 1"):
        policy(ceiling)


def test_the_published_timeouts() -> None:
    """The defaults are those that the documentation names, in seconds."""
    assert attrs.asdict(Timeouts()) == {
        "connect": 10,
        "request": 60,
        "submit": 600,
        "task": 600,
        "adopt": 120,
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seconds", [0.001, 1, 3600.0, math.inf])
def test_any_time_may_be_waited(name: str, seconds: float) -> None:
    """Every timeout is more than nothing; infinity means for ever."""
    assert getattr(Timeouts(**{name: seconds}), name) == seconds


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seconds", [0, -1, math.nan, -math.inf, True, "60", None])
def test_what_is_no_time_is_refused(name: str, seconds: Any) -> None:
    """Nothing, NaN, text and booleans are refused by name."""
    with pytest.raises(ValueError, match=f"{name} must be more than 0 seconds"):
        Timeouts(**{name: seconds})


@pytest.mark.parametrize("value", [FixedConcurrency(8), AdaptiveConcurrency(8), Timeouts(task=30)])
def test_limits_are_values(value: object) -> None:
    """They compare, hash and pickle by value."""
    again = pickle.loads(pickle.dumps(value))  # noqa: S301 - our own bytes
    assert again == value
    assert hash(again) == hash(value)
