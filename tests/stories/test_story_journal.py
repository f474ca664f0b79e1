"""The journal on real sockets and a real disk: what a kill in any moment would leave."""

import asyncio
import logging
import pickle
import random
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import fluxflex
from fluxflex import (
    BudgetExceededError,
    FluxFlexError,
    JournalEntry,
    SubmitUncertainError,
    TaskState,
    read_journal,
)
from fluxflex.errors import ConfigurationError, JournalError
from fluxflex.simulator import Fault, Faults, Manual, Simulator, faults
from fluxflex.simulator.faults import Arrival
from tests.aio.disk import copied, glimpse, money
from tests.stories.stage import (
    KEY,
    NOTHING,
    PICTURE,
    Relay,
    Wire,
    accepted,
    accepted_by,
    completed,
    files_in,
    finish,
    http,
    mixed,
    says,
    session_at,
    settled,
)

PRICE = Decimal("0.04")


async def entries_of(path: Path) -> list[JournalEntry]:
    """Return the entries of a journal."""
    return [entry async for entry in read_journal(path)]


def the_store(session: fluxflex.Session) -> Any:
    """Return the open file of a session."""
    return session._remembered._store


# -- the order on disk ------------------------------------------------------------------------


async def test_every_attempt_of_a_429_series_is_on_disk_before_its_bytes(tmp_path: Path) -> None:
    """When a POST arrives its row is `SENDING`, with as many attempts as have arrived."""
    path, seen = tmp_path / "j.db", []

    def look(arrival: Arrival) -> Fault | None:
        prompt = str(arrival.payload["prompt"])
        [row] = [
            row
            for row in glimpse(path, tmp_path / f"at {arrival.number}")
            if prompt in str(row["request"])
        ]
        seen.append((prompt, row["state"], row["attempts"], money(row["reserved"])))
        return faults.rate_limited() if arrival.number % 4 else None

    async with Simulator(durations=0.0) as sim:
        sim.faults = Faults(submit=look)
        async with session_at(sim.url, journal=path, concurrency=1) as session:
            for prompt in ("first", "second"):
                await session.generate(prompt)
    expected = [(p, "SENDING", n, PRICE) for p in ("first", "second") for n in range(1, 5)]
    assert seen == expected
    assert [entry.attempts for entry in await entries_of(path)] == [4, 4]


async def test_many_at_once_are_on_disk_each_before_its_bytes(tmp_path: Path) -> None:
    """Group commit changes nothing about it: no POST arrives whose intent a kill would lose."""
    path, missing = tmp_path / "j.db", []

    def look(arrival: Arrival) -> Fault | None:
        prompt = f'"{arrival.payload["prompt"]}"'
        states = {
            row["state"]
            for row in glimpse(path, tmp_path / f"at {arrival.number}")
            if prompt in str(row["request"])
        }
        if states != {"SENDING"}:
            missing.append((prompt, states))
        return None

    async with Simulator(durations=0.0) as sim:
        sim.faults = Faults(submit=look)
        async with session_at(sim.url, journal=path, concurrency=16) as session:
            outcomes = await session.map([f"study {n}" for n in range(48)]).collect()
    assert missing == []
    assert all(outcome.ok for outcome in outcomes)


async def test_no_look_asks_for_an_id_that_is_not_on_disk(tmp_path: Path) -> None:
    """By the time anybody was told an id, a kill would find it again."""
    path = tmp_path / "j.db"
    told: list[bool] = []

    def hear(change: fluxflex.Change) -> None:
        if change.names:
            ids = {row["task_id"] for row in glimpse(path, tmp_path / f"told {len(told)}")}
            told.append(change.after.task_id in ids)

    async with (
        Simulator(durations=0.0) as sim,
        session_at(sim.url, journal=path, on_event=hear, concurrency=4) as session,
    ):
        handles = await asyncio.gather(*(session.submit(str(n)) for n in range(12)))
        ids = {row["task_id"] for row in glimpse(path, tmp_path / "submitted")}
        assert {handle.task_id for handle in handles} <= ids
        await asyncio.gather(*handles)
    assert told == [True] * 12


