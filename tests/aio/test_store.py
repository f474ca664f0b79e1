"""The journal's file on a real disk: its modes, its lock, its schema, and what a kill leaves."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import stat
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from fluxflex import GenerateRequest, TaskState
from fluxflex._aio import room, store
from fluxflex._aio.entry import JournalEntry, Row, error_text, request_text
from fluxflex._aio.reading import read_journal
from fluxflex._aio.schema import APPLICATION_ID, MIGRATIONS
from fluxflex._aio.store import Store
from fluxflex.errors import ConfigurationError, JournalError, SubmitUncertainError
from tests.aio.disk import bytes_of, copied, glimpse, names_in, rows

LAST_PAGE = 4096


def sending(key: int) -> Row:
    """Return the row of an intent."""
    return {
        "id": key,
        "state": "SENDING",
        "attempts": 1,
        "sent_at": 12.5,
        "reserved": "0.04",
        "request": request_text(GenerateRequest(f"study {key}")),
    }


def running(key: int) -> Row:
    """Return the row of a task that was accepted."""
    return {"id": key, "state": "RUNNING", "task_id": f"t{key}", "spent": "0.04", "reserved": "0"}


async def made(path: Path, *written: Row) -> Path:
    """Make a journal with these rows and close it."""
    own = await Store.open(path, create=True)
    if written:
        await own.write(written)
    await own.close()
    return path


async def entries(path: Path) -> list[JournalEntry]:
    """Return the entries of a journal."""
    return [entry async for entry in read_journal(path)]


def pragma(path: Path, name: str) -> object:
    """Return a setting of a database that nobody has open."""
    with sqlite3.connect(path) as sqlite:
        [[value]] = sqlite.execute(f"PRAGMA {name}").fetchall()
    sqlite.close()
    return value


def changed(path: Path, sql: str) -> Path:
    """Change a database that nobody has open."""
    with sqlite3.connect(path) as sqlite:
        sqlite.executescript(sql)
    sqlite.close()
    return path


def state_of(path: Path) -> tuple[bytes, int]:
    """Return the bytes and the mode of a file."""
    return path.read_bytes(), path.stat().st_mode


async def refused(path: Path, words: str) -> JournalError:
    """Assert that a file is refused in these words, by both ways to open it, and left as it is."""
    before = state_of(path)
    with pytest.raises(JournalError, match=words):
        await entries(path)
    with pytest.raises(JournalError, match=words) as caught:
        await Store.open(path, create=True)
    assert state_of(path) == before
    assert caught.value.hint
    assert str(path) in str(caught.value)
    return caught.value


# -- the files --------------------------------------------------------------------------------


async def test_a_journal_is_for_its_owner_only(tmp_path: Path) -> None:
    """The file, its log and the room put aside: 0600, whatever the mask is."""
    own = await Store.open(tmp_path / "new" / "deep" / "j.db", create=True)
    own.put_aside()
    await own.write([sending(1)])
    folder = tmp_path / "new" / "deep"
    names = names_in(folder)
    assert names == ["j.db", "j.db-reserve", "j.db-wal"]
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in names} == {0o600}
    own.free()
    await own.close()
    assert names_in(folder) == ["j.db"]
    assert repr(own) == f"<Store: {own.path}>"


async def test_an_older_journal_is_closed_to_others(tmp_path: Path) -> None:
    """A file of ours that others could read is theirs to read no more."""
    path = await made(tmp_path / "j.db")
    path.chmod(0o644)
    await made(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_how_it_is_written(tmp_path: Path) -> None:
    """A write-ahead log, synced at each commit, for one process, and deleted bytes overwritten."""
    own = await Store.open(tmp_path / "j.db", create=True)
    names = ("journal_mode", "synchronous", "locking_mode", "secure_delete")
    found = [(await own.fetch(f"PRAGMA {name}"))[0][0] for name in names]
    assert found == ["wal", 2, "exclusive", 1]
    await own.close()
    assert pragma(own.path, "application_id") == APPLICATION_ID == int.from_bytes(b"flux")
    assert pragma(own.path, "user_version") == len(MIGRATIONS)


async def test_the_room_put_aside_is_real_and_given_back(tmp_path: Path) -> None:
    """It takes its whole size once, is kept as it is, and is made whole where it was cut."""
    own = await Store.open(tmp_path / "j.db", create=True)
    reserve = tmp_path / "j.db-reserve"
    own.put_aside()
    content = reserve.read_bytes()
    assert len(content) == room.RESERVE
    assert len(set(content)) > 200  # no file system stores it as nothing
    own.put_aside()
    assert reserve.read_bytes() == content
    reserve.write_bytes(b"cut")
    own.put_aside()
    assert reserve.stat().st_size == room.RESERVE
    own.free()
    own.free()
    assert not reserve.exists()
    await own.close()


async def test_no_room_is_said_in_words(tmp_path: Path) -> None:
    """What the system says of the room that cannot be put aside is a `JournalError`."""
    own = await Store.open(tmp_path / "j.db", create=True)
    (tmp_path / "j.db-reserve").mkdir()
    with pytest.raises(JournalError, match="cannot be written: Is a directory"):
        own.put_aside()
    await own.close()


# -- the lock ---------------------------------------------------------------------------------


async def test_a_second_one_in_the_same_process_is_refused(tmp_path: Path) -> None:
    """At once and in words; after the first has closed it is free."""
    own = await Store.open(tmp_path / "j.db", create=True)
    for create in (True, False):
        with pytest.raises(JournalError, match="in use by another session or process") as caught:
            await Store.open(own.path, create=create)
    assert "Wait" in caught.value.hint
    await own.write([sending(1)])  # the first is not disturbed
    await own.close()
    assert [entry.id for entry in await entries(own.path)] == [1]


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """At once and in words, before it changed anything."""
    own = await Store.open(tmp_path / "j.db", create=True)
    await own.write([sending(1)])
    program = (
        "import asyncio, sys, fluxflex\n"
        "async def main():\n"
        "    async for entry in fluxflex.read_journal(sys.argv[1]): pass\n"
        "try: asyncio.run(main())\n"
        "except fluxflex.FluxFlexError as error: print(type(error).__name__, error)\n"
    )
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(own.path)), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await other.communicate()
    assert said.decode().startswith(f"JournalError The journal {own.path} is in use")
    await own.write([running(1)])
    await own.close()
    assert [entry.state for entry in await entries(own.path)] == [TaskState.RUNNING]


async def test_an_opening_that_fails_leaves_the_file_free(tmp_path: Path) -> None:
    """Whoever is refused holds no lock."""
    path = await made(tmp_path / "j.db")
    changed(path, "PRAGMA user_version = 99")
    for _ in range(3):
        with pytest.raises(JournalError, match="newer version"):
            await Store.open(path, create=True)
    changed(path, f"PRAGMA user_version = {len(MIGRATIONS)}")
    await made(path)


async def test_a_reader_that_leaves_early_gives_the_file_free(tmp_path: Path) -> None:
    """Closing the iteration closes the file."""
    path = await made(tmp_path / "j.db", *(sending(key) for key in range(1, 5)))
    reading = read_journal(path)
    assert (await anext(reading)).id == 1
    await reading.aclose()  # type: ignore[attr-defined]  # it is a generator
    await made(path)


# -- what is no journal -----------------------------------------------------------------------


async def test_another_program_s_database_is_left_as_it_is(tmp_path: Path) -> None:
    """It is no journal of ours: neither its bytes nor its mode are touched."""
    path = changed(tmp_path / "o.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1);")
    path.chmod(0o644)
    await refused(path, "is no journal of fluxflex")
    changed(path, "PRAGMA application_id = 77;")
    await refused(path, "is no journal of fluxflex")
    assert names_in(tmp_path) == ["o.db"]
    assert pragma(path, "journal_mode") == "delete"


@pytest.mark.parametrize("content", ["no", "a lighthouse in fog\n" * 500, "SQLite format 3\0"])
async def test_a_text_file_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    """A list of prompts named by mistake is not harmed."""
    path = tmp_path / "prompts.txt"
    path.write_text(content)
    path.chmod(0o640)
    await refused(path, "is no journal of fluxflex")


async def test_a_newer_journal_is_left_as_it_is(tmp_path: Path) -> None:
    """A schema of a later version is refused in words."""
    path = await made(tmp_path / "j.db", sending(1))
    changed(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(JournalError, match="written by a newer version of fluxflex") as caught:
        await Store.open(path, create=True)
    assert "Use that version" in caught.value.hint
    assert [row["state"] for row in rows(path)] == ["SENDING"]


async def test_a_folder_in_its_place(tmp_path: Path) -> None:
    """It is said in words."""
    with pytest.raises(JournalError, match=r"cannot be written: Is a directory|is no journal"):
        await Store.open(tmp_path, create=True)


async def test_a_file_in_place_of_its_folder(tmp_path: Path) -> None:
    """A path that cannot be made is said in words."""
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="cannot be written: "):
        await Store.open(tmp_path / "file" / "j.db", create=True)


async def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said in words, whoever runs this."""

    def denied(path: Path, *, create: bool) -> None:
        assert create
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(room, "claim", denied)
    with pytest.raises(JournalError, match="cannot be written: Permission denied") as caught:
        await Store.open(tmp_path / "j.db", create=True)
    assert caught.value.hint


