"""Cancelled callers, closed sessions, deadlines: what was paid for is kept, the rest is not bought.

And sessions that live across tasks: fixtures, notebook cells, an application's lifespan.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

import fluxflex
from fluxflex import GenerationError, Session, TaskState, TaskTimeoutError
from fluxflex.errors import AuthenticationError, ConfigurationError, SessionClosedError
from fluxflex.simulator import Faults, Manual, Simulator, faults
from tests.stories.stage import NOTHING, Relay, finish, session_at, until

PRICE = Decimal("0.04")


class Crash(Exception):  # noqa: N818 - the user's own, named as users name them
    """An exception of the user's own."""


# -- cancelled -----------------------------------------------------------------------------------


async def test_a_caller_cancelled_in_mid_post_loses_nothing() -> None:
    """The reply that comes afterwards is still read: the id is kept, the picture can be had."""
    async with Simulator(durations=Manual()) as sim, Relay(sim.url) as relay:
        async with session_at(relay.url) as session:
            relay.hold()
            caller = asyncio.create_task(session.generate("a lighthouse"))
            await sim.wait_for(lambda ledger: len(ledger) == 1)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            assert session.handles() == []
            relay.let_go()
            await until(lambda: bool(session.handles()))
            [handle] = session.handles()
            assert handle.task_id == sim.ledger.entries[0].task_id
            finish(sim, handle)
            image = await handle
        after = session.statistics()
    assert image.task_id == handle.task_id
    assert sim.ledger.posts_received == 1
    assert (after.spent, after.reserved, after.in_flight) == (PRICE, NOTHING, 0)


@pytest.mark.parametrize("fault", [faults.error(422), faults.rate_limited()], ids=["422", "429"])
async def test_a_caller_cancelled_in_mid_post_that_is_refused(fault: faults.Fault) -> None:
    """A refusal that comes afterwards gives slot and money back, and nothing is sent again."""
    async with (
        Simulator(durations=0.0, faults=Faults(submit=[fault])) as sim,
        Relay(sim.url) as relay,
        session_at(relay.url, concurrency=1, budget=PRICE) as session,
    ):
        relay.hold()
        caller = asyncio.create_task(session.submit("a lighthouse"))
        await sim.wait_for_posts(1)
        caller.cancel()
        relay.let_go()
        await until(lambda: session.statistics().refused == 1)
        await until(lambda: session.statistics().in_flight == 0)
        assert (session.statistics().reserved, session.handles()) == (NOTHING, [])
        await session.generate("the next one")
    assert caller.cancelled()
    assert set(sim.ledger.by_prompt()) == {"the next one"}
    assert sim.ledger.posts_received == 2


async def test_a_caller_cancelled_in_mid_post_that_is_never_answered() -> None:
    """The money stays reserved, the slot is free, and nothing is sent again."""
    async with Simulator(faults=Faults(submit=[faults.accept_then_drop()])) as sim:
        async with Relay(sim.url) as relay, session_at(relay.url, concurrency=1) as session:
            relay.hold()
            caller = asyncio.create_task(session.submit("a lighthouse"))
            await sim.wait_for_posts(1)
            caller.cancel()
            relay.let_go()
            await until(lambda: session.statistics().uncertain == 1)
        after = session.statistics()
    assert (after.in_flight, after.spent, after.reserved) == (0, NOTHING, PRICE)
    assert sim.ledger.posts_received == 1


