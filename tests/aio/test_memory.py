"""What a session does with its journal: whose it is, what it brings along, taking it up again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fluxflex import GenerateRequest, TaskHandle, TaskState
from fluxflex._aio.reading import read_journal
from fluxflex.errors import (
    BudgetExceededError,
    ConfigurationError,
    FluxFlexError,
    GenerationError,
    JournalError,
    SessionClosedError,
    SubmitUncertainError,
    TaskNotFoundError,
    TaskTimeoutError,
)
from tests.aio.disk import FULL, Disk, change, money, names_in, quick, rows, trouble
from tests.aio.fakes import (
    KEY,
    PNG,
    SENT,
    FakeSession,
    FakeTransport,
    Late,
    Step,
    accepted,
    as_json,
    completed,
    failed,
    page,
    refused,
)

pytestmark = [pytest.mark.looptime(start=0), pytest.mark.usefixtures("disk")]

PRICE, NOTHING = Decimal("0.04"), Decimal(0)
DAYS = 86_400.0


def who(user: object = 7) -> FakeTransport:
    """Return the provider of a user."""
    body = {"code": 200, "data": {"balance_usd": "1", "user_id": user}}
    return FakeTransport().rule("account", lambda _: as_json(body))


def silent(answer: Step) -> FakeTransport:
    """Return a provider whose accounts cannot be read."""
    return FakeTransport().rule("account", lambda _: answer).rule("file", lambda _: answer)


async def left(path: Path, *script: Step, seconds: float = 1e6, count: int = 1) -> None:
    """Buy so many pictures and close the session while they run."""
    fake = FakeTransport(seconds=seconds).script("submit", *script)
    session = quick(fake, journal=path)
    await session.open()
    for n in range(count):
        with contextlib.suppress(SubmitUncertainError):
            await session.submit(f"study {n}")
    await session.aclose(drain=0)


async def reads(path: Path, fake: FakeTransport | None = None, **options: Any) -> None:
    """Open and close a session."""
    async with quick(fake, journal=path, **options):
        pass


# -- whose it is ------------------------------------------------------------------------------


async def test_it_belongs_to_an_account_whatever_its_key(tmp_path: Path) -> None:
    """Another key of the same account may go on; it is known by the provider's number."""
    path = tmp_path / "j.db"
    await left(path)
    await reads(path, api_key="sk-another-key-0123456789")
    with pytest.raises(JournalError, match="belongs to another account") as caught:
        await reads(path, who(8))
    assert "a journal of its own" in caught.value.hint
    await reads(path)  # it holds no lock


async def test_an_account_that_cannot_be_read_is_known_by_a_hash_of_its_key(
    tmp_path: Path,
) -> None:
    """Until it can be read: then the file is bound to the number, and other keys may go on."""
    path = tmp_path / "j.db"
    async with quick(silent(refused(404)), journal=path) as session:
        await session.submit("a")
    await reads(path, silent(refused(403)))
    with pytest.raises(JournalError, match="another account"):
        await reads(path, silent(refused(404)), api_key="sk-another-key-0123456789")
    await reads(path)
    await reads(path, api_key="sk-another-key-0123456789")
    with pytest.raises(JournalError, match="another account"):
        await reads(path, who(8))
    assert KEY.encode() not in path.read_bytes()


async def test_an_empty_file_belongs_to_nobody_yet(tmp_path: Path) -> None:
    """A wrong key or address at the first try does not bind a file with nothing in it."""
    path = tmp_path / "j.db"
    await reads(path, silent(refused(401)), api_key="sk-a-mistyped-key-0123")
    await reads(path, who(8))
    await reads(path, base_url="http://mistyped.test")
    await reads(path)
    await left(path)
    with pytest.raises(JournalError, match="another account"):
        await reads(path, who(8))


async def test_it_belongs_to_an_origin(tmp_path: Path) -> None:
    """Live and simulated never mix; both are named."""
    path = tmp_path / "j.db"
    await left(path)
    with pytest.raises(JournalError, match=r"http://api\.test, not to https://other\.example"):
        await reads(path, base_url="https://other.example")
    with pytest.raises(JournalError, match="not to this machine"):
        await reads(path, base_url="http://localhost:80")


