"""The engine: slots, money, closing, and what is said at the end."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from decimal import Decimal

import anyio
import pytest

from fluxflex import Change, FixedPolling, GenerateRequest, RetryPolicy, TaskState
from fluxflex._aio import tally
from fluxflex._aio.engine import LAST_REPLIES
from fluxflex._core.exchange import Call, Reply, Unanswered
from fluxflex.errors import (
    BudgetExceededError,
    GenerationError,
    SessionClosedError,
    SubmitUncertainError,
)
from tests.aio.fakes import (
    HANG,
    NEVER_SENT,
    SENT,
    FakeSession,
    FakeTransport,
    Late,
    Step,
    accepted,
    completed,
    failed,
    now,
    page,
    refused,
    settle,
)

pytestmark = pytest.mark.looptime(start=0)

PRICE = Decimal("0.04")
EVERY = FixedPolling(1.0)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as a warning or worse."""
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# -- slots ---------------------------------------------------------------------------------------


async def test_never_over_the_ceiling() -> None:
    """However many submit at once, so many are sent and not finished, in order of asking."""
    fake = FakeTransport(seconds=10)
    async with FakeSession(fake, concurrency=3, poll=EVERY) as session:
        tasks = [asyncio.create_task(session.generate(str(n))) for n in range(9)]
        await asyncio.sleep(1)
        assert session.statistics().in_flight == fake.posts == 3
        await asyncio.gather(*tasks)
    assert fake.prompts() == [str(n) for n in range(9)]
    assert fake.times("submit") == [0] * 3 + [10] * 3 + [20] * 3


async def test_what_is_attached_counts_but_is_never_refused() -> None:
    """Three tasks from elsewhere at two slots: new ones wait until there is room."""
    fake = FakeTransport(seconds=10)
    async with FakeSession(fake, concurrency=2, poll=EVERY) as session:
        for n in range(3):
            session.attach(f"old{n}")
        assert session.statistics().in_flight == 3
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(5)
        assert fake.posts == 0
        await submitting
        assert fake.times("submit") == [11]
    assert session.statistics().attached == 3


async def test_whatever_ends_a_task_frees_its_slot() -> None:
    """Completed, failed, refused, uncertain, timed out: the next one gets in."""
    fake = FakeTransport(seconds=2)
    fake.script("submit", None, None, refused(400), page(502), None, None)
    fake.script("status", completed("t1"), failed("t2"))
    async with FakeSession(fake, concurrency=1, poll=EVERY) as session:
        submits = [session.generate(str(n), timeout=1) for n in range(6)]
        got = await asyncio.gather(*submits, return_exceptions=True)
        found = session.statistics()
        assert (found.in_flight, found.completed, found.failed) == (0, 1, 1)
        assert (found.refused, found.uncertain, found.timed_out) == (1, 1, 2)
        assert (found.posts, found.accepted) == (6, 4)
        assert len(got) == 6


# -- money ---------------------------------------------------------------------------------------


async def test_never_over_the_budget() -> None:
    """Money is set aside before sending: what does not fit is not sent."""
    async with FakeSession(budget="0.10") as session:
        got = await asyncio.gather(
            *(session.generate("a") for _ in range(5)), return_exceptions=True
        )
        errors = [error for error in got if isinstance(error, BudgetExceededError)]
        assert len(errors) == 3
        assert (errors[0].budget, errors[0].price) == (Decimal("0.10"), PRICE)
        assert session.statistics().spent == 2 * PRICE
        assert session.statistics().in_flight == 0
    assert session.fake.posts == 2


async def test_own_prices_and_the_providers_cost() -> None:
    """The table is the user's, and the provider's word corrects it."""
    fake = FakeTransport().rule("status", lambda _: completed("t1", cost="0.25"))
    async with FakeSession(fake, prices={"1K": "0.5"}, budget=1) as session:
        handle = await session.submit("a")
        assert session.statistics().spent == Decimal("0.5")
        assert (await handle).cost == Decimal("0.25")
        assert session.statistics().spent == Decimal("0.25")


async def test_what_others_bought_is_not_our_spending() -> None:
    """A task from elsewhere costs this session nothing, whatever the provider says it cost."""
    fake = FakeTransport().rule("status", lambda _: completed("t9", cost="0.03"))
    async with FakeSession(fake) as session:
        image = await session.attach("t9", GenerateRequest("a"))
        assert image.cost == Decimal("0.03")
        assert session.statistics().spent == 0


# -- closing -------------------------------------------------------------------------------------


