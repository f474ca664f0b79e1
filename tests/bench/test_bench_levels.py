"""Percentiles, rates, what is written down, and the table."""

from __future__ import annotations

import json
from decimal import Decimal

import attrs
import pytest

from fluxflex import Change, TaskRecord
from fluxflex._core.lifecycle import Accepted, Completed, Sent, TaskEvent, TurnedAway, advance
from fluxflex.bench import Level, Spread, table
from fluxflex.bench.levels import rate
from fluxflex.bench.trace import Trace

LEVEL = Level(
    concurrency=16,
    tasks=64,
    seconds=5.0,
    throughput=13.4,
    submit=Spread(0.006, 0.026, 0.031),
    lag=Spread(0.138, 0.263, 0.341),
    picture=Spread(1.02, 1.60, 12.34),
    running=14.5,
    accepted=64,
    completed=62,
    failed=2,
    turned_away=5,
    polls=160,
    errors={"GenerationError": 2},
    spent=Decimal("2.48"),
)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, (1, 1, 1)),
        (2, (1, 2, 2)),
        (20, (10, 19, 20)),
        (100, (50, 95, 99)),
        (200, (100, 190, 198)),
    ],
)
def test_percentiles_are_values_that_were_measured(
    count: int, expected: tuple[float, float, float]
) -> None:
    """The nearest rank, whatever the order in which they came."""
    assert Spread.of([float(n) for n in range(count, 0, -1)]) == Spread(*expected)


def test_nothing_measured_has_no_percentiles() -> None:
    """It is `None`, not zero."""
    assert Spread.of([]) is None


def test_a_rate_leaves_out_the_beginning_and_the_end() -> None:
    """Two slots, a picture in each every second: two a second, as in a long batch."""
    ends = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]
    assert rate(ends, 2, 4.0) == (2.0, True)


@pytest.mark.parametrize(
    ("ends", "concurrency", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], 2, (0.8, False)),  # fewer than three a slot
        ([1.0, 1.0, 1.0], 1, (0.6, False)),  # all at once
        ([], 1, (0.0, False)),
    ],
)
def test_a_rate_of_few_is_that_of_all(
    ends: list[float], concurrency: int, expected: tuple[float, bool]
) -> None:
    """Pictures by seconds, where too few would remain."""
    assert rate(ends, concurrency, 5.0) == expected


def test_a_rate_of_no_time_is_none() -> None:
    """Nothing is divided by nothing."""
    assert rate([1.0], 1, 0.0) == (0.0, False)


def test_a_level_as_json() -> None:
    """Seconds and USD are numbers, and what is derived is there too."""
    found = json.loads(json.dumps(LEVEL.to_dict()))
    assert found["spent_usd"] == 2.48
    assert found["usd_a_picture"] == 0.04
    assert found["polls_a_task"] == 2.5
    assert found["lag"] == {"p50": 0.138, "p95": 0.263, "p99": 0.341}
    assert found["errors"] == {"GenerationError": 2}
    assert "spent" not in found


def test_a_level_without_a_picture_has_no_price_for_one() -> None:
    """Nothing was accepted: there is nothing to divide by."""
    empty = Level(concurrency=1, tasks=1, seconds=0.0, throughput=0.0, accepted=0, completed=0)
    assert empty.usd_a_picture is None
    assert empty.polls_a_task == 0.0
    assert str(empty) == "1 at once: no picture (0 of 1 task in 0.0 s)"
    why = attrs.evolve(empty, errors={"APIConnectionError": 1})
    assert str(why) == "1 at once: no picture (0 of 1 task in 0.0 s, 1 APIConnectionError)"


def test_the_table() -> None:
    """A line a level; columns that are rarely needed are there when they are."""
    above, below, row, *notes = table([LEVEL])
    assert above.split() == [
        "at",
        "pictures",
        "submit,",
        "s",
        "lag,",
        "s",
        "picture,",
        "s",
        "polls",
    ]
    assert below.split() == [
        *("once", "tasks", "a", "second", "p50", "p95", "p99", "p50", "p95", "p99", "p50", "p95"),
        *("a", "task", "429s", "USD", "failed"),
    ]
    assert row.split() == [
        *("16", "64", "13.4", "0.006", "0.026", "0.031", "0.138", "0.263", "0.341", "1.02", "1.60"),
        *("2.50", "5", "2.48", "2"),
    ]
    assert len(below) == len(row)
    assert len(notes) == 1


def test_the_table_says_what_is_missing() -> None:
    """A lag that nobody knows, a level that ended early, submits that are uncertain."""
    level = attrs.evolve(LEVEL, lag=None, cut=True, failed=0, uncertain=3)
    _, below, row, *notes = table([level])
    assert below.split()[-1] == "certain"
    assert row.split()[0] == "16*"
    assert row.split()[6:9] == ["-", "-", "-"]
    assert any("the provider does not say when a task was finished" in note for note in notes)
    assert notes[-1].startswith("* ended early")


# -- how the times are taken ---------------------------------------------------------------------


def tell(trace: Trace, *steps: tuple[TaskEvent, float]) -> None:
    """Let a task that got its slot at 100 s go through these steps."""
    record = TaskRecord(key=1, request=None, created=100.0)
    for event, now in steps:
        after = advance(record, event, now)
        trace(Change(record, after, event))
        record = after


def test_what_is_measured_of_a_task() -> None:
    """Submit ends with the id, pauses included; the picture counts from the slot, too."""
    trace = Trace(lambda _: 0.25)
    tell(
        trace,
        (Sent(), 100.5),
        (TurnedAway(), 101.0),
        (Sent(), 102.0),
        (Accepted("t"), 103.0),
        (Completed("t", ("https://x/",)), 108.0),
    )
    assert trace.submit == Spread(3.0, 3.0, 3.0)
    assert trace.picture == Spread(8.0, 8.0, 8.0)
    assert trace.lag == Spread(0.25, 0.25, 0.25)
    # It ran for 4.75 s at the provider: what came after that was lag.
    assert trace.running(2.0) == 9.5


def test_a_lag_that_nobody_knows_is_none() -> None:
    """Against the provider there is no lag, and no guess at one."""
    trace = Trace(lambda _: None)
    tell(trace, (Sent(), 100.0), (Accepted("t"), 101.0), (Completed("t", ("https://x/",)), 105.0))
    assert trace.lag is None
    assert trace.running(1.0) == 4.0


def test_completed_in_the_reply_to_the_submit() -> None:
    """Such a task has no time at the provider of its own."""
    trace = Trace(lambda _: None)
    tell(trace, (Sent(), 100.0), (Completed("t", ("https://x/",)), 101.0))
    assert trace.submit == trace.picture == Spread(1.0, 1.0, 1.0)
    assert trace.running(1.0) == 0.0
    assert Trace(lambda _: None).running(1.0) == 0.0
