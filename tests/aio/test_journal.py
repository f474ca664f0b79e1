"""The journal's writer: what is on disk when, what a failure stops, and what it does not."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from fluxflex import Change, GenerateRequest, RetryPolicy, TaskHandle, TaskState, Timeouts
from fluxflex._aio.journal import Journal, Membership
from fluxflex._aio.reading import read_journal
from fluxflex._aio.store import Store
from fluxflex._core.exchange import Call
from fluxflex._core.lifecycle import (
    Accepted,
    Completed,
    Sent,
    TaskEvent,
    TaskRecord,
    advance,
)
from fluxflex.errors import (
    APIConnectionError,
    FluxFlexError,
    GenerationError,
    JournalError,
    RequestRejectedError,
    SessionClosedError,
    SubmitUncertainError,
    TaskTimeoutError,
)
from tests.aio.disk import (
    BROKEN,
    FULL,
    Disk,
    bytes_of,
    glimpse,
    money,
    names_in,
    quick,
    rows,
    trouble,
)
from tests.aio.fakes import (
    KEY,
    NEVER_SENT,
    SENT,
    FakeSession,
    FakeTransport,
    Late,
    Step,
    accepted,
    completed,
    failed,
    refused,
    settle,
)

pytestmark = pytest.mark.looptime(start=0)

PRICE, NOTHING = Decimal("0.04"), Decimal(0)
REQUEST = GenerateRequest("a")


def journal_of(session: FakeSession) -> Journal:
    """Return the journal of a session."""
    journal = session.engine.tasks.journal
    assert journal is not None
    return journal


def unsent(path: Path) -> None:
    """Assert that the only row says that nothing was bought."""
    [row] = rows(path)
    assert (row["state"], row["task_id"]) == ("QUEUED", None)
    assert money(row["spent"]) + money(row["reserved"]) == 0


def untouched(session: FakeSession) -> None:
    """Assert that no money and no slot is held."""
    now = session.statistics()
    assert (now.in_flight, now.spent, now.reserved) == (0, NOTHING, NOTHING)


# -- the order on disk ------------------------------------------------------------------------


@pytest.mark.usefixtures("disk")
async def test_each_attempt_is_on_disk_before_its_bytes(tmp_path: Path) -> None:
    """At the moment a POST arrives its row is `SENDING`, with its attempt and its money."""
    path = tmp_path / "j.db"
    seen: list[tuple[object, ...]] = []

    def look(_: Call) -> Step:
        [row] = glimpse(path, tmp_path / str(len(seen)))
        seen.append((row["state"], row["attempts"], money(row["reserved"]), row["task_id"]))
        return refused(429, retry_after="1") if len(seen) < 4 else None

    async with quick(FakeTransport().rule("submit", look), journal=path) as session:
        await session.generate("a")
    assert seen == [("SENDING", attempt, PRICE, None) for attempt in range(1, 5)]


@pytest.mark.parametrize("answer", [refused(422), refused(429), NEVER_SENT])
@pytest.mark.usefixtures("disk")
async def test_a_definite_refusal_is_not_sent_on_disk(tmp_path: Path, answer: Step) -> None:
    """After it, and in the pause after it, the row says that nothing was bought."""
    path = tmp_path / "j.db"
    fake = FakeTransport().script("submit", answer)
    async with quick(fake, journal=path, retry=RetryPolicy(initial=9, maximum=9)) as session:
        submit = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(1)
        [row] = glimpse(path, tmp_path / "pause")
        assert (row["state"], row["attempts"]) == ("QUEUED", 1)
        submit.cancel()
        await asyncio.wait([submit])
    unsent(path)


@pytest.mark.usefixtures("disk")
async def test_what_was_refused_is_no_money_of_later_sessions(tmp_path: Path) -> None:
    """A refusal gives the money back for good: nothing of it is counted later."""
    path = tmp_path / "j.db"
    async with quick(FakeTransport().script("submit", refused(422)), journal=path) as session:
        with pytest.raises(RequestRejectedError):
            await session.submit("a")
    async with quick(journal=path) as session:
        assert session.statistics().earlier == 0


async def test_an_id_is_on_disk_before_anybody_hears_of_it(tmp_path: Path, disk: Disk) -> None:
    """Neither `submit` nor `on_event` nor `handles` tells an id that a kill would lose."""
    path, told = tmp_path / "j.db", []

    def hear(change: Change) -> None:
        if change.names:
            [row] = glimpse(path, tmp_path / "told")
            told.append((change.after.task_id, row["task_id"]))

    fake = FakeTransport(latency=1)
    async with quick(fake, journal=path, on_event=hear) as session:
        submit = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(0.5)
        disk.hold()
        await disk.arrived.wait()  # its id is about to be written
        await settle()
        assert not submit.done()
        assert told == []
        disk.gate.set()
        handle = await submit
        assert told == [(handle.task_id, handle.task_id)]


async def test_handles_shows_no_id_that_is_not_on_disk(tmp_path: Path, disk: Disk) -> None:
    """What `handles` lists can be found again after a kill."""
    async with quick(FakeTransport(latency=1), journal=tmp_path / "j.db") as session:
        submit = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(0.5)
        disk.hold()
        await disk.arrived.wait()
        await settle()
        shown = session.handles()
        disk.gate.set()
        handle = await submit
        assert shown == []
        assert session.handles() == [handle]


async def test_an_id_is_on_disk_before_its_outcome(tmp_path: Path, disk: Disk) -> None:
    """An outcome with an id is given only when a kill could not lose it."""
    path = tmp_path / "j.db"
    async with (
        quick(FakeTransport(seconds=0, latency=1), journal=path) as session,
        session.map(["a"]) as outcomes,
    ):
        await asyncio.sleep(0.5)
        disk.hold()
        first = asyncio.ensure_future(anext(aiter(outcomes)))
        await asyncio.sleep(60)  # finished at the provider long ago
        assert not first.done()
        disk.gate.set()
        outcome = await first
        [row] = glimpse(path, tmp_path / "given")
        assert row["task_id"] == outcome.task_id


async def test_closing_waits_for_outcomes_that_wait_for_the_disk(
    tmp_path: Path, disk: Disk
) -> None:
    """A picture whose task is over is still saved, though its id is not yet on disk."""
    fake, folder = FakeTransport(seconds=0, latency=1), tmp_path / "out"
    session = quick(fake, journal=tmp_path / "j.db")
    await session.open()
    async with session.map(["a"], save_to=folder) as outcomes:
        await asyncio.sleep(0.5)
        disk.hold()
        await asyncio.sleep(60)
        closing = asyncio.create_task(session.aclose())
        await settle()
        assert not closing.done()
        disk.gate.set()
        [outcome] = [outcome async for outcome in outcomes]
        await closing
    assert outcome.path is not None
    assert outcome.path.parent == folder


async def test_observers_hear_all_steps_in_order(tmp_path: Path, disk: Disk) -> None:
    """However slow the disk is, steps are heard in the order in which they were made."""
    heard: list[Change] = []
    async with quick(journal=tmp_path / "j.db", on_event=heard.append, concurrency=2) as session:
        disk.hold()
        task = asyncio.create_task(session.map(["a", "b", "c", "d"]).collect())
        while not task.done():
            disk.gate.set()
            await asyncio.sleep(0.3)
            disk.gate.clear()
            await asyncio.sleep(0.3)
        disk.gate.set()
    for key in range(1, 5):
        mine = [change for change in heard if change.after.key == key]
        assert all(a.after is b.before for a, b in pairwise(mine))
        assert [type(change.event).__name__ for change in mine][:2] == ["Sent", "Accepted"]
        assert mine[-1].after.state is TaskState.COMPLETED


# -- the moment in which the intent is written ------------------------------------------------


async def test_cancelled_while_the_intent_is_written(tmp_path: Path, disk: Disk) -> None:
    """Nothing is sent; the row says so, and money and slot come back."""
    path = tmp_path / "j.db"
    async with quick(journal=path, concurrency=1) as session:
        disk.hold()
        submit = asyncio.create_task(session.submit("a"))
        await disk.arrived.wait()
        submit.cancel()
        await asyncio.wait([submit])
        assert submit.cancelled()
        untouched(session)
        disk.gate.set()
    assert session.fake.posts == 0
    unsent(path)


@pytest.mark.parametrize("drain", [0, 5, None])
async def test_closed_while_the_intent_is_written(
    tmp_path: Path, disk: Disk, drain: float | None
) -> None:
    """A session that takes its leave sends nothing whose intent is only being written."""
    path = tmp_path / "j.db"
    session = quick(FakeTransport(seconds=0), journal=path)
    await session.open()
    disk.hold()
    submit = asyncio.create_task(session.submit("a"))
    await disk.arrived.wait()
    closing = asyncio.create_task(session.aclose(drain=drain))
    await asyncio.sleep(9)
    disk.gate.set()
    await closing
    if drain is None:  # it is waited for, as anything that was asked for before
        assert (await submit).state is TaskState.COMPLETED
        return
    with pytest.raises(SessionClosedError):
        await submit
    assert session.fake.posts == 0
    unsent(path)


async def test_its_time_is_up_while_the_intent_is_written(tmp_path: Path, disk: Disk) -> None:
    """What could only be cut off, and left uncertain, is not sent."""
    path = tmp_path / "j.db"
    async with quick(journal=path, timeout=Timeouts(submit=5)) as session:
        disk.hold()
        submit = asyncio.create_task(session.submit("a"))
        await disk.arrived.wait()
        await asyncio.sleep(6)
        disk.gate.set()
        with pytest.raises(APIConnectionError) as caught:
            await submit
        assert caught.value.charged == "no"
        untouched(session)
    assert session.fake.posts == 0
    unsent(path)


@pytest.mark.parametrize("leave", [True, False])
async def test_a_batch_stopped_while_an_intent_is_written(
    tmp_path: Path, disk: Disk, *, leave: bool
) -> None:
    """Leaving or stopping a batch in that moment sends no second attempt and loses nothing."""
    path = tmp_path / "j.db"
    async with quick(FakeTransport(seconds=0), journal=path, concurrency=1) as session:
        async with session.map(["a", "b"], run="r") as outcomes:
            disk.hold()
            await disk.arrived.wait()
            if not leave:
                outcomes.stop()
                disk.gate.set()
                given = [outcome async for outcome in outcomes]
                assert [outcome.index for outcome in given] == [0]
        disk.gate.set()
    kept = {row["state"]: row["task_id"] for row in rows(path)}
    assert set(kept) <= {"QUEUED", "COMPLETED"}
    assert len([row for row in rows(path) if row["task_id"]]) == session.fake.posts
    untouched_money = sum((money(row["reserved"]) for row in rows(path)), NOTHING)
    assert untouched_money == 0


# -- groups -----------------------------------------------------------------------------------


def step(key: int, *events: TaskEvent) -> list[Change]:
    """Return the steps of a task."""
    record = TaskRecord(key=key, request=REQUEST, created=0.0)
    found = []
    for event in events:
        after = advance(record, event, 1.0)
        found.append(Change(record, after, event))
        record = after
    return found


def put(journal: Journal, key: int, *events: TaskEvent) -> None:
    """Note the steps of a task."""
    for change in step(key, *events):
        journal.note(change, spent=PRICE if change.names else None, reserved=NOTHING)


async def opened(path: Path, wall: Callable[[], float] = lambda: 1000.0) -> Journal:
    """Open a journal without a session."""
    return Journal(await Store.open(path, create=True), wall=wall)


async def test_what_waits_is_written_as_one_group(tmp_path: Path, disk: Disk) -> None:
    """While one group is written all others gather in the next, each task's steps as one row."""
    journal = await opened(tmp_path / "j.db")
    disk.hold()
    put(journal, 1, Sent())
    await disk.arrived.wait()
    for key in range(1, 200):
        put(journal, key, Sent(), Accepted(f"t{key}"))
    waiting = [asyncio.create_task(journal.written(key)) for key in range(1, 200)]
    await settle()
    assert not any(task.done() for task in waiting)
    assert repr(journal) == f"<Journal: {tmp_path / 'j.db'}, 199 rows waiting>"
    disk.gate.set()
    await asyncio.gather(*waiting)
    assert [len(group) for group in disk.groups] == [1, 199]
    assert disk.groups[1][5]["request"] == '{"prompt":"a"}'  # of the first step
    assert disk.groups[1][5]["task_id"] == "t6"  # of the second
    await journal.close()


