"""Looks at tasks: what ends a task and what never does, when they happen, and how many."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import math
import random
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs
import pytest

from fluxflex import FixedPolling, TaskState, Timeouts
from fluxflex._aio.poller import Poller
from fluxflex._core.exchange import Call, Reply
from fluxflex._core.lifecycle import Key
from fluxflex._core.scheduler import Scheduler
from fluxflex.errors import (
    AuthenticationError,
    FluxFlexError,
    GenerationError,
    RequestRejectedError,
    TaskNotFoundError,
    TaskTimeoutError,
)
from tests.aio.fakes import (
    HANG,
    HOPELESS,
    NEVER_SENT,
    SENT,
    WRITING,
    FakeSession,
    FakeTransport,
    Got,
    Late,
    as_json,
    completed,
    failed,
    now,
    page,
    refused,
    running,
)

pytestmark = pytest.mark.looptime(start=0)

EVERY = FixedPolling(1.0)


# -- no news -------------------------------------------------------------------------------------

NO_NEWS = {
    "never sent": NEVER_SENT,
    "hopeless": HOPELESS,
    "writing": WRITING,
    "sent": SENT,
    "hang": HANG,
    "HTML 502": page(502),
    "HTML 200": page(200),
    "HTML 404": page(404),
    "HTML 403": page(403),
    "JSON 500": refused(500),
    "JSON 503": refused(503),
    "JSON 408": refused(408),
    "429": refused(429),
    "429 wait": refused(429, retry_after="3"),
    "503 wait": refused(503, retry_after="3"),
    "404": refused(404),
    "302": Reply(status=302, headers={"location": "http://elsewhere.test"}),
    "empty": Reply(status=200),
    "truncated": attrs.evolve(completed("t1"), body=b'{"code": 200, "dat', complete=False),
    "no JSON": Reply(status=200, body=b"\xff\xfe\x00"),
    "null": as_json(None),
    "a list": as_json([completed("t1").body.decode()]),
    "no status": as_json({"code": 200, "data": {"task_id": "t1"}}),
    "code 500": as_json({"code": 500, "data": {"message": "oops"}}),
    "failed without a task": as_json({"status": "failed", "message": "gateway"}, 502),
    "error without a task": as_json({"status": "error"}, 500),
    "unknown word": running("t1", "resting"),
    "another task": completed("t2"),
    "another failure": failed("t2"),
    "an old 400": as_json({"code": 400, "data": {"status": "processing"}}),
}


@pytest.mark.parametrize("step", NO_NEWS.values(), ids=NO_NEWS)
async def test_no_news_never_ends_a_task(step: Got | Late) -> None:
    """Twice whatever went wrong, and the third look finds the picture."""
    fake = FakeTransport().script("status", step, step)
    async with FakeSession(fake, poll=EVERY) as session:
        image = await session.generate("a")
        assert image.task_id == "t1"
    assert fake.count("status") == 3


async def test_a_storm_of_no_news_is_survived() -> None:
    """Minutes of a broken gateway end nothing but the deadline."""
    fake = FakeTransport().rule("status", lambda _: page(502) if now() < 300 else None)
    async with FakeSession(fake) as session:
        await session.generate("a")
        assert 300 < now() <= 330


async def test_an_unknown_word_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A status that nobody knows is still running, and the log says so one time."""
    fake = FakeTransport().script(
        "status", *[running(f"t{n % 2 + 1}", "resting") for n in range(6)]
    )
    async with FakeSession(fake, poll=EVERY) as session:
        await asyncio.gather(session.generate("a"), session.generate("b"))
    said = [record for record in caplog.records if "resting" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING]