async def test_on_loopback_the_port_does_not_count(tmp_path: Path) -> None:
    """A simulator gets a new one at each start."""
    path = tmp_path / "j.db"
    async with quick(journal=path, base_url="http://127.0.0.1:4000") as session:
        await session.submit("a")
    await reads(path, base_url="http://127.0.0.1:5000")
    await reads(path, base_url="http://localhost:6000")
    with pytest.raises(JournalError, match="belongs to this machine"):
        await reads(path)


@pytest.mark.parametrize("answer", [page(502), SENT])
async def test_a_provider_that_stumbles_is_waited_for(tmp_path: Path, answer: Step) -> None:
    """A file whose account is known is not taken for another's because of a bad minute."""
    path = tmp_path / "j.db"
    await left(path)
    hiccup = FakeTransport().script("account", answer, answer, answer)
    await reads(path, hiccup)
    with pytest.raises(FluxFlexError) as caught:
        await reads(path, silent(answer))
    assert not isinstance(caught.value, JournalError)
    assert caught.value.retryable
    await reads(path)


async def test_an_account_without_a_number_is_not_another_account(tmp_path: Path) -> None:
    """Where the provider names no user, it is not said that the file is somebody else's."""
    path = tmp_path / "j.db"
    await left(path)
    nameless = FakeTransport().rule(
        "account", lambda _: as_json({"code": 200, "data": {"balance_usd": "1"}})
    )
    try:
        await reads(path, nameless)
    except FluxFlexError as error:
        assert "another account" not in str(error)  # noqa: PT017 - either is fine but this


async def test_opening_costs_one_look_at_the_account(tmp_path: Path) -> None:
    """Asked once; without a journal not at all."""
    async with quick(journal=tmp_path / "j.db") as session:
        assert session.fake.count("account") == 1
    async with quick() as session:
        assert session.fake.seen == []


async def test_a_session_that_could_not_open_is_not_open(tmp_path: Path) -> None:
    """It holds no file and no connection, and says so."""
    path = tmp_path / "j.db"
    async with quick(journal=path):
        session = quick(journal=path)
        with pytest.raises(JournalError, match="in use"):
            await session.open()
        with pytest.raises(ConfigurationError, match="not open"):
            await session.submit("a")
        await session.aclose()
    refused_ = quick(who(8), journal=path)
    await left(path)
    with pytest.raises(JournalError):
        await refused_.open()
    assert refused_.fake.closed
    assert names_in(tmp_path) == ["j.db"]


async def test_no_room_at_the_beginning(tmp_path: Path) -> None:
    """Where nothing can be put aside nothing is begun."""
    (tmp_path / "j.db-reserve").mkdir()
    with pytest.raises(JournalError, match="cannot be written"):
        await reads(tmp_path / "j.db")


async def test_a_session_without_a_journal_has_nothing_to_resume() -> None:
    """It is said how to have one."""
    async with quick() as session:
        with pytest.raises(ConfigurationError, match="no journal") as caught:
            await session.resume()
        assert "journal=path" in caught.value.hint
        assert session.uncertain() == []
    assert FakeSession().uncertain() == []


@pytest.mark.parametrize("journal", [5, "", b"j.db"])
async def test_a_journal_is_a_path(journal: Any) -> None:
    """Found when the session is made."""
    with pytest.raises(ConfigurationError, match="journal must be a path"):
        FakeSession(journal=journal)


@pytest.mark.parametrize("keep", [0, -1, "1", float("nan"), True])
async def test_keep_is_a_number_of_days(keep: Any) -> None:
    """Found when the session is made."""
    with pytest.raises(ConfigurationError, match="keep must be a number above 0"):
        FakeSession(keep=keep)


# -- resume -----------------------------------------------------------------------------------


