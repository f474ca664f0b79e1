"""What runs in a fresh process: one client, one measure. A job comes in on stdin, figures go out.

Fresh, so that nobody pays for another's imports, heap or connections; what is measured begins
after the imports and after a round of the same work to warm up.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NoReturn

import attrs
import fast_server

from side_by_side.entrants import ENTRANTS
from side_by_side.work import Client, Work

TICK = 0.01
_MIB = 1024 * 1024


@attrs.frozen(kw_only=True)
class Job:
    """What to measure of whom.

    Attributes:
        measure: one of `MEASURES`.
        client: one of `ENTRANTS`.
        warm: tasks that are completed before the measure begins.
        seconds: how long it may take; what is not done by then is left.
        hold: seconds to stay in flight once everything is submitted.
        cpu: the processor to keep to.
    """

    measure: str
    client: str
    url: str
    count: int
    at_once: int
    interval: float
    warm: int = 0
    seconds: float = 600.0
    hold: float = 0.0
    cpu: int | None = None

    def work(self, count: int | None = None) -> Work:
        """Return the work, or a smaller piece of the same kind."""
        several = self.count if count is None else count
        return Work(
            url=self.url, count=several, at_once=min(self.at_once, several), interval=self.interval
        )


Figures = dict[str, object]


class Ticker:
    """Measures how late a timer of this loop comes, every 10 ms.

    A loop that stands still for a second delays not one tick but a hundred; those that could not
    even be asked for are entered too, each with what was left of the standstill for it.
    """

    def __init__(self) -> None:
        self._late: list[float] = []
        self._due = time.monotonic() + TICK
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._due - time.monotonic()))
            self._enter(self._late)
            self._due = time.monotonic() + TICK

    def _enter(self, late: list[float]) -> None:
        lag = max(0.0, time.monotonic() - self._due)
        late.append(lag)
        while (lag := lag - TICK) > 0:
            late.append(lag)

    def so_far(self) -> list[float]:
        """Return the lags up to now, with those of a standstill that is still going on."""
        late = [*self._late]
        if time.monotonic() > self._due:
            self._enter(late)
        return late


async def cost(client: Client, job: Job) -> Figures:
    """Return the processor's and the clock's seconds for the work."""
    before = await fast_server.counts(job.url)
    gc.collect()
    work, begun, cpu = job.work(), time.perf_counter(), time.process_time()
    await client(work)
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - begun
    after = await fast_server.counts(job.url)
    wire = sum(after[name] - before[name] for name in ("posts", "gets"))
    return {
        "cpu": cpu / job.count,
        "seconds": seconds / job.count,
        "requests": wire / job.count,
        "server_cpu": (after["cpu"] - before["cpu"]) / job.count,
        "errors": work.errors,
    }


async def lateness(client: Client, job: Job) -> Figures:
    """Return how late the client learnt of each picture, and how late the loop's timers came."""
    work, before = job.work(), await fast_server.counts(job.url)
    cpu = time.process_time()
    ticker = Ticker()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(client(work), job.seconds)
    late = ticker.so_far()
    cpu = time.process_time() - cpu
    after = await fast_server.counts(job.url)
    return {
        "lags": work.lags,
        "loop": late,
        "cpu": cpu / job.count,
        "requests": sum(after[name] - before[name] for name in ("posts", "gets")) / job.count,
        "errors": work.errors,
    }


async def crowd(client: Client, job: Job) -> Figures:
    """Return what a task in flight takes of memory, while none of them ever ends.

    It is a thread that looks on, for a client's loop may stand still for minutes.
    """
    gc.collect()
    work, before, ticker = job.work(), resident(), Ticker()

    def look_on() -> Figures:
        begun, accepted = time.perf_counter(), 0
        while accepted < job.count and time.perf_counter() - begun < job.seconds:
            time.sleep(0.2)
            accepted = int(asyncio.run(fast_server.counts(job.url))["bought"]) - job.warm
        seconds, ticks = time.perf_counter() - begun, len(ticker.so_far())
        time.sleep(job.hold)
        late = ticker.so_far()
        gc.collect()
        found = asyncio.run(fast_server.counts(job.url))
        return {
            "accepted": accepted,
            "submitted_in": seconds,
            "bytes": (resident() - before) / max(1, accepted),
            "peak_mib": peak() / _MIB,
            "loop": late,
            "loop_held": late[ticks:],
            "most_gets_a_second": found["most_gets_a_second"],
            "errors": work.errors,
        }

    def end() -> None:
        finish(look_on())

    threading.Thread(target=end, daemon=True).start()
    await client(work)
    for_ever: asyncio.Future[Figures] = asyncio.get_running_loop().create_future()
    return await for_ever  # the thread ends it all


async def trouble(client: Client, job: Job) -> Figures:
    """Return what one submit puts on the wire where the provider has trouble."""
    work = job.work()
    over = True
    try:
        await asyncio.wait_for(client(work), job.seconds)
    except TimeoutError:
        over = False
    found = await fast_server.counts(job.url)
    return {
        "posts": found["posts"],
        "bought": found["bought"],
        "over": over,
        "ok": len(work.lags),
        "errors": work.errors,
    }


MEASURES: Mapping[str, Callable[[Client, Job], Awaitable[Figures]]] = {
    "cost": cost,
    "lateness": lateness,
    "crowd": crowd,
    "trouble": trouble,
}


def resident() -> int:
    """Return the bytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """Return the bytes of this process that were in memory at its highest."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def finish(figures: Figures) -> NoReturn:
    """Print the figures and end the process at once: what is in flight never ends."""
    print(json.dumps(figures), flush=True)
    os._exit(0)


async def measured(job: Job) -> Figures:
    """Warm up, then measure."""
    client = ENTRANTS[job.client].load()
    if job.warm:
        await client(job.work(job.warm))
    return await MEASURES[job.measure](client, job)


def main() -> None:
    """Do the job of stdin; print its figures."""
    job = Job(**json.loads(sys.stdin.read()))
    logging.disable()  # what still runs at the end is named there
    if job.cpu is not None:
        os.sched_setaffinity(0, {job.cpu})

    async def run() -> None:
        finish(await measured(job))

    asyncio.run(run())


if __name__ == "__main__":
    main()
