"""Slots: never more than there are, first come first served, none lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from fluxflex._aio.slots import Slots
from fluxflex._core.limits import FixedConcurrency
from fluxflex.errors import RateLimitError
from tests.aio.fakes import Draws, settle

pytestmark = pytest.mark.looptime(start=0)


class LeavingError(Exception):
    """Raised in those who wait."""


def fixed(ceiling: int, posts: int = 64) -> Slots:
    """Return slots that nothing else limits."""
    return Slots(FixedConcurrency(ceiling), posts=posts, rng=Draws())


async def test_the_ceiling_holds_and_who_waits_longest_is_next() -> None:
    """Slots are handed on in the order of asking."""
    slots = fixed(2)
    order: list[int] = []

    async def take(number: int) -> None:
        await slots.acquire()
        order.append(number)

    tasks = [asyncio.create_task(take(number)) for number in range(5)]
    await settle()
    assert (order, slots.taken) == ([0, 1], 2)
    for expected in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
        slots.release()
        await settle()
        assert (order, slots.taken) == (expected, 2)
    slots.release()
    slots.release()
    assert slots.taken == 0
    await asyncio.gather(*tasks)


async def test_nobody_overtakes_who_was_handed_a_slot() -> None:
    """A slot given back is its next owner's at once, before that one has run."""
    slots = fixed(1)
    await slots.acquire()
    waiting = asyncio.create_task(slots.acquire())
    await settle()
    slots.release()
    late = asyncio.create_task(slots.acquire())
    await settle()
    assert (waiting.done(), late.done(), slots.taken) == (True, False, 1)
    slots.release()
    await late


async def test_a_pause_is_told_to_all_who_have_less_time() -> None:
    """Those who wait when it begins, wherever they stand, and those who come during it."""
    slots = fixed(1)
    await slots.acquire()
    before = asyncio.create_task(slots.acquire(5))
    await settle()
    slots.release()
    await before  # nobody waits any more who has as little time
    patient, hasty = (asyncio.create_task(slots.acquire(within)) for within in (600, 5))
    await settle()
    slots.turned_away(asyncio.get_running_loop().time(), 100)
    await settle()
    assert isinstance(hasty.exception(), RateLimitError)
    with pytest.raises(RateLimitError, match="a pause of 100 s"):
        await slots.acquire(5)
    assert not patient.done()
    patient.cancel()
    with pytest.raises(RateLimitError):
        await slots.acquire(5)


async def test_a_timer_need_not_know_when(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain handle comes from uvloop where the time has nearly come."""
    loop = asyncio.get_running_loop()
    call_at, given = loop.call_at, []

    def plain(when: float, call: Callable[[], None]) -> asyncio.Handle:
        call_at(when, call)
        given.append(asyncio.Handle(call, (), loop))
        return given[-1]

    monkeypatch.setattr(loop, "call_at", plain)
    slots = fixed(4)
    await slots.acquire()
    slots.turned_away(loop.time(), 3)
    waiting = [asyncio.create_task(slots.acquire()) for _ in range(3)]
    await settle()
    assert len(given) == 1  # all three wait for one time
    monkeypatch.undo()
    await asyncio.gather(*waiting)
    assert slots.taken == 4


async def test_cancelled_in_the_queue_takes_nothing() -> None:
    """Who gave up waiting is passed over."""
    slots = fixed(1)
    await slots.acquire()
    first, second = (asyncio.create_task(slots.acquire()) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    slots.release()
    await second
    assert (first.cancelled(), slots.taken) == (True, 1)


async def test_cancelled_in_the_moment_of_being_served_hands_it_on() -> None:
    """A slot is never lost between a release and a cancel."""
    slots = fixed(1)
    await slots.acquire()
    first, second = (asyncio.create_task(slots.acquire()) for _ in range(2))
    await settle()
    slots.release()
    first.cancel()
    await settle()
    assert first.cancelled()
    assert second.done()
    assert slots.taken == 1
    slots.release()
    assert slots.taken == 0


async def test_overdrawn_slots_are_paid_back_first() -> None:
    """Tasks from elsewhere are never refused, and new ones wait until there is room again."""
    slots = fixed(1)
    slots.overdraw()
    slots.overdraw()
    assert slots.taken == 2
    waiting = asyncio.create_task(slots.acquire())
    await settle()
    slots.release()
    await settle()
    assert not waiting.done()
    slots.release()
    await waiting
    assert slots.taken == 1
    assert repr(slots) == "<Slots: 1 of 1 taken, 0 waiting>"


async def test_refused_each_gets_an_error_of_their_own() -> None:
    """One exception object in several tasks would grow a traceback with each."""
    slots = fixed(1)
    await slots.acquire()
    waiting = [asyncio.create_task(slots.acquire()) for _ in range(3)]
    await settle()
    waiting[0].cancel()
    slots.refuse(LeavingError)
    got = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(got[0], asyncio.CancelledError)
    assert isinstance(got[1], LeavingError)
    assert isinstance(got[2], LeavingError)
    assert got[1] is not got[2]
    assert slots.taken == 1
    slots.release()
    assert slots.taken == 0


async def test_refused_and_cancelled_at_once() -> None:
    """Whoever is cancelled in the moment of being refused has no slot to give back."""
    slots = fixed(1)
    await slots.acquire()
    waiting = asyncio.create_task(slots.acquire())
    await settle()
    slots.refuse(LeavingError)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert slots.taken == 1
