"""The receiver without a server: what each request is told, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import threading
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxflex.errors import WebhookError
from fluxflex.webhooks import HmacSignature, WebhookReceiver
from fluxflex.webhooks.receiver import REFUSALS
from fluxflex.webhooks.tokens import Ticket, looks_like_token
from tests.webhooks.helpers import (
    BODY,
    JSON,
    SECRET,
    SESSION,
    URL,
    Box,
    joined,
    path_of,
    ticket,
)


async def test_a_callback_is_let_in() -> None:
    """What has a token, the right method and JSON goes into the inbox of its session."""
    receiver = WebhookReceiver(URL, secret=SECRET)
    box = joined(receiver)
    assert await receiver.receive("POST", path_of(receiver), JSON, BODY) == 200
    assert box.taken == [(ticket(), BODY)]
    assert receiver.counts == dict.fromkeys(REFUSALS, 0) | {"accepted": 1}


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/Problem+JSON"])
async def test_json_by_its_other_names(kind: str) -> None:
    """A charset or a kind of its own does not matter, nor how the header's name is written."""
    receiver = WebhookReceiver(URL)
    joined(receiver)
    headers = {"Content-Type": kind, "Content-Encoding": "identity"}
    assert await receiver.receive("POST", path_of(receiver) + "?a=/b", headers, BODY) == 200


@pytest.mark.parametrize("before", ["", "/", "/other/flux", "https://callbacks.test/flux"])
async def test_what_stands_before_the_token_does_not_matter(before: str) -> None:
    """A proxy may cut off the front of the path, or write another."""
    receiver = WebhookReceiver(URL)
    joined(receiver)
    token = path_of(receiver).rpartition("/")[2]
    assert await receiver.receive("POST", f"{before}/{token}?x=1", JSON, BODY) == 200


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("method", {"method": "GET"}),
        ("method", {"method": "post"}),
        ("path", {"path": "/flux"}),
        ("path", {"path": ""}),
        ("path", {"path": "/flux/" + "é" * 48}),
        ("token", {"path": "/flux/" + "A" * 48}),
        ("type", {"headers": {}}),
        ("type", {"headers": {"content-type": "text/plain"}}),
        ("type", {"headers": {"content-type": "text/x+json"}}),
        ("type", {"headers": {**JSON, "content-encoding": "gzip"}}),
        ("size", {"body": b"1" * 1001}),
        ("size", {"headers": {**JSON, "content-length": "1001"}}),
        ("size", {"headers": {**JSON, "content-length": "9" * 5000}}),
    ],
)
async def test_what_is_turned_away(why: str, change: Mapping[str, object]) -> None:
    """Each kind has its status and its count, and the session hears nothing of it."""
    receiver = WebhookReceiver(URL, limit=1000)
    box = joined(receiver)
    usual: dict[str, object] = {
        "method": "POST",
        "path": path_of(receiver),
        "headers": JSON,
        "body": BODY,
    }
    status = await receiver.receive(**{**usual, **change})  # type: ignore[arg-type]  # as above
    assert status == REFUSALS[why]
    assert receiver.counts == dict.fromkeys(REFUSALS, 0) | {"accepted": 0, why: 1}
    assert receiver.refused == 1
    assert box.taken == []


async def test_a_full_inbox_asks_to_come_again() -> None:
    """503 instead of growing; the next finds room again."""
    receiver = WebhookReceiver(URL)
    box = joined(receiver, room=1)
    told = [await receiver.receive("POST", path_of(receiver), JSON, BODY) for _ in range(2)]
    box.taken.clear()
    told.append(await receiver.receive("POST", path_of(receiver), JSON, BODY))
    assert told == [200, 503, 200]
    assert receiver.counts["busy"] == 1


async def test_without_a_session_it_asks_to_come_again() -> None:
    """An application that has just started may have its session a moment later."""
    receiver = WebhookReceiver(URL)
    assert await receiver.receive("POST", path_of(receiver), JSON, BODY) == 503
    box = joined(receiver)
    assert await receiver.receive("POST", path_of(receiver), JSON, BODY) == 200
    receiver.leave(box)
    receiver.leave(box)
    assert await receiver.receive("POST", path_of(receiver), JSON, BODY) == 503


