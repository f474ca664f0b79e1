"""One connection of the small server: strict HTTP/1.1 for callbacks and nothing else.

Everything a sender may send is bounded, and what is not understood is answered and closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import http
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, cast

from fluxflex.webhooks.heads import START, Nonsense, Usual, headers_of, length_of
from fluxflex.webhooks.tokens import Ticket

LONGEST_HEAD = 16 * 1024
# What goes with an answer, whichever server gives it, by its status.
ANSWER_HEADERS: Mapping[int, dict[str, str]] = {405: {"Allow": "POST"}, 503: {"Retry-After": "5"}}
# Seconds: for one whole request; between two of them; to read an answer before the end.
REQUEST_SECONDS = 15.0
IDLE_SECONDS = 75.0
_LINGER_SECONDS = 2.0

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[^\r\n]*)?")
_LONGEST_CHUNK_LINE = 256
_LONGEST_TRAILER = 4096
_END = b"\r\n\r\n"
# Bytes read at once. By default asyncio asks for 256 KiB, which the allocator maps and unmaps anew
# for each request, however short it is.
_READ_SIZE = 64 * 1024


class Handler(Protocol):
    """What is served: `WebhookReceiver`.

    Attributes:
        limit: the largest body, in bytes.
    """

    limit: int

    def owner(self, method: str, path: str) -> Ticket | int:
        """Return whose a request is by its first line, or the status that it is refused with."""
        ...

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> Ticket | int:
        """Return whose a request is, or the status that it is refused with."""
        ...

    def too_large(self) -> int:
        """Return the status for a body that turned out to be too large."""
        ...

    def take(self, ticket: Ticket, headers: Mapping[str, str], body: bytes) -> int:
        """Take the body of a request that was not turned away, and return its status."""
        ...


class House(Protocol):
    """What a connection needs of its server."""

    def admit(self, connection: Connection) -> bool:
        """Take in a connection; false where there are enough."""
        ...

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that is closed."""
        ...


class _State(enum.Enum):
    HEAD = 0
    BODY = 1  # of a known length
    CHUNK_LINE = 2
    CHUNK = 3
    TRAILER = 4
    OVER = 5  # answered for the last time; what still comes is not looked at


def _answer(status: int, *, last: bool) -> bytes:
    words = http.HTTPStatus(status).phrase
    lines = [f"HTTP/1.1 {status} {words}", "Content-Length: 0"]
    lines += [f"{name}: {text}" for name, text in ANSWER_HEADERS.get(status, {}).items()]
    if last:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode()


