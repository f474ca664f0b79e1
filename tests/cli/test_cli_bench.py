"""`fluxflex bench`: what it asks, what it says, what it writes, and how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fluxflex.cli import bench
from fluxflex.cli.talk import Talk
from fluxflex.cli.target import Target
from fluxflex.simulator import Faults, Manual, Shapes, Simulator, faults
from tests.cli import cli_helpers as shared
from tests.cli.cli_helpers import Provider, Said

Run = Callable[..., Said]
Provide = Callable[..., Provider]

room, provide, run = shared.room, shared.provide, shared.run
paid, terminal = shared.paid, shared.terminal

# Tasks that are finished in the reply to their submit: no test waits for a look.
AT_ONCE = Shapes(accepted="already-completed")
QUICK = ("bench", "--simulate", "--latency", 0, "-c", "1,2", "--tasks", 2)
FILES = ["bench.json", "bench.png", "bench.svg"]


def live(provider: Provider, *more: object) -> tuple[object, ...]:
    """Return the words of a small bench against a provider."""
    return ("bench", "--base-url", provider.url, "-c", "2,1", "--tasks", 2, *more)


def test_a_rehearsal_needs_no_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """People get a table and an advice, programs nothing; and it is said what is simulated."""
    monkeypatch.delenv("FLUXFLEX_API_KEY")
    said = run(*QUICK)
    assert (said.code, said.out) == (0, "")
    lines = said.err.splitlines()
    assert lines[0].startswith("Simulated: nothing is bought, and money is play money.")
    assert "the provider's about 16 s" in lines[0]
    assert lines[1] == "4 tasks for about $0.16: with 1 and 2 at once."
    assert lines[2].startswith("1 at once: ")
    assert "(2 of 2 tasks in " in lines[2]
    assert "4 pictures, none downloaded, $0.16 spent (simulated: nothing was bought)." in lines
    assert lines[-1].startswith("Use a concurrency of ")


def test_programs_get_an_object_a_line(run: Run) -> None:
    """One for each level as it ends, and the advice at the end."""
    said = run(*QUICK, "--json", "-q", "2K")
    assert said.code == 0
    first, second, advice = map(json.loads, said.lines)
    assert [row["concurrency"] for row in (first, second)] == [1, 2]
    assert first["kind"] == "level"
    assert first["spent_usd"] == 0.12
    assert set(first["lag"]) == {"p50", "p95", "p99"}
    assert advice["kind"] == "advice"
    assert advice["concurrency"] in {1, 2}
    assert advice["files"] == advice["skipped"] == []


def test_the_files(run: Run) -> None:
    """With a folder stdout gets their paths; the JSON holds all that was measured."""
    said = run(*QUICK, "-o", "deep/out")
    assert said.code == 0
    assert said.lines == [f"deep/out/bench.{kind}" for kind in ("json", "svg", "png")]
    assert sorted(path.name for path in Path("deep/out").iterdir()) == FILES
    found = json.loads(Path("deep/out/bench.json").read_text())
    assert [level["concurrency"] for level in found["levels"]] == [1, 2]
    assert found["simulated"] is True
    assert found["task_seconds"] == 0
    assert found["advice"]["reason"]


def test_an_earlier_bench_is_never_overwritten(run: Run) -> None:
    """It may have cost money. Neither is a file taken for a folder."""
    Path("out").mkdir()
    Path("out/bench.svg").touch()
    Path("file").touch()
    for place in ("out", "file"):
        said = run(*QUICK, "-o", place)
        assert said.code == 2
        assert "Nothing was bought." in said.err


def test_without_the_extra_nothing_is_measured(
    run: Run, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the plot cannot be made that is found first; without -o it is not needed."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    provider = provide(shapes=AT_ONCE)
    said = run(*live(provider), "-o", "out")
    assert said.code == 1
    assert "pip install 'fluxflex[plot]'" in said.err
    assert not Path("out").exists()
    assert provider.ledger.posts_received == 0
    assert run(*live(provider)).code == 0


def test_a_folder_that_takes_no_files(
    run: Run, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found before anything is bought."""

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "out")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    provider = provide(shapes=AT_ONCE)
    said = run(*live(provider), "-o", "out")
    assert (said.code, said.err) == (1, "fluxflex: Permission denied: out\n")
    assert provider.ledger.posts_received == 0


