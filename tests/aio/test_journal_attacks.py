"""What a hostile reading of the journal found: each of these once broke a promise."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from fluxflex import FluxFlexError, GenerateRequest, TaskState, read_journal
from fluxflex._aio.store import Store
from fluxflex.errors import ConfigurationError, JournalError, SessionClosedError
from fluxflex.simulator import Manual, Simulator
from tests.stories.stage import session_at

OPEN = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], timeout=0)
try:
    file.execute("SELECT count(*) FROM items").fetchall()
except sqlite3.OperationalError as error:
    print(error)
else:
    print("got in")
"""


def from_another_process(path: Path) -> str:
    """Try to read a journal in a process of its own; return what came of it."""
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", OPEN, str(path)], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


async def test_a_second_opening_does_not_give_the_lock_away(tmp_path: Path) -> None:
    """Closing any descriptor of a file drops the process's locks on it: none is made."""
    path = tmp_path / "j.db"
    async with Simulator(durations=0.0) as sim, session_at(sim.url, journal=path):
        assert "locked" in await asyncio.to_thread(from_another_process, path)
        with pytest.raises(JournalError, match="in use"):
            await session_at(sim.url, journal=path).open()
        (tmp_path / "link.db").symlink_to(path)
        for name in ("j.db", "link.db"):
            with pytest.raises(JournalError, match="in use"):
                [entry async for entry in read_journal(tmp_path / name)]
        assert "locked" in await asyncio.to_thread(from_another_process, path)
    assert await asyncio.to_thread(from_another_process, path) == "got in"


async def test_numbers_go_on_after_forgetting_twice(tmp_path: Path) -> None:
    """The highest number of a run is kept as a number, not compared as text."""
    store = await Store.open(tmp_path / "j.db", create=True)
    for numbers in (range(1, 13), range(13, 21)):
        rows = [{"id": n, "state": "FAILED", "run": "r", "number": n} for n in numbers]
        await store.write(rows)
        await store.forget("number < :then", 100.0)
    assert await store.fact("last number of r") == "20"
    await store.close()


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text are a Unix matter")
async def test_a_name_that_is_no_text_poisons_nothing(tmp_path: Path) -> None:
    """A picture saved under such a name is collected, and the journal goes on."""
    path = tmp_path / "j.db"
    async with Simulator(durations=0.0) as sim:
        async with session_at(sim.url, journal=path) as session:
            image = await session.generate("a")
            await image.save(tmp_path / os.fsdecode(b"caf\xe9.png"))
            await (await session.generate("b")).read()
        entries = [entry async for entry in read_journal(path)]
    assert [(entry.state, entry.collected) for entry in entries] == [
        (TaskState.COMPLETED, True),
        (TaskState.COMPLETED, True),
    ]
    assert entries[0].path is None


async def test_only_adding_to_an_entry_makes_none(tmp_path: Path) -> None:
    """A picture that is collected after its entry was forgotten leaves no row without a state."""
    store = await Store.open(tmp_path / "j.db", create=True)
    await store.write([{"id": 7, "collected": 1}, {"id": 8, "replaced": 1}])
    assert [entry async for entry in store.entries()] == []
    await store.close()


async def test_a_damaged_file_does_not_keep_a_folder_from_being_resumed(tmp_path: Path) -> None:
    """What can be read beside it is taken over; the file itself stays."""
    folder = tmp_path / "d"
    async with Simulator(durations=Manual()) as sim:
        for prompt in ("a", "b" * 20_000):
            session = session_at(sim.url, journal=f"{folder}/")
            await session.open()
            await session.submit(prompt)
            await session.aclose(drain=0)
        damaged = max(folder.glob("*.db"), key=lambda file: file.stat().st_size)
        with damaged.open("r+b") as file:
            file.seek(-4096, os.SEEK_END)
            file.write(b"\xff" * 4096)
        session = session_at(sim.url, journal=f"{folder}/")
        await session.open()
        followed = await session.resume()
        await session.aclose(drain=0)
    assert GenerateRequest("a") in [handle.request for handle in followed]
    assert damaged.exists() or len(followed) == 2


