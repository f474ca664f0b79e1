"""The receiver's own server, on real sockets: strict, bounded, and never upset."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import warnings
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxflex.errors import WebhookError
from fluxflex.webhooks import Server, WebhookReceiver, connection, server
from tests.webhooks.helpers import BODY, SECRET, URL, Box, Wire, joined, path_of, raw

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Stage:
    """A receiver with a session and a server of its own."""

    def __init__(self, limit: int = 1000) -> None:
        self.receiver = WebhookReceiver(URL, secret=SECRET, limit=limit)
        self.box = joined(self.receiver)
        self.server: Server = self.receiver.serve()
        self.path = path_of(self.receiver)

    async def open(self) -> Streams:
        """Connect to it."""
        return await asyncio.open_connection("127.0.0.1", self.server.port)

    async def kept(self) -> asyncio.StreamWriter:
        """Connect, send a callback, and stay when it is answered."""
        reader, writer = await self.open()
        writer.write(raw(self.path))
        await reader.readuntil(b"\r\n\r\n")
        return writer

    async def ask(self, *parts: bytes) -> list[int]:
        """Send bytes, hang up, and return the statuses of all answers."""
        reader, writer = await self.open()
        with contextlib.suppress(OSError):
            for part in parts:
                writer.write(part)
                await writer.drain()
            writer.write_eof()
        return await statuses(reader, writer)


async def statuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[int]:
    """Return the statuses of all answers up to the end."""
    answer = b""
    with contextlib.suppress(OSError):
        while part := await reader.read(65_536):
            answer += part
    writer.close()
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+)", answer)]


@contextlib.asynccontextmanager
async def staged(limit: int = 1000) -> AsyncIterator[Stage]:
    """Serve."""
    stage = Stage(limit)
    async with stage.server:
        yield stage


def chunked(path: str, *chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """Return a request whose body comes in chunks."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head.encode() + body + end


async def test_callbacks_on_one_connection() -> None:
    """A connection is kept, requests may follow each other at once or byte by byte."""
    async with staged() as stage:
        one = raw(stage.path)
        reader, writer = await stage.open()
        writer.write(one + b"\r\n" + one)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        for place in range(len(one)):
            writer.write(one[place : place + 1])
            await asyncio.sleep(0)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
        assert [body for _, body in stage.box.taken] == [BODY] * 3


async def test_a_body_in_chunks() -> None:
    """However it is cut, trailers and extensions are passed over."""
    async with staged() as stage:
        whole = chunked(stage.path, BODY[:10], BODY[10:])
        trailed = chunked(stage.path, BODY, end=b"0;last=yes\r\nX-Sum: 1\r\n\r\n")
        assert await stage.ask(whole + trailed) == [200, 200]
        assert await stage.ask(*(whole[n : n + 1] for n in range(len(whole)))) == [200]
        assert [body for _, body in stage.box.taken] == [BODY] * 3


async def test_closing_after_one() -> None:
    """Who asks for the end, and whoever speaks HTTP/1.0, gets it with the answer."""
    async with staged() as stage:
        asked = raw(stage.path, Connection="close")
        old = raw(stage.path).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        for request in (asked, old):
            reader, writer = await stage.open()
            writer.write(request)
            assert await statuses(reader, writer) == [200]


@pytest.mark.parametrize("waits", [True, False])
async def test_a_sender_that_asks_first(*, waits: bool) -> None:
    """`Expect: 100-continue` is answered with leave to go on, or with the refusal itself."""
    async with staged() as stage:
        path = stage.path if waits else "/nowhere"
        head = raw(path, Expect="100-continue").removesuffix(BODY)
        assert await stage.ask(head, BODY) == ([100, 200] if waits else [404])


async def test_what_is_turned_away_keeps_its_connection() -> None:
    """A body within the limit is passed over, so that the next request is heard."""
    async with staged() as stage:
        refused = [
            raw(stage.path, method="GET"),
            raw("/"),
            raw("/flux/" + "A" * 48),
            raw(stage.path, headers={}),
            chunked("/", BODY),
        ]
        told = await stage.ask(b"".join([*refused, raw(stage.path)]))
        assert told == [405, 404, 404, 415, 404, 200]
        assert stage.receiver.refused == 5


@pytest.mark.parametrize("path", ["", "/"])
async def test_a_body_that_is_too_large(path: str) -> None:
    """It is not read: told before it comes, or as soon as it is too much."""
    async with staged() as stage:
        status = 404 if path else 413
        where = path or stage.path
        assert await stage.ask(raw(where, b"1" * 1001)) == [status]
        assert await stage.ask(chunked(where, b"1" * 600, b"1" * 600)) == [status]
        assert await stage.ask(raw(where, b"1" * 1001, Expect="100-continue")) == [status]
        assert stage.box.taken == []


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"POST / HTTP/2.0\r\n\r\n", 400),
        (b"POST /%s HTTP/1.1\r\n\r\n" % (b"a" * 5000), 400),
        (b"POST / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nA: 1\r\n folded\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nA : 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nA: \x00\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: %s\r\n\r\n" % (b"9" * 30), 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\xa0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\x85\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 300, 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naXX", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a" * 5000, 431),
        (b"POST / HTTP/1.1\r\n" + b"A: 1\r\n" * 101 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nA: " + b"a" * 20_000, 431),
    ],
)
async def test_nonsense_is_answered_and_closed(request_: bytes, status: int) -> None:
    """What comes after it is not looked at."""
    async with staged() as stage:
        assert await stage.ask(request_ + raw(stage.path)) == [status]
        assert stage.box.taken == []