def test_a_folder_that_fills_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured is shown all the same."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    said = run(*QUICK, "-o", "out")
    assert said.code == 1
    assert "out cannot be completed: No space left on device." in said.err
    assert "Use a concurrency of " in said.err


# -- usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "0", "1,x", "1;4", "-1", "1.5", "1,,2"])
def test_levels_are_whole_numbers(run: Run, text: str) -> None:
    """Anything else is a usage error."""
    assert run("bench", "--simulate", f"--concurrency={text}").code == 2


def test_levels_come_in_order_and_once() -> None:
    """However they were given."""
    assert bench.levels("64, 1,4,4") == (1, 4, 64)


def test_the_simulators_options_want_a_simulator(run: Run) -> None:
    """A live bench with a latency of one's own would be a mistake that costs money."""
    said = run("bench", "--latency", 1, "--fault", "busy=0.1", "--yes")
    assert said.code == 2
    assert said.err == "fluxflex: Only with --simulate: --latency, --fault.\n"


def test_fields_are_checked_before_anything_is_asked(run: Run) -> None:
    """A request that nobody can buy is found first."""
    assert run("bench", "-q", "9K", "--yes").code == 8


# -- money ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("paid")
def test_without_a_terminal_consent_is_needed(run: Run, provide: Provide) -> None:
    """Nobody can be asked: `--budget` or `--yes`."""
    provider = provide(shapes=AT_ONCE)
    said = run(*live(provider))
    assert said.code == 2
    assert "give --budget USD or --yes" in said.err
    assert run(*live(provider, "--yes")).code == 0
    assert len(provider.ledger) == 4


@pytest.mark.usefixtures("paid", "terminal")
@pytest.mark.parametrize(("answer", "code", "bought"), [("y\n", 0, 4), ("n\n", 1, 0)])
def test_on_a_terminal_it_asks_once(
    run: Run, provide: Provide, answer: str, code: int, bought: int
) -> None:
    """With the count, the money and the balance; what is declined leaves no folder."""
    provider = provide(shapes=AT_ONCE)
    said = run(*live(provider, "-o", "out"), stdin=answer)
    assert said.code == code
    assert "4 pictures for $0.16. The account holds $100.00. Go on? [y/N]" in said.err
    assert len(provider.ledger) == bought
    assert Path("out").exists() is bool(bought)


@pytest.mark.usefixtures("paid")
def test_one_budget_for_all_levels(run: Run, provide: Provide) -> None:
    """What it cannot pay for is left out, is told, and makes the exit code one of money."""
    provider = provide(shapes=AT_ONCE)
    said = run(*live(provider, "--budget", "0.10", "--json"))
    assert said.code == 6
    assert "The budget of $0.10 is less" in said.err
    assert (
        "Not measured, since $0.02 of the budget is left, which is less than the next level may "
        "cost: 2." in said.err
    )
    level, advice = map(json.loads, said.lines)
    assert level["lag"] is None
    assert advice["skipped"] == [2]
    assert "the provider does not say when a task was finished" in said.err
    assert len(provider.ledger) == 2


@pytest.mark.usefixtures("paid")
def test_a_budget_for_nothing(run: Run, provide: Provide) -> None:
    """No level can be paid for: there is nothing to show and nothing to write."""
    provider = provide(shapes=AT_ONCE)
    said = run(*live(provider, "--budget", "0.01", "--json", "-o", "out"))
    assert said.code == 6
    assert "No level was measured to its end: there is no advice." in said.err
    (advice,) = map(json.loads, said.lines)
    assert advice["concurrency"] is None
    assert list(Path("out").iterdir()) == []


@pytest.mark.usefixtures("paid")
def test_what_was_agreed_to_is_the_budget(run: Run, provide: Provide) -> None:
    """`--yes` agrees to the estimate, and to no more."""
    provider = provide(shapes=AT_ONCE, balance_usd=Decimal(1))
    assert run(*live(provider, "--yes")).code == 0
    assert provider.simulator.balance_usd == Decimal("0.84")


# -- what goes wrong -----------------------------------------------------------------------------


