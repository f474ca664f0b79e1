"""The journal's file: SQLite through aiosqlite, for one process at a time.

`psow=0` tells SQLite that a power cut may tear the sector that was written last. It then repeats
the end of each transaction up to the end of its sector, and a torn last page of the write-ahead log
takes a repetition and nothing else. Without it the last transaction would be dropped.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Self

from fluxflex._aio import room, schema
from fluxflex._aio.entry import COLUMNS, JournalEntry, Row, entry_of, error_text
from fluxflex._aio.schema import (
    APPLICATION_ID,
    FORGOTTEN,
    LAST_NUMBERS,
    LEFT_UNCERTAIN,
    MIGRATIONS,
    MOST_ROWS,
    PRAGMAS,
    WRITTEN,
)
from fluxflex._aio.trouble import MALFORMED, foreign, in_use, told
from fluxflex._core import refusals
from fluxflex.errors import ConfigurationError, JournalError

if TYPE_CHECKING:
    import aiosqlite

_CHUNK = 512
# Sizes of groups go up in steps, so that few statements are prepared.
_STEP = 8


class Store:
    """An open journal file.

    Args:
        connection: to the database.
        path: of the file.
        identity: by which it is claimed in this process.
    """

    def __init__(
        self, connection: aiosqlite.Connection, path: Path, identity: room.Identity
    ) -> None:
        self.path = path
        self._connection = connection
        self._identity = identity

    def __repr__(self) -> str:
        return f"<Store: {self.path}>"

    @classmethod
    async def open(cls, path: Path, *, create: bool) -> Self:
        """Open a file, or make it, and bring its schema up to date.

        Raises:
            JournalError: it is in use, damaged, newer than this version, or no journal.
            ConfigurationError: aiosqlite is not installed.
        """
        connect = _connect()
        if not create and not room.exists(path):
            kind = "is a folder" if path.is_dir() else "does not exist"  # noqa: ASYNC240 - once, before anything runs
            raise JournalError(f"{path} {kind}", hint="Name the file of a journal.")
        with told(path):
            identity = room.claim(path, create=create)
        if identity is None:
            raise in_use(path)
        try:
            with told(path):
                new = _looked_at(path, create=create)
                address = f"{path.absolute().as_uri()}?psow=0"  # noqa: ASYNC240 - touches no disk
                store = cls(
                    await connect(address, uri=True, isolation_level=None, timeout=0),
                    path,
                    identity,
                )
        except BaseException:
            room.release(identity)
            raise
        try:
            with told(path):
                await store._prepare(new=new)
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                await store._disconnect()
            raise
        return store

    async def _prepare(self, *, new: bool) -> None:
        # The lock is taken by the first write, and kept until the file is closed.
        await self.fetch("PRAGMA locking_mode = EXCLUSIVE")
        if new:
            # By it the file is known, whatever happens next.
            await self.fetch(f"PRAGMA application_id = {APPLICATION_ID}")
        for pragma in PRAGMAS:
            await self.fetch(f"PRAGMA {pragma}")
        await self.fetch("BEGIN IMMEDIATE")
        try:
            await self._migrate()
            await self._check()
            # Whoever was sending then has gone, since the file is ours now.
            await self.fetch(LEFT_UNCERTAIN, (error_text(refusals.interrupted()),))
        except BaseException:
            await self.fetch("ROLLBACK")
            raise
        await self.fetch("COMMIT")

    async def _migrate(self) -> None:
        version = await self._number("PRAGMA user_version")
        if version > len(MIGRATIONS):
            raise JournalError(
                f"The journal {self.path} was written by a newer version of fluxflex",
                hint="Use that version, or a journal of its own.",
            )
        for script in MIGRATIONS[version:]:
            for statement in filter(str.strip, script.split(";")):
                await self.fetch(statement)
        if version < len(MIGRATIONS):
            await self.fetch(f"PRAGMA user_version = {len(MIGRATIONS)}")

    async def _check(self) -> None:
        # Always: nothing may be bought on top of a file that has forgotten what was bought.
        if await self.fetch("PRAGMA quick_check(1)") != [("ok",)]:
            raise sqlite3.DatabaseError(MALFORMED)

    async def _number(self, sql: str) -> int:
        [[number]] = await self.fetch(sql)
        return int(str(number))

    async def fetch(
        self, sql: str, values: Sequence[object] | Mapping[str, object] = ()
    ) -> list[tuple[object, ...]]:
        """Run one statement and return what it gives.

        Raises:
            sqlite3.Error: it cannot be done.
        """
        return list(await self._connection.execute_fetchall(sql, values))  # type: ignore[arg-type]  # sqlite3 takes both

    async def write(self, rows: Iterable[Row]) -> None:
        """Write rows to disk: all or none of `MOST_ROWS`, and more in as many steps.

        Args:
            rows: of items; columns that are absent stay as they are.

        Raises:
            JournalError: they cannot be written.
        """
        with told(self.path):
            await self._put(schema.upsert, list(rows))

    async def read(
        self, sql: str, values: Sequence[object] | Mapping[str, object] = ()
    ) -> list[tuple[object, ...]]:
        """Run one statement that only reads, and return what it gives.

        Raises:
            JournalError: it cannot be read.
        """
        with told(self.path):
            return await self.fetch(sql, values)

    async def stretch(self, most: int, where: str, *values: object) -> list[JournalEntry]:
        """Read at most so many entries, in the order of their ids.

        Raises:
            JournalError: they cannot be read.
        """
        rows = await self.read(
            f"SELECT {', '.join(COLUMNS)} FROM items WHERE {where} "  # noqa: S608 - our own words
            "ORDER BY id LIMIT ?",
            (*values, most),
        )
        return [entry_of(row, self.path.parent) for row in rows]

    async def entries(self, where: str = "true", *values: object) -> AsyncIterator[JournalEntry]:
        """Read all entries of a kind in the order of their ids, a stretch at a time.

        Raises:
            JournalError: they cannot be read.
        """
        last = 0
        while stretch := await self.stretch(_CHUNK, f"id > ? AND ({where})", last, *values):
            for entry in stretch:
                yield entry
            last = stretch[-1].id

    async def take_over(self, rows: Iterable[Row]) -> None:
        """Write rows of another file; those that were taken over before stay as they are.

        Raises:
            JournalError: they cannot be written.
        """
        with told(self.path):
            await self._put(schema.take_over, list(rows))

    async def _put(self, statement: Callable[[int], str], rows: list[Row]) -> None:
        """Write rows in as few statements as there can be.

        The last row fills a size up: a row that is written twice changes nothing.
        """
        for start in range(0, len(rows), MOST_ROWS):
            part = rows[start : start + MOST_ROWS]
            size = -(-len(part) // _STEP) * _STEP
            part += part[-1:] * (size - len(part))
            await self.fetch(statement(size), [row.get(name) for row in part for name in WRITTEN])

    async def change(self, sql: str, *values: object) -> None:
        """Run one statement that writes.

        Raises:
            JournalError: it cannot be done.
        """
        with told(self.path):
            await self.fetch(sql, values)

    async def forget(self, which: str, then: float) -> None:
        """Remove entries; of them only the money is kept.

        Args:
            which: a condition, in which `:then` stands for a time.
            then: seconds since the epoch.

        Raises:
            JournalError: it cannot be done.
        """
        values = {"then": then}
        if not await self.read(f"SELECT id FROM items WHERE {which} LIMIT 1", values):  # noqa: S608 - our own words
            return
        money = await self.money(which, values)
        # In this order: cut off between the two, the money counts twice rather than never.
        with told(self.path):
            await self.note(FORGOTTEN, str(Decimal(await self.fact(FORGOTTEN) or 0) + money))
            await self.fetch(LAST_NUMBERS)
            await self.fetch(f"DELETE FROM items WHERE {which}", values)  # noqa: S608 - as above
            await self.fetch("PRAGMA wal_checkpoint(TRUNCATE)")  # the log still has their prompts

    async def money(self, which: str, values: Mapping[str, object] | None = None) -> Decimal:
        """Return what entries cost or may still cost, in USD; `which` is a condition.

        Raises:
            JournalError: it cannot be read.
        """
        rows = await self.read(
            f"SELECT spent, reserved, count(*) FROM items WHERE {which} "  # noqa: S608 - our own words
            "GROUP BY spent, reserved",
            values or {},
        )
        sums = ((Decimal(str(a or 0)) + Decimal(str(b or 0))) * int(str(n)) for a, b, n in rows)
        return sum(sums, Decimal(0))

    async def is_empty(self) -> bool:
        """Say whether nothing was ever noted in the file.

        Raises:
            JournalError: it cannot be read.
        """
        items = await self.read("SELECT 1 FROM items LIMIT 1")
        return not items and not await self.facts(FORGOTTEN)

    async def forgotten(self) -> Decimal:
        """Return the money of entries that were removed, in USD."""
        return sum((Decimal(value) for _, value in await self.facts(FORGOTTEN)), Decimal(0))

    async def facts(self, beginning: str) -> list[tuple[str, str]]:
        """Return what is noted about the file under names that begin so.

        Raises:
            JournalError: it cannot be read.
        """
        rows = await self.read(
            "SELECT name, value FROM facts WHERE name LIKE ?", (f"{beginning}%",)
        )
        return [(str(name), str(value)) for name, value in rows]

    async def fact(self, name: str) -> str | None:
        """Return what is noted about the file itself."""
        rows = await self.read("SELECT value FROM facts WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    async def note(self, name: str, value: str) -> None:
        """Note something about the file itself."""
        await self.change("INSERT OR REPLACE INTO facts VALUES (?, ?)", name, value)

    async def close(self) -> None:
        """Put everything into the one file, and give it free."""
        with told(self.path):
            await self._disconnect()

    async def _disconnect(self) -> None:
        try:
            await self._connection.close()
        finally:
            room.release(self._identity)

    def put_aside(self) -> None:
        """Take room on the disk for what must be written when it is full.

        Raises:
            JournalError: there is none now.
        """
        with told(self.path):
            room.put_aside(self.path)

    def free(self) -> None:
        """Give that room back."""
        room.free(self.path)

    async def shrink(self) -> None:
        """Give back all room that can be had: what was put aside, and that of the log."""
        self.free()
        with contextlib.suppress(Exception):  # whatever it is, it was told before
            await self.fetch("PRAGMA wal_checkpoint(TRUNCATE)")


def _looked_at(path: Path, *, create: bool) -> bool:
    """Look at a file before it is touched; say whether it is new.

    Raises:
        JournalError: it is none of ours.
    """
    new = room.is_new(path)
    if not (create if new else room.is_ours(path, APPLICATION_ID)):
        raise foreign(path)
    room.close_to_others(path)
    return new


def _connect() -> Callable[..., aiosqlite.Connection]:
    try:
        import aiosqlite
    except ImportError:
        raise ConfigurationError(
            "A journal needs aiosqlite", hint="Install it: pip install 'fluxflex[journal]'."
        ) from None
    return aiosqlite.connect
