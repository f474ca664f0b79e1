"""Journals in a folder, one file per process: taking over what processes that are gone left."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from fluxflex._aio import room
from fluxflex._aio.entry import ACCEPTED, Row
from fluxflex._aio.schema import FORGOTTEN, HOME, MOST_ROWS, WRITTEN
from fluxflex._aio.store import Store
from fluxflex._core.lifecycle import Key, TaskState
from fluxflex.errors import JournalError

log = logging.getLogger("fluxflex")


def file_in(folder: Path) -> Path:
    """Return the name of this process's own file; no other session has it."""
    return folder / f"{os.getpid()}-{secrets.token_hex(4)}.db"


async def adopt(own: Store, new_key: Callable[[], Key]) -> None:
    """Take over the entries of all files beside our own that nobody uses.

    A file that is damaged or another account's stays as it is.
    """
    for path in sorted(own.path.parent.glob("*.db")):
        if path == own.path:
            continue
        try:
            other = await Store.open(path, create=False)
        except JournalError as error:
            log.info("not adopted: %s", error.message)
            continue
        try:
            same = await _is_same(other, own)
            if same:
                await _copy(other, own, new_key)
                room.remove(path)  # before anybody else can take it over
            else:
                log.warning("%s belongs to another account: it is left as it is", path)
        except _DamagedError as error:
            log.warning("only in part adopted: %s", error)
            same = False
        finally:
            await other.close()
        if same:
            room.remove(path)  # where an open file cannot be removed


_WHOSE = ("origin", "account")
# Of these a callback may still tell.
_OWED = {state.name for state in (*ACCEPTED, TaskState.UNCERTAIN)}


class _DamagedError(Exception):
    """Another file cannot be read; what is wrong with our own is told as it is."""


@contextlib.contextmanager
def _theirs() -> Iterator[None]:
    try:
        yield
    except JournalError as error:
        raise _DamagedError(error.message) from error


async def _is_same(other: Store, own: Store) -> bool:
    with _theirs():
        whose = [await other.fact(name) for name in _WHOSE]
    return whose == [await own.fact(name) for name in _WHOSE]


async def _rows(other: Store, after: int) -> list[tuple[object, ...]]:
    with _theirs():
        return await other.read(_ROWS, (after, MOST_ROWS))


async def _copy(other: Store, own: Store, new_key: Callable[[], Key]) -> None:
    """Copy what a file holds; all of it may be done again when it was cut off."""
    with _theirs():
        forgotten = await other.facts(FORGOTTEN)
    for name, value in forgotten:
        kept = f"{FORGOTTEN} {other.path.name}" if name == FORGOTTEN else name
        await own.note(kept, value)
    done, owed = 0, set()
    while rows := await _rows(other, done):
        taken: list[Row] = []
        for values in rows:
            row = dict(zip(WRITTEN, values, strict=True))
            done = int(str(row["id"]))
            # Told apart by where it comes from.
            row |= {"id": new_key(), "source": row["source"] or f"{other.path.name}:{done}"}
            taken.append(row)
            if row["state"] in _OWED:
                owed.add(str(row["source"]).rpartition(":")[0])
        await own.take_over(taken)
    with _theirs():
        homes = await other.facts(HOME)
    for name, value in homes:
        file = name.removeprefix(HOME).strip() or other.path.name
        if file in owed:
            await own.note(f"{HOME} {file}", value)


_ROWS = f"SELECT {', '.join(WRITTEN)} FROM items WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 - our own names