async def test_a_caller_cancelled_in_the_pause_after_a_429_buys_nothing() -> None:
    """What waits to be sent again was not bought, and is not bought any more."""
    limits = Faults(submit=[faults.rate_limited(retry_after=300)])
    async with Simulator(faults=limits) as sim, session_at(sim.url) as session:
        caller = asyncio.create_task(session.submit("a lighthouse"))
        await until(lambda: session.statistics().refused == 1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        after = session.statistics()
    assert (after.in_flight, after.reserved) == (0, NOTHING)
    assert (sim.ledger.posts_received, len(sim.ledger)) == (1, 0)


@pytest.mark.parametrize("held", [False, True], ids=["once accepted", "in mid-POST"])
async def test_a_cancelled_gather_buys_nothing_more(*, held: bool) -> None:
    """Of 300 submits at 8 slots only the 8 that had left are bought, followed and paid."""
    async with Simulator(durations=Manual()) as sim, Relay(sim.url) as relay:
        async with session_at(relay.url, concurrency=8) as session:
            if held:
                relay.hold()
            crowd = asyncio.gather(*(session.submit(f"study {n}") for n in range(300)))
            await sim.wait_for(lambda ledger: len(ledger) == 8)
            crowd.cancel()
            with pytest.raises(asyncio.CancelledError):
                await crowd
            relay.let_go()
            await until(lambda: len(session.handles()) == 8)
            bought = {entry.task_id for entry in sim.ledger.entries}
            assert {handle.task_id for handle in session.handles()} == bought
            finish(sim, *session.handles())
            await until(lambda: session.statistics().in_flight == 0)
        after = session.statistics()
    assert sim.ledger.posts_received == len(sim.ledger) == 8
    assert after.posts == after.accepted == after.completed == 8
    assert (after.spent, after.reserved) == (sim.ledger.billed_usd, NOTHING)


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_cancelled_at_any_moment_the_books_are_right(turns: int) -> None:
    """Wherever a submit is cancelled: what the provider billed is spent, and no slot is lost."""
    async with Simulator(durations=0.0) as sim:
        async with session_at(sim.url, concurrency=1) as session:
            caller = asyncio.create_task(session.submit("a lighthouse"))
            for _ in range(turns):
                await asyncio.sleep(0)
            caller.cancel()
            await asyncio.wait([caller])
            await session.generate("the next one")
        after = session.statistics()
    assert sim.ledger.posts_received == after.posts == after.completed
    assert (after.spent, after.reserved) == (sim.ledger.billed_usd, NOTHING)
    assert after.in_flight == 0


async def test_cancelling_one_awaiter_cancels_nobody_else() -> None:
    """A handle may be awaited in many places; each is on its own."""
    async with Simulator(durations=Manual()) as sim, session_at(sim.url) as session:
        handle = await session.submit("a lighthouse")

        async def look() -> fluxflex.GeneratedImage:
            return await handle

        first, second = asyncio.create_task(look()), asyncio.create_task(look())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(look(), 0.001)
        first.cancel()
        assert await handle.wait(timeout=0.001) is TaskState.RUNNING
        finish(sim, handle)
        images = [await second, await handle, *await asyncio.gather(handle, handle)]
    assert first.cancelled()
    assert {image.task_id for image in images} == {handle.task_id}


async def test_each_awaiter_gets_its_own_error() -> None:
    """One exception object for all would grow a traceback with each of them."""
    async with Simulator(durations=0.0) as sim, session_at(sim.url) as session:
        handle = await session.submit("nsfw")

        async def look() -> fluxflex.GeneratedImage:
            return await handle

        caught = await asyncio.gather(look(), look(), look(), return_exceptions=True)
    assert len({id(error) for error in caught}) == 3
    assert {type(error) for error in caught} == {fluxflex.errors.ContentPolicyError}
    assert len({str(error) for error in caught}) == 1


# -- leaving -------------------------------------------------------------------------------------


async def test_the_users_exception_comes_out_as_itself(caplog: pytest.LogCaptureFixture) -> None:
    """It is not wrapped; tasks that run are let go and named, with ids that can be attached."""
    async with Simulator(durations=Manual()) as sim:
        session, handles = session_at(sim.url), []

        async def work() -> None:
            async with session:
                handles.extend([await session.submit(prompt) for prompt in ("a", "b")])
                raise Crash("the user's own")

        with pytest.raises(Crash, match="the user's own") as caught:
            await work()
        assert {handle.state for handle in handles} == {TaskState.ABANDONED}
        assert (caught.value.__context__, caught.value.__cause__) == (None, None)
        for handle in handles:
            assert str(handle.task_id) in caplog.text
            with pytest.raises(SessionClosedError) as closed:
                await handle
            assert (closed.value.task_id, closed.value.charged) == (handle.task_id, "yes")
            finish(sim, handle)
        async with session_at(sim.url) as another:
            for handle in handles:
                image = await another.attach(str(handle.task_id))
                assert image.task_id == handle.task_id
    assert sim.ledger.posts_received == 2


async def test_an_exception_while_a_post_is_in_the_air(caplog: pytest.LogCaptureFixture) -> None:
    """The POST gets its moment: its id is learnt, told to its caller, and logged."""
    async with Simulator(durations=Manual()) as sim, Relay(sim.url) as relay:
        session, callers = session_at(relay.url), []

        async def work() -> None:
            async with session:
                relay.hold()
                callers.append(asyncio.create_task(session.submit("a lighthouse")))
                await sim.wait_for(lambda ledger: len(ledger) == 1)
                relay.let_go()
                raise Crash

        with pytest.raises(Crash):
            await work()
        [entry] = sim.ledger.entries
        assert (await callers[0]).task_id == entry.task_id
    assert entry.task_id in caplog.text
    assert session.statistics().spent == PRICE


async def test_leaving_waits_for_what_runs() -> None:
    """As a task group does: submits that wait for a slot are sent, tasks end, then it closes."""
    async with Simulator(durations=0.005) as sim:
        async with session_at(sim.url, concurrency=2) as session:
            callers = [asyncio.create_task(session.submit(f"study {n}")) for n in range(9)]
            await asyncio.sleep(0)
        assert {(await caller).state for caller in callers} == {TaskState.COMPLETED}
        for caller in callers:
            image = await caller.result()
            assert image.task_id == caller.result().task_id
    assert sim.ledger.posts_received == 9


async def test_closing_with_a_drain_of_nothing_sends_nothing_more() -> None:
    """Who waits for a slot when the session detaches is told that nothing was sent."""
    async with Simulator(durations=Manual()) as sim:
        session = session_at(sim.url, concurrency=1)
        await session.open()
        handle = await session.submit("the first")
        waiting = [asyncio.create_task(session.submit(f"study {n}")) for n in range(3)]
        await asyncio.sleep(0)
        await session.aclose(drain=0)
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(error) for error in errors} == {SessionClosedError}
        assert {getattr(error, "charged", None) for error in errors} == {"no"}
        assert len({id(error) for error in errors}) == 3
        with pytest.raises(SessionClosedError):
            await session.submit("too late")
        assert handle.state is TaskState.ABANDONED
    assert sim.ledger.posts_received == 1