async def test_each_session_has_its_own() -> None:
    """One receiver serves several; what none of them sent is shown to all."""
    receiver = WebhookReceiver(URL)
    one, other = Box(b"aaaaaa"), Box(b"bbbbbb")
    receiver.join(one)
    receiver.join(other)
    for session in (b"aaaaaa", b"bbbbbb", b"before"):
        path = path_of(receiver, ticket(session=session))
        assert await receiver.receive("POST", path, JSON, BODY) == 200
    assert [each.session for each, _ in one.taken] == [b"aaaaaa", b"before"]
    assert [each.session for each, _ in other.taken] == [b"bbbbbb", b"before"]


async def test_a_token_of_an_earlier_process() -> None:
    """With the same secret it is ours; with a random one it is not."""
    path = path_of(WebhookReceiver(URL, secret=SECRET))
    again, new = WebhookReceiver(URL, secret=SECRET), WebhookReceiver(URL)
    for receiver, status in ((again, 200), (new, 404)):
        joined(receiver)
        assert await receiver.receive("POST", path, JSON, BODY) == status


@pytest.mark.parametrize(("said", "status"), [(True, 200), (False, 401), ("yes", 401)])
async def test_a_signature_check_has_the_last_word(*, said: object, status: int) -> None:
    """Only `True` lets a callback in; a coroutine that nobody awaited would be true as well."""
    seen = []

    def verify(headers: Mapping[str, str], body: bytes, /) -> bool:
        seen.append((headers, body))
        return said  # type: ignore[return-value]  # what users' functions may return

    receiver = WebhookReceiver(URL, verify=verify)
    joined(receiver)
    assert await receiver.receive("POST", path_of(receiver), JSON, BODY) == status
    assert await receiver.receive("POST", "/flux/" + "A" * 48, JSON, BODY) == 404
    assert seen == [(JSON, BODY)]


async def test_a_signature_check_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """It refuses, and is logged once."""

    def verify(headers: Mapping[str, str], body: bytes, /) -> bool:  # noqa: ARG001 - the protocol
        raise RuntimeError("broken")

    receiver = WebhookReceiver(URL, verify=verify)
    joined(receiver)
    for _ in range(2):
        assert await receiver.receive("POST", path_of(receiver), JSON, BODY) == 401
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_coroutine_is_no_signature_check() -> None:
    """It would have to be awaited, and is refused when the receiver is made."""

    async def verify(headers: Mapping[str, str], body: bytes, /) -> bool:  # noqa: ARG001 - as above
        return True

    with pytest.raises(WebhookError, match="plain function"):
        WebhookReceiver(URL, verify=verify)  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "begins neither"),
        (None, "it is None"),
        ("callbacks.test", "begins neither"),
        ("ftp://callbacks.test", "begins neither"),
        ("https://", "no host"),
        ("https://a:1:2", "port"),
        ("https://me:pw@callbacks.test", "login"),
        ("https://callbacks.test/?a=b", "query"),
        ("https://callbacks.test/#a", "fragment"),
        ("https://call backs.test/", "blanks"),
        ("https://callbacks.test:99999/", "port"),
    ],
)
def test_a_public_url_must_be_one(url: str, why: str) -> None:
    """http(s), with a host, and room for the token at its end; what it lacks is said."""
    with pytest.raises(WebhookError, match=f"public URL.*: .*{why}") as caught:
        WebhookReceiver(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"verify": HmacSignature}, "not its class"),
        ({"limit": "256k"}, "default"),
        ({"confirm": "no"}, "status endpoint"),
    ],
)
def test_a_setting_that_is_none_says_what_it_takes(settings: dict[str, Any], hint: str) -> None:
    """Nothing is guessed from a wrong type, and the hint is about that setting."""
    [name] = settings
    with pytest.raises(WebhookError, match=name) as caught:
        WebhookReceiver(URL, **settings)
    assert hint in caught.value.hint


@pytest.mark.parametrize("limit", [0, -1, True, "1"])
def test_a_limit_must_be_one(limit: int) -> None:
    """A number of bytes."""
    with pytest.raises(WebhookError, match="limit"):
        WebhookReceiver(URL, limit=limit)