async def test_a_caller_who_is_gone_leaves_the_id_on_disk(tmp_path: Path) -> None:
    """Cancelled with the POST in the air, the task is known to the next session."""
    path = tmp_path / "j.db"
    async with Simulator(durations=Manual()) as sim, Relay(sim.url) as relay:
        session = session_at(relay.url, journal=path)
        await session.open()
        relay.hold()
        submit = asyncio.create_task(session.submit("a lighthouse"))
        await accepted_by(sim, 1)
        submit.cancel()
        await asyncio.wait([submit])
        relay.let_go()
        await settled(session)
        await session.aclose(drain=0)
        async with session_at(sim.url, journal=path) as session:
            [handle] = await session.resume()
            finish(sim, handle)
            assert (await handle).task_id == sim.ledger.entries[0].task_id
    assert len(sim.ledger) == 1


# -- kills ------------------------------------------------------------------------------------


class Death:
    """Kills a session when so many POSTs have arrived: what is on disk then goes to its grave.

    From then on the dead buy nothing, but the one that was on its way.
    """

    def __init__(self, home: Path, grave: Path, *, after: int, torn: bool) -> None:
        self.grave = grave
        self._home, self._after, self._torn = home, after, torn
        self._count = 0

    @property
    def came(self) -> bool:
        """Whether it did."""
        return self._count >= self._after

    def __call__(self, arrival: Arrival) -> Fault | None:
        """Let a POST through, or not."""
        self._count += 1
        if self._count == self._after:
            copied(self._home / "j.db", self.grave)
            log = self.grave / "j.db-wal"
            if self._torn:
                log.write_bytes(log.read_bytes()[:-4096])
        dead = self._count > self._after
        return faults.reset() if dead or arrival.number % 7 == 0 else None


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("seed", range(4))
async def test_killed_at_any_arrival_nothing_is_bought_twice(
    tmp_path: Path, seed: int, *, torn: bool
) -> None:
    """What a kill leaves carries on: all that was accepted is known, or reported uncertain."""
    rng = random.Random(seed)  # noqa: S311 - which moments are rehearsed
    prompts = [f"study {n}" for n in range(24)]
    place = tmp_path / "0"
    place.mkdir()
    async with Simulator(durations=0.0, seed=seed) as sim:
        for life in range(1, 40):
            death = Death(place, tmp_path / str(life), after=rng.randint(1, 9), torn=torn)
            sim.faults = Faults(submit=death)
            session = session_at(
                sim.url,
                journal=place / "j.db",
                concurrency=4,
                retry=fluxflex.RetryPolicy(attempts=1),
            )
            await session.open()
            async with session.map(prompts, run="all") as outcomes:
                with suppress(FluxFlexError):
                    got = [outcome async for outcome in outcomes]
            await session.aclose()
            if not death.came:
                break
            place = death.grave
        sim.faults = Faults()
    assert sim.ledger.duplicates() == {}
    entries = await entries_of(place / "j.db")
    known = {entry.task_id for entry in entries if entry.task_id}
    unsure = {
        entry.request.prompt
        for entry in entries
        if entry.state is TaskState.UNCERTAIN and entry.request
    }
    for prompt, [task] in sim.ledger.by_prompt().items():
        assert task.task_id in known or prompt in unsure
    assert {outcome.number for outcome in got} == set(range(1, 25))
    spent = sum((entry.spent + entry.reserved for entry in entries), NOTHING)
    assert spent >= sim.ledger.billed_usd


async def test_a_killed_session_s_pictures_are_all_found(tmp_path: Path) -> None:
    """Every task that was accepted before the kill is given by `resume`, with its picture."""
    async with Simulator(durations=Manual()) as sim:
        session = session_at(sim.url, journal=tmp_path / "j.db")
        await session.open()
        handles = [await session.submit(f"study {n}") for n in range(6)]
        finish(sim, *handles[:2])
        await asyncio.gather(*handles[:2])
        dead = copied(tmp_path / "j.db", tmp_path / "dead")
        await session.aclose(drain=0)
        async with session_at(sim.url, journal=dead) as session:
            again = await session.resume()
            assert [one.task_id for one in again] == [one.task_id for one in handles]
            finish(sim, *handles[2:])
            images = await asyncio.gather(*again)
            assert all([(await image.read()).startswith(b"\x89PNG") for image in images])
            assert await session.resume() == []
            assert session.statistics().earlier == 6 * PRICE
    assert len(sim.ledger) == 6
    assert [each.name for each in files_in(dead.parent)] == ["j.db"]


