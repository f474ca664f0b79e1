"""The journal's last page is torn by every kill, as a power cut may do; and its file is damaged.

What a power cut takes from SQLite's write-ahead log is what was written last: a log whose last page
is not whole loses its last transaction. `FLUXFLEX_KILL_SEEDS=100` runs so many seeds.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fluxflex.errors import JournalError
from fluxflex.simulator import Simulator
from tests.stories.kill_helpers import Moment, dice, picture, seeds, series
from tests.stories.stage import session_at
from tests.stories.torn_log import tear

_PAGE = 4096
# Zeros, garbage, and a page of which half is garbage.
_FILLERS = (bytes(_PAGE), dice(0).randbytes(_PAGE), dice(1).randbytes(_PAGE // 2))
_IDS = ["zeros", "garbage", "half"]


@pytest.mark.parametrize("seed", seeds(2))
async def test_a_torn_last_page_costs_nothing_that_was_paid_for(seed: int, tmp_path: Path) -> None:
    """With the last page of the journal torn by every kill the same promises hold."""
    async with series(seed, tmp_path, between=tear) as batch:
        await batch.check(await batch.play())
        assert any(line.startswith("torn") for line in batch.story)


@pytest.mark.parametrize("filler", _FILLERS[:2], ids=_IDS[:2])
async def test_a_journal_whose_last_page_is_lost_is_told_and_nothing_is_sent(
    filler: bytes, tmp_path: Path
) -> None:
    """Where the file itself is damaged nobody knows what was bought: nothing is, in words."""
    async with series(0, tmp_path) as batch:
        assert await batch.round(Moment("files", 15)) is None
        await batch.entries()  # whoever closes the journal puts its log into the one file
        with batch.journal.open("r+b") as file:
            file.seek(-len(filler), 2)
            file.write(filler)
        posts = batch.ledger.posts_received
        assert await batch.round() == 1
        assert "is damaged" in batch.story[-1]
        assert batch.ledger.posts_received == posts


@pytest.mark.parametrize("filler", _FILLERS, ids=_IDS)
async def test_no_damaged_page_of_a_journal_lets_anything_be_bought_again(
    filler: bytes, tmp_path: Path
) -> None:
    """Whichever page is lost, it is told as a `JournalError`, or it is one that nobody needs."""
    # Some so long that they have pages of their own.
    asked = [f"the wind, {number} " + "x" * 5000 * (number % 9 == 0) for number in range(45)]
    saved, journal = tmp_path / "out", tmp_path / "journal.db"

    async def run(file: Path) -> str:
        """Run the batch; return why it cannot be done."""
        try:
            async with asyncio.timeout(10), session_at(sim.url, journal=file) as session:
                outcomes = await session.map(asked, run="wind", save_to=saved).collect()
        except JournalError as error:
            return error.message
        assert all(outcome.ok for outcome in outcomes)
        return ""

    async with Simulator(durations=0.0, pictures=lambda order: picture(order.prompt, 1)) as sim:
        assert not await run(journal)
        whole, told = journal.read_bytes(), []
        for end in range(_PAGE, len(whole) + 1, _PAGE):
            lost = tmp_path / f"lost-{end}.db"
            lost.write_bytes(whole[: end - len(filler)] + filler + whole[end:])
            told.append(await run(lost))
        assert sim.ledger.posts_received == len(asked)
        assert len([words for words in told if words]) > len(told) // 2
