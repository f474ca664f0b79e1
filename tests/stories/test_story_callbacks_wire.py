"""Callbacks over real sockets, from the POST that names the URL to the saved picture."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp

import fluxflex
from fluxflex.webhooks import WebhookReceiver
from tests.stories.stage import PICTURE, Scene, Wire, accepted, http, session_at


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
