"""What the command line's tests share: a provider in a thread, and ways to run commands.

Not a conftest.py: without packages there may be one only. Test files name the fixtures they want:
`run = shared.run`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
from typer.testing import CliRunner

from fluxflex.cli import target
from fluxflex.cli.app import app
from fluxflex.cli.talk import Talk
from fluxflex.simulator import Ledger, Simulator

KEY = "sk-very-secret-0123456789"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


@attrs.frozen
class Provider:
    """A simulator that runs in a loop and a thread of its own, for commands that own theirs."""

    simulator: Simulator
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.simulator.url

    @property
    def ledger(self) -> Ledger:
        """What it saw."""
        return self.simulator.ledger

    def await_tasks(self, count: int) -> None:
        """Wait until so many tasks were accepted."""
        waiting = self.simulator.wait_for(lambda ledger: len(ledger) >= count)
        asyncio.run_coroutine_threadsafe(waiting, self.loop).result(20)

    def finish_all(self) -> None:
        """Complete every task that still runs."""

        async def finish() -> None:
            for entry in self.ledger.entries:
                if entry.due > self.simulator.now():
                    self.simulator.finish(entry.task_id)

        asyncio.run_coroutine_threadsafe(finish(), self.loop).result(20)


@attrs.frozen
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What programs get, line by line."""
        return self.out.splitlines()


@pytest.fixture
def provide() -> Iterator[Callable[..., Provider]]:
    """Give a function that starts a provider; all of them stop at the test's end."""
    begun: list[tuple[Provider, threading.Thread]] = []

    def start(**options: Any) -> Provider:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        chosen: dict[str, Any] = {"durations": 0.0, "pictures": lambda _: PNG, **options}

        async def make() -> Simulator:
            simulator = Simulator(**chosen)
            await simulator.start()
            return simulator

        provider = Provider(asyncio.run_coroutine_threadsafe(make(), loop).result(20), loop)
        begun.append((provider, thread))
        return provider

    yield start
    for provider, thread in begun:
        asyncio.run_coroutine_threadsafe(provider.simulator.stop(), provider.loop).result(20)
        provider.loop.call_soon_threadsafe(provider.loop.stop)
        thread.join()
        provider.loop.close()


@pytest.fixture(autouse=True)
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with a key that must never be seen and no other environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("FLUXFLEX_BASE_URL", "UNIFICALLY_API_KEY", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLUXFLEX_API_KEY", KEY)
    return tmp_path


@pytest.fixture
def run() -> Callable[..., Said]:
    """Give a function that runs a command in this process; the key never shows in its output."""

    def invoke(*words: object, stdin: str | None = None) -> Said:
        # In a thread of its own: a loop that ends must not take the tests' own loop with it.
        with ThreadPoolExecutor(1) as pool:
            command = [str(word) for word in words]
            result = pool.submit(CliRunner().invoke, app, command, input=stdin).result()
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert KEY not in result.output
        assert "Traceback" not in result.output
        return Said(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Give a function that runs a command in a process of its own."""
    begun: list[subprocess.Popen[str]] = []

    def start(*words: object, code: str | None = None, **more: Any) -> subprocess.Popen[str]:
        command = ["-m", "fluxflex"] if code is None else ["-c", code]
        environment = os.environ | {"PYTHONWARNINGS": "error", "COVERAGE_PROCESS_START": ""}
        begun.append(
            subprocess.Popen(  # noqa: S603 - the commands are these tests' own
                [sys.executable, *command, *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
                **more,
            )
        )
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def rows() -> list[dict[str, Any]]:
    """Return the lines of the folder's results."""
    text = Path("out/results.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def pictures() -> list[str]:
    """Return the names of the folder's pictures."""
    return sorted(path.name for path in Path("out").glob("*.png"))


@pytest.fixture
def paid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the loopback for a provider that costs money."""
    monkeypatch.setattr(target, "is_loopback", lambda _: False)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let somebody be there to ask."""
    monkeypatch.setattr(Talk, "can_ask", True)
