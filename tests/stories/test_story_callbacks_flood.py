"""A flood of forged callbacks at the receiver's own server: the true ones get through."""

from __future__ import annotations

import asyncio
import json

import fluxflex
from fluxflex.webhooks import WebhookReceiver
from tests.aio.fakes import FakeTransport
from tests.stories.caller import JSON, Stage, done
from tests.webhooks.helpers import raw

FORGED = 20_000
TRUE = 50


async def flood(port: int, path: str) -> None:
    """Send forged callbacks as fast as they are taken, and read what is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    forged = raw(path) * 100
    for _ in range(FORGED // 100):
        writer.write(forged)
        await writer.drain()
        for _ in range(100):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
    writer.close()


async def test_true_ones_get_through() -> None:
    """Every task resolves to its own picture, by callback alone, while the flood goes on."""
    receiver = WebhookReceiver("http://127.0.0.1:0/flux")
    stage = Stage(FakeTransport(seconds=1e6), receiver=receiver, concurrency=TRUE)
    async with receiver.serve() as server, stage.session as session:
        handles = [await session.submit(str(n)) for n in range(TRUE)]
        flooding = asyncio.create_task(flood(server.port, "/flux/" + "A" * 48))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for n, handle in enumerate(handles):
            path = stage.path(n).removeprefix(f"http://127.0.0.1:{server.port}")
            body = json.dumps(done(str(handle.task_id), str(n))).encode()
            writer.write(raw(path, body, headers=JSON))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        images = await asyncio.gather(*handles)
        writer.close()
        await flooding
        counts = session.statistics().callbacks
    assert [image.url for image in images] == [f"https://files.test/{n}.png" for n in range(TRUE)]
    assert isinstance(images[0], fluxflex.GeneratedImage)
    assert (counts["received"], counts["refused"], counts["missed"]) == (TRUE, FORGED, 0)
    assert receiver.counts["token"] == FORGED
    assert stage.fake.count("status") == 0
