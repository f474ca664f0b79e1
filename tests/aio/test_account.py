"""Whose journal it is: how an account and an origin are known again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from fluxflex._aio import account
from fluxflex._aio.sender import Sender
from fluxflex._core import encode
from fluxflex._core.request import GenerateRequest
from fluxflex._core.retry import RetryPolicy
from fluxflex.errors import (
    APIConnectionError,
    AuthenticationError,
    ConfigurationError,
    InsufficientBalanceError,
    ServerError,
)
from tests.aio.fakes import (
    BASE,
    NEVER_SENT,
    SENT,
    FakeTransport,
    Step,
    accepted,
    as_json,
    page,
    refused,
)

pytestmark = pytest.mark.looptime(start=0)

REQUEST = GenerateRequest("a")
SEVEN = as_json({"code": 200, "data": {"balance_usd": "12.50", "user_id": 7}})


def sender(fake: FakeTransport) -> Sender:
    """Return a sender of a fake provider."""
    return Sender(
        fake,
        policy=RetryPolicy(attempts=3),
        request=60,
        rng=random.Random(0),  # noqa: S311 - jitter
    )


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.unifically.com", "https://api.unifically.com"),
        ("https://api.unifically.com:443/v2", "https://api.unifically.com"),
        ("https://API.Unifically.com/", "https://api.unifically.com"),
        ("http://gateway.example:80", "http://gateway.example"),
        ("http://gateway.example:8080/x", "http://gateway.example:8080"),
        ("https://gateway.example:80", "https://gateway.example:80"),
        ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
        ("http://127.0.0.1:5000", "this machine"),
        ("http://127.9.9.9", "this machine"),
        ("http://localhost:5001/path", "this machine"),
        ("http://LOCALHOST", "this machine"),
        ("http://[::1]:5000", "this machine"),
        ("http://127.0.0.1.example:5000", "http://127.0.0.1.example:5000"),
        ("http://192.168.1.5:5000", "http://192.168.1.5:5000"),
    ],
)
async def test_an_origin(url: str, origin: str) -> None:
    """Scheme, host and port; on loopback the port does not count, a path never."""
    assert account.origin(url) == origin


async def test_what_stands_for_a_key_does_not_tell_it() -> None:
    """The same key, the same word; another, another; and nothing of the key is in it."""
    found = account.stand_in("sk-secret")
    assert found == account.stand_in("sk-secret") != account.stand_in("sk-secret2")
    assert found.startswith("key ")
    assert "secret" not in found
    assert len(found) < 24


@pytest.mark.parametrize(
    ("answers", "expected", "asked"),
    [
        ([SEVEN], "user 7", 1),
        ([refused(404), SEVEN], "user 7", 2),
        ([refused(500), SEVEN], "user 7", 2),
        ([refused(401), refused(401)], None, 2),
        ([SENT, NEVER_SENT], None, 2),
        ([page(502), page(502)], None, 2),
        ([as_json({"code": 200, "data": {"balance_usd": "1"}})] * 2, None, 2),
        ([as_json({"code": 200, "data": {"user_id": 8}})] * 2, None, 2),
        ([as_json({"code": 200, "data": {"balance_usd": "1", "user_id": "x-1"}})], "user x-1", 1),
    ],
)
async def test_the_user_is_asked_for_once(
    answers: list[Step], expected: str | None, asked: int
) -> None:
    """Each place where an account may lie is asked once, without patience; never an error."""
    fake = FakeTransport().script("account", *answers)
    fake.scripts["file"] = fake.scripts["account"]  # the second place has another address
    assert await account.user(sender(fake), BASE) == expected
    assert len(fake.seen) == asked


async def test_the_account_is_asked_for_with_patience() -> None:
    """What passes is asked for again; the second place where the first is none."""
    fake = FakeTransport().script("account", page(502), SENT)
    found = await account.account(sender(fake), BASE)
    assert (found.balance_usd, found.user_id) == (Decimal("12.50"), "7")
    assert len(fake.seen) == 3


async def test_an_account_may_lie_in_another_place() -> None:
    """Where the first place has none, the second is asked, with patience too."""
    fake = FakeTransport().script("account", refused(404), page(502), SEVEN)
    fake.scripts["file"] = fake.scripts["account"]
    assert (await account.account(sender(fake), BASE)).user_id == "7"
    assert len({seen.call.url for seen in fake.seen}) == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [(refused(401), AuthenticationError), (page(502), ServerError), (SENT, APIConnectionError)],
)
async def test_an_account_that_cannot_be_read(answer: Step, error: type[Exception]) -> None:
    """It is said why."""
    fake = FakeTransport().rule("account", lambda _: answer)
    with pytest.raises(error):
        await account.account(sender(fake), BASE)


# -- dry runs ---------------------------------------------------------------------------------


def quoting(answer: Step) -> Callable[[FakeTransport], Awaitable[Decimal]]:
    """Return what asks a provider for a price that answers so."""

    async def ask(fake: FakeTransport) -> Decimal:
        fake.rule("submit", lambda _: answer)
        return await account.quote(sender(fake), encode.V1, BASE, REQUEST)

    return ask


async def test_a_quote_is_exact() -> None:
    """The sum as it is written, in USD."""
    fake = FakeTransport()
    found = await quoting(as_json({"code": 200, "data": {"cost": "0.0450"}}))(fake)
    assert str(found) == "0.0450"
    assert fake.posts == 1


@pytest.mark.parametrize(
    ("answer", "error", "posts"),
    [
        (as_json({"code": 200, "data": {}}), ServerError, 1),
        (refused(401), AuthenticationError, 1),
        (refused(402), InsufficientBalanceError, 1),
        (page(502), ServerError, 3),
        (NEVER_SENT, APIConnectionError, 3),
    ],
)
async def test_a_quote_that_cannot_be_had(answer: Step, error: type[Exception], posts: int) -> None:
    """It is said why; it costs nothing, so what passes is asked for again."""
    fake = FakeTransport()
    with pytest.raises(error) as caught:
        await quoting(answer)(fake)
    assert getattr(caught.value, "charged", None) == "no"
    assert fake.posts == posts


async def test_a_dry_run_that_bought_something_is_not_repeated() -> None:
    """The id of the task that nobody asked for is in the error, and that it costs."""
    fake = FakeTransport()
    with pytest.raises(ConfigurationError, match="created a task") as caught:
        await quoting(accepted("t-9"))(fake)
    assert (caught.value.task_id, caught.value.charged) == ("t-9", "yes")
    assert fake.posts == 1


async def test_the_first_generation_has_no_dry_run() -> None:
    """It is said which one has; nothing is sent."""
    fake = FakeTransport()
    with pytest.raises(ConfigurationError, match="has no dry run") as caught:
        await account.quote(sender(fake), encode.FLUX_2_FLEX, BASE, REQUEST)
    assert 'api="v1"' in caught.value.hint
    assert fake.seen == []
