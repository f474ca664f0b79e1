"""The session's verbs: what they take, what they give, and what they refuse before sending."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import fluxflex
from fluxflex import (
    AdaptivePolling,
    FixedConcurrency,
    FixedPolling,
    GeneratedImage,
    GenerateRequest,
    RetryPolicy,
    Session,
    Statistics,
    TaskHandle,
    TaskState,
    Timeouts,
)
from fluxflex._aio.transport import AiohttpTransport
from fluxflex.errors import (
    ConfigurationError,
    InvalidRequestError,
    ServerError,
    SessionClosedError,
    TaskNotFoundError,
)
from fluxflex.simulator import Simulator
from tests.aio.fakes import (
    BASE,
    KEY,
    PNG,
    FakeSession,
    FakeTransport,
    as_json,
    completed,
    fields,
    now,
    refused,
)

Use = Callable[[Session], Awaitable[object]]

# On real sockets there is nothing to wait for.
AT_ONCE = FixedPolling(0.001)

# -- the binding interface -----------------------------------------------------------------------


def test_the_signature_of_a_session() -> None:
    """Only the key may stand by itself; everything else is named and has its default."""
    found = inspect.signature(Session).parameters
    assert [n for n, p in found.items() if p.kind is not p.KEYWORD_ONLY] == ["api_key"]
    defaults = {name: parameter.default for name, parameter in found.items()}
    expected = {
        "api_key": None,
        "base_url": None,
        "api": "flux.2-flex",
        "concurrency": 32,
        "poll_rate": 100,
        "poll": AdaptivePolling(),
        "retry": RetryPolicy(),
        "timeout": Timeouts(),
        "budget": None,
        "prices": None,
        "journal": None,
        "keep": None,
        "connector": None,
        "downloads": 8,
        "on_event": None,
    }
    assert {name: defaults[name] for name in expected} == expected


def test_the_defaults_of_the_policies() -> None:
    """As they are documented."""
    assert Timeouts() == Timeouts(connect=10, request=60, submit=600, task=600, adopt=120)
    policy = RetryPolicy(attempts=5, initial=0.5, maximum=10, resubmit_uncertain=False)
    assert RetryPolicy() == policy


@pytest.mark.parametrize(
    ("verb", "names"),
    [
        ("submit", ["request", "timeout", "params"]),
        ("generate", ["request", "timeout", "params"]),
        ("map", ["requests", "ordered", "save_to", "run", "again", "timeout", "defaults"]),
        ("attach", ["task_id", "request", "timeout"]),
        ("aclose", ["drain"]),
        ("open", []),
        ("handles", []),
        ("resume", []),
        ("uncertain", []),
        ("account", []),
        ("price", ["request"]),
        ("quote", ["request"]),
        ("statistics", []),
    ],
)
def test_the_signatures_of_the_verbs(verb: str, names: list[str]) -> None:
    """As they are documented."""
    assert list(inspect.signature(getattr(Session, verb)).parameters)[1:] == names


@pytest.mark.looptime(start=0)
class TestVerbs:
    """With a fake transport, in virtual time."""

    async def test_generate_is_submit_and_await(self) -> None:
        """A picture, with what was asked for."""
        async with FakeSession() as session:
            image = await session.generate("a", aspect_ratio="16:9", quality="2K")
            assert isinstance(image, GeneratedImage)
            assert image.request == GenerateRequest("a", aspect_ratio="16:9", quality="2K")
            assert image.cost == Decimal("0.06")
        call = session.fake.seen[0].call
        assert (call.method, call.url) == ("POST", f"{BASE}/flux.2-flex/generate")
        assert fields(call) == {"prompt": "a", "aspect_ratio": "16:9", "quality": "2K"}

    @pytest.mark.parametrize(
        ("request_", "params"),
        [
            ("a", {"steps": 7}),
            ({"prompt": "a", "steps": 7}, {}),
            ({"prompt": "a", "steps": 3}, {"steps": 7}),
            (GenerateRequest("a", steps=7), {}),
            (GenerateRequest("b", steps=3), {"prompt": "a", "steps": 7}),
        ],
    )
    async def test_what_submit_takes(self, request_: Any, params: dict[str, Any]) -> None:
        """A prompt, a mapping or a request; parameters override."""
        async with FakeSession() as session:
            handle = await session.submit(request_, **params)
            assert isinstance(handle, TaskHandle)
            assert handle.request == GenerateRequest("a", steps=7)
            assert session.handles() == [handle]
        assert fields(session.fake.seen[0].call) == {"prompt": "a", "quality": "1K", "steps": 7}

    @pytest.mark.parametrize(
        ("request_", "params", "wrong"),
        [
            ("", {}, ["prompt"]),
            ("a", {"steps": 51, "cfg": 1}, ["steps", "cfg"]),
            ("a", {"nonsense": 1}, ["nonsense"]),
            ({}, {}, ["prompt"]),
            (5, {}, ["request"]),
            (None, {}, ["request"]),
            ("a", {"aspect_ratio": "21:9"}, ["aspect_ratio"]),
        ],
    )
    async def test_faults_are_found_before_sending(
        self, request_: Any, params: dict[str, Any], wrong: list[str]
    ) -> None:
        """All at once, each with its field; nothing is sent, reserved or kept."""
        async with FakeSession() as session:
            with pytest.raises(InvalidRequestError) as caught:
                await session.submit(request_, **params)
            assert [fault.field for fault in caught.value.faults] == wrong
            assert session.statistics().posts == 0
            assert session.statistics().in_flight == 0

    async def test_a_timeout_that_is_none(self) -> None:
        """Nonsense where seconds are due is found before sending."""
        async with FakeSession() as session:
            for wrong in (0, -1, float("nan"), "5"):
                with pytest.raises(ConfigurationError):
                    await session.submit("a", timeout=wrong)  # type: ignore[arg-type]  # the point
        assert session.fake.posts == 0

    @pytest.mark.parametrize("task_id", ["", "  ", None, 5, b"t1", "t\ud8001"])
    async def test_an_id_that_is_none(self, task_id: Any) -> None:
        """Attaching needs an id."""
        async with FakeSession() as session:
            with pytest.raises(InvalidRequestError) as caught:
                session.attach(task_id)
            assert caught.value.faults[0].field == "task_id"

    @pytest.mark.parametrize("request_", ["a prompt", {"prompt": "a"}, 5])
    async def test_attaching_with_a_request_that_is_none(self, request_: Any) -> None:
        """Only a `GenerateRequest` comes back on the handle; anything else is found at once."""
        async with FakeSession() as session:
            with pytest.raises(InvalidRequestError) as caught:
                session.attach("t1", request_)
            assert caught.value.faults[0].field == "request"
            assert session.statistics().in_flight == 0

    async def test_a_task_id_is_quoted_in_the_path(self) -> None:
        """An id is opaque: whatever stands in it goes to the status endpoint as one part."""
        fake = FakeTransport().rule("status", lambda _: completed("../a b?c#d/é"))
        async with FakeSession(fake) as session:
            await session.attach("../a b?c#d/é")
        url = fake.seen[0].call.url
        assert url == f"{BASE}/flux.2-flex/status/..%2Fa%20b%3Fc%23d%2F%C3%A9"

    async def test_attaching_has_a_deadline_from_now(self) -> None:
        """The seconds count from attaching."""
        fake = FakeTransport(seconds=1000)
        async with FakeSession(fake, poll=FixedPolling(1)) as session:
            await asyncio.sleep(50)
            handle = session.attach("t9", timeout=5)
            assert await handle.wait() is TaskState.TIMED_OUT
            assert now() == 55

    async def test_the_price(self) -> None:
        """From the published table, or the user's; asked for without a key being used."""
        assert FakeSession().price("a") == Decimal("0.04")
        session = FakeSession(prices={"2K": "0.10"})
        assert session.price({"prompt": "a", "quality": "2K"}) == Decimal("0.10")
        with pytest.raises(ConfigurationError, match="No price is known for quality 1K"):
            session.price("a")
        with pytest.raises(InvalidRequestError):
            session.price({"prompt": "a", "quality": "4K"})

    async def test_statistics_are_a_snapshot(self) -> None:
        """A frozen value that does not move."""
        async with FakeSession(FakeTransport(seconds=1), poll=FixedPolling(1)) as session:
            before = session.statistics()
            await session.generate("a")
            after = session.statistics()
        assert before == Statistics(
            in_flight=0,
            accepted=0,
            attached=0,
            completed=0,
            failed=0,
            timed_out=0,
            abandoned=0,
            uncertain=0,
            posts=0,
            refused=0,
            polls=0,
            retries=0,
            spent=Decimal(0),
            reserved=Decimal(0),
        )
        assert (after.posts, after.accepted, after.completed, after.polls) == (1, 1, 1, 1)
        with pytest.raises(AttributeError):
            after.posts = 5  # type: ignore[misc]  # that is the point


