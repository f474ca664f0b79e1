"""Callbacks: whichever brings the last word first, and none of them does harm."""

from __future__ import annotations

import asyncio
import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import fluxflex
from fluxflex import GenerateRequest, TaskState, Timeouts
from fluxflex._aio import callbacks
from fluxflex._core import decode
from fluxflex.errors import (
    ConfigurationError,
    GenerationError,
    SubmitUncertainError,
    TaskTimeoutError,
    WebhookError,
)
from fluxflex.webhooks import WebhookReceiver
from tests.aio.fakes import (
    HANG,
    SENT,
    FakeSession,
    FakeTransport,
    Late,
    accepted,
    completed,
    failed,
    fields,
    now,
    page,
    refused,
    running,
    settle,
)
from tests.stories.caller import JSON, SELDOM, URL, Stage, done

pytestmark = pytest.mark.looptime(start=0)

NONE = dict.fromkeys(callbacks.KINDS, 0)
SAMPLES = Path(__file__).parents[1] / "samples"
SHAPES = {each.name: each.read_text() for each in SAMPLES.glob("callback-*.json")}


async def test_a_callback_resolves_the_handle() -> None:
    """At once, without a look; the slot is free and the picture is the callback's."""
    stage = Stage()
    async with stage.session as session:
        handle = await session.submit("a")
        assert await stage.call(done("t1")) == 200
        image = await handle
        assert (image.url, image.task_id, image.elapsed) == (
            "https://files.test/right.png",
            "t1",
            0.0,
        )
        assert session.statistics().in_flight == 0
    assert stage.fake.count("status") == 0
    assert stage.counts() == {"received": 1}


@pytest.mark.parametrize("name", sorted(SHAPES))
async def test_every_shape_that_is_known(name: str) -> None:
    """Each of the provider's forms brings the state that it stands for."""
    case = json.loads(SHAPES[name])
    task_id = case["expect"]["task_id"]
    stage = Stage(FakeTransport().script("submit", accepted(task_id)))
    async with stage.session as session:
        handle = await session.submit("a")
        await stage.call(case["body"])
        assert handle.state.value == case["expect"]["state"]
        if handle.state is TaskState.COMPLETED:
            assert list((await handle).urls) == case["expect"]["image_urls"]
        else:
            with pytest.raises(GenerationError, match=case["expect"]["message"]):
                await handle


async def test_each_submit_has_its_own_url() -> None:
    """No two are alike; a request's own is kept, and then no callback of ours is expected."""
    stage = Stage(FakeTransport(seconds=500), api="v1")
    stage.fake.rule("status", lambda _: None)
    async with stage.session as session:
        for n in range(2):
            await session.submit(str(n))
        await session.submit("own", callback_url="https://mine.test/x")
        urls = [fields(seen.call)["callback_url"] for seen in stage.fake.seen]
        assert len(set(urls)) == 3
        assert urls[2] == "https://mine.test/x"
        assert all(str(url).startswith(URL + "/") for url in urls[:2])
        assert session.handles()[0].request == GenerateRequest("0")
        for n in (0, 1):
            await stage.call(done(f"t{n + 1}"), n)
        stage.session.engine.tasks.stopping.set()


async def test_early_before_the_posts_own_reply() -> None:
    """A callback that beats the reply ends the task; the reply that comes then changes nothing."""
    stage = Stage(FakeTransport().script("submit", Late(accepted("t1"), 0.5)))
    async with stage.session as session:
        submitting = asyncio.create_task(session.submit("a"))
        await settle()
        await stage.call(done("t1"))
        handle = await submitting
        assert now() == 0.5
        assert (await handle).url.endswith("right.png")
    assert stage.fake.posts == session.statistics().accepted == 1
    assert stage.counts() == {"received": 1, "early": 1}