def test_the_address_of_a_task() -> None:
    """`public_url`, a slash and the token; the receiver shows itself without its secret."""
    receiver = WebhookReceiver(URL + "/", secret=SECRET)
    start, _, token = receiver.address(ticket()).rpartition("/")
    assert start == URL == receiver.public_url
    assert looks_like_token(token)
    assert SECRET not in repr(receiver)
    assert URL in repr(receiver)


async def test_another_event_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Sessions of two loops cannot share it, and what arrives in another loop is refused."""
    receiver = WebhookReceiver(URL)
    box = joined(receiver)
    told: list[object] = []

    async def elsewhere() -> None:
        told.extend(
            [await receiver.receive("POST", path_of(receiver), JSON, BODY) for _ in range(2)]
        )
        try:
            receiver.join(Box(b"other1"))
        except WebhookError as error:
            told.append(error.message)

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert told == [503, 503, "The receiver belongs to another event loop"]
    assert box.taken == []
    assert len(caplog.records) == 1


texts = st.text() | st.binary().map(lambda raw: raw.decode("latin-1"))
headers = st.dictionaries(
    texts | st.sampled_from(["content-type", "Content-Length", "content-encoding"]),
    texts | st.sampled_from(["application/json", "1", "identity"]) | st.binary(),
)


@given(
    texts | st.just("POST"),
    texts | st.from_regex(r"/[A-Za-z0-9_-]{48}", fullmatch=True),
    headers,
    st.binary(),
)
def test_nothing_without_a_token_does_anything(
    method: str, path: str, headers: Mapping[str, str], body: bytes
) -> None:
    """Whatever comes, nothing is raised, kept or told to a session; only a count goes up."""

    async def main() -> None:
        receiver = WebhookReceiver(URL, secret=SECRET, verify=lambda *_: 1 / 0 > 0)
        box = joined(receiver)
        before = set(vars(receiver))
        assert await receiver.receive(method, path, headers, body) in {404, 405, 415, 413}
        assert receiver.refused == 1
        assert set(vars(receiver)) == before
        assert list(receiver._inboxes) == [SESSION]
        assert box.taken == []

    asyncio.run(main())


@given(st.binary(), headers)
def test_what_has_a_token_is_let_in_or_not(body: bytes, headers: Mapping[str, str]) -> None:
    """With a token too, nothing in headers or body is raised."""

    async def main() -> None:
        receiver = WebhookReceiver(URL, secret=SECRET)
        joined(receiver)
        status = await receiver.receive("POST", path_of(receiver), headers, body)
        assert status in {200, 413, 415}

    asyncio.run(main())


async def test_a_flood_leaves_nothing() -> None:
    """Twenty thousand forgeries later the receiver holds what it held, and true ones pass."""
    receiver = WebhookReceiver(URL)
    box = joined(receiver)
    forged = path_of(WebhookReceiver(URL, secret="another"), Ticket(b"journa", SESSION, 1))
    for _ in range(20_000):
        receiver.receive_now("POST", forged, JSON, BODY)
    assert receiver.counts["token"] == receiver.refused == 20_000
    assert await receiver.receive("POST", path_of(receiver), JSON, BODY) == 200
    assert len(box.taken) == 1


async def test_no_memory_grows_with_what_is_turned_away() -> None:
    """Each forgery is another one, of every kind, and nothing of any of them stays."""
    receiver = WebhookReceiver(URL, secret=SECRET, limit=1000)
    joined(receiver)
    chance, letters = random.Random(7), "AZaz09-_"  # noqa: S311 - the same course each time
    good = path_of(receiver)

    def knock(times: int) -> None:
        for number in range(times):
            made_up = "".join(chance.choices(letters, k=48))
            for method, path, headers, body in (
                (f"M{number}", good, JSON, BODY),
                ("POST", f"/flux/{number}", JSON, BODY),
                ("POST", f"/flux/{made_up}", {**JSON, f"x-{number}": made_up}, BODY),
                ("POST", good, {"content-type": f"text/x{number}"}, BODY),
                ("POST", good, JSON, b"%d" % number * 1001),
            ):
                assert receiver.receive_now(method, path, headers, body) >= 400

    knock(200)  # what is made once is there from here on
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    knock(2000)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 4000, "below two bytes for each"
    assert receiver.refused == 5 * 2200
