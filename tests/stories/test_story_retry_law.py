"""The retry law, counted at the server: one submit under each of its rows."""

import asyncio
import hashlib
from decimal import Decimal

import pytest

from fluxflex import RateLimitError, RetryPolicy, SubmitUncertainError, Timeouts
from fluxflex.errors import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    ConfigurationError,
    InsufficientBalanceError,
    RequestRejectedError,
)
from fluxflex.simulator import Fault, Faults, Simulator, faults
from tests.stories.stage import NOTHING, SUBMIT, Wire, closed_port, cut_off, session_at

PRICE = Decimal("0.04")
PAST = "Sun, 06 Nov 1994 08:49:37 GMT"

UNCERTAIN = {
    "accepted, then closed": (faults.accept_then_drop(), 1),
    "accepted, then reset": (faults.accept_then_drop(reset=True), 1),
    "reset": (faults.reset(), 0),
    "500": (faults.error(500), 0),
    "500 page": (faults.gateway(500), 0),
    "502": (faults.gateway(502), 0),
    "502, accepted behind it": (faults.gateway(502, accepts=True), 1),
    "504": (faults.gateway(504), 0),
    "504, accepted behind it": (faults.error(504, accepts=True), 1),
    "408": (faults.error(408), 0),
    "408 page": (faults.gateway(408), 0),
    "503 without Retry-After": (faults.error(503), 0),
    "503 with nonsense in Retry-After": (faults.error(503, retry_after="soon"), 0),
    "500 with Retry-After": (faults.error(500, retry_after=0), 0),
    "truncated before the id": (faults.truncated(30), 1),
    "truncated in the id": (faults.truncated(60), 1),
    "nothing of the body": (faults.truncated(0), 1),
    "truncated by a reset": (faults.truncated(30, reset=True), 1),
    "unreadable": (faults.unreadable(), 0),
    "unreadable, accepted behind it": (faults.unreadable(accepts=True), 1),
    "no task id": (faults.no_task_id(), 1),
    "an unknown code in a 200": (faults.error(999, http_status=200, accepts=True), 1),
    "a server's error in a 200": (faults.error(500, http_status=200), 0),
    "a redirect's code in a 200": (faults.error(302, http_status=200), 0),
    "an empty 200": (faults.custom(200), 0),
    "a JSON list": (faults.custom(200, body=b"[]"), 0),
    "204": (faults.custom(204), 0),
}


@pytest.mark.parametrize(("fault", "bought"), UNCERTAIN.values(), ids=UNCERTAIN)
async def test_what_may_have_been_accepted_is_never_sent_again(fault: Fault, bought: int) -> None:
    """Whatever leaves it open is one POST, one error, money that may be gone."""
    async with Simulator(faults=Faults(submit=[fault] * 9)) as sim, session_at(sim.url) as session:
        with pytest.raises(SubmitUncertainError) as caught:
            await session.submit("a lighthouse")
        after = session.statistics()
    assert sim.ledger.posts_received == 1
    assert len(sim.ledger) == bought
    assert (caught.value.charged, caught.value.retryable) == ("unknown", False)
    assert (after.uncertain, after.posts, after.spent, after.reserved) == (1, 1, NOTHING, PRICE)
    assert after.in_flight == 0
    if bought:
        digest = hashlib.sha256(sim.ledger.entries[0].body).hexdigest()
        assert caught.value.payload_sha256 == digest


@pytest.mark.parametrize("accepts", [False, True])
async def test_a_post_that_hangs_is_sent_once(*, accepts: bool) -> None:
    """No reply within `Timeouts.request` is uncertain, accepted or not."""
    async with (
        Simulator(faults=Faults(submit=[faults.hang(accepts=accepts)])) as sim,
        session_at(sim.url, timeout=Timeouts(request=9)) as session,
    ):
        submitting = asyncio.create_task(session.submit("a lighthouse"))
        await sim.wait_for_posts(1)
        await cut_off(session)
        with pytest.raises(SubmitUncertainError, match="no reply within 9 seconds") as caught:
            await submitting
    assert (sim.ledger.posts_received, len(sim.ledger)) == (1, int(accepts))
    assert caught.value.charged == "unknown"


