"""A server on a real socket that does exactly what a test says, down to the bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

import attrs

from fluxflex._core.exchange import Call, Intent


@attrs.frozen
class Arrived:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


Answer = Callable[[Arrived, asyncio.StreamWriter], Awaitable[None]]


@attrs.define
class RawServer:
    """What a raw server has seen, and where it listens."""

    port: int = 0
    connections: int = 0
    seen: list[Arrived] = attrs.field(factory=list)
    arrived: asyncio.Event = attrs.field(factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Return its origin."""
        return f"http://127.0.0.1:{self.port}"

    def saw(self, text: str) -> bool:
        """Say whether this text came in anywhere."""
        return text in repr(self.seen)


@contextlib.asynccontextmanager
async def serve(answer: Answer) -> AsyncIterator[RawServer]:
    """Answer every request on every connection this way."""
    server = RawServer()
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        number = server.connections
        try:
            while not writer.is_closing():
                arrived = await _read(reader, number)
                if arrived is None:
                    break
                server.seen.append(arrived)
                server.arrived.set()
                await answer(arrived, writer)
        finally:
            writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(talk(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = await asyncio.start_server(begin, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listening.wait_closed()


async def _read(reader: asyncio.StreamReader, connection: int) -> Arrived | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    pairs = (line.partition(": ") for line in lines)
    headers = {name.lower(): value for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Arrived(method, target, headers, body, connection)


def bytes_of(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    """Return a reply as bytes; `retry_after=…` is the header Retry-After."""
    named = {"content-length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} Words\r\n{lines}\r\n".encode() + body


def saying(*replies: bytes) -> Answer:
    """Answer with these bytes in turn, the last for ever."""
    left = list(replies)

    async def answer(_: Arrived, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return answer


def breaking(start: bytes = b"", *, reset: bool = False) -> Answer:
    """Send the start of a reply, then close or reset the connection."""

    async def answer(_: Arrived, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        if reset:
            drop(writer)
        writer.close()

    return answer


def drop(writer: asyncio.StreamWriter) -> None:
    """Make closing this connection a reset."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def silence(_: Arrived, __: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    """Give an origin at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def get(url: str, **more: object) -> Call:
    """Return a reading call."""
    return Call(**{"method": "GET", "url": url, "intent": Intent.READ, **more})  # type: ignore[arg-type]  # as the tests write it


def post(url: str, body: bytes = b'{"prompt": "a"}') -> Call:
    """Return a submit."""
    return Call(method="POST", url=url, intent=Intent.SUBMIT, body=body)