async def test_a_task_of_the_journal_that_is_attached_is_noted(tmp_path: Path) -> None:
    """By its id alone: its end reaches the entry that the earlier session made."""
    path = tmp_path / "j.db"
    async with Simulator(durations=Manual()) as sim:
        first = session_at(sim.url, journal=path)
        await first.open()
        task_id = (await first.submit("a")).task_id
        await first.aclose(drain=0)
        assert task_id is not None
        async with session_at(sim.url, journal=path) as second:
            handle = second.attach(task_id)
            sim.finish(task_id)
            await (await handle).read()
        [entry] = [entry async for entry in read_journal(path)]
    assert (entry.state, entry.collected, entry.attempts) == (TaskState.COMPLETED, True, 1)


async def test_closing_while_it_opens(tmp_path: Path) -> None:
    """A session that is closed while it opens is not open afterwards, and its file is free."""
    path = tmp_path / "j.db"
    async with Simulator(durations=0.0) as sim:
        session = session_at(sim.url, journal=path)
        opening = asyncio.create_task(session.open())
        await asyncio.sleep(0)
        await session.aclose()
        with pytest.raises(SessionClosedError):
            await opening
        with pytest.raises(FluxFlexError):
            await session.submit("a")
        async with session_at(sim.url, journal=path) as again:
            await again.generate("b")
        assert [entry.prompt for entry in sim.ledger.entries] == ["b"]


async def test_a_batch_that_is_entered_while_the_session_closes_buys_nothing(
    tmp_path: Path,
) -> None:
    """Entering a named run looks into the file; the session may begin to close meanwhile."""
    async with Simulator(durations=0.0) as sim:
        session = session_at(sim.url, journal=tmp_path / "j.db")
        await session.open()
        entering = asyncio.create_task(session.map(["a", "b"], run="r").collect())
        await asyncio.sleep(0)
        await session.aclose()
        with pytest.raises(SessionClosedError):
            await entering
        assert sim.ledger.posts_received == 0


async def test_a_callback_address_that_is_repeated_is_not_kept(tmp_path: Path) -> None:
    """Its token is a secret, also where the provider says it again, in any script."""
    path, secret = tmp_path / "j.db", "https://me.example/hook/tökén-123"
    async with Simulator(durations=0.0) as sim:
        async with session_at(sim.url, journal=path, on_event=None) as session:
            handle = await session.submit("a", callback_url=secret)
            await handle
        content = path.read_bytes()
    assert secret.encode() not in content
    assert b"hook" not in content


async def test_resuming_twice_counts_money_once(tmp_path: Path) -> None:
    """What was adopted before counts already; corrections stay where it was counted."""
    folder = f"{tmp_path}/d/"
    async with Simulator(durations=Manual()) as sim:
        first = session_at(sim.url, journal=folder)
        await first.open()
        await first.submit("a")
        await first.aclose(drain=0)
        second = session_at(sim.url, journal=folder)
        await second.open()
        for _ in range(3):
            await second.resume()
            assert second.statistics().earlier == Decimal("0.04")
        await second.submit("b")
        await second.resume()
        found = second.statistics()
        assert (found.earlier, found.spent) == (Decimal("0.04"), Decimal("0.04"))
        await second.aclose(drain=0)


async def test_what_needs_a_journal_says_so(tmp_path: Path) -> None:
    """`keep` without one, and `again` without a named run, would do nothing."""
    with pytest.raises(ConfigurationError, match="keep needs a journal"):
        session_at("http://127.0.0.1:1", keep=3)
    async with (
        Simulator(durations=0.0) as sim,
        session_at(sim.url, journal=tmp_path / "j.db") as session,
    ):
        with pytest.raises(ConfigurationError, match="again needs a named run"):
            session.map(["a"], again={TaskState.FAILED})
