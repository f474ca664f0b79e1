"""Whom the order of completion lets wait: the frontier, its width, and samples from behind it."""

from __future__ import annotations

import math

import attrs
from hypothesis import given
from hypothesis import strategies as st

from fluxflex._core.order import Order
from tests.core.provider import chance


@attrs.define(eq=False)
class Task:
    """What stands in the order."""

    turn: int


def line(count: int) -> tuple[Order[Task], list[Task]]:
    """Return an order of so many tasks, and the tasks."""
    order: Order[Task] = Order()
    tasks = [Task(turn) for turn in range(count)]
    for task in tasks:
        order.add(task)
    return order, tasks


def test_without_an_order_all_are_looked_at() -> None:
    """Until enough have ended there is no frontier: nobody waits, and nobody is sampled."""
    order, tasks = line(100)
    for task in tasks[:7]:
        assert order.ended(task) == []
    assert order.width == math.inf
    assert order.outside == 0
    assert order.has(tasks[99])
    assert len(order) == 93


def test_ends_in_order_make_a_frontier() -> None:
    """Where the oldest always ends first, only the next few are looked at."""
    order, tasks = line(100)
    for task in tasks[:8]:
        order.ended(task)
    assert order.width == 5
    assert order.outside == 92 - 5
    assert order.has(tasks[12])
    assert not order.has(tasks[13])
    assert order.ended(tasks[8]) == [tasks[13]]
    assert order.has(tasks[13])


def test_a_rank_makes_room_for_half_as_many_again() -> None:
    """The frontier is 1.5 times as wide as the highest of the latest ranks, and five more."""
    order, tasks = line(100)
    for task in tasks[10:18]:
        order.ended(task)
    assert order.width == 20


def test_an_end_behind_the_frontier_doubles_it_at_once() -> None:
    """All that come into it by that are returned, so that they are looked at."""
    order, tasks = line(400)
    for task in tasks[:8]:
        order.ended(task)
    assert order.width == 5
    came = order.ended(tasks[100])
    assert order.width == 1.5 * 92 + 5
    turns = [task.turn for task in came]
    assert sorted(turns) == [turn for turn in range(13, 152) if turn != 100]


def test_it_widens_by_so_many_at_once() -> None:
    """However far behind the frontier a task ends, two hundred come in by it, no more."""
    order, tasks = line(5000)
    for task in tasks[:8]:
        order.ended(task)
    for times in range(1, 4):
        came = order.ended(tasks[-times])
        assert order.width == 5 + 200 * times
        assert len(came) == 200
        assert order.has(came[-1])
    assert order.last == max(task.turn for task in came)


def test_a_long_line_is_kept_in_blocks() -> None:
    """Ranks, samples and who comes in are the same, however many came and went before."""
    order, tasks = line(3000)
    for task in tasks[:2500]:
        order.drop(task)
    for task in tasks[2500:2508]:
        assert order.ended(task) == []
    assert order.width == 5
    assert order.ended(tasks[2508]) == [tasks[2513]]
    late = Task(0)
    order.add(late)
    assert late.turn == 3000
    for task in tasks[2509:]:
        order.drop(task)
    assert order.has(late)
    assert order.ended(late) == []
    assert len(order) == 0


def test_the_oldest_are_of_the_frontier() -> None:
    """Those that were added first, in their order, so many at most."""
    order, tasks = line(3000)
    assert order.oldest(2000) == tasks[:2000]
    for task in tasks[:8]:
        order.ended(task)
    assert order.oldest(2000) == tasks[8:13]
    assert order.oldest(3) == tasks[8:11]
    assert max(order.sample(chance(seed)).turn for seed in range(20)) > 2048


def test_it_narrows_only_by_a_leap() -> None:
    """A little less is no reason to change; once ranks are forgotten it becomes narrow again."""
    order, tasks = line(400)
    for task in tasks[20:28]:
        order.ended(task)
    wide = order.width
    assert wide == 35
    for task in tasks[:20]:
        order.ended(task)
    assert order.width == wide
    for task in tasks[28:60]:
        order.ended(task)
    assert order.width == 5


def test_few_in_flight_teach_no_order() -> None:
    """With fewer than eight running the rank says nothing."""
    order, tasks = line(7)
    for task in tasks:
        order.ended(task)
    assert order.width == math.inf


def test_dropped_ones_make_room_too() -> None:
    """Who is let go without an end teaches nothing, but the next one comes in."""
    order, tasks = line(100)
    for task in tasks[:8]:
        order.ended(task)
    assert order.drop(tasks[50]) == []
    assert order.drop(tasks[9]) == [tasks[13]]
    assert order.width == 5


@given(st.integers())
def test_samples_come_from_behind(seed: int) -> None:
    """Every task behind the frontier may be sampled, and no other."""
    order, tasks = line(40)
    for task in tasks[:8]:
        order.ended(task)
    rng = chance(seed)
    turns = {order.sample(rng).turn for _ in range(300)}
    assert turns <= set(range(13, 40))
    assert len(turns) > 15


@given(st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), max_size=300))
def test_the_frontier_is_always_the_oldest(steps: list[tuple[int, bool]]) -> None:
    """However tasks end or are dropped: who has a place is older than all who have none.

    And nobody comes in without being told, unless there is no frontier.
    """
    order, tasks = line(120)
    for pick, ends in steps:
        if not tasks:
            break
        task = tasks.pop(pick % min(len(tasks), 9 if ends else 200))
        before = order.width
        inside = {other.turn for other in tasks if order.has(other)}
        came = order.ended(task) if ends else order.drop(task)
        places = [order.has(other) for other in tasks]
        assert places == sorted(places, reverse=True)
        assert sum(places) == min(order.width, len(tasks))
        told = {other.turn for other in came}
        if math.isfinite(before):
            after = {other.turn for other in tasks if order.has(other)}
            assert after <= inside | told