async def test_early_and_the_reply_never_comes() -> None:
    """Soon after the callback nobody waits for the POST any more; it is not uncertain."""
    stage = Stage(FakeTransport().script("submit", HANG, HANG))
    async with stage.session as session:
        submitting = asyncio.create_task(session.submit("a"))
        async with session.map(["b"]) as batch:
            await settle()
            await stage.call(done("t1"), 0)
            await stage.call(done("t2"), 1)
            [outcome] = [each async for each in batch]
        assert {outcome.task_id, (await submitting).task_id} == {"t1", "t2"}
        assert now() == 1.0
        statistics = session.statistics()
    assert (statistics.uncertain, statistics.completed, statistics.in_flight) == (0, 2, 0)
    assert statistics.spent == Decimal("0.08")
    assert statistics.reserved == 0


@pytest.mark.parametrize("reply", [refused(429), refused(422), page(502)])
async def test_early_and_the_reply_says_no(reply: Any) -> None:
    """What a callback told exists was accepted, whatever the POST is answered: no second one."""
    stage = Stage(FakeTransport().script("submit", Late(reply, 0.5)))
    async with stage.session as session:
        submitting = asyncio.create_task(session.generate("a"))
        await settle()
        await stage.call(done("t1"))
        assert (await submitting).task_id == "t1"
    assert stage.fake.posts == 1


async def test_a_callback_in_the_pause_after_a_refusal() -> None:
    """The refused attempt was accepted after all: the next one is not sent."""
    stage = Stage(FakeTransport().script("submit", refused(429, retry_after="5")))
    async with stage.session as session:
        submitting = asyncio.create_task(session.generate("a"))
        await asyncio.sleep(1)
        assert session.engine.tasks.registry.get(1).state is TaskState.QUEUED  # type: ignore[union-attr]  # it is there
        await stage.call(done("t1"))
        assert (await submitting).task_id == "t1"
    assert stage.fake.posts == 1
    assert stage.counts() == {"received": 1, "early": 1}


@pytest.mark.parametrize("reply", [SENT, page(502)])
async def test_a_callback_rescues_an_unanswered_submit(reply: Any) -> None:
    """Nobody is told that it is uncertain while its callback may still come."""
    stage = Stage(FakeTransport().script("submit", reply))
    async with stage.session as session:
        submitting = asyncio.create_task(session.generate("a"))
        await asyncio.sleep(119)
        assert not submitting.done()
        assert session.statistics().uncertain == 0
        assert (await session.submit("b")).task_id == "t1"
        await stage.call(done("lost"))
        assert (await submitting).task_id == "lost"
        await stage.call(done("t1"), 1)
    assert stage.counts() == {"received": 2, "early": 1}


async def test_a_submit_is_uncertain_when_no_callback_came() -> None:
    """After `adopt` seconds it is told, and a callback after that still counts."""
    options = {"timeout": Timeouts(adopt=5, task=2000)}
    stage = Stage(FakeTransport().script("submit", SENT), **options)
    async with stage.session as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit("a")
        assert now() == 5
        [left] = session.uncertain()
        await stage.call(done("lost"))
        assert session.uncertain() == []
        handle = session.attach("lost")
        assert (await handle).url.endswith("right.png")
        statistics = session.statistics()
    assert left.task_id is None
    assert (statistics.uncertain, statistics.completed) == (0, 1)
    assert (statistics.spent, statistics.reserved) == (Decimal("0.04"), Decimal(0))
    assert stage.counts() == {"received": 1, "late": 1}


async def test_opted_in_to_resubmitting_it_waits_for_the_callback_first() -> None:
    """Only when none came is it sent again; the same URL serves both."""
    retry = fluxflex.RetryPolicy(resubmit_uncertain=True)
    options: dict[str, Any] = {"retry": retry, "timeout": Timeouts(adopt=5, task=2000)}
    stage = Stage(FakeTransport(seconds=500).script("submit", SENT), **options)
    async with stage.session as session:
        handle = await session.submit("a")
        assert stage.fake.times("submit")[1] > 5
        assert stage.path(0) == stage.path(1)
        await stage.call(done("other"))
        assert handle.state is TaskState.RUNNING
        await stage.call(done("t1"))
        await handle
    assert stage.counts() == {"received": 2, "unknown": 1}


