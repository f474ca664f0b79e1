"""Names of files and folders: what they are called, and what is never touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluxflex.cli import places
from fluxflex.cli.exits import UsageError
from tests.cli import cli_helpers as shared

room = shared.room


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A Lighthouse, in fog!", "a-lighthouse-in-fog"),
        ("Crème brûlée", "creme-brulee"),
        ("北海道の夜", "北海道の夜"),
        ("../../etc/passwd", "etc-passwd"),
        ("😀 !?", "image"),
        ("word " * 30, "word-word-word-word-word-word-word-word"),
        ("x" * 90, "x" * 40),
    ],
)
def test_a_slug_is_safe_and_short(text: str, name: str) -> None:
    """Letters and digits of any script stay; nothing else, and never a dot or a slash."""
    assert places.slug(text) == name


def test_numbers_count_from_one_and_grow_with_the_total() -> None:
    """Names sort as the items do, however many there are."""
    assert places.numbered(0, "a", None) == "0001-a"
    assert places.numbered(9999, "a", 9999) == "10000-a"
    assert places.numbered(0, "a", 123_456) == "000001-a"


def test_a_name_that_is_taken_gets_a_number(room: Path) -> None:
    """Whatever suffix the picture will get, no file is overwritten."""
    place = places.single(None)
    assert place("Some sea", "ab-cd-efgh-ijkl") == Path("some-sea-abcdefgh")
    (room / "some-sea-abcdefgh.webp").touch()
    (room / "some-sea-abcdefgh-2.png").touch()
    assert place("Some sea", "ab-cd-efgh-ijkl") == Path("some-sea-abcdefgh-3")


def test_a_folder_takes_the_usual_name(room: Path) -> None:
    """`-o FOLDER` keeps the name of its own making."""
    (room / "here").mkdir()
    assert places.single(Path("here"))("", "abc") == Path("here/image-abc")


@pytest.mark.parametrize("out", ["a.png", "b", "file/x.png", "closed/x.png"])
def test_one_picture_needs_a_free_place(
    room: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there, or what could not be written, is refused before anything is bought."""
    (room / "a.png").touch()
    (room / "b.jpg").touch()
    (room / "file").touch()
    (room / "closed").mkdir()
    monkeypatch.setattr("os.access", lambda path, _: Path(path).name != "closed")
    with pytest.raises(UsageError, match="Choose another -o"):
        places.single(Path(out))


def test_a_new_folder_and_an_empty_one_are_fine(room: Path) -> None:
    """A batch may begin in a folder that is missing or empty; nothing is made yet."""
    places.check_folder(Path("new/deep"))
    (room / "empty").mkdir()
    places.check_folder(Path("empty"))
    assert [path.name for path in room.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"results.jsonl": '{"index": 0, "state": "COMPLETED"}\n'}, "without its journal.db"),
        ({"results.jsonl": ""}, "without its journal.db"),
        ({"results.jsonl": "[]\n"}, "not empty: it holds results.jsonl"),
        ({"results.jsonl": "their own"}, "not empty: it holds results.jsonl"),
        ({"a": "", "b": "", "c": "", "d": ""}, r"it holds a, b, c and 1 more"),
    ],
)
def test_a_folder_in_use_is_refused(room: Path, files: dict[str, str], words: str) -> None:
    """Neither a batch that cannot be carried on nor other people's files are touched."""
    folder = room / "out"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(UsageError, match=words):
        places.check_folder(folder)


def test_a_folder_with_a_journal_is_carried_on(room: Path) -> None:
    """Whatever else lies there: the batch has been there before."""
    assert not places.check_folder(room / "new")
    (room / "journal.db").touch()
    (room / "0001-a.png").touch()
    assert places.check_folder(room)
    places.check_batch(room)


def test_only_a_batch_can_be_resumed(room: Path) -> None:
    """A folder without a journal has nothing to go on with."""
    with pytest.raises(UsageError, match="There is no folder"):
        places.check_batch(room / "new")
    with pytest.raises(UsageError, match=r"there is no journal\.db in it"):
        places.check_batch(room)


def test_a_file_is_no_folder(room: Path) -> None:
    """`-o FILE` is refused."""
    (room / "out").touch()
    with pytest.raises(UsageError, match="out is a file, not a folder"):
        places.check_folder(room / "out")
