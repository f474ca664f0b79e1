"""The door with a limiter behind it: who may send, when, and what a faulty policy may not break."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import attrs
import pytest

from fluxflex import (
    AdaptiveConcurrency,
    FixedConcurrency,
    FixedPolling,
    RateLimitError,
    Session,
    Timeouts,
)
from fluxflex._aio.slots import Slots
from fluxflex._core.limits import ConcurrencyPolicy, Limiter
from fluxflex.errors import ConfigurationError, SessionClosedError
from tests.aio.fakes import (
    KEY,
    NEVER_SENT,
    Draws,
    FakeSession,
    FakeTransport,
    Late,
    Step,
    accepted,
    now,
    refused,
    settle,
)

pytestmark = pytest.mark.looptime(start=0)


class Crowded(FakeTransport):
    """A provider that takes so many tasks at once, and turns the rest away."""

    def __init__(self, limit: int, *, retry_after: str | None = None, **more: float) -> None:
        super().__init__(**more)
        self.limit = limit
        self.over = 0
        self.most_running = 0
        self._headers = {} if retry_after is None else {"retry_after": retry_after}
        self.rule("submit", self._judge)

    def running(self) -> int:
        """Return how many of its tasks are not finished."""
        return sum(due > now() for due in self.due.values())

    def _judge(self, _: object) -> Step:
        if self.running() >= self.limit:
            self.over += 1
            return refused(429, **self._headers)
        self.most_running = max(self.most_running, self.running() + 1)
        return None


def policy(ceiling: Any = 8, **methods: Callable[..., Any]) -> ConcurrencyPolicy:
    """Return a policy of a user's own, whose limiter does what is given and else limits nothing."""
    usual: dict[str, Callable[..., Any]] = {
        "ready": lambda _, now, *rest: now,  # noqa: ARG005 - as it is called
        "accepted": lambda *_: None,
        "finished": lambda *_: None,
        "refused": lambda *_: None,
        "window": lambda _: None,
    }
    given = usual | methods
    limiter = type("Mine", (), given | {"window": property(given["window"])})

    @attrs.frozen
    class Policy:
        ceiling: int

        def limiter(self, rng: Random) -> Limiter:
            made: Limiter = methods["limiter"](rng) if "limiter" in methods else limiter()
            return made

    return Policy(ceiling)


# -- the whole session ---------------------------------------------------------------------------


@pytest.mark.parametrize("retry_after", [None, "2"])
async def test_the_providers_limit_is_found_and_kept(retry_after: str | None) -> None:
    """All are accepted, with few refusals, never more in flight than the provider takes."""
    fake = Crowded(5, retry_after=retry_after, seconds=15, latency=0.2)
    async with FakeSession(fake, concurrency=40, poll=FixedPolling(1.5)) as session:
        outcomes = await session.map(f"study {n}" for n in range(100)).collect()
        found = session.statistics()
    assert all(outcome.ok for outcome in outcomes)
    assert (fake.most_running, len(fake.due)) == (5, 100)
    assert found.throttled == found.refused == fake.over
    assert fake.over <= 20
    assert 0 < found.pauses <= fake.over
    assert now() < 1.35 * 100 / 5 * 15


async def test_a_raised_limit_is_found() -> None:
    """What was learnt is given up from time to time; a window that holds no more goes away."""
    fake = Crowded(4, seconds=15, latency=0.2)
    async with FakeSession(fake, concurrency=40, poll=FixedPolling(1.5)) as session:
        batch = session.map(f"study {n}" for n in range(250))
        collecting = asyncio.create_task(batch.collect())
        await asyncio.sleep(120)
        window = session.statistics().window
        assert window is not None
        assert 4 <= window <= 5
        fake.limit = 30
        await asyncio.sleep(100)
        assert fake.most_running > 20
        assert all(outcome.ok for outcome in await collecting)
    assert fake.most_running <= 30