@pytest.mark.parametrize("place", ["pause", "disk"])
async def test_a_callback_before_an_uncertain_one_is_sent_again(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """However late before the second attempt it comes: that one is not sent, nor paid for."""
    retry = fluxflex.RetryPolicy(resubmit_uncertain=True, initial=3, maximum=3)
    options: dict[str, Any] = {"retry": retry, "timeout": Timeouts(adopt=5, task=2000)}
    stage = Stage(FakeTransport().script("submit", SENT), **options)
    async with stage.session as session:
        tasks, waits = session.engine.tasks, iter([False, True])
        original = tasks.written

        async def written(key: int) -> None:
            if next(waits, False):
                await stage.call(done("lost"))
            await original(key)

        if place == "disk":
            monkeypatch.setattr(tasks, "written", written)
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(6)
        if place == "pause":
            await stage.call(done("lost"))
        assert (await submitting).task_id == "lost"
        statistics = session.statistics()
    assert stage.fake.posts == 1
    assert (statistics.spent, statistics.reserved) == (Decimal("0.04"), Decimal(0))


async def test_leaving_does_not_wait_for_a_callback() -> None:
    """Detached at once: what was not answered is uncertain."""
    stage = Stage(FakeTransport().script("submit", SENT))
    await stage.session.open()
    submitting = asyncio.create_task(stage.session.submit("a"))
    await asyncio.sleep(1)
    await stage.session.aclose(drain=0)
    with pytest.raises(SubmitUncertainError):
        await submitting
    assert now() == 1


async def test_duplicates_change_nothing() -> None:
    """However often it comes, in whatever form: the first last word stays."""
    stage = Stage()
    async with stage.session as session:
        handle = await session.submit("a")
        await stage.call(done("t1"))
        await stage.call(done("t1", "wrong"))
        await stage.call({"task_id": "t1", "status": "failed", "error_message": "no"})
        assert (await handle).url.endswith("right.png")
    assert stage.counts() == {"received": 3, "duplicate": 2}


async def test_both_bring_the_last_word() -> None:
    """A look was quicker: what comes later is late, and counts no more as missed."""
    stage = Stage(FakeTransport(seconds=1), poll=fluxflex.FixedPolling(1))
    async with stage.session as session:
        image = await session.generate("a")
        assert stage.counts() == {"missed": 1}
        await stage.call(done("t1", "wrong"))
        await stage.call(done("t1", "wrong"))
    assert image.url == "http://files.test/t1.png"
    assert stage.counts() == {"received": 2, "late": 1, "duplicate": 1}


@pytest.mark.parametrize("by_look", [False, True])
async def test_a_task_of_which_only_its_end_is_known(
    monkeypatch: pytest.MonkeyPatch, *, by_look: bool
) -> None:
    """Its record is gone, for others ended since: what comes for it is counted all the same."""
    stage = Stage(FakeTransport(seconds=1), poll=fluxflex.FixedPolling(1))
    async with stage.session as session:
        monkeypatch.setattr(session.engine.tasks.registry, "_keep_ended", 0)
        handle = await session.submit("a")
        if not by_look:
            await stage.call(done("t1"))
        await handle
        for _ in range(2):
            await stage.call(done("t1"))
    ours = {"received": 2, "late": 1, "duplicate": 1}
    assert stage.counts() == (ours if by_look else {"received": 3, "duplicate": 2})


async def test_late_after_we_gave_up() -> None:
    """The provider's word beats ours: a task that timed out is completed after all."""
    stage = Stage(timeout=5, poll=fluxflex.FixedPolling(1))
    async with stage.session as session:
        handle = await session.submit("a")
        with pytest.raises(TaskTimeoutError):
            await handle
        await stage.call(done("t1"))
        assert (await handle).url.endswith("right.png")
    assert stage.counts() == {"received": 1, "late": 1}


async def test_a_callback_for_nobody() -> None:
    """Of a closed session, of a task that its token does not name, or of one that is forgotten."""
    stage = Stage()
    other = Stage(receiver=stage.receiver)
    async with stage.session as session:
        async with other.session as second:
            handle = await second.submit("b")
            assert (await session.submit("a")).task_id == "t1"
            await other.call(done("t1"))
            await handle
        assert await other.call(done("zzz")) == 200
        assert await stage.call(done("zzz")) == 200
        await stage.call(done("t1"))
    assert stage.counts() == {"received": 3, "unknown": 2}
    assert other.counts() == {"received": 1}
    assert await stage.call(done("t1")) == 503


@pytest.mark.parametrize(("secret", "status"), [("kept", 200), ("another", 404)])
async def test_a_callback_that_reaches_another_worker(secret: str, status: int) -> None:
    """It is counted there and does nothing; whoever sent the task learns of its end by a look."""
    first = Stage(FakeTransport(seconds=1), poll=fluxflex.FixedPolling(1))
    second = Stage(receiver=WebhookReceiver(URL, secret=secret))
    async with first.session as session, second.session:
        handle = await session.submit("a")
        raw = json.dumps(done("t1", "wrong")).encode()
        assert await second.receiver.receive("POST", first.path(), JSON, raw) == status
        assert (await handle).url == "http://files.test/t1.png"
        count = {"received": 1, "unknown": 1} if status == 200 else {"refused": 1}
        assert second.counts() == count
        assert second.session.handles() == []
    assert first.counts() == {"missed": 1}


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"{}", b'{"status": "completed"}', b"[" * 100_000, b"null"]
)
async def test_what_is_broken_is_counted(body: bytes) -> None:
    """A callback without a last word and an id changes nothing."""
    stage = Stage()
    async with stage.session as session:
        handle = await session.submit("a")
        assert await stage.call(body) == 200
        assert handle.state is TaskState.RUNNING
        await stage.call(done("t1"))
    assert stage.counts() == {"received": 2, "broken": 1}


