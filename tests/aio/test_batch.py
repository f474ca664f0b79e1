"""Batches at unit level, in virtual time; whole tales are told among the stories."""

from __future__ import annotations

import asyncio
from collections import UserDict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxflex import Batch, BatchProgress, FixedPolling, GenerateRequest, Outcome, TaskState
from fluxflex.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    DownloadError,
    GenerationError,
    InvalidRequestError,
    RateLimitError,
    SessionClosedError,
    SubmitUncertainError,
)
from tests.aio.fakes import (
    FakeSession,
    FakeTransport,
    Late,
    completed,
    failed,
    now,
    page,
    refused,
    settle,
)

pytestmark = pytest.mark.looptime(start=0)

EVERY = FixedPolling(1.0)


async def drain(outcomes: Batch, got: list[Outcome]) -> None:
    """Take all outcomes of a batch that raises in the end."""
    async for outcome in outcomes:
        got.append(outcome)  # noqa: PERF401 - what was got is kept when it raises


async def test_outcomes_come_as_they_complete() -> None:
    """The quickest first; `collect` puts them in the order of the source."""
    fake = FakeTransport(seconds=9)
    fake.rule("status", lambda call: completed("t2") if call.url.endswith("t2") else None)
    async with FakeSession(fake, poll=EVERY) as session:
        async with session.map(["a", "b", "c"], quality="2K") as outcomes:
            got = [outcome async for outcome in outcomes]
        assert [outcome.item for outcome in got] == ["b", "a", "c"]
        assert [outcome.index for outcome in got] == [1, 0, 2]
        assert got[0].request == GenerateRequest("b", quality="2K")
        assert got[0].image.task_id == got[0].task_id == "t2"
        assert (got[0].state, got[0].replayed, got[0].path) == (TaskState.COMPLETED, False, None)
        again = await session.map(["d", "e"]).collect()
        assert [outcome.index for outcome in again] == [0, 1]


async def test_progress_is_live() -> None:
    """Read, running, unread, done: at every moment they add up."""
    fake = FakeTransport(seconds=2)
    fake.rule("status", lambda call: failed("t1") if call.url.endswith("t1") else None)
    async with FakeSession(fake, concurrency=2, poll=EVERY) as session:
        batch = session.map(["a", "b", "", "d"])
        none = BatchProgress(read=0, exhausted=False, running=0, saving=0, unread=0, ok=0, failed=0)
        assert batch.progress == none
        async with batch as outcomes:
            first = await anext(aiter(outcomes))
            assert isinstance(first.error, GenerationError)
            assert batch.progress.failed == 1
            assert repr(batch) == f"<Batch: {batch.progress}>"
            rest = [outcome async for outcome in outcomes]
        assert isinstance(rest[0].error, InvalidRequestError | None)
        found = batch.progress
        assert (found.read, found.exhausted, found.running, found.unread) == (4, True, 0, 0)
        assert (found.ok, found.failed) == (2, 2)


async def test_a_source_is_read_as_slots_free_up() -> None:
    """No further than the ceiling ahead of what was taken."""
    read: list[int] = []

    def source() -> Iterator[str]:
        for n in range(100):
            read.append(n)
            yield str(n)

    async with FakeSession(concurrency=3, poll=EVERY) as session:
        async with session.map(source()) as outcomes:
            await asyncio.sleep(50)
            assert len(read) == 3
            await anext(aiter(outcomes))
            await settle()
            assert len(read) == 4
        assert session.fake.posts == 4


async def test_an_async_source_and_its_error() -> None:
    """What was read gets its outcome, then the source's own error comes out as itself."""

    async def source() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(1)
        raise KeyError("mine")

    async with FakeSession(poll=EVERY) as session:
        async with session.map(source()) as outcomes:
            got: list[Outcome] = []
            with pytest.raises(KeyError, match="mine"):
                await drain(outcomes, got)
        assert [outcome.ok for outcome in got] == [True]


async def test_an_item_that_cannot_be_read_is_the_sources_fault() -> None:
    """What a hostile mapping raises comes out as itself, and nothing hangs."""

    class Hostile(UserDict[str, object]):
        def __iter__(self) -> Iterator[str]:
            raise RuntimeError("mine")

    async with FakeSession() as session:
        with pytest.raises(RuntimeError, match="mine"):
            await session.map([Hostile()]).collect()
        assert session.statistics().in_flight == 0


