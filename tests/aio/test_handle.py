"""Handles: any number of awaiters, each on its own, before and after the end."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from fluxflex import FixedPolling, GenerateRequest, TaskHandle, TaskState
from fluxflex.errors import (
    GenerationError,
    SessionClosedError,
    TaskTimeoutError,
)
from tests.aio.fakes import FakeSession, FakeTransport, as_json, completed, failed, now, settle

pytestmark = pytest.mark.looptime(start=0)


async def test_any_number_of_awaiters() -> None:
    """Before and after the end, in any task, each gets the picture."""
    async with FakeSession() as session:
        handle = await session.submit("a", quality="2K")
        images = await asyncio.gather(*(handle for _ in range(5)), session.attach("t1"))
        assert {image.url for image in images} == {"http://files.test/t1.png"}
        assert (await handle).task_id == "t1"
        assert handle.request == GenerateRequest("a", quality="2K")
        assert repr(handle) == "<TaskHandle t1: COMPLETED>"


async def test_each_awaiter_gets_an_exception_of_their_own() -> None:
    """One object raised in several tasks would grow a traceback with each."""
    fake = FakeTransport().script("status", failed("t1"))
    async with FakeSession(fake) as session:
        handle = await session.submit("a")

        async def wait() -> object:
            return await handle

        got = await asyncio.gather(*(wait() for _ in range(3)), return_exceptions=True)
        with pytest.raises(GenerationError) as caught:
            await handle
        errors = [*got, caught.value]
        assert all(isinstance(error, GenerationError) for error in errors)
        assert len({id(error) for error in errors}) == 4
        assert len({str(error) for error in errors}) == 1


async def test_cancelling_one_awaiter_cancels_nobody_else() -> None:
    """Neither the other awaiters nor the task."""
    async with FakeSession() as session:
        handle = await session.submit("a")

        async def wait() -> str:
            return (await handle).task_id

        one, other = asyncio.create_task(wait()), asyncio.create_task(wait())
        watching = asyncio.create_task(handle.wait())
        await settle()
        one.cancel()
        watching.cancel()
        assert await other == "t1"
        assert one.cancelled()
        assert watching.cancelled()


async def test_wait_for_gives_up_the_wait_only() -> None:
    """A timeout around a handle is the caller's own: the task goes on."""
    async with FakeSession(FakeTransport(seconds=10)) as session:
        handle = await session.submit("a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle, 2)
        assert (now(), handle.state) == (2, TaskState.RUNNING)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await handle
        assert (await asyncio.wait_for(handle, 100)).task_id == "t1"


async def test_as_completed_takes_handles() -> None:
    """The quickest comes first."""
    fake = FakeTransport(seconds=9)
    async with FakeSession(fake) as session:
        slow = await session.submit("a")
        fake.seconds = 3
        quick = await session.submit("b")
        order = [(await image).task_id for image in asyncio.as_completed([slow, quick])]
        assert order == ["t2", "t1"]


async def test_wait_never_raises_for_the_task() -> None:
    """It tells the state: of a running task when the seconds are over, else the last one."""
    fake = FakeTransport(seconds=10).rule("status", lambda _: failed("t1") if now() > 5 else None)
    async with FakeSession(fake) as session:
        handle = await session.submit("a")
        assert await handle.wait(0) is TaskState.RUNNING
        assert await handle.wait(2.5) is TaskState.RUNNING
        assert now() == 2.5
        assert await handle.wait() is TaskState.FAILED
        assert await handle.wait(0) is TaskState.FAILED


async def test_a_result_before_the_end_is_an_invalid_state() -> None:
    """As with a future."""
    async with FakeSession() as session:
        handle = await session.submit("a")
        with pytest.raises(asyncio.InvalidStateError):
            handle.result()
        await handle
        assert handle.result().task_id == "t1"


async def test_what_the_picture_says() -> None:
    """All URLs, the request, the seconds it took, the provider's own cost and words."""
    output = {"image_urls": ["http://files.test/1.png", "http://files.test/2.png"]}
    fake = FakeTransport(seconds=4).rule(
        "status", lambda _: completed("t1", output=output, cost=0.03) if now() > 3 else None
    )
    async with FakeSession(fake) as session:
        image = await session.generate("a")
        assert image.url == "http://files.test/1.png"
        assert image.urls == ("http://files.test/1.png", "http://files.test/2.png")
        assert image.request == GenerateRequest("a")
        assert str(image.cost) == "0.03"
        assert image.elapsed == now()
        assert image.raw["output"] == output
        assert session.statistics().spent == image.cost


async def test_what_is_not_known_of_a_task_from_elsewhere() -> None:
    """Without its request there is no price."""
    async with FakeSession() as session:
        handle = session.attach("t7")
        assert handle.request is None
        image = await handle
        assert (image.task_id, image.request, image.cost) == ("t7", None, None)
        assert image.elapsed == now()


async def test_after_closing_a_finished_handle_answers() -> None:
    """And another says that the session closed, with the id."""
    fake = FakeTransport(seconds=2)
    async with FakeSession(fake, poll=FixedPolling(1)) as session:
        done = await session.submit("a")
        await done
        fake.seconds = 1000
        running = await session.submit("b")
        waiting = asyncio.gather(running, running.wait(), return_exceptions=True)
        await settle()
        await session.aclose(drain=3)
        assert now() == 5
    assert (await done).task_id == "t1"
    assert await done.wait() is TaskState.COMPLETED
    error, state = await waiting
    assert state is TaskState.ABANDONED
    for caught in (error, await asyncio.gather(running, return_exceptions=True)):
        (found,) = caught if isinstance(caught, list) else [caught]
        assert isinstance(found, SessionClosedError)
        assert (found.task_id, found.charged) == ("t2", "yes")


async def test_attaching_revives_a_task_that_timed_out() -> None:
    """The same handle goes on, and so do those that wait on it again."""
    fake = FakeTransport(seconds=10)
    async with FakeSession(fake) as session:
        handle = await session.submit("a", timeout=3)
        with pytest.raises(TaskTimeoutError):
            await handle
        assert session.statistics().in_flight == 0
        again = session.attach("t1")
        assert again is handle
        assert handle.state is TaskState.RUNNING
        assert session.statistics().in_flight == 1
        assert session.statistics().timed_out == 0
        assert session.handles() == [handle]
        assert (await handle).task_id == "t1"
        found = session.statistics()
        assert (found.in_flight, found.completed, found.accepted, found.attached) == (0, 1, 1, 0)
    assert fake.posts == 1


async def test_revived_before_the_awaiter_had_its_turn() -> None:
    """Who has not yet heard of the timeout waits on."""
    fake = FakeTransport(seconds=10)
    async with FakeSession(fake, on_event=lambda change: revive(change.after.state)) as session:

        def revive(state: TaskState) -> None:
            if state is TaskState.TIMED_OUT:
                session.attach("t1", timeout=100)

        handle = await session.submit("a", timeout=3)
        assert (await handle).task_id == "t1"


async def test_attaching_to_what_is_known_gives_its_handle() -> None:
    """One task has one handle, running or over, and is followed once."""
    fake = FakeTransport(seconds=2)
    async with FakeSession(fake) as session:
        handle = await session.submit("a")
        assert session.attach("t1") is handle
        assert session.statistics().in_flight == 1
        await handle
        looks = fake.count("status")
        assert session.attach(" t1 ") is handle
        assert (await handle).task_id == "t1"
        assert fake.count("status") == looks


async def test_a_finished_handle_is_not_kept_for_its_own_sake() -> None:
    """Memory follows what is in flight: what nobody holds is gone, and may be attached anew."""
    async with FakeSession() as session:
        handle: TaskHandle | None = await session.submit("a")
        assert handle is not None
        await handle
        gone = weakref.ref(handle)
        handle = None
        gc.collect()
        assert gone() is None
        assert (await session.attach("t1")).task_id == "t1"


async def test_a_last_word_without_the_id_is_still_this_tasks() -> None:
    """The provider need not repeat the id that was asked for."""
    fake = FakeTransport().script(
        "status", as_json({"data": {"status": "failed", "message": "no"}})
    )
    async with FakeSession(fake) as session:
        with pytest.raises(GenerationError) as caught:
            await session.generate("a")
        assert caught.value.task_id == "t1"
