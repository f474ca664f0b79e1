"""What the command line says is so: of lost pictures, of the rest, and of the way on."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from fluxflex import Outcome, Session, TaskState, errors
from fluxflex.cli import gallery, hints, places, progress, prospect, results
from fluxflex.cli.closing import Closing
from fluxflex.cli.echo import Echo
from fluxflex.cli.progress import Snapshot
from fluxflex.cli.prospect import Prospect
from fluxflex.cli.results import Results
from fluxflex.cli.source import FileSource, open_source
from fluxflex.cli.stock import Stock
from fluxflex.cli.summary import Tally
from fluxflex.cli.talk import Talk
from fluxflex.simulator import Faults, Manual, faults
from tests.cli import cli_helpers as shared
from tests.cli.cli_helpers import PNG, Provider, Said

Run = Callable[..., Said]
Provide = Callable[..., Provider]

room, run, provide, spawn = shared.room, shared.run, shared.provide, shared.spawn
rows = shared.rows


def prompts(*lines: str) -> None:
    """Write the source."""
    Path("p.txt").write_text("".join(f"{line}\n" for line in lines))


# -- pictures that are gone -------------------------------------------------------------------


def test_resume_brings_lost_pictures_back(run: Run, provide: Provide) -> None:
    """What was saved once and is gone is fetched again, and costs nothing."""
    provider = provide()
    prompts("a", "b", "c")
    run("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    before = rows()
    for name in ("0001-a.png", "0003-c.png"):
        (Path("out") / name).unlink()
    said = run("resume", "out", "--base-url", provider.url)
    assert said.code == 0
    assert "Following 2 tasks, at no further cost." in said.err
    assert sorted(said.lines) == ["out/0001-a.png", "out/0003-c.png"]
    assert "3 items: 3 completed." in said.err
    assert rows() == before
    assert provider.ledger.posts_received == 3


def test_a_lost_picture_that_cannot_be_had_is_made_and_not_saved(
    run: Run, provide: Provide
) -> None:
    """The end counts what lies in the folder, not what once lay there."""
    provider = provide()
    prompts("a", "b")
    run("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    Path("out/0002-b.png").unlink()
    provider.simulator.faults = Faults(files=lambda _: faults.custom(418))
    said = run("resume", "out", "--base-url", provider.url)
    assert said.code == 9
    assert "1 completed ($0.04), 1 made, not saved ($0.04)" in said.err
    assert "1 picture made and not saved, paid for." in said.err
    assert "1 picture in out." in said.err


# -- what is said of items --------------------------------------------------------------------


def test_what_sets_the_exit_code_is_said_every_time(run: Run, provide: Provide) -> None:
    """A picture that cannot be fetched again has its reason on every later run."""
    provider = provide(faults=Faults(files=lambda _: faults.custom(418)))
    prompts("a")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    for _ in range(3):
        said = run(*command)
        assert said.code == 9
        assert "1: The picture could not be fetched: " in said.err


def test_pictures_of_a_later_run_are_counted(run: Run, provide: Provide) -> None:
    """A run that only saves what an earlier one made has saved something."""
    prompts("a", "b")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provide().url)
    run(*command, "--no-download")
    said = run(*command)
    assert said.code == 0
    assert "2 pictures in out." in said.err
    links = run(*command, "--no-download")
    assert sorted(links.lines) == sorted(row["url"] for row in rows())


def test_a_provider_that_is_not_reached_is_told_once(run: Run) -> None:
    """One line with a count, and the command that carries on."""
    prompts(*"abcdefgh")
    said = run("batch", "p.txt", "-o", "out", "--base-url", "http://127.0.0.1:9")
    assert said.code == 9
    assert said.err.count("The provider was not reached: ") == 1
    assert "7 more items as item " in said.err
    assert "To carry on, where nothing is paid twice:\n  fluxflex batch p.txt -o out" in said.err


def test_what_goes_wrong_alike_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The first few are told, the others counted; another fault is another matter."""
    echo = Echo(Talk())
    for number in range(1, 11):
        full = errors.DownloadError(
            f"The picture could not be written to 'out/{number}.png': full",
            task_id=f"t{number}",
            url="u",
            local=True,
        )
        echo.tell(number, full, "full")
        echo.tell(number + 20, errors.APIConnectionError("Nobody there"), "nobody")
    echo.tell(99, errors.FluxFlexError("no"), "no")
    echo.finish()
    echo.finish()
    assert capsys.readouterr().err.splitlines() == [
        "1: full",
        "21: nobody",
        "2: full",
        "3: full",
        "99: no",
        "7 more items as item 1: 4, 5, 6, 7, 8 …",
        "9 more items as item 21: 22, 23, 24, 25, 26 …",
    ]