# -- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 400])
async def test_a_failed_task_ends_whatever_the_status(status: int) -> None:
    """A failed task may come as HTTP 400: its body is read first."""
    fake = FakeTransport().script("status", failed("t1", status))
    async with FakeSession(fake, poll=EVERY) as session:
        with pytest.raises(GenerationError) as caught:
            await session.generate("a")
        error = caught.value
        assert (error.task_id, error.code, error.charged) == ("t1", "generation_failed", "unknown")
        assert session.statistics().failed == 1
    assert fake.count("status") == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refused(401), AuthenticationError),
        (refused(403), AuthenticationError),
        (page(401), AuthenticationError),
        (refused(400), RequestRejectedError),
        (refused(422), RequestRejectedError),
        (as_json({"code": 401, "data": {"code": "authentication_failed"}}), AuthenticationError),
    ],
    ids=["401", "403", "HTML 401", "400", "422", "401 in 200"],
)
async def test_a_definite_refusal_ends_it(reply: Reply, kind: type[FluxFlexError]) -> None:
    """A permanent no is not asked for ten minutes; the error keeps the id, and that it is paid."""
    fake = FakeTransport().rule("status", lambda _: reply)
    async with FakeSession(fake, poll=EVERY) as session:
        handle = await session.submit("a")
        with pytest.raises(kind) as caught:
            await handle
        assert (caught.value.task_id, caught.value.charged) == ("t1", "yes")
        assert handle.state is TaskState.ABANDONED
        assert session.statistics().abandoned == 1
        assert session.statistics().in_flight == 0
    assert fake.count("status") == 1


async def test_a_young_task_may_not_be_found_yet() -> None:
    """However many 404s: before ten seconds they mean nothing."""
    fake = FakeTransport().script("status", *[refused(404)] * 4)
    async with FakeSession(fake, poll=FixedPolling(2)) as session:
        await session.generate("a")
        assert now() == 10


async def test_the_third_404_of_an_old_task_is_the_end() -> None:
    """Not found from the start: the look at ten seconds ends it."""
    fake = FakeTransport().rule("status", lambda _: refused(404))
    async with FakeSession(fake, poll=FixedPolling(2)) as session:
        with pytest.raises(TaskNotFoundError) as caught:
            await session.generate("a")
        assert (caught.value.task_id, caught.value.charged) == ("t1", "yes")
        assert now() == 10
    assert fake.count("status") == 5


async def test_a_task_from_elsewhere_is_never_too_young() -> None:
    """Only what we submitted just now may be unknown to the provider yet."""
    fake = FakeTransport().rule("status", lambda _: refused(404))
    async with FakeSession(fake, poll=EVERY) as session:
        with pytest.raises(TaskNotFoundError) as caught:
            await session.attach("t9")
        assert caught.value.charged == "unknown"
        assert now() == 3


async def test_two_404s_of_an_old_task_are_not_the_end() -> None:
    """It takes three."""
    fake = FakeTransport(seconds=12).script("status", None, refused(404), refused(404))
    async with FakeSession(fake, poll=FixedPolling(10)) as session:
        await session.generate("a")
        assert now() == 40


@pytest.mark.parametrize("between", [running("t1"), SENT, page(502), refused(500), refused(429)])
async def test_404s_count_in_a_row_only(between: Got) -> None:
    """Anything else between them begins the count anew."""
    not_found = refused(404)
    steps = [not_found, not_found, between, not_found, not_found, between]
    fake = FakeTransport().script("status", *steps)
    async with FakeSession(fake, poll=FixedPolling(20)) as session:
        await session.generate("a")
    assert fake.count("status") == 7


# -- deadlines -----------------------------------------------------------------------------------


async def test_a_task_times_out_after_a_look_at_its_deadline() -> None:
    """The look at the deadline finds it running: time is up, the id is kept, the slot is free."""
    fake = FakeTransport(seconds=1000)
    async with FakeSession(fake, poll=FixedPolling(7), timeout=20) as session:
        handle = await session.submit("a")
        with pytest.raises(TaskTimeoutError) as caught:
            await handle
        error = caught.value
        assert (error.task_id, error.seconds, error.charged) == ("t1", 20.0, "yes")
        assert isinstance(error, TimeoutError)
        assert session.statistics().in_flight == 0
        assert session.statistics().timed_out == 1
    assert fake.times("status") == [7, 14, 20]


