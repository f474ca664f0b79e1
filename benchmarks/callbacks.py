"""What callbacks stand, and what they cost: a storm of them on loopback, then the CPU of a task.

The storm: thousands of tasks at a provider in a process of its own, whose callbacks are lost,
doubled, late and early, with forged ones among them. Every task must resolve to the picture of its
own prompt, once, and be bought once; and what the session counted must be what was sent.

The cost: client CPU of a task whose end a callback tells, beside plain aiohttp that looks once, in
turn, in fresh processes. Target: plain aiohttp takes at least 1.3 times as much.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping
from decimal import Decimal
from multiprocessing.connection import Connection
from typing import Any

import attrs
from fast_server import beside
from side_by_side import entrants, measures, report
from side_by_side.figures import clean

from fluxflex import FixedConcurrency, Session
from fluxflex.simulator import Callbacks, Durations, Simulator
from fluxflex.webhooks import WebhookReceiver

# Of tasks at once.
CONCURRENCY = 400
WEATHER = Callbacks(lost=0.10, doubled=0.10, late=0.05, early=0.05, forged=0.10)
MOST_SECONDS = 90.0
# Seconds for the seconds of two, once every callback is sent or lost.
_SETTLE = 1.0
_OK = 200
_TRUE = ("plain", "late", "early", "double")
_COST = (entrants.CALLBACKS, entrants.PLAIN, entrants.FLUXFLEX, entrants.TRANSPORT)


@attrs.frozen(kw_only=True)
class Extent:
    """How large a storm is.

    Attributes:
        tasks: how many.
        speed: how many simulated seconds pass in one; a task takes about 16 of them.
    """

    tasks: int
    speed: float


FULL, QUICK = Extent(tasks=10_000, speed=16.0), Extent(tasks=200, speed=64.0)


# -- the storm: the provider ----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Books:
    """What the provider knows in the end.

    Attributes:
        pictures: the URL of each task's picture, by prompt; more than one where it was bought
            more than once.
        posts: how many submits arrived.
        looks: how many status requests arrived.
        sent: how many callbacks went out or were lost, by kind.
        taken: how many of the true ones were answered with 200.
    """

    pictures: Mapping[str, list[str]]
    posts: int
    looks: int
    sent: Mapping[str, int]
    taken: int

    @property
    def forged(self) -> int:
        """How many forged ones went out."""
        others = {*_TRUE, "lost", "elsewhere", "again"}
        return sum(count for kind, count in self.sent.items() if kind not in others)


def _provide(told: Connection, speed: float) -> None:
    """Serve until asked for the books; hand them out once every callback is on its way."""

    async def run() -> None:
        async with Simulator(
            durations=Durations(),
            speed=speed,
            balance_usd=Decimal(1_000_000),
            callbacks=WEATHER,
            keep_requests=0,
        ) as simulator:
            told.send(simulator.url)
            await asyncio.to_thread(told.recv)
            await simulator.wait_for(
                lambda ledger: (
                    sum(ledger.callbacks_by_kind[kind] for kind in ("plain", "late", "early"))
                    + ledger.callbacks_by_kind["lost"]
                    >= len(ledger)
                )
            )
            await asyncio.sleep(_SETTLE)
            ledger = simulator.ledger
            told.send(
                Books(
                    pictures={
                        prompt: [f"{simulator.url}/files/{entry.task_id}.png" for entry in entries]
                        for prompt, entries in ledger.by_prompt().items()
                    },
                    posts=ledger.posts_received,
                    looks=ledger.status_requests,
                    sent=dict(ledger.callbacks_by_kind),
                    taken=sum(
                        each.kind in _TRUE and each.status == _OK for each in ledger.callbacks
                    ),
                )
            )

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


# -- the storm: the session -----------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Seen:
    """What the session gave out and counted.

    Attributes:
        pictures: the picture's URL of each outcome, by prompt; more than one where it came more
            than once.
        errors: what came in place of pictures, by name.
        ends: how often tasks ended: how many of them once, how many twice, and so on.
        counted: callbacks by kind, from `statistics()`.
        polls: looks, from `statistics()`.
        completed: tasks, from `statistics()`.
        seconds: until the last outcome.
    """

    pictures: Mapping[str, list[str]]
    errors: Mapping[str, int]
    ends: Mapping[int, int]
    counted: Mapping[str, int]
    polls: int
    completed: int
    seconds: float


async def storm(told: Connection, count: int) -> tuple[Seen, Books]:
    """Map so many prompts with callbacks; return what the session saw and the provider's books."""
    ends: Counter[int] = Counter()
    errors: Counter[str] = Counter()
    pictures: dict[str, list[str]] = {}
    receiver = WebhookReceiver("http://127.0.0.1:0/callbacks")
    async with (
        receiver.serve(),
        Session(
            "key",
            base_url=told.recv(),
            concurrency=FixedConcurrency(CONCURRENCY),
            webhooks=receiver,
            on_event=lambda change: ends.update([change.after.key] if change.ends else []),
        ) as session,
    ):
        begun = time.perf_counter()
        prompts = (f"a lighthouse in fog, study {number}" for number in range(count))
        async with session.map(prompts) as outcomes:
            async for outcome in outcomes:
                if outcome.ok:
                    pictures.setdefault(str(outcome.item), []).append(outcome.image.url)
                else:
                    errors[type(outcome.error).__name__] += 1
        seconds = time.perf_counter() - begun
        told.send("books")  # what is late still arrives, and finds the session open
        books: Books = await asyncio.to_thread(told.recv)
        statistics = session.statistics()
    seen = Seen(
        pictures=pictures,
        errors=errors,
        ends=Counter(ends.values()),
        counted=statistics.callbacks,
        polls=statistics.polls,
        completed=statistics.completed,
        seconds=seconds,
    )
    return seen, books