# -- progress ---------------------------------------------------------------------------------


def test_progress_counts_each_for_what_it_is() -> None:
    """Done has ended, failed is the provider's word, and the rate is that of new pictures."""
    tally = Tally()
    lost = errors.FluxFlexError("lost")
    for state, replayed in (
        (TaskState.COMPLETED, True),
        (TaskState.COMPLETED, False),
        (TaskState.FAILED, False),
        (TaskState.UNCERTAIN, False),
        (TaskState.TIMED_OUT, False),
        (TaskState.ABANDONED, False),
        (TaskState.QUEUED, False),
    ):
        error = None if state is TaskState.COMPLETED else lost
        outcome = Outcome(index=0, item=None, state=state, replayed=replayed)
        tally.count(outcome, error)
    assert (tally.told, tally.done, tally.made, tally.left_running, tally.open) == (7, 3, 1, 2, 1)
    at = Snapshot(
        done=tally.done,
        total=9,
        running=2,
        failed=1,
        elapsed=2.0,
        spent=Decimal(0),
        reserved=Decimal(0),
        uncertain=1,
        left_running=2,
        unsent=1,
        replayed=1,
        made=1,
    )
    assert progress.pace(at) == [
        "2 running",
        "1 failed",
        "1 done before",
        "1 uncertain",
        "2 left running",
        "1 not sent",
        "30.0 pictures/min",
        "0:04 left",
    ]


# -- the way on -------------------------------------------------------------------------------


def commands(said: Said) -> list[list[str]]:
    """Return the commands that were named, without the program."""
    lines = [line.strip() for line in said.err.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("fluxflex ")]


def test_the_named_budget_is_enough(run: Run, provide: Provide) -> None:
    """After a budget that fell short the command that carries on buys all of the rest."""
    provider = provide()
    prompts(*"abcde")
    command = ("batch", "p.txt", "-o", "out", "-c", 1, "--base-url", provider.url)
    said = run(*command, "--budget", "0.10")
    assert said.code == 6
    assert "nothing is paid twice, with a budget that is enough for it:" in said.err
    (again,) = commands(said)
    assert again[again.index("--budget") + 1] == "0.20"
    assert run(*again).code == 0
    assert len(provider.ledger) == 5


def test_buying_what_failed_again_is_not_called_free(run: Run, provide: Provide) -> None:
    """The command repeats `--retry-failed`, so it says what that does."""
    provider = provide(failure_rate=1.0)
    prompts("a", "b", "c")
    command = ("batch", "p.txt", "-o", "out", "-c", 1, "--base-url", provider.url)
    assert run(*command, "--budget", "0.08").code == 6
    said = run(*command, "--retry-failed", "--budget", "0.09")
    assert said.code == 6
    assert "To carry on, where what failed is bought once more, with a budget" in said.err
    (again,) = commands(said)
    assert again[again.index("--budget") + 1] == "0.20"
    assert run(*again).code == 9
    assert len(provider.ledger) == 5


