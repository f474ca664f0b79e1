"""Sources: files that are checked before anything is bought, and lines on stdin."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from fluxflex import Session
from fluxflex.cli.exits import UsageError
from fluxflex.cli.source import (
    NO_TEXT,
    BadLine,
    FileSource,
    Item,
    StdinSource,
    Survey,
    open_source,
    survey,
)
from tests.cli import cli_helpers as shared

room = shared.room


def source_of(path: Path, content: bytes) -> FileSource:
    """Write a file and open it as a source."""
    path.write_bytes(content)
    source = open_source(str(path))
    assert isinstance(source, FileSource)
    return source


def price(fields: Mapping[str, object]) -> Decimal:
    """Return a price that tells one quality from the other."""
    return Decimal(6) if fields.get("quality") == "2K" else Decimal(4)


def test_text_has_a_prompt_a_line(room: Path) -> None:
    """Blank lines, comments, a byte order mark and Windows line ends are no prompts."""
    source = source_of(room / "a.txt", b'\xef\xbb\xbfone\r\n\r\n# no\n  two {x}\n"three"')
    assert list(source.again()) == [{"prompt": "one"}, {"prompt": "two {x}"}, {"prompt": '"three"'}]


def test_jsonl_has_objects_or_strings(room: Path) -> None:
    """An object brings its fields, a string is a prompt; every other line is named."""
    lines = [
        b'{"prompt": "a", "steps": 3}',
        b'"b"',
        b"",
        b"[1]",
        b"{",
        b"# c",
        b"\xff",
        b"[" * 9999,
    ]
    found = dict(source_of(room / "a.JSONL", b"\n".join(lines)).numbered())
    assert found.pop(1) == {"prompt": "a", "steps": 3}
    assert found.pop(2) == {"prompt": "b"}
    messages = {at: item.message for at, item in found.items() if isinstance(item, BadLine)}
    assert messages[4] == "must be a JSON object or string, not list"
    assert messages[5].startswith("is no JSON: ")
    assert messages[6].startswith("is no JSON: ")
    assert messages[7] == "is no UTF-8 text"
    assert messages[8].startswith("is no JSON")
    assert str(BadLine(4, "is odd").error).startswith("Invalid request: line 4 is odd.")


@pytest.mark.parametrize("name", ["a.xlsx", "a", "folder.txt", "missing.txt"])
def test_unknown_sources_are_named(room: Path, name: str) -> None:
    """What cannot be read is refused with the kinds that there are."""
    (room / "a.xlsx").touch()
    (room / "a").touch()
    (room / "folder.txt").mkdir()
    with pytest.raises(
        UsageError, match=r"\.txt \(a prompt a line; blank .* # are skipped\), \.csv .*, \.jsonl"
    ):
        open_source(name)


def test_a_survey_counts_prices_and_finds_all_faults(room: Path) -> None:
    """Defaults count where an item is silent, and each bad line is told with its number."""
    assert room == Path.cwd()
    source = source_of(Path("a.jsonl"), b'"a"\n{"prompt": "b", "quality": "1K"}\n\n7\n{}\n')
    found = survey(source, {"quality": "2K"}, price)
    assert (found.count, found.estimate, source.total) == (4, Decimal(16), 4)
    assert found.faults == ("a.jsonl, line 4: must be a JSON object or string, not int",)


async def test_a_file_is_read_until_it_is_stopped(room: Path) -> None:
    """After `stop` no further item is given, and the end was not reached."""
    source = source_of(room / "a.txt", b"a\nb\nc\n")
    items = source.items()
    assert await anext(items) == {"prompt": "a"}
    source.stop()
    assert [item async for item in items] == []
    assert not source.ended


async def test_a_file_has_ended_with_its_last_item(room: Path) -> None:
    """Once the last of the counted items is given, nothing is left to be interrupted."""
    source = source_of(room / "a.txt", b"a\nb\n\n#\n")
    survey(source, {}, price)
    items = source.items()
    await anext(items)
    assert not source.ended
    await anext(items)
    assert source.ended


async def test_stdin_brings_lines_as_they_come() -> None:
    """A line may be a prompt, a JSON string or a JSON object; the last needs no line end."""
    reading, writing = os.pipe()
    source = StdinSource(reading)
    items = source.items()
    os.write(writing, b'one\n"two"\n')
    assert [await anext(items), await anext(items)] == [{"prompt": "one"}, {"prompt": "two"}]
    os.write(writing, b'{"prompt": "three"}\n{"prompt\n"four" she said\n\n# five\nsix')
    os.close(writing)
    rest: list[Item] = [item async for item in items]
    assert rest[0] == {"prompt": "three"}
    assert isinstance(rest[1], BadLine)
    assert rest[1].number == 4
    assert rest[2:] == [{"prompt": '"four" she said'}, {"prompt": "six"}]
    assert source.ended
    assert list(source.again()) == []
    os.close(reading)


async def test_a_stop_wakes_who_waits_for_stdin() -> None:
    """An open pipe on which nothing comes does not hold up the end."""
    reading, writing = os.pipe()
    source = StdinSource(reading)
    items = source.items()
    os.write(writing, b"one\n")
    await anext(items)
    source.stop()
    assert [item async for item in items] == []
    assert not source.ended
    os.close(writing)


def test_stdin_can_be_surveyed() -> None:
    """A dry run reads the pipe to its end."""
    reading, writing = os.pipe()
    os.write(writing, b"one\n\n{}x\n")
    os.close(writing)
    found = survey(StdinSource(reading), {}, price)
    assert (found.count, found.estimate) == (2, Decimal(4))
    assert found.faults[0].startswith("stdin, line 3: is no JSON: ")
    os.close(reading)


def test_many_complaints_are_cut_short() -> None:
    """Ten bad lines are told, the rest is counted, and a garbled file is doubted."""
    told = list(Survey(12, Decimal(0), ("line 1 is odd", *[f"line 2 {NO_TEXT}"] * 11)).complaints())
    assert len(told) == 11
    assert told[-1] == "… and 2 more. Is it a text file in UTF-8?"
    assert list(Survey(1, Decimal(0), ("line 1 is odd",)).complaints()) == ["line 1 is odd"]


# -- tables -----------------------------------------------------------------------------------


def test_a_table_names_the_fields_of_a_request(room: Path) -> None:
    """Cells have their field's type, empty ones are unset, and a quoted text may have lines."""
    source = source_of(
        room / "a.CSV",
        b"\xef\xbb\xbfPrompt, aspect ratio,quality,Steps,cfg,image_urls,callback_url\r\n"
        b'"a sea,\r\n""calm""",16:9,2K,30.0,4.5,https://e.org/a https://e.org/b,https://e.org/c\r\n'
        b"\r\n"
        b",,,,,,\r\n"
        b" b ,,,7,3,https://e.org/a|https://e.org/b | https://e.org/c,\r\n"
        b"c",
    )
    assert list(source.numbered()) == [
        (
            2,
            {
                "prompt": 'a sea,\r\n"calm"',
                "aspect_ratio": "16:9",
                "quality": "2K",
                "steps": 30,
                "cfg": 4.5,
                "image_urls": ["https://e.org/a", "https://e.org/b"],
                "callback_url": "https://e.org/c",
            },
        ),
        (
            6,
            {
                "prompt": "b",
                "steps": 7,
                "cfg": 3.0,
                "image_urls": ["https://e.org/a", "https://e.org/b", "https://e.org/c"],
            },
        ),
        (7, {"prompt": "c"}),
    ]
    assert source.notes == ()
    assert list(source.again()) == list(source.again())


