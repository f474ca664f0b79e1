"""Callbacks over real sockets, from the POST that names the URL to the saved picture."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import aiohttp
import pytest

import fluxflex
from fluxflex._core import decode
from fluxflex._core.lifecycle import Completed, Failed
from fluxflex.webhooks import WebhookReceiver
from tests.aio.fakes import FakeTransport
from tests.stories.caller import Stage, done
from tests.stories.stage import PICTURE, Scene, Wire, accepted, http, session_at
from tests.webhooks.helpers import FRONTS, raw, served


async def test_from_the_post_to_the_picture(tmp_path: Path) -> None:
    """The provider posts to the URL that it was given; the picture is saved, without one look.

    It lies on a loopback address, which is allowed since the API does too.
    """
    receiver = WebhookReceiver("http://127.0.0.1:0/flux")

    async def accept(scene: Scene) -> None:
        await scene.say(http(accepted()))
        data = {"image_url": f"{wire.url}/picture.png"}
        body = {"task_id": "t-1", "status": "completed", "data": data}
        url = json.loads(scene.body)["callback_url"]
        async with aiohttp.ClientSession() as client, client.post(url, json=body) as reply:
            assert reply.status == 200

    wire = Wire(post=accept)
    async with wire, receiver.serve():
        session = session_at(wire.url, webhooks=receiver, poll=fluxflex.FixedPolling(30))
        async with session:
            image = await session.generate("a")
            path = await image.save(tmp_path)
            assert session.statistics().callbacks["received"] == 1
        again = await image.read()
    assert path.read_bytes() == again == PICTURE
    assert image.guarded_by == wire.url
    assert wire.looks == []


@pytest.mark.parametrize("front", FRONTS)
async def test_the_answer_goes_out_before_any_work(
    front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the session begins to read a callback its sender has been told, whoever serves."""
    receiver = WebhookReceiver("https://callbacks.test/flux")
    stage = Stage(FakeTransport(seconds=1e6), receiver=receiver)
    loop, told = asyncio.get_running_loop(), []
    read_callback = decode.read_callback

    async with served(receiver, front) as base, stage.session as session:
        with socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2])), 5) as sender:

            def work(body: bytes) -> Completed | Failed | None:
                # The loop stands still in here: what was not written before is never read.
                told.append(sender.recv(65_536)[:13])
                return read_callback(body)

            monkeypatch.setattr(decode, "read_callback", work)
            handle = await session.submit("a")
            body = json.dumps(done(str(handle.task_id))).encode()
            await loop.run_in_executor(None, sender.sendall, raw(stage.path(), body))
            await handle
    assert told == [b"HTTP/1.1 200 "]