async def test_a_flood_of_true_ones_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is no room for comes again; the loop has its turn between."""
    monkeypatch.setattr(callbacks, "_ROOM", 3)
    monkeypatch.setattr(callbacks, "_AT_ONCE", 2)
    stage = Stage()
    async with stage.session as session:
        handle = await session.submit("a")
        raw = json.dumps(done("t1")).encode()
        told = [await stage.receiver.receive("POST", stage.path(), JSON, raw) for _ in range(4)]
        assert told == [200, 200, 200, 503]
        await handle
        await settle()
        monkeypatch.setattr(callbacks, "_ROOM_BYTES", 3)
        assert await stage.call(raw) == 503
    assert stage.counts() == {"received": 3, "duplicate": 2, "refused": 2}


async def test_so_many_are_known_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of older ones it is forgotten that a callback came: they count as late."""
    monkeypatch.setattr(callbacks, "_KEPT", 1)
    stage = Stage()
    async with stage.session as session:
        for n in range(2):
            await session.submit(str(n))
        for n in (0, 1, 0):
            await stage.call(done(f"t{n + 1}"), n)
    assert stage.counts() == {"received": 3, "late": 1}


async def test_a_fault_of_ours_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next callback is worked on."""
    stage = Stage()
    async with stage.session as session:
        handle = await session.submit("a")
        with monkeypatch.context() as patch:
            patch.setattr(decode, "read_callback", lambda _: 1 / 0)
            await stage.call(done("t1"))
        assert handle.state is TaskState.RUNNING
        await stage.call(done("t1"))
        await handle
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_polling_relaxes_while_callbacks_come_and_takes_over() -> None:
    """Fewer looks at tasks whose callbacks come; all end, soon, when none comes any more."""
    looks = []
    for come in (False, True):
        stage = Stage(FakeTransport(seconds=20), poll=fluxflex.AdaptivePolling())
        async with stage.session as session:
            for n in range(60):
                handle = await session.submit("a")
                await asyncio.sleep(20)
                if come:
                    await stage.call(done(f"t{n + 1}"), n)
                await handle
            looks.append(stage.fake.count("status"))
            began = now()
            await session.generate("a")
            assert now() - began < 25
    assert looks[1] < looks[0] * 0.8


# -- asking instead of believing -----------------------------------------------------------------


async def test_confirmed_by_a_look() -> None:
    """With `confirm` the callback's own words are not believed: a look is made at once."""
    stage = Stage(FakeTransport(seconds=10), confirm=True)
    async with stage.session as session:
        handle = await session.submit("a")
        await asyncio.sleep(5)
        await stage.call(done("t1", "forged"))
        assert handle.state is TaskState.RUNNING
        await asyncio.sleep(5)
        await stage.call(done("t1", "forged"))
        assert (await handle).url == "http://files.test/t1.png"
        assert now() == 10
        assert stage.fake.count("status") == 2
    assert stage.counts() == {"received": 2, "duplicate": 1}


