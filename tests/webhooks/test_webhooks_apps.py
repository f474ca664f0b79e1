"""The receiver in the servers of others: aiohttp, uvicorn, FastAPI and Starlette."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import aiohttp
import fastapi
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from fluxflex.errors import WebhookError
from fluxflex.webhooks import WebhookReceiver, aiohttp_app, asgi_app
from tests.webhooks.helpers import (
    BODY,
    FRONTS,
    JSON,
    SECRET,
    URL,
    joined,
    path_of,
    raw,
    served,
    under_uvicorn,
)

Message = MutableMapping[str, Any]


def receiver_of(limit: int = 1000) -> WebhookReceiver:
    """Return a receiver."""
    return WebhookReceiver(URL, secret=SECRET, limit=limit)


async def endless() -> AsyncIterator[bytes]:
    """Give a body of which no length is known, larger than any limit."""
    for _ in range(1000):
        yield b"1" * 10_000


@pytest.mark.parametrize("app", [aiohttp_app, asgi_app])
def test_an_app_is_made_of_a_receiver(app: Any) -> None:
    """Anything else would answer 500 to the first callback."""
    with pytest.raises(WebhookError, match="takes a WebhookReceiver, not 'https"):
        app(URL)


async def knock(session: aiohttp.ClientSession, receiver: WebhookReceiver, base: str) -> list[int]:
    """Send one request of each kind and return what each was told."""
    good, forged = base + path_of(receiver), f"{base}/flux/{'A' * 48}"
    told = []
    for method, url, body, headers in (
        ("POST", good, BODY, JSON),
        ("PUT", good, BODY, JSON),
        ("POST", f"{base}/flux/x", BODY, JSON),
        ("POST", forged, BODY, JSON),
        ("POST", good, BODY, {"content-type": "text/plain"}),
        ("POST", good, b"1" * 1001, JSON),
        ("POST", good, endless(), JSON),
    ):
        try:
            async with session.request(method, url, data=body, headers=headers) as reply:
                told.append(reply.status)
        except aiohttp.ClientConnectionError:
            told.append(0)  # it was told while it still wrote, and the connection closed
    return told


EXPECTED = [200, 405, 404, 404, 415, 413]


async def test_in_an_aiohttp_application() -> None:
    """As a sub-application at a path of its own."""
    receiver = receiver_of()
    box = joined(receiver)
    app = web.Application()
    app.add_subapp("/flux", aiohttp_app(receiver))
    async with TestClient(TestServer(app)) as client:
        base = str(client.make_url("")).rstrip("/")
        told = await knock(client.session, receiver, base)
    assert told[:-1] == EXPECTED
    assert told[-1] in {413, 0}
    assert [body for _, body in box.taken] == [BODY]
    assert receiver.counts["size"] == 2


def bare(receiver: WebhookReceiver) -> Any:
    """Return the receiver as an application by itself."""
    return asgi_app(receiver)


def in_fastapi(receiver: WebhookReceiver) -> Any:
    """Return a FastAPI application with the receiver in it."""
    app = fastapi.FastAPI()
    app.mount("/flux", asgi_app(receiver))
    return app


def in_starlette(receiver: WebhookReceiver) -> Any:
    """Return a Starlette application with the receiver in it."""
    return Starlette(routes=[Mount("/flux", asgi_app(receiver))])


@pytest.mark.parametrize("mounted", [bare, in_fastapi, in_starlette])
async def test_under_uvicorn(mounted: Any) -> None:
    """By itself, in FastAPI and in Starlette: the same answers."""
    receiver = receiver_of()
    box = joined(receiver)
    async with under_uvicorn(mounted(receiver)) as base, aiohttp.ClientSession() as session:
        told = await knock(session, receiver, base)
    assert told[:-1] == EXPECTED
    assert told[-1] in {413, 0}
    assert [body for _, body in box.taken] == [BODY]


@pytest.mark.parametrize("front", FRONTS)
async def test_each_front_gives_the_same_answers(front: str) -> None:
    """What is wrong is told and counted by its kind, and a full inbox asks to come again."""
    signed = "let me in"
    receiver = WebhookReceiver(
        URL,
        secret=SECRET,
        limit=1000,
        verify=lambda headers, _: headers.get("x-sign") == signed,
    )
    box = joined(receiver, room=1)
    good, forged, right = path_of(receiver), "/flux/" + "A" * 48, {**JSON, "x-sign": signed}
    told = []
    async with served(receiver, front) as base, aiohttp.ClientSession() as session:
        for method, path, body, headers in (
            ("GET", good, b"", right),
            ("POST", "/flux/", BODY, right),
            ("POST", forged, BODY, right),
            ("POST", good, BODY, {**right, "content-type": "text/plain"}),
            ("POST", good, b"1" * 1001, right),
            ("POST", good, BODY, JSON),
            ("POST", good, BODY, right),
            ("POST", good, BODY, right),
        ):
            async with session.request(method, base + path, data=body, headers=headers) as reply:
                more = reply.headers.get("allow"), reply.headers.get("retry-after")
                told.append((reply.status, *more))
                assert await reply.read() == b""
    assert told == [
        (405, "POST", None),
        (404, None, None),
        (404, None, None),
        (415, None, None),
        (413, None, None),
        (401, None, None),
        (200, None, None),
        (503, None, "5"),
    ]
    assert receiver.counts == dict.fromkeys(receiver.counts, 1)
    assert [body for _, body in box.taken] == [BODY]


@pytest.mark.parametrize("front", FRONTS)
async def test_of_a_header_that_comes_twice_the_first_counts(front: str) -> None:
    """Whichever server took it in: a check must not depend on that."""
    receiver = WebhookReceiver(URL, secret=SECRET, verify=lambda found, _: found["x-sign"] == "a")
    joined(receiver)
    told = []
    async with served(receiver, front) as base, aiohttp.ClientSession() as session:
        for signs in ("ab", "ba"):
            headers = [*JSON.items(), *(("x-sign", sign) for sign in signs)]
            url = base + path_of(receiver)
            async with session.post(url, data=BODY, headers=headers) as reply:
                told.append(reply.status)
    assert told == [200, 401]


async def asked(app: Any, scope: Message, *messages: Message) -> list[Message]:
    """Call an ASGI application and return what it sent."""
    sent: list[Message] = []
    coming = iter(messages)

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def scope_of(receiver: WebhookReceiver) -> Message:
    """Return the scope of a callback."""
    return {
        "type": "http",
        "method": "POST",
        "path": path_of(receiver),
        "headers": [(b"Content-Type", b"application/json")],
    }


async def test_no_more_is_read_than_the_limit() -> None:
    """The part that is too much is the last that is asked for."""
    receiver = receiver_of(limit=100)
    joined(receiver)
    part: Message = {"type": "http.request", "body": b"1" * 60, "more_body": True}
    sent = await asked(asgi_app(receiver), scope_of(receiver), part, part)
    assert [message.get("status") for message in sent] == [413, None]


async def test_a_sender_that_leaves_gets_no_answer() -> None:
    """Half a body is nothing."""
    receiver = receiver_of()
    box = joined(receiver)
    half: Message = {"type": "http.request", "body": BODY[:5], "more_body": True}
    app = asgi_app(receiver)
    assert await asked(app, scope_of(receiver), half, {"type": "http.disconnect"}) == []
    assert box.taken == []


async def test_what_is_no_request() -> None:
    """Lifespan events are answered, web sockets refused, anything else left alone."""
    app = asgi_app(receiver_of())
    lives = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = await asked(app, {"type": "lifespan"}, *lives)
    assert [each["type"] for each in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert [each["type"] for each in await asked(app, {"type": "websocket"})] == ["websocket.close"]
    assert await asked(app, {"type": "other"}) == []


NASTY = (
    raw("/flux/%00%ff" + "A" * 42),
    raw("/flux/" + "A" * 48 + "%2f..%2f"),
    raw("//[" + "A" * 48),
    raw("http://other.test/flux/" + "A" * 48),
    raw("*", method="OPTIONS"),
    raw("/flux/" + "\xe9" * 48),
    raw("/flux/" + "A" * 48, headers={"content-type": "\xff\xfe", "x": "\xe9"}),
    raw("/flux/" + "A" * 48, headers={**JSON, "content-encoding": "gzip"}),
    raw("/flux/" + "A" * 48, b"\x1f\x8b\xff", headers={**JSON, "content-encoding": "br"}),
    raw("/flux/" + "A" * 4000),
    raw("/flux/" + "A" * 48, headers={"content-length": "99999999999999999999"}),
    b"POST /flux HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    b"\x00" * 100_000,
)


async def first_line(port: int, request: bytes) -> bytes:
    """Send bytes and return the first line of the answer; empty where there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.readline()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("front", FRONTS)