async def test_the_whole_session_pauses() -> None:
    """One is turned away: nothing at all is sent until the pause is over, and it goes first."""
    fake = FakeTransport(latency=0.1).script("submit", None, None, refused(429, retry_after="30"))
    async with FakeSession(fake) as session:
        await session.submit("a")
        await session.submit("b")
        tasks = [asyncio.create_task(session.submit("c"))]
        await asyncio.sleep(1)
        tasks += [asyncio.create_task(session.submit(name)) for name in "de"]
        await asyncio.gather(*tasks)
        assert session.statistics().pauses == 1
    times = fake.times("submit")
    assert min(times[3:]) == times[2] + 0.1 + 30.5
    assert fake.prompts() == ["a", "b", "c", "c", "d", "e"]


async def test_a_burst_pauses_once_and_loses_nothing() -> None:
    """Four in the air are turned away together: one pause, one cut, each sent once more."""
    fake = FakeTransport(latency=0.1).script("submit", *[Late(refused(429), 0.1)] * 4)
    async with FakeSession(fake) as session:
        await asyncio.gather(*(session.submit(name) for name in "abcdefgh"))
        found = session.statistics()
        assert (found.throttled, found.pauses, found.accepted) == (4, 1, 8)
    sent = fake.prompts()
    assert sent[:4] == [*"abcd"]
    assert sorted(sent[4:8]) == [*"abcd"], "who was turned away goes first"
    assert sorted(sent[8:]) == [*"efgh"]


async def test_cancelled_at_the_limiter_nothing_is_sent_reserved_or_kept() -> None:
    """Waiting for the window or a pause is waiting: it costs nothing and leaves nothing."""
    fake = FakeTransport(seconds=500).script("submit", None, refused(429, retry_after="60"))
    async with FakeSession(fake, budget=1) as session:
        await session.submit("a")
        first = asyncio.create_task(session.submit("b"))
        await asyncio.sleep(1)
        waiting = [asyncio.create_task(session.submit("c")) for _ in range(100)]
        await settle()
        for task in [first, *waiting]:
            task.cancel()
        await asyncio.wait([first, *waiting])
        found = session.statistics()
        assert (found.in_flight, found.spent, found.reserved) == (1, Decimal("0.04"), Decimal(0))
        await asyncio.sleep(100)
        await session.aclose(drain=0)
    assert fake.prompts() == ["a", "b"]


async def test_a_batch_that_is_stopped_in_a_pause_sends_nothing_more() -> None:
    """What was turned away, and what waits behind it, was not bought: slots and money are free."""
    fake = FakeTransport().script("submit", None, *[refused(429, retry_after="60")] * 9)
    async with (
        FakeSession(fake, budget=1) as session,
        session.map(f"study {n}" for n in range(50)) as outcomes,
    ):
        await asyncio.sleep(5)
        outcomes.stop()
        got = [outcome async for outcome in outcomes]
        assert [outcome.ok for outcome in got].count(True) == 1
        found = session.statistics()
        assert (found.in_flight, found.reserved) == (0, Decimal(0))
        assert now() == 5
    assert fake.posts == 1 + found.throttled <= 6


async def test_closing_ends_all_waits() -> None:
    """Who waits for the limiter learns that the session closed, and that nothing was bought."""
    fake = FakeTransport().script("submit", refused(429, retry_after="300"))
    async with FakeSession(fake) as session:
        tasks = [asyncio.create_task(session.submit("a"))]
        await settle()
        tasks += [asyncio.create_task(session.submit("b")) for _ in range(50)]
        await settle()
        await session.aclose(drain=1)
        got = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(error) for error in got} == {SessionClosedError}
    assert now() == 1
    assert fake.posts == 1