async def test_confirming_keeps_to_the_rate() -> None:
    """Looks that callbacks ask for count like all others."""
    stage = Stage(FakeTransport(seconds=0), confirm=True, poll_rate=2)
    async with stage.session as session:
        handles = [await session.submit(str(n)) for n in range(6)]
        for n in range(6):
            await stage.call(done(f"t{n + 1}"), n)
        await asyncio.gather(*handles)
    assert stage.fake.times("status") == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5], abs=1e-4)


async def test_confirming_an_early_one() -> None:
    """It waits for the POST's own reply, which brings the id that is asked for."""
    stage = Stage(FakeTransport(seconds=0).script("submit", Late(accepted("t1"), 3)), confirm=True)
    async with stage.session as session:
        submitting = asyncio.create_task(session.generate("a"))
        await settle()
        await stage.call(done("forged"))
        assert stage.fake.count("status") == 0
        assert (await submitting).url == "http://files.test/t1.png"
        assert now() == 3


@pytest.mark.parametrize("when", ["before", "while", "after"])
async def test_confirming_an_unanswered_one(when: str) -> None:
    """The id that the callback brings is asked for, before it is taken for ours."""
    fake = FakeTransport(seconds=0).script("submit", Late(SENT, 1))
    stage = Stage(fake, confirm=True, timeout=Timeouts(adopt=5, task=2000))
    async with stage.session as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep({"before": 0.5, "while": 2, "after": 7}[when])
        await stage.call(done("lost"))
        await stage.call(done("lost"))
        if when == "after":
            with pytest.raises(SubmitUncertainError):
                await submitting
            handle = session.attach("lost")
        else:
            handle = await submitting
        assert (await handle).url == "http://files.test/lost.png"
        assert session.uncertain() == []


@pytest.mark.parametrize("reply", [refused(404), running("lost")])
async def test_what_the_provider_does_not_confirm(reply: Any) -> None:
    """Unknown there, the submit stays uncertain; running there, it is ours and followed."""
    fake = FakeTransport(seconds=0).script("submit", SENT).script("status", reply)
    stage = Stage(fake, confirm=True, timeout=Timeouts(adopt=5, task=2000), poll_rate=None)
    async with stage.session as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(1)
        await stage.call(done("lost"))
        if reply.status == 404:
            with pytest.raises(SubmitUncertainError):
                await submitting
        else:
            assert (await submitting).state is TaskState.RUNNING


async def test_a_picture_in_a_place_that_is_not_known() -> None:
    """A callback that says completed without a picture is no failure: a look tells more."""
    stage = Stage(FakeTransport(seconds=0))
    async with stage.session as session:
        handle = await session.submit("a")
        await stage.call({"task_id": "t1", "status": "completed", "data": {"picture": "?"}})
        assert (await handle).url == "http://files.test/t1.png"
    assert stage.fake.count("status") == 1


