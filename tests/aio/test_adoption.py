"""Journals in a folder, one file per process: what is taken over, and what is left alone."""

from __future__ import annotations

import asyncio
import logging
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fluxflex import TaskState
from fluxflex._aio import adoption, room
from fluxflex._aio.reading import read_journal
from fluxflex._aio.store import Store
from fluxflex.errors import BudgetExceededError, JournalError, SubmitUncertainError
from tests.aio.disk import Disk, change, copied, quick, rows
from tests.aio.fakes import PNG, SENT, FakeTransport, Step, as_json

pytestmark = [pytest.mark.looptime(start=0), pytest.mark.usefixtures("disk")]

PRICE, NOTHING = Decimal("0.04"), Decimal(0)


def files(folder: Path) -> list[Path]:
    """Return the journals of a folder."""
    return sorted(folder.glob("*.db"))


async def left(
    folder: Path, prefix: str, *script: Step, count: int = 2, **options: Any
) -> tuple[Path, list[str]]:
    """Leave a file with running tasks, and return it with their ids."""
    before = set(files(folder))
    fake = FakeTransport(seconds=1e6).script("submit", *script)
    session = quick(fake, journal=f"{folder}/", **options)
    await session.open()
    ids = []
    for n in range(count):
        fake.due.setdefault(f"{prefix}{n}", 1e9)
        try:
            handle = await session.submit(f"{prefix} {n}")
        except SubmitUncertainError:
            continue
        ids.append(str(handle.task_id))
    await session.aclose(drain=0)
    [path] = set(files(folder)) - before
    for number, task_id in enumerate(ids):
        change(path, f"UPDATE items SET task_id = '{prefix}{number}' WHERE task_id = '{task_id}'")  # noqa: S608 - our own words
    return path, [f"{prefix}{number}" for number in range(len(ids))]


async def test_each_session_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Any number may run side by side in one folder, of one process or of many."""
    folder = tmp_path / "d"
    async with (
        quick(journal=f"{folder}/") as one,
        quick(journal=folder) as two,
        quick(journal=f"{folder}{os.sep}") as three,
    ):
        for session in (one, two, three):
            await (await session.generate("a")).read()
        assert len(files(folder)) == 3
        assert all(path.name.startswith(f"{os.getpid()}-") for path in files(folder))
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in files(folder))


async def test_files_of_those_that_are_gone_are_taken_over(tmp_path: Path) -> None:
    """Their tasks are followed, what is uncertain is known, their money counts; they are gone."""
    folder = tmp_path / "d"
    _, first = await left(folder, "x")
    _, second = await left(folder, "y", None, SENT, count=3)
    async with quick(FakeTransport(seconds=5), journal=folder) as session:
        assert session.statistics().earlier == NOTHING  # nobody asked for it yet
        handles = await session.resume()
        assert sorted(str(handle.task_id) for handle in handles) == sorted(first + second)
        assert len(files(folder)) == 1
        assert session.statistics().earlier == 5 * PRICE
        [record] = session.uncertain()
        assert record.request is not None
        assert record.request.prompt == "y 1"
        images = await asyncio.gather(*handles)
        assert [await image.read() for image in images] == [PNG] * 4
        assert await session.resume() == []
        assert session.statistics().earlier == 5 * PRICE
        assert session.fake.posts == 0
    [path] = files(folder)
    assert {row["state"] for row in rows(path)} == {"COMPLETED", "UNCERTAIN"}
    assert len(rows(path)) == 5


async def test_files_in_use_are_left_alone(tmp_path: Path) -> None:
    """Another session's tasks are its own as long as it lives."""
    folder = tmp_path / "d"
    async with quick(FakeTransport(seconds=50), journal=f"{folder}/") as living:
        handle = await living.submit("a")
        async with quick(journal=folder) as session:
            assert await session.resume() == []
            assert session.statistics().earlier == NOTHING
            assert len(files(folder)) == 2
        await handle
    async with quick(journal=folder) as session:
        assert [h.task_id for h in await session.resume()] == [handle.task_id]