async def test_a_user_may_opt_in_to_paying_twice() -> None:
    """`resubmit_uncertain` sends it again, and the first attempt's money stays reserved."""
    drops = [faults.accept_then_drop(), faults.gateway(502)]
    async with Simulator(durations=0.0, faults=Faults(submit=drops)) as sim:
        policy = RetryPolicy(initial=0.001, maximum=0.002, resubmit_uncertain=True)
        async with session_at(sim.url, retry=policy) as session:
            await session.generate("a lighthouse")
            after = session.statistics()
    assert (sim.ledger.posts_received, len(sim.ledger)) == (3, 2)
    assert (after.spent, after.reserved) == (PRICE, 2 * PRICE)


@pytest.mark.parametrize("missing", [1, 2])
async def test_a_whole_id_in_a_broken_body_is_followed_to_its_picture(missing: int) -> None:
    """A task whose id arrived exists: it is followed, not given up."""
    whole = len('{"code":200,"data":{"status":"processing","task_id":""}}') + 36
    broken = faults.truncated(whole - missing)
    async with (
        Simulator(durations=0.0, faults=Faults(submit=[broken])) as sim,
        session_at(sim.url) as session,
    ):
        image = await session.generate("a lighthouse")
    assert sim.ledger.posts_received == 1
    assert [entry.task_id for entry in sim.ledger.entries] == [image.task_id]


async def test_an_id_wins_over_every_status() -> None:
    """A task id in the body of a 500 means accepted."""
    body = b'{"code": 500, "data": {"code": "internal_error", "task_id": "t-1"}}'
    refusal = faults.custom(500, body=body)
    async with Simulator(faults=Faults(submit=[refusal])) as sim:
        session = session_at(sim.url)
        await session.open()
        handle = await session.submit("a lighthouse")
        await session.aclose(drain=0)
    assert handle.task_id == "t-1"
    assert sim.ledger.posts_received == 1


TURNED_AWAY = {
    "no Retry-After": faults.rate_limited(),
    "seconds": faults.rate_limited(retry_after=0),
    "a fraction": faults.rate_limited(retry_after=0.002),
    "a date": faults.rate_limited(retry_after=PAST),
    "nonsense": faults.rate_limited(retry_after="in a while"),
    "a negative number": faults.rate_limited(retry_after="-1"),
    "a page": faults.gateway(429),
    "inside a 200": faults.error(429, code="rate_limit_exceeded", http_status=200),
    "503 with seconds": faults.error(503, retry_after=0),
    "503 with a fraction": faults.gateway(503, retry_after=0.002),
    "503 with a date": faults.gateway(503, retry_after=PAST),
}


@pytest.mark.parametrize("fault", TURNED_AWAY.values(), ids=TURNED_AWAY)
async def test_what_is_turned_away_is_retried_until_accepted(fault: Fault) -> None:
    """A 429, or a 503 with Retry-After, is repeated beyond `attempts`, and bought once."""
    async with (
        Simulator(durations=0.0, faults=Faults(submit=[fault] * 8)) as sim,
        session_at(sim.url) as session,
    ):
        image = await session.generate("a lighthouse")
        after = session.statistics()
    assert sim.ledger.posts_received == 9
    assert [entry.task_id for entry in sim.ledger.entries] == [image.task_id]
    assert (after.posts, after.refused, after.retries) == (9, 8, 8)
    assert (after.spent, after.reserved) == (PRICE, NOTHING)


