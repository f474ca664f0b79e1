"""Callbacks over real sockets from the simulator, whose accidents and forgeries do no harm."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import fluxflex
from fluxflex.simulator import Callbacks, Simulator
from fluxflex.webhooks import HmacSignature, WebhookReceiver
from tests.webhooks.helpers import FRONTS, served

TASKS = 80
SECRET = "shared with the sender"
ASTRAY = Callbacks(
    lost=0.1,
    doubled=0.1,
    late=0.05,
    late_by=0.2,
    early=0.1,
    forged=1.0,
    shape="mixed",
    signature_secret=SECRET,
)


@pytest.mark.parametrize("confirm", [False, True])
@pytest.mark.parametrize("front", FRONTS)
async def test_every_accident_at_once(
    front: str, *, confirm: bool, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Each prompt gets its own picture, once, from whichever server; no token shows anywhere."""
    caplog.set_level(logging.DEBUG, logger="fluxflex")
    seen: list[fluxflex.Change] = []
    async with Simulator(durations=0.05, callbacks=ASTRAY) as sim:
        receiver = WebhookReceiver(
            "http://127.0.0.1:0/flux", confirm=confirm, verify=HmacSignature(SECRET)
        )
        async with (
            served(receiver, front),
            fluxflex.Session(
                "sk-test-0123456789",
                base_url=sim.url,
                webhooks=receiver,
                concurrency=fluxflex.FixedConcurrency(16),
                poll=fluxflex.FixedPolling(0.1),
                poll_rate=None,
                journal=tmp_path / "journal.db",
                on_event=seen.append,
            ) as session,
        ):
            async with session.map(f"study {n}" for n in range(TASKS)) as batch:
                outcomes = [outcome async for outcome in batch]
            counts, shown = session.statistics().callbacks, repr((session, receiver, seen))
        told = {entry.prompt: entry.task_id for entry in sim.ledger.entries}
        assert len(told) == len(sim.ledger) == TASKS
        sent = sim.ledger.callbacks
    for outcome in outcomes:
        assert outcome.task_id == told[outcome.item]  # type: ignore[index]  # a prompt
        assert str(outcome.task_id) in outcome.image.url
    assert counts["received"] > TASKS // 2
    assert counts["unknown"] == counts["broken"] == 0
    assert counts["refused"] > 0
    forged = [each for each in sent if each.kind in Callbacks().forgeries]
    assert {each.status for each in forged} <= {404, None}
    tokens = {each.url.rpartition("/")[2] for each in sent if each not in forged}
    assert len(tokens) > TASKS // 2
    kept = shown + caplog.text + repr((tmp_path / "journal.db").read_bytes())
    assert not [token for token in tokens if token in kept]
