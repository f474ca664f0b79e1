"""The same under uvloop, whose timers and transports are no subclasses of asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from fluxflex import FixedPolling, Session
from fluxflex.simulator import Callbacks, Simulator
from fluxflex.webhooks import WebhookReceiver

uvloop = pytest.importorskip("uvloop", reason="it has no build for this platform")

TASKS = 60


def test_a_crowd_that_is_turned_away_and_called_back() -> None:
    """Limits, pauses, looks and callbacks: all come to their pictures, and the loop is content."""
    complaints: list[Mapping[str, Any]] = []

    async def crowd() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
        callbacks = Callbacks(lost=0.2, doubled=0.2, early=0.1, forged=0.2)
        async with Simulator(
            durations=0.05, max_in_flight=30, limit_retry_after="0.05", callbacks=callbacks
        ) as provider:
            receiver = WebhookReceiver("http://127.0.0.1:0/flux")
            async with receiver.serve():
                await generate(provider, receiver)

    async def generate(provider: Simulator, receiver: WebhookReceiver) -> None:
        async with Session(
            "sk-0123456789",
            base_url=provider.url,
            concurrency=40,
            poll=FixedPolling(0.1),
            webhooks=receiver,
        ) as session:
            outcomes = await session.map(f"study {n}" for n in range(TASKS)).collect()
            said = session.statistics()
        assert [outcome.error for outcome in outcomes] == [None] * TASKS
        assert said.throttled > 0
        assert said.callbacks["received"] > 0

    uvloop.run(crowd())
    assert complaints == []
