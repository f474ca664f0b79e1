"""A batch under way: interruptions, detaching, and what stands in the results afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fluxflex.cli.order import Order
from fluxflex.cli.plan import Plan
from fluxflex.cli.run import Run
from fluxflex.cli.source import FileSource, StdinSource, open_source
from fluxflex.cli.talk import Talk
from fluxflex.cli.target import Access, Target
from fluxflex.simulator import Faults, Manual, Simulator, faults
from tests.cli import cli_helpers as shared
from tests.cli.cli_helpers import PNG, Provider

Provide = Callable[..., Provider]
Spawn = Callable[..., "subprocess.Popen[str]"]

room, provide, spawn = shared.room, shared.provide, shared.spawn


def plan_of(simulator: Simulator, count: int, **more: Any) -> Plan:
    """Return a plan of so many prompts, two at a time."""
    Path("p.txt").write_text("".join(f"number {n}\n" for n in range(count)))
    source = open_source("p.txt")
    assert isinstance(source, FileSource)
    source.total = count
    options = {"concurrency": 2, "target": Target(base_url=simulator.url), **more}
    return Plan(source=source, order=Order(source="p.txt", out=Path("out"), **options))


def rows() -> list[dict[str, Any]]:
    """Return all rows of the results."""
    text = Path("out/results.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def states() -> list[str]:
    """Return the states of all rows, in order."""
    return [row["state"] for row in rows()]


def rewrite(content: bytes | None) -> None:
    """Change the source under a running batch; `None` removes it."""
    if content is None:
        Path("p.txt").unlink()
    else:
        Path("p.txt").write_bytes(content)


def finish(simulator: Simulator) -> None:
    """Complete all tasks that still run."""
    for entry in simulator.ledger.entries:
        if entry.due > simulator.now():
            simulator.finish(entry.task_id)


async def followed(run: Run, count: int) -> None:
    """Let the run learn that so many tasks were accepted; they are on disk then."""
    for _ in range(100_000):
        if len(run._session.handles()) == count:
            return
        await asyncio.sleep(0)


async def test_one_interrupt_stops_reading_and_drains(capsys: pytest.CaptureFixture[str]) -> None:
    """What runs is waited for and saved; what was not read stands as not sent."""
    async with Simulator(durations=Manual(), pictures=lambda _: PNG) as simulator:
        run = Run(plan_of(simulator, 5), Talk())
        work = asyncio.ensure_future(run.run())
        await simulator.wait_for(lambda ledger: len(ledger) == 2)
        await followed(run, 2)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        finish(simulator)
        assert await work == 130
        assert len(simulator.ledger) == 2
    assert states() == ["COMPLETED", "COMPLETED", "QUEUED", "QUEUED", "QUEUED"]
    said = capsys.readouterr()
    stopping = "Stopping: nothing more is read. Waiting for 2 tasks that still run ($0.08)."
    assert stopping in said.err
    assert "Press Ctrl-C again" in said.err
    assert "5 items: 2 completed, 3 not sent. $0.08 spent" in said.err
    assert "To carry on, where nothing is paid twice:\n  fluxflex batch p.txt -o out" in said.err
    assert len(said.out.splitlines()) == 2


async def test_a_second_interrupt_detaches(capsys: pytest.CaptureFixture[str]) -> None:
    """What still runs stands with its id, and the commands that go on are named."""
    async with Simulator(durations=Manual(), pictures=lambda _: PNG) as simulator:
        run = Run(plan_of(simulator, 3), Talk())
        work = asyncio.ensure_future(run.run())
        await simulator.wait_for(lambda ledger: len(ledger) == 2)
        run.interrupts.interrupt()
        run.interrupts.interrupt()
        run.interrupts.interrupt()
        assert await work == 130
    assert states() == ["ABANDONED", "ABANDONED", "QUEUED"]
    said = capsys.readouterr().err
    url = f"--base-url {simulator.url}"
    assert "2 tasks left running, paid for. To fetch, at no further cost:" in said
    assert f"  fluxflex resume out {url}" in said.splitlines()
    assert f"  fluxflex batch p.txt -o out --concurrency 2 {url}" in said.splitlines()
    assert said.count("Detaching") == 1
    assert "3 items: 2 still running, 1 not sent. $0.08 spent" in said


async def test_a_rehearsal_that_is_left_speaks_of_no_money(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated tasks are fetched like others, but were not paid for."""
    async with Simulator(durations=Manual()) as simulator:

        @asynccontextmanager
        async def access(_: Target) -> AsyncIterator[Access]:
            yield Access("simulated", simulator.url)

        monkeypatch.setattr(Target, "access", access)
        plan = plan_of(simulator, 3, target=Target(simulate=True, speed=9))
        run = Run(plan, Talk(simulated=True))
        work = asyncio.ensure_future(run.run())
        await simulator.wait_for(lambda ledger: len(ledger) == 2)
        run.interrupts.interrupt()
        assert run._snapshot().stopping
        run.interrupts.interrupt()
        assert await work == 130
    said = capsys.readouterr().err
    assert "Waiting for 2 tasks that still run" in said
    assert "Press Ctrl-C again to leave them running." in said
    assert "2 tasks left running. To fetch, at no further cost:" in said
    assert "  fluxflex resume out --simulate --speed 9" in said.splitlines()
    assert "3 items: 2 still running, 1 not sent. " in said
    for word in ("fluxflex wait", "billed", "reserved", "provider"):
        assert word not in said


