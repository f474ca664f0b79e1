"""A batch of the command line, killed with SIGKILL at any moment, again and again until done.

By default a few seeds each; `FLUXFLEX_KILL_SEEDS=100` runs so many.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fluxflex import TaskState
from tests.stories.kill_helpers import AT_ONCE, PRICE, Moment, seeds, series, uncertain
from tests.stories.torn_log import tear


@pytest.mark.parametrize("seed", seeds(3))
async def test_a_killed_batch_carries_on_without_paying_twice_or_losing_a_picture(
    seed: int, tmp_path: Path
) -> None:
    """However often it is killed: none is bought twice, and all that was paid for is there."""
    async with series(seed, tmp_path) as batch:
        await batch.check(await batch.play())
        assert batch.kills


@pytest.mark.parametrize("seed", seeds(1))
async def test_kills_while_the_log_is_put_into_the_journal_lose_nothing(
    seed: int, tmp_path: Path
) -> None:
    """In a batch that is long enough for checkpoints, they may be cut off as well."""
    options = ("--yes", "-c", 64)
    async with series(seed, tmp_path, asked=240, options=options) as batch:
        for _ in range(3):
            # The first change of the file is its opening; checkpoints follow.
            await batch.round(
                Moment("journal", batch.rng.randint(2, 4), batch.rng.uniform(0, 0.01))
            )
            tear(batch)
        code = await batch.round()
        assert code is not None
        await batch.check(code)


@pytest.mark.parametrize("seed", seeds(1))
async def test_equal_prompts_are_told_apart_through_all_kills(seed: int, tmp_path: Path) -> None:
    """What is asked for four times is bought four times, however often the batch is killed."""
    async with series(seed, tmp_path, asked=["one", "two", "three", "four", "five"] * 4) as batch:
        await batch.check(await batch.play())
        assert batch.kills


@pytest.mark.parametrize("seed", seeds(1))
async def test_resume_fetches_what_a_killed_batch_bought_and_buys_nothing(
    seed: int, tmp_path: Path
) -> None:
    """After a kill `resume` saves every picture whose task is known, itself killed now and then."""
    async with series(seed, tmp_path, asked=30) as batch:
        resume = "resume", batch.folder.name
        assert await batch.round(Moment("accepted", batch.rng.randint(10, 25), 0.1)) is None
        posts = batch.ledger.posts_received
        await batch.round(Moment("files", batch.ledger.file_requests + 2), *resume)
        unsure = len(uncertain(await batch.entries()))
        assert await batch.round(None, *resume) == (10 if unsure else 0)
        assert batch.ledger.posts_received == posts
        made = [entry for entry in await batch.entries() if entry.task_id is not None]
        assert len(list(batch.folder.glob("*.png"))) == len(made)
        await batch.check(await batch.play())


@pytest.mark.parametrize("seed", seeds(1))
async def test_the_budget_holds_over_all_kills(seed: int, tmp_path: Path) -> None:
    """What earlier processes spent, or may have spent, counts: the budget is not paid once more."""
    worth = 14
    options = ("--budget", worth * PRICE, "-c", AT_ONCE)
    async with series(seed, tmp_path, asked=24, options=options) as batch:
        assert await batch.play() == 6
        assert batch.kills
        entries = await batch.entries()
        batch.check_bought(entries)
        batch.check_money(entries)
        assert batch.ledger.billed_usd <= sum(each.spent + each.reserved for each in entries)
        bought = [entry for entry in entries if entry.state is not TaskState.QUEUED]
        # One that is turned away after the last had no room leaves some unspent.
        assert worth - AT_ONCE < len(bought) <= worth


@pytest.mark.parametrize("seed", seeds(1))
async def test_a_killed_rehearsal_is_carried_on_by_the_next_simulator(
    seed: int, tmp_path: Path
) -> None:
    """With the simulator in the killed process, its tasks live on in the next: all ends done."""
    options = ("--simulate", "--speed", 20)
    async with series(seed, tmp_path, asked=12, options=options) as batch:
        # All are accepted long before the first picture is there.
        assert await batch.round(Moment("printed", batch.rng.randint(1, 4))) is None
        await batch.round(Moment("start", after=batch.rng.uniform(0.3, 1)))
        assert await batch.round() == 0
        entries = await batch.entries()
        assert [entry.state for entry in entries] == [TaskState.COMPLETED] * 12
        assert {entry.attempts for entry in entries} == {1}
        batch.check_folder(entries)