async def test_there_is_none(tmp_path: Path) -> None:
    """Reading makes no file."""
    with pytest.raises(JournalError, match="does not exist"):
        await entries(tmp_path / "j.db")
    with pytest.raises(JournalError, match="is a folder"):
        await entries(tmp_path)
    assert names_in(tmp_path) == []


async def test_an_empty_file_becomes_one(tmp_path: Path) -> None:
    """As a temporary file that was made for it."""
    (tmp_path / "j.db").touch()
    await made(tmp_path / "j.db", sending(1))
    assert len(await entries(tmp_path / "j.db")) == 1


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:4096],
        lambda content: content[:4096] + b"\xff" * (len(content) - 4096),
        lambda content: content[:100] + b"\xff" * 3996 + content[4096:],
    ],
)
async def test_a_damaged_file_is_refused_in_words(
    tmp_path: Path, harm: Callable[[bytes], bytes]
) -> None:
    """What it bought is not known, so nothing is bought on top of it."""
    path = await made(tmp_path / "j.db", *(sending(key) for key in range(1, 200)))
    path.write_bytes(harm(path.read_bytes()))

    async def use() -> None:
        own = await Store.open(path, create=True)
        await own.write([running(3)])

    with pytest.raises(JournalError) as caught:
        await use()
    assert "damaged" in str(caught.value)
    assert "Put a copy of it back" in caught.value.hint


