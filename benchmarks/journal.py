"""What the journal costs, and how fast a session goes on from it.

Throughput: the same prompts through one session without and one with a journal, in turn, against a
fast provider in a process of its own, with no limit on polls. Each round gives a ratio; the median
is what to read. Target: at least 0.85.

Going on: the seconds until a named run of 100,000 finished items is told again, and until
`resume()` follows 100,000 accepted tasks. Target: below 5.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import fast_server

from fluxflex import FixedConcurrency, FixedPolling, Session

LEAST_RATIO = 0.85
MOST_SECONDS = 5.0
# The session is busy all the time, so that waiting for the disk hides behind other tasks.
CONCURRENCY = 128


def prompts(count: int) -> Iterator[str]:
    """Give so many different prompts."""
    return (f"a lighthouse in fog, study {number}" for number in range(count))


async def rate(url: str, count: int, journal: Path | None, run: str | None = None) -> float:
    """Return the tasks a second that one session completes."""
    async with Session(
        "key",
        base_url=url,
        # A plain semaphore gives the highest rate, so it is the strictest to be compared with.
        concurrency=FixedConcurrency(CONCURRENCY),
        poll=FixedPolling(0.001),  # as fast as it can: a wait would hide what the journal costs
        poll_rate=None,
        journal=journal,
    ) as session:
        begun = time.perf_counter()
        async with session.map(prompts(count), run=run) as outcomes:
            done = sum([outcome.ok async for outcome in outcomes])
        seconds = time.perf_counter() - begun
    if done != count:
        raise RuntimeError(f"{done} of {count} tasks were completed")
    return count / seconds


async def throughput(url: str, count: int, rounds: int) -> dict[str, float]:
    """Return the median rates without and with a journal, and the median of their ratios."""
    without: list[float] = []
    beside: list[float] = []
    await rate(url, count // 4, None)  # warm
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            without.append(await rate(url, count, None))
            beside.append(await rate(url, count, Path(folder) / "journal.db"))
    ratios = [b / a for a, b in zip(without, beside, strict=True)]
    return {
        "without": statistics.median(without),
        "with": statistics.median(beside),
        "ratio": statistics.median(ratios),
    }


async def going_on(url: str, count: int, folder: Path) -> dict[str, float]:
    """Return the seconds of replaying a finished run, and of following accepted tasks again."""
    seconds = {}
    finished, accepted = folder / "finished.db", folder / "accepted.db"
    await rate(url, count, finished, "benchmark")
    begun = time.perf_counter()
    async with (
        Session("key", base_url=url, journal=finished) as session,
        session.map(prompts(count), run="benchmark") as outcomes,
    ):
        told = sum([outcome.replayed async for outcome in outcomes])
        seconds["replayed"] = time.perf_counter() - begun
    # As a kill would have left it: accepted by the provider, and no more known.
    finished.rename(accepted)
    await forget_the_ends(accepted)
    session = Session("key", base_url=url, journal=accepted, poll_rate=0.001)
    begun = time.perf_counter()
    await session.open()
    followed = len(await session.resume())
    seconds["resumed"] = time.perf_counter() - begun
    await session.aclose(drain=0)
    if told != count or followed != count:
        raise RuntimeError(f"{told} of {count} were told again, {followed} were followed")
    return seconds


async def forget_the_ends(journal: Path) -> None:
    """Turn finished tasks into accepted ones."""
    import aiosqlite

    async with aiosqlite.connect(journal) as file:
        await file.execute("UPDATE items SET state = 'RUNNING', result = NULL, ended_at = NULL")
        await file.commit()


def main() -> int:
    """Print the table; exit with 1 where a target is missed in a full run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few tasks, no verdict")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    logging.disable()  # what still runs at the end is named there
    tasks, rounds, items = (300, 1, 500) if options.quick else (1500, 15, 100_000)
    with fast_server.running() as url, tempfile.TemporaryDirectory() as folder:
        rates = asyncio.run(throughput(url, tasks, rounds))
        seconds = asyncio.run(going_on(url, items, Path(folder)))
    if options.json:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        print(
            json.dumps({"tasks_per_second": rates, "items": items, "seconds": seconds, **machine})
        )
    else:
        print(f"without a journal      {rates['without']:8.0f} tasks/s")
        print(f"with a journal         {rates['with']:8.0f} tasks/s")
        print(f"with / without         {rates['ratio']:8.3f} (target: at least {LEAST_RATIO})")
        for name, value in seconds.items():
            print(f"{items:,} items {name:<10} {value:6.2f} s (target: below {MOST_SECONDS:g})")
    missed = rates["ratio"] < LEAST_RATIO or max(seconds.values()) >= MOST_SECONDS
    return int(missed and not options.quick)


if __name__ == "__main__":
    raise SystemExit(main())