async def test_money_of_this_session_is_counted_once(tmp_path: Path) -> None:
    """Resuming, once or often, counts nothing as earlier that this session bought itself."""
    folder = tmp_path / "d"
    await left(folder, "x", count=1)
    async with quick(journal=folder, budget="0.12") as session:
        await session.generate("a")
        for _ in range(3):
            await session.resume()
            now = session.statistics()
            assert (now.earlier, now.spent) == (PRICE, PRICE)
        await session.generate("b")
        with pytest.raises(BudgetExceededError):
            await session.generate("c")


async def test_resuming_beside_submits_loses_nothing(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are taken over and tasks that are being bought never share a number."""
    folder = tmp_path / "d"
    _, old = await left(folder, "x", count=40)
    async with quick(FakeTransport(seconds=9), journal=folder) as session:
        own = session._remembered._store
        plain = own.take_over
        bought: list[str] = []

        async def slowly(given: Any) -> None:
            rows_ = list(given)
            bought.extend([str((await session.submit(f"new {n}")).task_id) for n in range(3)])
            await plain(rows_)
            bought.extend([str((await session.submit(f"newer {n}")).task_id) for n in range(3)])

        monkeypatch.setattr(own, "take_over", slowly)
        handles = await session.resume()
        bought.append(str((await session.submit("last")).task_id))
        assert {str(handle.task_id) for handle in handles} >= {*old}
        await asyncio.gather(*session.handles())
    [path] = files(folder)
    assert sorted(row["task_id"] for row in rows(path)) == sorted([*old, *bought])
    assert len({row["id"] for row in rows(path)}) == 47
    prompts = {row["task_id"]: row["request"] for row in rows(path)}
    assert all("x" in prompts[task_id] for task_id in old)
    assert disk.groups


async def test_a_take_over_that_was_cut_off_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed or failed at any point, the next one has everything once, and its money once."""
    folder = tmp_path / "d"
    path, ids = await left(folder, "x", count=7)
    monkeypatch.setattr(adoption, "MOST_ROWS", 2)
    spare = copied(path, tmp_path / "spare")
    plain = Store.take_over
    for most in range(4):
        calls = 0

        async def broken(own: Store, given: Any, most: int = most) -> None:
            nonlocal calls
            if calls == most:
                raise JournalError("the disk is full")
            calls += 1
            await plain(own, given)

        monkeypatch.setattr(Store, "take_over", broken)
        async with quick(FakeTransport(seconds=1), journal=folder) as session:
            with pytest.raises(JournalError, match="full"):
                await session.resume()
            await session.aclose(drain=0)
        assert spare.name in [each.name for each in files(folder)]
        monkeypatch.setattr(Store, "take_over", plain)
    async with quick(FakeTransport(seconds=1), journal=folder) as session:
        handles = await session.resume()
        assert sorted(str(handle.task_id) for handle in handles) == sorted(ids)
        assert session.statistics().earlier == 7 * PRICE
        await asyncio.gather(*handles)
    assert len(files(folder)) == 1


async def test_a_file_that_comes_back_is_not_taken_over_twice(tmp_path: Path) -> None:
    """Cut off before it was removed, its rows are known: nothing is doubled, nothing undone."""
    folder = tmp_path / "d"
    path, ids = await left(folder, "x", count=3)
    spare = copied(path, tmp_path / "spare")
    async with quick(FakeTransport(seconds=1), journal=folder) as session:
        handles = await session.resume()
        await asyncio.gather(*handles)
        spare.rename(path)
        again = await session.resume()
        assert sorted(str(handle.task_id) for handle in again) == ids
        assert {handle.state for handle in again} == {TaskState.COMPLETED}
        assert session.statistics().earlier == 3 * PRICE
    assert len(files(folder)) == 1


async def test_another_account_s_file_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log and not touched; its owner still finds it."""
    folder = tmp_path / "d"
    path, _ = await left(folder, "x")
    content = path.read_bytes()
    body = {"code": 200, "data": {"balance_usd": "1", "user_id": 8}}
    other = FakeTransport().rule("account", lambda _: as_json(body))
    async with quick(other, journal=folder) as session:
        assert await session.resume() == []
        assert session.statistics().earlier == NOTHING
    assert [row["task_id"] for row in rows(path)] == ["x0", "x1"]
    assert path.read_bytes() == content
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any(str(path) in line and "another account" in line for line in said)


async def test_what_is_no_journal_stays(tmp_path: Path) -> None:
    """Damaged files, other programs' and newer ones are left as they are, and named."""
    folder = tmp_path / "d"
    _, ids = await left(folder, "x")
    newer, _ = await left(folder, "n", count=1)
    change(newer, "PRAGMA user_version = 99")
    (folder / "notes.db").write_text("not a database")
    (folder / "notes.txt").write_text("x")
    (folder / "sub.db").mkdir()
    async with quick(FakeTransport(seconds=1), journal=folder) as session:
        handles = await session.resume()
        assert sorted(str(handle.task_id) for handle in handles) == ids
        await asyncio.gather(*handles)
    names = {each.name for each in folder.iterdir()}
    assert {"notes.db", "notes.txt", "sub.db", newer.name} < names
    assert len(names) == 5
    assert (folder / "notes.db").read_text() == "not a database"


async def test_an_empty_file_leaves_nothing_behind(tmp_path: Path) -> None:
    """Files of sessions that bought nothing do not pile up: the next one clears them away."""
    folder = tmp_path / "d"
    for _ in range(3):
        async with quick(journal=f"{folder}/") as session:
            await session.resume()
    assert len(files(folder)) <= 1
    assert len(list(folder.iterdir())) <= 1


async def test_what_a_kill_left_beside_a_file_goes_with_it(tmp_path: Path) -> None:
    """Log and reserve of a process that was killed are cleared away with its file."""
    folder = tmp_path / "d"
    folder.mkdir()
    session = quick(FakeTransport(seconds=1e6), journal=folder)
    await session.open()
    await session.submit("a")
    [path] = files(folder)
    killed = copied(path, tmp_path / "killed")
    await session.aclose(drain=0)
    room.remove(path)
    for each in killed.parent.iterdir():
        each.rename(folder / each.name)
    assert len(list(folder.iterdir())) == 3  # the file, its log and its reserve
    async with quick(FakeTransport(seconds=1), journal=folder) as session:
        [handle] = await session.resume()
        await handle
    assert len(list(folder.iterdir())) == 1


async def test_forgetting_goes_through_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is old is forgotten wherever it came from, and its money counts in every later one."""
    folder = tmp_path / "d"
    async with quick(journal=f"{folder}/") as session:
        await (await session.generate("a secret lighthouse")).read()
    [path] = files(folder)
    change(path, "UPDATE items SET noted_at = 9")
    monkeypatch.setattr("fluxflex._aio.memory.time.time", lambda: 1e9)
    for _ in range(3):
        async with quick(journal=folder, keep=1) as session:
            assert await session.resume() == []
            assert await session.resume() == []
            assert session.statistics().earlier == PRICE
        [path] = files(folder)
        assert rows(path) == []
        assert b"secret" not in path.read_bytes()
    assert [entry async for entry in read_journal(path)] == []


async def test_a_file_that_is_being_made_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that resumes does not get in the way of one that is opening beside it."""
    folder = tmp_path / "d"
    async with quick(journal=f"{folder}/") as session:
        making = adoption.file_in(folder)
        making.touch()  # as far as the other one got
        assert await session.resume() == []
        assert size_of(making) == 0
        other = await Store.open(making, create=True)
        assert await session.resume() == []
        await other.close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_file_is_locked_from_its_first_byte(tmp_path: Path, disk: Disk) -> None:
    """Nobody can open what another one has only begun to make."""
    path = tmp_path / "j.db"
    tried: list[str] = []

    async def intrude(sql: str) -> None:
        if size_of(path) == 0:
            return
        disk.after = None  # the intruder is not disturbed
        with pytest.raises(JournalError, match="in use"):
            await Store.open(path, create=False)
        disk.after = intrude
        tried.append(sql)

    disk.after = intrude
    own = await Store.open(path, create=True)
    disk.after = None
    await own.close()
    assert len(tried) > 3


def size_of(path: Path) -> int:
    """Return the bytes of a file."""
    return path.stat().st_size
