"""A session with callbacks, and who sends them: for the stories about them."""

from __future__ import annotations

import json
from typing import Any

import fluxflex
from fluxflex import Timeouts
from fluxflex.webhooks import WebhookReceiver
from tests.aio.fakes import FakeSession, FakeTransport, fields, settle

URL = "https://callbacks.test/flux"
JSON = {"content-type": "application/json"}
SELDOM = fluxflex.FixedPolling(1000)


def done(task_id: str, name: str = "right", **more: object) -> dict[str, object]:
    """Return the body of a callback for a task that completed."""
    data = {"image_url": f"https://files.test/{name}.png"}
    return {"task_id": task_id, "status": "completed", "data": data, **more}


class Stage:
    """A session that has callbacks, a provider with a script, and the callbacks' sender."""

    def __init__(self, fake: FakeTransport | None = None, **options: Any) -> None:
        confirm = options.pop("confirm", False)
        self.receiver = options.pop("receiver", None) or WebhookReceiver(
            URL, secret="kept", confirm=confirm
        )
        self.fake = fake or FakeTransport(seconds=500)
        usual: dict[str, Any] = {"poll": SELDOM, "timeout": Timeouts(task=2000)}
        self.session = FakeSession(self.fake, webhooks=self.receiver, **{**usual, **options})

    def path(self, number: int = 0) -> str:
        """Return where the callback of the n-th submit goes."""
        posts = [seen.call for seen in self.fake.seen if seen.kind == "submit"]
        return str(fields(posts[number])["callback_url"]).removeprefix("https://callbacks.test")

    async def call(self, body: object, number: int = 0) -> int:
        """Send a callback for the n-th submit, and let it be worked on."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        status = await self.receiver.receive("POST", self.path(number), JSON, raw)
        await settle()
        return status

    def counts(self) -> dict[str, int]:
        """Return what came, by kind, without what did not."""
        found = self.session.statistics().callbacks
        return {kind: number for kind, number in found.items() if number}