async def test_what_is_turned_away_ends_at_the_submit_deadline() -> None:
    """A Retry-After beyond `Timeouts.submit` is not waited for: nothing is bought."""
    limits = Faults(submit=[faults.rate_limited(retry_after=30)] * 9)
    async with (
        Simulator(faults=limits) as sim,
        session_at(sim.url, timeout=Timeouts(submit=5)) as session,
    ):
        with pytest.raises(RateLimitError) as caught:
            await session.submit("a lighthouse")
        after = session.statistics()
    assert sim.ledger.posts_received == 1
    assert (caught.value.charged, caught.value.retry_after) == ("no", 30)
    assert (after.in_flight, after.reserved, after.spent) == (0, NOTHING, NOTHING)


async def test_an_uncertain_attempt_after_a_429_stays_uncertain() -> None:
    """A retry that is allowed does not soften the attempt after it."""
    script = [faults.rate_limited(), faults.accept_then_drop(), None]
    async with Simulator(faults=Faults(submit=script)) as sim, session_at(sim.url) as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit("a lighthouse")
    assert (sim.ledger.posts_received, len(sim.ledger)) == (2, 1)


async def test_what_was_never_sent_cost_nothing() -> None:
    """A closed port is tried `attempts` times, then the provider was not reached."""
    with closed_port() as port:
        async with session_at(f"http://127.0.0.1:{port}") as session:
            with pytest.raises(APIConnectionError) as caught:
                await session.submit("a lighthouse")
            after = session.statistics()
    assert (caught.value.charged, caught.value.retryable) == ("no", True)
    assert (after.retries, after.in_flight, after.spent, after.reserved) == (4, 0, NOTHING, NOTHING)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_of_a_post_is_not_followed(status: int) -> None:
    """A paid request goes to the API's own address only, and says so."""
    async with Wire() as elsewhere:
        away = faults.redirect(elsewhere.url + SUBMIT, status=status)
        async with Simulator(faults=Faults(submit=[away])) as sim, session_at(sim.url) as session:
            with pytest.raises(ConfigurationError, match="redirect") as caught:
                await session.submit("a lighthouse")
            after = session.statistics()
    assert sim.ledger.posts_received == 1
    assert elsewhere.connections == 0
    assert caught.value.charged == "no"
    assert (after.in_flight, after.reserved) == (0, NOTHING)


REFUSED: dict[int, type[APIError]] = {
    400: RequestRejectedError,
    401: AuthenticationError,
    402: InsufficientBalanceError,
    403: AuthenticationError,
    404: RequestRejectedError,
    405: RequestRejectedError,
    413: RequestRejectedError,
    422: RequestRejectedError,
}


@pytest.mark.parametrize("inside", [None, 200], ids=["as HTTP", "inside a 200"])
@pytest.mark.parametrize(("status", "kind"), REFUSED.items())
async def test_a_refusal_is_a_typed_error(
    status: int, kind: type[APIError], inside: int | None
) -> None:
    """Any other 4xx is the last word: one POST, nothing bought, the provider's own message."""
    refusal = faults.error(status, code="no_way", message="Not like this", http_status=inside)
    async with (
        Simulator(faults=Faults(submit=[refusal] * 9)) as sim,
        session_at(sim.url) as session,
    ):
        with pytest.raises(kind, match="Not like this") as caught:
            await session.submit("a lighthouse")
        after = session.statistics()
    assert sim.ledger.posts_received == 1
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, "no_way")
    assert caught.value.charged == "no"
    assert (after.refused, after.in_flight, after.spent, after.reserved) == (1, 0, NOTHING, NOTHING)


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_gateways_refusal_is_one_too(status: int) -> None:
    """An HTML page with a 4xx did not buy anything either."""
    async with (
        Simulator(faults=Faults(submit=[faults.gateway(status)])) as sim,
        session_at(sim.url) as session,
    ):
        with pytest.raises(APIError) as caught:
            await session.submit("a lighthouse")
    assert sim.ledger.posts_received == 1
    assert (caught.value.status, caught.value.charged) == (status, "no")
