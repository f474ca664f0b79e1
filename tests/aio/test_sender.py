"""The retry law on the wire: how many POSTs one submit makes, and what it comes to."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import attrs
import pytest

from fluxflex import FixedConcurrency, RetryPolicy, TaskHandle, TaskState, Timeouts
from fluxflex._core.exchange import Reply
from fluxflex.errors import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    FluxFlexError,
    GenerationError,
    InsufficientBalanceError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    SessionClosedError,
    SubmitUncertainError,
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
    Step,
    accepted,
    as_json,
    completed,
    failed,
    now,
    page,
    refused,
    settle,
)

pytestmark = pytest.mark.looptime(start=0)

PRICE = Decimal("0.04")
RESUBMIT = RetryPolicy(resubmit_uncertain=True)


def spent(session: FakeSession) -> tuple[float | Decimal, ...]:
    """Return slots taken, money spent and money reserved."""
    found = session.statistics()
    return found.in_flight, found.spent, found.reserved


# -- accepted ------------------------------------------------------------------------------------


async def test_a_submit_is_one_post() -> None:
    """A submit that is accepted is one POST and one task, with its id at once."""
    async with FakeSession() as session:
        handle = await session.submit("a")
        assert (handle.task_id, handle.state) == ("t1", TaskState.RUNNING)
        assert spent(session) == (1, PRICE, 0)
        await handle
        assert spent(session) == (0, PRICE, 0)
    assert session.fake.posts == 1
    assert session.fake.seen[0].timeout == 60


@pytest.mark.parametrize(
    "reply",
    [
        attrs.evolve(accepted("t9"), status=500),
        attrs.evolve(accepted("t9"), status=429, headers={"retry-after": "5"}),
        attrs.evolve(accepted("t9"), status=404),
        attrs.evolve(accepted("t9"), status=307),
        attrs.evolve(accepted("t9"), body=accepted("t9").body[:-2], complete=False),
        as_json({"code": 500, "data": {"task_id": "t9"}}),
    ],
    ids=["500", "429", "404", "307", "truncated", "code 500"],
)
async def test_a_task_id_wins_over_everything(reply: Reply) -> None:
    """Whatever else a reply says: where it names a task, that task exists and is billed."""
    async with FakeSession(FakeTransport().script("submit", reply)) as session:
        handle = await session.submit("a")
        assert handle.task_id == "t9"
        await handle
    assert session.fake.posts == 1


async def test_a_reply_may_bring_the_last_word() -> None:
    """A POST that is answered with the picture needs no look."""
    async with FakeSession(FakeTransport().script("submit", completed("t9"))) as session:
        handle = await session.submit("a")
        assert handle.state is TaskState.COMPLETED
        assert (await handle).task_id == "t9"
        assert spent(session) == (0, PRICE, 0)
    assert (session.fake.posts, session.fake.count("status")) == (1, 0)


async def test_a_reply_may_bring_a_failure() -> None:
    """A POST that is answered with a failed task returns its handle; awaiting it raises."""
    async with FakeSession(FakeTransport().script("submit", failed("t9"))) as session:
        handle = await session.submit("a")
        with pytest.raises(GenerationError) as caught:
            await handle
        assert caught.value.task_id == "t9"
    assert session.fake.posts == 1


# -- again, where nothing can have been bought ---------------------------------------------------


async def test_what_was_never_sent_is_sent_again_a_few_times() -> None:
    """Four failures to connect, with growing pauses, and then it goes through."""
    fake = FakeTransport().script("submit", *[NEVER_SENT] * 4)
    async with FakeSession(fake) as session:
        await session.submit("a")
    assert fake.times("submit") == [0, 0.5, 1.5, 3.5, 7.5]


async def test_what_is_never_sent_ends_after_the_attempts() -> None:
    """The last attempt's failure comes out; nothing was bought, nothing is held."""
    fake = FakeTransport().script("submit", *[NEVER_SENT] * 9)
    async with FakeSession(fake, retry=RetryPolicy(attempts=3)) as session:
        with pytest.raises(APIConnectionError) as caught:
            await session.submit("a")
        assert (caught.value.charged, caught.value.retryable) == ("no", True)
        assert spent(session) == (0, 0, 0)
        assert session.statistics().refused == 3
    assert fake.posts == 3


