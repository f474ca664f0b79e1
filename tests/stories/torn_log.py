"""SQLite's write-ahead log as a power cut may leave it: without the page that was written last."""

from __future__ import annotations

from collections.abc import Iterator

from tests.stories.kill_helpers import Series

_LOG_HEAD, _FRAME_HEAD, _PAGE = 32, 24, 4096
_FRAME = _FRAME_HEAD + _PAGE


def _frames(log: bytes) -> Iterator[int]:
    """Give where each frame of a write-ahead log begins; those of an earlier round are not its."""
    salts = log[16:24]
    for start in range(_LOG_HEAD, len(log) - _FRAME + 1, _FRAME):
        if log[start + 8 : start + 16] != salts:
            return
        yield start


def tear(batch: Series) -> None:
    """Tear the page of the journal that was written last."""
    log = batch.journal.with_name(f"{batch.journal.name}-wal")
    if not log.exists() or not (found := list(_frames(log.read_bytes()))):
        return
    if batch.journal.stat().st_mtime_ns >= log.stat().st_mtime_ns:
        return  # it was being put into the one file, and so was safe on the disk before
    last, way = found[-1], batch.rng.choice(("cut", "zeros", "garbage"))
    with log.open("r+b") as file:
        if way == "cut":
            file.truncate(last + _FRAME_HEAD + _PAGE // 2)
        else:
            file.seek(last + _FRAME_HEAD)
            file.write(bytes(_PAGE) if way == "zeros" else batch.rng.randbytes(_PAGE))
    batch.story.append(f"torn: {way}, page {len(found)} of the log")
