"""Requests that are as those before them: read at once, and to the same effect."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxflex.webhooks import WebhookReceiver
from fluxflex.webhooks.connection import Connection
from fluxflex.webhooks.tokens import Ticket
from tests.webhooks.helpers import BODY, JSON, SECRET, URL, Wire, joined, path_of, raw, ticket

PATHS = [path_of(WebhookReceiver(URL, secret=SECRET), ticket(key)) for key in range(3)]


class House:
    """A server that takes in every connection."""

    def admit(self, _: Connection) -> bool:
        """Take it in."""
        return True

    def forget(self, _: Connection) -> None:
        """Let it go."""


@attrs.frozen
class Told:
    """What came of a connection."""

    answers: bytes
    taken: list[tuple[Ticket, bytes]]
    verified: list[tuple[dict[str, str], bytes]]
    counts: dict[str, int]


async def told(pieces: Sequence[bytes]) -> Told:
    """Return what comes of these pieces on one connection."""
    verified: list[tuple[dict[str, str], bytes]] = []

    def verify(headers: Mapping[str, str], body: bytes) -> bool:
        verified.append((dict(headers), body))
        return True

    receiver, wire = WebhookReceiver(URL, secret=SECRET, verify=verify, limit=200), Wire()
    box = joined(receiver)
    talk = Connection(House(), receiver)
    talk.connection_made(wire)
    for piece in pieces:
        talk.data_received(piece)
    return Told(wire.said, box.taken, verified, receiver.counts)


def changed(request: bytes, old: bytes, new: bytes) -> bytes:
    """Return a request with one thing changed in its head."""
    return request.replace(old, new, 1)


requests = st.builds(
    changed,
    st.builds(
        raw,
        st.sampled_from([*PATHS, "/flux/" + "A" * 48, "/", PATHS[0] + "?x=1"]),
        st.sampled_from([BODY, BODY.replace(b"t1", b"t2"), b"{}", b"", b"x" * 300]),
        st.sampled_from(["POST", "POST", "GET"]),
        st.sampled_from([JSON, JSON, {"content-type": "text/plain"}, {**JSON, "x-sum": "1"}]),
    ),
    st.sampled_from([b"POST", b"HTTP/1.1", b"Host:", b"Content-Length:", b"\r\n\r\n", b"/"]),
    st.sampled_from([b"POST", b"HTTP/1.1", b"HTTP/1.0", b"Host:", b"\r\n\r\n", b"\r\n", b"//"]),
)


@settings(max_examples=500)
@given(st.lists(st.builds(raw, st.sampled_from(PATHS)) | requests, max_size=8))
def test_whole_or_in_pieces(sent: list[bytes]) -> None:
    """What is read at once has the answers, bodies and headers that it has when it comes late."""

    async def main() -> tuple[Told, Told]:
        late = [piece for request in sent for piece in (request[:1], request[1:])]
        return await told(sent), await told(late)

    whole, pieces = asyncio.run(main())
    assert whole == pieces


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_headers_are_read_once(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """A sender whose callbacks differ in path and body alone has its headers looked at once."""
    checked: list[str] = []
    original = WebhookReceiver.check

    def check(self: WebhookReceiver, verb: str, path: str, headers: Mapping[str, str]) -> object:
        checked.append(path)
        return original(self, verb, path, headers)

    monkeypatch.setattr(WebhookReceiver, "check", check)
    found = await told([raw(PATHS[0]), raw(PATHS[1], method=method), raw(PATHS[2])])
    assert checked == PATHS[:1]
    assert found.answers.count(b"HTTP/1.1 200 OK") == (3 if method == "POST" else 2)
    assert found.answers.count(b"HTTP/1.1 405 ") == (0 if method == "POST" else 1)


async def test_headers_that_are_kept_cannot_be_changed() -> None:
    """A check of signatures that writes into them would change the sender's next callback."""
    seen: list[Mapping[str, str]] = []

    def verify(headers: Mapping[str, str], body: bytes) -> bool:  # noqa: ARG001 - a `Verify`
        seen.append(headers)
        return True

    receiver = WebhookReceiver(URL, secret=SECRET, verify=verify)
    joined(receiver)
    talk = Connection(House(), receiver)
    talk.connection_made(Wire())
    for path in PATHS:
        talk.data_received(raw(path))
    for headers in seen:
        with pytest.raises(TypeError):
            headers["x"] = "y"  # type: ignore[index]  # that it is refused is the point


@pytest.mark.parametrize("at_once", [False, True])
async def test_after_a_connection_is_closed_on_nothing_is_said(*, at_once: bool) -> None:
    """Of many requests in one piece none is taken once the sender turned out not to read."""

    class Full(Wire):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            super().write(data)
            talk.pause_writing()

    receiver, wire = WebhookReceiver(URL, secret=SECRET), Full()
    box = joined(receiver)
    talk = Connection(House(), receiver)
    talk.connection_made(wire)
    for piece in [raw(PATHS[0])] * 9 if at_once else [raw(PATHS[0]) * 9]:
        talk.data_received(piece)
    assert wire.said.count(b"HTTP/1.1 200 OK") == len(box.taken) == 1


async def test_small_pieces_are_read() -> None:
    """A callback is short: no large buffer is made for it."""
    wire = Wire()
    Connection(House(), WebhookReceiver(URL)).connection_made(wire)
    assert wire.max_size == 64 * 1024
