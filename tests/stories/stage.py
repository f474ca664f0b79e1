"""What the stories are played on: a quick session, a server without manners, a wire with a gate."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import attrs

import fluxflex
from fluxflex.simulator import Fault, Simulator, faults
from fluxflex.simulator.faults import Arrival

NOTHING = Decimal(0)
KEY = "sk-story/0123456789+abcdef=="
SUBMIT = "/flux.2-flex/generate"
STATUS = "/flux.2-flex/status/"
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 16


def session_at(
    url: str, *, concurrency: int | fluxflex.ConcurrencyPolicy = 32, **options: Any
) -> fluxflex.Session:
    """Make a session in which nothing waits longer than it must."""
    # A number stands for a plain semaphore here: the limiter's pauses are long on purpose.
    if isinstance(concurrency, int):
        concurrency = fluxflex.FixedConcurrency(concurrency)
    usual: dict[str, Any] = {
        "concurrency": concurrency,
        "poll": fluxflex.FixedPolling(0.001),
        "poll_rate": None,
        "retry": fluxflex.RetryPolicy(initial=0.001, maximum=0.002),
    }
    return fluxflex.Session(KEY, base_url=url, **{**usual, **options})


async def cut_off(session: fluxflex.Session, arrived: asyncio.Event | None = None) -> None:
    """Let the time of what is in the air be up, once the server got so far."""
    if arrived is not None:
        await arrived.wait()
    for _ in range(100):  # what the server said is in the socket: let it be read
        await asyncio.sleep(0)
    session._opened._transport.hurry(0)


@contextmanager
def closed_port() -> Iterator[int]:
    """Give a port of the loopback at which nobody listens, and nobody else will meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def http(
    body: bytes | Mapping[str, object] = b"",
    status: int = 200,
    kind: str = "application/json",
    **headers: str,
) -> bytes:
    """Return a whole HTTP reply as it stands on the wire."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} Said",
        f"Content-Type: {kind}",
        f"Content-Length: {len(content)}",
        *(f"{name.replace('_', '-')}: {text}" for name, text in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def accepted(task_id: object = "t-1") -> dict[str, object]:
    """Return the body of an accepted submit."""
    return {"code": 200, "data": {"status": "processing", "task_id": task_id}}


def completed(url: object, task_id: object = "t-1", **more: object) -> dict[str, object]:
    """Return the body of a look at a task that is completed."""
    output = {"image_url": url}
    return {
        "code": 200,
        "data": {"status": "completed", "task_id": task_id, "output": output},
    } | more


@attrs.define
class Scene:
    """One request that arrived at a `Wire`, and the means to answer it."""

    wire: "Wire"
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader = attrs.field(repr=False)
    writer: asyncio.StreamWriter = attrs.field(repr=False)

    async def say(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(raw)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client closed the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Play = Callable[[Scene], Awaitable[None]]


def says(raw: bytes) -> Play:
    """Answer with these bytes and keep the connection."""

    async def play(scene: Scene) -> None:
        await scene.say(raw)

    return play


def hangs_up(raw: bytes = b"") -> Play:
    """Answer with these bytes, then close the connection."""

    async def play(scene: Scene) -> None:
        await scene.say(raw)
        scene.writer.close()

    return play


async def _accept(scene: Scene) -> None:
    await scene.say(http(accepted()))


async def _complete(scene: Scene) -> None:
    task_id = unquote(scene.target.removeprefix(STATUS))
    await scene.say(http(completed(f"{scene.wire.url}/picture.png", task_id)))


async def _show(scene: Scene) -> None:
    await scene.say(http(PICTURE, kind="image/png"))


class _Listener:
    """A server on a free port of the loopback, whose connections end with it."""

    def __init__(self) -> None:
        self._served: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._served:
            task.cancel()
        await asyncio.gather(*self._served, return_exceptions=True)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class Wire(_Listener):
    """A server that says exactly the bytes that a story scripts.

    Args:
        post, look, picture: how it answers each kind of request; a provider's way by default.
        reads: whether it reads a body before it answers.
    """

    def __init__(
        self,
        *,
        post: Play = _accept,
        look: Play = _complete,
        picture: Play = _show,
        reads: bool = True,
    ) -> None:
        super().__init__()
        self._post, self._look, self._picture = post, look, picture
        self._reads = reads
        self.posts: list[Scene] = []
        self.looks: list[Scene] = []
        self.pictures: list[Scene] = []
        self.connections = 0
        self.arrived = asyncio.Event()

    @property
    def seen(self) -> list[Scene]:
        """Return all requests that arrived."""
        return self.posts + self.looks + self.pictures

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._served.add(task)
        self.connections += 1
        try:
            while not writer.is_closing() and (scene := await self._hear(reader, writer)):
                await self._play(scene)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the story is over
        finally:
            self._served.discard(task)
            writer.close()

    async def _play(self, scene: Scene) -> None:
        if scene.method == "POST":
            shelf, play = self.posts, self._post
        elif scene.target.startswith(STATUS):
            shelf, play = self.looks, self._look
        else:
            shelf, play = self.pictures, self._picture
        shelf.append(scene)
        self.arrived.set()
        await play(scene)

    async def _hear(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Scene | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.rstrip().split("\r\n")
        method, target = first.split(" ", 1)
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): text.strip() for name, _, text in pairs}
        length = int(headers.get("content-length", 0)) if self._reads else 0
        body = await reader.readexactly(length)
        target = target.removesuffix(" HTTP/1.1")
        return Scene(self, method, target, headers, body, reader, writer)


class Relay(_Listener):
    """A wire to a server, with a gate that can hold back everything the server says.

    Args:
        url: the server's origin.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        host, _, port = url.removeprefix("http://").rpartition(":")
        self._there = host, int(port)
        self._gate = asyncio.Event()
        self._gate.set()

    def hold(self) -> None:
        """Hold back what the server says from now on."""
        self._gate.clear()

    def let_go(self) -> None:
        """Let through what was held back, and everything after it."""
        self._gate.set()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._served.add(task)
        try:
            there = await asyncio.open_connection(*self._there)
            await asyncio.gather(
                self._carry(reader, there[1], gated=False),
                self._carry(there[0], writer, gated=True),
            )
        except (ConnectionError, asyncio.CancelledError):
            writer.close()
        finally:
            self._served.discard(task)

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, gated: bool
    ) -> None:
        try:
            while data := await source.read(65536):
                if gated:
                    await self._gate.wait()
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()


