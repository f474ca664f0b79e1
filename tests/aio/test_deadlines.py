"""One timer for all deadlines, and cancellations told apart."""

from __future__ import annotations

import asyncio

import pytest

from fluxflex._aio.deadlines import Deadlines

pytestmark = pytest.mark.looptime(start=0)


async def cut(deadlines: Deadlines, seconds: float, work: float = 1000) -> float | None:
    """Work under a deadline; return when it was cut off, or `None` where it was not."""
    deadline = deadlines.begin(seconds)
    try:
        await asyncio.sleep(work)
    except asyncio.CancelledError:
        if not deadline.was_ours():
            raise
        return asyncio.get_running_loop().time()
    finally:
        deadlines.end(deadline)
    return None


async def test_each_is_cut_off_at_its_own_time() -> None:
    """In whatever order they begin, and however long others have."""
    deadlines = Deadlines()
    ended = await asyncio.gather(*(cut(deadlines, seconds) for seconds in (5, 3, 60, 4)))
    assert ended == [5, 3, 60, 4]
    assert len(deadlines) == 0


async def test_what_ends_in_time_is_left_alone() -> None:
    """A timer that was set for one that has ended cuts off no other before its time."""
    deadlines = Deadlines()
    first, second, third = await asyncio.gather(
        cut(deadlines, 5, work=1), cut(deadlines, 7), cut(deadlines, 9, work=8)
    )
    assert (first, second, third) == (None, 7, None)


async def test_a_timer_outlives_what_it_was_set_for() -> None:
    """A deadline later than a timer that is still set is kept as well."""
    deadlines = Deadlines()
    assert await cut(deadlines, 5, work=1) is None
    assert await cut(deadlines, 10) == 11


async def test_in_a_hurry_all_have_less() -> None:
    """Nobody gets more than so many seconds more, and nobody more than they had."""
    deadlines = Deadlines()
    long, short = (asyncio.create_task(cut(deadlines, seconds)) for seconds in (600, 2))
    await asyncio.sleep(1)
    deadlines.hurry(5)
    assert await short == 2
    assert await long == 6
    deadlines.hurry(1)  # nobody is there
    deadlines.close()


async def test_a_cancellation_of_the_caller_s_is_not_ours() -> None:
    """Cancelled in the same moment by both, it is the caller's that counts."""
    deadlines = Deadlines()
    alone, both = (asyncio.create_task(cut(deadlines, seconds)) for seconds in (600, 3))
    await asyncio.sleep(1)
    alone.cancel()
    asyncio.get_running_loop().call_at(3, both.cancel)
    done, _ = await asyncio.wait([alone, both])
    assert all(task.cancelled() for task in done)
    deadlines.close()


async def test_a_cancellation_is_sent_once() -> None:
    """Who is slow to end after it is not cancelled again by the next timer."""
    deadlines = Deadlines()
    cancelled = 0

    async def slow() -> None:
        nonlocal cancelled
        deadline = deadlines.begin(1)
        for _ in range(3):
            try:
                await asyncio.sleep(2)
            except asyncio.CancelledError:
                cancelled += 1
        assert deadline.was_ours()
        deadlines.end(deadline)

    await asyncio.gather(slow(), cut(deadlines, 2))
    assert cancelled == 1
