"""Sources: files that are checked before anything is bought, and lines on stdin."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from fluxflex.cli.exits import UsageError
from fluxflex.cli.source import BadLine, FileSource, Item, StdinSource, open_source, survey
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


@pytest.mark.parametrize("name", ["a.csv", "a", "folder.txt", "missing.txt"])
def test_unknown_sources_are_named(room: Path, name: str) -> None:
    """What cannot be read is refused with the kinds that there are."""
    (room / "a.csv").touch()
    (room / "a").touch()
    (room / "folder.txt").mkdir()
    with pytest.raises(
        UsageError, match=r"\.txt \(a prompt a line; blank .* # are skipped\), \.jsonl"
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