@pytest.mark.parametrize(
    ("settings", "step", "kind"),
    [
        ({}, refused(401), AuthenticationError),
        ({"budget": "0.01"}, None, BudgetExceededError),
    ],
)
async def test_what_all_would_meet_stops_the_reading(
    settings: dict[str, object], step: Any, kind: type[Exception]
) -> None:
    """The error comes out with the outcomes of what was read; later items are not sent."""
    fake = FakeTransport().script("submit", step)
    async with FakeSession(fake, concurrency=2, **settings) as session:
        with pytest.raises(kind) as caught:
            await session.map(str(n) for n in range(50)).collect()
        error: Any = caught.value
        assert 1 <= len(error.outcomes) <= 2
        assert isinstance(error.outcomes[0].error, kind)
        with pytest.raises(kind):
            _ = error.outcomes[0].image
    assert fake.posts <= 2


async def test_what_waits_in_a_pause_is_dropped_when_the_batch_stops() -> None:
    """A key that is refused ends the pause of the one that was turned away before it."""
    fake = FakeTransport().script("submit", refused(429, retry_after="300"))
    fake.script("submit", Late(refused(401), 1))
    async with FakeSession(fake, concurrency=2) as session:
        with pytest.raises(AuthenticationError) as caught:
            await session.map(["a", "b", "c"]).collect()
        assert now() == 1
        assert [type(o.error) for o in caught.value.outcomes] == [AuthenticationError] * 2
    assert fake.posts == 2


async def test_leaving_early_drops_what_was_not_sent() -> None:
    """What was sent is followed to its end; the rest is never sent."""
    fake = FakeTransport(seconds=5).script("submit", None, refused(429, retry_after="300"))
    async with FakeSession(fake, concurrency=3, poll=EVERY) as session:
        async with session.map(str(n) for n in range(50)) as outcomes:
            await asyncio.sleep(1)
            assert outcomes.progress.running == 3
        await settle()
        assert session.statistics().in_flight == 2
        await asyncio.sleep(10)
        assert session.statistics().in_flight == 0
    assert fake.posts == 3


async def test_leaving_before_anything_began() -> None:
    """An attempt whose turn had not come is not made."""
    async with FakeSession() as session:
        async with session.map(["a", "b"]):
            pass
        assert session.statistics().in_flight == 0
    assert session.fake.posts == 0


async def test_ordered_outcomes_wait_for_their_turn() -> None:
    """The first is slow: the others are made meanwhile, twice the ceiling ahead at most."""
    fake = FakeTransport(seconds=2)
    fake.rule(
        "status", lambda call: None if now() > 40 or not call.url.endswith("t1") else page(502)
    )
    async with (
        FakeSession(fake, concurrency=2, poll=EVERY) as session,
        session.map((str(n) for n in range(9)), ordered=True) as outcomes,
    ):
        await asyncio.sleep(30)
        assert outcomes.progress.read == 4
        assert [outcome.index async for outcome in outcomes] == list(range(9))


async def test_pictures_are_saved_in_the_background(tmp_path: Path) -> None:
    """In a folder, or where a callable says; the outcome tells where."""
    async with FakeSession(poll=EVERY) as session:
        (first,) = await session.map(["a"], save_to=tmp_path / "out").collect()
        assert first.path == tmp_path / "out" / "t1.png"
        (second,) = await session.map(
            ["a"], save_to=lambda index, request: tmp_path / f"{request.prompt}{index}"
        ).collect()
        assert second.path == tmp_path / "a0.png"
        (third,) = await session.map(["a"], save_to=str(tmp_path)).collect()
        assert third.path == tmp_path / "t3.png"


async def test_a_picture_that_cannot_be_fetched_is_its_outcome(tmp_path: Path) -> None:
    """The picture is paid for, and can still be had from the outcome."""
    fake = FakeTransport().script("file", refused(400))
    async with FakeSession(fake, poll=EVERY) as session:
        outcomes = await session.map(["a", "b"], save_to=tmp_path).collect()
        assert [outcome.ok for outcome in outcomes] == [False, True]
        assert isinstance(outcomes[0].error, DownloadError)
        assert await outcomes[0].image.read()


async def test_a_place_that_raises_stops_the_batch() -> None:
    """It is asked before anything is sent, and what it raises comes out as itself."""

    def nowhere(_: int, __: GenerateRequest) -> Path:
        raise LookupError("mine")

    async with FakeSession(concurrency=1, poll=EVERY) as session:
        with pytest.raises(LookupError, match="mine"):
            await session.map((str(n) for n in range(50)), save_to=nowhere).collect()
    assert session.fake.posts == 0