# -- the storm: the verdict -----------------------------------------------------------------------


@attrs.frozen
class Line:
    """One thing that must hold.

    Attributes:
        found, wanted: what is, and what must be.
    """

    name: str
    found: float
    wanted: float

    @property
    def holds(self) -> bool:
        """Whether it is as it must be."""
        return self.found == self.wanted


def judged(count: int, seen: Seen, books: Books) -> list[Line]:
    """Return what must hold after a storm."""
    right = sum(books.pictures.get(prompt) == urls for prompt, urls in seen.pictures.items())
    sent, counted = books.sent, seen.counted
    return [
        Line("outcomes with the picture of their own prompt, once", right, count),
        Line("outcomes with an error", sum(seen.errors.values()), 0),
        Line("tasks that ended once", seen.ends.get(1, 0), count),
        Line("tasks that ended more than once", sum(seen.ends.values()) - seen.ends.get(1, 0), 0),
        Line("completed, as the session counts", seen.completed, count),
        Line("POSTs at the provider", books.posts, count),
        Line("prompts that were bought", len(books.pictures), count),
        Line("callbacks received: all that were sent", counted["received"], _sum(sent, _TRUE)),
        Line("callbacks answered with 200: all that were sent", books.taken, _sum(sent, _TRUE)),
        Line("early: as many as were sent", counted["early"], sent.get("early", 0)),
        Line("duplicate: as many as were doubled", counted["duplicate"], sent.get("double", 0)),
        Line("refused: as many as were forged", counted["refused"], books.forged),
        Line("missed: as many as were lost", counted["missed"], sent.get("lost", 0)),
        Line("unknown or broken", counted["unknown"] + counted["broken"], 0),
    ]


def _sum(counts: Mapping[str, int], kinds: Collection[str]) -> int:
    return sum(counts.get(kind, 0) for kind in kinds)


def told_of(count: int, seen: Seen, books: Books, lines: Collection[Line]) -> str:
    """Return what is to be read of a storm."""
    sent = ", ".join(f"{number} {kind}" for kind, number in sorted(books.sent.items()))
    counted = ", ".join(f"{number} {kind}" for kind, number in seen.counted.items())
    rows = [
        f"{count:,} tasks in {seen.seconds:.1f} s, {seen.polls / count:.2f} looks a task",
        f"sent:    {sent}",
        f"counted: {counted}",
    ]
    rows += [
        f"{'ok' if line.holds else 'NO':<3} {line.name:<52} {line.found:>7,} of {line.wanted:,}"
        for line in lines
    ]
    return "\n".join(rows)


# -- both -----------------------------------------------------------------------------------------


def main() -> int:
    """Print what was found; exit with 1 where a line does not hold or a full run misses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few tasks, no verdict on speed")
    parser.add_argument("--only", choices=("storm", "cost"), help="one of the two")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    extent = QUICK if options.quick else FULL
    result: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    good = True
    words: list[str] = []
    if options.only != "cost":
        with beside(_provide, extent.speed) as told:
            seen, books = asyncio.run(storm(told, extent.tasks))
        lines = judged(extent.tasks, seen, books)
        good = all(line.holds for line in lines)
        good = good and (options.quick or seen.seconds < MOST_SECONDS)
        words.append(told_of(extent.tasks, seen, books, lines))
        result["storm"] = {
            "tasks": extent.tasks,
            "seconds": seen.seconds,
            "polls": seen.polls,
            "sent": books.sent,
            "counted": seen.counted,
            "lines": [attrs.asdict(line) | {"holds": line.holds} for line in lines],
        }
    if options.only != "storm":
        plan = measures.QUICK if options.quick else measures.FULL
        rows = [clean(row) for row in measures.cost(plan, _COST)]
        found = [] if options.quick else report.targets({"cost": rows})
        found = [target for target in found if "callbacks" in target.name]
        good = good and all(target.met for target in found)
        words += [*report.section("cost", rows), *report.verdict(found)]
        result["cost"] = rows
        result["targets"] = [attrs.asdict(target) | {"met": target.met} for target in found]
    print(json.dumps(result) if options.json else "\n".join(words))
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