_STATUSES = (200, 400, 401, 404, 405, 408, 413, 414, 415, 417, 431, 501, 503, 505)
_ANSWERS = {
    (status, last): _answer(status, last=last) for status in _STATUSES for last in (False, True)
}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection of a sender.

    Attributes:
        deadline: seconds on the loop's clock; `late` is to be called after it.
    """

    def __init__(self, server: House, handler: Handler) -> None:
        self._server = server
        self._handler = handler
        self._clock = asyncio.get_running_loop().time
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._usual: Usual | None = None
        self._begin()
        self.deadline = self._clock() + REQUEST_SECONDS

    def _begin(self) -> None:
        self._state = _State.HEAD
        self._headers: Mapping[str, str] = {}
        self._keep = True
        self._left = 0  # bytes of the body, or of its chunk, that are still to come
        self._size = 0  # of the body so far
        self._body = bytearray()
        self._found: Ticket | int = 0  # whose it is, or the status that it is refused with

    # -- asyncio's side --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it where there are too many."""
        # A stream, whatever its class: those of uvloop are not asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        if hasattr(self._transport, "max_size"):  # asyncio's own, without TLS
            self._transport.max_size = _READ_SIZE
        if not self._server.admit(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the connection."""
        self._server.forget(self)
        self._state = _State.OVER
        self._transport = None

    def eof_received(self) -> bool:
        """Close with the sender."""
        return False

    def pause_writing(self) -> None:
        """Close on who sends requests and does not read the answers."""
        self.abort()

    def data_received(self, data: bytes) -> None:
        """Read on; whatever it is, it raises nothing."""
        if self._state is _State.OVER:
            return
        if self._state is _State.HEAD and not self._buffer:
            if self._usual is not None and self._at_once(data, self._usual):
                return
            self.deadline = self._clock() + REQUEST_SECONDS
        self._buffer += data
        try:
            while self._step():
                pass
        except Nonsense as nonsense:
            self._say(nonsense.status, last=True)

    def abort(self) -> None:
        """Close at once."""
        self._state = _State.OVER
        if self._transport is not None:
            self._transport.abort()

    def late(self) -> None:
        """Close on who took too long."""
        if self._state is _State.OVER or (self._state is _State.HEAD and not self._buffer):
            self.abort()
        else:
            self._say(408, last=True)

    # -- reading ---------------------------------------------------------------------------------

    def _at_once(self, data: bytes, usual: Usual) -> bool:
        """Take a whole request that is as the usual one but for its path and its body, if it is.

        What is said of headers once need not be found out for each callback of a provider.
        """
        end = data.find(b"\r\n")
        if len(data) != end + usual.rest or not data.startswith(usual.block, end):
            return False
        start = START.fullmatch(data, 0, end)
        if start is None or start[3] != b"1":
            return False
        found = self._handler.owner(start[1].decode("ascii"), start[2].decode("ascii"))
        if not isinstance(found, int):
            found = self._handler.take(found, usual.headers, data[end + len(usual.block) :])
        self._say(found, last=False)
        self.deadline = self._clock() + IDLE_SECONDS
        return True

    def _step(self) -> bool:
        """Read one part of a request; false where more of it must come first."""
        match self._state:
            case _State.HEAD:
                return self._read_head()
            case _State.BODY | _State.CHUNK:
                return self._read_body()
            case _State.CHUNK_LINE:
                return self._read_chunk_line()
            case _State.TRAILER:
                return self._read_trailer()
            case _State.OVER:
                return False

    def _read_head(self) -> bool:
        while self._buffer[:2] == b"\r\n":  # allowed before a request
            del self._buffer[:2]
        end = self._buffer.find(_END, 0, LONGEST_HEAD)
        if end < 0:
            if len(self._buffer) >= LONGEST_HEAD:
                raise Nonsense(431)
            return False
        head = bytes(self._buffer[: end + len(_END)])
        first, *lines = head[:end].split(b"\r\n")
        del self._buffer[: end + len(_END)]
        start = START.fullmatch(first)
        if start is None:
            raise Nonsense(400)
        headers = self._headers = MappingProxyType(headers_of(lines))
        connection = headers.get("connection", "").lower()
        self._keep = start[3] == b"1" and "close" not in connection
        length = length_of(headers)
        method, path = start[1].decode("ascii"), start[2].decode("ascii")
        self._found = self._handler.check(method, path, headers)
        if length and self._keep and "expect" not in headers and not isinstance(self._found, int):
            block = head[len(first) :]
            self._usual = Usual(block, headers, len(block) + length)
        self._expect(length)
        return True

    def _expect(self, length: int | None) -> None:
        """Go on to the body; `None` stands for one in chunks."""
        limit = self._handler.limit
        if length is not None and length > limit:
            self._say(self._too_large(), last=True)
            return
        if self._headers.get("expect", "").lower() == "100-continue":
            if isinstance(self._found, int):
                self._say(self._found, last=True)  # what it is told keeps the body from coming
                return
            self._write(_CONTINUE)
        self._left = length or 0
        self._state = _State.CHUNK_LINE if length is None else _State.BODY

    def _read_body(self) -> bool:
        part = self._buffer[: self._left]
        del self._buffer[: len(part)]
        self._left -= len(part)
        self._size += len(part)
        if not isinstance(self._found, int):
            self._body += part
        if self._left:
            return False
        if self._state is _State.BODY:
            self._whole()
        else:
            if self._buffer[:2] != b"\r\n"[: len(self._buffer)]:
                raise Nonsense(400)
            if len(self._buffer) < 2:  # noqa: PLR2004 - the end of a line
                return False
            del self._buffer[:2]
            self._state = _State.CHUNK_LINE
        return True

    def _read_chunk_line(self) -> bool:
        end = self._buffer.find(b"\r\n", 0, _LONGEST_CHUNK_LINE)
        if end < 0:
            if len(self._buffer) >= _LONGEST_CHUNK_LINE:
                raise Nonsense(400)
            return False
        found = _CHUNK.fullmatch(bytes(self._buffer[:end]))
        del self._buffer[: end + 2]
        if found is None:
            raise Nonsense(400)
        self._left = int(found[1], 16)
        if self._size + self._left > self._handler.limit:
            self._say(self._too_large(), last=True)
            return True
        self._state = _State.CHUNK if self._left else _State.TRAILER
        return True

    def _read_trailer(self) -> bool:
        """Pass over what may follow the last chunk: lines, up to an empty one."""
        end = 0 if self._buffer[:2] == b"\r\n" else self._buffer.find(_END, 0, _LONGEST_TRAILER)
        if end < 0:
            if len(self._buffer) >= _LONGEST_TRAILER:
                raise Nonsense(431)
            return False
        del self._buffer[: end + (len(_END) if end else 2)]
        self._whole()
        return True

    # -- answering -------------------------------------------------------------------------------

    def _whole(self) -> None:
        """Answer a request that has arrived whole, and go on to the next."""
        found = self._found
        if not isinstance(found, int):
            found = self._handler.take(found, self._headers, bytes(self._body))
        self._say(found, last=not self._keep)
        if self._state is not _State.OVER:  # nor is it closed on, for an answer that is not read
            self._begin()
            self.deadline = self._clock() + (REQUEST_SECONDS if self._buffer else IDLE_SECONDS)

    def _too_large(self) -> int:
        return self._found if isinstance(self._found, int) else self._handler.too_large()

    def _say(self, status: int, *, last: bool) -> None:
        self._write(_ANSWERS[status, last])
        if last:
            self._end()

    def _end(self) -> None:
        """Stop reading requests, but leave the sender a moment to read what it was told.

        A connection that is closed on bytes that were not read takes the answer with it.
        """
        self._state = _State.OVER
        self._buffer.clear()
        self._body.clear()
        self.deadline = self._clock() + _LINGER_SECONDS
        if self._transport is None:
            return
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError):  # the sender is gone already
                self._transport.write_eof()
        else:
            self._transport.close()

    def _write(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)
