"""What may be wrong with a journal's file, in words: for each what to do next."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from fluxflex.errors import JournalError


def foreign(path: Path) -> JournalError:
    """Return the error of a file that is none of ours."""
    return JournalError(f"{path} is no journal of fluxflex", hint="Name another file.")


def in_use(path: Path) -> JournalError:
    """Return the error of a file that somebody else has open."""
    return JournalError(
        f"The journal {path} is in use by another session or process",
        hint="Wait until that has ended, or use a journal of its own.",
    )


def _full(path: Path) -> JournalError:
    return JournalError(
        f"The journal {path} cannot be written: the disk is full",
        hint="Make room, then run the same thing again: it carries on.",
    )


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_IN_USE = "SQLITE_BUSY", "SQLITE_LOCKED"
MALFORMED = "the database is malformed"


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Raise what went wrong with the file as a `JournalError`, in words."""
    try:
        yield
    except sqlite3.Error as error:
        raise _in_words(path, error) from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _full(path) from error
        raise JournalError(
            f"The journal {path} cannot be written: {error.strerror or error}"
        ) from error


def _in_words(path: Path, error: sqlite3.Error) -> JournalError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(_IN_USE):
        return in_use(path)
    if name == "SQLITE_NOTADB":
        return foreign(path)
    if name == "SQLITE_FULL":
        return _full(path)
    if name.startswith("SQLITE_CORRUPT") or str(error) == MALFORMED:
        return JournalError(
            f"The journal {path} is damaged, so what it bought is not known for certain",
            hint="Put a copy of it back, or begin with a journal of its own, which buys anew.",
        )
    return JournalError(f"The journal {path} cannot be used: {error}")
