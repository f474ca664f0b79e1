"""The budget of status requests: the bucket, and what a 429 does to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxflex._core.gate import RateGate


def passed(gate: RateGate, start: float, until: float) -> list[float]:
    """Return when one passed who wanted to all the time."""
    times = []
    now = gate.open_at(start)
    while now < until:
        gate.charge(now)
        times.append(now)
        now = gate.open_at(now)
    return times


def test_a_429_halves_the_rate() -> None:
    """From then on half as many get through, and no burst."""
    gate = RateGate(100)
    gate.cut(10.0)
    assert gate.rate == 50
    assert 45 <= len(passed(gate, 10.0, 11.0)) <= 53


def test_a_salvo_halves_it_once() -> None:
    """What was turned away together counts as one; another a second later counts again."""
    gate = RateGate(100)
    for tenth in range(10):
        gate.cut(10.0 + tenth / 10)
    assert gate.rate == 50
    gate.cut(11.0)
    assert gate.rate == 25


def test_a_minute_later_it_is_back() -> None:
    """The rate grows back by a sixtieth of its full height a second, and no further."""
    gate = RateGate(60)
    gate.cut(0.0)
    assert gate.rate == 30
    passed(gate, 0.0, 10.0)
    assert gate.rate == pytest.approx(40, abs=0.1)
    passed(gate, 10.0, 100.0)
    assert gate.rate == 60


def test_it_never_closes() -> None:
    """However many 429 come, one a second gets through; less only where less was asked for."""
    gate, slow = RateGate(100), RateGate(0.5)
    for second in range(20):
        gate.cut(second * 1.0)
        slow.cut(second * 1.0)
    assert gate.rate == 1
    assert slow.rate == 0.5
    assert len(passed(gate, 20.0, 21.0)) >= 1


def test_without_a_rate_nothing_is_cut() -> None:
    """No budget stays no budget."""
    gate = RateGate(None)
    gate.cut(1.0)
    gate.charge(1.0)
    assert gate.open_at(1.0) == 1.0


@given(st.floats(0.01, 1000), st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60))
def test_the_gate_opens_when_it_says(rate: float, steps: list[tuple[float, bool]]) -> None:
    """At the time that `open_at` names one may pass, whatever is cut; and never above the rate."""
    gate, now = RateGate(rate), 0.0
    for wait, cut in steps:
        now = gate.open_at(now + wait)
        assert gate.open_at(now) == now
        gate.charge(now)
        if cut:
            gate.cut(now)
        assert min(1.0, rate) <= gate.rate <= rate