async def test_aiosqlite_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra; no file is made."""
    monkeypatch.setitem(sys.modules, "aiosqlite", None)
    with pytest.raises(ConfigurationError, match="needs aiosqlite") as caught:
        await Store.open(tmp_path / "j.db", create=True)
    assert "fluxflex[journal]" in caught.value.hint
    assert names_in(tmp_path) == []


# -- migrations -------------------------------------------------------------------------------


async def test_an_older_schema_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step once, and what is in the file stays."""
    path = await made(tmp_path / "j.db", sending(1), running(2))
    more = (*MIGRATIONS, "ALTER TABLE items ADD COLUMN mood TEXT; UPDATE items SET mood = 'calm';")
    monkeypatch.setattr(store, "MIGRATIONS", more)
    for _ in range(2):
        assert [entry.id for entry in await entries(path)] == [1, 2]
    assert [row["mood"] for row in rows(path)] == ["calm", "calm"]
    assert pragma(path, "user_version") == len(MIGRATIONS) + 1
    monkeypatch.setattr(store, "MIGRATIONS", MIGRATIONS)
    with pytest.raises(JournalError, match="newer version"):
        await entries(path)


async def test_a_step_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it or none: the file is as it was for the version before."""
    path = await made(tmp_path / "j.db", sending(1))
    more = (*MIGRATIONS, "ALTER TABLE items ADD COLUMN mood TEXT; UPDATE nothing SET a = 1;")
    monkeypatch.setattr(store, "MIGRATIONS", more)
    with pytest.raises(JournalError, match="cannot be used"):
        await entries(path)
    monkeypatch.setattr(store, "MIGRATIONS", MIGRATIONS)
    [entry] = await entries(path)
    assert entry.state is TaskState.UNCERTAIN
    assert "mood" not in rows(path)[0]


# -- what is written --------------------------------------------------------------------------


async def test_a_row_keeps_what_a_step_does_not_change(tmp_path: Path) -> None:
    """Columns that are absent stay; those that are there are replaced."""
    path = await made(tmp_path / "j.db", sending(1))
    changed(path, "UPDATE items SET collected = 1")
    await made(path, running(1))
    [entry] = await entries(path)
    assert (entry.state, entry.task_id, entry.attempts) == (TaskState.RUNNING, "t1", 1)
    assert (entry.spent, entry.reserved) == (Decimal("0.04"), Decimal(0))
    assert (entry.request, entry.collected) == (GenerateRequest("study 1"), True)


async def test_a_group_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """One row that cannot be written takes the group with it."""
    own = await Store.open(tmp_path / "j.db", create=True)
    await own.write([{"id": 1, "state": "QUEUED", "source": "x:1"}])
    group: list[Row] = [
        {"id": 2, "state": "SENDING"},
        {"id": 3, "state": "QUEUED", "source": "x:1"},
    ]
    with pytest.raises(JournalError, match="cannot be used"):
        await own.write(group)
    await own.close()
    assert [row["id"] for row in rows(own.path)] == [1]


async def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    """And what was on disk before is there after it."""
    own = await Store.open(tmp_path / "j.db", create=True)
    await own.write([sending(1)])
    [[pages]] = await own.fetch("PRAGMA page_count")
    await own.fetch(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match="the disk is full") as caught:
        await own.write([{"id": 2, "state": "SENDING", "request": "x" * 20_000}])
    assert "Make room" in caught.value.hint
    await own.write([running(1)])
    await own.close()
    assert [(row["id"], row["state"]) for row in rows(own.path)] == [(1, "RUNNING")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_is_said_in_the_same_words_by_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """No room for what is put aside, and a quota, are the full disk that SQLite speaks of."""

    def full(_: Path) -> None:
        raise OSError(number, "no room")

    own = await Store.open(tmp_path / "j.db", create=True)
    monkeypatch.setattr(room, "put_aside", full)
    with pytest.raises(JournalError, match="the disk is full") as caught:
        own.put_aside()
    assert "Make room" in caught.value.hint
    await own.close()


async def test_whoever_was_sending_is_gone(tmp_path: Path) -> None:
    """An intent that nobody finished is uncertain for whoever opens the file next."""
    path = await made(tmp_path / "j.db", sending(1), running(2))
    first, second = await entries(path)
    assert (first.state, second.state) == (TaskState.UNCERTAIN, TaskState.RUNNING)
    error = first.error
    assert isinstance(error, SubmitUncertainError)
    assert (error.sent_at, error.charged, first.reserved) == (12.5, "unknown", Decimal("0.04"))
    assert (await entries(path))[0].state is TaskState.UNCERTAIN


async def test_many_entries_are_read_in_order(tmp_path: Path) -> None:
    """A stretch at a time, each once."""
    count = 3 * store._CHUNK + 1
    path = await made(tmp_path / "j.db", *({"id": n, "state": "QUEUED"} for n in range(1, count)))
    assert [entry.id for entry in await entries(path)] == list(range(1, count))


async def test_a_broken_connection_is_said_in_words(tmp_path: Path) -> None:
    """Reading and writing through it are a `JournalError`, whatever the thread says."""
    own = await Store.open(tmp_path / "j.db", create=True)
    await own.fetch("DROP TABLE items")
    for use in (own.stretch(1, "true"), own.write([sending(1)])):
        with pytest.raises(JournalError, match="cannot be used: no such table"):
            await use
    await own.close()


# -- what a kill leaves -----------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["cut", "zeros", "noise", "one byte"])
async def test_a_torn_last_page_loses_nothing(tmp_path: Path, harm: str) -> None:
    """The last page of the log repeats the one before, at every moment."""
    own = await Store.open(tmp_path / "j.db", create=True)
    for key in range(1, 8):
        for row in (sending(key), running(key)):
            await own.write([row])
            torn = copied(own.path, tmp_path / f"{key} {row['state']}")
            log = torn.with_name("j.db-wal")
            content = log.read_bytes()
            log.write_bytes(
                {
                    "cut": content[:-LAST_PAGE],
                    "zeros": content[:-LAST_PAGE] + bytes(LAST_PAGE),
                    "noise": content[:-LAST_PAGE] + b"\xa5" * LAST_PAGE,
                    "one byte": content[:-1] + bytes([content[-1] ^ 1]),
                }[harm]
            )
            found = {entry.id: entry for entry in await entries(torn)}
            assert set(found) == set(range(1, key + 1))
            assert {entry.task_id for entry in found.values() if entry.id < key} == {
                f"t{n}" for n in range(1, key)
            }
            last = found[key]
            if row["state"] == "SENDING":
                assert (last.state, last.task_id) == (TaskState.UNCERTAIN, None)
            else:
                assert (last.state, last.task_id) == (TaskState.RUNNING, f"t{key}")
    await own.close()


async def test_a_log_left_behind_is_taken_in(tmp_path: Path) -> None:
    """After a kill everything that was told is in the file, and the log goes at a clean close."""
    own = await Store.open(tmp_path / "j.db", create=True)
    own.put_aside()
    await own.write([running(1)])
    left = copied(own.path, tmp_path / "left")
    await own.close()
    assert left.with_name(f"{left.name}-wal").exists()
    again = await Store.open(left, create=True)
    again.put_aside()
    again.free()
    await again.close()
    assert names_in(left.parent) == ["j.db"]
    assert [row["task_id"] for row in rows(left)] == ["t1"]


async def test_a_log_whose_file_is_damaged_is_checked(tmp_path: Path) -> None:
    """After a kill the whole file is looked through before anything is bought on top of it."""
    own = await Store.open(tmp_path / "j.db", create=True)
    await own.write([sending(key) | running(key) for key in range(1, 300)])
    await own.close()
    own = await Store.open(tmp_path / "j.db", create=True)
    await own.write([running(1)])
    left = copied(own.path, tmp_path / "left")
    await own.close()
    content = left.read_bytes()
    half = len(content) // 2 // LAST_PAGE * LAST_PAGE
    left.write_bytes(content[:half] + b"\xff" * (len(content) - half))
    with pytest.raises(JournalError, match="is damaged"):
        await entries(left)


# -- what is forgotten ------------------------------------------------------------------------


async def test_what_is_forgotten_is_gone_from_the_files(tmp_path: Path) -> None:
    """No byte of a prompt is left, short or long; its money is."""
    own = await Store.open(tmp_path / "j.db", create=True)
    await own.write(
        [
            {
                **running(n),
                "request": request_text(GenerateRequest(f"secret {n} " + "s3cret" * n * 20)),
                "error": error_text(JournalError("s3cret")),
                "ended_at": 5.0,
                "reserved": "0.01",
            }
            for n in range(1, 61)
        ],
    )
    assert b"s3cret" in (tmp_path / "j.db-wal").read_bytes()
    await own.forget("ended_at < :then", 4.0)
    assert len(await own.stretch(100, "true")) == 60
    await own.forget("ended_at < :then AND id <= 30", 6.0)
    await own.forget("ended_at < :then AND id > 30", 6.0)
    kept = bytes_of(tmp_path)
    assert b"secret" not in kept
    assert b"s3cret" not in kept
    assert await own.forgotten() == 60 * Decimal("0.05")
    await own.close()
    assert await entries(own.path) == []


async def test_reading_changes_nothing_of_what_is_kept(tmp_path: Path) -> None:
    """`read_journal` may be called again and again; only a cut-off intent becomes uncertain."""
    path = await made(tmp_path / "j.db", running(1), {"id": 2, "state": "QUEUED"})
    before = rows(path)
    assert await entries(path) == await entries(path)
    assert rows(path) == before == glimpse(path, tmp_path / "copy")
