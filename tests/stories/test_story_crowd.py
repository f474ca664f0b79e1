"""Many tasks at once: the ceiling holds, the source is read lazily, memory follows the slots."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from fluxflex import Change, Outcome, TaskHandle
from fluxflex.simulator import Fault, Faults, Manual, Simulator, faults
from fluxflex.simulator.faults import Arrival
from tests.stories.stage import accepted_by, session_at

MANY, CEILING = 2000, 400


def living() -> Counter[str]:
    """Count the handles and outcomes that are still in memory."""
    gc.collect()
    kinds = (TaskHandle, Outcome)
    return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds))


async def test_two_thousand_prompts_at_four_hundred_slots() -> None:
    """All complete, never more in flight than slots, and nothing piles up on the way."""
    read = given = ahead = busiest = 0
    seen: list[Counter[str]] = []

    def prompts() -> Iterator[str]:
        nonlocal read, ahead
        for number in range(MANY):
            read += 1
            ahead = max(ahead, read - given)
            yield f"study {number}"

    def watch(_: Change) -> None:
        nonlocal busiest
        busiest = max(busiest, session.statistics().in_flight)

    indexes = set()
    async with Simulator(durations=0.0, balance_usd=Decimal(1000)) as sim:
        session = session_at(sim.url, concurrency=CEILING, on_event=watch)
        async with session, session.map(prompts()) as outcomes:
            async for outcome in outcomes:
                given += 1
                assert outcome.ok
                indexes.add(outcome.index)
                if given in {500, 1900}:
                    seen.append(living())
        after = session.statistics()
    assert indexes == set(range(MANY))
    assert sim.ledger.posts_received == len(sim.ledger) == MANY
    assert sim.ledger.duplicates() == {}
    assert ahead <= CEILING + 1
    assert busiest <= CEILING
    assert sim.ledger.peak_posts <= CEILING
    assert (after.completed, after.in_flight) == (MANY, 0)
    assert after.spent == sim.ledger.billed_usd == MANY * Decimal("0.04")
    for count in seen:
        assert count["TaskHandle"] <= CEILING + 1
        assert count["Outcome"] <= CEILING + 1


async def test_never_more_tasks_than_slots_at_the_provider() -> None:
    """By the provider's own count as many tasks run as there are slots, and no more."""
    async with (
        Simulator(durations=Manual()) as sim,
        session_at(sim.url, concurrency=8) as session,
        session.map(f"study {number}" for number in range(40)) as outcomes,
    ):
        for finished in range(40):
            await accepted_by(sim, min(40, finished + 8))
            assert session.statistics().in_flight <= 8
            sim.finish(sim.ledger.entries[finished].task_id)
            assert (await anext(aiter(outcomes))).ok
    assert sim.ledger.max_in_flight == 8
    assert sim.ledger.posts_received == 40


async def test_several_verbs_share_the_slots() -> None:
    """The ceiling holds over everything the session does, not for each batch."""
    async with Simulator(durations=Manual()) as sim, session_at(sim.url, concurrency=3) as session:
        first = asyncio.create_task(session.map(["a", "b", "c", "d"]).collect())
        second = asyncio.create_task(session.map(["e", "f", "g", "h"]).collect())
        third = asyncio.create_task(session.generate("i"))
        for finished in range(9):
            await accepted_by(sim, min(9, finished + 3))
            sim.finish(sim.ledger.entries[finished].task_id)
        outcomes = await first + await second
        await third
    assert all(outcome.ok for outcome in outcomes)
    assert sim.ledger.max_in_flight == 3
    assert set(sim.ledger.by_prompt()) == set("abcdefghi")


def _half(arrival: Arrival) -> Fault | None:
    """Spoil every second look, each in another way: by chance, but the same in every run."""
    kinds = [
        faults.gateway(502),
        faults.reset(),
        faults.rate_limited(retry_after=0.001),
        faults.unreadable(),
        None,
        None,
        None,
        None,
    ]
    return kinds[arrival.number * 2654435761 % 2**32 >> 29]


async def test_half_of_all_looks_broken_lose_nothing() -> None:
    """A look that went wrong is no news about the task: nothing fails, nothing is bought again."""
    async with (
        Simulator(durations=0.01, faults=Faults(status=_half)) as sim,
        session_at(sim.url, concurrency=50) as session,
    ):
        outcomes = await session.map(f"study {number}" for number in range(200)).collect()
        after = session.statistics()
    assert [outcome.error for outcome in outcomes if not outcome.ok] == []
    assert [outcome.index for outcome in outcomes] == list(range(200))
    assert sim.ledger.posts_received == len(sim.ledger) == 200
    assert after.spent == sim.ledger.billed_usd
    assert after.polls >= 300
