"""A provider that is faster than any client: every task is accepted, and done at the first look.

It runs in a process of its own, as a bare asyncio protocol, so that it is the client that is
measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection

_END = b"\r\n\r\n"


def _reply(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


class _Provider(asyncio.Protocol):
    """Answers one connection."""

    tasks = 0

    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP gives no other
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._rest += data
        while (end := self._rest.find(_END)) >= 0:
            head = self._rest[:end].lower()
            _, named, after = head.partition(b"content-length:")
            whole = end + len(_END) + (int(after.split(b"\r\n", 1)[0]) if named else 0)
            if len(self._rest) < whole:
                return
            self._rest = self._rest[whole:]
            self._transport.write(self._answer(head.split(b" ", 2)))

    def _answer(self, request: list[bytes]) -> bytes:
        if request[0] == b"post":
            _Provider.tasks += 1
            return _reply(
                b'{"code":200,"data":{"status":"processing","task_id":"task-%d"}}' % _Provider.tasks
            )
        if request[1].endswith(b"/account"):
            return _reply(b'{"code":200,"data":{"user_id":1,"balance_usd":1000000}}')
        task = request[1].rpartition(b"/")[2]
        return _reply(
            b'{"code":200,"data":{"status":"completed","task_id":"%s",'
            b'"output":{"image_url":"http://127.0.0.1/%s.png"}}}' % (task, task)
        )


def _serve(ready: Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Provider, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Run it beside us; give its address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()