async def test_what_is_hopeless_is_not_sent_again() -> None:
    """A certificate that does not fit will not fit later."""
    fake = FakeTransport().script("submit", HOPELESS)
    async with FakeSession(fake) as session:
        with pytest.raises(APIConnectionError) as caught:
            await session.submit("a")
        assert caught.value.retryable is False
    assert fake.posts == 1


@pytest.mark.parametrize("concurrency", [32, FixedConcurrency(32)])
@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_is_kept_until_accepted(
    status: int, concurrency: int | FixedConcurrency
) -> None:
    """Turned away ten times, twice as often as `attempts`, each pause as long as was asked."""
    steps = [refused(status, retry_after="30")] * 10
    fake = FakeTransport().script("submit", *steps)
    async with FakeSession(fake, concurrency=concurrency) as session:
        await session.submit("a")
    assert fake.times("submit") == [n * 30.5 for n in range(11)]


async def test_a_429_without_retry_after_pauses() -> None:
    """The limiter's pauses double from a second up to half a minute, and stay there."""
    fake = FakeTransport().script("submit", *[refused(429)] * 7)
    async with FakeSession(fake) as session:
        await session.submit("a")
        found = session.statistics()
        assert (found.retries, found.refused, found.throttled, found.pauses) == (7, 7, 7, 7)
    assert fake.times("submit") == [0, 1, 3, 7, 15, 31, 61, 91]


async def test_a_429_under_a_semaphore_backs_off() -> None:
    """Without a Retry-After its own pauses grow to the longest of the `RetryPolicy`."""
    fake = FakeTransport().script("submit", *[refused(429)] * 7)
    async with FakeSession(fake, concurrency=FixedConcurrency(32)) as session:
        await session.submit("a")
        assert session.statistics().retries == 7
        assert session.statistics().refused == 7
        assert (session.statistics().throttled, session.statistics().pauses) == (7, 0)
    assert fake.times("submit") == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 25.5, 35.5]


async def test_hundred_429s_leave_the_attempts_untouched() -> None:
    """What a call met is counted apart: being turned away uses up no failure to connect."""
    steps: list[Step] = [refused(429), NEVER_SENT] * 4
    fake = FakeTransport().script("submit", *steps)
    async with FakeSession(fake) as session:
        await session.submit("a")
    assert fake.posts == 9


async def test_turned_away_until_the_deadline() -> None:
    """No attempt begins after the deadline, and none that could not: the 429 comes out."""
    fake = FakeTransport().rule("submit", lambda _: refused(429, retry_after="4"))
    async with FakeSession(fake, timeout=Timeouts(submit=10)) as session:
        with pytest.raises(RateLimitError) as caught:
            await session.submit("a")
        assert (caught.value.charged, caught.value.retry_after) == ("no", 4)
        assert spent(session) == (0, 0, 0)
        assert now() == 9.0
    assert fake.times("submit") == [0, 4.5, 9.0]


async def test_a_pause_longer_than_the_deadline_is_not_begun() -> None:
    """A day's pause is not waited for in vain."""
    fake = FakeTransport().script("submit", refused(503, retry_after="86400"))
    async with FakeSession(fake) as session:
        with pytest.raises(RateLimitError):
            await session.submit("a")
        assert now() == 0
    assert fake.posts == 1


# -- never again ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refused(400), RequestRejectedError),
        (refused(401), AuthenticationError),
        (refused(402), InsufficientBalanceError),
        (refused(403), AuthenticationError),
        (refused(404), RequestRejectedError),
        (refused(409), RequestRejectedError),
        (refused(422), RequestRejectedError),
        (page(403), AuthenticationError),
        (page(404), RequestRejectedError),
        (as_json({"code": 401, "data": {"code": "authentication_failed"}}), AuthenticationError),
        (as_json({"success": False, "code": "insufficient_balance"}), InsufficientBalanceError),
        (as_json({"code": 422, "data": {"message": "not so"}}), RequestRejectedError),
    ],
    ids=lambda value: None if isinstance(value, type) else f"{value.status} {value.body[:40]!r}",
)
async def test_a_refusal_is_the_end(reply: Reply, kind: type[APIError]) -> None:
    """The provider said no: one POST, a typed error, nothing bought and nothing held."""
    async with FakeSession(FakeTransport().script("submit", reply)) as session:
        with pytest.raises(kind) as caught:
            await session.submit("a")
        assert type(caught.value) is kind
        assert (caught.value.charged, caught.value.task_id) == ("no", None)
        assert spent(session) == (0, 0, 0)
        assert session.statistics().refused == 1
    assert session.fake.posts == 1


