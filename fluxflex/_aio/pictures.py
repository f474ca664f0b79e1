"""Picture files: how they are known, named and written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from pathlib import Path

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tiff"),
    (b"MM\x00*", ".tiff"),
)


def suffix_of(content: bytes) -> str | None:
    """Return the file suffix of a picture by its first bytes; `None` for what is no picture."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    if content[4:8] == b"ftyp" and content[8:12] in {b"avif", b"avis"}:
        return ".avif"
    return next((suffix for start, suffix in _SIGNATURES if content.startswith(start)), None)


def file_stem(task_id: str) -> str:
    """Return a task id as the name of a file, whatever stands in it; no two share one."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", task_id).lstrip(".")[:100]
    if stem == task_id != "":
        return stem
    return f"{stem or 'image'}-{hashlib.sha256(task_id.encode()).hexdigest()[:8]}"


def write(path: Path, task_id: str, content: bytes) -> Path:
    """Write a picture whole or not at all, and return where it lies.

    Raises:
        OSError, ValueError: it cannot be written.
    """
    suffix = suffix_of(content) or ""
    if path.is_dir():
        path = path / f"{file_stem(task_id)}{suffix}"
    elif not path.suffix:
        path = path.with_name(path.name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that the rename is atomic.
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError, ValueError):
            part.unlink()
        raise
    return path
