"""`fluxflex batch`: what it checks, buys, writes and says."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from fluxflex.simulator import Faults, faults
from tests.cli import cli_helpers as shared
from tests.cli.cli_helpers import Provider, Said

Run = Callable[..., Said]
Provide = Callable[..., Provider]

room, run, provide, spawn = shared.room, shared.run, shared.provide, shared.spawn
paid, terminal = shared.paid, shared.terminal


def rows(folder: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a folder's results."""
    text = (Path(folder) / "results.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_batch_leaves_pictures_results_and_a_page(room: Path, run: Run, provide: Provide) -> None:
    """Paths go to stdout; names and rows keep the order of the source."""
    provider = provide()
    Path("p.jsonl").write_text(
        '{"prompt": "A sea", "quality": "2K", "metadata": {"k": 1}}\n"nsfw"\n"A lake"\n'
    )
    said = run("batch", "p.jsonl", "-o", "out", "--steps", 20, "--base-url", provider.url)
    assert said.code == 9
    assert sorted(said.lines) == ["out/0001-a-sea.png", "out/0003-a-lake.png"]
    assert sorted(path.name for path in (room / "out").iterdir()) == [
        "0001-a-sea.png",
        "0003-a-lake.png",
        "index.html",
        "journal.db",
        "results.jsonl",
    ]
    first, second, third = rows("out")
    assert first == {
        "index": 0,
        "prompt": "A sea",
        "state": "COMPLETED",
        "task_id": provider.ledger.by_prompt()["A sea"][0].task_id,
        "path": "0001-a-sea.png",
        "url": first["url"],
        "error": None,
        "cost_usd": 0.06,
        "quality": "2K",
        "steps": 20,
        "metadata": {"k": 1},
    }
    assert (second["state"], second["path"], second["cost_usd"]) == ("FAILED", None, None)
    assert second["error"]["type"] == "ContentPolicyError"
    assert second["error"]["charged"] == "unknown"
    assert third["quality"] == "1K"
    assert "2: The task failed" in said.err
    assert "3 items: 2 completed ($0.10), 1 failed ($0.04). $0.14 spent" in said.err
    assert "2 pictures in out. To look at them: out/index.html" in said.err


def test_json_gives_the_rows_to_programs(run: Run, provide: Provide) -> None:
    """With `--json` stdout has the objects of results.jsonl, as they come."""
    Path("p.txt").write_text("a\nb\n")
    said = run("batch", "p.txt", "-o", "out", "--json", "--base-url", provide().url)
    assert said.code == 0
    found = sorted(map(json.loads, said.lines), key=lambda row: int(row["index"]))
    assert found == rows("out")


def test_without_download_urls_are_given(room: Path, run: Run, provide: Provide) -> None:
    """Nothing is fetched, and nothing but the report is written."""
    provider = provide()
    Path("p.txt").write_text("a\n")
    said = run("batch", "p.txt", "-o", "out", "--no-download", "--base-url", provider.url)
    assert said.code == 0
    assert said.lines == [rows("out")[0]["url"]]
    assert "The links are in out/index.html." in said.err
    assert rows("out")[0]["path"] is None
    assert provider.ledger.file_requests == 0
    assert {path.name for path in (room / "out").iterdir()} == {
        "index.html",
        "journal.db",
        "results.jsonl",
    }


def test_a_rehearsal_needs_no_key(
    run: Run, monkeypatch: pytest.MonkeyPatch, provide: Provide
) -> None:
    """`--simulate` uses neither key nor address of the environment, and says so."""
    provider = provide()
    monkeypatch.delenv("FLUXFLEX_API_KEY")
    monkeypatch.setenv("FLUXFLEX_BASE_URL", provider.url)
    Path("p.txt").write_text("a\n")
    said = run("batch", "p.txt", "-o", "out", "--simulate", "--speed", 1000)
    assert said.code == 0
    assert said.err.startswith("Simulated: nothing is bought")
    assert "$0.04 spent (simulated: nothing was bought)" in said.err
    assert rows("out")[0]["simulated"] is True
    assert provider.ledger.posts_received == 0


def test_every_bad_line_is_told_before_anything_is_bought(
    room: Path, run: Run, provide: Provide
) -> None:
    """All lines are checked first; one bad line stops the whole batch."""
    provider = provide()
    Path("p.jsonl").write_text('"a"\n{"prompt": "b", "steps": 99, "cfg": 0}\n{\n{"prompts": "c"}\n')
    said = run("batch", "p.jsonl", "-o", "out", "--base-url", provider.url)
    assert said.code == 8
    assert "p.jsonl, line 2: steps must be from 1 to 50, not 99; cfg must be" in said.err
    assert "p.jsonl, line 3: is no JSON" in said.err
    assert "p.jsonl, line 4: prompts is no parameter" in said.err
    assert "3 lines of 4 cannot be used. Nothing was bought." in said.err
    assert provider.ledger.posts_received == 0
    assert not (room / "out").exists()


def test_a_file_that_is_no_text_is_told_in_short(run: Run) -> None:
    """Ten bad lines are enough to see what is wrong."""
    Path("p.txt").write_bytes(b"\xff\xfe\n" * 380)
    said = run("batch", "p.txt", "-o", "out", "--yes")
    assert said.code == 8
    assert said.err.count("is no UTF-8 text") == 10
    assert "… and 370 more. Is it a text file in UTF-8?" in said.err


def test_many_bad_lines_of_a_text_are_told_in_short(run: Run) -> None:
    """A text whose lines are wrong in another way is not doubted to be one."""
    Path("p.jsonl").write_text("[]\n" * 12)
    said = run("batch", "p.jsonl", "-o", "out", "--yes")
    assert "… and 2 more.\n" in said.err


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_streams_hold_up_nothing(
    room: Path, provide: Provide, spawn: Callable[..., Any], closed: tuple[int, ...]
) -> None:
    """Whoever closes stdout or stderr wants the pictures all the same."""
    (room / "p.txt").write_text("a\n")
    code = (
        "import os, sys\n"
        "for number in map(int, sys.argv.pop(1)): os.close(number)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'fluxflex', *sys.argv[1:]])"
    )
    words = ("batch", "p.txt", "-o", "out", "--base-url", provide().url)
    process = spawn("".join(map(str, closed)), *words, code=code)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert (out == "") is (1 in closed)
    assert {path.name for path in (room / "out").iterdir()} == {
        "0001-a.png",
        "index.html",
        "journal.db",
        "results.jsonl",
    }


def test_a_bad_default_is_told_once(run: Run, provide: Provide) -> None:
    """What is wrong on the command line is not said of each line."""
    Path("p.txt").write_text("a\nb\n")
    said = run("batch", "p.txt", "-o", "out", "--quality", "9K", "--base-url", provide().url)
    assert said.code == 8
    assert said.err.count("quality must be one of 1K, 2K") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["p.md", "-o", "out"],
        ["missing.txt", "-o", "out"],
        ["p.txt"],
        ["p.txt", "-o", "p.txt"],
        ["p.txt", "-o", "full"],
        ["p.txt", "-o", "out"],
        ["-", "-o", "out"],
        ["p.txt", "-o", "out", "--budget", "much"],
        ["p.txt", "-o", "out", "--budget", "-1"],
        ["p.txt", "-o", "out", "--concurrency", "0"],
        ["p.txt", "-o", "out", "--colour", "red"],
        [],
    ],
)
@pytest.mark.usefixtures("paid")
def test_usage_errors(room: Path, run: Run, words: list[str]) -> None:
    """What cannot be done as it is written ends with 2, before anything is made or bought."""
    (room / "p.txt").write_text("a\n")
    (room / "p.md").write_text("a\n")
    (room / "full").mkdir()
    (room / "full" / "theirs.txt").touch()
    said = run("batch", *words)
    assert said.code == 2
    assert said.err
    assert not (room / "out").exists()