async def test_no_task_times_out_without_a_look_after_its_deadline() -> None:
    """Done in the very last moment is done."""
    fake = FakeTransport(seconds=20)
    async with FakeSession(fake, poll=FixedPolling(7), timeout=20) as session:
        await session.generate("a")
        assert now() == 20


async def test_after_the_deadline_no_news_is_asked_again() -> None:
    """A broken look at the deadline decides nothing: the next one finds the picture."""
    fake = FakeTransport(seconds=20).script("status", None, SENT, page(502), refused(500))
    async with FakeSession(fake, poll=FixedPolling(15), timeout=20) as session:
        await session.generate("a")
    assert fake.times("status") == [15, 20, 21, 22, 23]


async def test_after_the_deadline_silence_ends_it() -> None:
    """Five broken looks after the deadline are enough."""
    fake = FakeTransport().rule("status", lambda _: SENT)
    async with FakeSession(fake, poll=FixedPolling(15), timeout=20) as session:
        with pytest.raises(TaskTimeoutError):
            await session.generate("a")
        assert now() == 24


async def test_a_timed_out_task_is_looked_at_no_more() -> None:
    """Its slot goes to the next one, and polling stops."""
    fake = FakeTransport(seconds=1000)
    async with FakeSession(fake, poll=EVERY, concurrency=1) as session:
        with pytest.raises(TaskTimeoutError):
            await session.generate("a", timeout=3)
        await asyncio.sleep(100)
        assert fake.count("status") == 3
        fake.seconds = 1
        await session.generate("b")


async def test_each_submit_may_have_its_own_deadline() -> None:
    """Seconds at the call stand for the task."""
    fake = FakeTransport(seconds=1000)
    async with FakeSession(fake, poll=EVERY) as session:
        short = await session.submit("a", timeout=2)
        long = await session.submit("a", timeout=Timeouts(task=4))
        assert await short.wait() is TaskState.TIMED_OUT
        assert now() == 2
        assert await long.wait() is TaskState.TIMED_OUT
        assert now() == 4


# -- when, and how many --------------------------------------------------------------------------


async def test_looks_come_where_the_answer_is_likely() -> None:
    """A glance at the first task; then looks wait for the quickest pictures, within 3 s each."""
    fake = FakeTransport(seconds=15)
    async with FakeSession(fake) as session:
        await session.generate("a")
    times = [0.0, *fake.times("status")]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps[0] == 0.25
    assert 1 < gaps[1] < 5
    assert max(gaps[2:]) < 3
    assert 4 <= len(gaps) <= 15
    assert times[-1] < 17


async def test_looks_teach_how_long_tasks_take() -> None:
    """Once a few tasks took 100 seconds, the next is left alone for a good part of that."""
    fake = FakeTransport(seconds=100)
    async with FakeSession(fake) as session:
        await session.generate("a")
        first = fake.count("status")
        for _ in range(10):
            await session.generate("a")
        accepted, before = now(), fake.count("status")
        await session.generate("a")
    times = fake.times("status")
    assert len(times) - before < 0.8 * first
    assert times[before + 2] - accepted > 3 * times[2]


async def test_an_attached_task_is_looked_at_at_once() -> None:
    """Nobody knows how long it has run: it may be finished already."""
    fake = FakeTransport(seconds=15)
    async with FakeSession(fake) as session:
        session.attach("task-1")
        await asyncio.sleep(0.1)
        assert fake.times("status")[:1] == [0.0]
        await session.aclose(drain=0)


async def test_never_over_the_poll_rate() -> None:
    """Whatever the policy asks for, no second sees more than a fifth over the rate."""
    fake = FakeTransport(seconds=30, latency=0.01)
    async with FakeSession(fake, poll=FixedPolling(0.1), poll_rate=20, concurrency=60) as session:
        handles = await asyncio.gather(*(session.submit("a") for _ in range(60)))
        await asyncio.gather(*handles)
    times = fake.times("status")
    assert max(sum(t <= other < t + 1 for other in times) for t in times) <= 24
    assert len(times) > 500, "and it is used"