def finish(sim: Simulator, *handles: fluxflex.TaskHandle) -> None:
    """Let these tasks end with a picture now."""
    for handle in handles:
        assert handle.task_id is not None
        sim.finish(handle.task_id)


async def finish_prompt(sim: Simulator, prompt: str) -> None:
    """Wait until the task of this prompt is accepted, and let it end with a picture."""
    await sim.wait_for(lambda ledger: prompt in ledger.by_prompt())
    sim.finish(sim.ledger.by_prompt()[prompt][0].task_id)


async def accepted_by(sim: Simulator, count: int) -> None:
    """Wait until so many tasks are accepted."""
    await sim.wait_for(lambda ledger: len(ledger) >= count)


async def settled(session: fluxflex.Session) -> None:
    """Wait until no submit is in the air any more."""
    for _ in range(3):  # one that is about to begin begins
        await asyncio.sleep(0)

    def answered() -> bool:
        now = session.statistics()
        return now.posts == now.accepted + now.refused + now.uncertain

    await until(answered)


def files_in(folder: Path) -> list[Path]:
    """Return all files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds; the test's timeout bounds it."""
    while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0)


def mixed(arrival: Arrival) -> Fault | None:
    """Let every kind of accident happen to the submits, in turn."""
    kinds: dict[int, Fault] = {
        2: faults.rate_limited(),
        3: faults.error(422),
        5: faults.accept_then_drop(),
        7: faults.gateway(502),
        8: faults.error(503, retry_after=0),
        9: faults.gateway(502, accepts=True),
        11: faults.truncated(30),
    }
    return kinds.get(arrival.number % 12)
