"""Named runs on real sockets: interrupted in every way, and carried on."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

import fluxflex
from fluxflex import BudgetExceededError, GenerateRequest, TaskState, read_journal
from fluxflex.simulator import Fault, Faults, Manual, Simulator, faults
from fluxflex.simulator.faults import Arrival
from tests.stories.stage import NOTHING, accepted_by, files_in, session_at

PRICE = Decimal("0.04")


class Place:
    """Names pictures by their numbers, and counts how often it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: Counter[int] = Counter()

    def __call__(self, index: int, _: GenerateRequest) -> Path:
        """Return where a picture goes."""
        self.asked[index] += 1
        return self.folder / f"{index + 1:04}"


def give_up() -> None:
    """Leave a batch by an error of the user's own."""
    raise LookupError


@pytest.mark.parametrize("how", ["close", "leave", "stop", "error"])
@pytest.mark.parametrize("seed", range(3))
async def test_interrupted_again_and_again_until_done(tmp_path: Path, seed: int, how: str) -> None:
    """Each prompt is bought once, each picture lies under its number, each number is given once."""
    rng = random.Random(seed)  # noqa: S311 - which moments are rehearsed
    prompts = [f"study {n // 2}" for n in range(30)]  # each twice
    path, folder = tmp_path / "j.db", tmp_path / "out"
    asked = Place(folder)
    outcomes: list[fluxflex.Outcome] = []
    async with Simulator(durations=0.0, seed=seed) as sim:
        for _ in range(99):
            session = session_at(sim.url, journal=path, concurrency=3)
            await session.open()
            most = rng.randint(1, 12)
            try:
                async with session.map(prompts, run="all", save_to=asked) as batch:
                    outcomes = []
                    async for outcome in batch:
                        outcomes.append(outcome)
                        fresh = sum(not one.replayed for one in outcomes)
                        if fresh == most and how == "stop":
                            batch.stop()
                        elif fresh == most and how == "error":
                            give_up()
                        elif fresh == most:
                            break
            except LookupError:
                pass
            await session.aclose(drain=0 if how == "close" else None)
            if len([one for one in outcomes if one.ok]) == 30:
                break
    assert len(outcomes) == 30
    assert len(sim.ledger) == 30
    assert {prompt: len(tasks) for prompt, tasks in sim.ledger.by_prompt().items()} == Counter(
        prompts
    )
    assert sorted(one.number for one in outcomes) == list(range(1, 31))
    assert [each.name for each in files_in(folder)] == [f"{n:04}.png" for n in range(1, 31)]
    assert set(asked.asked.values()) == {1}
    assert {one.path for one in outcomes} == set(files_in(folder))


async def test_an_edited_list_is_carried_on(tmp_path: Path) -> None:
    """Lines moved, removed and added: what was bought stays; only what is new is sent."""
    path, folder = tmp_path / "j.db", tmp_path / "out"
    first = [f"study {n}" for n in range(10)]
    second = ["new one", *reversed(first[3:]), "new two", first[0]]
    async with Simulator(durations=0.0) as sim:
        async with session_at(sim.url, journal=path) as session:
            before = await session.map(first, run="all", save_to=Place(folder)).collect()
        sizes = {each: each.stat().st_mtime_ns for each in files_in(folder)}
        async with session_at(sim.url, journal=path) as session:
            after = await session.map(second, run="all", save_to=Place(folder)).collect()
    assert len(sim.ledger) == 12
    kept = {one.item: (one.number, one.path, one.task_id) for one in before}
    for one in after:
        if one.replayed:
            assert kept[one.item] == (one.number, one.path, one.task_id)
    assert [one.number for one in after if not one.replayed] == [11, 12]
    assert {each: each.stat().st_mtime_ns for each in sizes} == sizes


async def test_a_budget_raised_again_and_again(tmp_path: Path) -> None:
    """It stops, goes on with more, and in the end everything was bought once, within it."""
    path, prompts = tmp_path / "j.db", [f"study {n}" for n in range(20)]
    async with Simulator(durations=0.0) as sim:
        for cents in (0, 10, 10, 33, 79, 80):
            budget = Decimal(cents) / 100
            async with session_at(sim.url, journal=path, budget=budget, concurrency=5) as session:
                if cents < 80:
                    with pytest.raises(BudgetExceededError) as caught:
                        await session.map(prompts, run="all").collect()
                    dropped = [one for one in caught.value.outcomes if not one.ok]
                    assert {one.state for one in dropped} == {TaskState.QUEUED}
                else:
                    outcomes = await session.map(prompts, run="all").collect()
                now = session.statistics()
                assert now.earlier + now.spent + now.reserved <= budget
            assert sim.ledger.billed_usd == budget // PRICE * PRICE
    assert sim.ledger.duplicates() == {}
    assert all(one.ok for one in outcomes)