async def test_a_place_that_is_none_buys_nothing(tmp_path: Path) -> None:
    """A callable that gives no path, and a folder that cannot be made, stop the batch."""
    (tmp_path / "file").write_text("in the way")
    lost: Any = lambda _index, _request: None  # noqa: E731 - as users write it
    async with FakeSession() as session:
        with pytest.raises(ConfigurationError, match="returned None, not a path") as caught:
            await session.map(["a"], save_to=lost).collect()
        assert [outcome.state for outcome in caught.value.outcomes] == [TaskState.QUEUED]
        with pytest.raises(ConfigurationError, match="cannot be made"):
            await session.map(["a"], save_to=tmp_path / "file" / "folder").collect()
        assert session.statistics().in_flight == 0
    assert session.fake.posts == 0


@pytest.mark.parametrize("save_to", [1, True, b"x", lambda: 1, lambda _: 1])
async def test_what_is_no_place_is_told_at_once(save_to: Any) -> None:
    """Before anything is read or sent."""
    async with FakeSession() as session:
        with pytest.raises(ConfigurationError, match="save_to"):
            session.map(["a"], save_to=save_to)


async def test_a_callable_without_a_signature_is_taken_at_its_word() -> None:
    """Some that are built in do not tell what they take."""
    async with FakeSession() as session:
        places: Any = type
        assert isinstance(session.map(["a"], save_to=places), Batch)


def stems(folder: Path) -> set[str]:
    """Return the names of the files of a folder, without their suffixes."""
    return {path.stem for path in folder.iterdir()}


@pytest.mark.parametrize("saving", [False, True])
async def test_leaving_early_names_what_was_paid_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, saving: bool
) -> None:
    """Pictures that nobody got are named at the end, unless they were saved."""
    fake = FakeTransport(seconds=2).rule("status", lambda _: None)
    async with FakeSession(fake, concurrency=3, poll=EVERY) as session:
        save_to = tmp_path if saving else None
        async with session.map([str(n) for n in range(9)], save_to=save_to) as outcomes:
            first = await anext(aiter(outcomes))
    (line,) = [r.getMessage() for r in caplog.records if "not collected" in r.getMessage()]
    assert str(first.task_id) not in line
    paid = {f"t{n}" for n in range(1, fake.posts + 1)} - {first.task_id}
    named = {task_id for task_id in paid if task_id and task_id in line}
    saved = stems(tmp_path) - {first.task_id}
    assert named | saved == paid
    assert f"{len(named)} pictures" in line


async def test_closing_the_session_ends_a_batch(tmp_path: Path) -> None:
    """Of each item it says what became of it: saved or not, sent or not."""
    fake = FakeTransport().script("file", Late(page(500), 500.0))
    fake.script("submit", None, Late(refused(429), 500.0))
    async with FakeSession(fake, concurrency=2, poll=EVERY) as session:
        async with session.map((str(n) for n in range(9)), save_to=tmp_path) as outcomes:
            await asyncio.sleep(3)
            closing = asyncio.create_task(session.aclose(drain=1))
            got: list[Outcome] = []
            with pytest.raises(SessionClosedError):
                await drain(outcomes, got)
            await closing
        errors = {outcome.item: outcome.error for outcome in got}
        saving, sending = errors["0"], errors["1"]
        assert isinstance(saving, SessionClosedError)
        assert (saving.task_id, saving.charged) == ("t1", "yes")
        assert isinstance(sending, SubmitUncertainError)
        assert session.statistics().in_flight == 0


async def test_a_batch_is_entered_once_and_inside_a_block() -> None:
    """A bare loop would leave nobody to stop the reading."""
    async with FakeSession() as session:
        with pytest.raises(ConfigurationError, match="async with"):
            aiter(session.map(["a"]))
        async with session.map([]) as outcomes:
            with pytest.raises(ConfigurationError, match="once"):
                await outcomes.__aenter__()
            assert await outcomes.collect() == []
    with pytest.raises(SessionClosedError):
        await session.map(["a"]).collect()