async def test_a_pause_too_long_for_a_submit_is_told_at_once() -> None:
    """A provider that is closed for the day: those that wait learn it, and so does who comes."""
    fake = FakeTransport().script("submit", Late(refused(429, retry_after="86400"), 1.0))
    async with FakeSession(fake, concurrency=2) as session:
        tasks = [asyncio.create_task(session.submit("a"))]
        await settle()
        window = Timeouts(submit=100_000)
        patient = asyncio.create_task(session.submit("z", timeout=window))
        await settle()
        tasks += [asyncio.create_task(session.submit("b")) for _ in range(3)]
        got = await asyncio.gather(*tasks, session.submit("c"), return_exceptions=True)
        assert {type(error) for error in got} <= {RateLimitError, type(got[0])}
        late = await asyncio.gather(session.submit("d"), return_exceptions=True)
        assert isinstance(late[0], RateLimitError)
        assert late[0].retry_after is not None
        assert late[0].retry_after > 86_000
        assert (late[0].charged, late[0].retryable) == ("no", True)
        assert not isinstance(patient.exception() if patient.done() else None, RateLimitError)
        patient.cancel()
        await asyncio.wait([patient])


async def test_attached_tasks_count_and_are_never_refused() -> None:
    """They run at the provider: new submits wait below the window until there is room."""
    fake = FakeTransport(seconds=50).script("submit", None, None, refused(429))
    async with FakeSession(fake) as session:
        for name in "abc":
            await asyncio.wait([asyncio.create_task(session.submit(name))], timeout=0.5)
        assert session.statistics().window == 2
        handles = [session.attach(f"x{n}") for n in range(5)]
        assert session.statistics().in_flight == 8
        await asyncio.sleep(10)
        assert fake.posts == 3, "seven run where two are known to be taken"
        await asyncio.gather(*handles)


async def test_under_a_semaphore_one_backs_off_alone() -> None:
    """Without a Retry-After nobody else waits for who was turned away."""
    fake = FakeTransport().script("submit", refused(429))
    async with FakeSession(fake, concurrency=FixedConcurrency(4)) as session:
        await asyncio.gather(session.submit("a"), session.submit("b"))
        assert session.statistics().window is None
    assert fake.prompts() == ["a", "b", "a"]
    assert fake.times("submit") == [0, 0, 0.5]


async def test_the_attempts_of_a_failure_to_connect_go_through_the_door_too() -> None:
    """They wait for the limiter as well, and teach it nothing."""
    fake = FakeTransport().script("submit", NEVER_SENT, NEVER_SENT)
    async with FakeSession(fake) as session:
        await session.submit("a")
        found = session.statistics()
        assert (found.throttled, found.pauses, found.window) == (0, 0, None)


# -- the door ------------------------------------------------------------------------------------


async def test_one_timer_serves_all_who_wait() -> None:
    """Whoever waits adds nothing to the loop's timers, and an event looks at the head only."""
    asked = 0

    def ready(_: object, now: float, *counts: int) -> float:  # noqa: ARG001 - as it is called
        nonlocal asked
        asked += 1
        return max(now, 50.0)

    slots = Slots(policy(10**6, ready=ready), posts=10**6, rng=Draws())
    tasks = [asyncio.create_task(slots.acquire()) for _ in range(10_000)]
    await settle()
    timers = len(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]  # the loop's own
    assert timers <= 2
    asked = 0
    slots.release()
    assert asked == 1
    await asyncio.gather(*tasks)
    assert (now(), slots.sending) == (50.0, 10_000)


async def test_who_was_turned_away_goes_first() -> None:
    """Before all who wait for their first slot, in their own order."""
    slots = Slots(FixedConcurrency(2), posts=1, rng=Draws())
    order: list[str] = []

    async def first(name: str) -> None:
        await slots.acquire()
        order.append(name)

    async def again(name: str) -> None:
        await slots.again(1)
        order.append(name)

    await slots.acquire()
    slots.clear(1)
    tasks = [asyncio.create_task(first("new"))]
    await settle()
    tasks += [asyncio.create_task(again(name)) for name in ("one", "two")]
    await settle()
    for _ in range(2):
        slots.answered(1)
        await settle()
    assert order == ["one", "two"]
    slots.answered(1)
    slots.answered(1)
    await asyncio.gather(*tasks)
    assert order == ["one", "two", "new"]
    assert (slots.taken, slots.sending) == (2, 1)


