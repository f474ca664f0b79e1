"""The disk is full in the middle of a batch: it says so, buys nothing more and loses nothing.

Two disks: a small one of its own, where that may be mounted, and a limit on the size of files,
which every machine has. `FLUXFLEX_KILL_SEEDS=100` runs so many seeds.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxflex import TaskState
from fluxflex.simulator import Faults
from tests.stories.kill_helpers import AT_ONCE, Series, at_start, seeds, series

_BLOCK = bytes(4096)
# No file of the process may grow beyond it.
_LIMIT = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (513 * 1024, 513 * 1024))
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of 3 MiB, where the batch has its folder."""
    folder = tmp_path / "out"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603 - our own words
    except OSError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    if mounted.returncode:
        pytest.skip(f"no disk may be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S603, S607 - as above


def fill(disk: Path) -> None:
    """Leave no room at all."""
    with (disk / "ballast").open("ab", buffering=0) as file:
        try:
            while file.write(_BLOCK):
                pass
        except OSError:
            return


def make_room(disk: Path) -> None:
    """Give the room back."""
    (disk / "ballast").unlink(missing_ok=True)


async def fill_at(batch: Series, disk: Path, accepted: int) -> int:
    """Fill the disk once so many are accepted; return how many POSTs had arrived by then."""
    await batch.sim.wait_for(lambda ledger: len(ledger) >= accepted)
    fill(disk)
    return batch.ledger.posts_received


@pytest.mark.parametrize("seed", seeds(1))
async def test_a_full_disk_stops_the_buying_and_the_same_command_carries_on(
    seed: int, disk: Path, tmp_path: Path
) -> None:
    """It says that the disk is full, follows what it bought, and goes on where there is room."""
    async with series(seed, tmp_path) as batch:
        batch.sim.faults = Faults()  # what is turned away when it stops would have its own code
        filling = asyncio.create_task(fill_at(batch, disk, batch.rng.randint(3, 18)))
        assert await batch.round() == 1
        assert "the disk is full" in batch.story[-1]
        # What was on disk before may still be sent; nothing else.
        posts = batch.ledger.posts_received
        assert posts <= await filling + AT_ONCE
        fill(disk)
        assert await batch.round() == 1
        assert "the disk is full" in batch.story[-1]
        assert batch.ledger.posts_received == posts
        make_room(disk)
        entries = await batch.entries()
        batch.check_bought(entries)
        batch.check_money(entries)
        made = {entry.task_id for entry in entries if entry.state is TaskState.COMPLETED}
        assert made == {entry.task_id for entry in batch.ledger.entries}
        await batch.check(await batch.play())


@pytest.mark.parametrize("seed", seeds(1))
async def test_a_batch_killed_on_a_full_disk_loses_nothing(
    seed: int, disk: Path, tmp_path: Path
) -> None:
    """Killed again and again while the disk fills up and is cleared, it keeps its promises."""

    def change(batch: Series) -> None:
        if batch.journal.exists():
            fill(disk)
        if batch.rng.random() < 0.7:
            make_room(disk)

    async with series(seed, tmp_path, between=change) as batch:
        for _ in range(4):
            filling = asyncio.create_task(fill_at(batch, disk, len(batch.ledger) + 5))
            await batch.round(batch.any_moment())
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)
            change(batch)
        make_room(disk)
        batch.between = lambda _: None
        await batch.check(await batch.play())


@pytest.mark.parametrize("seed", seeds(1))
async def test_a_journal_that_may_not_grow_stops_the_buying(seed: int, tmp_path: Path) -> None:
    """Where a quota stops the journal, what it could not note is uncertain, and nothing is lost."""
    async with series(seed, tmp_path, asked=60) as batch:
        batch.sim.faults = Faults()  # as above
        batch.environment = at_start(tmp_path, _LIMIT)
        assert await batch.round() == 1
        assert batch.ledger.posts_received < len(batch.asked)
        batch.environment = {}
        made = {entry.task_id for entry in await batch.entries()} - {None}
        assert made == {entry.task_id for entry in batch.ledger.entries}
        await batch.check(await batch.play())