async def test_written_waits_for_its_own_task_only(tmp_path: Path, disk: Disk) -> None:
    """A task that has nothing to be written waits for nobody, and `flush` for all."""
    journal = await opened(tmp_path / "j.db")
    disk.hold()
    put(journal, 1, Sent())
    await disk.arrived.wait()
    await asyncio.wait_for(journal.written(2), 1)
    put(journal, 2, Sent())
    flush = asyncio.create_task(journal.flush())
    await settle()
    assert not flush.done()
    disk.gate.set()
    await flush
    assert len(disk.groups) == 2
    await journal.close()


async def test_after_calls_back_when_what_was_noted_is_on_disk(tmp_path: Path, disk: Disk) -> None:
    """At once where nothing waits; else after the group that has the latest of it."""
    journal, called = await opened(tmp_path / "j.db"), []
    journal.after(lambda: called.append(len(disk.groups)))
    disk.hold()
    put(journal, 1, Sent())
    await disk.arrived.wait()
    journal.after(lambda: called.append(len(disk.groups)))
    put(journal, 1, Sent())
    journal.after(lambda: called.append(len(disk.groups)))
    assert called == [0]
    disk.gate.set()
    await journal.flush()
    assert called == [0, 1, 2]
    await journal.close()


async def test_when_it_happened_is_noted_by_the_wall_clock(tmp_path: Path, disk: Disk) -> None:
    """Seconds since the epoch, also where the clock was set back meanwhile."""
    times = iter([1000.0, 1000.0, 900.0, 900.0, 950.0, 950.0])
    journal = await opened(tmp_path / "j.db", lambda: next(times))
    put(journal, 1, Sent(), Accepted("t"), Completed("t", ("http://a/b",)))
    await journal.close()
    [row] = rows(tmp_path / "j.db")
    assert (row["sent_at"], row["accepted_at"], row["ended_at"]) == (1000.0, 900.0, 950.0)
    assert disk.opened == [tmp_path / "j.db"]