@pytest.mark.parametrize("reply", [completed("t1"), running("t1")])
async def test_confirming_a_late_one(reply: Any) -> None:
    """A task that timed out is completed when a look says so too, and by nothing less."""
    fake = FakeTransport().rule("status", lambda _: running("t1"))
    stage = Stage(fake, confirm=True, timeout=5, poll=fluxflex.FixedPolling(1))
    async with stage.session as session:
        handle = await session.submit("a")
        with pytest.raises(TaskTimeoutError):
            await handle
        fake.rule("status", lambda _: reply)
        looks = fake.count("status")
        await stage.call(done("t1", "forged"))
        assert fake.count("status") == looks + 1
        if reply == completed("t1"):
            assert (await handle).url == "http://files.test/t1.png"
        else:
            assert handle.state is TaskState.TIMED_OUT
    assert stage.counts() == {"received": 1, "late": 1}


async def test_confirming_when_the_provider_is_out_of_order() -> None:
    """A look that brings no news is made again, so that an unanswered submit is still adopted."""
    fake = FakeTransport(seconds=0).script("submit", SENT)
    fake.script("status", page(502), page(502))
    stage = Stage(fake, confirm=True)
    async with stage.session as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(1)
        await stage.call(done("lost"))
        assert (await (await submitting)).url == "http://files.test/lost.png"


async def test_a_failure_is_confirmed_too() -> None:
    """What says that a task failed is as little believed as what says that it is done."""
    stage = Stage(FakeTransport(seconds=10), confirm=True)
    async with stage.session as session:
        handle = await session.submit("a")
        await stage.call({"task_id": "t1", "status": "failed", "error_message": "forged"})
        assert handle.state is TaskState.RUNNING
        await asyncio.sleep(10)
        await stage.call({"task_id": "t1", "status": "failed", "error_message": "forged"})
        assert (await handle).url == "http://files.test/t1.png"


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://files.test/a", "//files.test/a", 7])
async def test_a_picture_that_is_not_at_an_http_address(url: object) -> None:
    """It is taken for none: a look tells where the picture is."""
    stage = Stage(FakeTransport(seconds=0))
    async with stage.session as session:
        handle = await session.submit("a")
        await stage.call({"task_id": "t1", "status": "completed", "data": {"image_url": url}})
        assert (await handle).url == "http://files.test/t1.png"
    assert stage.fake.count("status") == 1


async def test_adopted_in_record_and_journal_after_it_was_told(tmp_path: Path) -> None:
    """The callback comes after `adopt` seconds: record, money and journal say completed."""
    journal = tmp_path / "journal.db"
    options: dict[str, Any] = {"timeout": Timeouts(adopt=5, task=2000), "journal": journal}
    stage = Stage(FakeTransport().script("submit", SENT), **options)
    async with stage.session as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit("a")
        await stage.call(done("lost"))
        assert session.uncertain() == []
        assert session.statistics().spent == Decimal("0.04")
    [entry] = [each async for each in fluxflex.read_journal(journal)]
    assert (entry.state, entry.task_id, entry.spent) == (
        TaskState.COMPLETED,
        "lost",
        Decimal("0.04"),
    )


# -- what is said, and what is not ---------------------------------------------------------------


async def test_no_callback_ever_comes(caplog: pytest.LogCaptureFixture) -> None:
    """Said once, with the likely reasons and what was turned away."""
    stage = Stage(FakeTransport(seconds=1), poll=fluxflex.FixedPolling(1))
    async with stage.session as session:
        await stage.receiver.receive("POST", "/flux/" + "A" * 48, JSON, b"")
        for n in range(20):
            await session.generate(str(n))
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("8 tasks ended and no callback came")
    assert "Likely: what came was turned away (1 for token; see `secret`" in said
    assert URL in said
    assert stage.counts() == {"missed": 20, "refused": 1}


@pytest.mark.parametrize(("tasks", "lines"), [(2, 0), (3, 1)])
async def test_a_short_session_says_it_at_its_end(
    caplog: pytest.LogCaptureFixture, tasks: int, lines: int
) -> None:
    """Of one or two tasks a look may simply have been quicker."""
    stage = Stage(FakeTransport(seconds=1), poll=fluxflex.FixedPolling(1))
    async with stage.session as session:
        await asyncio.gather(*(session.generate(str(n)) for n in range(tasks)))
        assert caplog.records == []
    assert len(caplog.records) == lines


