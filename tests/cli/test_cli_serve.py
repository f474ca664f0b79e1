"""`fluxflex simulate`, `fluxflex --help`, and the command line without its extra."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fluxflex import Session
from fluxflex.cli import serve
from fluxflex.cli.exits import UsageError
from fluxflex.cli.talk import Talk
from fluxflex.simulator import SeenRequest
from fluxflex.simulator.faults import Arrival
from tests.cli import cli_helpers as shared
from tests.cli.cli_helpers import Said

Run = Callable[..., Said]
Spawn = Callable[..., "subprocess.Popen[str]"]

room, run, spawn, provide = shared.room, shared.run, shared.spawn, shared.provide


async def test_the_simulator_serves_until_a_signal(capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout has the URL, stderr how to use it, and at the end what happened."""
    setting = serve.Setting(latency=0, max_in_flight=3, retry_after=1)
    work = asyncio.ensure_future(serve.serve(setting, Talk()))
    url = ""
    while not url:
        await asyncio.sleep(0)
        url = capsys.readouterr().out.strip()
    async with Session("key", base_url=url) as session:
        await session.generate("a sea")
    signal.raise_signal(signal.SIGTERM)
    assert await work == 0
    ended = capsys.readouterr().err
    assert ended.startswith("Ended: 1 task accepted (1 completed), $0.04 billed, 1 POST, ")


def test_the_simulator_in_a_process(spawn: Spawn) -> None:
    """It says how to use it, and Ctrl-C ends it with 0."""
    process = spawn("simulate", "--speed", 10, "--failure-rate", 0.1, "--balance", 5)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert f"export FLUXFLEX_BASE_URL={url} FLUXFLEX_API_KEY=simulated" in err
    assert "Ended: 0 tasks accepted, $0.00 billed" in err


def test_a_port_that_is_taken(run: Run, provide: Callable[..., shared.Provider]) -> None:
    """An address that cannot be had is told in words, with what to do about it."""
    port = provide().url.rpartition(":")[2]
    said = run("simulate", "--port", port)
    assert said.code == 1
    assert f"127.0.0.1:{port}" in said.err
    assert "address already in use" in said.err
    assert "Without --port" in said.err


@pytest.mark.parametrize("word", ["storm=1", "busy=2", "busy=often", "busy=nan"])
def test_unknown_faults_are_usage_errors(run: Run, word: str) -> None:
    """A fault has a known name and a share from 0 to 1."""
    assert run("simulate", "--fault", word).code == 2
    with pytest.raises(UsageError):
        serve.scripts([word])


@pytest.mark.parametrize("name", serve.FAULTS)
async def test_every_fault_by_name_can_happen(name: str) -> None:
    """Each named fault hits its kind of request, and a share of 0 hits none."""
    kind, make = serve.FAULTS[name]
    always = getattr(serve.scripts([name, f"{name}=0"]), kind)
    never = getattr(serve.scripts([f"{name}=0"]), kind)
    seen = SeenRequest("GET", "/", "here", None)
    arrival = Arrival(1, seen, b"")
    assert always(arrival) == make()
    assert never(arrival) is None


# -- the outside ------------------------------------------------------------------------------


def test_help_and_version_are_quick(spawn: Spawn) -> None:
    """Neither needs aiohttp: what is not used is not imported."""
    code = (
        "import sys\n"
        "from fluxflex.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'aiohttp', 'asyncio', 'uvloop'} & set(sys.modules), 'too much'\n"
    )
    helps = ([name, "--help"] for name in ("batch", "bench", "simulate"))
    for words in (["--help"], *helps, ["--version"]):
        process = spawn(*words, code=code)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")
        assert out.strip()


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_line_names_it(spawn: Spawn, missing: str) -> None:
    """The command line is an extra; without it the command says how to get it."""
    code = f"import sys; sys.modules['{missing}'] = None; import fluxflex.cli as c; c.main()"
    process = spawn(code=code)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert err.count("\n") == 1
    assert "pip install 'fluxflex[cli]'" in err


def test_the_commands_are_those_of_the_contract(run: Run) -> None:
    """`fluxflex` alone shows what there is."""
    said = run("--help")
    assert said.code == 0
    for name in ("generate", "batch", "status", "wait", "simulate", "bench"):
        assert f" {name} " in said.out


def test_examples_are_valid(run: Run) -> None:
    """Every prompt of the examples can be bought."""
    examples = Path(__file__).parents[2] / "docs" / "examples" / "prompts.jsonl"
    said = run("batch", examples, "--dry-run")
    assert said.code == 0
    assert said.err.startswith("24 pictures for about $1.08.")
