"""The same batch again: what is told from the journal, what is followed, and what is bought."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from subprocess import PIPE
from typing import Any

import attrs
import pytest

from fluxflex import errors
from fluxflex.cli import stock
from fluxflex.cli.order import Order
from fluxflex.cli.plan import Plan
from fluxflex.cli.run import Run as Batch
from fluxflex.cli.source import FileSource, open_source
from fluxflex.cli.talk import Talk
from fluxflex.cli.target import Target
from fluxflex.simulator import Faults, Simulator, faults
from tests.cli import cli_helpers as shared
from tests.cli.cli_helpers import PNG, Provider, Said

Run = Callable[..., Said]
Provide = Callable[..., Provider]

room, run, provide, spawn = shared.room, shared.run, shared.provide, shared.spawn
rows, pictures = shared.rows, shared.pictures
paid, terminal = shared.paid, shared.terminal


def prompts(*lines: str) -> None:
    """Write the source."""
    Path("p.txt").write_text("".join(f"{line}\n" for line in lines))


@attrs.define
class Held:
    """A law of durations: the first tasks run until they are told to end, the others not at all."""

    count: int

    def seconds(self, _order: object, _drawn: float, /) -> float:
        """Return the seconds of the next task."""
        self.count -= 1
        return math.inf if self.count >= 0 else 0.0


async def plan_of(order: Order) -> Plan:
    """Return the plan of an order, as the command makes it."""
    source = open_source(order.source)
    assert isinstance(source, FileSource)
    source.total = sum(1 for _ in source.again())
    held = (order.folder / "journal.db").exists()
    return Plan(
        order=order, source=source, stock=await stock.take(order.folder) if held else stock.Stock()
    )


# -- what is done -----------------------------------------------------------------------------


def test_the_same_command_again_buys_nothing(run: Run, provide: Provide) -> None:
    """Programs get the same lines, nothing is sent or fetched, and no file is touched."""
    provider = provide()
    prompts("a", "b", "a")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    first = run(*command)
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    changed = {path: path.stat().st_mtime_ns for path in before if path.suffix != ".db"}
    again = run(*command)
    assert (first.code, again.code) == (0, 0)
    assert sorted(again.lines) == sorted(first.lines) == [f"out/{name}" for name in pictures()]
    assert provider.ledger.posts_received == provider.ledger.file_requests == 3
    assert changed == {path: path.stat().st_mtime_ns for path in changed}
    assert "3 items done before: not bought again." in again.err
    assert "3 items: 3 completed. $0.12 spent in all runs.\nThis run bought nothing" in again.err
    shown = run(*command, "--json")
    assert sorted(map(json.loads, shown.lines), key=lambda row: int(row["index"])) == rows()


@pytest.mark.usefixtures("paid")
def test_what_is_done_needs_no_consent(run: Run, provide: Provide) -> None:
    """Where nothing is left to buy, nobody is asked; one new line is asked for again."""
    provider = provide()
    prompts("a", "b")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    assert run(*command, "--yes").code == 0
    assert run(*command).code == 0
    prompts("a", "b", "c")
    assert run(*command).code == 2
    assert provider.ledger.posts_received == 2


@pytest.mark.usefixtures("paid", "terminal")
def test_the_question_counts_what_is_left(run: Run, provide: Provide) -> None:
    """Only what is still to be bought is in the estimate."""
    provider = provide(balance_usd=Decimal(5))
    prompts("a", "b")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    assert run(*command, stdin="y\n").code == 0
    prompts("a", "c", "b", "d", "e")
    said = run(*command, stdin="y\n")
    assert said.code == 0
    assert "2 items done before: not bought again." in said.err
    assert "3 pictures for $0.12. The account holds $4.92. Go on? [y/N]" in said.err
    assert "5 items: 5 completed. $0.20 spent in all runs.\n" in said.err
    assert "This run: 3 completed. $0.12 spent, " in said.err


def test_numbers_are_given_once(run: Run, provide: Provide) -> None:
    """New lines get the next numbers wherever they stand; removed ones stay in the results."""
    provider = provide()
    command = ("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    prompts("a", "b", "c")
    run(*command)
    page = Path("out/index.html").read_text(encoding="utf-8")
    prompts("new", "c", "a")
    assert run(*command).code == 0
    assert [row["prompt"] for row in rows()] == ["a", "b", "c", "new"]
    assert [row["index"] for row in rows()] == [0, 1, 2, 3]
    assert pictures() == ["0001-a.png", "0002-b.png", "0003-c.png", "0004-new.png"]
    assert "<b>4 items</b>" in Path("out/index.html").read_text(encoding="utf-8")
    assert "<b>3 items</b>" in page
    assert len(provider.ledger) == 4


def test_a_lost_picture_is_fetched_again(run: Run, provide: Provide) -> None:
    """A picture that is gone costs nothing a second time."""
    provider = provide()
    prompts("a", "b")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    run(*command)
    before = rows()
    Path("out/0002-b.png").unlink()
    assert run(*command).code == 0
    assert pictures() == ["0001-a.png", "0002-b.png"]
    assert rows() == before
    assert len(provider.ledger) == 2


def test_a_folder_may_move(run: Run, provide: Provide) -> None:
    """The names in it are its own."""
    provider = provide()
    prompts("a")
    run("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    Path("out").rename("moved")
    said = run("batch", "p.txt", "-o", "moved", "--base-url", provider.url)
    assert (said.code, said.lines) == (0, ["moved/0001-a.png"])
    assert provider.ledger.file_requests == 1


def test_the_budget_counts_all_runs(run: Run, provide: Provide) -> None:
    """What earlier runs spent is spent."""
    provider = provide()
    prompts(*"abcde")
    command = ("batch", "p.txt", "-o", "out", "-c", 1, "--base-url", provider.url)
    for _ in range(2):
        said = run(*command, "--budget", "0.10")
        assert said.code == 6
        assert "With a higher --budget the same command carries on." in said.err
        assert len(provider.ledger) == 2
    assert run(*command, "--budget", "0.20").code == 0
    assert provider.ledger.billed_usd == Decimal("0.20")
    assert len(rows()) == 5


# -- failed and uncertain ---------------------------------------------------------------------


def test_what_failed_is_bought_again_only_when_asked_for(run: Run, provide: Provide) -> None:
    """Without `--retry-failed` a failure is told again; with it, its money stays in the sum."""
    provider = provide(failure_rate=1.0)
    prompts("a", "b")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    assert run(*command).code == 9
    again = run(*command)
    assert again.code == 9
    assert "2 items failed before: not bought again (--retry-failed does)." in again.err
    assert f"  fluxflex batch p.txt -o out --base-url {provider.url} --retry-failed" in again.err
    assert len(provider.ledger) == 2
    before = rows()
    retried = run(*command, "--retry-failed")
    assert retried.code == 9
    assert "2 items failed before: bought once more." in retried.err
    assert len(provider.ledger) == 4
    assert {row["task_id"] for row in rows()}.isdisjoint({row["task_id"] for row in before})
    assert [row["index"] for row in rows()] == [0, 1]
    assert (
        "2 items: 2 failed ($0.08), 2 submitted again since ($0.08). $0.16 spent in all runs."
    ) in retried.err


def test_what_is_uncertain_is_told_and_not_sent(run: Run, provide: Provide) -> None:
    """It may have been billed: the same command leaves it, and says when it was sent."""
    provider = provide(faults=Faults(submit=[faults.accept_then_drop()]))
    prompts("a", "b")
    command = ("batch", "p.txt", "-o", "out", "-c", 1, "--base-url", provider.url)
    assert run(*command).code == 10
    posts = provider.ledger.posts_received
    said = run(*command)
    assert said.code == 10
    assert provider.ledger.posts_received == posts
    assert "1 item uncertain, may have been billed: not bought again" in said.err
    assert "  1: sent 20" in said.err
    assert [row["state"] for row in rows()] == ["UNCERTAIN", "COMPLETED"]
    again = run(*command, "--resubmit-uncertain")
    assert again.code == 0
    assert "1 picture of these may have been billed before: $0.04 may be paid twice." in again.err
    assert "1 submitted again since ($0.04 may be billed)" in again.err
    assert [row["state"] for row in rows()] == ["COMPLETED", "COMPLETED"]
    assert pictures() == ["0001-a.png", "0002-b.png"]


@pytest.mark.usefixtures("paid", "terminal")
def test_the_question_names_what_may_be_paid_twice(run: Run, provide: Provide) -> None:
    """Who says yes to `--resubmit-uncertain` knows what that may cost."""
    provider = provide(faults=Faults(submit=[faults.accept_then_drop()]))
    prompts("a")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    assert run(*command, stdin="y\n").code == 10
    said = run(*command, "--resubmit-uncertain", stdin="n\n")
    assert said.code == 1
    assert said.err.count("$0.04 may be paid twice. The account holds $") == 1
    assert provider.ledger.posts_received == 1


# -- other people's sources, folders and accounts ----------------------------------------------


@pytest.mark.parametrize("options", [[], ["--budget", "1"], ["-q", "2K", "--budget", "1"]])
def test_another_source_buys_nothing_without_yes(
    run: Run, provide: Provide, options: list[str]
) -> None:
    """A folder with finished items is not filled with what has nothing to do with them."""
    provider = provide()
    prompts("a", "b")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    run(*command)
    if "-q" not in options:
        prompts("c", "d")
    said = run(*command, *options)
    assert said.code == 2
    assert "out holds 2 items of another batch: none of them is asked for by p.txt" in said.err
    assert "Nothing was bought." in said.err
    assert len(provider.ledger) == 2
    assert run(*command, *options, "--yes").code == 0
    assert len(provider.ledger) == 4


def test_another_pipe_buys_nothing_without_yes(provide: Provide, spawn: Callable[..., Any]) -> None:
    """The first line tells whether stdin is what the folder was begun with."""
    provider = provide()
    command = ("batch", "-", "-o", "out", "--base-url", provider.url)

    def pipe(text: str, *more: str) -> tuple[int, str]:
        process = spawn(*command, *more, stdin=PIPE)
        _, err = process.communicate(text, timeout=30)
        return process.returncode, err

    assert pipe("a\n{bad\nb\n")[0] == 8
    code, err = pipe("c\n", "--budget", "1")
    assert code == 2
    assert "none of them is asked for by stdin" in err
    assert len(provider.ledger) == 2
    assert pipe("a\n{bad\nc\n")[0] == 8
    assert [row["prompt"] for row in rows()] == ["a", "b", None, "c"]
    assert len(provider.ledger) == 3
    assert pipe("d\n", "--yes")[0] == 0


def test_a_dry_run_tells_what_a_folder_has(run: Run, provide: Provide) -> None:
    """What is done, failed and uncertain is counted, and only the rest is estimated."""
    provider = provide(faults=Faults(submit=[faults.accept_then_drop()]))
    prompts("a", "b", "nsfw")
    command = ("batch", "p.txt", "-o", "out", "-c", 1, "--base-url", provider.url)
    assert run(*command).code == 10
    prompts("a", "b", "nsfw", "new")
    said = run(*command, "--dry-run", "--json")
    assert said.code == 0
    assert json.loads(said.out) == {
        "count": 1,
        "estimate_usd": 0.04,
        "done": 1,
        "failed": 1,
        "running": 0,
        "uncertain": 1,
    }
    for words in ("1 item done before", "1 item failed before", "1 item uncertain"):
        assert words in said.err
    assert provider.ledger.posts_received == 3
    prompts("other")
    assert "out holds 3 items of another batch" in run(*command, "--dry-run").err


@pytest.mark.usefixtures("paid", "terminal")
def test_another_account_is_refused_before_the_question(run: Run, provide: Provide) -> None:
    """A folder belongs to the account that began it: nothing is asked, nothing is bought."""
    prompts("a")
    ours, theirs = provide(), provide(user_id=99)
    assert run("batch", "p.txt", "-o", "out", "--yes", "--base-url", ours.url).code == 0
    prompts("a", "b")
    for more in ([], ["--yes"]):
        said = run("batch", "p.txt", "-o", "out", "--base-url", theirs.url, *more)
        assert said.code == 3
        assert "belongs to another account" in said.err
        assert "another folder (-o)" in said.err
        assert "Go on?" not in said.err
    assert theirs.ledger.posts_received == 0


def test_live_and_simulated_never_mix(run: Run, provide: Provide) -> None:
    """A rehearsal is another account than any provider, one on this machine included."""
    provider = provide()
    prompts("a")
    command = ("batch", "p.txt", "-o", "out")
    assert run(*command, "--base-url", provider.url).code == 0
    assert run(*command, "--simulate").code == 3
    assert run("resume", "out", "--simulate").code == 3
    assert run("batch", "p.txt", "-o", "play", "--simulate", "--speed", 1000).code == 0
    prompts("a", "b")
    assert run("batch", "p.txt", "-o", "play", "--base-url", provider.url).code == 3
    assert len(provider.ledger) == 1


def test_a_rehearsal_is_carried_on(run: Run) -> None:
    """Each run has a simulator of its own; all of them are one account."""
    prompts("a", "b")
    command = ("batch", "p.txt", "-o", "out", "--simulate", "--speed", 1000)
    first = run(*command)
    again = run(*command)
    assert (first.code, again.code) == (0, 0)
    assert sorted(again.lines) == sorted(first.lines)
    assert "This run bought nothing" in again.err


def test_money_is_looked_at_before_anything_is_bought(run: Run, provide: Provide) -> None:
    """A balance below the estimate is told, also with `--yes`; a top-up may still come."""
    prompts("a", "b")
    url = provide(balance_usd=Decimal("0.05")).url
    said = run("batch", "p.txt", "-o", "out", "-c", 1, "--yes", "--base-url", url)
    assert said.code == 6
    assert said.err.startswith("The account holds $0.05, less than the $0.08 that this will cost")


# -- what was broken off -----------------------------------------------------------------------


def test_lost_lines_are_filled_in(run: Run, provide: Provide) -> None:
    """A kill between saving and writing leaves a gap that the journal fills."""
    provider = provide()
    prompts("a", "b", "c", "d")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    run(*command)
    whole = rows()
    lines = Path("out/results.jsonl").read_bytes().splitlines(keepends=True)
    Path("out/results.jsonl").write_bytes(lines[3] + lines[0] + lines[1][:40])
    prompts("a", "b", "d")
    assert run(*command).code == 0
    assert rows() == whole
    assert len(provider.ledger) == 4


def test_a_missing_page_is_written_again(run: Run, provide: Provide) -> None:
    """What can be made from the results is made."""
    prompts("a")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provide().url)
    run(*command)
    page = Path("out/index.html").read_bytes()
    Path("out/index.html").unlink()
    run(*command)
    assert Path("out/index.html").read_bytes() == page


def test_a_page_that_cannot_be_written_is_told(room: Path, run: Run, provide: Provide) -> None:
    """The pictures and the results are there all the same."""
    prompts("a")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provide().url)
    run(*command)
    (room / "out" / "index.html").unlink()
    (room / "out" / "index.html").mkdir()
    prompts("a", "b")
    said = run(*command)
    assert said.code == 1
    assert "out cannot be completed: Is a directory." in said.err
    assert said.err.endswith("2 pictures in out.\n")
    assert len(rows()) == 2


def test_a_journal_that_is_lost_at_the_end_is_told(
    run: Run, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came is written down; the sums are those of the beginning."""

    async def lost(*_: object) -> stock.Stock:
        raise errors.JournalError("The disk is gone")

    prompts("a")
    monkeypatch.setattr(stock, "take", lost)
    said = run("batch", "p.txt", "-o", "out", "--base-url", provide().url)
    assert said.code == 1
    assert "fluxflex: The disk is gone." in said.err
    assert [row["state"] for row in rows()] == ["COMPLETED"]