@pytest.mark.usefixtures("disk")
async def test_what_was_not_sent_by_us_is_not_noted(tmp_path: Path) -> None:
    """A task that was attached is nobody's item: following and saving it leaves no row."""
    path = tmp_path / "j.db"
    async with quick(FakeTransport(seconds=0), journal=path) as session:
        image = await session.attach("elsewhere")
        await image.read()
        await image.save(tmp_path / "elsewhere.png")
        assert await session.resume() == []
    assert rows(path) == []
    assert [entry async for entry in read_journal(path)] == []


@pytest.mark.usefixtures("disk")
async def test_an_item_of_a_run_is_entered_with_its_number(tmp_path: Path) -> None:
    """Run, number, digest, and place below the journal's folder, before it is sent."""
    journal = await opened(tmp_path / "j.db")
    journal.enter(1, REQUEST, Membership("r", 7, REQUEST.digest, tmp_path / "out" / "b"))
    await journal.close()
    [entry] = [entry async for entry in read_journal(tmp_path / "j.db")]
    assert (entry.run, entry.number, entry.path) == ("r", 7, tmp_path / "out" / "b")
    assert (entry.state, entry.attempts, entry.replaced) == (TaskState.QUEUED, 0, False)
    assert (entry.request, entry.digest) == (REQUEST, REQUEST.digest)


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.usefixtures("disk")
async def test_an_entry_is_replaced_when_its_item_is_really_sent(
    tmp_path: Path, *, sent: bool
) -> None:
    """Entered to be bought again and dropped before that, everything stays as it was."""
    journal = await opened(tmp_path / "j.db")
    journal.enter(1, REQUEST, Membership("r", 7, REQUEST.digest))
    journal.enter(2, REQUEST, Membership("r", 7, REQUEST.digest, again=1))
    if sent:
        put(journal, 2, Sent())
    journal.forget(2)
    await journal.close()
    entries = [entry async for entry in read_journal(tmp_path / "j.db")]
    found = [(entry.id, entry.number, entry.replaced) for entry in entries]
    assert found == ([(1, 7, True), (2, 7, False)] if sent else [(1, 7, False)])