def test_a_key_that_is_refused(run: Run, provide: Provide) -> None:
    """It is told once, with the exit code of the account."""
    said = run(*live(provide(api_keys=["another"])))
    assert said.code == 3
    assert said.err.count("Invalid API key") == 1


def test_an_empty_account(run: Run, provide: Provide) -> None:
    """What was measured is shown, and marked."""
    said = run(*live(provide(shapes=AT_ONCE, balance_usd=Decimal("0.12"))))
    assert said.code == 6
    assert said.err.count("Insufficient balance") == 1
    assert "* ended early" in said.err
    assert "Use a concurrency of 1." in said.err


def test_tasks_that_fail_are_counted(run: Run) -> None:
    """Each kind of error is told once; a level without a picture is the last."""
    said = run(*QUICK, "--failure-rate", 1)
    assert said.code == 9
    assert "2 tasks: " in said.err
    assert "failed" in said.err
    assert "2 at once: " not in said.err
    assert "there is no advice" in said.err


def test_submits_that_are_never_answered(run: Run, provide: Provide) -> None:
    """They may have been billed, which is told with the money."""
    provider = provide(shapes=AT_ONCE, faults=Faults(submit=[faults.accept_then_drop()]))
    said = run(*live(provider))
    assert said.code == 10
    assert "$0.04 may still be billed" in said.err
    assert "certain" in said.err


# -- interruptions --------------------------------------------------------------------------------


def run_of(simulator: Simulator, talk: Talk, **more: Any) -> bench.Run:
    """Return a run against a simulator of the test's own."""
    target = Target(base_url=simulator.url)
    order = bench.Order(levels=(2, 4), tasks=4, target=target, **more)
    return bench.Run(order, talk, Decimal("0.32"))


async def test_one_interrupt_drains_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing more is submitted; what was measured so far is shown."""
    async with Simulator(durations=Manual()) as simulator:
        work = asyncio.ensure_future(run_of(simulator, Talk()).run())
        await simulator.wait_for(lambda ledger: len(ledger) == 2)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        for entry in simulator.ledger.entries:
            simulator.finish(entry.task_id)
        assert await work == 130
        assert len(simulator.ledger) == 2
    said = capsys.readouterr().err
    assert "Stopping: nothing more is submitted. Waiting for 2 tasks that still run." in said
    assert "Press Ctrl-C again" in said
    assert "2 at once: " in said
    assert "(2 of 4 tasks in " in said
    assert "4 at once: " not in said
    assert "there is no advice" in said


async def test_a_second_interrupt_names_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    """The tasks are paid for, and no journal has their ids."""
    async with Simulator(durations=Manual()) as simulator:
        running = run_of(simulator, Talk())
        work = asyncio.ensure_future(running.run())
        await simulator.wait_for(lambda ledger: len(ledger) == 2)
        running.interrupts.interrupt()
        running.interrupts.interrupt()
        assert await work == 130
        ids = [entry.task_id for entry in simulator.ledger.entries]
    said = capsys.readouterr().err
    assert "Detaching from what still runs." in said
    assert f"fluxflex wait TASK_ID. They are: {' '.join(ids)}" in said
    assert "(0 of 4 tasks in " in said


async def test_interrupted_at_the_very_end_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    """All that was asked for was measured."""
    async with Simulator(durations=0.0, shapes=AT_ONCE) as simulator:
        running = run_of(simulator, Talk())
        assert await running.run() == 0
        running.interrupts.signal = signal.SIGINT
        assert not running._broken_off
    assert "Use a concurrency of " in capsys.readouterr().err


async def test_a_terminal_shows_the_level_under_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many of its tasks are done, and the money of all levels."""
    monkeypatch.setattr(Talk, "on_terminal", True)
    async with Simulator(durations=Manual()) as simulator:
        running = run_of(simulator, Talk())
        work = asyncio.ensure_future(running.run())
        await simulator.wait_for(lambda ledger: len(ledger) == 2)
        seen = running._snapshot()
        assert (seen.total, seen.done, seen.running) == (4, 0, 2)
        running.interrupts.interrupt()
        running.interrupts.interrupt()
        await work
    capsys.readouterr()
