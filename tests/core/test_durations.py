"""What durations look like: the life table, and the scale that requests of a kind share."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxflex._core.durations import (
    CELLS,
    EDGES,
    Kind,
    Law,
    LifeTable,
    _between,
    _tail,
    kind_of,
    place,
)
from tests.core.provider import chance

KIND: Kind = ("1K", 9, 0)
SLOW: Kind = ("2K", 9, 0)
AGES = st.floats(1e-6, 1e6)


@pytest.mark.parametrize(
    ("steps", "references", "kind"),
    [
        (None, 0, ("1K", 0, 0)),
        (1, 1, ("1K", 1, 1)),
        (20, 10, ("1K", 10, 10)),
        (21, 11, ("1K", 10, 10)),
        (50, 400, ("1K", 12, 10)),
    ],
)
def test_what_makes_a_kind(steps: int | None, references: int, kind: Kind) -> None:
    """Quality, steps within a factor of about 1.4, and references up to ten."""
    assert kind_of("1K", steps, references) == kind


def test_kinds_are_few() -> None:
    """However requests differ, there is nothing that grows without end."""
    kinds = {
        kind_of(quality, steps, references)
        for quality in ("1K", "2K")
        for steps in (None, *range(1, 51))
        for references in range(100)
    }
    assert len(kinds) <= 300


# -- the life table --------------------------------------------------------------------------


@given(st.floats(-1e3, 1e3))
def test_every_age_has_its_cell(log_age: float) -> None:
    """An age lies in the cell between whose edges it is; outside in the first or the last."""
    cell = int(place(log_age))
    assert 0 <= cell < CELLS
    if EDGES[0] < log_age < EDGES[-1]:
        assert EDGES[cell] - 1e-6 <= log_age <= EDGES[cell + 1] + 1e-6


def test_occurrence_over_exposure() -> None:
    """Where all that enter a cell end in it by half, the hazard comes to that half."""
    table = LifeTable()
    for turn in range(3000):
        if turn % 2:
            table.ended(0.0, 30.999)
        else:
            table.survived(0.0, 40.0)
    assert 0.4 < table.hazards[30] < 0.6
    assert max(table.hazards[:30]) < 0.05


def test_the_unfinished_count() -> None:
    """What lives on lowers the hazard of the cells that it outlived, and of no other."""
    seen, more = LifeTable(), LifeTable()
    for _ in range(200):
        seen.ended(0.0, 31.5)
        more.ended(0.0, 31.5)
        more.survived(0.0, 35.0)
    assert more.hazards[31] < 0.7 * seen.hazards[31]


def test_nothing_is_impossible() -> None:
    """No cell comes to a hazard of nought or to more than one, after a life of a million looks."""
    table = LifeTable()
    for turn in range(100_000):
        table.survived(0.0, 59.0)
        table.ended(59.0, 59.5 if turn % 2 else 59.0)
    assert min(table.hazards) > 0
    assert max(table.hazards) <= 1
    assert all(a < b for a, b in itertools.pairwise(table.passed))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 59.9), st.floats(0, 59.9), st.booleans()), min_size=1, max_size=80
    ),
    st.floats(0, 59.9),
    st.floats(0, 59.9),
    st.floats(0, 0.999),
)
def test_a_draw_lies_in_its_interval(
    seen: list[tuple[float, float, bool]], a: float, b: float, chance: float
) -> None:
    """Whatever was learnt, an end is drawn where it may have been, later for a higher chance."""
    table = LifeTable()
    for one, other, ended in seen:
        (table.ended if ended else table.survived)(min(one, other), max(one, other))
    low, high = min(a, b), max(a, b)
    first, second = table.draw(low, high, chance / 2), table.draw(low, high, chance)
    assert low <= first <= second <= high


# -- the scale -------------------------------------------------------------------------------


def test_nothing_learnt_is_fifteen_seconds() -> None:
    """Before anything is known, a picture of any kind is expected to take 15 seconds."""
    law = Law(chance(1))
    assert law.scale(KIND) == pytest.approx(15.0, rel=1e-12)
    assert law.scale(SLOW) == pytest.approx(15.0, rel=1e-12)


@pytest.mark.parametrize("median", [0.5, 2.0, 40.0, 300.0])
def test_the_scale_is_found(median: float) -> None:
    """A few dozen durations, seen through looks, are enough to come near them."""
    law, rng = Law(chance(1)), chance(2)
    for _ in range(60):
        duration = median * math.exp(rng.gauss(0, 0.2))
        age = 0.0
        while (later := age + 0.1 * median) < duration:
            law.survived(KIND, age, later)
            age = later
        law.ended(KIND, age, later)
    assert median / 1.3 < law.scale(KIND) < median * 1.3


def test_kinds_are_told_apart() -> None:
    """What quality makes slow is learnt for the quality, and holds for steps not seen yet."""
    law = Law(chance(1))
    for _ in range(100):
        law.ended(KIND, 0.0, 10.0, exact=True)
        law.ended(SLOW, 0.0, 40.0, exact=True)
    assert law.scale(KIND) < 12
    assert law.scale(SLOW) > 33
    assert law.scale(("2K", 3, 0)) > 1.5 * law.scale(("1K", 3, 0))


def test_survival_moves_the_scale_up() -> None:
    """Tasks that only ever are found running make durations seem longer, without any end."""
    law = Law(chance(1))
    for turn in range(50):
        before = law.scale(KIND)
        law.survived(KIND, turn * 1.0, turn + 1.0)
        assert law.scale(KIND) >= before
    assert law.scale(KIND) > 20


def test_doubt_has_a_ceiling() -> None:
    """Years without a task of a kind make nobody doubt more than at the very beginning."""
    law = Law(chance(1))
    law.ended(KIND, 14.0, 15.0)
    for _ in range(20_000):
        law.ended(SLOW, 0.0, 15.0, exact=True)
    assert 10 < law.scale(KIND) < 20


def test_no_time_passed_is_no_news() -> None:
    """A look that began before one that is known already teaches nothing."""
    law = Law(chance(1))
    law.survived(KIND, 5.0, 5.0)
    law.survived(KIND, 5.0, 4.0)
    assert law.scale(KIND) == pytest.approx(15.0, rel=1e-12)
    assert law.table.version == LifeTable().version


def test_drift_is_followed() -> None:
    """When the provider becomes three times slower the law follows within some thirty tasks."""
    law = Law(chance(1))
    for _ in range(300):
        law.ended(KIND, 0.0, 10.0, exact=True)
    assert 9 < law.scale(KIND) < 11
    for _ in range(30):
        law.ended(KIND, 0.0, 30.0, exact=True)
    assert law.scale(KIND) > 22


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(AGES, AGES, st.integers(0, 2)), max_size=60), st.integers())
def test_whatever_is_learnt_the_law_stays_sane(
    lives: list[tuple[float, float, int]], seed: int
) -> None:
    """No history makes the scale leave its bounds or a hazard something else than a share."""
    law = Law(chance(seed))
    for a, b, how in lives:
        low, high = min(a, b), max(a, b)
        if how == 0:
            law.survived(KIND, low, high)
        else:
            law.ended(KIND, 0.0 if how == 1 else low, high, exact=seed % 2 == 0)
        assert 0.1 <= law.scale(KIND) <= 7200
    assert all(0 < hazard <= 1 for hazard in law.table.hazards)


def test_the_same_chance_teaches_the_same() -> None:
    """Two laws with equal generators and equal histories are equal."""
    laws = [Law(chance(7)) for _ in range(2)]
    for law in laws:
        for turn in range(40):
            law.ended(KIND, 5.0, 10.0 + turn)
    assert laws[0].scale(KIND) == laws[1].scale(KIND)
    assert laws[0].table.hazards == laws[1].table.hazards


# -- the normal law --------------------------------------------------------------------------


@pytest.mark.parametrize("z", [-7.9, -2.0, 0.0, 1.0, 5.0, 7.9])
def test_what_survival_tells(z: float) -> None:
    """The score is the slope of -ln of the share that survives; the information is its slope."""
    step = 1e-4

    def log_share(at: float) -> float:
        return math.log(math.erfc(at * math.sqrt(0.5)))

    score, information = _tail(z)
    assert score == pytest.approx(
        (log_share(z - step) - log_share(z + step)) / (2 * step), abs=1e-5
    )
    slope = (_tail(z + step)[0] - _tail(z - step)[0]) / (2 * step)
    assert information == pytest.approx(slope, abs=1e-4)


def test_the_asymptotes_meet_the_law() -> None:
    """Far out, where the complement underflows, the score goes on without a jump."""
    assert _tail(8.0)[0] == pytest.approx(_tail(8.001)[0], abs=0.01)
    assert _tail(1e6) == (1e6 + 1e-6, 1.0)
    assert _tail(-8.0)[0] == pytest.approx(0.0, abs=1e-12)
    assert _tail(-1e6) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("a", "b"), [(-1.0, 1.0), (0.0, 3.0), (-3.0, 0.5), (2.0, 2.5), (-9.0, -1.0), (1.0, 1.01)]
)
def test_what_an_interval_tells(a: float, b: float) -> None:
    """Score and information are the mean within it, and what its variance lacks of one."""
    points = [a + (b - a) * (n + 0.5) / 4000 for n in range(4000)]
    weights = [math.exp(-z * z / 2) for z in points]
    mean = sum(w * z for w, z in zip(weights, points, strict=True)) / sum(weights)
    square = sum(w * z * z for w, z in zip(weights, points, strict=True)) / sum(weights)
    score, information = _between(a, b)
    assert score == pytest.approx(mean, abs=1e-3)
    assert information == pytest.approx(1 - (square - mean * mean), abs=1e-3)


@given(st.floats(-1e4, 1e4), st.floats(0, 1e4))
def test_any_interval_tells_something_finite(a: float, width: float) -> None:
    """Neither narrow intervals nor far ones divide by nothing."""
    score, information = _between(a, a + width)
    assert a - 1 <= score <= a + width + 1
    assert -1e-3 <= information <= 1.001