async def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """What is on disk carries on whatever the clock says."""
    path = tmp_path / "j.db"
    async with Simulator(durations=Manual()) as sim:
        session = session_at(sim.url, journal=path)
        await session.open()
        left = await session.submit("a lighthouse")
        await session.aclose(drain=0)
        async with session_at(sim.url, journal=path) as session:
            session._remembered._journal._wall = lambda: 1000.0
            [handle] = await session.resume()
            finish(sim, handle)
            await handle
    assert handle.task_id == left.task_id
    [entry] = await entries_of(path)
    assert (entry.state, entry.ended_at) == (TaskState.COMPLETED, 1000.0)


# -- a disk that fails ------------------------------------------------------------------------


async def test_a_full_disk_stops_the_buying_and_keeps_what_was_bought(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing new is sent; what runs is followed, and its ids are in the file."""
    path = tmp_path / "j.db"
    async with Simulator(durations=Manual()) as sim:
        async with session_at(sim.url, journal=path) as session:
            handles = [await session.submit(f"study {n}") for n in range(3)]
            [[pages]] = await the_store(session).fetch("PRAGMA page_count")
            await the_store(session).fetch(f"PRAGMA max_page_count = {pages}")

            async def buy_on() -> None:
                while True:
                    handles.append(await session.submit("a long one " + "x" * 3000))

            with pytest.raises(JournalError, match="disk is full"):
                await buy_on()
            posts = sim.ledger.posts_received
            assert posts == len(handles) == len(sim.ledger)
            with pytest.raises(JournalError):
                await session.generate("another")
            with pytest.raises(JournalError) as caught:
                await session.map(["a", "b"], run="r").collect()
            assert {outcome.state for outcome in caught.value.outcomes} == {TaskState.QUEUED}
            finish(sim, *handles)
            assert len(await asyncio.gather(*handles)) == len(handles)
            assert sim.ledger.posts_received == posts
            await the_store(session).fetch("PRAGMA max_page_count = 99999")
        entries = await entries_of(path)
    bought = {entry.task_id for entry in entries if entry.task_id}
    assert bought == {handle.task_id for handle in handles}
    assert {entry.state for entry in entries} <= {TaskState.COMPLETED, TaskState.QUEUED}
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1


async def test_a_broken_file_stops_the_buying(tmp_path: Path) -> None:
    """A connection that is gone: the error in words, and the picture that was paid for."""
    path = tmp_path / "j.db"
    async with Simulator(durations=Manual()) as sim:
        session = session_at(sim.url, journal=path)
        await session.open()
        handle = await session.submit("a lighthouse")
        await the_store(session)._connection.close()
        with pytest.raises(JournalError, match="cannot be written"):
            await session.submit("another")
        finish(sim, handle)
        assert (await (await handle).read()).startswith(b"\x89PNG")
        await session.aclose()
        assert sim.ledger.posts_received == 1
        async with session_at(sim.url, journal=path) as session:
            [again] = await session.resume()
            assert again.task_id == handle.task_id


async def test_two_sessions_on_one_file(tmp_path: Path) -> None:
    """The second is refused at once, and the first goes on."""
    path = tmp_path / "j.db"
    async with Simulator(durations=0.0) as sim:
        async with session_at(sim.url, journal=path) as session:
            for _ in range(2):
                with pytest.raises(JournalError, match="in use"):
                    await session_at(sim.url, journal=path).open()
                with pytest.raises(JournalError, match="in use"):
                    await entries_of(path)
            await session.generate("a lighthouse")
        async with session_at(sim.url, journal=path):
            pass
    assert len(await entries_of(path)) == 1


# -- money ------------------------------------------------------------------------------------


async def test_the_books_of_many_sessions_are_the_provider_s(tmp_path: Path) -> None:
    """Over any number of sessions earlier, spent and reserved are what was or may be billed."""
    path, total = tmp_path / "j.db", NOTHING
    async with Simulator(durations=0.0, failure_rate=0.2, seed=7) as sim:
        sim.faults = Faults(submit=mixed)
        for life in range(4):
            async with session_at(sim.url, journal=path, concurrency=6) as session:
                assert session.statistics().earlier == total
                await session.map(
                    [
                        {"prompt": f"study {life} {n}", "quality": "2K" if n % 3 else "1K"}
                        for n in range(30)
                    ]
                ).collect()
                now = session.statistics()
                total += now.spent + now.reserved
    entries = await entries_of(path)
    assert sum((one.spent + one.reserved for one in entries), NOTHING) == total
    known = {one.task_id: one for one in entries if one.task_id}
    for task in sim.ledger.entries:
        if task.task_id in known:
            assert known[task.task_id].spent == task.price
    lost = sum((one.price for one in sim.ledger.entries if one.task_id not in known), NOTHING)
    spent = sum((one.spent for one in entries), NOTHING)
    assert lost > 0
    assert spent == sim.ledger.billed_usd - lost
    assert total >= sim.ledger.billed_usd
    assert all(one.reserved == 0 for one in entries if one.state is TaskState.QUEUED)


async def test_one_budget_over_many_sessions(tmp_path: Path) -> None:
    """However often it is opened, a journal's budget is spent once."""
    path = tmp_path / "j.db"
    async with Simulator(durations=0.0) as sim:
        sim.faults = Faults(submit=mixed)
        for _ in range(6):
            async with session_at(sim.url, journal=path, budget="0.30", concurrency=3) as session:
                with suppress(BudgetExceededError):
                    await session.map([f"study {n}" for n in range(40)]).collect()
        assert sim.ledger.billed_usd <= Decimal("0.30")
        async with session_at(sim.url, journal=path, budget="0.30") as session:
            assert session.statistics().earlier > Decimal("0.26")
            with pytest.raises(BudgetExceededError):
                await session.generate("one more")


async def test_a_price_that_no_table_has_is_asked_for_once() -> None:
    """One dry run per distinct setting, and the budget is kept with what it says."""
    async with Simulator(durations=0.0) as sim:
        settings: dict[str, Any] = {"api": "v1", "prices": {}, "budget": "0.50", "concurrency": 6}
        async with session_at(sim.url, **settings) as session:
            items = [{"prompt": f"study {n}", "quality": "2K" if n % 2 else "1K"} for n in range(8)]
            outcomes = await session.map(items).collect()
            assert all(outcome.ok for outcome in outcomes)
            assert (
                session.statistics().spent == sim.ledger.billed_usd == 4 * PRICE + Decimal("0.24")
            )
            assert sim.ledger.dry_runs == 2
            await session.generate("one more")
            with pytest.raises(BudgetExceededError):
                await session.map([f"more {n}" for n in range(9)], quality="2K").collect()
        assert sim.ledger.dry_runs == 2
        assert sim.ledger.billed_usd <= Decimal("0.50")


async def test_a_price_that_nobody_says_is_refused() -> None:
    """The first generation has no dry run: under a budget nothing is sent."""
    async with Simulator() as sim, session_at(sim.url, prices={}, budget=5) as session:
        with pytest.raises(ConfigurationError, match="No price is known"):
            await session.generate("a lighthouse")
    assert sim.ledger.posts_received == 0


# -- secrets ----------------------------------------------------------------------------------


async def test_no_file_has_a_secret(tmp_path: Path) -> None:
    """Not the key, however the provider repeats it; not a callback's token; nor a header."""
    echo = {"key": KEY, "authorization": f"Bearer {KEY}", "input": {"prompt": "a"}}
    look = says(http(completed("http://127.0.0.1:9/p.png") | {"echo": echo}))
    replies = iter(
        [
            http(accepted() | {"echo": echo}),
            http({"code": 422, "data": {"code": "bad", "message": f"no {KEY}"}}, 422),
            http(f"<html>{KEY}</html>".encode(), 502, "text/html"),
        ]
    )

    async def post(scene: Any) -> None:
        await scene.say(next(replies))

    path = tmp_path / "j.db"
    async with Wire(post=post, look=look) as wire:
        async with session_at(wire.url, journal=path) as session:
            for prompt in ("a", "b", "c"):
                with suppress(FluxFlexError):
                    await session.generate(prompt, callback_url="https://me.example/h/t0ken-77")
            copied(path, tmp_path / "then")
        content = b"".join(each.read_bytes() for each in files_in(tmp_path))
    entries = await entries_of(path)
    assert [entry.state.name for entry in entries] == ["COMPLETED", "QUEUED", "UNCERTAIN"]
    assert b"prompt" in content
    for secret in (KEY, "0123456789+abcdef", "t0ken-77", "me.example", "Bearer"):
        assert secret.encode() not in content
    assert KEY not in repr(entries)
    assert KEY.encode() not in pickle.dumps(entries)


# -- a folder ---------------------------------------------------------------------------------


async def test_sessions_side_by_side_in_a_folder(tmp_path: Path) -> None:
    """Each has a file; the one that stays takes over what the others left, while it buys on."""
    folder = tmp_path / "journals"
    folder.mkdir()
    async with Simulator(durations=Manual()) as sim:
        async with session_at(sim.url, journal=folder) as staying:
            gone = [session_at(sim.url, journal=folder) for _ in range(3)]
            for session in gone:
                await session.open()
            left = [await session.submit(f"of {n}") for n, session in enumerate(gone * 4)]
            assert await staying.resume() == []
            for session in gone:
                await session.aclose(drain=0)
            resuming = asyncio.create_task(staying.resume())
            own = [await staying.submit(f"own {n}") for n in range(12)]
            handles = await resuming
            ids = {one.task_id for one in handles}
            assert {one.task_id for one in left} <= ids
            finish(sim, *left, *own)
            for handle in [*handles, *own]:
                await (await handle).read()
            assert await staying.resume() == []
            now = staying.statistics()
            assert now.earlier + now.spent == sim.ledger.billed_usd == 24 * PRICE
        [path] = files_in(folder)
    entries = await entries_of(path)
    assert len({entry.task_id for entry in entries}) == len(entries) == len(sim.ledger) == 24
    prompts = {entry.task_id: entry.request and entry.request.prompt for entry in entries}
    assert prompts == {one.task_id: one.prompt for one in sim.ledger.entries}


async def test_an_uncertain_submit_is_known_to_the_one_after(tmp_path: Path) -> None:
    """It is reported over sessions and folders, with what was asked for, and not sent again."""
    folder = tmp_path / "journals"
    folder.mkdir()
    async with Simulator(durations=0.0) as sim:
        sim.faults = Faults(submit=[faults.accept_then_drop()])
        async with session_at(sim.url, journal=folder) as session:
            with pytest.raises(SubmitUncertainError):
                await session.submit("a lighthouse", metadata={"row": 7})
        for _ in range(2):
            async with session_at(sim.url, journal=folder) as session:
                assert await session.resume() == []
                [record] = session.uncertain()
                assert record.request == fluxflex.GenerateRequest(
                    "a lighthouse", metadata={"row": 7}
                )
                assert session.statistics().earlier == PRICE
    assert sim.ledger.posts_received == 1


async def test_a_late_word_reaches_the_file(tmp_path: Path) -> None:
    """Timed out here, finished there: attached again its picture is in the journal."""
    path = tmp_path / "j.db"
    async with Simulator(durations=Manual()) as sim:
        async with session_at(sim.url, journal=path) as session:
            handle = await session.submit("a lighthouse", timeout=0.001)
            assert await handle.wait() is TaskState.TIMED_OUT
            again = session.attach(str(handle.task_id), timeout=60)
            finish(sim, handle)
            await (await again).save(tmp_path / "picture")
        [entry] = await entries_of(path)
    assert (entry.state, entry.collected) == (TaskState.COMPLETED, True)
    assert entry.path == tmp_path / "picture.png"
    assert entry.error is None


async def test_a_picture_that_is_read_is_collected_when_it_is_whole(tmp_path: Path) -> None:
    """A download that failed leaves it owed."""
    path, broken = tmp_path / "j.db", [True]

    async def show(scene: Any) -> None:
        await scene.say(http(b"gone", 404) if broken[0] else http(PICTURE, kind="image/png"))

    async with Wire(picture=show) as wire, session_at(wire.url, journal=path) as session:
        image = await session.generate("a lighthouse")
        with pytest.raises(FluxFlexError):
            await image.read()
        assert len(await session.resume()) == 1
        broken[0] = False
        assert await image.read() == PICTURE
        assert await session.resume() == []