async def test_sigterm_drains_for_its_grace_and_detaches(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SIGTERM stops the reading at once and lets go when its seconds are over."""
    async with Simulator(durations=Manual()) as simulator:
        run = Run(plan_of(simulator, 3), Talk())
        assert run.interrupts.grace == 20
        run.interrupts.grace = 0
        work = asyncio.ensure_future(run.run())
        await simulator.wait_for(lambda ledger: len(ledger) == 2)
        signal.raise_signal(signal.SIGTERM)
        assert await work == 143
    assert states() == ["ABANDONED", "ABANDONED", "QUEUED"]
    assert "They have 0 seconds." in capsys.readouterr().err


async def test_an_interrupt_after_the_last_item_changes_nothing() -> None:
    """Once everything was sent there is nothing to stop: the code is that of the outcomes."""
    async with Simulator(durations=Manual(), pictures=lambda _: PNG) as simulator:
        run = Run(plan_of(simulator, 2), Talk())
        work = asyncio.ensure_future(run.run())
        await simulator.wait_for(lambda ledger: len(ledger) == 2)
        run.interrupts.interrupt()
        finish(simulator)
        assert await work == 0
    assert states() == ["COMPLETED", "COMPLETED"]


async def test_an_interrupt_wakes_who_waits_for_stdin() -> None:
    """An open pipe does not hold up the end; it was not read to its end."""
    reading, writing = os.pipe()
    async with Simulator(durations=0.0, pictures=lambda _: PNG) as simulator:
        plan = plan_of(simulator, 0)
        source = StdinSource(reading)
        run = Run(Plan(source=source, order=plan.order), Talk())
        work = asyncio.ensure_future(run.run())
        os.write(writing, b"one\n")
        await simulator.wait_for(lambda ledger: ledger.file_requests == 1)
        run.interrupts.interrupt()
        assert await work == 130
    os.close(writing)
    assert states() == ["COMPLETED"]


async def test_a_task_in_the_air_is_learnt_when_detaching() -> None:
    """A POST that is being answered brings its id even while the batch is being left."""
    slow = Faults(submit=lambda _: faults.slow(after=0.2))
    async with Simulator(durations=Manual(), faults=slow) as simulator:
        run = Run(plan_of(simulator, 1), Talk())
        work = asyncio.ensure_future(run.run())
        await simulator.wait_for(lambda ledger: len(ledger) == 1)
        run.interrupts.interrupt()
        run.interrupts.interrupt()
        await work
        assert [row["task_id"] for row in rows()] == [simulator.ledger.entries[0].task_id]


async def test_a_file_that_changed_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of items that were never read are told from the file as it is then."""
    async with Simulator(balance_usd=0, durations=0.0) as simulator:  # type: ignore[arg-type]  # 0 USD
        plan = plan_of(simulator, 4, concurrency=1, defaults={"quality": "1K"})
        work = asyncio.ensure_future(Run(plan, Talk()).run())
        await simulator.wait_for_posts(1)
        rewrite(b"number 0\n\xff\nnumber 2\n \n")
        assert await work == 6
    assert states() == ["QUEUED"] * 3
    assert "3 items: 3 not sent" in capsys.readouterr().err


async def test_a_file_that_vanished_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    """What is known stays; what cannot be read again is told."""
    async with Simulator(balance_usd=0, durations=0.0) as simulator:  # type: ignore[arg-type]  # 0 USD
        work = asyncio.ensure_future(Run(plan_of(simulator, 4, concurrency=1), Talk()).run())
        await simulator.wait_for_posts(1)
        rewrite(None)
        assert await work == 6
    assert states() == ["QUEUED"]
    assert "No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("signals", "code"),
    [([signal.SIGINT], 130), ([signal.SIGINT, signal.SIGINT], 130), ([signal.SIGTERM], 143)],
)
def test_signals_to_a_process(
    room: Path, provide: Provide, spawn: Spawn, signals: list[signal.Signals], code: int
) -> None:
    """The same in a process of its own, with the signals that people and machines send."""
    provider = provide(durations=Manual())
    (room / "p.txt").write_text("a\nb\nc\n")
    process = spawn("batch", "p.txt", "-o", "out", "-c", 2, "--base-url", provider.url)
    provider.await_tasks(2)
    assert process.stderr is not None
    for number in signals:
        process.send_signal(number)
        line = process.stderr.readline()
        assert line.startswith(("Stopping", "Detaching")), line
    if len(signals) == 1:
        provider.finish_all()
    out, err = process.communicate(timeout=20)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert len(states()) == 3
    assert len(out.splitlines()) == (2 if len(signals) == 1 else 0)
