"""What users' code and bad moments do to a submit: nothing unasked, nothing lost, nothing kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from fluxflex import Change, FixedPolling, RateLimitError, TaskState, Timeouts
from fluxflex._aio.batch import Batch
from fluxflex.errors import AuthenticationError, SessionClosedError
from tests.aio.fakes import FakeSession, FakeTransport, now, refused, settle

pytestmark = pytest.mark.looptime(start=0)

EVERY = FixedPolling(1.0)


async def test_a_batch_that_is_stopped_while_its_item_is_told_to_be_sent() -> None:
    """An observer that stops the batch at the very step of sending: nothing hangs or is lost."""
    batch: Batch | None = None

    def watch(change: Change) -> None:
        if change.after.state is TaskState.SENDING and batch is not None:
            batch.stop()

    fake = FakeTransport(seconds=2, latency=1)
    async with FakeSession(fake, poll=EVERY, on_event=watch) as session:
        async with session.map(["a", "b", "c"]) as batch:
            outcomes = [outcome async for outcome in batch]
        assert fake.posts == 1, "what was told to be sent is on its way"
        assert [outcome.task_id for outcome in outcomes if outcome.ok] == ["t1"]
        dropped = [outcome for outcome in outcomes if not outcome.ok]
        assert [type(outcome.error) for outcome in dropped] == [SessionClosedError] * 2
        assert session.statistics().in_flight == 0


async def test_a_source_that_stops_its_own_batch_buys_no_more() -> None:
    """What it gives after that is read, and not sent."""
    batches: list[Batch] = []

    def source() -> Iterator[str]:
        yield "a"
        batches[0].stop()
        yield "b"

    async with FakeSession(poll=EVERY) as session:
        batches.append(session.map(source()))
        outcomes = await batches[0].collect()
        assert [type(outcome.error) for outcome in outcomes] == [SessionClosedError] * 2
    assert session.fake.posts == 0


async def test_a_source_that_swallows_the_cancellation_sends_no_more() -> None:
    """What it gives after its batch was left is not bought."""

    async def source() -> AsyncIterator[str]:
        yield "a"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield "b"

    fake = FakeTransport(latency=1)
    async with FakeSession(fake, poll=EVERY) as session:
        async with session.map(source()) as batch:
            await settle()
        await settle()
        assert fake.prompts() == ["a"]
        assert batch.progress.read == 1  # a run's pages may be another pass's by now


async def test_who_waits_for_a_slot_when_the_batch_halts_is_not_sent() -> None:
    """An item that was read and waits for a slot gets the error that the others would meet."""
    fake = FakeTransport(seconds=100, latency=1).script("submit", refused(401))
    async with FakeSession(fake, concurrency=2, poll=EVERY) as session:
        session.attach("old")
        with pytest.raises(AuthenticationError) as caught:
            await session.map(["a", "b"]).collect()
        outcomes = caught.value.outcomes
        assert [type(outcome.error) for outcome in outcomes] == [AuthenticationError] * 2
        assert fake.prompts() == ["a"]
        await session.aclose(drain=0)


async def test_a_batch_halts_though_its_source_gives_nothing_more() -> None:
    """The error comes out at once, not when the source says its next word."""

    async def source() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(1000)

    fake = FakeTransport(latency=1).script("submit", refused(401))
    async with FakeSession(fake, poll=EVERY) as session:
        with pytest.raises(AuthenticationError):
            await session.map(source()).collect()
        assert now() == 1


async def test_a_source_that_fails_as_it_is_cut_off_hides_no_halt() -> None:
    """What stopped the batch comes out, not what its ending made the source raise."""

    async def source() -> AsyncIterator[str]:
        yield "a"
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            raise ValueError("its own") from None

    fake = FakeTransport(latency=1).script("submit", refused(401))
    async with FakeSession(fake, poll=EVERY) as session:
        with pytest.raises(AuthenticationError):
            await session.map(source()).collect()


async def test_a_stale_cancellation_does_not_hide_that_the_session_closed() -> None:
    """A caller that once swallowed a cancellation still learns why its submit ended."""
    fake = FakeTransport().script("submit", refused(429, retry_after="100"))
    session = FakeSession(fake, poll=EVERY)
    await session.open()

    async def caller() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
        await session.submit("a")

    calling = asyncio.create_task(caller())
    await settle()
    calling.cancel()
    await settle()
    await session.aclose(drain=0)
    await asyncio.wait([calling])
    assert not calling.cancelled()
    assert isinstance(calling.exception(), SessionClosedError)


async def test_a_pause_is_too_long_behind_one_who_can_wait_for_it() -> None:
    """A submit that has less time than the pause takes is told at once, wherever it stands."""
    fake = FakeTransport().script("submit", refused(429, retry_after="100"))
    async with FakeSession(fake, poll=EVERY) as session:
        waiting = []
        for prompt in "ab":
            waiting.append(asyncio.create_task(session.submit(prompt)))
            await asyncio.sleep(1)
        try:
            with pytest.raises(RateLimitError):
                await session.submit("c", timeout=Timeouts(submit=5))
        finally:
            await asyncio.gather(*waiting)
