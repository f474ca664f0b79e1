"""Where a batch's items come from: a file, read twice and lazily, or stdin, as it comes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Protocol

import attrs

from fluxflex.cli.exits import UsageError
from fluxflex.cli.items import EITHER, NO_TEXT, OBJECTS, PROMPTS, BadLine, Item, LineReader
from fluxflex.cli.table import TableReader
from fluxflex.errors import InvalidRequestError

__all__ = [
    "NO_TEXT",
    "BadLine",
    "FileSource",
    "Item",
    "Source",
    "StdinSource",
    "Survey",
    "open_source",
    "survey",
]

_KINDS = (
    ".txt (a prompt a line; blank lines and lines that begin with # are skipped), "
    ".csv (its first line names the columns, prompt among them), "
    ".jsonl (a JSON object or string a line), or - for lines on stdin"
)
_CHUNK = 65536
# Lines of stdin that may wait to be asked for.
_AHEAD = 64
# Bad lines that are told one by one.
_NAMED = 10


class Reader(Protocol):
    """How files of one kind are read."""

    def notes(self, path: Path, /) -> tuple[str, ...]:
        """Return what people should know before its items are bought.

        Raises:
            UsageError: the file as a whole cannot be used.
        """

    def numbered(self, path: Path, /) -> Iterator[tuple[int, Item]]:
        """Give each item with the number of its line; nothing of the file is kept."""


_READERS: Mapping[str, Reader] = {".txt": PROMPTS, ".csv": TableReader(), ".jsonl": OBJECTS}


class FileSource:
    """A file, read item by item; nothing of it is kept.

    Attributes:
        name: what to call it.
        notes: what people should know before its items are bought.
        total: how many items it has, once they were counted.
        ended: whether the last item was given.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self.name = str(path)
        self.notes = reader.notes(path)
        self.total: int | None = None
        self.ended = False
        self._path = path
        self._reader = reader
        self._stopped = False

    def numbered(self) -> Iterator[tuple[int, Item]]:
        """Give each item with the number of its line."""
        return self._reader.numbered(self._path)

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
        name, notes, total, ended: as those of a file; the total is not known.
    """

    total: int | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, fd: int = 0, reader: LineReader = EITHER) -> None:
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
            yield from self._reader.items(pipe)

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
        UsageError: there is no such file, it is of no known kind, or its columns are not named.
    """
    if name == "-":
        return StdinSource()
    if not name:
        raise UsageError(f"SOURCE is blank. It is a file: {_KINDS}.")
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

    def complaints(self) -> Iterator[str]:
        """Give the first of the bad lines, and how many more there are."""
        yield from self.faults[:_NAMED]
        if len(self.faults) > _NAMED:
            garbled = any(fault.endswith(NO_TEXT) for fault in self.faults)
            doubt = " Is it a text file in UTF-8?" if garbled else ""
            yield f"… and {len(self.faults) - _NAMED:,} more.{doubt}"


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