async def test_a_finished_handle_answers_after_the_session_closed() -> None:
    """What ended before the closing is known for good; failures too."""
    async with Simulator(durations=0.0) as sim:
        async with session_at(sim.url) as session:
            good, bad = await session.submit("a lighthouse"), await session.submit("nsfw")
        assert (await good).task_id == good.task_id
        with pytest.raises(GenerationError) as caught:
            await bad
        assert caught.value.task_id == bad.task_id
        assert await good.wait() is TaskState.COMPLETED


async def test_a_failed_task_that_nobody_awaited_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At the end of the session it is logged once, with its id; awaited ones are not."""
    async with Simulator(durations=0.0) as sim, session_at(sim.url) as session:
        unheard, heard = await session.submit("nsfw one"), await session.submit("nsfw two")
        with pytest.raises(GenerationError):
            await heard
    named = [record.getMessage() for record in caplog.records]
    assert sum(str(unheard.task_id) in text for text in named) == 1
    assert not any(str(heard.task_id) in text for text in named)


# -- deadlines -----------------------------------------------------------------------------------


async def test_timed_out_then_attached() -> None:
    """A task that ran out of time keeps its id and can be taken up again, on the same handle."""
    async with Simulator(durations=Manual()) as sim, session_at(sim.url, concurrency=1) as session:
        handle = await session.submit("a lighthouse", timeout=0.005)
        with pytest.raises(TaskTimeoutError) as caught:
            await handle
        assert isinstance(caught.value, TimeoutError)
        assert (caught.value.task_id, caught.value.charged) == (handle.task_id, "yes")
        assert handle.state is TaskState.TIMED_OUT
        assert session.statistics().in_flight == 0
        looks = session.statistics().polls
        again = session.attach(str(handle.task_id))
        assert again is handle
        assert again.state.name == "RUNNING"
        finish(sim, handle)
        image = await handle
        assert (await again).url == image.url
        after = session.statistics()
    assert after.polls > looks
    assert sim.ledger.posts_received == 1
    assert (after.accepted, after.completed, after.timed_out) == (1, 1, 0)
    assert (after.spent, after.in_flight) == (PRICE, 0)


async def test_no_task_times_out_without_a_last_look() -> None:
    """A task that is finished when its time is up is completed, however late the look."""
    async with Simulator(durations=0.0) as sim:
        poll = fluxflex.FixedPolling(3600)
        async with session_at(sim.url, poll=poll, timeout=0.005) as session:
            image = await session.generate("a lighthouse")
    assert image.task_id == sim.ledger.entries[0].task_id
    assert sim.ledger.status_requests == 1


async def test_attaching_what_was_submitted_elsewhere() -> None:
    """It costs nothing, counts as in flight, is never refused a slot, and is one handle an id."""
    async with Simulator(durations=Manual()) as sim, session_at(sim.url) as one:
        ids = [(await one.submit(prompt)).task_id for prompt in ("a", "b", "c")]
        async with session_at(sim.url, concurrency=1) as other:
            handles = [other.attach(task_id) for task_id in ids if task_id]
            assert other.statistics().in_flight == 3
            assert other.attach(f" {ids[0]} ") is handles[0]
            finish(sim, *handles)
            images = [await handle for handle in handles]
            after = other.statistics()
    assert [image.task_id for image in images] == ids
    assert [image.request for image in images] == [None] * 3
    assert (after.attached, after.accepted, after.spent, after.in_flight) == (3, 0, NOTHING, 0)
    assert sim.ledger.posts_received == 3


async def test_a_key_that_is_refused_ends_the_looking() -> None:
    """A look that is answered 401 ends our following, not the task: its id is kept."""
    async with (
        Simulator(faults=Faults(status=[faults.error(401)])) as sim,
        session_at(sim.url) as session,
    ):
        handle = await session.submit("a lighthouse")
        with pytest.raises(AuthenticationError) as caught:
            await handle
        after = session.statistics()
    assert (caught.value.task_id, caught.value.charged) == (handle.task_id, "yes")
    assert handle.state is TaskState.ABANDONED
    assert (after.abandoned, after.in_flight, after.spent) == (1, 0, PRICE)


# -- across tasks --------------------------------------------------------------------------------


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Give a simulator whose tasks are finished at the first look."""
    async with Simulator(durations=0.0) as sim:
        yield sim