async def test_what_was_accepted_is_followed_again(tmp_path: Path) -> None:
    """With its request and its metadata, costing nothing; its picture is the one that was paid."""
    path = tmp_path / "j.db"
    session = quick(FakeTransport(seconds=1e6), journal=path)
    await session.open()
    await session.submit("a", quality="2K", metadata={"n": 1}, callback_url="https://me.example/t")
    await session.aclose(drain=0)
    async with quick(FakeTransport(seconds=5), journal=path) as session:
        [handle] = await session.resume()
        assert (handle.task_id, handle.state) == ("t1", TaskState.RUNNING)
        assert handle.request == GenerateRequest("a", quality="2K", metadata={"n": 1})
        assert session.handles() == [handle]
        image = await handle
        assert (image.task_id, image.cost) == ("t1", Decimal("0.06"))
        now = session.statistics()
        assert (now.attached, now.accepted, now.posts) == (1, 0, 0)
        assert (now.spent, now.reserved, now.earlier) == (NOTHING, NOTHING, Decimal("0.06"))
    assert session.fake.posts == 0


async def test_what_is_finished_is_given_until_it_is_collected(tmp_path: Path) -> None:
    """A picture that was read or saved is collected; one that was only known is not."""
    path = tmp_path / "j.db"
    async with quick(journal=path) as session:
        images = [await session.generate(str(n)) for n in range(4)]
        await images[0].read()
        await images[1].save(tmp_path / "b.png")
    async with quick(journal=path) as session:
        handles = await session.resume()
        assert [(handle.task_id, handle.state) for handle in handles] == [
            ("t3", TaskState.COMPLETED),
            ("t4", TaskState.COMPLETED),
        ]
        assert await (await handles[0]).read() == PNG
        assert await handles[0] == images[2]
        assert [handle.task_id for handle in await session.resume()] == ["t4"]
    async with quick(journal=path) as session:
        [handle] = await session.resume()
        await (await handle).save(tmp_path / "d.png")
        assert await session.resume() == []
        assert session.fake.count("status") == 0
    entries = [entry async for entry in read_journal(path)]
    assert [entry.collected for entry in entries] == [True] * 4
    assert [entry.path for entry in entries] == [None, tmp_path / "b.png", None, tmp_path / "d.png"]


async def test_a_picture_collected_after_the_session_is_not_noted(tmp_path: Path) -> None:
    """Nobody can write it down then: it is given once more rather than never."""
    path = tmp_path / "j.db"
    async with quick(journal=path) as session:
        image = await session.generate("a")
    session.fake.seen.clear()
    assert image.task_id == "t1"
    async with quick(journal=path) as session:
        assert len(await session.resume()) == 1


async def test_resumed_twice(tmp_path: Path) -> None:
    """The same handles, and one task each: nothing is followed or counted twice."""
    path = tmp_path / "j.db"
    await left(path, count=3)
    fake = FakeTransport(seconds=9)
    fake.script("submit", accepted("new"))
    async with quick(fake, journal=path) as session:
        first, second = await session.resume(), await session.resume()
        assert first == second
        assert session.statistics().in_flight == 3
        assert session.statistics().attached == 3
        new = await session.submit("new")
        third = await session.resume()
        assert third == [*first, new]
        await asyncio.gather(*third)
        assert session.statistics().in_flight == 0
    assert session.fake.posts == 1


async def test_resumed_tasks_hold_slots_and_are_never_refused(tmp_path: Path) -> None:
    """They count in the ceiling: a new submit waits until there is room."""
    path = tmp_path / "j.db"
    await left(path, count=5)
    async with quick(FakeTransport(seconds=5), journal=path, concurrency=2) as session:
        handles = await session.resume()
        assert len(handles) == session.statistics().in_flight == 5
        submit = asyncio.create_task(session.submit("new"))
        await asyncio.sleep(2)
        assert session.fake.posts == 0
        await asyncio.gather(*handles)
        await submit
        assert session.fake.posts == 1


async def test_an_attached_task_that_the_journal_has_is_one_task(tmp_path: Path) -> None:
    """Attached first and resumed then, it is followed once."""
    path = tmp_path / "j.db"
    await left(path)
    async with quick(FakeTransport(seconds=9), journal=path) as session:
        handle = session.attach("t1")
        assert await session.resume() == [handle]
        await (await handle).read()
        assert session.statistics().in_flight == 0