async def test_without_a_poll_rate_there_is_no_limit() -> None:
    """`None` lets every task be looked at when it is due."""
    fake = FakeTransport(seconds=1)
    async with FakeSession(fake, poll=EVERY, poll_rate=None, concurrency=50) as session:
        await asyncio.gather(*(session.generate("a") for _ in range(50)))
    assert fake.times("status") == [1.0] * 50


async def test_no_more_looks_in_the_air_than_connections() -> None:
    """Slow looks wait for each other, not for the pool."""
    fake = FakeTransport(seconds=0)
    fake.rule("status", lambda call: Late(completed(call.url.rpartition("/")[2]), 5.0))
    async with FakeSession(fake, poll=EVERY, poll_rate=None, concurrency=100) as session:
        await asyncio.gather(*(session.generate("a") for _ in range(100)))
    assert fake.most["status"] == 32
    assert fake.count("status") == 100


async def test_a_retry_after_on_a_look_holds_for_the_whole_session() -> None:
    """Turned away at one task, none is looked at before the pause is over."""
    fake = FakeTransport(seconds=5).script("status", refused(429, retry_after="30"))
    async with FakeSession(fake, poll=EVERY) as session:
        first = await session.submit("a")
        await asyncio.sleep(0.5)
        second = await session.submit("b")
        await asyncio.gather(first, second)
    assert fake.times("status")[0] == 1.0
    assert min(fake.times("status")[1:]) == 31.0


async def test_a_429_without_retry_after_slows_this_task_only() -> None:
    """The others go on."""
    fake = FakeTransport(seconds=2).script("status", refused(429))
    async with FakeSession(fake, poll=FixedPolling(0.5)) as session:
        first = await session.submit("a")
        await asyncio.sleep(0.25)
        second = await session.submit("b")
        await asyncio.gather(first, second)
    ids = [seen.call.url.rpartition("/")[2] for seen in fake.seen if seen.kind == "status"]
    looks = list(zip(ids, fake.times("status"), strict=True))
    assert [at for task_id, at in looks if task_id == "t1"] == [0.5, 1.5, 2.0]
    assert [at for task_id, at in looks if task_id == "t2"] == [0.75, 1.25, 1.75, 2.25]


async def test_one_slow_look_delays_no_other_task() -> None:
    """A look that hangs holds up its own task only."""
    fake = FakeTransport(seconds=2)
    fake.rule("status", lambda call: HANG if call.url.endswith("t1") and now() < 50 else None)
    async with FakeSession(fake, poll=EVERY) as session:
        slow = await session.submit("a")
        fast = await session.submit("b")
        await fast
        assert now() == 2
        await slow
        assert now() > 60


async def test_a_policy_may_look_at_once() -> None:
    """A gap of nothing, or of nonsense, is no gap, and starves nobody."""

    class Eager:
        def gap(self, age: float) -> float:
            return -5.0 if age < 1 else float("nan")

    fake = FakeTransport(seconds=2, latency=0.5)
    async with FakeSession(fake, poll=Eager()) as session:
        await session.generate("a")
        assert now() == 2.5


async def test_a_policy_may_answer_with_any_number() -> None:
    """A Decimal is as good as a float."""

    class Exact:
        def gap(self, age: float) -> Any:
            return Decimal(1) if age else Decimal(2)

    async with FakeSession(FakeTransport(seconds=3), poll=Exact()) as session:
        await session.generate("a")
        assert now() == 3