@pytest.fixture
async def opened(simulator: Simulator) -> AsyncIterator[Session]:
    """Give a session that is entered and left in other tasks than the test's."""
    async with session_at(simulator.url) as session:
        yield session


async def test_a_session_in_a_fixture(opened: Session, simulator: Simulator) -> None:
    """pytest-asyncio enters and leaves a fixture in tasks of its own."""
    image = await opened.generate("a lighthouse")
    assert image.task_id == simulator.ledger.entries[0].task_id
    await opened.submit("still running when the fixture is left")


async def test_opened_in_one_task_and_closed_in_another() -> None:
    """As an application's lifespan does; the task that opened it may be long gone."""
    async with Simulator(durations=0.0) as sim:
        session = session_at(sim.url)
        await asyncio.create_task(session.open())
        image = await asyncio.create_task(session.generate("a lighthouse"))
        closing = [asyncio.create_task(session.aclose()) for _ in range(3)]
        await asyncio.gather(*closing)
        await session.aclose()
    assert image.task_id == sim.ledger.entries[0].task_id


async def test_two_sessions_closed_in_the_order_in_which_they_were_opened() -> None:
    """Sessions need not be closed last in, first out."""
    async with Simulator(durations=0.0) as sim:
        first, second = session_at(sim.url), session_at(sim.url)
        await first.open()
        await second.open()
        await first.generate("a")
        await first.aclose()
        await second.generate("b")
        await second.aclose()
    assert sim.ledger.posts_received == 2


def test_a_session_in_two_notebook_cells() -> None:
    """One loop, run for each cell and standing still in between."""
    loop = asyncio.new_event_loop()
    try:
        sim = Simulator(durations=0.0)
        loop.run_until_complete(sim.start())
        session = session_at(sim.url)
        loop.run_until_complete(session.open())
        handle = loop.run_until_complete(session.submit("a lighthouse"))

        async def cell() -> fluxflex.GeneratedImage:
            return await handle

        image = loop.run_until_complete(cell())
        assert image.task_id == handle.task_id
        again = loop.run_until_complete(session.generate("another"))
        assert again.task_id != image.task_id
        loop.run_until_complete(session.aclose())
        loop.run_until_complete(sim.stop())
    finally:
        loop.close()


def test_another_loop_is_refused() -> None:
    """A session belongs to the loop that opened it, and says so before anything is sent."""
    loop = asyncio.new_event_loop()
    try:
        session = session_at("http://127.0.0.1:9")
        loop.run_until_complete(session.open())

        async def cell() -> None:
            with pytest.raises(ConfigurationError, match="another event loop"):
                await session.submit("a lighthouse")

        asyncio.run(cell())
        loop.run_until_complete(session.aclose())
    finally:
        loop.close()


async def test_a_session_is_opened_once() -> None:
    """Entering twice is refused; the session that is open goes on."""
    async with Simulator(durations=0.0) as sim, session_at(sim.url) as session:
        with pytest.raises(ConfigurationError, match="once"):
            await session.open()
        await session.generate("a lighthouse")


async def test_a_session_that_is_not_open_says_so() -> None:
    """Verbs before `open` are a mistake in the set-up, not a crash."""
    session = session_at("http://127.0.0.1:9")
    for verb in (session.submit("a"), session.generate("a"), session.account()):
        with pytest.raises(ConfigurationError, match="not open"):
            await verb
    assert session.handles() == []
    await session.aclose()


async def test_what_the_loop_logs_is_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A whole life with failures leaves no unretrieved exception and no pending task behind."""
    caplog.set_level(logging.DEBUG, logger="asyncio")
    script = Faults(submit=[None, faults.accept_then_drop(), faults.error(422), None])
    before = asyncio.all_tasks()
    async with Simulator(durations=0.0, faults=script) as sim, session_at(sim.url) as session:
        await asyncio.gather(
            *(session.generate(f"study {n}") for n in range(4)), return_exceptions=True
        )
    assert asyncio.all_tasks() == before
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
