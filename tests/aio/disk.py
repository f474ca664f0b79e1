"""A disk under the tests' hands: SQLite without a thread, slow, full or broken when it is told to.

Virtual time stands still while it works, and what a test sees is what lies in the file.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fluxflex import FixedPolling
from fluxflex._aio.schema import WRITTEN
from tests.aio.fakes import FakeSession, FakeTransport

FULL = "SQLITE_FULL", "database or disk is full"
BROKEN = "SQLITE_IOERR_WRITE", "disk I/O error"


def trouble(kind: tuple[str, str]) -> sqlite3.OperationalError:
    """Return an error as SQLite raises it."""
    name, words = kind
    error = sqlite3.OperationalError(words)
    error.sqlite_errorname = name
    return error


class Disk:
    """Where journals lie: `gate` holds back every group, `fail` lets groups fail.

    Attributes:
        gate: groups are written while it is set.
        arrived: set when a group is about to be written.
        groups: the rows of each group that was written, in order.
        opened: the files that were opened.
        after: called with each statement that was run.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()
        self.groups: list[list[dict[str, Any]]] = []
        self.tries = 0
        self.opened: list[Path] = []
        self.after: Callable[[str], Awaitable[None]] | None = None
        self._trouble: list[Exception] = []

    def fail(self, *errors: Exception) -> None:
        """Let as many of the next groups fail."""
        self._trouble.extend(errors)

    def hold(self) -> None:
        """Let no group through from now on."""
        self.arrived.clear()
        self.gate.clear()

    async def connect(self, address: str, **options: Any) -> Connection:
        """Open a file."""
        self.opened.append(Path(unquote(urlsplit(address).path)))
        return Connection(self, sqlite3.connect(address, **options))

    async def write(self) -> None:
        """Wait for the gate, and fail where that is told."""
        self.tries += 1
        self.arrived.set()
        await self.gate.wait()
        if self._trouble:
            raise self._trouble.pop(0)


def written(values: Sequence[object]) -> Iterable[dict[str, Any]]:
    """Return the rows of a statement by their columns, each once."""
    rows = {}
    for start in range(0, len(values), len(WRITTEN)):
        row = zip(WRITTEN, values[start : start + len(WRITTEN)], strict=True)
        found = {name: value for name, value in row if value is not None}
        rows[found["id"]] = found
    return rows.values()


class Connection:
    """Stands for aiosqlite's."""

    def __init__(self, disk: Disk, sqlite: sqlite3.Connection) -> None:
        self._disk = disk
        self._sqlite = sqlite

    async def execute_fetchall(
        self, sql: str, values: Sequence[object] | Mapping[str, object] = ()
    ) -> Iterable[tuple[Any, ...]]:
        """Run one statement."""
        writes = sql.startswith("INSERT INTO items")
        if writes:
            await self._disk.write()
        given: Any = values
        rows = self._sqlite.execute(sql, given).fetchall()
        if writes:
            self._disk.groups.append(list(written(given)))
        if self._disk.after is not None:
            await self._disk.after(sql)
        return rows

    async def close(self) -> None:
        """Close the file."""
        self._sqlite.close()


def copied(path: Path, to: Path) -> Path:
    """Copy a journal as it lies on the disk in this moment, as a kill would leave it."""
    to.mkdir(parents=True)
    for each in sorted(path.parent.glob(f"{path.name}*")):
        if not each.name.endswith("-shm"):
            shutil.copy(each, to / each.name)
    return to / path.name


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a journal that nobody has open."""
    with sqlite3.connect(path) as sqlite:
        sqlite.row_factory = sqlite3.Row
        found = [dict(row) for row in sqlite.execute("SELECT * FROM items ORDER BY id")]
    sqlite.close()
    return found


def glimpse(path: Path, to: Path) -> list[dict[str, Any]]:
    """Return the rows of a journal as a kill in this moment would leave them."""
    return rows(copied(path, to))


def change(path: Path, sql: str) -> None:
    """Change a journal that nobody has open."""
    with sqlite3.connect(path) as sqlite:
        sqlite.execute(sql)
    sqlite.close()


def quick(fake: FakeTransport | None = None, **settings: Any) -> FakeSession:
    """Return a session that looks every second."""
    return FakeSession(fake, **{"poll": FixedPolling(1.0), "poll_rate": None, **settings})


def names_in(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return sorted(each.name for each in folder.iterdir())


def bytes_of(folder: Path) -> bytes:
    """Return the bytes of all files of a folder."""
    return b"".join(each.read_bytes() for each in sorted(folder.iterdir()) if each.is_file())


def money(text: object) -> Decimal:
    """Return a sum as a row has it."""
    return Decimal(str(text or 0))
