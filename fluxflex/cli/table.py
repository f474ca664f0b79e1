"""Rows of a `.csv` file as items: the first row names the fields of a request."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import TextIO

import attrs

from fluxflex import GenerateRequest
from fluxflex.cli.exits import UsageError
from fluxflex.cli.items import NO_TEXT, BadLine, Item

_FIELDS = tuple(field.name for field in attrs.fields(GenerateRequest))
_KEPT = "metadata."
# What other APIs call our fields; kept as metadata they would silently change nothing.
_FOREIGN = {
    "cfg_scale": "cfg",
    "guidance": "cfg",
    "guidance_scale": "cfg",
    "ratio": "aspect_ratio",
    "resolution": "quality",
    "size": "quality",
}
# How like a field's name a column's must be to be taken for a slip: one wrong letter in three.
_LIKE = 0.66
# Spreadsheets write semicolons where the comma is the decimal sign.
_SEPARATORS = ",;\t"
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_BETWEEN_URLS = re.compile(r"[\s|]+")


class TableReader:
    """How a table is read: row by row, nothing of it is kept."""

    def notes(self, path: Path) -> tuple[str, ...]:
        """Check the names of the columns, and say which are no fields of a request.

        Raises:
            UsageError: there is no column of prompts, or one has a doubtful name.
        """
        with _opened(path) as file:
            columns = _columns(path, _rows(file))
        kept = [name.removeprefix(_KEPT) for name in columns if name.startswith(_KEPT)]
        return (f"{path}: kept as metadata, not sent: {', '.join(kept)}.",) if kept else ()

    def numbered(self, path: Path) -> Iterator[tuple[int, Item]]:
        """Give each item with the number of the line on which its row begins.

        Raises:
            UsageError: as `notes`.
        """
        with _opened(path) as file:
            rows = _rows(file)
            columns = _columns(path, rows)
            for number, cells in rows:
                if isinstance(cells, BadLine):
                    yield number, cells
                elif any(cells):
                    yield number, _item(number, columns, cells)


def _opened(path: Path) -> TextIO:
    # Bytes that are no text are found again in the cells, and told with their line.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _rows(file: TextIO) -> Iterator[tuple[int, list[str] | BadLine]]:
    """Give the stripped cells of each row with the number of its first line."""
    first = file.readline()
    rows = csv.reader(
        chain([first] if first else [], file),
        delimiter=_separator(first),
        skipinitialspace=True,
        strict=True,
    )
    while True:
        number = rows.line_num + 1
        try:
            cells = next(rows, None)
        except csv.Error as error:
            yield number, BadLine(number, _why(error))
            continue
        if cells is None:
            return
        text = "".join(cells)
        yield number, BadLine(number, NO_TEXT) if _garbled(text) else [*map(str.strip, cells)]


def _separator(header: str) -> str:
    """Return what separates the columns: that which makes one of them the prompts."""
    for mark in _SEPARATORS:
        if "prompt" in {_plain(cell.strip(' "\r\n')) for cell in header.split(mark)}:
            return mark
    return _SEPARATORS[0]


def _garbled(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _why(error: csv.Error) -> str:
    said = str(error)
    if "end of data" in said or "field limit" in said:
        return "opens a quote that is not closed"
    if "expected after" in said:
        return "has text right after a closing quote; a quote within a text is written twice"
    return f"is no row of a table: {said}"


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _columns(path: Path, rows: Iterator[tuple[int, list[str] | BadLine]]) -> list[str]:
    """Take the first row; return the field of each column, or `metadata.` and its name.

    Raises:
        UsageError: as `TableReader.notes`.
    """
    _, cells = next(rows, (1, []))
    if isinstance(cells, BadLine):
        raise UsageError(f"{path}, line 1 {cells.message}. {_wanted()}")
    columns = [_column(path, name) for name in cells]
    if "prompt" not in columns:
        raise UsageError(f"{path} has no column named prompt. {_wanted()}")
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{path} has more than one column {twice.removeprefix(_KEPT)!r}.")
    return columns


def _wanted() -> str:
    others = ", ".join(name for name in _FIELDS if name != "prompt")
    return (
        "The first line of a .csv file names its columns: prompt and, as you like, "
        f"{others}; any other column is kept as metadata. The file is text in UTF-8."
    )


def _column(path: Path, name: str) -> str:
    plain = _plain(name)
    if not plain or plain in _FIELDS:
        return plain
    if plain.startswith(_KEPT):
        return _KEPT + name[len(_KEPT) :].strip()
    like = _FOREIGN.get(plain) or next(iter(get_close_matches(plain, _FIELDS, 1, _LIKE)), None)
    if like is not None:
        raise UsageError(
            f"{path}: a column is named {name!r}, which is no field of a request. If it is "
            f"meant to be {like}, name it so; if not, name it {_KEPT}{name} and it is kept as "
            "metadata. Nothing was bought."
        )
    return _KEPT + name


def _item(number: int, columns: list[str], cells: list[str]) -> Item:
    values: dict[str, object] = {}
    kept: dict[str, object] = {}
    for place, text in enumerate(cells):
        column = columns[place] if place < len(columns) else ""
        if text and not column:
            return BadLine(
                number,
                f"has {text[:20]!r} in a column without a name; a text that holds the "
                "separator is written in quotes",
            )
        if text and column.startswith(_KEPT):
            kept[column.removeprefix(_KEPT)] = text
        elif text:
            values[column] = _value(column, text)
    given = values.get("metadata", {})
    # What is no mapping stays as it is, for the rules of a request to name it.
    if kept and isinstance(given, Mapping):
        values["metadata"] = {**given, **kept}
    return values


def _value(field: str, text: str) -> object:
    """Return a cell as its field's type; as text where it is none, for the rules to name it."""
    if field == "image_urls":
        return [url for url in _BETWEEN_URLS.split(text) if url]
    if field == "metadata":
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    if field in {"steps", "cfg"} and _NUMBER.fullmatch(text):
        number = float(text)
        # Spreadsheets write whole numbers as 30.0.
        return int(number) if field == "steps" and number.is_integer() else number
    return text
