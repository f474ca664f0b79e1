"""The files of a journal on the disk: made for nobody else to read, with room put aside."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

# Put aside while there is room, so that what was paid for can be written when there is none.
RESERVE = 512 * 1024
# The head of an SQLite file, as its documentation has it.
_HEAD, _MAGIC, _ID = 100, b"SQLite format 3\0", slice(68, 72)


Identity = tuple[int, int]

# The journals that are open in this process. To close any descriptor of a file gives away all locks
# that the process has on it, so none is made for a file that is open here.
_claimed: set[Identity] = set()
_claiming = threading.Lock()


def claim(path: Path, *, create: bool) -> Identity | None:
    """Take a file for oneself within this process, and make it where it is to be made.

    Returns `None` where somebody here has it; `release` gives it free.

    Raises:
        OSError: it is not there, or cannot be made.
    """
    with _claiming:
        if create and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError), _opened(path, os.O_CREAT | os.O_EXCL):
                pass
        found = path.stat()
        identity = found.st_dev, found.st_ino
        if identity in _claimed:
            return None
        _claimed.add(identity)
        return identity


def release(identity: Identity) -> None:
    """Give a file free for others in this process."""
    _claimed.discard(identity)


def is_new(path: Path) -> bool:
    """Say whether nothing was written to a file yet."""
    return path.stat().st_size == 0


def is_ours(path: Path, application_id: int) -> bool:
    """Say whether a file is a database of this program, without touching it."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return head.startswith(_MAGIC) and head[_ID] == application_id.to_bytes(4)


def close_to_others(path: Path) -> None:
    """Let nobody else read the file: it holds prompts."""
    with contextlib.suppress(OSError):  # somebody else's, or a file system without modes
        path.chmod(0o600)


def put_aside(path: Path) -> None:
    """Take room on the disk for what must be written when it is full.

    Raises:
        OSError: there is none now.
    """
    reserve = _reserve_of(path)
    if reserve.exists() and reserve.stat().st_size == RESERVE:
        return
    with _opened(reserve, os.O_CREAT | os.O_TRUNC) as file:
        # Random, so that no file system stores it as nothing.
        _write_all(file, secrets.token_bytes(RESERVE))
        os.fsync(file)


def free(path: Path) -> None:
    """Give that room back."""
    with contextlib.suppress(OSError):
        _reserve_of(path).unlink()


def exists(path: Path) -> bool:
    """Say whether there is a file."""
    return path.is_file()


def remove(path: Path) -> None:
    """Remove a journal file with what stands beside it."""
    for each in (path, _log_of(path), _reserve_of(path)):
        with contextlib.suppress(OSError):
            each.unlink()


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _reserve_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-reserve")


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | flags, 0o600)
    try:
        yield file
    finally:
        os.close(file)