@pytest.mark.parametrize("held", [True, False])
async def test_what_timed_out_is_taken_up_again(tmp_path: Path, *, held: bool) -> None:
    """In the same session or a later one, whether somebody still holds its handle or not."""
    path = tmp_path / "j.db"
    kept: list[TaskHandle] = []
    async with quick(FakeTransport(seconds=50), journal=path) as session:
        handle = await session.submit("a", timeout=5)
        assert await handle.wait() is TaskState.TIMED_OUT
        if held:
            kept.append(handle)
        del handle
        [again] = await session.resume()
        assert again.state is TaskState.RUNNING
        assert (await again).task_id == "t1"
        now = session.statistics()
        assert (now.in_flight, now.timed_out, now.completed) == (0, 0, 1)
    assert [row["state"] for row in rows(path)] == ["COMPLETED"]


async def test_what_timed_out_is_taken_up_by_a_later_session(tmp_path: Path) -> None:
    """The error is gone, the task runs, and its last word is written down."""
    path = tmp_path / "j.db"
    async with quick(FakeTransport(seconds=1e6), journal=path) as session:
        with pytest.raises(TaskTimeoutError):
            await session.generate("a", timeout=5)
    assert [row["state"] for row in rows(path)] == ["TIMED_OUT"]
    fake = FakeTransport().rule("status", lambda _: failed("t1"))
    async with quick(fake, journal=path) as session:
        [handle] = await session.resume()
        with pytest.raises(GenerationError):
            await handle
        assert session.statistics().failed == 1
    [entry] = [entry async for entry in read_journal(path)]
    assert (entry.state, entry.spent) == (TaskState.FAILED, PRICE)
    async with quick(journal=path) as session:
        assert await session.resume() == []


async def test_a_task_that_the_provider_does_not_know_any_more(tmp_path: Path) -> None:
    """Three 404s end our following it; it stays owed, since it was paid for."""
    path = tmp_path / "j.db"
    await left(path)
    gone = FakeTransport().rule("status", lambda _: refused(404))
    for _ in range(2):
        async with quick(gone, journal=path) as session:
            [handle] = await session.resume()
            with pytest.raises(TaskNotFoundError) as caught:
                await handle
            assert caught.value.task_id == "t1"
        assert [row["state"] for row in rows(path)] == ["ABANDONED"]
    async with quick(FakeTransport(seconds=1), journal=path) as session:
        [handle] = await session.resume()
        assert (await handle).task_id == "t1"


async def test_what_still_runs_at_the_end_is_still_owed(tmp_path: Path) -> None:
    """Closed before they end, tasks are taken up by the next session, as often as need be."""
    path = tmp_path / "j.db"
    await left(path, count=2)
    for _ in range(3):
        session = quick(FakeTransport(seconds=1e6), journal=path)
        await session.open()
        handles = await session.resume()
        assert [handle.task_id for handle in handles] == ["t1", "t2"]
        await session.aclose(drain=0)
        with pytest.raises(SessionClosedError):
            await handles[0]
    assert all(entry.unfinished for entry in [entry async for entry in read_journal(path)])


async def test_resume_waits_for_what_is_being_written(tmp_path: Path, disk: Disk) -> None:
    """What is on its way to the disk is not given as it was before."""
    async with quick(journal=tmp_path / "j.db") as session:
        image = await session.generate("a")
        disk.hold()
        await image.read()
        resume = asyncio.create_task(session.resume())
        await asyncio.sleep(5)
        assert not resume.done()
        disk.gate.set()
        assert await resume == []


