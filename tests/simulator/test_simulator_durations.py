"""The law of durations and the chance behind it."""

import math
import statistics

import pytest

from fluxflex.simulator import Constant, Durations, Manual
from fluxflex.simulator.chance import draw
from fluxflex.simulator.contract import Order

PLAIN = Order("p")


def test_the_middle_of_the_law_is_sixteen_seconds() -> None:
    """A plain request takes 16 s in the middle and 25 s at the 95th percentile."""
    law = Durations()
    assert law.seconds(PLAIN, 0.5) == 16.0
    assert round(law.seconds(PLAIN, 0.95)) == 25


def test_drawn_durations_follow_the_law() -> None:
    """Two thousand tasks of a seed have the median and the tail that the law says."""
    law = Durations()
    seconds = sorted(law.seconds(PLAIN, draw(1, "duration", n)) for n in range(2000))
    assert round(statistics.median(seconds)) == 16
    assert round(seconds[1900]) == 25


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        (PLAIN, Order("p", quality="2K")),
        (PLAIN, Order("p", steps=50)),
        (Order("p", steps=4), PLAIN),
        (PLAIN, Order("p", image_urls=("https://a.example/1",))),
        (Order("p", image_urls=("a:b",)), Order("p", image_urls=("a:b", "a:c"))),
    ],
)
def test_more_work_takes_longer(shorter: Order, longer: Order) -> None:
    """Steps, 2K and references each make a task longer, whatever was drawn."""
    law = Durations()
    for drawn in (0.05, 0.5, 0.95):
        assert law.seconds(shorter, drawn) < law.seconds(longer, drawn)


def test_a_constant_and_a_manual_law() -> None:
    """A constant does not depend on anything; a manual law never ends by itself."""
    assert Constant(2.5).seconds(PLAIN, 0.9) == 2.5
    assert Manual().seconds(PLAIN, 0.9) == math.inf


def test_a_negative_duration_is_refused() -> None:
    """A task cannot finish before it was accepted."""
    with pytest.raises(ValueError, match="value"):
        Constant(-1.0)
    with pytest.raises(ValueError, match="median"):
        Durations(median=0)


def test_chance_depends_on_what_is_asked_and_on_nothing_else() -> None:
    """Seed, purpose and number give the same draw always, and another one for any other."""
    assert draw(1, "a", 1) == draw(1, "a", 1)
    assert len({draw(1, "a", 1), draw(2, "a", 1), draw(1, "b", 1), draw(1, "a", 2)}) == 4
    draws = [draw(0, "a", n) for n in range(1000)]
    assert 0 < min(draws) < max(draws) < 1
    assert 0.45 < statistics.fmean(draws) < 0.55
