"""`fluxflex journal`: tables for people, lines for programs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from fluxflex import GenerateRequest, JournalEntry, Session, TaskState, errors
from fluxflex._aio.entry import error_text, request_text
from fluxflex.cli import journal as journals
from tests.cli import cli_helpers as shared
from tests.cli.cli_helpers import KEY, Provider, Said

Run = Callable[..., Said]
Fill = Callable[..., Path]
Provide = Callable[..., Provider]

room, run, provide = shared.room, shared.run, shared.provide

CENTS = "0.04"
SEA = GenerateRequest("a sea")
LOST = error_text(
    errors.SubmitUncertainError("The connection broke after the request was sent", phase="sent")
)


def entry(at: int, state: TaskState, **known: Any) -> JournalEntry:
    """Return the entry of an item as a journal gives it."""
    usual: dict[str, Any] = {
        "number": at,
        "run": "batch",
        "digest": "d1",
        "request": request_text(SEA),
        "attempts": 1,
        **dict.fromkeys(("task_id", "sent_at", "accepted_at", "ended_at", "elapsed")),
        **dict.fromkeys(("spent", "reserved", "collected", "replaced", "path", "result", "error")),
    }
    return JournalEntry(id=at, state=state.name, folder=Path(), **usual | known)


def done(at: int, **known: Any) -> JournalEntry:
    """Return the entry of an item that ended well."""
    usual = {
        "task_id": f"{at:08}-b0a5-4f6e",
        "spent": CENTS,
        "collected": True,
        "path": Path("out") / f"{at:04}-a-sea.png",
        "result": json.dumps(
            {"urls": [f"https://e.org/{at}.png"], "cost": "0.05", "raw": {"a": 7}}
        ),
    }
    return entry(at, TaskState.COMPLETED, **usual | known)


def failed(at: int) -> JournalEntry:
    """Return the entry of an item whose task failed."""
    error = error_text(errors.GenerationError(task_id="t2"))
    return entry(at, TaskState.FAILED, task_id=f"{at:08}-b0a5", spent=CENTS, error=error)


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Fill:
    """Give a function that makes a folder whose journal holds some entries."""

    def make(
        *entries: JournalEntry, folder: str = "out", error: BaseException | None = None
    ) -> Path:
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        (place / "journal.db").touch()

        async def read(path: Path) -> AsyncIterator[JournalEntry]:
            assert path == place / "journal.db"
            for each in entries:
                yield each
            if error is not None:
                raise error

        monkeypatch.setattr(journals, "read_journal", read)
        return place

    return make


def mixed() -> list[JournalEntry]:
    """Return entries of every kind."""
    return [
        done(1),
        failed(2),
        done(3, collected=False, path=Path("out/0003-a-sea")),
        entry(4, TaskState.UNCERTAIN, reserved="0.06", error=LOST, replaced=True),
        entry(5, TaskState.QUEUED, attempts=0),
        entry(6, TaskState.RUNNING, task_id="t6", reserved=CENTS),
        entry(7, TaskState.UNCERTAIN, reserved=CENTS, error=LOST),
        entry(8, TaskState.UNCERTAIN, reserved=CENTS),
        done(9),
    ]


def test_people_get_a_summary_the_items_and_the_problems(run: Run, fill: Fill) -> None:
    """States with their money come first, then each item, and the newest problems stand last."""
    fill(*mixed())
    said = run("journal", "out")
    assert said.code == 0
    assert said.lines == [
        "out/journal.db",
        "state            items  spent  may still be billed",
        "completed            2  $0.08",
        "made, not saved      1  $0.04",
        "failed               1  $0.04",
        "still running        1                       $0.04",
        "uncertain            2                       $0.08",
        "not sent             1",
        "submitted again      1                       $0.06",
        "in all               9  $0.16                $0.18",
        "",
        "number  state            task      prompt                    USD  picture",
        "     1  completed        00000001  a sea                   $0.04  0001-a-sea.png",
        "     2  failed           00000002  a sea                   $0.04",
        "     3  made, not saved  00000003  a sea                   $0.04",
        "     4  submitted again            a sea                 ? $0.06",
        "     5  not sent                   a sea",
        "     6  still running    t6        a sea                 ? $0.04",
        "     7  uncertain                  a sea                 ? $0.04",
        "     8  uncertain                  a sea                 ? $0.04",
        "     9  completed        00000009  a sea                   $0.04  0009-a-sea.png",
        "",
        "3 problems:",
        "  2 failed: The task failed: the provider gives no reason (task 00000002-b0a5)",
        "  7 uncertain: The connection broke after the request was sent",
        "  8 uncertain",
    ]


def test_people_are_told_what_to_do_next(run: Run, fill: Fill) -> None:
    """What was paid for is fetched, and what failed or is uncertain submitted again, by command."""
    fill(*mixed())
    assert run("journal", "out").err == (
        "2 pictures not fetched. To fetch what was paid for, at no further cost: "
        "fluxflex resume out\n"
        "With --retry-failed the same batch command submits once more what failed.\n"
        "What is uncertain may have been billed: look at the account's usage first. "
        "With --resubmit-uncertain the same batch command submits it once more.\n"
    )
    fill(done(1))
    assert run("journal", "out").err == ""


def test_programs_get_everything(run: Run, fill: Fill) -> None:
    """One object a line, whole: no text is cut, money is a number, times are as they are."""
    long = "a sea, " * 100
    request = GenerateRequest(long, steps=3, metadata={"shelf": 7})
    fill(
        done(1, request=request_text(request), sent_at=1.5, accepted_at=2.5, ended_at=9.5),
        entry(2, TaskState.UNCERTAIN, request=None, run=None, number=None, error=LOST),
    )
    said = run("journal", "out", "--json")
    assert (said.code, said.err) == (0, "")
    first, second = map(json.loads, said.lines)
    assert first == {
        "id": 1,
        "run": "batch",
        "number": 1,
        "state": "COMPLETED",
        "task_id": "00000001-b0a5-4f6e",
        "request": {"quality": "1K", "prompt": long, "steps": 3, "metadata": {"shelf": 7}},
        "digest": "d1",
        "attempts": 1,
        "sent_at": 1.5,
        "accepted_at": 2.5,
        "ended_at": 9.5,
        "spent_usd": 0.04,
        "reserved_usd": 0.0,
        "cost_usd": 0.05,
        "urls": ["https://e.org/1.png"],
        "raw": {"a": 7},
        "error": None,
        "path": "out/0001-a-sea.png",
        "collected": True,
        "replaced": False,
    }
    assert second.keys() == first.keys()
    assert (second["request"], second["urls"], second["raw"]) == (None, [], None)
    assert second["error"]["type"] == "SubmitUncertainError"
    assert second["error"]["charged"] == "unknown"


def test_a_journal_may_be_named_itself(run: Run, fill: Fill) -> None:
    """A file works as its folder does; there is no folder to resume then."""
    fill(entry(6, TaskState.RUNNING, task_id="t6", reserved=CENTS))
    said = run("journal", "out/journal.db")
    assert said.code == 0
    assert said.lines[2] == "still running      1                       $0.04"
    assert said.err == ""


def test_an_empty_journal(run: Run, fill: Fill) -> None:
    """Nothing is known yet, which is no error."""
    fill()
    assert run("journal", "out") == Said(
        0, "", "out/journal.db is empty: nothing was read or sent.\n"
    )
    assert run("journal", "out", "--json") == Said(0, "", "")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("bare", "There is no journal in bare: it holds no journal.db."),
        ("missing", "There is no missing. Name the folder of a batch, or a journal's file."),
    ],
)
def test_a_place_without_a_journal(run: Run, place: str, words: str) -> None:
    """What holds no journal is a usage error, in plain words."""
    Path("bare").mkdir()
    said = run("journal", place)
    assert (said.code, said.out) == (2, "")
    assert words in said.err


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_journal_that_is_in_use(run: Run, fill: Fill, options: list[str]) -> None:
    """Another process has it open: the journal's own words, and 1."""
    fill(error=errors.JournalError("Another process has it open", hint="Wait for its end."))
    said = run("journal", "out", *options)
    assert (said.code, said.out) == (1, "")
    assert said.err == "fluxflex: Another process has it open. It cost nothing. Wait for its end.\n"


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_table_fits_its_terminal(
    run: Run, fill: Fill, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """No row is wider than the terminal; the prompt and the picture give way."""
    monkeypatch.setenv("COLUMNS", str(width))
    wide = request_text(GenerateRequest("海の絵 [red]\x1b[31m\nline " * 40))
    name = Path("out") / f"0001-{'x' * 90}.png"
    fill(*(done(n, request=wide, path=name) for n in range(1, 4)))
    said = run("journal", "out")
    rows = said.lines[said.lines.index("") + 1 :]
    assert len(rows) == 4
    assert all(cell_len(row) <= width for row in rows)
    assert "\x1b" not in said.out
    if width >= 60:
        assert all("[r" in row and "…" in row and "$0.04" in row for row in rows[1:])


def test_colours_are_for_terminals(run: Run, fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong stands out in colour; `NO_COLOR` takes it away."""
    fill(*mixed())
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[31m" in run("journal", "out").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in run("journal", "out").out


def test_a_long_journal_is_laid_out_in_pages(
    run: Run, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page has the columns of the first, and only that one has a head."""
    monkeypatch.setattr(journals, "_PAGE", 2)
    fill(*(done(n) for n in range(1, 6)))
    rows = run("journal", "out").lines[3:]
    assert [row.split()[0] for row in rows[1:]] == ["number", "1", "2", "3", "4", "5"]
    assert len({row.index("a sea") for row in rows[2:]}) == 1


def test_only_the_newest_problems_are_told_again(run: Run, fill: Fill) -> None:
    """However many there were, the end stays short."""
    fill(*map(failed, range(1, 16)))
    lines = run("journal", "out").lines
    at = lines.index("15 problems, the newest 10 of them:")
    assert [line.split()[0] for line in lines[at + 1 :]] == [str(n) for n in range(6, 16)]


def test_a_journal_of_several_runs(run: Run, fill: Fill) -> None:
    """Runs are told apart, and what belongs to none has its number in the file."""
    fill(
        done(1, run="spring", path=Path("/elsewhere/x.png")),
        done(2, number=1, run="autumn"),
        done(3, run=None, number=None),
    )
    rows = run("journal", "out").lines[4:]
    assert rows[0].split()[:3] == ["number", "run", "state"]
    assert [row.split()[:2] for row in rows[1:]] == [
        ["1", "spring"],
        ["1", "autumn"],
        ["#3", "completed"],
    ]
    assert "/elsewhere/x.png" in rows[1]


# -- with a real journal ----------------------------------------------------------------------


def test_the_journal_of_a_batch(run: Run, provide: Provide) -> None:
    """What a batch did is all there, metadata included; looking changes nothing."""
    provider = provide()
    Path("p.csv").write_text("prompt,quality,shelf\na sea,2K,7\nnsfw,,\n")
    assert run("batch", "p.csv", "-o", "out", "--base-url", provider.url).code == 9
    first, second = map(json.loads, run("journal", "out", "--json").lines)
    entries = {each.prompt: each.task_id for each in provider.ledger.entries}
    assert (first["state"], first["task_id"], first["number"]) == ("COMPLETED", entries["a sea"], 1)
    assert first["request"] == {"prompt": "a sea", "quality": "2K", "metadata": {"shelf": "7"}}
    assert (first["path"], first["collected"]) == ("out/0001-a-sea.png", True)
    assert (first["spent_usd"], second["spent_usd"]) == (0.06, 0.04)
    assert second["error"]["type"] == "ContentPolicyError"
    lines = run("journal", "out").lines
    assert lines[2].split() == ["completed", "1", "$0.06"]
    assert lines[-1].startswith("  2 failed: The task failed: ")
    assert run("journal", "out").lines == lines
    assert provider.ledger.posts_received == 2


async def test_a_journal_that_a_session_has_open(run: Run, provide: Provide) -> None:
    """While a batch has it open nobody reads along: 1, in the journal's words."""
    async with Session(KEY, base_url=provide().url, journal="mine.db"):
        said = run("journal", "mine.db")
    assert (said.code, said.out) == (1, "")
    assert "mine.db is in use by another session or process" in said.err
    assert run("journal", "mine.db").code == 0


def test_a_file_that_is_no_journal(run: Run) -> None:
    """Any other file is refused in words, and left as it is."""
    Path("results.jsonl").write_text('{"index": 0}\n' * 50)
    said = run("journal", "results.jsonl")
    assert (said.code, said.out) == (1, "")
    assert "results.jsonl is no journal of fluxflex" in said.err
    assert Path("results.jsonl").read_text() == '{"index": 0}\n' * 50
    assert [path.name for path in Path().iterdir()] == ["results.jsonl"]