async def test_a_429_inside_a_200_is_one() -> None:
    """An error's code in a 200 counts as that HTTP status."""
    body = {"code": 429, "data": {"code": "rate_limit_exceeded"}}
    fake = FakeTransport().script("submit", as_json(body))
    async with FakeSession(fake) as session:
        await session.submit("a")
    assert fake.posts == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """The base URL is wrong: said at once, and nothing was bought."""
    reply = Reply(status=status, headers={"location": "https://elsewhere.test/"})
    async with FakeSession(FakeTransport().script("submit", reply)) as session:
        with pytest.raises(ConfigurationError, match="redirect"):
            await session.submit("a")
        assert spent(session) == (0, 0, 0)
    assert session.fake.posts == 1


UNCERTAIN = {
    "500": refused(500),
    "502": page(502),
    "503": refused(503),
    "504": page(504),
    "408": refused(408),
    "520": page(520),
    "HTML 200": page(200),
    "no id": as_json({"code": 200, "data": {"status": "processing"}}),
    "empty": Reply(status=200),
    "truncated": attrs.evolve(accepted("t9"), body=b'{"code": 200, "da', complete=False),
    "a list": as_json([1]),
    "204": Reply(status=204),
    "unknown code": as_json({"code": 777, "data": {}}),
    "no success": as_json({"success": False}),
    "writing": WRITING,
    "sent": SENT,
    "hang": HANG,
}


@pytest.mark.parametrize("step", UNCERTAIN.values(), ids=UNCERTAIN)
async def test_what_may_have_been_accepted_is_never_sent_again(step: Got | Late) -> None:
    """One POST; the error says so, and the money stays reserved since it may be gone."""
    async with FakeSession(FakeTransport().script("submit", step)) as session:
        with pytest.raises(SubmitUncertainError) as caught:
            await session.submit("a")
        error = caught.value
        assert (error.charged, error.retryable, error.task_id) == ("unknown", False, None)
        assert error.phase in {"writing", "sent"}
        assert error.payload_sha256 is not None
        assert len(error.payload_sha256) == 64
        assert spent(session) == (0, 0, PRICE)
        assert session.statistics().uncertain == 1
        assert session.handles() == []
    assert session.fake.posts == 1


async def test_silence_lasts_as_long_as_one_exchange() -> None:
    """An unanswered POST is uncertain after `Timeouts.request`."""
    async with FakeSession(FakeTransport().script("submit", HANG)) as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit("a", timeout=Timeouts(request=7))
        assert now() == 60, "the request timeout is the session's: one exchange of any kind"


async def test_the_deadline_cuts_an_exchange_short() -> None:
    """With less time than an exchange may take, the submit's own deadline holds."""
    async with FakeSession(FakeTransport().script("submit", HANG)) as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit("a", timeout=Timeouts(submit=5))
        assert now() == 5


# -- the lane ------------------------------------------------------------------------------------


async def test_no_more_posts_in_the_air_than_connections() -> None:
    """However many slots there are, the pool is never the queue."""
    fake = FakeTransport(latency=1.0)
    async with FakeSession(fake, concurrency=FixedConcurrency(200)) as session:
        await asyncio.gather(*(session.submit("a") for _ in range(200)))
    assert fake.most["submit"] == 64
    assert fake.posts == 200