async def test_leaving_waits_for_what_runs() -> None:
    """As a task group does: tasks, submits in the queue and pauses."""
    fake = FakeTransport(seconds=10).script("submit", refused(429, retry_after="5"))
    async with FakeSession(fake, concurrency=1, poll=EVERY) as session:
        tasks = [asyncio.create_task(session.submit(str(n))) for n in range(3)]
        await asyncio.sleep(1)
    assert fake.posts == 4
    assert [task.result().state for task in tasks] == [TaskState.COMPLETED] * 3
    assert fake.closed


async def test_while_draining_nothing_new_is_taken() -> None:
    """The verbs say that the session is closed."""
    fake = FakeTransport(seconds=10)
    async with FakeSession(fake) as session:
        await session.submit("a")
        closing = asyncio.create_task(session.aclose())
        await settle()
        with pytest.raises(SessionClosedError):
            await session.submit("b")
        with pytest.raises(SessionClosedError):
            session.attach("t9")
        with pytest.raises(SessionClosedError):
            await session.account()
        await closing
        assert now() >= 10
    assert fake.posts == 1


async def test_draining_for_so_long(caplog: pytest.LogCaptureFixture) -> None:
    """What still runs then is let go of, and named."""
    fake = FakeTransport(seconds=10)
    async with FakeSession(fake, poll=EVERY) as session:
        first = await session.submit("a")
        fake.seconds = 1000
        await session.submit("b")
        await session.submit("c")
        await session.aclose(drain=20)
        assert now() == 20
        assert first.state is TaskState.COMPLETED
        assert session.statistics().abandoned == 2
        assert session.statistics().in_flight == 0
        assert session.handles() == []
    assert warnings(caplog) == ["detached from 2 running tasks: t2, t3"]


@pytest.mark.parametrize("drain", [0, -1])
async def test_draining_for_no_time_detaches_at_once(drain: float) -> None:
    """Nothing in the air, so nothing to wait for."""
    async with FakeSession(FakeTransport(seconds=10)) as session:
        await session.submit("a")
        await session.aclose(drain=drain)
        assert now() == 0


async def test_draining_ends_when_nothing_runs() -> None:
    """It does not sit out its seconds."""
    async with FakeSession(FakeTransport(seconds=3), poll=EVERY) as session:
        await session.submit("a")
        await session.aclose(drain=100)
        assert now() == 3


async def test_many_that_are_left_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The log names twenty and says how many more."""
    async with FakeSession(FakeTransport(seconds=1000)) as session:
        for _ in range(25):
            await session.submit("a")
        await session.aclose(drain=0)
    (said,) = warnings(caplog)
    assert said.startswith("detached from 25 running tasks: t1, t2, ")
    assert said.endswith("t20 and 5 more")


async def test_posts_in_the_air_get_a_moment_to_bring_their_ids(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Closing at once waits five seconds for them: what is bought then has its id in the log."""
    fake = FakeTransport(seconds=1000, latency=3)
    async with FakeSession(fake) as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(1)
        await session.aclose(drain=0)
        assert now() == 3
        assert (await submitting).task_id == "t1"
    assert warnings(caplog) == ["detached from 1 running tasks: t1"]


async def test_a_post_that_brings_no_id_in_that_moment_is_uncertain() -> None:
    """After five seconds it may have been bought, and the caller is told so."""
    fake = FakeTransport().script("submit", HANG)
    async with FakeSession(fake) as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(1)
        await session.aclose(drain=0)
        assert now() == 1 + LAST_REPLIES == 6
        with pytest.raises(SubmitUncertainError):
            await submitting
        assert session.statistics().uncertain == 1
        assert session.statistics().reserved == PRICE


async def test_a_post_turned_away_while_closing_is_not_repeated() -> None:
    """Its caller learns that the session closed, and that it cost nothing."""
    fake = FakeTransport().script("submit", Late(refused(429, retry_after="1"), 2))
    async with FakeSession(fake) as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(1)
        await session.aclose(drain=0)
        with pytest.raises(SessionClosedError) as caught:
            await submitting
        assert caught.value.charged == "no"
        assert session.statistics().reserved == 0
    assert fake.posts == 1


async def test_who_waits_for_a_slot_is_let_go() -> None:
    """Nothing was sent: each gets an error of their own that says so."""
    fake = FakeTransport(seconds=1000)
    async with FakeSession(fake, concurrency=1) as session:
        await session.submit("a")
        waiting = [asyncio.create_task(session.submit("b")) for _ in range(3)]
        await settle()
        await session.aclose(drain=5)
        got = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in got] == [SessionClosedError] * 3
        assert len({id(error) for error in got}) == 3
    assert fake.posts == 1


async def test_closing_is_not_hurried_by_looks() -> None:
    """A look that hangs holds nothing up."""
    fake = FakeTransport().rule("status", lambda _: HANG)
    async with FakeSession(fake, poll=EVERY) as session:
        await session.submit("a")
        await asyncio.sleep(3)
        await session.aclose(drain=0)
        assert now() == 3


