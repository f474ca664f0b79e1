"""`results.jsonl`: a line an item, which grows during a run and is put in order at its end."""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Self

from fluxflex import GenerateRequest, TaskState
from fluxflex.cli import hints
from fluxflex.cli.exits import UsageError
from fluxflex.cli.places import RESULTS
from fluxflex.errors import FluxFlexError

Row = dict[str, object]


def _clean(text: str) -> str:
    """Return text that every encoder takes: half characters are replaced."""
    return text.encode("utf-8", "replace").decode()


def describe(error: FluxFlexError | None, *, simulated: bool = False) -> Row | None:
    """Return an error as JSON."""
    if error is None:
        return None
    return {
        "type": type(error).__name__,
        "message": _clean(error.message),
        "charged": error.charged,
        "hint": hints.hint(error, simulated=simulated),
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
) -> Row:
    """Return the line of an item.

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
        "error": describe(error, simulated=simulated),
        "cost_usd": float(cost) if cost is not None else price,
    }
    if simulated:
        found["simulated"] = True
    return found | {name: value for name, value in asked.items() if name not in found}


def as_line(found: Row) -> str:
    """Return a row as one line of JSON."""
    return _clean(json.dumps(found, ensure_ascii=False))


class Results:
    """The file of a run. Only where each line lies is kept in memory.

    Raises:
        UsageError: somebody else has begun a batch in this folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS
        self.error: OSError | None = None
        self.unwritten: list[Row] = []
        self._where: dict[int, tuple[int, int]] = {}
        try:
            # Unbuffered: what could not be written must not come back with a later flush.
            self._file = self.path.open("x+b", buffering=0)
        except FileExistsError:
            raise UsageError(f"{folder} already holds a batch. Choose another -o.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._where) + len(self.unwritten)

    def add(self, index: int, found: Row) -> bool:
        """Write an item's line at once; false where it cannot be written, and is kept."""
        line = f"{as_line(found)}\n".encode()
        start = self._file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError as error:
            self._file.truncate(start)
            self.error = error
            self.unwritten.append(found)
            return False
        self._where[index] = start, len(line)
        return True

    def finish(self, rest: Iterable[tuple[int, Row]] = ()) -> None:
        """Put the file in order, in one step: what it had stays until the new one is whole.

        Args:
            rest: items without an outcome, in order; those that have one are passed over.

        Raises:
            OSError: it cannot be written; the lines stay as they came.
        """
        kept: list[tuple[int, bytes]] = [
            (int(str(found["index"])), f"{as_line(found)}\n".encode()) for found in self.unwritten
        ]
        known = {index for index, _ in kept} | self._where.keys()
        others = (
            (index, f"{as_line(found)}\n".encode()) for index, found in rest if index not in known
        )
        part = self.path.with_name(f".{RESULTS}.part")
        try:
            with part.open("wb") as file:
                lines = heapq.merge(self._lines(), sorted(kept), others, key=itemgetter(0))
                file.writelines(line for _, line in lines)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        self.unwritten.clear()

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        for index in sorted(self._where):
            start, length = self._where[index]
            self._file.seek(start)
            yield index, self._file.read(length)


def read(path: Path) -> Iterator[Row]:
    """Give the rows of a finished file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
