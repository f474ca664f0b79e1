"""The clock of the machine is set back and forth while a batch is killed again and again.

`FLUXFLEX_KILL_SEEDS=100` runs so many seeds.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fluxflex.simulator import Faults, faults
from tests.stories.kill_helpers import PAGE, Series, at_start, seeds, series

_CLOCK = """
import os, time
_offset, _time, _ns = float(os.environ["CLOCK_OFFSET"]), time.time, time.time_ns
time.time = lambda: _time() + _offset
time.time_ns = lambda: _ns() + int(_offset * 1e9)
"""
_DAY = 86_400.0
_OFFSETS = (-_DAY, -_DAY, _DAY, -3600.0, 0.0)


def set_clock(batch: Series) -> None:
    """Set the clock of the next process, which then finds files of the future or of long ago."""
    before = float(batch.environment["CLOCK_OFFSET"])
    offset = before + batch.rng.choice(_OFFSETS)
    batch.environment["CLOCK_OFFSET"] = str(offset)
    for path in batch.folder.glob("*"):
        # The kernel's clock stays: so the files move the other way.
        then = path.stat().st_mtime + before - offset
        os.utime(path, (then, then))
    batch.story.append(f"the clock is off by {offset / 3600:.0f} hours")


@pytest.mark.parametrize("seed", seeds(2))
async def test_a_clock_set_back_buys_nothing_twice_and_loses_nothing(
    seed: int, tmp_path: Path
) -> None:
    """Whatever the clock says after each kill, the same promises hold."""
    clock = at_start(tmp_path, _CLOCK) | {"CLOCK_OFFSET": "0"}
    async with series(seed, tmp_path, environment=clock, between=set_clock) as batch:
        assert await batch.round(batch.any_moment()) is None
        set_clock(batch)
        code = await batch.play()
        await batch.check(code)
        sent = {entry.sent_at for entry in await batch.entries() if entry.sent_at}
        assert max(sent) - min(sent) > 1800


async def test_a_page_of_tomorrow_is_renewed_all_the_same(tmp_path: Path) -> None:
    """What was written before the clock was set back is not the newest for ever."""
    async with series(0, tmp_path, asked=12) as batch:
        batch.sim.faults = Faults(submit=[None, None, faults.accept_then_drop()])
        assert await batch.round() == 10
        for path in batch.folder.iterdir():
            tomorrow = path.stat().st_mtime + _DAY
            os.utime(path, (tomorrow, tomorrow))
        batch.options = (*batch.options, "--resubmit-uncertain")
        assert await batch.round() == 0
        page = (batch.folder / PAGE).read_text()
        assert not [path for path in batch.folder.glob("*.png") if path.name not in page]