def test_a_missing_key_names_both_variables(
    room: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key nothing is made, and the message says where to put one."""
    monkeypatch.delenv("FLUXFLEX_API_KEY")
    Path("p.txt").write_text("a\n")
    said = run("batch", "p.txt", "-o", "out", "--yes")
    assert said.code == 3
    assert "Set FLUXFLEX_API_KEY or UNIFICALLY_API_KEY. To try without a key: --sim" in said.err
    assert "`api_key`" not in said.err
    assert not (room / "out").exists()


def test_a_dry_run_counts_and_buys_nothing(room: Path, run: Run, provide: Provide) -> None:
    """It needs neither a folder nor a key, and gives programs the numbers."""
    provider = provide()
    Path("p.jsonl").write_text('"a"\n{"prompt": "b", "quality": "2K"}\n')
    said = run("batch", "p.jsonl", "--dry-run", "--json", "--base-url", provider.url)
    assert said.code == 0
    assert "2 pictures for about $0.10. This was a dry run: nothing was bought." in said.err
    assert json.loads(said.out) == {"count": 2, "estimate_usd": 0.1}
    assert provider.ledger.posts_received == 0
    assert [path.name for path in room.iterdir()] == ["p.jsonl"]


def test_an_empty_source_is_done_at_once(room: Path, run: Run) -> None:
    """A file without prompts asks for nothing."""
    Path("p.txt").write_text("\n# nothing\n")
    said = run("batch", "p.txt", "-o", "out", "--yes")
    assert said.code == 0
    assert "p.txt holds no prompts" in said.err
    assert not (room / "out").exists()


# -- money ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("paid")
def test_without_a_terminal_consent_is_an_option(run: Run, provide: Provide) -> None:
    """Where nobody can be asked, `--yes` or `--budget` is needed, and either is enough."""
    provider = provide()
    Path("p.txt").write_text("a\n")
    command = ("batch", "p.txt", "--base-url", provider.url)
    refused = run(*command, "-o", "none")
    assert refused.code == 2
    assert "give --budget USD or --yes" in refused.err
    assert run(*command, "-o", "yes", "--yes").code == 0
    assert run(*command, "-o", "budget", "--budget", "$1").code == 0
    assert provider.ledger.posts_received == 2


@pytest.mark.usefixtures("paid", "terminal")
@pytest.mark.parametrize(("answer", "code", "posts"), [("y\n", 0, 1), ("\n", 1, 0), ("", 1, 0)])
def test_on_a_terminal_it_asks_once(
    run: Run, provide: Provide, answer: str, code: int, posts: int
) -> None:
    """The question has count, USD and balance; only a plain yes buys."""
    provider = provide(balance_usd=Decimal("5.20"))
    Path("p.txt").write_text("a\n")
    said = run("batch", "p.txt", "-o", "out", "--base-url", provider.url, stdin=answer)
    assert said.code == code
    assert "1 picture for $0.04. The account holds $5.20. Go on? [y/N]" in said.err
    assert provider.ledger.posts_received == posts
    assert Path("out").exists() is bool(posts)


@pytest.mark.usefixtures("paid", "terminal")
def test_the_question_tells_a_small_balance(run: Run, provide: Provide) -> None:
    """A balance below the estimate is said before anything is bought."""
    Path("p.txt").write_text("a\nb\n")
    url = provide(balance_usd=Decimal("0.05")).url
    said = run("batch", "p.txt", "-o", "out", "--base-url", url, stdin="n\n")
    assert "holds $0.05, which is less: the batch will stop when it is used up." in said.err


@pytest.mark.usefixtures("paid", "terminal")
def test_the_question_tells_an_unknown_balance(run: Run, provide: Provide) -> None:
    """Where the balance cannot be had, that is said instead."""
    Path("p.txt").write_text("a\n")
    url = provide(faults=Faults(account=lambda _: faults.error(418, message="a teapot"))).url
    said = run("batch", "p.txt", "-o", "out", "--base-url", url, stdin="n\n")
    assert "1 picture for $0.04. The account's balance cannot be had: " in said.err
    assert "a teapot" in said.err


@pytest.mark.usefixtures("paid", "terminal")
def test_a_bad_key_ends_it_before_the_question(run: Run, provide: Provide) -> None:
    """A key that the provider does not accept buys nothing, so nobody is asked."""
    Path("p.txt").write_text("a\n")
    said = run("batch", "p.txt", "-o", "out", "--base-url", provide(api_keys=["other"]).url)
    assert said.code == 3
    assert "Go on?" not in said.err


@pytest.mark.parametrize(
    ("options", "balance", "kind"),
    [(["--budget", "0.05"], 100, "BudgetExceededError"), ([], "0.05", "InsufficientBalanceError")],
)
def test_money_that_runs_out_stops_the_batch(
    run: Run, provide: Provide, options: list[str], balance: Any, kind: str
) -> None:
    """What was bought is kept, the rest stands as not sent, and the reason is told once."""
    provider = provide(balance_usd=Decimal(balance))
    Path("p.txt").write_text("".join(f"{n}\n" for n in range(5)))
    said = run("batch", "p.txt", "-o", "out", "-c", 1, "--base-url", provider.url, *options)
    assert said.code == 6
    found = rows("out")
    assert [row["index"] for row in found] == [0, 1, 2, 3, 4]
    assert [row["state"] for row in found] == ["COMPLETED"] + ["QUEUED"] * 4
    assert found[1]["error"]["type"] == kind
    assert found[4]["error"] is None
    assert [row["cost_usd"] for row in found] == [0.04, 0, 0, 0, 0]
    assert {row["quality"] for row in found} == {"1K"}
    assert said.err.count("fluxflex: ") == 1
    assert "5 items: 1 completed, 4 not sent. $0.04 spent" in said.err


def test_an_unaccepted_key_stops_the_batch(run: Run, provide: Provide) -> None:
    """A refused key ends with 3."""
    Path("p.txt").write_text("a\nb\n")
    url = provide(api_keys=["other"]).url
    assert run("batch", "p.txt", "-o", "out", "--base-url", url).code == 3


# -- what goes wrong --------------------------------------------------------------------------


def test_uncertain_items_are_counted_as_such(run: Run, provide: Provide) -> None:
    """A submit without an answer may have been billed: 10 beats 9, and the money is named."""
    provider = provide(faults=Faults(submit=[faults.accept_then_drop(), None]))
    Path("p.txt").write_text("a\nnsfw\n")
    said = run("batch", "p.txt", "-o", "out", "-c", 1, "--base-url", provider.url)
    assert said.code == 10
    found = rows("out")[0]
    assert (found["state"], found["cost_usd"]) == ("UNCERTAIN", None)
    assert (
        "2 items: 1 failed ($0.04), 1 uncertain ($0.04 may be billed). "
        "$0.04 spent, $0.04 may still be billed"
    ) in said.err
    assert "1 item is uncertain: sent and never answered, and may have been billed." in said.err
    assert "To submit once more, which may pay twice:\n  fluxflex batch p.txt -o out" in said.err
    assert said.err.count("--resubmit-uncertain") == 2


def test_a_task_that_takes_too_long_is_named(run: Run, provide: Provide) -> None:
    """A timeout keeps the task id and its price."""
    Path("p.txt").write_text("a\n")
    url = provide(durations=1e6).url
    said = run("batch", "p.txt", "-o", "out", "--timeout", 0.01, "--base-url", url)
    assert said.code == 7
    found = rows("out")[0]
    assert (found["state"], found["cost_usd"]) == ("TIMED_OUT", 0.04)
    assert f"  fluxflex resume out --base-url {url}" in said.err.splitlines()
    assert "1 task left running, paid for. To fetch, at no further cost:" in said.err
    assert "No pictures were saved. What happened to each: out/index.html" in said.err
    assert "attach" not in said.err
    assert "attach" not in Path("out/index.html").read_text(encoding="utf-8")


def test_a_picture_that_cannot_be_fetched_is_a_failed_item(run: Run, provide: Provide) -> None:
    """The task is completed and paid for; its picture is missing, and its URL is kept."""
    provider = provide(faults=Faults(files=lambda _: faults.custom(418)))
    Path("p.txt").write_text("a\n")
    said = run("batch", "p.txt", "-o", "out", "--base-url", provider.url)
    assert said.code == 9
    found = rows("out")[0]
    assert (found["state"], found["path"], found["cost_usd"]) == ("COMPLETED", None, 0.04)
    assert found["url"].startswith(provider.url)
    assert "1 item: 1 made, not saved." in said.err
    assert f"Fetch it with: fluxflex resume out --base-url {provider.url}" in said.err
    assert "1 picture made and not saved, paid for. To fetch, at no further cost:" in said.err


def test_a_full_disk_stops_the_batch(
    room: Path, provide: Provide, spawn: Callable[..., Any]
) -> None:
    """What cannot be written ends with 1 and a clear message; nothing more is bought."""
    provider = provide(pictures=lambda _: b"\x89PNG\r\n\x1a\n" + b"\0" * 900_000)
    (room / "p.txt").write_text("".join(f"{n}\n" for n in range(40)))
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, 800_000))\n"
        "from fluxflex.cli import main; main()"
    )
    words = ("batch", "p.txt", "-o", "out", "-c", "1", "--base-url", provider.url)
    process = spawn(*words, code=code)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out == ""
    assert "The picture could not be written to " in err
    assert "File too large" in err
    assert "Traceback" not in err
    assert len(provider.ledger) < 5
    assert len(rows("out")) == 40
    assert not list((room / "out").glob("*.part"))


def test_results_that_cannot_be_written_are_told(run: Run, provide: Provide) -> None:
    """A row for which there is no room stops the batch, and is told on stderr instead."""
    provider = provide()
    command = ("batch", "p.txt", "-o", "out", "-c", 2, "--base-url", provider.url)
    Path("p.txt").write_text("0\n")
    assert run(*command).code == 0
    # The journal keeps its room; only the results have none left.
    Path("out/results.jsonl").write_text(
        json.dumps(rows("out")[0] | {"note": "x" * 800_000}) + "\n"
    )
    size = Path("out/results.jsonl").stat().st_size + 500
    Path("p.txt").write_text("".join(f"{n}\n" for n in range(20)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        said = run(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert said.code == 1
    assert said.err.count("results.jsonl cannot be written: ") == 1
    assert "out cannot be completed: File too large." in said.err
    assert "index.html" not in said.err
    assert len(provider.ledger) < 7
    unwritten = [line for line in said.err.splitlines() if line.startswith("Not written down: ")]
    written = {row["task_id"] for row in rows("out")}
    told = {json.loads(line.partition(": ")[2])["task_id"] for line in unwritten}
    more = re.search(r"(\d+) more lines? not written down", said.err)
    bought = {entry.task_id for entry in provider.ledger.entries}
    assert written | told <= bought
    assert len(bought - written - told) == (int(more[1]) if more else 0)
    assert not list(Path("out").glob("*.part"))
    assert run(*command).code == 0
    assert len(rows("out")) == len(provider.ledger) == 20


def test_stdin_brings_items_of_its_own(
    room: Path, provide: Provide, spawn: Callable[..., Any]
) -> None:
    """Lines on a pipe are bought as they come; a bad one is its own outcome, and ends with 8."""
    provider = provide()
    process = spawn(*("batch", "-", "-o", "out", "--json", "--base-url", provider.url), stdin=PIPE)
    out, err = process.communicate('one\n\n{"prompt": "two", "quality": "2K"}\n{oops\n', timeout=30)
    assert process.returncode == 8, err
    found = rows("out")
    assert [row["prompt"] for row in found] == ["one", "two", None]
    assert found[2]["state"] == "QUEUED"
    assert found[2]["error"]["message"].startswith("Invalid request: line 4 is no JSON")
    assert sorted(map(json.loads, out.splitlines()), key=lambda row: int(row["index"])) == found
    assert {path.name for path in (room / "out").glob("*.png")} == {"0001-one.png", "0002-two.png"}


def test_a_rehearsed_dry_run_of_stdin(spawn: Callable[..., Any]) -> None:
    """A dry run counts the lines of a pipe too."""
    process = spawn("batch", "-", "--dry-run", stdin=PIPE)
    out, err = process.communicate("one\ntwo\n", timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "2 pictures for about $0.08" in err