async def test_the_time_of_a_submit_begins_when_it_may_be_sent() -> None:
    """To wait for a connection is no part of it: who waited a minute is sent all the same."""
    fake = FakeTransport().script("submit", *[HANG] * 64)
    everything = FixedConcurrency(65)
    async with FakeSession(fake, concurrency=everything, timeout=Timeouts(submit=60)) as session:
        tasks = [asyncio.create_task(session.submit("a")) for _ in range(65)]
        got = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(error, SubmitUncertainError) for error in got) == 64
        assert isinstance(got[-1], TaskHandle)
        assert spent(session) == (1, PRICE, 64 * PRICE)
        await got[-1]
    assert fake.posts == 65


@pytest.mark.parametrize(
    ("first", "kind"), [(NEVER_SENT, APIConnectionError), (refused(429), RateLimitError)]
)
async def test_a_submit_whose_time_is_up_in_the_queue_is_not_sent(
    first: Got, kind: type[FluxFlexError]
) -> None:
    """Who was sent before has a deadline: at it the queue is left, and nothing more is sent."""
    fake = FakeTransport(seconds=400).script("submit", first, *[Late(SENT, 55.0)] * 64)
    everything = FixedConcurrency(65)
    async with FakeSession(fake, concurrency=everything, timeout=Timeouts(submit=50)) as session:
        late = asyncio.create_task(session.submit("a"))
        patient = Timeouts(submit=100)
        others = [asyncio.create_task(session.submit("b", timeout=patient)) for _ in range(64)]
        with pytest.raises(kind) as caught:
            await late
        assert (now(), caught.value.charged) == (50, "no")
        assert session.statistics().in_flight == 64
        await asyncio.gather(*others, return_exceptions=True)
    assert fake.prompts().count("a") == 1


# -- cancelled callers ---------------------------------------------------------------------------


async def test_cancelled_while_waiting_for_a_slot_sends_nothing() -> None:
    """What waits in the queue costs nothing and leaves nothing."""
    async with FakeSession(concurrency=1) as session:
        await session.submit("a")
        waiting = asyncio.create_task(session.submit("b"))
        await settle()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert spent(session) == (1, PRICE, 0)
    assert session.fake.prompts() == ["a"]


async def test_cancelled_in_the_air_the_id_is_learnt_and_kept() -> None:
    """A POST that left is followed to its end, whoever still waits for it."""
    fake = FakeTransport(latency=1.0)
    async with FakeSession(fake) as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(0.5)
        submitting.cancel()
        await asyncio.wait([submitting])
        assert submitting.cancelled()
        assert session.handles() == []
        assert spent(session) == (1, 0, PRICE)
        await asyncio.sleep(0.5)
        await settle()
        (handle,) = session.handles()
        assert (handle.task_id, handle.state) == ("t1", TaskState.RUNNING)
        assert spent(session) == (1, PRICE, 0)
        assert (await handle).task_id == "t1"
        assert spent(session) == (0, PRICE, 0)
    assert fake.posts == 1


@pytest.mark.parametrize("reply", [refused(429, retry_after="3"), NEVER_SENT, refused(400)])
async def test_cancelled_in_the_air_and_turned_away_ends_there(reply: Got) -> None:
    """Nobody goes on with it: slot and money are given back, nothing more is sent."""
    fake = FakeTransport().script("submit", Late(reply, 1.0))
    async with FakeSession(fake) as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(0.5)
        submitting.cancel()
        await asyncio.sleep(100)
        assert spent(session) == (0, 0, 0)
    assert fake.posts == 1


@pytest.mark.parametrize("policy", [RetryPolicy(), RESUBMIT], ids=["never", "resubmit"])
async def test_cancelled_in_the_air_and_unanswered_is_uncertain(policy: RetryPolicy) -> None:
    """It may have been bought: the record says so, and it is not sent again."""
    fake = FakeTransport().script("submit", Late(SENT, 1.0))
    async with FakeSession(fake, retry=policy) as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(0.5)
        submitting.cancel()
        await asyncio.sleep(100)
        assert session.statistics().uncertain == 1
        assert spent(session) == (0, 0, PRICE)
    assert fake.posts == 1