def test_other_columns_are_kept_as_metadata(room: Path) -> None:
    """What is no field stays beside the item, under the name of its column; people are told."""
    source = source_of(
        room / "a.csv",
        b"prompt,Author,metadata.Step,metadata\n"
        b'a,me,3,"{""shelf"": 7}"\n'
        b"b,,,\nc,,,[]\nd,me,,oops\n",
    )
    kept = [item.get("metadata") for item in source.again() if not isinstance(item, BadLine)]
    assert kept == [{"shelf": 7, "Author": "me", "Step": "3"}, None, [], "oops"]
    assert source.notes == (f"{room / 'a.csv'}: kept as metadata, not sent: Author, Step.",)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("qualty", "quality"),
        ("promt", "prompt"),
        ("aspect", "aspect_ratio"),
        ("image_url", "image_urls"),
        ("step", "steps"),
        ("cgf", "cfg"),
        ("Resolution", "quality"),
        ("guidance", "cfg"),
    ],
)
def test_a_slip_in_a_columns_name_is_no_metadata(room: Path, name: str, meant: str) -> None:
    """A misspelt field would cost money and change nothing; the way to keep it is told."""
    with pytest.raises(UsageError, match=f"{name!r}.* to be {meant}, .* metadata.{name} and it"):
        source_of(room / "a.csv", f"prompt,{name}\na,b\n".encode())
    assert source_of(room / "a.csv", f"prompt,metadata.{name}\na,b\n".encode()).notes