@pytest.mark.parametrize("wrong", [lambda age: 1 / age, lambda age: None if age else 1.0])
async def test_a_policy_that_raises_loses_no_task(
    wrong: Callable[[float], float], caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in the user's policy is logged, and the task is looked at all the same."""

    class Faulty:
        def gap(self, age: float) -> float:
            return wrong(age)

    async with FakeSession(FakeTransport(seconds=3), poll=Faulty()) as session:
        image = await session.generate("a")
        assert image.task_id == "t1"
    assert caplog.text.count("the poll policy raised") == 1


async def test_who_waits_behind_slow_looks_may_be_over_by_then() -> None:
    """A task that ended while its look was waiting for its turn is not asked about."""
    fake = FakeTransport(seconds=1000).script("status", HANG)
    async with FakeSession(fake, poll=EVERY) as session:
        await session.submit("a")
        await asyncio.sleep(30)
        await session.aclose(drain=0)
        looks = fake.count("status")
        await asyncio.sleep(100)
        assert fake.count("status") == looks == 1


async def test_a_pause_of_a_day_keeps_no_task_past_its_deadline() -> None:
    """However long the provider asks us to wait: it is looked at again, and time is up."""
    fake = FakeTransport(seconds=9e9).rule("status", lambda _: refused(429, retry_after="86400"))
    async with FakeSession(fake, poll=EVERY, timeout=20) as session:
        with pytest.raises(TaskTimeoutError):
            await session.generate("a")
        assert now() == 301, "five minutes are the longest pause"


async def test_looks_belong_to_no_submit() -> None:
    """What one caller's context holds is not to be seen, or kept, by the looks at all tasks."""
    caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="the session")
    seen: set[str] = set()
    fake = FakeTransport(seconds=3).rule("status", lambda _: seen.add(caller.get()))
    async with FakeSession(fake, poll=EVERY) as session:

        async def generate(name: str) -> None:
            caller.set(name)
            await session.generate(name)

        await asyncio.gather(*(generate(name) for name in "abc"))
    assert seen == {"the session"}


async def test_a_timer_that_fires_a_tick_early_is_no_reason_to_spin() -> None:
    """The loop runs a timer up to one tick of its clock early, which is long on some machines."""

    class Nearly(Scheduler):
        def __init__(self) -> None:
            super().__init__(EVERY, None, random.Random(1))  # noqa: S311 - unused
            self.due = 1 + time.get_clock_info("monotonic").resolution / 10
            self.asked = 0

        def next_due(self) -> float:
            return self.due

        def take(self, now: float) -> Key | None:
            self.asked += 1
            assert self.asked < 10
            if now < self.due:
                return None
            self.due = math.inf
            return 1

    async with FakeSession() as session:
        scheduler = Nearly()
        poller = Poller(
            scheduler=scheduler,
            sender=session.engine.sender,
            call=session.engine._status_call,
            record=lambda _: None,
            tell=lambda _, __: None,
            looks=1,
        )
        running = asyncio.create_task(poller.run())
        await asyncio.sleep(2)
        assert math.isinf(scheduler.due)
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])
        assert poller.polls == 0


async def test_a_look_that_fails_in_itself_loses_no_task(caplog: pytest.LogCaptureFixture) -> None:
    """A fault of ours is logged, and the task is looked at again."""
    faults = iter([True, True])

    def rule(_: Call) -> None:
        if next(faults, False):
            raise RuntimeError("a fault")

    async with FakeSession(FakeTransport(seconds=1).rule("status", rule), poll=EVERY) as session:
        handle = await session.submit("a")
        await handle
        assert now() == 3
    assert [record.message for record in caplog.records] == [
        "a look at task t1 failed; there will be others"
    ] * 2


@pytest.mark.parametrize(("said", "charged"), [(page(502), "unknown"), (None, "yes")])
async def test_a_task_from_elsewhere_that_nobody_confirmed_may_be_none(
    said: Got | None, charged: str
) -> None:
    """Its timeout says that it is billed only where the provider said that there is such a task."""
    fake = FakeTransport(seconds=99).rule("status", lambda _: said or running("t9"))
    async with FakeSession(fake, poll=EVERY) as session:
        with pytest.raises(TaskTimeoutError) as caught:
            await session.attach("t9", timeout=3)
        assert caught.value.charged == charged
