"""`results.jsonl`: how it grows, how it is carried on, and how it is put in order."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from fluxflex import TaskState, errors
from fluxflex.cli import results
from fluxflex.cli.results import Results, Row
from tests.cli import cli_helpers as shared

room = shared.room


def one(index: int, state: TaskState = TaskState.COMPLETED, prompt: str = "a sea") -> Row:
    """Return the row of an item."""
    return results.row(index=index, request={"prompt": prompt}, state=state)


def indexes(folder: Path) -> list[object]:
    """Return the indexes of all lines, as they stand."""
    return [found["index"] for found in results.read(folder / "results.jsonl")]


def written(folder: Path, *found: Row) -> None:
    """Leave a file with these rows."""
    lines = "".join(f"{results.as_line(row)}\n" for row in found)
    (folder / "results.jsonl").write_text(lines, encoding="utf-8")


def test_rows_are_written_as_they_come_and_ordered_at_the_end(room: Path) -> None:
    """Each line is on disk at once; the end puts them in order, with those never read."""
    odd = "\ud800 é"
    with Results(room) as file:
        for index in (2, 0):
            assert file.add(index, one(index, prompt=odd))
        assert indexes(room) == [2, 0]
        assert file.finish([(index, one(index, TaskState.QUEUED, odd)) for index in range(4)])
        assert file.words == Counter({"completed": 2, "not sent": 2})
    rows = list(results.read(room / "results.jsonl"))
    assert [line["index"] for line in rows] == [0, 1, 2, 3]
    assert rows[1]["prompt"] == "? é"
    assert [path.name for path in room.iterdir()] == ["results.jsonl"]


def test_a_file_in_order_is_left_alone(room: Path) -> None:
    """Where there is no news, nothing is written, and nothing is read but once."""
    written(room, one(0), one(1))
    before = (room / "results.jsonl").stat()
    with Results(room, known={1, 2}) as file:
        assert not file.finish([(0, one(0)), (1, one(1))])
    after = (room / "results.jsonl").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_news_stands_below_and_the_last_line_counts(room: Path) -> None:
    """The old lines stay until the end; then there is one line an item."""
    written(room, one(0), one(1, TaskState.ABANDONED), one(0, TaskState.FAILED))
    with Results(room, known={1, 2}) as file:
        assert (file.state(0), file.state(1), file.state(2)) == ("FAILED", "ABANDONED", None)
        file.add(1, one(1))
        assert indexes(room) == [0, 1, 0, 1]
        file.finish()
    assert [(row["index"], row["state"]) for row in results.read(room / "results.jsonl")] == [
        (0, "FAILED"),
        (1, "COMPLETED"),
    ]


@pytest.mark.parametrize("torn", [b'{"index": 1, "sta', b'{"index": 1, "state": "FAILED"}', b"\0"])
def test_a_torn_last_line_is_cut_off(room: Path, torn: bytes) -> None:
    """What a kill left of a line disappears; the next line does not run into it."""
    written(room, one(0))
    with (room / "results.jsonl").open("ab") as file:
        file.write(torn)
    with Results(room, known={1, 2}) as found:
        assert 1 not in found
        found.add(1, one(1))
        assert indexes(room) == [0, 1]


@pytest.mark.parametrize("damaged", ["\0\0\0", "[]", "{}", '{"index": "x", "state": ""}', "{"])
def test_a_damaged_line_is_passed_over(room: Path, damaged: str) -> None:
    """A power cut may leave anything; the whole lines around it count."""
    lines = [results.as_line(one(0)), damaged, results.as_line(one(1))]
    (room / "results.jsonl").write_text("".join(f"{line}\n" for line in lines))
    with Results(room, known={1, 2}) as file:
        assert file.finish()
    assert indexes(room) == [0, 1]


def test_what_was_never_read_gets_its_number_anew(room: Path) -> None:
    """Unsent items that the journal does not know may have changed since; others stay."""
    unsent = TaskState.QUEUED
    written(room, one(0), one(1, unsent), one(2, unsent), one(3, TaskState.FAILED))
    with Results(room, known={1, 2}) as file:
        assert [index in file for index in range(4)] == [True, True, False, True]
        file.finish([(2, one(2, unsent, prompt="new"))])
    assert [row["prompt"] for row in results.read(room / "results.jsonl")][2] == "new"


def test_a_mark_tells_what_is_news(room: Path) -> None:
    """State, task, picture and kind of error are what a line says; the rest follows from them."""
    error = errors.DownloadError("x", task_id="t", url="u")
    row = results.row(
        index=0, request={"prompt": "a"}, state=TaskState.COMPLETED, task_id="t", error=error
    )
    written(room, row)
    with Results(room, known={1}) as file:
        state = TaskState.COMPLETED
        assert file.says(0, results.mark(state, task_id="t", error="DownloadError"))
        for other in (
            results.mark(state, task_id="t"),
            results.mark(state, task_id="t", path="a.png"),
            results.mark(state, task_id="u", error="DownloadError"),
            results.mark(TaskState.FAILED, task_id="t", error="DownloadError"),
        ):
            assert not file.says(0, other)
        assert not file.says(1, results.mark(state))


def test_a_row_that_could_not_be_written_comes_at_the_end(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept, counts in place of an older line, and is written when there is room again."""
    written(room, one(0, TaskState.FAILED))
    with Results(room, known={1}) as file:
        inner = file._file

        class Full:
            """A file without room."""

            def __getattr__(self, name: str) -> object:
                return getattr(inner, name)

            def write(self, _: bytes) -> int:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(file, "_file", Full())
        assert not file.add(0, one(0))
        assert file.state(0) == "COMPLETED"
        assert file.words == Counter(completed=1)
        assert list(file.unwritten) == [0]
        assert file.finish()
        assert not file.unwritten
    assert json.loads((room / "results.jsonl").read_text())["state"] == "COMPLETED"