@pytest.mark.parametrize("step", [refused(429, retry_after="30"), NEVER_SENT])
async def test_cancelled_in_a_pause_sends_nothing_more(step: Got) -> None:
    """Slot and money are given back at once."""
    fake = FakeTransport().script("submit", step)
    async with FakeSession(fake) as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(0.1)
        submitting.cancel()
        await asyncio.wait([submitting])
        assert spent(session) == (0, 0, 0)
        await asyncio.sleep(100)
    assert fake.posts == 1


async def test_a_cancelled_gather_buys_nothing_more() -> None:
    """A thousand submits at eight slots, cancelled early: eight were sent, no more."""
    fake = FakeTransport(seconds=1000)
    async with FakeSession(fake, concurrency=8) as session:
        everything = asyncio.gather(*(session.generate(str(n)) for n in range(1000)))
        await asyncio.sleep(1)
        everything.cancel()
        with pytest.raises(asyncio.CancelledError):
            await everything
        await session.aclose(drain=0)
    assert fake.prompts() == [str(n) for n in range(8)]


# -- opted in to paying twice --------------------------------------------------------------------


async def test_resubmitting_is_opted_in_to() -> None:
    """The uncertain attempt stays reserved, beside what the second one spends."""
    fake = FakeTransport().script("submit", refused(500))
    async with FakeSession(fake, retry=RESUBMIT) as session:
        handle = await session.submit("a")
        assert spent(session) == (1, PRICE, PRICE)
        await handle
        assert spent(session) == (0, PRICE, PRICE)
        assert session.statistics().uncertain == 0
    assert fake.times("submit") == [0, 0.5]


async def test_resubmitting_ends_after_the_attempts() -> None:
    """Each attempt may have been bought, so each stays reserved."""
    fake = FakeTransport().rule("submit", lambda _: SENT)
    policy = RetryPolicy(attempts=3, resubmit_uncertain=True)
    async with FakeSession(fake, retry=policy) as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit("a")
        assert spent(session) == (0, 0, 3 * PRICE)
        assert session.statistics().uncertain == 1
    assert fake.posts == 3


async def test_resubmitting_needs_the_money_again() -> None:
    """Where the budget has no room for one more attempt, the first one's fate is the error."""
    fake = FakeTransport().script("submit", refused(500))
    async with FakeSession(fake, retry=RESUBMIT, budget="0.07") as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit("a")
        assert spent(session) == (0, 0, PRICE)
        assert session.statistics().uncertain == 1
        with pytest.raises(BudgetExceededError):
            await session.submit("a")
    assert fake.posts == 1


async def test_cancelled_before_resubmitting_is_uncertain() -> None:
    """The pause before a second attempt does not undo the first."""
    fake = FakeTransport().script("submit", refused(500))
    async with FakeSession(fake, retry=RESUBMIT) as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(0.1)
        submitting.cancel()
        await asyncio.wait([submitting])
        assert session.statistics().uncertain == 1
        assert spent(session) == (0, 0, PRICE)
    assert fake.posts == 1


@pytest.mark.parametrize(
    "last", [refused(400), refused(429, retry_after="9999"), HOPELESS, Reply(status=302)]
)
async def test_refusing_the_second_attempt_does_not_undo_the_first(last: Got) -> None:
    """The first may have been bought: the error says unknown, never no, and its money stays."""
    fake = FakeTransport().script("submit", refused(500), last)
    async with FakeSession(fake, retry=RESUBMIT) as session:
        with pytest.raises(SubmitUncertainError) as caught:
            await session.submit("a")
        assert caught.value.charged == "unknown"
        assert session.statistics().uncertain == 1
        assert spent(session) == (0, 0, PRICE)
    assert fake.posts == 2


async def test_a_pause_after_the_second_attempt_does_not_undo_the_first() -> None:
    """Uncertain, then turned away, then cancelled in that pause: still uncertain."""
    fake = FakeTransport().script("submit", refused(500), refused(429, retry_after="30"))
    async with FakeSession(fake, retry=RESUBMIT) as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(10)
        submitting.cancel()
        await asyncio.wait([submitting])
        assert session.statistics().uncertain == 1
        assert spent(session) == (0, 0, PRICE)
    assert fake.posts == 2


