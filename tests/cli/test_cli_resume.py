"""`fluxflex resume`: what a batch left is followed and fetched, and nothing is bought."""

from __future__ import annotations

import asyncio
import json
import math
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from fluxflex.cli.order import Order
from fluxflex.cli.plan import Plan
from fluxflex.cli.resume import How, Resume
from fluxflex.cli.run import Run
from fluxflex.cli.source import FileSource, open_source
from fluxflex.cli.talk import Talk
from fluxflex.cli.target import Target
from fluxflex.simulator import Faults, Manual, Simulator, faults
from tests.cli import cli_helpers as shared
from tests.cli.cli_helpers import PNG, Provider, Said

Command = Callable[..., Said]
Provide = Callable[..., Provider]

room, run, provide, spawn = shared.room, shared.run, shared.provide, shared.spawn
rows, pictures = shared.rows, shared.pictures


def source_of(prompts: Sequence[str]) -> FileSource:
    """Write a source and open it."""
    Path("p.txt").write_text("".join(f"{prompt}\n" for prompt in prompts))
    source = open_source("p.txt")
    assert isinstance(source, FileSource)
    source.total = len(prompts)
    return source


def page() -> str:
    """Return the folder's page."""
    return Path("out/index.html").read_text(encoding="utf-8")


class Heard(Talk):
    """A talk that tells when programs got a line."""

    def __init__(self) -> None:
        super().__init__()
        self.line = asyncio.Event()

    def out(self, line: str) -> None:
        """Give a line to programs."""
        super().out(line)
        self.line.set()


@attrs.frozen
class Left:
    """A batch that was left while its tasks were running."""

    simulator: Simulator

    @property
    def how(self) -> How:
        """What asks to go on with it."""
        return How(folder=Path("out"), target=Target(base_url=self.simulator.url))

    async def resume(self) -> int:
        """Go on with it to the end."""
        return await Resume(self.how, Talk()).run()

    async def begin(self, *prompts: str, **options: Any) -> None:
        """Begin a batch, and leave it when all of it is running."""
        order = Order(source="p.txt", out=Path("out"), target=self.how.target, **options)
        batch = Run(Plan(order=order, source=source_of(prompts)), Talk())
        work = asyncio.ensure_future(batch.run())
        await self.simulator.wait_for(lambda ledger: len(ledger) == len(prompts))
        batch.interrupts.interrupt()
        batch.interrupts.interrupt()
        assert await work == 130
        assert {row["state"] for row in rows()} == {"ABANDONED"}

    def finish(self, *prompts: str) -> None:
        """Complete the tasks of these prompts."""
        for entry in self.simulator.ledger.entries:
            if entry.order.prompt in prompts and entry.due == math.inf:
                self.simulator.finish(entry.task_id)


