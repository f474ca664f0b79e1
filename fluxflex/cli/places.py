"""Names of files and folders: where pictures go, and what must not be touched."""

from __future__ import annotations

import contextlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from fluxflex.cli.exits import UsageError
from fluxflex.errors import ConfigurationError

JOURNAL = "journal.db"
RESULTS = "results.jsonl"
GALLERY = "index.html"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".bmp", ".tiff")
# As a picture is named while it is written.
_PART = re.compile(r"\..+\.[0-9a-f]{12}\.part")
# As `numbered` names it, with its suffix.
_PICTURE = re.compile(rf"\d{{4,}}-.+({'|'.join(map(re.escape, SUFFIXES))})")
_LONGEST_SLUG = 40
_ID = 8
_WIDTH = 4
_NAMED = 3


def slug(text: str) -> str:
    """Return text as part of a file's name: letters and digits of any script, and hyphens."""
    plain = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    plain = unicodedata.normalize("NFC", plain)
    words = "".join(char if char.isalnum() else " " for char in plain).split()
    short = "-".join(words)[: _LONGEST_SLUG + 1]
    if len(short) > _LONGEST_SLUG:
        head, hyphen, _ = short.rpartition("-")
        short = head if hyphen else short[:_LONGEST_SLUG]
    return short or "image"


def numbered(index: int, prompt: str, total: int | None) -> str:
    """Return the name of a batch's picture, without its suffix."""
    width = max(_WIDTH, len(str(total or 0)))
    return f"{index + 1:0{width}}-{slug(prompt)}"


def _variants(path: Path) -> list[Path]:
    """Return the names that a picture saved to this path may get."""
    if path.suffix:
        return [path]
    return [path, *(path.with_name(path.name + suffix) for suffix in SUFFIXES)]


def untaken(path: Path) -> Path:
    """Return the path, or the first of `-2`, `-3` … at which no file lies."""
    number, free = 1, path
    while any(map(os.path.lexists, _variants(free))):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def single(out: Path | None) -> Callable[[str, str], Path]:
    """Check where one picture is to go; return how its path follows from prompt and task id.

    Raises:
        UsageError: something lies there, or nothing can be written there.
    """
    folder = Path() if out is None else out
    if out is not None and not out.is_dir():
        there = next((path for path in _variants(out) if os.path.lexists(path)), None)
        if there is not None:
            raise UsageError(f"{there} exists and is not overwritten. Choose another -o.")
        _check_writable(out.parent)
        return lambda _prompt, _task_id: out
    _check_writable(folder)

    def place(prompt: str, task_id: str) -> Path:
        short = "".join(char for char in task_id if char.isalnum())[:_ID]
        return untaken(folder / "-".join(filter(None, (slug(prompt), short))))

    return place


def _check_writable(folder: Path) -> None:
    """Refuse before anything is bought what could not be saved."""
    near = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    if not near.is_dir():
        raise UsageError(f"{near} is no folder. Choose another -o.")
    if not os.access(near, os.W_OK | os.X_OK):
        raise UsageError(f"Nothing may be written in {near}. Choose another -o.")


def check_folder(folder: Path) -> bool:
    """Refuse a folder that a batch cannot have; say whether it holds one to carry on with.

    Raises:
        UsageError: it is a file, holds something else, or a batch whose journal is gone.
    """
    if not os.path.lexists(folder):
        _check_writable(folder.parent)
        return False
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder. Choose another -o.")
    held = holds_journal(folder)
    there = [] if held else sorted(path.name for path in folder.iterdir())
    if RESULTS in there and _is_batch(folder / RESULTS):
        raise UsageError(
            f"{folder} holds a batch without its {JOURNAL}, so what was bought is not known. "
            "Put it back, or choose another -o. Nothing was bought."
        )
    if there:
        more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
        raise UsageError(
            f"{folder} is not empty: it holds {', '.join(there[:_NAMED])}{more}. "
            "A batch wants a folder of its own; choose another -o. Nothing was bought."
        )
    _check_writable(folder)
    return held


def holds_journal(folder: Path) -> bool:
    """Say whether a folder holds a batch, by the file that knows what was bought."""
    return (folder / JOURNAL).is_file()


def check_batch(folder: Path) -> None:
    """Refuse a folder that holds no batch to go on with.

    Raises:
        UsageError: it is missing, or has no journal.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    if not holds_journal(folder):
        raise UsageError(f"{folder} holds no batch: there is no {JOURNAL} in it.")
    _check_writable(folder)


def sweep(folder: Path) -> None:
    """Remove what runs that were killed left half-written.

    Nobody else saves in the folder while its journal is ours.
    """
    there = names(folder)
    blank = {name for name in there if _PICTURE.fullmatch(name)} - set(filled(folder))
    for name in there:
        if _PART.fullmatch(name) or name in blank:
            (folder / name).unlink(missing_ok=True)


def check_kind(folder: Path, *, simulate: bool) -> None:
    """Refuse to mix what was bought with what was simulated.

    Raises:
        ConfigurationError: the folder holds a batch of the other kind.
    """
    rehearsal = is_rehearsal(folder)
    if rehearsal is None or rehearsal == simulate:
        return
    if rehearsal:
        raise ConfigurationError(
            f"{folder} holds a simulated batch; a real one needs a folder of its own",
            hint="Add --simulate, or name another folder.",
        )
    raise ConfigurationError(
        f"{folder} holds a real batch; --simulate needs a folder of its own",
        hint="Leave --simulate out, or name another folder.",
    )


def is_rehearsal(folder: Path) -> bool | None:
    """Say whether a batch was simulated; `None` where its results do not tell."""
    try:
        with (folder / RESULTS).open("rb") as file:
            for line in file:
                found = _row_in(line)
                if found.get("state", "QUEUED") != "QUEUED":
                    return found.get("simulated") is True
    except OSError:
        pass
    return None


def _row_in(line: bytes) -> dict[str, object]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def filled(folder: Path) -> Iterator[str]:
    """Give the names of a folder's files that hold anything."""
    with os.scandir(folder) as there:
        for entry in there:
            with contextlib.suppress(OSError):  # a link to nothing
                if entry.stat().st_size:
                    yield entry.name


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    with os.scandir(folder) as there:
        return [entry.name for entry in there]


def _is_batch(path: Path) -> bool:
    """Say whether a file of results is one of ours."""
    try:
        with path.open("rb") as file:
            line = file.readline()
        first = json.loads(line) if line.strip() else {"index": 0, "state": ""}
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and {"index", "state"} <= first.keys()
