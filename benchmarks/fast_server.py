"""A provider that is faster than any client, so that it is the client that is measured.

It runs in a process of its own, as a bare asyncio protocol, on uvloop where that is installed. It
keeps nothing of a task: an id carries the time at which the task is due, on the monotonic clock
that all processes of the machine share. The picture's URL carries it too, so that every client can
tell how late it learnt of it.

Besides the provider's own it speaks the dialects of the peers that `field.py` runs side by side:
fal's queue, replicate's predictions, and openai's images, where the reply waits for the picture.
A task with a `callback_url` on this machine is told to it when it is due.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import cast

import attrs
from side_by_side.caller import Caller

_END = b"\r\n\r\n"
_NEVER = b"never"
_CALLBACK = b'"callback_url":"'
# Seconds after which a callback comes, once its task is due: as a rule not before the reply to the
# POST is read.
_UNDER_WAY = 0.01


@attrs.frozen(kw_only=True)
class Conduct:
    """How the provider behaves.

    Attributes:
        seconds: from being accepted until a task is due; `None` for never.
        warm: so many tasks are due at once, before the others.
        fault: what becomes of a POST: "drop" (accepted, then the connection ends), or a status.
        faults: of how many POSTs; those after them are accepted.
        cpu: the processor it keeps to.
    """

    seconds: float | None = 0.0
    warm: int = 0
    fault: str | None = None
    faults: int = 0
    cpu: int | None = None


class Counts:
    """What was on the wire."""

    def __init__(self) -> None:
        self.posts = self.bought = self.callbacks = 0
        self.gets = array.array("d")

    def called(self) -> None:
        """Note a callback that was taken."""
        self.callbacks += 1

    def as_json(self) -> bytes:
        """Return them as an object."""
        counts = {
            "posts": self.posts,
            "bought": self.bought,
            "gets": len(self.gets),
            "callbacks": self.callbacks,
            "most_gets_a_second": most_in_a_second(self.gets),
            "cpu": time.process_time(),
        }
        return json.dumps(counts).encode()


def most_in_a_second(times: array.array[float]) -> int:
    """Return how many lie in the fullest second, wherever it begins; they are in order."""
    most = first = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def due_of(url: str) -> float:
    """Return when the task of a picture was due, in seconds on the monotonic clock."""
    return float(url.rpartition("-")[2].removesuffix(".png"))


def _reply(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n"
    return head % (status, more, len(body)) + body


def _done(due: bytes) -> bool:
    return due != _NEVER and float(due) <= time.monotonic()


# -- the dialects: what a POST and a GET of each are answered --------------------------------------


def _native_get(task: bytes, *, done: bool) -> bytes:
    if not done:
        return b'{"code":200,"data":{"status":"processing","task_id":"%s"}}' % task
    return (
        b'{"code":200,"data":{"status":"completed","task_id":"%s",'
        b'"output":{"image_url":"http://127.0.0.1/%s.png"}}}' % (task, task)
    )


def _fal_post(home: bytes, path: bytes, task: bytes) -> bytes:
    at = b"%s%s/requests/%s" % (home, path, task)
    return (
        b'{"status":"IN_QUEUE","request_id":"%s","queue_position":0,"response_url":"%s",'
        b'"status_url":"%s/status","cancel_url":"%s/cancel"}' % (task, at, at, at)
    )


def _fal_get(path: bytes, task: bytes, *, done: bool) -> bytes:
    if b"/status" not in path:
        return b'{"images":[{"url":"http://127.0.0.1/%s.png","width":1,"height":1}]}' % task
    word = b"COMPLETED" if done else b"IN_PROGRESS"
    return b'{"status":"%s","request_id":"%s","logs":null,"metrics":{}}' % (word, task)


def _prediction(home: bytes, task: bytes, word: bytes, output: bytes) -> bytes:
    return (
        b'{"id":"%s","model":"o/m","version":"v","input":{},"output":%s,"logs":"","error":null,'
        b'"status":"%s","created_at":"2026-01-01T00:00:00Z",'
        b'"urls":{"get":"%s/v1/predictions/%s"}}' % (task, output, word, home, task)
    )


def _post_answer(home: bytes, path: bytes, task: bytes) -> bytes:
    if path.startswith(b"/fal/"):
        return _fal_post(home, path, task)
    if path.endswith(b"/predictions"):
        return _prediction(home, task, b"starting", b"null")
    return b'{"code":200,"data":{"status":"processing","task_id":"%s"}}' % task


def _get_answer(home: bytes, path: bytes) -> bytes:
    at = path.find(b"task-")
    task = path[at:].partition(b"/")[0].partition(b"?")[0]
    done = _done(task.rpartition(b"-")[2])
    if path.startswith(b"/fal/"):
        return _fal_get(path, task, done=done)
    if path.startswith(b"/v1/predictions/"):
        if not done:
            return _prediction(home, task, b"processing", b"null")
        return _prediction(home, task, b"succeeded", b'"http://127.0.0.1/%s.png"' % task)
    return _native_get(task, done=done)


# -- one connection ------------------------------------------------------------------------------


class _Provider(asyncio.Protocol):
    """Answers one connection."""

    def __init__(self, conduct: Conduct, counts: Counts, callers: dict[bytes, Caller]) -> None:
        self._conduct = conduct
        self._counts = counts
        self._callers = callers
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        port = transport.get_extra_info("sockname")[1]
        self._home = b"http://127.0.0.1:%d" % port

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._rest += data
        while (end := self._rest.find(_END)) >= 0:
            whole = end + len(_END)
            if self._rest.startswith(b"POST"):
                _, named, after = self._rest[:end].lower().partition(b"content-length:")
                whole += int(after.split(b"\r\n", 1)[0]) if named else 0
            if len(self._rest) < whole:
                return
            path = self._rest[: self._rest.find(b"\r\n")].split(b" ", 2)[1]
            posted = self._rest.startswith(b"POST")
            body, self._rest = self._rest[end:whole], self._rest[whole:]
            if posted:
                self._post(path, body)
            else:
                self._get(path)

    def _get(self, path: bytes) -> None:
        if path == b"/counts":
            body = self._counts.as_json()
        elif path.endswith(b"/account"):
            body = b'{"code":200,"data":{"user_id":1,"balance_usd":1000000}}'
        else:
            self._counts.gets.append(time.monotonic())
            body = _get_answer(self._home, path)
        self._transport.write(_reply(body))

    def _post(self, path: bytes, body: bytes) -> None:
        counts, conduct = self._counts, self._conduct
        counts.posts += 1
        if conduct.fault is not None and counts.posts <= conduct.faults:
            self._fail(conduct.fault)
            return
        counts.bought += 1
        seconds = 0.0 if counts.bought <= conduct.warm else conduct.seconds
        due = _NEVER if seconds is None else b"%.6f" % (time.monotonic() + seconds)
        task = b"task-%d-%s" % (counts.bought, due)
        if path.endswith(b"/images/generations"):
            self._draw(task, seconds)
        else:
            self._transport.write(_reply(_post_answer(self._home, path, task)))
            url = body.partition(_CALLBACK)[2].partition(b'"')[0]
            if url and seconds is not None:
                self._call_later(seconds, url, task)

    def _call_later(self, seconds: float, url: bytes, task: bytes) -> None:
        """Tell a receiver of a task once it is due."""
        host, _, path = url.removeprefix(b"http://").partition(b"/")
        caller = self._callers.get(host)
        if caller is None:
            caller = self._callers[host] = Caller(host, self._counts.called)
        asyncio.get_running_loop().call_later(seconds + _UNDER_WAY, caller.call, path, task)

    def _draw(self, task: bytes, seconds: float | None) -> None:
        """Answer with the picture itself, once it is due."""
        reply = _reply(b'{"created":1,"data":[{"url":"http://127.0.0.1/%s.png"}]}' % task)
        if seconds == 0.0:
            self._transport.write(reply)
        elif seconds is not None:
            asyncio.get_running_loop().call_later(seconds, self._transport.write, reply)

    def _fail(self, fault: str) -> None:
        if fault == "drop":
            self._counts.bought += 1
            self._transport.close()
            return
        more = b"retry-after: 1\r\n" if fault == "429" else b""
        body = b'{"code":%s,"message":"not now","detail":"not now"}' % fault.encode()
        self._transport.write(_reply(body, b"%s Not Now" % fault.encode(), more))


def _serve(ready: Connection, conduct: Conduct) -> None:
    async def run() -> None:
        counts = Counts()
        callers: dict[bytes, Caller] = {}
        server = await asyncio.get_running_loop().create_server(
            lambda: _Provider(conduct, counts, callers), "127.0.0.1", 0, backlog=4096
        )
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    if conduct.cpu is not None:
        os.sched_setaffinity(0, {conduct.cpu})
    with (
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=_fastest_loop()) as loop,
    ):
        loop.run(run())


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


@contextlib.contextmanager
def running(conduct: Conduct | None = None) -> Iterator[str]:
    """Run it beside us; give its address."""
    with beside(_serve, conduct or Conduct()) as told:
        yield f"http://127.0.0.1:{told.recv()}"


@contextlib.contextmanager
def beside(serve: Callable[..., None], *args: object) -> Iterator[Connection]:
    """Run a provider in a process of its own; it gets its end of a connection, and we ours."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, *args), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()


async def counts(url: str) -> Mapping[str, float]:
    """Ask a provider what was on its wire, without any client's help."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /counts HTTP/1.1\r\nhost: x\r\n\r\n")
    head = await reader.readuntil(_END)
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    found: Mapping[str, float] = json.loads(await reader.readexactly(length))
    writer.close()
    await writer.wait_closed()
    return found
