"""The provider takes less than was asked for: all is accepted all the same, with few 429s."""

import asyncio
import json
import time
from collections import deque

import pytest

from fluxflex import AdaptiveConcurrency, ConcurrencyPolicy, FixedConcurrency
from fluxflex._core import window
from fluxflex.simulator import Manual, Simulator
from tests.stories.stage import Scene, Wire, accepted_by, http, session_at, until


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let windows expire, and pauses end, a hundred times as fast."""
    for name in ("_FIRST_PROBE", "_LAST_PROBE", "_FIRST_PAUSE", "_LONGEST_PAUSE"):
        monkeypatch.setattr(window, name, getattr(window, name) / 100)


@pytest.mark.parametrize("retry_after", [None, 0.01])
async def test_fewer_at_once_than_slots(retry_after: float | None) -> None:
    """By the provider's own count never more than it takes, and nothing is bought twice."""
    async with (
        Simulator(durations=0.03, max_in_flight=5, limit_retry_after=retry_after) as sim,
        session_at(sim.url, concurrency=AdaptiveConcurrency(30)) as session,
    ):
        outcomes = await session.map(f"study {n}" for n in range(80)).collect()
        found = session.statistics()
    assert all(outcome.ok for outcome in outcomes)
    assert (len(sim.ledger), sim.ledger.duplicates()) == (80, {})
    assert sim.ledger.max_in_flight <= 5
    assert sim.ledger.posts_received == 80 + found.throttled
    assert found.throttled <= 40
    assert (found.accepted, found.uncertain, found.in_flight) == (80, 0, 0)


async def test_so_many_a_minute() -> None:
    """A rate is met by a window as well: what is too much now is accepted a little later."""
    async with (
        Simulator(durations=0.0, submits_per_minute=20, limit_retry_after=0.02, speed=600) as sim,
        session_at(sim.url, concurrency=AdaptiveConcurrency(30)) as session,
    ):
        outcomes = await session.map(f"study {n}" for n in range(80)).collect()
        found = session.statistics()
    assert all(outcome.ok for outcome in outcomes)
    assert (len(sim.ledger), sim.ledger.duplicates()) == (80, {})
    assert 1 <= found.throttled <= 40
    times = [entry.accepted_at for entry in sim.ledger.entries]
    assert all(late - early >= 60 for early, late in zip(times, times[20:], strict=False))


async def test_never_over_the_ceiling_however_much_the_provider_takes() -> None:
    """The ceiling is the user's word: no limit at the provider's lifts it."""
    async with Simulator(durations=Manual()) as sim:
        session = session_at(sim.url, concurrency=AdaptiveConcurrency(6))
        async with session:
            tasks = [asyncio.create_task(session.submit(f"study {n}")) for n in range(20)]
            await accepted_by(sim, 6)
            assert session.statistics().in_flight == 6
            assert session.statistics().window is None
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await session.aclose(drain=0)
        assert (len(sim.ledger), sim.ledger.max_in_flight) == (6, 6)


async def test_a_raised_limit_is_found_again() -> None:
    """Nobody is told that the provider takes more now: a probe finds out."""
    async with (
        Simulator(durations=0.05, max_in_flight=2) as sim,
        session_at(sim.url, concurrency=AdaptiveConcurrency(20)) as session,
    ):
        batch = asyncio.create_task(session.map(f"study {n}" for n in range(250)).collect())
        await accepted_by(sim, 20)
        assert sim.ledger.max_in_flight == 2
        sim.max_in_flight = 16
        assert all(outcome.ok for outcome in await batch)
    assert 10 <= sim.ledger.max_in_flight <= 16


async def test_a_lowered_limit_is_met() -> None:
    """What runs goes on; nothing is lost while the window falls."""
    async with (
        Simulator(durations=0.03, max_in_flight=16) as sim,
        session_at(sim.url, concurrency=AdaptiveConcurrency(20)) as session,
    ):
        batch = asyncio.create_task(session.map(f"study {n}" for n in range(120)).collect())
        await accepted_by(sim, 50)
        sim.max_in_flight = 3
        await accepted_by(sim, 100)
        learnt = session.statistics().window
        assert learnt is None or learnt <= 16
        assert all(outcome.ok for outcome in await batch)
    assert (len(sim.ledger), sim.ledger.duplicates()) == (120, {})


@pytest.mark.parametrize("policy", [AdaptiveConcurrency(20), FixedConcurrency(20)])
async def test_a_retry_after_holds_back_everybody(policy: ConcurrencyPolicy) -> None:
    """From the first 429 until its time is over no POST at all arrives at the provider."""
    arrivals: deque[tuple[float, str]] = deque()
    refused_at = 0.0

    async def post(scene: Scene) -> None:
        nonlocal refused_at
        prompt = json.loads(scene.body)["prompt"]
        arrivals.append((time.monotonic(), prompt))
        if prompt == "one too many" and not refused_at:
            await scene.say(http({"code": 429, "data": {}}, status=429, Retry_After="0.3"))
            refused_at = time.monotonic()
        else:
            body = {"code": 200, "data": {"status": "processing", "task_id": prompt}}
            await scene.say(http(body))

    async with Wire(post=post) as wire, session_at(wire.url, concurrency=policy) as session:
        await session.submit("first")
        turned_away = asyncio.create_task(session.submit("one too many"))
        await until(lambda: session.statistics().throttled == 1)
        others = [session.submit(f"study {n}") for n in range(10)]
        await asyncio.gather(turned_away, *others)
        assert session.statistics().pauses == 1
    later = [(at, prompt) for at, prompt in arrivals if at > refused_at]
    assert len(later) == 11
    assert min(at for at, _ in later) >= refused_at + 0.29
    if isinstance(policy, AdaptiveConcurrency):
        assert later[0][1] == "one too many"