@pytest.mark.parametrize("name", ["author", "title", "id", "notes", "language", "price", "url"])
def test_what_is_like_no_field_is_metadata(room: Path, name: str) -> None:
    """Common columns of a catalogue are not taken for slips."""
    source = source_of(room / "a.csv", f"prompt,{name}\na,b\n".encode())
    assert list(source.again()) == [{"prompt": "a", "metadata": {name: "b"}}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no column named prompt"),
        (b"a lighthouse, in fog\n", "has no column named prompt"),
        (b"text,quality\na,2K\n", "has no column named prompt"),
        (b"prompt,quality,Quality\n", "more than one column 'quality'"),
        (b"prompt,author,author\n", "more than one column 'author'"),
        ("prompt\na\n".encode("utf-16"), "line 1 is no UTF-8 text"),
        (b'"prompt\na\n', "line 1 opens a quote that is not closed"),
    ],
)
def test_a_table_without_good_columns_is_refused(room: Path, content: bytes, words: str) -> None:
    """Nothing is guessed where the first line does not name the columns."""
    with pytest.raises(UsageError, match=words):
        source_of(room / "a.csv", content)


def test_every_bad_row_is_named(room: Path) -> None:
    """Each fault is told with the line on which its row begins, and the rest is still read."""
    source = source_of(
        room / "a.csv",
        b"prompt,steps,cfg,\n"
        b'"two\nlines",99,nan,\n'
        b",5,,\n"
        b"a sea, calm and blue\n"
        b"one,2,3,4\n"
        b"one,2,3,,5\n"
        b"\xe4,,,\n"
        b'"x" y,,,\n'
        b"fine,,,\n"
        b'"open,,,\n',
    )
    faults = survey(source, {}, lambda fields: Session("unused").price(fields)).faults
    start = f"{room / 'a.csv'}, line "
    unnamed = "in a column without a name; a text that holds the separator is written in quotes"
    assert [fault.removeprefix(start) for fault in faults] == [
        "2: steps must be from 1 to 50, not 99; cfg must be a number from 1.5 to 10, not 'nan'",
        "4: prompt is missing",
        "5: steps must be a whole number from 1 to 50, not 'calm and blue'",
        f"6: has '4' {unnamed}",
        f"7: has '5' {unnamed}",
        "8: is no UTF-8 text",
        "9: has text right after a closing quote; a quote within a text is written twice",
        "11: opens a quote that is not closed",
    ]


def test_a_quote_that_is_never_closed_does_not_swallow_the_file(room: Path) -> None:
    """A text of more characters than any prompt has is a fault, not an item."""
    source = source_of(room / "a.csv", b'prompt\n"' + b"a,b\n" * 50_000)
    number, item = next(iter(source.numbered()))
    assert number == 2
    assert isinstance(item, BadLine)
    assert item.message == "opens a quote that is not closed"


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_spreadsheets_separate_as_they_like(room: Path, separator: str) -> None:
    """The separator is what sets the prompts apart in the first line."""
    rows = [['"prompt"', "steps", "author"], ['"a, b; c\td"', " 3", "me"]]
    source = source_of(room / "a.csv", "\r".join(map(separator.join, rows)).encode())
    assert list(source.numbered()) == [
        (2, {"prompt": "a, b; c\td", "steps": 3, "metadata": {"author": "me"}})
    ]


def test_a_table_that_lost_its_columns_meanwhile(room: Path) -> None:
    """Between the count and the purchase the file may change: no row is read by other names."""
    source = source_of(room / "a.csv", b"prompt\na\n")
    (room / "a.csv").write_bytes(b"quality\n2K\n")
    with pytest.raises(UsageError, match="no column named prompt"):
        list(source.again())
