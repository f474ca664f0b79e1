"""What the lines of a source ask for: a prompt each, or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import attrs

from fluxflex.errors import Fault, InvalidRequestError

NO_TEXT = "is no UTF-8 text"
_BOM = b"\xef\xbb\xbf"


@attrs.frozen
class BadLine:
    """A line that is no request; the batch gives it an outcome like any other."""

    number: int
    message: str

    @property
    def error(self) -> InvalidRequestError:
        """Why it is none."""
        return InvalidRequestError([Fault(f"line {self.number}", self.message)])


Item = Mapping[str, object] | BadLine


def _prompt_line(text: str) -> Mapping[str, object]:
    return {"prompt": text}


def _json_line(text: str) -> Mapping[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = f": {error}" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"is no JSON{why}") from None
    if isinstance(value, str):
        return {"prompt": value}
    if not isinstance(value, dict):
        raise ValueError(f"must be a JSON object or string, not {type(value).__name__}")  # noqa: TRY004 - a fault of the line, told like the others
    return value


def _either_line(text: str) -> Mapping[str, object]:
    """Read a line of stdin: what begins as an object is JSON, anything else may be a prompt."""
    if text.startswith("{"):
        return _json_line(text)
    if text.startswith('"'):
        try:
            return _json_line(text)
        except ValueError:
            return _prompt_line(text)
    return _prompt_line(text)


@attrs.frozen
class LineReader:
    """How the lines of one kind of source are read."""

    parse: Callable[[str], Mapping[str, object]]
    comments: bool

    def notes(self, _path: Path) -> tuple[str, ...]:
        """Return nothing: there is no more to a file than its lines."""
        return ()

    def numbered(self, path: Path) -> Iterator[tuple[int, Item]]:
        """Give each item of a file with the number of its line."""
        with path.open("rb") as file:
            yield from self.items(file)

    def items(self, lines: Iterable[bytes]) -> Iterator[tuple[int, Item]]:
        """Give each item with the number of its line."""
        for number, line in enumerate(lines, 1):
            item = self.item(number, line)
            if item is not None:
                yield number, item

    def item(self, number: int, line: bytes) -> Item | None:
        """Return what a line asks for; `None` for a line to skip."""
        try:
            text = (line.removeprefix(_BOM) if number == 1 else line).decode().strip()
        except UnicodeDecodeError:
            return BadLine(number, NO_TEXT)
        if not text or (self.comments and text.startswith("#")):
            return None
        try:
            return self.parse(text)
        except ValueError as error:
            return BadLine(number, str(error))


PROMPTS = LineReader(_prompt_line, comments=True)
OBJECTS = LineReader(_json_line, comments=False)
EITHER = LineReader(_either_line, comments=True)