async def test_a_second_attempt_that_was_turned_away_is_paid_once() -> None:
    """Uncertain, turned away, accepted: the first stays reserved, the third is spent."""
    fake = FakeTransport().script("submit", refused(500), refused(429, retry_after="3"))
    async with FakeSession(fake, retry=RESUBMIT, budget="0.08") as session:
        await session.submit("a")
        assert spent(session) == (1, PRICE, PRICE)
    assert fake.posts == 3


async def test_closing_before_resubmitting_is_uncertain() -> None:
    """A session that closes in the pause says what may have been bought, not "closed"."""
    fake = FakeTransport().script("submit", refused(500))
    async with FakeSession(fake, retry=RESUBMIT) as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(0.1)
        await session.aclose(drain=0)
        with pytest.raises(SubmitUncertainError):
            await submitting
        assert session.statistics().uncertain == 1
        assert spent(session) == (0, 0, PRICE)
    assert fake.posts == 1


async def test_cancelled_in_the_lane_before_resubmitting_is_uncertain() -> None:
    """Waiting for a connection for the second attempt does not undo the first either."""
    fake = FakeTransport().script("submit", Late(SENT, 1.0), *[Late(SENT, 90.0)] * 64)
    async with FakeSession(fake, concurrency=FixedConcurrency(65), retry=RESUBMIT) as session:
        submitting = [asyncio.create_task(session.submit("a")) for _ in range(65)]
        await asyncio.sleep(5)
        submitting[0].cancel()
        await asyncio.wait([submitting[0]])
        assert session.statistics().uncertain == 1
        await session.aclose(drain=0)
        await asyncio.gather(*submitting, return_exceptions=True)
        assert session.statistics().in_flight == 0
        assert session.statistics().uncertain == 65
    assert fake.posts == 65


# -- closing -------------------------------------------------------------------------------------


async def test_closing_ends_a_pause_at_once() -> None:
    """Who waits after a 429 learns at once that the session closed, and that nothing was bought."""
    fake = FakeTransport().script("submit", refused(429, retry_after="300"))
    async with FakeSession(fake) as session:
        submitting = asyncio.create_task(session.submit("a"))
        await asyncio.sleep(1)
        await session.aclose(drain=2)
        with pytest.raises(SessionClosedError) as caught:
            await submitting
        assert now() == 3
        assert caught.value.charged == "no"
        assert spent(session) == (0, 0, 0)
    assert fake.posts == 1


# -- calls that cost nothing ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [NEVER_SENT, SENT, refused(500), page(502), refused(429), page(200), page(403)],
    ids=repr,
)
async def test_a_reading_call_is_repeated(step: Got) -> None:
    """What costs nothing is asked again whatever went wrong on the way."""
    fake = FakeTransport().script("account", *[step] * 4)
    async with FakeSession(fake) as session:
        account = await session.account()
        assert account.balance_usd == Decimal("12.50")
        assert session.statistics().retries == 4
    assert fake.count("account") == 5


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (NEVER_SENT, APIConnectionError),
        (SENT, APIConnectionError),
        (refused(500), ServerError),
        (page(200), ServerError),
        (refused(429), RateLimitError),
    ],
)
async def test_a_reading_call_ends_after_the_attempts(step: Got, kind: type[FluxFlexError]) -> None:
    """After its last attempt the error says what came of that one."""
    fake = FakeTransport().rule("account", lambda _: step)
    async with FakeSession(fake, retry=RetryPolicy(attempts=2)) as session:
        with pytest.raises(kind) as caught:
            await session.account()
        assert type(caught.value) is kind
        assert caught.value.charged == "no"
    assert fake.count("account") == 2


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (refused(401), AuthenticationError),
        (refused(422), RequestRejectedError),
        (HOPELESS, APIConnectionError),
        (Reply(status=302, headers={"location": "http://x.test"}), ConfigurationError),
    ],
)
async def test_a_reading_call_that_is_refused_ends_at_once(
    step: Got, kind: type[FluxFlexError]
) -> None:
    """A definitive no is not asked for twice."""
    fake = FakeTransport().script("account", step)
    async with FakeSession(fake) as session:
        with pytest.raises(kind):
            await session.account()
    assert fake.count("account") == 1