async def test_a_token_is_told_to_the_provider_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Not in reprs, logs, errors or what a reply repeats."""
    caplog.set_level(logging.DEBUG)
    fake = FakeTransport(seconds=0)
    stage = Stage(fake, poll=fluxflex.FixedPolling(1))

    def repeats(_: object) -> Any:
        return completed("t1", callback_url=URL + stage.path().removeprefix("/flux"))

    async with stage.session as session:
        handle = await session.submit("a")
        token = stage.path().rpartition("/")[2]
        fake.rule("status", repeats)
        image = await handle
        assert image.raw["callback_url"] == URL + "/***"
        shown = repr((handle, image, session, stage.receiver, session.engine.tasks.callbacks))
        await stage.call(done("t1", note=token))
    assert token not in shown + caplog.text
    assert session.statistics().callbacks == NONE | {"received": 1, "late": 1}


async def test_an_error_does_not_repeat_the_token() -> None:
    """A gateway that shows the request back in its page gets it into no error of ours."""
    stage = Stage(timeout=Timeouts(adopt=1, task=2000))

    def repeats(call: Any) -> Any:
        reply = page(502)
        return type(reply)(status=502, headers=reply.headers, body=call.body)

    stage.fake.rule("submit", repeats)
    async with stage.session as session:
        with pytest.raises(SubmitUncertainError) as caught:
            await session.submit("a")
    assert caught.value.excerpt is not None
    assert URL + "/***" in caught.value.excerpt
    assert stage.path().rpartition("/")[2] not in str(vars(caught.value))


async def test_a_session_without_callbacks_has_none() -> None:
    """No URL is sent, nothing is counted, and nothing is waited for."""
    fake = FakeTransport().script("submit", SENT)
    async with FakeSession(fake, poll=SELDOM) as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit("a")
        assert now() == 0
        assert "callback_url" not in fields(fake.seen[0].call)
        assert session.statistics().callbacks == {}


async def test_one_with_a_url_of_its_own_is_not_waited_for() -> None:
    """Its callback goes elsewhere, so an unanswered submit is uncertain at once."""
    stage = Stage(FakeTransport().script("submit", SENT))
    async with stage.session as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit("a", callback_url="https://mine.test/x")
    assert now() == 0


async def test_a_port_that_is_not_known_yet() -> None:
    """Nothing is sent with a URL that leads nowhere, and nothing is kept."""
    stage = Stage(receiver=WebhookReceiver("http://127.0.0.1:0"))
    async with stage.session as session:
        with pytest.raises(WebhookError, match="port"):
            await session.submit("a")
        statistics = session.statistics()
    assert (stage.fake.posts, statistics.in_flight, statistics.reserved) == (0, 0, Decimal(0))


def test_a_receiver_must_be_one() -> None:
    """Its URL alone is none."""
    with pytest.raises(ConfigurationError, match="webhooks"):
        fluxflex.Session("sk-x", webhooks=URL)  # type: ignore[arg-type]  # that is the test


def test_a_receiver_of_another_event_loop() -> None:
    """It is said when the session opens, before anything else."""
    receiver = WebhookReceiver(URL)

    async def first() -> None:
        async with Stage(receiver=receiver).session:
            second = asyncio.to_thread(asyncio.run, other())
            with pytest.raises(WebhookError, match="another event loop"):
                await second

    async def other() -> None:
        async with Stage(receiver=receiver).session:
            pass

    asyncio.run(first())
    asyncio.run(other())


async def test_a_failure_by_callback() -> None:
    """It is the provider's word like any other."""
    stage = Stage(FakeTransport().script("status", failed("t1")))
    async with stage.session as session:
        handle = await session.submit("a")
        await stage.call({"task_id": "t1", "status": "failed", "error_message": "too dark"})
        with pytest.raises(GenerationError, match="too dark") as caught:
            await handle
    assert caught.value.task_id == "t1"