@pytest.mark.looptime(start=0)
class TestAccount:
    """The account behind the key."""

    async def test_what_it_says(self) -> None:
        """Money as decimals, the rest where the provider gives it."""
        data = {"balance_usd": 3.5, "user_id": 7, "email": "a@b.test", "restricted_until": 9}
        fake = FakeTransport().script("account", as_json({"code": 200, "data": data}))
        async with FakeSession(fake) as session:
            account = await session.account()
        assert account.balance_usd == Decimal("3.5")
        assert (account.user_id, account.email, account.restricted_until) == ("7", "a@b.test", 9.0)
        assert "a@b.test" not in repr(account)

    async def test_what_it_does_not_say(self) -> None:
        """Fields of the wrong kind count as absent."""
        data = {"balance_usd": "0", "email": 5, "restricted_until": "soon"}
        fake = FakeTransport().script("account", as_json(data))
        async with FakeSession(fake) as session:
            account = await session.account()
        assert account == fluxflex.Account(balance_usd=Decimal(0))

    async def test_the_other_address(self) -> None:
        """The documentation and the field disagree about where it is."""
        fake = FakeTransport().script("account", refused(404))
        async with FakeSession(fake) as session:
            assert (await session.account()).balance_usd == Decimal("12.50")
        assert [seen.call.url for seen in fake.seen] == [f"{BASE}/account", f"{BASE}/v1/account"]

    async def test_neither_address(self) -> None:
        """The provider knows none: its own word comes out."""
        fake = FakeTransport().rule("account", lambda _: refused(404))
        async with FakeSession(fake) as session:
            with pytest.raises(TaskNotFoundError):
                await session.account()

    @pytest.mark.parametrize("data", [{}, {"balance_usd": None}, {"balance_usd": "much"}])
    async def test_no_balance(self, data: dict[str, object]) -> None:
        """An account without one is no answer."""
        fake = FakeTransport().script("account", as_json({"code": 200, "data": data}))
        async with FakeSession(fake) as session:
            with pytest.raises(ServerError, match="balance"):
                await session.account()


