"""Reading a journal that no session has open."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from fluxflex._aio.entry import JournalEntry
from fluxflex._aio.store import Store


async def read_journal(path: str | os.PathLike[str]) -> AsyncIterator[JournalEntry]:
    """Read the entries of a journal that no session has open, in the order they were made.

    Raises:
        JournalError: it is in use, damaged, newer than this version, or no journal.
        ConfigurationError: the extra `journal` is not installed.
    """
    store = await Store.open(Path(path), create=False)
    try:
        async for entry in store.entries():
            yield entry
    finally:
        await store.close()
