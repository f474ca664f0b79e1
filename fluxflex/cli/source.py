"""Where a batch's items come from: a file, read twice and lazily, or stdin, as it comes."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import attrs

from fluxflex.cli.exits import UsageError
from fluxflex.errors import Fault, InvalidRequestError

_KINDS = (
    ".txt (a prompt a line; blank lines and lines that begin with # are skipped), "
    ".jsonl (a JSON object or string a line), or - for lines on stdin"
)
NO_TEXT = "is no UTF-8 text"
_BOM = b"\xef\xbb\xbf"
_CHUNK = 65536
# Lines of stdin that may wait to be asked for.
_AHEAD = 64


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
class Reader:
    """How the lines of one kind of source are read."""

    parse: Callable[[str], Mapping[str, object]]
    comments: bool

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


_READERS = {
    ".txt": Reader(_prompt_line, comments=True),
    ".jsonl": Reader(_json_line, comments=False),
}
_STDIN = Reader(_either_line, comments=True)


class FileSource:
    """A file, read line by line; nothing of it is kept.

    Attributes:
        name: what to call it.
        total: how many items it has, once they were counted.
        ended: whether the last item was given.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self.name = str(path)
        self.total: int | None = None
        self.ended = False
        self._path = path
        self._reader = reader
        self._stopped = False

    def numbered(self) -> Iterator[tuple[int, Item]]:
        """Give each item with the number of its line."""
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                item = self._reader.item(number, line)
                if item is not None:
                    yield number, item

    def again(self) -> Iterator[Item]:
        """Give all items from the first."""
        return (item for _, item in self.numbered())

    async def items(self) -> AsyncIterator[Item]:
        """Give the items until the end or `stop`."""
        for given, item in enumerate(self.again(), 1):
            if self._stopped:
                return
            self.ended = given == self.total
            yield item
        self.ended = True

    def stop(self) -> None:
        """Give no more items."""
        self._stopped = True


class StdinSource:
    """Lines that come on a pipe, at their own pace.

    Attributes:
        name, total, ended: as those of a file; the total is not known.
    """

    total: int | None = None

    def __init__(self, fd: int = 0, reader: Reader = _STDIN) -> None:
        self.name = "stdin"
        self.ended = False
        self._fd = fd
        self._reader = reader
        self._stopped = False
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)

    def numbered(self) -> Iterator[tuple[int, Item]]:
        """Give each item with the number of its line, waiting for them; instead of `items`."""
        with open(self._fd, "rb", closefd=False) as pipe:
            for number, line in enumerate(pipe, 1):
                item = self._reader.item(number, line)
                if item is not None:
                    yield number, item

    def again(self) -> Iterator[Item]:
        """Give nothing: a pipe cannot be read twice."""
        return iter(())

    async def items(self) -> AsyncIterator[Item]:
        """Give the items as they come, until the end or `stop`."""
        # A thread of its own that nobody waits for: it may sit in a read for ever.
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._feed, args=(loop,), daemon=True, name="stdin").start()
        number = 0
        while True:
            line = await self._lines.get()
            if self._stopped:
                return
            if line is None:
                self.ended = True
                return
            self._room.release()
            number += 1
            item = self._reader.item(number, line)
            if item is not None:
                yield item

    def stop(self) -> None:
        """Give no more items; who waits for a line is woken."""
        self._stopped = True
        self._lines.put_nowait(None)

    def _feed(self, loop: asyncio.AbstractEventLoop) -> None:
        rest = b""
        try:
            # Not through `sys.stdin`: its lock must be free when the interpreter exits.
            while chunk := os.read(self._fd, _CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._give(loop, line)
            if rest:
                self._give(loop, rest)
            self._give(loop, None)
        except RuntimeError:
            pass  # the loop is closed: nobody wants the rest

    def _give(self, loop: asyncio.AbstractEventLoop, line: bytes | None) -> None:
        self._room.acquire()
        loop.call_soon_threadsafe(self._lines.put_nowait, line)


Source = FileSource | StdinSource


def open_source(name: str) -> Source:
    """Return the source of that name.

    Raises:
        UsageError: there is no such file, or it is of no known kind.
    """
    if name == "-":
        return StdinSource()
    path = Path(name)
    reader = _READERS.get(path.suffix.lower())
    if path.is_dir():
        raise UsageError(f"{name} is a folder. SOURCE is a file: {_KINDS}.")
    if not path.exists():
        raise UsageError(f"There is no file {name}. SOURCE is a file: {_KINDS}.")
    if reader is None:
        kind = path.suffix or "without a suffix"
        raise UsageError(f"{name}: files {kind} cannot be read. There are {_KINDS}.")
    return FileSource(path, reader)


@attrs.frozen
class Survey:
    """What a look through a whole source found: how many items, their price, and bad lines."""

    count: int
    estimate: Decimal
    faults: tuple[str, ...]


def survey(
    source: Source,
    defaults: Mapping[str, object],
    price: Callable[[Mapping[str, object]], Decimal],
) -> Survey:
    """Check every line of a source and add up what it would cost in USD."""
    count, estimate, faults = 0, Decimal(0), []
    for number, item in source.numbered():
        count += 1
        if isinstance(item, BadLine):
            faults.append(f"{source.name}, line {number}: {item.message}")
            continue
        try:
            estimate += price({**defaults, **item})
        except InvalidRequestError as error:
            faults.append(f"{source.name}, line {number}: {'; '.join(map(str, error.faults))}")
    if isinstance(source, FileSource):
        source.total = count
    return Survey(count, estimate, tuple(faults))
