"""The concurrency to use: rules over rows, without a loop or a clock."""

from __future__ import annotations

from typing import Any

import pytest

from fluxflex.bench import Level, Spread, advise


def level(concurrency: int, throughput: float, **more: Any) -> Level:
    """Return a level of a hundred tasks, all of them pictures."""
    usual = {"seconds": 10.0, "tasks": 100, "accepted": 100, "completed": 100}
    return Level(concurrency=concurrency, throughput=throughput, **{**usual, **more})


def lag(p95: float) -> Spread:
    """Return a lag of this 95th percentile."""
    return Spread(p50=0.1, p95=p95, p99=p95)


PLATEAU = [level(1, 1.0), level(4, 4.0), level(16, 9.2), level(64, 10.0)]


def test_the_smallest_that_is_as_good_as_the_best() -> None:
    """A level that reaches 90 % of the best is enough; more at once only takes longer."""
    found = advise(PLATEAU)
    assert found is not None
    assert found.concurrency == 16
    assert found.reason == (
        "It makes 9.20 pictures/s, 92 % of what 64 makes (10.0 pictures/s); more at once only "
        "takes longer."
    )
    assert str(found).startswith("Use a concurrency of 16. It makes ")


def test_the_order_in_which_they_were_measured_does_not_matter() -> None:
    """The levels are compared by their concurrency."""
    assert advise(PLATEAU[::-1]) == advise(PLATEAU)


def test_growth_at_the_top_asks_for_more() -> None:
    """Where the throughput still grows the best was not measured yet."""
    found = advise([level(1, 1.0), level(4, 4.0), level(16, 15.0)])
    assert found is not None
    assert found.concurrency == 16
    assert found.reason == (
        "It is the fastest: 15.0 pictures/s. The throughput still grows at the highest level: a "
        "higher one may be faster still (measure 32 and 64)."
    )


def test_a_level_that_is_turned_away_is_too_high() -> None:
    """429s for more than a quarter of the tasks: the limit lies between this level and the last."""
    above = level(64, 20.0, turned_away=500, running=19.6)
    found = advise([level(4, 4.0), level(16, 15.0), above])
    assert found is not None
    assert found.concurrency == 16
    assert found.reason == (
        "It is the fastest level without trouble: 15.0 pictures/s. At 64 (33 % faster) submits "
        "were turned away (429) 500 times; about 20 tasks ran at once. The limit seems to be near "
        "20 at once: measure around it."
    )


def test_a_few_429s_are_no_trouble() -> None:
    """A quarter of the tasks may be turned away once."""
    found = advise([level(4, 4.0), level(16, 15.0, turned_away=25)])
    assert found is not None
    assert found.concurrency == 16
    assert "429" not in found.reason


def test_a_level_that_few_429s_hold_back_is_told() -> None:
    """A session learns the provider's limit from a few: the slots above it stay empty."""
    rows = [level(16, 11.2), level(32, 15.6, turned_away=8, running=16.8)]
    found = advise([*rows, level(64, 16.1, turned_away=8, running=17.1)])
    assert found is not None
    assert str(found) == (
        "Use a concurrency of 32. It makes 15.6 pictures/s, 97 % of what 64 makes (16.1 "
        "pictures/s); more at once only takes longer. After 8 answers of 429 the session kept to "
        "what the provider takes: about 17 tasks ran at once."
    )


def test_a_lag_that_rises_is_trouble() -> None:
    """Pictures that are learnt of late are as good as slow."""
    rows = [level(4, 4.0, lag=lag(0.25)), level(16, 15.0, lag=lag(0.3))]
    found = advise([*rows, level(64, 20.0, lag=lag(2.0))])
    assert found is not None
    assert found.concurrency == 16
    assert (
        "At 64 (33 % faster) pictures are learnt of late: the lag's 95th percentile is 2.00 s, "
        "0.250 s at 4." in found.reason
    )


@pytest.mark.parametrize("high", [0.7, 0.24])
def test_a_lag_rises_by_a_share_and_by_seconds(high: float) -> None:
    """Neither half a second on top of a long lag counts, nor three times next to none."""
    low = 0.24 if high == 0.7 else 0.01
    found = advise([level(4, 4.0, lag=lag(low)), level(16, 15.0, lag=lag(high))])
    assert found is not None
    assert found.concurrency == 16


def test_a_level_that_loses_tasks_is_too_high() -> None:
    """Failed and uncertain tasks cost money and make no picture."""
    found = advise([level(4, 4.0), level(16, 15.0, completed=80, failed=5, uncertain=15)])
    assert found is not None
    assert found.concurrency == 4
    assert "At 16 (275 % faster) 20 of 100 tasks brought no picture." in found.reason


def test_what_fails_everywhere_is_no_matter_of_concurrency() -> None:
    """Only a share of losses above that of the best level counts."""
    found = advise([level(4, 4.0, completed=80), level(16, 15.0, completed=78)])
    assert found is not None
    assert found.concurrency == 16


def test_trouble_everywhere_is_told() -> None:
    """There is an answer all the same, with its reservation."""
    found = advise([level(4, 4.0, turned_away=50, running=1.2), level(8, 4.1, turned_away=900)])
    assert found is not None
    assert found.concurrency == 4
    assert (
        "But at 4 submits were turned away (429) 50 times; about 1 task ran at once: measure "
        "lower ones too." in found.reason
    )


def test_one_level_is_no_comparison() -> None:
    """It is advised, and it is said that nothing else was measured."""
    found = advise([level(4, 4.0)])
    assert found is not None
    assert found.reason == (
        "It is the fastest: 4.00 pictures/s. It is the only one that was measured."
    )


def test_too_few_tasks_are_told() -> None:
    """A level of less than three tasks a slot is slower than a long batch would be."""
    found = advise([level(1, 1.0), level(64, 10.0, steady=False)])
    assert found is not None
    assert found.reason.endswith("which understates their throughput: measure more tasks.")


@pytest.mark.parametrize(
    "rows", [[], [level(4, 4.0, cut=True)], [level(4, 0.0, completed=0, failed=100)]]
)
def test_without_a_whole_level_there_is_no_advice(rows: list[Level]) -> None:
    """What ended early, or made nothing, is no ground to stand on."""
    assert advise(rows) is None


def test_slow_rates_are_told_by_the_minute() -> None:
    """A picture in twenty seconds is three a minute."""
    found = advise([level(1, 0.05)])
    assert found is not None
    assert "3.00 pictures/min" in found.reason