async def test_a_post_that_hangs_does_not_hold_back_all() -> None:
    """After a refusal one at a time goes out, and not for long behind one without an answer."""
    fake = FakeTransport(seconds=1)
    fake.script("submit", refused(429, retry_after="1"), Late(accepted("t8"), 55))
    fake.script("submit", accepted("t9"))
    async with FakeSession(fake, poll=FixedPolling(0.5), concurrency=8) as session:
        generating = [asyncio.create_task(session.generate(prompt)) for prompt in "abc"]
        await asyncio.gather(generating[0], generating[2])
        assert now() < 12
        assert fake.times("submit") == pytest.approx([0, 0, 0, 10], abs=1e-3)
        await generating[1]


async def test_several_that_hang() -> None:
    """Each lets one more go after its time, and none is counted twice when it is answered."""
    slots = Slots(AdaptiveConcurrency(64), posts=64, rng=Draws())
    slots.turned_away(now(), None)  # which closes the gate to one
    await asyncio.sleep(30)
    went = []
    for key in range(3):
        await slots.acquire()
        slots.clear(key)
        went.append(now())
    assert went == [30, 40, 50]
    for key in (0, 0, 1):
        slots.answered(key)
    assert (slots.taken, slots.sending) == (3, 1)
    going = asyncio.create_task(slots.acquire())
    await going
    assert now() == 60  # the third is as any: it holds back for its ten seconds


async def test_cancelled_in_the_moment_of_being_let_through_again() -> None:
    """The leave goes to the next; the slot stays with who holds it."""
    slots = Slots(FixedConcurrency(3), posts=1, rng=Draws())
    await slots.acquire()
    slots.clear(1)
    first, second = asyncio.create_task(slots.again(2)), asyncio.create_task(slots.again(3))
    await settle()
    slots.answered(1)
    first.cancel()
    await settle()
    assert second.done()
    assert (slots.taken, slots.sending) == (1, 1)


async def test_who_was_cancelled_in_this_very_turn_is_passed_over() -> None:
    """Cancelled and not yet run: neither let in nor told of the end."""
    slots = Slots(FixedConcurrency(1), posts=1, rng=Draws())
    await slots.acquire()
    slots.clear(1)
    tasks = [asyncio.create_task(slots.acquire()) for _ in range(3)]
    await settle()
    tasks[0].cancel()
    slots.answered(1)
    slots.release()
    await tasks[1]
    tasks[2].cancel()
    slots.refuse(lambda: SessionClosedError("closed"))
    await settle()
    assert [task.cancelled() for task in tasks] == [True, False, True]
    assert (slots.taken, slots.sending) == (1, 1)


async def test_resumed_tasks_run_already() -> None:
    """They take a slot each, whether there is one or not, and count for the limiter."""
    slots = Slots(FixedConcurrency(1), posts=1, rng=Draws())
    slots.resume()
    slots.resume()
    assert (slots.taken, slots.running) == (2, 2)
    assert repr(slots) == "<Slots: 2 of 1 taken, 0 waiting>"


async def test_a_closed_door_stays_closed() -> None:
    """Who comes after the end gets the error at once, even where there is room."""
    slots = Slots(FixedConcurrency(3), posts=1, rng=Draws())
    slots.refuse(lambda: SessionClosedError("closed"))
    with pytest.raises(SessionClosedError):
        await slots.acquire()
    with pytest.raises(SessionClosedError):
        await slots.again(1)
    assert (slots.taken, slots.sending) == (0, 0)


# -- a policy of the user's own ------------------------------------------------------------------


