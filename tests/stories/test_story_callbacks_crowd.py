"""A crowd of tasks whose callbacks are lost, doubled, late, early and forged."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import pytest

import fluxflex
from fluxflex.webhooks import WebhookReceiver
from tests.aio.fakes import FakeTransport, Got, Late, accepted, completed, fields, running
from tests.stories.caller import JSON, URL, Stage

pytestmark = pytest.mark.looptime(start=0)

TASKS = 600


class Crowd(FakeTransport):
    """A provider whose tasks take their time, and whose callbacks have accidents.

    Its pictures are named after the prompts, so that a mix-up would show.
    """

    def __init__(self, receiver: WebhookReceiver) -> None:
        super().__init__()
        self.chance = random.Random(7)  # noqa: S311 - the same course each time
        self.receiver = receiver
        self.prompt_of: dict[str, str] = {}
        self.kinds: Counter[str] = Counter()
        self.told: Counter[int] = Counter()
        self.rule("submit", self.accept)
        self.rule("status", self.look)

    def accept(self, call: Any) -> Late:
        """Accept a task, and plan its callback."""
        body, loop = fields(call), asyncio.get_running_loop()
        task_id = f"t{len(self.prompt_of) + 1}"
        self.prompt_of[task_id] = str(body["prompt"])
        lasts = self.chance.lognormvariate(2.7, 0.3)
        self.due[task_id] = loop.time() + lasts
        kind = self.chance.choices(
            ["lost", "doubled", "late", "early", "usual"], [10, 10, 5, 5, 70]
        )[0]
        self.kinds[kind] += 1
        delays = {"lost": [], "doubled": [lasts, lasts + 1], "late": [lasts + 60], "early": [0.01]}
        for delay in delays.get(kind, [lasts]):
            loop.call_later(delay, self.call, str(body["callback_url"]), task_id)
        if kind == "early":
            self.due[task_id] = loop.time()
        loop.call_later(lasts / 2, self.call, URL + "/" + "A" * 48, task_id)
        return Late(accepted(task_id), 0.05)

    def url_of(self, task_id: str) -> str:
        """Return where the picture of a task lies."""
        return f"https://files.test/{self.prompt_of[task_id]}.png"

    def call(self, url: str, task_id: str) -> None:
        """Send a callback; what is told to come again comes again."""
        data = {"image_url": self.url_of(task_id)}
        body = json.dumps({"task_id": task_id, "status": "completed", "data": data}).encode()
        path = url.removeprefix("https://callbacks.test")
        status = self.receiver.receive_now("POST", path, JSON, body)
        self.told[status] += 1
        if status == 503:
            asyncio.get_running_loop().call_later(1, self.call, url, task_id)

    def look(self, call: Any) -> Got:
        """Answer a look."""
        task_id = call.url.rpartition("/")[2]
        if asyncio.get_running_loop().time() < self.due[task_id]:
            return running(task_id)
        return completed(task_id, output={"image_url": self.url_of(task_id)})


@pytest.mark.parametrize("confirm", [False, True])
async def test_all_resolve_to_the_right_picture(*, confirm: bool) -> None:
    """None is lost, none is mixed up, none is bought twice, and nothing is left behind."""
    receiver = WebhookReceiver(URL, confirm=confirm)
    crowd = Crowd(receiver)
    stage = Stage(
        crowd,
        receiver=receiver,
        concurrency=fluxflex.FixedConcurrency(64),
        poll=fluxflex.AdaptivePolling(),
    )
    async with stage.session as session:
        async with session.map(str(n) for n in range(TASKS)) as batch:
            outcomes = [outcome async for outcome in batch]
        await asyncio.sleep(100)
        statistics = session.statistics()
    assert sorted(outcome.index for outcome in outcomes) == list(range(TASKS))
    assert all(each.image.url == f"https://files.test/{each.index}.png" for each in outcomes)
    assert crowd.posts == len(crowd.prompt_of) == TASKS
    assert (statistics.completed, statistics.in_flight) == (TASKS, 0)
    counts, kinds = statistics.callbacks, crowd.kinds
    assert counts["received"] == TASKS - kinds["lost"] + kinds["doubled"]
    assert counts["missed"] == kinds["lost"]
    assert counts["duplicate"] == kinds["doubled"]
    assert counts["early"] == kinds["early"]
    assert counts["refused"] == crowd.told[404] == TASKS
    own = session.engine.tasks.callbacks
    assert own is not None
    for left in (own._expected, own._parked, own._checking, own._awaited, own._queue):
        assert not left
