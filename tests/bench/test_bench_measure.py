"""Levels measured against the simulator: counts, money and the ways to end early."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from fluxflex import TaskState
from fluxflex.bench import Bench, Conditions, Level
from fluxflex.bench.measure import Measurement
from fluxflex.errors import AuthenticationError, ConfigurationError, InsufficientBalanceError
from fluxflex.simulator import Constant, Manual, Shapes, Simulator

# Tasks that are finished in the reply to their submit: no test waits for a look.
AT_ONCE: dict[str, Any] = {"durations": 0.0, "shapes": Shapes(accepted="already-completed")}


def conditions(simulator: Simulator, **more: Any) -> Conditions:
    """Return conditions with few tasks."""
    chosen: dict[str, Any] = {"tasks": 4, "simulator": simulator, **more}
    return Conditions(api_key="any-key", base_url=simulator.url, **chosen)


async def measured(bench: Bench) -> list[Level]:
    """Return all levels."""
    return [level async for level in bench]


async def test_levels_are_measured_from_the_lowest() -> None:
    """Each once, with as many tasks as asked for, all of them different."""
    async with Simulator(**AT_ONCE) as sim:
        bench = Bench(conditions(sim, fields={"quality": "2K"}), [4, 1, 4])
        levels = await measured(bench)
        assert not sim.ledger.duplicates()
        assert {entry.order.quality for entry in sim.ledger.entries} == {"2K"}
    assert [level.concurrency for level in levels] == [1, 4]
    assert bench.tasks == 8
    assert bench.cost() == Decimal("0.48")
    assert [level.completed for level in levels] == [4, 4]
    assert sum(level.spent for level in levels) == Decimal("0.48")
    assert not any(level.cut for level in levels)
    assert bench.skipped == []


async def test_what_was_polled_has_a_lag() -> None:
    """The simulator tells when a task was finished; its time may run faster than ours."""
    async with Simulator(durations=Constant(0.2), speed=2.0) as sim:
        (level,) = await measured(Bench(conditions(sim, tasks=2), [2]))
    assert level.lag is not None
    assert level.submit is not None
    assert level.picture is not None
    # Due after 0.1 s of ours, and looked at after a quarter: the rest is lag.
    assert 0.1 < level.lag.p50 < level.picture.p50
    assert level.polls_a_task >= 1


async def test_the_lag_is_in_our_seconds() -> None:
    """A simulator that runs twice as fast is late by half as much."""
    now = 0.0
    async with Simulator(durations=10.0, speed=2.0, clock=lambda: now) as sim:
        asked = conditions(sim, tasks=1)
        async with asked.session(1) as session:
            handle = await session.submit("a sea")
            assert handle.task_id is not None
            now = 8.0
            assert asked.since_due(handle.task_id) == 3.0
            await handle
    assert asked.since_due("unknown") is None
    assert Conditions().since_due("any") is None


def test_a_level_has_enough_tasks_for_its_slots() -> None:
    """Four for each, and at least eight, unless the number is given."""
    assert [Conditions().tasks_at(number) for number in (1, 2, 3, 64)] == [8, 8, 12, 256]
    assert Conditions(tasks=5).tasks_at(64) == 5


@pytest.mark.parametrize("levels", [[], [0], [4, -1], ["a"], [1.5], [True], 4, "14"])
def test_levels_are_whole_numbers_from_1(levels: list[int]) -> None:
    """Anything else is refused before anything is sent, and shown."""
    with pytest.raises(ConfigurationError, match="whole numbers from 1"):
        Bench(Conditions(), levels)


async def test_one_budget_for_all_levels() -> None:
    """A level that what is left cannot pay for is not begun."""
    async with Simulator(**AT_ONCE) as sim:
        bench = Bench(conditions(sim), [1, 2, 4], budget=Decimal("0.40"))
        levels = await measured(bench)
        assert sim.ledger.billed_usd == Decimal("0.32")
    assert [level.concurrency for level in levels] == [1, 2]
    assert (bench.skipped, bench.left) == ([4], Decimal("0.08"))


async def test_an_empty_account_ends_it() -> None:
    """The level that it ended is given first, and is marked."""
    async with Simulator(**AT_ONCE, balance_usd=Decimal("0.08")) as sim:
        levels = aiter(Bench(conditions(sim), [1, 2]))
        level = await anext(levels)
        with pytest.raises(InsufficientBalanceError):
            await anext(levels)
    assert (level.completed, level.cut, level.spent) == (2, True, Decimal("0.08"))
    assert level.errors == {"InsufficientBalanceError": 1}


async def test_a_key_that_is_refused_ends_it_with_nothing() -> None:
    """There is no level to give."""
    async with Simulator(api_keys=["another"]) as sim:
        bench = Bench(conditions(sim), [1, 2])
        with pytest.raises(AuthenticationError):
            await measured(bench)


async def test_a_level_without_a_picture_is_the_last() -> None:
    """There is nothing to learn from buying more of the same."""
    async with Simulator(durations=0.0, failure_rate=1.0) as sim:
        bench = Bench(conditions(sim, tasks=2), [2, 4])
        (level,) = await measured(bench)
    assert (level.completed, level.failed) == (0, 2)
    assert level.errors == {"GenerationError": 2}
    assert bench.now is not None
    assert bench.now.states == {TaskState.FAILED: 2}


async def test_stopped_it_ends_with_what_runs() -> None:
    """Nothing more is submitted, no further level begins, and what runs is waited for."""
    async with Simulator(durations=Manual()) as sim:
        bench = Bench(conditions(sim), [2, 4])
        work = asyncio.ensure_future(measured(bench))
        await sim.wait_for(lambda ledger: len(ledger) == 2)
        bench.stop()
        for entry in sim.ledger.entries:
            sim.finish(entry.task_id)
        (level,) = await work
        assert len(sim.ledger) == 2
    assert (level.completed, level.tasks, level.cut) == (2, 4, True)


async def test_stopped_before_it_begins_it_buys_nothing() -> None:
    """Neither before its first level nor while that opens."""
    async with Simulator(**AT_ONCE) as sim:
        bench = Bench(conditions(sim), [2])
        bench.stop()
        assert await measured(bench) == []
        level = Measurement(conditions(sim), 2)
        level.stop()
        found = await level.run()
        assert (found.completed, found.cut) == (0, True)
        assert len(sim.ledger) == 0


async def test_detached_it_does_not_wait() -> None:
    """What runs is let go, and what was measured is given."""
    async with Simulator(durations=Manual()) as sim:
        bench = Bench(conditions(sim), [2])
        work = asyncio.ensure_future(measured(bench))
        await sim.wait_for(lambda ledger: len(ledger) == 2)
        await bench.detach()
        (level,) = await work
    assert (level.completed, level.accepted, level.cut) == (0, 2, True)
    await Bench(Conditions(), [1]).detach()