async def test_what_was_left_is_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures go where they belong, results and page are as if nothing had happened."""
    async with Simulator(durations=Manual(), pictures=lambda _: PNG) as simulator:
        left = Left(simulator)
        await left.begin("a", "b")
        left.finish("a", "b")
        capsys.readouterr()
        assert await left.resume() == 0
        assert simulator.ledger.posts_received == 2
        said = capsys.readouterr()
        assert sorted(said.out.splitlines()) == ["out/0001-a.png", "out/0002-b.png"]
        assert "Following 2 tasks, at no further cost." in said.err
        assert "2 items: 2 completed. $0.08 spent in all runs.\n" in said.err
        assert "This run bought nothing, " in said.err
        assert [row["state"] for row in rows()] == ["COMPLETED"] * 2
        assert [row["path"] for row in rows()] == pictures() == ["0001-a.png", "0002-b.png"]
        assert "<b>2</b> completed" in page()
        assert await left.resume() == 0
        again = capsys.readouterr()
        assert (again.out, simulator.ledger.file_requests) == ("", 2)
        assert "Nothing is left to fetch." in again.err


async def test_it_can_be_left_again(capsys: pytest.CaptureFixture[str]) -> None:
    """A signal ends it at once; what has come is kept, and the same command goes on."""
    async with Simulator(durations=Manual(), pictures=lambda _: PNG) as simulator:
        left = Left(simulator)
        await left.begin("a", "b")
        left.finish("a")
        talk = Heard()
        work = asyncio.ensure_future(Resume(left.how, talk).run())
        await talk.line.wait()
        signal.raise_signal(signal.SIGINT)
        assert await work == 130
        assert [row["state"] for row in rows()] == ["COMPLETED", "ABANDONED"]
        said = capsys.readouterr().err
        assert f"  fluxflex resume out --base-url {simulator.url}" in said.splitlines()
        left.finish("b")
        assert await left.resume() == 0
    assert pictures() == ["0001-a.png", "0002-b.png"]


async def test_it_ends_with_its_patience() -> None:
    """`--timeout` gives up on what still runs, and the folder says so."""
    async with Simulator(durations=Manual()) as simulator:
        left = Left(simulator)
        await left.begin("a")
        assert await Resume(attrs.evolve(left.how, timeout=0.01), Talk()).run() == 7
        assert rows()[0]["state"] == "TIMED_OUT"
        assert rows()[0]["cost_usd"] == 0.04


async def test_links_of_a_batch_without_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    """Where none were to be saved, none are; programs get the links."""
    async with Simulator(durations=Manual(), pictures=lambda _: PNG) as simulator:
        left = Left(simulator)
        await left.begin("a", download=False)
        left.finish("a")
        capsys.readouterr()
        assert await left.resume() == 0
        assert capsys.readouterr().out.split() == [rows()[0]["url"]]
        assert simulator.ledger.file_requests == 0


def test_what_is_uncertain_is_listed(run: Command, provide: Provide) -> None:
    """It ends with 10 as long as one remains, and submits none of them."""
    provider = provide(faults=Faults(submit=[faults.accept_then_drop()]))
    Path("p.txt").write_text("a sea\nb\n")
    command = ("batch", "p.txt", "-o", "out", "-c", 1, "--base-url", provider.url)
    assert run(*command).code == 10
    said = run("resume", "out", "--base-url", provider.url)
    assert said.code == 10
    assert "1 item is uncertain: sent and never answered, and may have been billed." in said.err
    assert "  1: sent 20" in said.err
    assert "Look at the account's usage at that time." in said.err
    assert "  the same fluxflex batch command with --resubmit-uncertain" in said.err
    assert provider.ledger.posts_received == 2


def test_what_failed_is_counted(run: Command, provide: Provide) -> None:
    """A folder with failed items ends with 9, and with a picture that cannot be had as well."""
    provider = provide(faults=Faults(files=lambda _: faults.custom(418)))
    Path("p.txt").write_text("a\nnsfw\n")
    assert run("batch", "p.txt", "-o", "out", "--base-url", provider.url).code == 9
    said = run("resume", "out", "--json", "--base-url", provider.url)
    assert said.code == 9
    assert [json.loads(line)["error"]["type"] for line in said.lines] == ["DownloadError"]
    assert "1 made, not saved" in said.err
    provider.simulator.faults = Faults()


def test_a_folder_without_a_batch(run: Command, room: Path) -> None:
    """There is nothing to go on with, and nothing is made."""
    assert run("resume", "out").code == 2
    (room / "out").mkdir()
    said = run("resume", "out")
    assert said.code == 2
    assert "out holds no batch: there is no journal.db in it." in said.err
    (room / "out" / "journal.db").write_text("something else " * 99)
    said = run("resume", "out")
    assert said.code == 1
    assert "is no journal of fluxflex" in said.err


def test_a_rehearsal_survives_a_kill(run: Command, room: Path, spawn: Callable[..., Any]) -> None:
    """The simulator died with the command; its tasks are followed by the next one."""
    (room / "p.txt").write_text("a\nb\nc\n")
    command = ("batch", "p.txt", "-o", "out", "--simulate", "--speed", 2)
    process = spawn(*command)
    assert "Simulated: " in process.stderr.readline()
    results = room / "out" / "results.jsonl"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    said = run(*command[:-1], 1000)
    assert said.code in {0, 10}
    assert len(results.read_text().splitlines()) == 3
    assert run("resume", "out", "--simulate").code == said.code