async def test_nasty_bytes_upset_no_front(front: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever comes over the wire, no session hears of it, and the next callback is let in."""
    receiver = receiver_of()
    box = joined(receiver)
    async with served(receiver, front) as base:
        port = int(base.rpartition(":")[2])
        for nasty in NASTY:
            told = await first_line(port, nasty)
            assert not told or re.match(rb"HTTP/1\.[01] 4", told)
        told = await first_line(port, raw(path_of(receiver)))
    assert told.startswith(b"HTTP/1.1 200 ")
    assert [body for _, body in box.taken] == [BODY]
    assert [each for each in caplog.records if each.name == "fluxflex"] == []


pairs = st.tuples(
    st.binary() | st.sampled_from([b"content-type", b"Content-Length", b"content-encoding"]),
    st.binary() | st.sampled_from([b"application/json", b"1", b"identity"]),
)


@given(
    st.text() | st.just("POST"),
    st.text() | st.from_regex(r"/[A-Za-z0-9_-]{48}", fullmatch=True),
    st.lists(pairs),
    st.lists(st.binary()),
)
def test_whatever_an_asgi_server_hands_over(
    method: str, path: str, headers: list[tuple[bytes, bytes]], parts: list[bytes]
) -> None:
    """Without a token it is answered, and neither raised nor told to a session."""
    scope: Message = {"type": "http", "method": method, "path": path, "headers": headers}
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": True} for part in parts
    ]

    async def main() -> None:
        receiver = receiver_of()
        box = joined(receiver)
        sent = await asked(asgi_app(receiver), scope, *messages, {"type": "http.disconnect"})
        assert sent[0]["status"] in {404, 405, 415, 413}
        assert receiver.refused == 1
        assert box.taken == []

    asyncio.run(main())