def test_after_a_kill_the_same_command_carries_on(
    run: Run, provide: Provide, spawn: Callable[..., Any]
) -> None:
    """No prompt is accepted twice, and whatever was accepted is known or told as uncertain."""
    provider = provide(durations=Held(2))
    prompts(*"abcdef")
    command = ("batch", "p.txt", "-o", "out", "-c", 2, "--base-url", provider.url)
    process = spawn(*command)
    provider.await_tasks(2)
    process.kill()
    process.communicate()
    provider.finish_all()
    said = run(*command)
    assert said.code in {0, 10}
    assert {prompt: len(tasks) for prompt, tasks in provider.ledger.by_prompt().items()} == (
        dict.fromkeys("abcdef", 1)
    )
    found = rows()
    assert [row["index"] for row in found] == list(range(6))
    assert {row["state"] for row in found} <= {"COMPLETED", "UNCERTAIN"}
    made = {row["path"] for row in found if row["state"] == "COMPLETED"}
    assert made == set(pictures())


async def test_what_was_left_is_followed(capsys: pytest.CaptureFixture[str]) -> None:
    """Detached tasks are paid for: the next run waits for them and buys only the rest."""
    prompts("a", "b", "c", "d")
    async with Simulator(durations=Held(2), pictures=lambda _: PNG) as simulator:
        order = Order(
            source="p.txt", out=Path("out"), target=Target(base_url=simulator.url), concurrency=2
        )
        first = Batch(await plan_of(order), Talk())
        work = asyncio.ensure_future(first.run())
        await simulator.wait_for(lambda ledger: len(ledger) == 2)
        first.interrupts.interrupt()
        first.interrupts.interrupt()
        assert await work == 130
        assert [row["state"] for row in rows()] == ["ABANDONED"] * 2 + ["QUEUED"] * 2
        for entry in simulator.ledger.entries:
            simulator.finish(entry.task_id)
        # The second line was edited meanwhile, and the last is gone.
        prompts("a", "new", "c")
        assert await Batch(await plan_of(order), Talk()).run() == 0
        assert sorted(simulator.ledger.by_prompt()) == ["a", "b", "c", "new"]
    found = rows()
    assert [row["prompt"] for row in found] == ["a", "b", "new", "c"]
    assert [row["state"] for row in found] == ["COMPLETED", "ABANDONED", "COMPLETED", "COMPLETED"]
    said = capsys.readouterr().err
    assert "1 task left running, paid for. To fetch, at no further cost:" in said
    assert "4 items: 3 completed ($0.12), 1 still running ($0.04). $0.16 spent in all runs." in said
    assert "This run: 2 completed. $0.08 spent, " in said


async def test_two_at_once_are_refused() -> None:
    """Who comes second is told at once, and buys nothing."""
    prompts("a")
    async with Simulator(durations=Held(1), pictures=lambda _: PNG) as simulator:
        order = Order(source="p.txt", out=Path("out"), target=Target(base_url=simulator.url))
        plan = await plan_of(order)
        work = asyncio.ensure_future(Batch(plan, Talk()).run())
        await simulator.wait_for(lambda ledger: len(ledger) == 1)
        with pytest.raises(errors.JournalError, match="is in use"):
            await Batch(plan, Talk()).run()
        with pytest.raises(errors.JournalError, match="is in use"):
            await plan_of(order)
        simulator.finish(simulator.ledger.entries[0].task_id)
        assert await work == 0
        assert len(simulator.ledger) == 1
