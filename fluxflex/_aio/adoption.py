"""Journals in a folder, one file per process: taking over what processes that are gone left."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

from fluxflex._aio import room
from fluxflex._aio.entry import Row
from fluxflex._aio.schema import WRITTEN
from fluxflex._aio.store import Store
from fluxflex.errors import JournalError

log = logging.getLogger("fluxflex")

_CHUNK = 512


def file_in(folder: Path) -> Path:
    """Return the name of this process's own file; no other session has it."""
    return folder / f"{os.getpid()}-{secrets.token_hex(4)}.db"


async def adopt(own: Store, last_id: int) -> int:
    """Take over the entries of all files beside our own that nobody uses; return the last id.

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
            same = all([await other.fact(name) == await own.fact(name) for name in _WHOSE])
            if same:
                last_id = await _copy(other, own, last_id)
        finally:
            await other.close()
        if same:
            room.remove(path)
        else:
            log.warning("%s belongs to another account: it is left as it is", path)
    return last_id


_WHOSE = ("origin", "account")


async def _copy(other: Store, own: Store, last_id: int) -> int:
    done = 0
    while True:
        rows = await other.read(
            f"SELECT {', '.join(WRITTEN)} FROM items WHERE id > ? "  # noqa: S608 - our own names
            f"ORDER BY id LIMIT {_CHUNK}",
            (done,),
        )
        if not rows:
            return last_id
        taken: list[Row] = []
        for values in rows:
            row = dict(zip(WRITTEN, values, strict=True))
            done = int(str(row["id"]))
            last_id += 1
            # Told apart by where it comes from: a copy that was cut off may be made again.
            row |= {"id": last_id, "source": row["source"] or f"{other.path.name}:{done}"}
            taken.append(row)
        await own.take_over(taken)
