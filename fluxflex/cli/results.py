"""`results.jsonl`: a line an item, which grows during a run and is put in order at its end.

A later run carries the file on: what it had stays, news is put below it, and the last line of an
item counts. A last line that was torn by a kill is cut off; the journal knows what stood there.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from decimal import Decimal
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Self

from fluxflex import GenerateRequest, TaskState
from fluxflex.cli import gallery, hints
from fluxflex.cli.places import RESULTS
from fluxflex.errors import FluxFlexError

Row = dict[str, object]

_UNSENT = TaskState.QUEUED.name
# A line's place is one number: where it begins, and in the lower bits how long it is.
_BITS = 32
_LENGTH = (1 << _BITS) - 1


def _clean(text: str) -> str:
    """Return text that every encoder takes: half characters are replaced."""
    return text.encode("utf-8", "replace").decode()


def describe(
    error: FluxFlexError | None, *, simulated: bool = False, way: str | None = None
) -> Row | None:
    """Return an error as JSON; `way` is the command that goes on with its batch."""
    if error is None:
        return None
    return {
        "type": type(error).__name__,
        "message": _clean(error.message),
        "charged": error.charged,
        "hint": hints.hint(error, simulated=simulated, way=way),
    }


def row(
    *,
    index: int,
    request: GenerateRequest | Mapping[str, object] | None,
    state: TaskState,
    task_id: str | None = None,
    path: str | None = None,
    url: str | None = None,
    error: FluxFlexError | None = None,
    cost: Decimal | None = None,
    simulated: bool = False,
    way: str | None = None,
) -> Row:
    """Return the line of an item; `way` is the command that goes on with its batch.

    `cost_usd` is 0 where nothing was bought, and null where nobody knows.
    """
    asked = request.to_dict() if isinstance(request, GenerateRequest) else dict(request or {})
    if isinstance(request, GenerateRequest):
        asked = {"quality": request.quality, **asked}
    prompt = asked.pop("prompt", None)
    free = error is not None and error.charged == "no"
    price = 0.0 if free or state is TaskState.QUEUED else None
    found: Row = {
        "index": index,
        "prompt": _clean(prompt) if isinstance(prompt, str) else None,
        "state": state.name,
        "task_id": task_id,
        "path": path,
        "url": url,
        "error": describe(error, simulated=simulated, way=way),
        "cost_usd": float(cost) if cost is not None else price,
    }
    if simulated:
        found["simulated"] = True
    return found | {name: value for name, value in asked.items() if name not in found}


def as_line(found: Row) -> str:
    """Return a row as one line of JSON."""
    return _clean(json.dumps(found, ensure_ascii=False))


def mark(
    state: TaskState | str,
    *,
    task_id: str | None = None,
    path: str | None = None,
    error: str | None = None,
) -> int:
    """Return a number that tells whether an item's line would say something new.

    `error` is the type of the item's error.
    """
    name = state if isinstance(state, str) else state.name
    return hash((name, task_id, path, error))


def _mark_of(found: Row) -> int:
    task_id, path, error = found.get("task_id"), found.get("path"), found.get("error")
    return mark(
        str(found["state"]),
        task_id=task_id if isinstance(task_id, str) else None,
        path=path if isinstance(path, str) else None,
        error=str(error.get("type")) if isinstance(error, Mapping) else None,
    )


class Results:
    """The file of a folder, for one run. Only where each line lies is kept in memory.

    Args:
        folder: of the batch.
        known: the numbers that the journal has. A line of something unsent that has none of them
            is what an earlier run made of an item that it never read, or that was no request; it
            is left out, since it gets a number anew.

    Attributes:
        grew: whether a line was added.
        error: why a line could not be written. unwritten: the lines for which there was no room.

    Raises:
        OSError: it cannot be read or written.
    """

    def __init__(self, folder: Path, known: Container[int] = ()) -> None:
        self.path = folder / RESULTS
        self.grew = False
        self.error: OSError | None = None
        self.unwritten: dict[int, Row] = {}
        # By index. What holds only numbers and texts costs the garbage collector nothing.
        self._where: dict[int, int] = {}
        self._marks: dict[int, int] = {}
        self._states: dict[int, str] = {}
        self._words: dict[int, str] = {}
        # Unbuffered: what could not be written must not come back with a later flush.
        self._file = self.path.open("r+b" if self.path.exists() else "x+b", buffering=0)
        self._tidy = self._load(known)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __contains__(self, index: int) -> bool:
        return index in self._where or index in self.unwritten

    @property
    def words(self) -> Counter[str]:
        """How many items stand how, in words."""
        lost = self.unwritten
        words = [word for index, word in self._words.items() if index not in lost]
        return Counter(words + [gallery.state_of(found) for found in lost.values()])

    def _load(self, known: Container[int]) -> bool:
        """Note where each line lies; return whether the file is in order."""
        tidy, before, end = True, -1, 0
        with self.path.open("rb") as file:
            for line in file:
                start, end = end, end + len(line)
                if not line.endswith(b"\n"):
                    self._file.truncate(start)
                    return False
                found = _row_in(line)
                index = -1 if found is None else int(str(found["index"]))
                if found is None or (found["state"] == _UNSENT and index + 1 not in known):
                    tidy = False
                    continue
                tidy, before = tidy and index > before, index
                self._put(index, found, start, len(line))
        return tidy

    def _put(self, index: int, found: Row, start: int, length: int) -> None:
        self._where[index] = start << _BITS | length
        self._marks[index] = _mark_of(found)
        self._states[index] = sys.intern(str(found["state"]))
        self._words[index] = sys.intern(gallery.state_of(found))

    def state(self, index: int) -> str | None:
        """Return the state that the line of an item names; `None` where it has none."""
        if index in self.unwritten:
            return str(self.unwritten[index]["state"])
        return self._states.get(index)

    def says(self, index: int, what: int) -> bool:
        """Say whether the line of an item says this already; see `mark`."""
        return self._marks.get(index) == what

    def add(self, index: int, found: Row) -> bool:
        """Write an item's line at once; false where it cannot be written, and is kept."""
        line = f"{as_line(found)}\n".encode()
        start = self._file.seek(0, os.SEEK_END)
        self._tidy, self.grew = False, True
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError as error:
            self._file.truncate(start)
            self.error = error
            self.unwritten[index] = found
            return False
        self._put(index, found, start, len(line))
        self.unwritten.pop(index, None)
        return True

    def finish(self, rest: Iterable[tuple[int, Row]] = ()) -> bool:
        """Put the file in order, in one step: what it had stays until the new one is whole.

        Args:
            rest: items without a line, in order; those that have one are passed over.

        Returns:
            Whether there was anything to do.

        Raises:
            OSError: it cannot be written; the lines stay as they came.
        """
        new = ((index, found) for index, found in rest if index not in self)
        first = next(new, None)
        if self._tidy and first is None:
            return False
        others = itertools.chain([] if first is None else [first], new)
        part = self.path.with_name(f".{RESULTS}.part")
        try:
            with part.open("wb") as file:
                for line in self._all(others):
                    file.write(line)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        self.unwritten.clear()
        return True

    def _all(self, others: Iterator[tuple[int, Row]]) -> Iterator[bytes]:
        kept = sorted(
            (index, f"{as_line(found)}\n".encode()) for index, found in self.unwritten.items()
        )
        here = sorted((index, self._where[index]) for index in self._where.keys() - dict(kept))
        for _, line in heapq.merge(self._lines(here), kept, self._noted(others), key=itemgetter(0)):
            yield line

    def _noted(self, others: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, bytes]]:
        for index, found in others:
            line = f"{as_line(found)}\n".encode()
            self._put(index, found, 0, len(line))
            yield index, line

    def _lines(self, places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
        with self.path.open("rb") as file:
            for index, place in places:
                start, length = place >> _BITS, place & _LENGTH
                if file.tell() != start:
                    file.seek(start)
                yield index, file.read(length)


def _row_in(line: bytes) -> Row | None:
    """Return the row that a line holds; `None` where it was damaged."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(found, dict) and {"index", "state"} <= found.keys()
    return found if whole and isinstance(found["index"], int) else None


def read(path: Path) -> Iterator[Row]:
    """Give the rows of a finished file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