# -- opening -------------------------------------------------------------------------------------


async def _map(session: Session) -> object:
    return session.map(["a"])


async def _attach(session: Session) -> object:
    return session.attach("t1")


async def _statistics(session: Session) -> object:
    return session.statistics()


NOT_OPEN: list[Use] = [
    lambda session: session.submit("a"),
    lambda session: session.generate("a"),
    lambda session: session.account(),
    _map,
    _attach,
    _statistics,
]


@pytest.mark.parametrize("use", NOT_OPEN)
async def test_a_session_that_is_not_open(use: Use) -> None:
    """Every verb says so, and how to open it."""
    with pytest.raises(ConfigurationError, match="async with"):
        await use(Session(KEY))


async def test_what_a_session_answers_that_is_not_open() -> None:
    """It follows nothing, and closing it is harmless."""
    session = Session(KEY)
    assert session.handles() == []
    await session.aclose()


@pytest.mark.looptime(start=0)
async def test_a_session_is_entered_once() -> None:
    """Neither at the same time nor afterwards."""
    session = FakeSession()
    async with session:
        with pytest.raises(ConfigurationError, match="once"):
            await session.open()
        assert (await session.generate("a")).task_id == "t1"
    with pytest.raises(ConfigurationError, match="once"):
        async with session:
            pass


@pytest.mark.looptime(start=0)
async def test_after_closing_the_verbs_say_so() -> None:
    """And what was counted can still be read."""
    async with FakeSession() as session:
        await session.generate("a")
    for use in NOT_OPEN[:3]:
        with pytest.raises(SessionClosedError):
            await use(session)
    with pytest.raises(SessionClosedError):
        session.attach("t1")
    assert session.handles() == []
    assert session.statistics().completed == 1


def in_another_loop(use: Callable[[], Awaitable[object]]) -> object:
    """Run something in an event loop of its own, in a thread of its own."""

    async def run() -> object:
        return await use()

    return asyncio.run(run())


@pytest.mark.parametrize("use", [*NOT_OPEN[:3], _attach])
async def test_a_second_event_loop_is_refused(use: Use) -> None:
    """A session belongs to the loop in which it was opened."""
    async with FakeSession() as session:
        with pytest.raises(ConfigurationError, match="another event loop"):
            await asyncio.to_thread(in_another_loop, lambda: use(session))
        assert session.statistics().posts == 0


async def test_closing_from_a_second_event_loop_is_refused() -> None:
    """It would wait for ever: it is said, and the session goes on."""
    async with FakeSession(FakeTransport(seconds=0), poll=AT_ONCE) as session:
        await session.submit("a")
        with pytest.raises(ConfigurationError, match="another event loop"):
            await asyncio.to_thread(in_another_loop, session.aclose)
        assert (await session.generate("b")).task_id == "t2"


def test_closing_after_the_loop_ended_is_harmless() -> None:
    """A session that was left open when its loop ended is closed already."""
    session = FakeSession(FakeTransport(seconds=1000))

    async def begin() -> None:
        await session.open()
        await session.submit("a")

    asyncio.run(begin())
    asyncio.run(session.aclose())
    assert session.fake.closed


# -- settings ------------------------------------------------------------------------------------