@pytest.mark.parametrize("single", ["a", b"a", {"prompt": "a"}, GenerateRequest("a"), 5, None])
async def test_one_request_is_no_batch(single: Any) -> None:
    """`map` takes many; `submit` takes one."""
    async with FakeSession() as session:
        with pytest.raises(InvalidRequestError) as caught:
            session.map(single)
        assert caught.value.faults[0].field == "requests"


async def test_defaults_are_checked_at_once(tmp_path: Path) -> None:
    """Not item by item; and so is the place for the pictures."""
    async with FakeSession() as session:
        with pytest.raises(InvalidRequestError) as caught:
            session.map(["a"], nonsense=1, steps=99)
        assert [fault.field for fault in caught.value.faults] == ["nonsense", "steps"]
        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match="no folder"):
            session.map(["a"], save_to=tmp_path / "file")


async def test_stopping_drops_what_was_not_sent_and_gives_the_rest() -> None:
    """Nothing more is read or sent; what runs ends; the iteration ends without an error."""
    fake = FakeTransport(seconds=5).script("submit", None, refused(429, retry_after="300"))
    read: list[int] = []

    def source() -> Iterator[str]:
        for place in range(50):
            read.append(place)
            yield str(place)

    async with FakeSession(fake, concurrency=3, poll=EVERY) as session:
        async with session.map(source()) as outcomes:
            await asyncio.sleep(1)
            outcomes.stop()
            outcomes.stop()
            got = {outcome.index: outcome async for outcome in outcomes}
        assert sorted(got) == read == [0, 1, 2]
        assert [got[index].ok for index in read] == [True, False, True]
        dropped = got[1]
        assert isinstance(dropped.error, SessionClosedError)
        assert (dropped.state, dropped.error.charged) == (TaskState.QUEUED, "no")
        assert now() < 10
        assert session.statistics().in_flight == 0
    assert fake.posts == 3


async def test_stopping_ends_the_wait_for_a_slow_source() -> None:
    """A source that gives nothing more does not hold a stopped batch."""

    async def source() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(1000)
        yield "b"

    async with FakeSession(poll=EVERY) as session:
        async with session.map(source()) as outcomes:
            await asyncio.sleep(1)
            outcomes.stop()
            assert [outcome.item async for outcome in outcomes] == ["a"]
        assert now() < 10


async def test_a_batch_stopped_before_it_began_reads_nothing() -> None:
    """Entering it afterwards ends at once."""
    async with FakeSession() as session:
        batch = session.map(["a", "b"])
        batch.stop()
        assert await batch.collect() == []
    assert session.fake.posts == 0


@pytest.mark.parametrize("status", [429, 422])
async def test_a_batch_that_stops_as_others_are_launched_ends(status: int) -> None:
    """An item launched in the very moment in which the batch stops still gets its outcome."""
    fake = FakeTransport().script("submit", refused(status, retry_after="1"))
    async with FakeSession(fake, budget="0.08", poll=EVERY) as session:
        with pytest.raises(BudgetExceededError) as caught:
            await session.map(["a", "b", "c"]).collect()
        assert [outcome.index for outcome in caught.value.outcomes] == [0, 1, 2]
        assert session.statistics().in_flight == 0
    assert fake.posts == 2


@pytest.mark.parametrize("leaving", ["leave", "stop"])
async def test_what_is_in_the_air_is_not_repeated_once_dropped(leaving: str) -> None:
    """A POST that is turned away after the batch was left or stopped is not sent again."""
    fake = FakeTransport().script("submit", Late(refused(429, retry_after="1"), 5.0))
    async with FakeSession(fake, poll=EVERY) as session:
        async with session.map(["a"]) as outcomes:
            await asyncio.sleep(1)
            if leaving == "stop":
                outcomes.stop()
                (outcome,) = [outcome async for outcome in outcomes]
                assert isinstance(outcome.error, RateLimitError)
        await asyncio.sleep(60)
        assert session.statistics().spent == 0
    assert fake.posts == 1


async def test_closing_reads_no_more_of_a_batch_that_runs() -> None:
    """What was not read would be a new submit; what was sent is waited for."""
    fake = FakeTransport(seconds=5)
    async with FakeSession(fake, concurrency=4, poll=EVERY) as session:
        batch = session.map(str(n) for n in range(100))
        collecting = asyncio.create_task(batch.collect())
        await asyncio.sleep(1)
        await session.aclose(drain=60)
        with pytest.raises(SessionClosedError) as caught:
            await collecting
    assert fake.posts == 4
    assert [outcome.ok for outcome in caught.value.outcomes] == [True] * 4