async def test_closing_twice_is_harmless() -> None:
    """At once or one after the other, from any task."""
    fake = FakeTransport(seconds=3)
    async with FakeSession(fake, poll=EVERY) as session:
        await session.submit("a")
        await asyncio.gather(session.aclose(), session.aclose(drain=50))
        assert now() == 3
        await session.aclose()
    assert fake.closed


async def test_a_cancelled_close_still_closes() -> None:
    """Whoever gives up waiting leaves the session closed, with the ids in the log."""
    fake = FakeTransport(seconds=1000)
    async with FakeSession(fake) as session:
        handle = await session.submit("a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await session.aclose()
        assert now() == 5
        assert fake.closed
        assert handle.state is TaskState.ABANDONED


async def test_an_exception_leaves_as_itself(caplog: pytest.LogCaptureFixture) -> None:
    """At once, and not wrapped in a group; what runs is named."""
    fake = FakeTransport(seconds=1000)
    error = ValueError("mine")

    async def work() -> None:
        async with FakeSession(fake) as session:
            await session.submit("a")
            raise error

    with pytest.raises(ValueError, match="mine") as caught:
        await work()
    assert caught.value is error
    assert now() == 0
    assert fake.closed
    assert warnings(caplog) == ["detached from 1 running tasks: t1"]


async def test_a_cancelled_block_leaves_cancelled() -> None:
    """The session closes on the way, and learns the id of what is in the air."""
    fake = FakeTransport(seconds=1000, latency=2)
    session = FakeSession(fake)

    async def work() -> None:
        async with session:
            await session.submit("a")

    working = asyncio.create_task(work())
    await asyncio.sleep(1)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert now() == 2
    assert session.statistics().accepted == 1
    assert fake.closed


async def test_opened_in_one_task_and_closed_in_another() -> None:
    """As fixtures, notebook cells and an application's lifespan do."""
    fake = FakeTransport()
    session = FakeSession(fake)
    await asyncio.create_task(session.open())
    image = await asyncio.create_task(session.generate("a"))
    assert image.task_id == "t1"
    await asyncio.create_task(session.aclose())
    assert fake.closed


async def test_sessions_close_in_any_order() -> None:
    """They know nothing of each other."""
    first, second = FakeSession(), FakeSession()
    await first.open()
    await second.open()
    await first.generate("a")
    await first.aclose()
    await second.generate("a")
    await second.aclose()
    assert first.fake.posts == second.fake.posts == 1


# -- whatever happens ----------------------------------------------------------------------------


@pytest.mark.parametrize("resubmit", [False, True])
@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_the_books_are_right(seed: int, *, resubmit: bool) -> None:
    """A hostile network and callers who give up at any moment: no slot and no cent is lost.

    Every POST ends as one of: accepted (spent), left uncertain (reserved), or turned away.
    """
    chance = random.Random(seed)  # noqa: S311 - the same for the same seed
    steps = [None, None, SENT, NEVER_SENT, refused(400), page(502), refused(429, retry_after="2")]
    fake = FakeTransport(seconds=5)
    fake.rule("submit", lambda call: _late(chance, chance.choice(steps), fake, call))
    looks = [None, None, SENT, page(502), refused(404), refused(429, retry_after="1")]
    fake.rule("status", lambda _: chance.choice(looks))
    policy = RetryPolicy(attempts=3, resubmit_uncertain=resubmit)
    async with FakeSession(fake, concurrency=5, retry=policy, budget="3") as session:
        tasks = [asyncio.create_task(session.generate(str(n), timeout=20)) for n in range(40)]
        for task in chance.sample(tasks, 15):
            await asyncio.sleep(chance.random())
            assert session.statistics().in_flight <= 5
            task.cancel()
        await asyncio.wait(tasks, timeout=chance.choice([0, 5, 1000]))
        await session.aclose(drain=chance.choice([None, 0, 3]))
        await settle()
        assert all(task.done() for task in tasks)
        await asyncio.gather(*tasks, return_exceptions=True)
        found = session.statistics()
        assert (found.in_flight, session.handles()) == (0, [])
        assert found.posts == fake.posts
        assert found.spent == found.accepted * PRICE
        uncertain = found.posts - found.accepted - found.refused
        assert found.reserved == uncertain * PRICE
        assert found.uncertain <= uncertain
        assert resubmit or found.uncertain == uncertain


def _late(chance: random.Random, step: Step, fake: FakeTransport, call: Call) -> Step:
    got = fake._behave("submit", call) if step is None else step
    assert isinstance(got, Reply | Unanswered)
    return Late(got, chance.choice([0, 0.3, 3]))


# -- what is said --------------------------------------------------------------------------------


async def test_a_failure_that_nobody_awaited_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At the end, with its id and its price."""
    fake = FakeTransport()
    fake.rule("status", lambda call: failed(call.url.rpartition("/")[2]))
    async with FakeSession(fake, poll=EVERY) as session:
        await session.submit("a", quality="2K")
        heard = await session.submit("b")
        asked = await session.submit("c")
        session.attach("t9")
        with pytest.raises(GenerationError):
            await heard
        assert await asked.wait() is TaskState.FAILED
        assert warnings(caplog) == []
    first, second = warnings(caplog)
    assert "nobody awaited" in first
    assert "$0.06" in first
    assert "t1" in first
    assert "It did not work" in first
    assert "t9" in second
    assert "unknown price" in second
    await session.aclose()
    assert len(warnings(caplog)) == 2


async def test_many_failures_are_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log names twenty, and memory keeps so many and no more."""
    monkeypatch.setattr(tally, "_MOST_UNHEARD", 25)
    fake = FakeTransport()
    fake.rule("status", lambda call: failed(call.url.rpartition("/")[2]))
    async with FakeSession(fake, poll=EVERY) as session:
        for _ in range(30):
            await session.submit("a")
    said = warnings(caplog)
    assert len(said) == 21
    assert said[-1] == "and 5 more of these"


async def test_on_event_sees_every_step() -> None:
    """Each change of a task, in order, with what was known before and after."""
    seen: list[Change] = []
    fake = FakeTransport(seconds=2).script("submit", refused(429))
    async with FakeSession(fake, poll=EVERY, on_event=seen.append) as session:
        await session.generate("a")
    words = [type(change.event).__name__ for change in seen]
    assert words == ["Sent", "TurnedAway", "Sent", "Accepted", "Running", "Completed"]
    assert all(a.after is b.before for a, b in itertools.pairwise(seen))
    assert [c.after.state for c in seen][-1] is TaskState.COMPLETED
    assert [c.ends for c in seen] == [False] * 5 + [True]


async def test_an_observer_that_raises_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its exceptions are logged, never raised."""

    def observe(_: Change) -> None:
        raise RuntimeError("mine")

    async with FakeSession(poll=EVERY, on_event=observe) as session:
        assert (await session.generate("a")).task_id == "t1"
    assert len(warnings(caplog)) == 3
    assert caplog.records[0].exc_info is not None


async def test_an_observer_may_use_the_session() -> None:
    """A timed-out task may be attached to from there, or asked for."""
    fake = FakeTransport(seconds=10)
    seen: list[int] = []

    def observe(_: Change) -> None:
        seen.append(len(session.handles()))
        assert repr(session)
        assert session.statistics().posts == 1

    session = FakeSession(fake, on_event=observe)
    async with session:
        await session.generate("a")
    assert seen == [0, 1, 1, 0]


async def test_what_it_says_of_itself() -> None:
    """Reprs are short and tell where things stand, never the key."""
    session = FakeSession(budget=1)
    assert repr(session) == "<fluxflex.Session at http://api.test: not open>"
    async with session:
        await session.submit("a")
        assert repr(session) == (
            "<fluxflex.Session at http://api.test: <Engine: <Registry: 1 live, 0 ended>, "
            "<Slots: 1 of 32 taken, 0 waiting>, <Budget: $0.04 spent, $0.00 reserved, of $1>>>"
        )


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_host_that_is_killed_still_names_what_is_left(
    times: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A second Ctrl-C cancels every task of the loop: ids are named, and nobody waits for ever."""
    fake = FakeTransport(seconds=99).script("submit", None, Late(accepted("t2"), 50.0))
    async with FakeSession(fake, poll=EVERY) as session:
        handle = await session.submit("a")
        sending = asyncio.create_task(session.submit("b"))
        await asyncio.sleep(1)
        for _ in range(times):
            session.engine._host.cancel()
            await settle()
        with pytest.raises(SessionClosedError):
            await handle
        sending.cancel()
        await asyncio.wait([sending])
        await asyncio.sleep(60)
    assert "t1" in " ".join(warnings(caplog))
    assert session.statistics().in_flight == 0


async def test_who_is_cancelled_already_buys_nothing() -> None:
    """A cancellation that is under way arrives before the request leaves."""
    async with FakeSession(poll=EVERY) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await session.generate("a")
        with anyio.move_on_after(0):
            await session.generate("b")
        await asyncio.gather(cancelled(session), cancelled(session))
        assert session.statistics().in_flight == 0
    assert session.fake.posts == 0


async def cancelled(session: FakeSession) -> None:
    """Begin a submit and cancel it in the same turn of the loop."""
    submitting = asyncio.create_task(session.submit("c"))
    await asyncio.sleep(0)
    submitting.cancel()
    await asyncio.wait([submitting])