def test_without_a_key_both_variables_are_named() -> None:
    """The error says what to set."""
    with pytest.raises(ConfigurationError) as caught:
        Session()
    assert "FLUXFLEX_API_KEY" in str(caught.value)
    assert "UNIFICALLY_API_KEY" in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"api": "v9"},
        {"api": None},
        {"api": ["v1"]},
        {"concurrency": 0},
        {"concurrency": -1},
        {"concurrency": 1.5},
        {"concurrency": True},
        {"concurrency": "32"},
        {"concurrency": None},
        {"poll_rate": 0},
        {"poll_rate": -1},
        {"poll_rate": float("inf")},
        {"poll_rate": True},
        {"poll_rate": "1"},
        {"poll": None},
        {"poll": 5},
        {"retry": None},
        {"retry": 5},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": "600"},
        {"timeout": True},
        {"budget": -1},
        {"budget": "much"},
        {"budget": True},
        {"budget": float("nan")},
        {"budget": float("inf")},
        {"budget": {}},
        {"prices": {"1K": -1}},
        {"prices": {"8K": 1}},
        {"prices": {"1K": "cheap"}},
        {"downloads": 0},
        {"downloads": None},
        {"base_url": "api.test"},
        {"base_url": "ftp://api.test"},
        {"base_url": "http://"},
        {"base_url": "http://a:b@api.test"},
        {"base_url": "http://api.test?a=b"},
        {"base_url": "http://api.test#a"},
        {"base_url": "http://api.test:0"},
        {"base_url": "http://api.test:99999"},
        {"base_url": "http://[::1"},
        {"base_url": 5},
        {"api_key": "two words"},
        {"api_key": "line\nbreak"},
        {"api_key": "clé"},
        {"api_key": "   "},
        {"api_key": 5},
        {"api_key": b"sk"},
        {"poll": AdaptivePolling},
        {"on_event": 5},
        {"on_event": asyncio.sleep},
        {"connector": 5},
    ],
    ids=lambda wrong: str({name: getattr(v, "__name__", v) for name, v in wrong.items()}),
)
def test_settings_that_cannot_be_used(wrong: dict[str, Any]) -> None:
    """Said when the session is made, before anything can be bought; a key is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        Session(**{"api_key": KEY, **wrong})
    if isinstance(wrong.get("api_key"), str) and wrong["api_key"].strip():
        assert wrong["api_key"] not in str(caught.value)


async def test_a_connector_of_the_users_is_used_and_left_open() -> None:
    """Its limits size the lanes, and it is theirs to close."""
    async with (
        Simulator(durations=0.0, pictures=lambda _: PNG) as sim,
        aiohttp.TCPConnector(limit=10, limit_per_host=4) as connector,
    ):
        async with Session(KEY, base_url=sim.url, connector=connector, poll=AT_ONCE) as session:
            lanes = session._settings.lanes
            assert (lanes.posts, lanes.looks, lanes.downloads) == (2, 1, 1)
            assert await (await session.generate("a")).read() == PNG
        assert not connector.closed


async def test_a_session_of_ones_own_has_a_transport_of_its_own() -> None:
    """Sized so that the pool is never a queue."""
    async with Session(
        KEY, base_url="http://127.0.0.1:9", concurrency=FixedConcurrency(5)
    ) as session:
        transport = session._opened._transport
        assert isinstance(transport, AiohttpTransport)
        connector = transport._session.connector
        assert connector is not None
        assert connector.limit == session._settings.lanes.connections == 5 + 32 + 8
    assert connector.closed


# -- on a real socket ----------------------------------------------------------------------------


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """Serve the provider's API."""
    async with Simulator(durations=0.0, pictures=lambda _: PNG) as sim:
        yield sim


async def test_the_whole_way(sim: Simulator, tmp_path: Path) -> None:
    """From a prompt to a file, with the key at the API and nowhere else."""
    async with Session(KEY, base_url=sim.url, poll=AT_ONCE) as session:
        image = await session.generate("a lighthouse", quality="2K")
        path = await image.save(tmp_path)
        assert path.read_bytes() == PNG
        assert (await session.account()).balance_usd == Decimal("99.94")
        outcomes = await session.map(["b", "c"], save_to=tmp_path / "out").collect()
        assert [outcome.ok for outcome in outcomes] == [True, True]
    assert sim.ledger.billed_usd == Decimal("0.14")
    assert sim.ledger.duplicates() == {}
    pictures = [request for request in sim.ledger.requests if "/files/" in request.path]
    assert len(pictures) == 3
    assert not any(request.authorized for request in pictures)


@pytest.mark.parametrize("key", ["a", "k", "1", "e", "data", "task_id", "x"])
async def test_a_made_up_key_breaks_nothing(sim: Simulator, key: str) -> None:
    """The simulator takes any key, and no key may eat the words of its replies."""
    async with Session(key, base_url=sim.url, poll=AT_ONCE) as session:
        assert await (await session.generate("a")).read() == PNG