def test_what_still_runs_is_named_after_a_stop(run: Run, provide: Provide) -> None:
    """A budget that ends the run before them leaves running tasks, and their command, named."""
    provider = provide(durations=Manual())
    prompts("a", "b")
    command = ("batch", "p.txt", "-o", "out", "-c", 1, "--base-url", provider.url)
    assert run(*command, "--timeout", "0.05", "--budget", "0.04").code == 6
    prompts("new", "a", "b")
    said = run(*command, "--budget", "0.04")
    assert said.code == 6
    assert "1 item still running at the provider, paid for: not bought again." in said.err
    assert "1 task left running, paid for. To fetch, at no further cost:" in said.err
    assert ["resume", "out", "--base-url", provider.url] in commands(said)


def test_what_still_runs_is_named_without_the_account(
    run: Run, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be begun, what is paid for is named all the same."""
    provider = provide(durations=Manual())
    prompts("a", "b")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    run(*command, "--timeout", "0.05")
    monkeypatch.delenv("FLUXFLEX_API_KEY")
    said = run(*command)
    assert said.code == 3
    assert "2 tasks left running, paid for." in said.err


def test_live_and_simulated_folders_say_what_they_are(run: Run, provide: Provide) -> None:
    """Before anything else is said, and in words of the command line."""
    url = provide().url
    prompts("a")
    run("batch", "p.txt", "-o", "out", "--base-url", url)
    run("batch", "p.txt", "-o", "play", "--simulate", "--speed", 1000)
    for said in (
        run("batch", "p.txt", "-o", "out", "--simulate"),
        run("resume", "out", "--simulate"),
    ):
        assert said.code == 3
        assert said.err.startswith(
            "fluxflex: out holds a real batch; --simulate needs a folder of its own."
        )
    for said in (
        run("batch", "p.txt", "-o", "play", "--base-url", url),
        run("resume", "play", "--base-url", url),
    ):
        assert said.code == 3
        assert said.err.startswith("fluxflex: play holds a simulated batch; a real one needs")


def test_the_kind_of_a_folder_is_read_from_its_results(room: Path) -> None:
    """Lines that were never sent, or were torn, tell nothing."""
    assert places.is_rehearsal(room) is None
    unsent, sent = '{"state": "QUEUED", "simulated": true}\n', '{"state": "COMPLETED"}\n'
    (room / "results.jsonl").write_text(f"{unsent}[]\n{{torn\n")
    assert places.is_rehearsal(room) is None
    (room / "results.jsonl").write_text(f"{unsent}{sent}")
    assert places.is_rehearsal(room) is False


def test_a_simulated_journal_is_fetched_with_the_simulator(run: Run) -> None:
    """The command that `journal` names works."""
    prompts("a")
    command = ("batch", "p.txt", "-o", "out", "--simulate", "--speed", 100)
    assert run(*command, "--timeout", "0.001").code == 7
    said = run("journal", "out")
    assert "To fetch, at no further cost: fluxflex resume out --simulate\n" in said.err
    assert run("resume", "out", "--simulate", "--speed", 100).code == 0


@pytest.mark.parametrize("content", [b"no journal " * 99, None])
def test_a_broken_journal_has_a_hint_of_the_command(
    run: Run, provide: Provide, content: bytes | None
) -> None:
    """A file that is damaged or foreign is put back; `-o` is named where there is one."""
    prompts("a")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provide().url)
    run(*command)
    journal = Path("out/journal.db")
    whole = journal.read_bytes()
    journal.write_bytes(content or whole[:4096] + b"\xff" * (len(whole) - 4096))
    said = run(*command)
    assert said.code == 1
    assert "Put the journal back from a copy, or choose another folder with -o." in said.err
    said = run("resume", *command[3:])
    assert said.code == 1
    assert said.err.endswith("Put the journal back from a copy.\n")


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        ("Wait until that has ended, or use a journal of its own.", "Wait until that has ended."),
        ("Use a journal of its own for each address.", "Name that address with --base-url."),
        ("Make room, then run it again.", "Make room, then run it again."),
    ],
)
def test_resume_names_no_option_that_it_has_not(hint: str, words: str) -> None:
    """It is about the folder that is there."""
    found = hints.in_folder(errors.JournalError("x", hint=hint), chosen=False)
    assert hints.hint(found) == words
    assert hints.in_folder(errors.JournalError("x", hint=hint), chosen=True).hint == hint


def test_a_pipe_is_wanted_again(spawn: Callable[..., Any], provide: Provide) -> None:
    """The command that carries on says that it needs the same lines."""
    url = provide().url
    process = spawn("batch", "-", "-o", "out", "--budget", "0.04", "--base-url", url, stdin=PIPE)
    _, err = process.communicate("a\nb\n", timeout=30)
    assert process.returncode == 6
    assert "twice, with the same lines on stdin and with a higher --budget:\n" in err


def test_a_command_is_copied_as_it_is() -> None:
    """No full stop follows it on the page."""
    error = errors.DownloadError("x", task_id="t", url="u")
    row = results.row(
        index=0, request=None, state=TaskState.COMPLETED, error=error, way="fluxflex resume out"
    )
    totals = gallery.Totals(title="t", states={}, spent=Decimal(0))
    assert "fluxflex resume out<" in "".join(gallery.page(totals, [row]))


# -- pictures and sources that hold nothing ---------------------------------------------------


def test_an_empty_picture_is_fetched_again(run: Run, provide: Provide) -> None:
    """A file without a byte counts as missing, for `batch` and for `resume`."""
    provider = provide()
    prompts("a", "b")
    command = ("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    run(*command)
    picture, other = Path("out/0001-a.png"), Path("out/notes-a.png")
    for again in (command, ("resume", "out", "--base-url", provider.url)):
        picture.write_bytes(b"")
        other.write_bytes(b"")
        assert run(*again).code == 0
        assert picture.read_bytes() == PNG
        assert other.exists()
        other.unlink()


def test_sources_without_prompts(run: Run) -> None:
    """They are named for what they are."""
    said = run("price", "")
    assert said.code == 2
    assert "SOURCE is blank." in said.err
    Path("h.csv").write_text("prompt,quality\n")
    said = run("price", "h.csv")
    assert said.code == 0
    assert "h.csv holds no prompts." in said.err


def test_lines_that_cannot_be_written_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first few are told whole; the journal has all of them."""
    lost = tmp_path / "lost"
    lost.mkdir()
    with Results(lost) as file:
        file.add(9, results.row(index=9, request=None, state=TaskState.FAILED))
        file.unwritten = {
            n: results.row(index=n, request=None, state=TaskState.FAILED) for n in range(8)
        }
        closing = Closing(
            talk=Talk(),
            folder=lost,
            file=file,
            before=Stock(),
            simulated=False,
            way="fluxflex resume lost",
            codes=set(),
        )
        closing.file.path = tmp_path / "gone" / "results.jsonl"
        assert not closing.put_in_order()
    said = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("Not written down: ") for line in said) == 3
    assert said[-1] == "5 more lines not written down. The journal has them all."


def test_several_uncertain_are_them(run: Run, provide: Provide) -> None:
    """Words agree with the number."""
    provider = provide(faults=Faults(submit=lambda _: faults.accept_then_drop()))
    prompts("a", "b")
    said = run("batch", "p.txt", "-o", "out", "-c", 1, "--base-url", provider.url)
    assert "2 items are uncertain" in said.err
    assert "Nothing sends them again by itself:" in said.err
    assert "usage at those times." in said.err


def test_a_source_that_is_gone_leaves_the_budget_as_it_is() -> None:
    """What cannot be read again cannot be counted."""
    Path("p.txt").write_text("a\n")
    source = open_source("p.txt")
    assert isinstance(source, FileSource)
    source.total = 1
    price = Session("unused").price
    assert prospect.needed(source, {}, Prospect(Stock(), price)) == price({"prompt": "a"})
    Path("p.txt").unlink()
    assert prospect.needed(source, {}, Prospect(Stock(), price)) is None