async def test_a_journal_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Resuming raises in words."""
    async with quick(journal=tmp_path / "j.db") as session:
        await session._remembered._store.fetch("DROP TABLE items")
        with pytest.raises(JournalError):
            await session.resume()


async def test_resume_after_the_session_closed(tmp_path: Path) -> None:
    """It is too late then."""
    session = quick(journal=tmp_path / "j.db")
    await session.open()
    await session.aclose()
    with pytest.raises(SessionClosedError):
        await session.resume()


# -- what is uncertain ------------------------------------------------------------------------


async def test_what_was_uncertain_stays_so_over_sessions(tmp_path: Path) -> None:
    """With request, error and attempts; it is never sent again and never resumed."""
    path = tmp_path / "j.db"
    await left(path, SENT, None, SENT, count=3)
    for _ in range(2):
        async with quick(FakeTransport(seconds=1), journal=path) as session:
            found = session.uncertain()
            prompts = [record.request.prompt for record in found if record.request]
            assert prompts == ["study 0", "study 2"]
            assert all(isinstance(record.error, SubmitUncertainError) for record in found)
            assert [(record.attempts, record.state) for record in found] == [
                (1, TaskState.UNCERTAIN)
            ] * 2
            assert session.statistics().uncertain == 0  # this session's own
            await asyncio.gather(*await session.resume())
            assert session.fake.posts == 0
    async with quick(FakeTransport().script("submit", SENT), journal=path) as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit("new")
        assert [r.request and r.request.prompt for r in session.uncertain()] == [
            *("study 0", "study 2", "new")
        ]


async def test_a_kill_while_sending_is_uncertain(tmp_path: Path) -> None:
    """Whoever opens the file next finds it so, with the time at which it was sent."""
    path = tmp_path / "j.db"
    await left(path)
    change(
        path, "UPDATE items SET state = 'SENDING', task_id = NULL, spent = NULL, reserved = 0.04"
    )
    async with quick(journal=path) as session:
        [record] = session.uncertain()
        assert isinstance(record.error, SubmitUncertainError)
        assert record.error.sent_at == rows_sent_at(record.error)
        assert session.statistics().earlier == PRICE
        assert await session.resume() == []
    assert [row["state"] for row in rows(path)] == ["UNCERTAIN"]


def rows_sent_at(error: SubmitUncertainError) -> float:
    """Return when it was sent: a time of our days."""
    assert error.sent_at is not None
    assert error.sent_at > 1.7e9
    return error.sent_at


# -- money ------------------------------------------------------------------------------------


async def test_the_budget_counts_what_came_before(tmp_path: Path) -> None:
    """Spent, failed and uncertain take room; refused ones do not. To the cent."""
    path = tmp_path / "j.db"
    fake = FakeTransport().script("submit", None, SENT, refused(422), None)
    fake.rule("status", lambda call: failed("t1") if call.url.endswith("t1") else None)
    async with quick(fake, journal=path) as session:
        for _ in range(4):
            with contextlib.suppress(FluxFlexError):
                await session.generate("a", quality="2K")
    async with quick(journal=path, budget="0.22") as session:
        now = session.statistics()
        assert (now.earlier, now.spent, now.reserved) == (Decimal("0.18"), NOTHING, NOTHING)
        await session.generate("b")
        with pytest.raises(BudgetExceededError) as caught:
            await session.generate("c")
        assert (caught.value.spent, caught.value.budget) == (Decimal("0.22"), Decimal("0.22"))
        now = session.statistics()
        assert (now.earlier, now.spent, now.reserved) == (Decimal("0.18"), PRICE, NOTHING)
    async with quick(journal=path, budget="0.22") as session:
        assert session.statistics().earlier == Decimal("0.22")
        with pytest.raises(BudgetExceededError):
            await session.generate("d")


@pytest.mark.parametrize("prices", [None, {"1K": "0.10"}, {}])
async def test_a_cost_told_later_replaces_what_was_counted(
    tmp_path: Path, prices: dict[str, str] | None
) -> None:
    """Whatever the table says now, budget and row have what the provider says that it cost."""
    path = tmp_path / "j.db"
    await left(path)
    fake = FakeTransport().rule("status", lambda _: completed("t1", cost="0.0375"))
    async with quick(fake, journal=path, prices=prices) as session:
        [handle] = await session.resume()
        assert (await handle).cost == Decimal("0.0375")
        now = session.statistics()
        assert now.earlier + now.spent == Decimal("0.0375")
    [entry] = [entry async for entry in read_journal(path)]
    assert entry.spent == Decimal("0.0375")
    async with quick(journal=path) as session:
        assert session.statistics().earlier == Decimal("0.0375")


async def test_sums_are_exact(tmp_path: Path) -> None:
    """A hundred tenths of a cent are ten cents: no float anywhere."""
    path = tmp_path / "j.db"
    async with quick(journal=path, prices={"1K": "0.001"}, concurrency=50) as session:
        await session.map([str(n) for n in range(100)]).collect()
    async with quick(journal=path) as session:
        assert str(session.statistics().earlier) == "0.100"


async def test_a_rescued_submit_is_counted_once(tmp_path: Path) -> None:
    """What is followed by hand after an uncertain submit is not paid twice in the books."""
    path = tmp_path / "j.db"
    await left(path, SENT)
    async with quick(journal=path) as session:
        await session.attach("t1")
        now = session.statistics()
        assert (now.earlier, now.spent) == (PRICE, NOTHING)


# -- unknown prices ---------------------------------------------------------------------------


async def test_a_price_that_nobody_knows_is_refused_under_a_budget() -> None:
    """Nothing is sent; without a budget it is bought at an unknown price."""
    async with quick(prices={"2K": 1}, budget=5) as session:
        with pytest.raises(ConfigurationError, match="No price is known for quality 1K") as caught:
            await session.submit("a")
        assert "prices" in caught.value.hint
        assert session.fake.posts == 0
        await session.submit("a", quality="2K")
        assert session.statistics().in_flight == 1
    async with quick(prices={}) as session:
        assert (await session.generate("a")).cost is None
        assert session.statistics().spent == 0


# -- forgetting -------------------------------------------------------------------------------


async def every_kind(path: Path) -> None:
    """Leave a journal with an item of each kind, all of long ago."""
    fake = FakeTransport(seconds=2)
    fake.script("submit", None, None, None, SENT, refused(422), Late(accepted("slow"), 0))
    fake.rule("status", lambda call: failed("t4") if call.url.endswith("t4") else None)
    fake.due["slow"] = 1e9
    session = quick(fake, journal=path)
    await session.open()
    handles = []
    for name in ("read", "unread", "failed", "uncertain", "refused", "running"):
        with contextlib.suppress(FluxFlexError):
            handles.append(await session.submit(f"the {name} one"))
    await (await handles[0]).read()
    await handles[1]
    await handles[2].wait()
    await session.aclose(drain=0)
    change(path, "UPDATE items SET noted_at = 9")


async def test_what_is_finished_is_forgotten_after_so_many_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collected, failed and refused ones; never what is still to be followed or cleared up."""
    path = tmp_path / "j.db"
    await every_kind(path)
    earlier = sum((money(r["spent"]) + money(r["reserved"]) for r in rows(path)), NOTHING)
    assert earlier == 5 * PRICE
    monkeypatch.setattr("fluxflex._aio.memory.time.time", lambda: 9 + 2 * DAYS)
    await reads(path, keep=2)  # not a moment too early
    assert len(rows(path)) == 6
    await reads(path)  # without `keep` nothing is forgotten
    assert len(rows(path)) == 6
    await reads(path, keep=1.99)
    prompts = [entry.request and entry.request.prompt async for entry in read_journal(path)]
    assert prompts == ["the unread one", "the uncertain one", "the running one"]
    content = path.read_bytes()
    for gone in (b"the read one", b"the failed one", b"the refused one"):
        assert gone not in content
    async with quick(journal=path, keep=1) as session:
        assert session.statistics().earlier == earlier
        assert len(session.uncertain()) == 1
        assert [handle.task_id for handle in await session.resume()] == ["t3", "slow"]
        await session.aclose(drain=0)


async def test_a_clock_that_was_set_back_forgets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the future by the clock is not old."""
    path = tmp_path / "j.db"
    await every_kind(path)
    monkeypatch.setattr("fluxflex._aio.memory.time.time", lambda: -5 * DAYS)
    await reads(path, keep=1)
    assert len(rows(path)) == 6


# -- a failure in mid-life --------------------------------------------------------------------


async def test_what_was_resumed_is_followed_after_a_failure(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing new is sent, but pictures that were paid for come."""
    path = tmp_path / "j.db"
    await left(path, count=2)
    async with quick(FakeTransport(seconds=20), journal=path) as session:
        handles = await session.resume()
        disk.fail(*(trouble(FULL) for _ in range(3)))
        with pytest.raises(JournalError):
            await session.submit("new")
        images = await asyncio.gather(*handles)
        assert [await image.read() for image in images] == [PNG, PNG]
        assert session.fake.posts == 0
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert [(row["state"], row["collected"]) for row in rows(path)][:2] == [("COMPLETED", 1)] * 2