# -- a disk that fails ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FULL, BROKEN])
async def test_after_a_failure_nothing_new_is_sent(
    tmp_path: Path, disk: Disk, kind: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits hears why in words; every later submit too, and no byte leaves."""
    path = tmp_path / "j.db"
    async with quick(journal=path) as session:
        disk.hold()
        many = [asyncio.create_task(session.submit(str(n))) for n in range(5)]
        await disk.arrived.wait()
        disk.fail(*(trouble(kind) for _ in range(9)))
        disk.gate.set()
        await asyncio.wait(many)
        for task in many:
            error = task.exception()
            assert isinstance(error, JournalError)
            assert error.charged == "no"
            assert str(path) in str(error)
        assert len({id(task.exception()) for task in many}) == 5
        with pytest.raises(JournalError, match="full" if kind is FULL else "I/O"):
            await session.submit("b")
        with pytest.raises(JournalError):
            await session.generate("c")
        untouched(session)
    assert session.fake.posts == 0
    said = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 1
    assert "nothing new is sent" in said[0].getMessage()


async def test_a_batch_stops_at_a_failure(tmp_path: Path, disk: Disk) -> None:
    """It reads no further, its items are not sent, and the iteration raises the error."""
    read: list[int] = []

    def source() -> object:
        for n in range(1000):
            read.append(n)
            yield str(n)

    async with quick(journal=tmp_path / "j.db", concurrency=4) as session:
        disk.fail(trouble(FULL))
        with pytest.raises(JournalError, match="disk is full") as caught:
            await session.map(source(), run="r").collect()  # type: ignore[arg-type]  # a generator
        outcomes = caught.value.outcomes
        assert len(outcomes) == len(read) <= 8
        assert {type(outcome.error) for outcome in outcomes} == {JournalError}
        assert {outcome.state for outcome in outcomes} == {TaskState.QUEUED}
    assert session.fake.posts == 0


async def test_what_runs_is_followed_after_a_failure(tmp_path: Path, disk: Disk) -> None:
    """Awaiters get their pictures, and the last words are on disk once there is room."""
    path = tmp_path / "j.db"
    async with quick(FakeTransport(seconds=30), journal=path) as session:
        handles = [await session.submit(str(n)) for n in range(3)]
        disk.fail(trouble(FULL), trouble(FULL), trouble(FULL))
        with pytest.raises(JournalError):
            await session.submit("d")
        images = await asyncio.gather(*handles)
        assert [image.task_id for image in images] == ["t1", "t2", "t3"]
    states = [(row["state"], row["task_id"]) for row in rows(path)]
    assert states[:3] == [("COMPLETED", f"t{n}") for n in (1, 2, 3)]
    assert all(state == ("QUEUED", None) for state in states[3:])


async def test_an_accepted_id_is_written_with_the_room_put_aside(
    tmp_path: Path, disk: Disk
) -> None:
    """The disk is full when the id comes: the reserve makes room, and the id is on disk."""
    path = tmp_path / "j.db"
    async with quick(FakeTransport(latency=1), journal=path) as session:
        reserve = tmp_path / "j.db-reserve"
        assert reserve.stat().st_size >= 2**18
        submit = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(0.5)
        disk.fail(trouble(FULL))
        handle = await submit
        [row] = glimpse(path, tmp_path / "then")
        assert row["task_id"] == handle.task_id == "t1"
        assert not reserve.exists()
        with pytest.raises(JournalError):
            await session.submit("b")
        assert (await handle).task_id == "t1"
    assert session.fake.posts == 1


async def test_an_accepted_id_that_cannot_be_written_is_in_the_error(
    tmp_path: Path, disk: Disk
) -> None:
    """Then the error has the id, and says that it costs; the task is followed all the same."""
    path = tmp_path / "j.db"
    async with quick(FakeTransport(latency=1), journal=path) as session:
        submit = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(0.5)
        disk.fail(trouble(FULL), trouble(FULL))
        with pytest.raises(JournalError) as caught:
            await submit
        assert (caught.value.task_id, caught.value.charged) == ("t1", "yes")
        assert "keep its id" in caught.value.hint
        [handle] = session.handles()
        assert (await handle).task_id == "t1"
        assert session.statistics().spent == PRICE
    [row] = rows(path)
    assert (row["state"], row["task_id"]) == ("COMPLETED", "t1")


async def test_what_cannot_be_written_to_the_end_is_named_in_the_log(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """An id that the file could never take is in the log, so that it is not lost."""
    async with quick(FakeTransport(latency=1), journal=tmp_path / "j.db") as session:
        submit = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(0.5)
        disk.fail(*(trouble(FULL) for _ in range(99)))
        with pytest.raises(JournalError):
            await submit
        await session.handles()[0]
    [line] = [m for m in caplog.messages if m.startswith("not in the journal")]
    assert line == "not in the journal: t1"


async def test_an_outcome_comes_though_its_id_could_not_be_written(
    tmp_path: Path, disk: Disk
) -> None:
    """What was accepted in that moment is followed, and the batch ends with the error."""
    async with quick(FakeTransport(latency=1), journal=tmp_path / "j.db", concurrency=1) as session:
        task = asyncio.create_task(session.map(["a", "b", "c"], run="r").collect())
        await asyncio.sleep(0.5)
        disk.fail(trouble(FULL), trouble(FULL))
        with pytest.raises(JournalError) as caught:
            await task
    first, *others = caught.value.outcomes
    assert (first.ok, first.task_id) == (True, "t1")
    assert {type(outcome.error) for outcome in others} == {JournalError}
    assert session.fake.posts == 1


async def test_a_refusal_that_could_not_be_written_is_written_at_the_end(
    tmp_path: Path, disk: Disk
) -> None:
    """A full disk must not turn a definite refusal into an uncertain submit."""
    path = tmp_path / "j.db"
    fake = FakeTransport(latency=1).script("submit", Late(refused(422), 1))
    async with quick(fake, journal=path) as session:
        submit = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(0.5)
        disk.fail(trouble(FULL))
        with pytest.raises(RequestRejectedError):
            await submit
    unsent(path)


async def test_whatever_goes_wrong_is_a_journal_error(tmp_path: Path, disk: Disk) -> None:
    """Also what no disk ever says: nothing is sent whose intent is not on disk."""
    async with quick(journal=tmp_path / "j.db") as session:
        disk.fail(RuntimeError("the thread is gone"))
        with pytest.raises(JournalError, match="the thread is gone"):
            await session.submit("a")
    assert session.fake.posts == 0


async def test_attempts_end_at_a_failure(tmp_path: Path, disk: Disk) -> None:
    """Turned away before the failure, the request is not sent once more after it."""
    path = tmp_path / "j.db"
    fake = FakeTransport().script("submit", refused(429, retry_after="5"))
    async with quick(fake, journal=path) as session:
        submit = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(1)
        disk.fail(trouble(FULL), trouble(FULL))
        with pytest.raises(JournalError):
            await submit
        untouched(session)
    assert fake.posts == 1
    unsent(path)


# -- the end ----------------------------------------------------------------------------------


async def test_closing_writes_what_waits(tmp_path: Path, disk: Disk) -> None:
    """What was noted in the last moment is on disk when the session is closed."""
    path = tmp_path / "j.db"
    session = quick(FakeTransport(seconds=999), journal=path)
    await session.open()
    for n in range(3):
        await session.submit(str(n))
    await session.aclose(drain=0)
    assert [row["state"] for row in rows(path)] == ["RUNNING"] * 3
    assert names_in(tmp_path) == ["j.db"]
    assert disk.groups


async def test_a_writer_that_was_cut_off_loses_nothing(tmp_path: Path, disk: Disk) -> None:
    """A loop that is torn down cancels the writer too: closing writes what it left."""
    path = tmp_path / "j.db"
    session = quick(FakeTransport(seconds=999), journal=path)
    await session.open()
    handle = await session.submit("a")
    journal = journal_of(session)
    disk.hold()
    journal.collected(handle.key, None)  # on its way when it is cut off
    await disk.arrived.wait()
    journal._writer.cancel()
    put(journal, 7, Sent(), Accepted("t7"))
    disk.gate.set()
    await session.aclose(drain=0)
    found = {row["id"]: row for row in rows(path)}
    assert (found[1]["state"], found[1]["collected"]) == ("RUNNING", 1)
    assert found[7]["task_id"] == "t7"


def test_a_loop_that_is_torn_down_leaves_its_words_on_disk(tmp_path: Path, disk: Disk) -> None:
    """A program that ends without closing its session has everything that was told in the file."""
    path = tmp_path / "j.db"

    async def main() -> list[TaskHandle]:
        session = quick(FakeTransport(seconds=999), journal=path)
        await session.open()
        return [await session.submit(str(n)) for n in range(3)]

    handles = asyncio.run(main())
    assert [row["task_id"] for row in rows(path)] == [handle.task_id for handle in handles]
    assert [row["state"] for row in rows(path)] == ["RUNNING"] * 3
    assert disk.groups


# -- late words, and errors that were kept ----------------------------------------------------


@pytest.mark.parametrize("word", ["completed", "failed"])
@pytest.mark.usefixtures("disk")
async def test_a_late_last_word_is_recorded(tmp_path: Path, word: str) -> None:
    """The provider's word beats our deadline, in the file as well."""
    path = tmp_path / "j.db"
    fake = FakeTransport(seconds=50)
    if word == "failed":
        fake.rule("status", lambda _: failed("t1") if fake.count("status") > 20 else None)
    async with quick(fake, journal=path) as session:
        handle = await session.submit("a", timeout=5)
        with pytest.raises(TaskTimeoutError):
            await handle
        [row] = glimpse(path, tmp_path / "late")
        assert (row["state"], row["task_id"]) == ("TIMED_OUT", "t1")
        again = session.attach("t1", timeout=500)
        assert (await again.wait()).name == word.upper()
    [entry] = [entry async for entry in read_journal(path)]
    assert entry.state.name == word.upper()
    assert isinstance(entry.error, GenerationError if word == "failed" else type(None))
    assert entry.spent == PRICE


@pytest.mark.usefixtures("disk")
async def test_the_provider_s_cost_replaces_the_table_s(tmp_path: Path) -> None:
    """The row has what it really cost, to the last digit."""
    fake = FakeTransport().rule("status", lambda _: completed("t1", cost="0.037999999999999999"))
    async with quick(fake, journal=tmp_path / "j.db") as session:
        await session.generate("a")
        assert session.statistics().spent == Decimal("0.037999999999999999")
    [entry] = [entry async for entry in read_journal(tmp_path / "j.db")]
    assert (entry.spent, entry.reserved) == (Decimal("0.037999999999999999"), NOTHING)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.usefixtures("disk")
async def test_an_uncertain_submit_keeps_its_money_on_disk(tmp_path: Path, *, again: bool) -> None:
    """One price for each attempt that may be billed, beside what is known to be."""
    path = tmp_path / "j.db"
    fake = FakeTransport().script("submit", SENT, SENT, accepted("t1"))
    policy = RetryPolicy(resubmit_uncertain=again)
    async with quick(fake, journal=path, retry=policy) as session:
        if again:
            await session.submit("a")
        else:
            with pytest.raises(SubmitUncertainError):
                await session.submit("a")
    [row] = rows(path)
    held = {False: ("UNCERTAIN", NOTHING, PRICE), True: ("COMPLETED", PRICE, 2 * PRICE)}[again]
    assert (row["state"], money(row["spent"]), money(row["reserved"])) == held
    async with quick(journal=path) as session:
        assert session.statistics().earlier == held[1] + held[2]


@pytest.mark.usefixtures("disk")
async def test_no_key_and_no_token_is_kept(tmp_path: Path) -> None:
    """The file has neither the key nor a callback's address, though a reply repeats both."""
    path, token = tmp_path / "j.db", "token-5f3c"
    hook = f"https://me.example/hook/{token}"
    fake = FakeTransport(seconds=0).script("submit", None, SENT, refused(422))
    async with quick(fake, journal=path) as session:
        await session.generate("a", callback_url=hook)
        for prompt in "bc":
            with pytest.raises(FluxFlexError):
                await session.submit(prompt, callback_url=hook)
        kept = bytes_of(tmp_path)
    kept += bytes_of(tmp_path)
    for secret in (KEY, token, "me.example", "uthorization", "Bearer"):
        assert secret.encode() not in kept


@pytest.mark.usefixtures("disk")
async def test_entries_pickle(tmp_path: Path) -> None:
    """Entries of every kind, looked at or not, are equal after a pickle."""
    path = tmp_path / "j.db"
    fake = FakeTransport().script("submit", None, SENT, refused(422))
    async with quick(fake, journal=path) as session:
        await session.map(["a", "b", "c"], run="r", metadata={"n": 1}).collect()
    entries = [entry async for entry in read_journal(path)]
    assert {entry.state.name for entry in entries} == {"COMPLETED", "UNCERTAIN", "QUEUED"}
    for entry in entries:
        assert pickle.loads(pickle.dumps(entry)) == entry  # noqa: S301 - our own bytes
        known = (entry.request, entry.result, repr(entry.error))
        copy = pickle.loads(pickle.dumps(entry))  # noqa: S301 - as above
        assert (copy.request, copy.result, repr(copy.error)) == known