async def test_who_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a request is told so after its time; a silent connection is only closed."""
    monkeypatch.setattr(connection, "_LINGER_SECONDS", 0.0)
    monkeypatch.setattr(server, "SWEEP_SECONDS", 0.001)
    async with staged() as stage:
        for start, told in ((b"POST / HT", [408]), (b"", [])):
            reader, writer = await stage.open()
            writer.write(start)
            while [each._buffer for each in stage.server._connections] != [start]:  # noqa: ASYNC110 - the bytes are on their way
                await asyncio.sleep(0)
            [kept] = stage.server._connections
            kept.deadline = 0.0
            assert await statuses(reader, writer) == told


async def test_a_kept_connection_may_be_silent_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two requests the sender has more time than within one."""
    monkeypatch.setattr(connection, "IDLE_SECONDS", 1e6)
    async with staged() as stage:
        writer = await stage.kept()
        [kept] = stage.server._connections
        assert kept.deadline > asyncio.get_running_loop().time() + 1e5
        writer.write(raw(stage.path)[:20])
        while not kept._buffer:  # noqa: ASYNC110 - the bytes are on their way
            await asyncio.sleep(0)
        assert kept.deadline < asyncio.get_running_loop().time() + 1e5
        writer.close()


async def test_so_many_connections_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes when there are enough is let go at once, and comes again later."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 1)
    async with staged() as stage:
        writer = await stage.kept()
        assert await stage.ask(raw(stage.path)) == []
        writer.close()
        while stage.server._connections:  # noqa: ASYNC110 - the end is on its way
            await asyncio.sleep(0)
        assert await stage.ask(raw(stage.path)) == [200]


async def test_who_does_not_read_is_closed_on() -> None:
    """Answers that nobody takes must not pile up."""
    async with staged() as stage:
        _, writer = await stage.open()
        while not stage.server._connections:  # noqa: ASYNC110 - it is being taken in
            await asyncio.sleep(0)
        [kept] = stage.server._connections
        kept.pause_writing()
        kept.data_received(raw(stage.path))
        kept._say(200, last=True)
        assert stage.box.taken == []
        writer.close()


async def test_a_port_that_is_taken() -> None:
    """It is said so, with the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(WebhookError, match=f"127.0.0.1:{port}") as caught:
            await WebhookReceiver(URL).serve("127.0.0.1", port).__aenter__()
        assert "another port" in caught.value.hint


async def test_entering_twice_and_leaving() -> None:
    """A server is entered once at a time; left, it is gone, and may be entered again."""
    receiver = WebhookReceiver("http://127.0.0.1:0/flux")
    serving = receiver.serve()
    async with serving:
        assert receiver.public_url == f"http://127.0.0.1:{serving.port}/flux"
        assert str(serving.port) in repr(serving)
        with pytest.raises(WebhookError, match="already"):
            await serving.__aenter__()
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(raw("/"))
        await reader.readuntil(b"\r\n\r\n")
    assert await statuses(reader, writer) == []
    assert not serving._connections
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", serving.port)
    async with serving:
        pass


async def test_port_0_is_that_of_the_server_that_was_entered_last() -> None:
    """Callbacks of a second server, as in a second run, do not go to the first one's port."""
    receiver = WebhookReceiver("http://127.0.0.1:0/flux")
    async with receiver.serve() as first:
        assert receiver.public_url == f"http://127.0.0.1:{first.port}/flux"
        async with receiver.serve() as second:
            assert receiver.public_url == f"http://127.0.0.1:{second.port}/flux"


async def test_a_port_that_is_none() -> None:
    """What `serve` takes is said."""
    with pytest.raises(WebhookError, match="99999") as caught:
        await WebhookReceiver(URL).serve("127.0.0.1", 99_999).__aenter__()
    assert "65535" in caught.value.hint


parts = st.sampled_from(
    [
        raw("/"),
        raw("/flux/" + "A" * 48),
        b"POST / HTTP/1.1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\n",
        b"Expect: 100-continue\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"5\r\nabcde\r\n",
        b"0\r\n\r\n",
    ]
)


@settings(max_examples=300)
@given(st.lists(parts | st.binary(), max_size=30))
def test_whatever_bytes_come(pieces: list[bytes]) -> None:
    """Nothing raises, what is kept stays within bounds, and no session hears of it."""

    async def main() -> Box:
        stage, wire = Stage(), Wire()
        stage.server._server = asyncio.Server.__new__(asyncio.Server)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            talk = connection.Connection(stage.server, stage.receiver)
            talk.connection_made(wire)
            for piece in pieces:
                talk.data_received(piece)
                held = len(talk._buffer) + len(talk._body)
                assert held <= connection.LONGEST_HEAD + stage.receiver.limit + len(piece)
            talk.connection_lost(None)
        assert not stage.server._connections
        return stage.box

    assert asyncio.run(main()).taken == []