async def test_a_policy_of_ones_own_decides() -> None:
    """It is asked before each POST with what runs and what is in the air, and told the rest."""
    told: list[tuple[object, ...]] = []

    def ready(_: object, now: float, running: int, sending: int) -> float:
        return now if running + sending < 2 else math.inf

    def tell(name: str) -> Callable[..., None]:
        return lambda _, *facts: told.append((name, *facts))

    def refuse(_: object, now: float, *rest: float) -> float:
        told.append(("refused", now, *rest))
        return now + 3

    mine = policy(
        ready=ready,
        accepted=tell("accepted"),
        finished=tell("finished"),
        refused=refuse,
        window=lambda _: 2,
    )
    fake = FakeTransport(seconds=10).script("submit", refused(429, retry_after="7"))
    async with FakeSession(fake, concurrency=mine) as session:
        await session.map(["a", "b", "c"]).collect()
        assert session.statistics().window == 2
        assert session.statistics().pauses == 1
    assert fake.most["submit"] <= 2
    assert told[0] == ("refused", 0, 0, 0, 7.0)
    assert sorted(str(name) for name, *_ in told[1:]) == ["accepted"] * 3 + ["finished"] * 3
    assert {running for name, _, running, *_ in told if name == "accepted"} <= {1, 2}


def fails(*_: object) -> Any:
    """Raise."""
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "fault",
    [
        {"limiter": fails},
        {"ready": fails},
        {"ready": lambda *_: math.nan},
        {"ready": lambda *_: math.inf},
        {"ready": lambda *_: None},
        {"ready": lambda *_: "soon"},
        {"accepted": fails},
        {"finished": fails},
        {"refused": fails},
        {"refused": lambda *_: "later"},
        {"refused": lambda *_: math.nan},
        {"refused": lambda *_: math.inf},
        {"window": fails},
    ],
    ids=lambda fault: next(iter(fault)),
)
async def test_a_faulty_policy_loses_no_task(
    fault: dict[str, Callable[..., Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Its first fault is logged, once; from then on a plain semaphore serves."""
    fake = FakeTransport(seconds=3, latency=0.1).script("submit", refused(429, retry_after="2"))
    with caplog.at_level(logging.ERROR, "fluxflex"):
        async with FakeSession(fake, concurrency=policy(**fault)) as session:
            outcomes = await session.map(str(n) for n in range(20)).collect()
            assert session.statistics().window is None
    assert all(outcome.ok for outcome in outcomes)
    assert len(fake.due) == 20
    assert [record.message.split(";")[1] for record in caplog.records] == [
        " from now on only its ceiling holds"
    ]


@pytest.mark.parametrize("until", [Decimal(3), "3"])
async def test_a_policy_may_answer_with_any_number(until: Any) -> None:
    """What can be read as a number of seconds is one, for a pause as for a start."""
    mine = policy(ready=lambda *_: until, refused=lambda *_: until)
    fake = FakeTransport(seconds=3).script("submit", refused(429))
    async with FakeSession(fake, concurrency=mine) as session:
        await session.generate("a")
        assert session.statistics().pauses == 0
    assert fake.times("submit") == [3.0, 3.0]


async def test_the_ceiling_never_depends_on_the_policy() -> None:
    """A limiter that always says yes gets no more than its policy's ceiling."""
    fake = FakeTransport(seconds=100)
    async with FakeSession(fake, concurrency=policy()) as session:
        tasks = [asyncio.create_task(session.submit(str(n))) for n in range(30)]
        await asyncio.sleep(50)
        assert (fake.posts, session.statistics().in_flight) == (8, 8)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await session.aclose(drain=0)


@pytest.mark.parametrize("ceiling", [0, True, "8", None])
def test_a_policy_without_a_ceiling_is_refused(ceiling: Any) -> None:
    """And so is the class of one in place of a value."""
    with pytest.raises(ConfigurationError, match="ceiling must be a whole number"):
        Session(KEY, concurrency=policy(ceiling))
    with pytest.raises(ConfigurationError, match="concurrency must be"):
        Session(KEY, concurrency=AdaptiveConcurrency)  # type: ignore[arg-type]  # the fault under test


async def test_a_task_known_twice_is_counted_once() -> None:
    """A reply that brings the last word at once was accepted, and runs no more."""
    fake = FakeTransport().script("submit", accepted("t9"), accepted("t9"))
    async with FakeSession(fake) as session:
        first = await session.submit("a")
        await first
        assert session.engine.tasks.slots.running == 0
        assert session.engine.tasks.slots.sending == 0