async def test_what_fails_and_what_is_lost(tmp_path: Path) -> None:
    """Given as they ended, until they are asked for again; every task is paid for once each."""

    def unlucky(arrival: Arrival) -> Fault | None:
        return faults.accept_then_drop() if arrival.number % 5 == 0 else None

    path, prompts = tmp_path / "j.db", [f"study {n}" for n in range(20)]
    async with Simulator(durations=0.0, failure_rate=0.3, seed=3) as sim:
        sim.faults = Faults(submit=unlucky)
        async with session_at(sim.url, journal=path) as session:
            first = await session.map(prompts, run="all").collect()
        sim.faults = Faults()
        posts = sim.ledger.posts_received
        async with session_at(sim.url, journal=path) as session:
            second = await session.map(prompts, run="all").collect()
            assert len(session.uncertain()) == 4
        assert sim.ledger.posts_received == posts == 20
        assert [(one.state, one.task_id) for one in second] == [
            (one.state, one.task_id) for one in first
        ]
        assert Counter(one.state for one in second)[TaskState.UNCERTAIN] == 4
        failed = {one.item for one in first if one.state is TaskState.FAILED}
        assert failed
        async with session_at(sim.url, journal=path) as session:
            third = await session.map(prompts, run="all", again=[TaskState.FAILED]).collect()
        assert {one.item for one in third if not one.replayed} == failed
        assert sim.ledger.posts_received == 20 + len(failed)
        async with session_at(sim.url, journal=path) as session:
            again = {TaskState.UNCERTAIN}
            fourth = await session.map(prompts, run="all", again=again).collect()
            assert session.uncertain() == []
        assert Counter(one.replayed for one in fourth)[False] == 4
        entries = [entry async for entry in read_journal(path)]
        spent = sum((entry.spent for entry in entries), NOTHING)
        assert spent + 4 * PRICE == sim.ledger.billed_usd
        assert sum((entry.reserved for entry in entries), NOTHING) == 4 * PRICE


async def test_resumed_and_mapped_in_one_session(tmp_path: Path) -> None:
    """Tasks that were left are followed once, whoever asks for them, and none is sent again."""
    path, prompts = tmp_path / "j.db", [f"study {n}" for n in range(8)]
    async with Simulator(durations=Manual()) as sim:
        session = session_at(sim.url, journal=path)
        await session.open()
        async with session.map(prompts, run="all"):
            await accepted_by(sim, 8)
        await session.aclose(drain=0)
        async with session_at(sim.url, journal=path, concurrency=2) as session:
            handles = await session.resume()
            batch = asyncio.create_task(session.map(prompts, run="all").collect())
            for task in sim.ledger.entries:
                sim.finish(task.task_id)
            images = await asyncio.gather(*handles)
            outcomes = await batch
            assert session.statistics().in_flight == 0
            assert session.statistics().completed == 8
    assert len(sim.ledger) == 8
    found = sorted(image.task_id for image in images)
    assert sorted(str(one.task_id) for one in outcomes) == found


async def test_a_long_replay_is_lazy_and_sends_nothing(tmp_path: Path) -> None:
    """Memory follows what is in flight: the source is read as outcomes are taken."""
    path, read = tmp_path / "j.db", []

    def source() -> Iterator[str]:
        for n in range(300):
            read.append(n)
            yield f"study {n}"

    async with Simulator(durations=0.0) as sim:
        async with session_at(sim.url, journal=path, concurrency=16) as session:
            await session.map((f"study {n}" for n in range(300)), run="all").collect()
        before = sim.ledger.arrivals.copy()
        async with session_at(sim.url, journal=path, concurrency=16) as session:
            async with session.map(source(), run="all") as outcomes:
                taken = 0
                async for outcome in outcomes:
                    taken += 1
                    assert outcome.replayed
                    assert len(read) <= taken + 17
            assert taken == 300
            image = outcome.image
            assert (await image.read()).startswith(b"\x89PNG")
    gone = sim.ledger.arrivals - before
    assert (gone["submit"], gone["status"], gone["files"]) == (0, 0, 1)
    assert sim.ledger.duplicates() == {}
