"""The measures: each runs its clients in fresh processes, in turn, and gives a table's rows."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import fast_server
import import_time

from side_by_side import entrants
from side_by_side.entrants import ENTRANTS
from side_by_side.figures import Spread, percentile, ratios

FAULTS = ("drop", "500", "503", "429")
# A 429 is over after some time, so that who waits for that is seen to be accepted; the other
# faults outlast every client's patience.
_PATIENCE, _SHORT = 30, 5
# A larger crowd has more time, in proportion.
_SUBMITTED_SOON = 12_500
# Seconds for one process: more than any of them takes.
_LONGEST = 900

# Who takes part in every measure but `cost` and the imports; the quick ones in any crowd.
_QUICK = (entrants.DEFAULT, entrants.PLAIN)
_AT_LARGE = (*_QUICK, entrants.HTTPX, entrants.FAL, entrants.REPLICATE, entrants.OPENAI)
_ALL_BUT_DEFAULT = tuple(name for name in ENTRANTS if name != entrants.DEFAULT)

# A row is a JSON object; what a child prints is foreign until it is in one.
Row = dict[str, Any]


@attrs.frozen(kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: of `cost`, of `burst` and of the imports.
        tasks: of one client in one round of `cost`.
        burst: tasks that are submitted together, each due after `due` seconds.
        crowds: how many in flight; with more than `most_of_peers` only the quick ones.
        hold: seconds in flight once all is submitted.
        patience: seconds for one submit in trouble.
        crowd_seconds: for submitting a crowd, before it is given up.
    """

    rounds: tuple[int, int, int]
    tasks: int
    burst: int
    due: float
    crowds: tuple[int, ...]
    most_of_peers: int
    hold: float
    patience: float
    crowd_seconds: float


FULL = Plan(
    rounds=(5, 3, 9),
    tasks=1000,
    burst=400,
    due=3.0,
    crowds=(1_000, 10_000, 100_000),
    most_of_peers=10_000,
    hold=5.0,
    patience=90.0,
    crowd_seconds=30.0,
)
QUICK = Plan(
    rounds=(1, 1, 1),
    tasks=100,
    burst=40,
    due=0.3,
    crowds=(300,),
    most_of_peers=0,
    hold=0.5,
    patience=1.0,
    crowd_seconds=10.0,
)


def cpus() -> tuple[int | None, int | None]:
    """Return a processor for the provider and one for the client, where there are two."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    free = sorted(os.sched_getaffinity(0))
    return (free[0], free[1]) if len(free) > 1 else (None, None)


def run(conduct: fast_server.Conduct, **job: object) -> Row:
    """Do one job in a fresh process, against a fresh provider."""
    print(*map(job.get, ("measure", "client", "count")), sep=", ", file=sys.stderr, flush=True)
    ours, theirs = cpus()
    folders = [str(Path(fast_server.__file__).parent), os.environ.get("PYTHONPATH", "")]
    # A proxy of the machine's has no part in this.
    env = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    with fast_server.running(attrs.evolve(conduct, cpu=ours)) as url:
        done = subprocess.run(
            [sys.executable, "-m", "side_by_side.child"],
            input=json.dumps({"cpu": theirs, **job, "url": url}),
            env=env,
            stdout=subprocess.PIPE,
            timeout=_LONGEST,
            check=True,
            text=True,
        )
    figures: Row = json.loads(done.stdout)
    return figures


def present(names: Iterable[str]) -> list[str]:
    """Return the clients that are installed; the report names the others."""
    return [name for name in names if ENTRANTS[name].installed]


def in_turn(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Give each client once a round, each round begun by another one."""
    for number in range(rounds):
        first = number % len(names)
        yield from (*names[first:], *names[:first])


def each_round(
    names: Sequence[str], rounds: int, one: Callable[[str], Row]
) -> Mapping[str, list[Row]]:
    """Return what each client gave in each round."""
    found: dict[str, list[Row]] = {name: [] for name in names}
    for name in in_turn(names, rounds):
        found[name].append(one(name))
    return found


def errors_of(found: Iterable[Row]) -> str:
    """Return what went wrong in all rounds, in words."""
    errors = Counter(error for row in found for error in row["errors"])
    return ", ".join(f"{count} {name}" for name, count in errors.most_common())


def cost(plan: Plan, clients: Iterable[str] = _ALL_BUT_DEFAULT) -> list[Row]:
    """Measure a task that is done at the first look: CPU, time and requests, 64 at once.

    `clients` has at least fluxflex, its transport alone and the plain loops: others are measured
    by them.
    """
    names = present(clients)

    def one(name: str) -> Row:
        return run(
            fast_server.Conduct(),
            client=name,
            measure="cost",
            count=plan.tasks,
            at_once=64,
            interval=0.0,
            warm=min(plan.tasks, 128),
        )

    found = each_round(names, plan.rounds[0], one)
    cpu = {name: [row["cpu"] for row in rows] for name, rows in found.items()}
    rows = []
    for name, figures in found.items():
        ratio = ratios(cpu[name], cpu[entrants.FLUXFLEX])
        requests = Spread.of([row["requests"] for row in figures]).median
        over = [
            (a - b) * 1e6 / requests
            for a, b in zip(cpu[name], cpu[entrants.TRANSPORT], strict=True)
        ]
        served = [row["server_cpu"] * 1e6 / requests for row in figures]
        rows.append(
            {
                "client": name,
                "ratio": ratio.median,
                "ratio_low": ratio.low,
                "ratio_high": ratio.high,
                "plain_to_this": ratios(cpu[entrants.PLAIN], cpu[name]).median,
                "cpu_us": Spread.of(cpu[name]).median * 1e6,
                "time_us": Spread.of([row["seconds"] for row in figures]).median * 1e6,
                "requests": requests,
                "over_transport_us": Spread.of(over).median,
                "server_us": Spread.of(served).median,
                "errors": errors_of(figures),
            }
        )
    return rows


def burst(plan: Plan) -> list[Row]:
    """Measure how late each client learns of tasks that were submitted together."""
    names = present((entrants.FLUXFLEX, *_AT_LARGE))

    def one(name: str) -> Row:
        return run(
            fast_server.Conduct(seconds=plan.due, warm=8),
            client=name,
            measure="lateness",
            count=plan.burst,
            at_once=plan.burst,
            interval=0.5 if name == entrants.REPLICATE else 0.1,
            warm=8,
            seconds=300.0,
        )

    found = each_round(names, plan.rounds[1], one)
    late = {name: [percentile(row["lags"], 0.99) for row in rows] for name, rows in found.items()}
    rows = []
    for name, figures in found.items():
        ratio = ratios(late[name], late[entrants.FLUXFLEX])
        lags = [row["lags"] for row in figures]
        rows.append(
            {
                "client": name,
                "ratio": ratio.median,
                "ratio_low": ratio.low,
                "ratio_high": ratio.high,
                "lag_p50": Spread.of([percentile(lag, 0.5) for lag in lags]).median,
                "lag_p99": Spread.of(late[name]).median,
                "told": min(len(lag) for lag in lags),
                "of": plan.burst,
                "requests": Spread.of([row["requests"] for row in figures]).median,
                "cpu_ms": Spread.of([row["cpu"] for row in figures]).median * 1e3,
                "loop_p99_ms": 1e3
                * Spread.of([percentile(row["loop"], 0.99) for row in figures]).median,
                "errors": errors_of(figures),
            }
        )
    return rows


def crowd(plan: Plan) -> list[Row]:
    """Measure tasks in flight that never end: memory, loop lag, looks a second."""
    rows = []
    for count in plan.crowds:
        names = present(_AT_LARGE if count <= plan.most_of_peers else _QUICK)
        found = {}
        for name in names:
            found[name] = run(
                fast_server.Conduct(seconds=None, warm=64),
                client=name,
                measure="crowd",
                count=count,
                at_once=count,
                interval=5.0,
                warm=64,
                hold=plan.hold,
                seconds=plan.crowd_seconds * max(1.0, count / _SUBMITTED_SOON),
            )
        # Of a crowd that is not complete nobody knows what a task takes.
        whole = {name: row["accepted"] == count for name, row in found.items()}
        taken = {name: row["bytes"] if whole[name] else math.nan for name, row in found.items()}
        rows += [
            {
                "count": count,
                "client": name,
                "ratio": taken[name] / taken[entrants.DEFAULT],
                "kib": taken[name] / 1024,
                "peak_mib": figures["peak_mib"],
                "accepted": figures["accepted"],
                "seconds": figures["submitted_in"],
                "loop_p99_ms": 1e3 * percentile(figures["loop"], 0.99),
                "loop_held_p99_ms": 1e3 * percentile(figures["loop_held"], 0.99),
                "most_looks": figures["most_gets_a_second"],
                "errors": errors_of([figures]),
            }
            for name, figures in found.items()
        ]
    return rows


def trouble(plan: Plan) -> list[Row]:
    """Measure what one submit puts on the wire where the provider has trouble."""
    names = present(_AT_LARGE)

    def one(case: tuple[str, str]) -> Row:
        name, fault = case
        many = _SHORT if fault == "429" else _PATIENCE
        return run(
            fast_server.Conduct(fault=fault, faults=many),
            client=name,
            measure="trouble",
            count=1,
            at_once=1,
            interval=0.1,
            seconds=plan.patience,
        )

    cases = [(name, fault) for name in names for fault in FAULTS]
    # Most of it is waiting, and nothing is timed: several at once.
    with ThreadPoolExecutor(6) as pool:
        found = dict(zip(cases, pool.map(one, cases), strict=True))
    return [{"client": name, **{fault: found[name, fault] for fault in FAULTS}} for name in names]


def imports(plan: Plan) -> list[Row]:
    """Measure what importing each client takes, in fresh interpreters."""
    modules = {entrant.needs[1] for entrant in ENTRANTS.values() if entrant.installed}
    names = ["import fluxflex", "from fluxflex import Session"]
    names += [f"import {module}" for module in sorted(modules)]
    taken: dict[str, list[float]] = {name: [] for name in ("pass", *names)}
    for name in taken:
        import_time.seconds(name)  # compiled and in the file cache from here on
    for name in in_turn(list(taken), plan.rounds[2]):
        taken[name].append(import_time.seconds(name))
    bare = Spread.of(taken.pop("pass")).median
    net = {name: [seconds - bare for seconds in times] for name, times in taken.items()}
    rows = []
    for name, times in net.items():
        ratio = ratios(times, net["import fluxflex"])
        rows.append(
            {
                "client": name,
                "ratio": ratio.median,
                "ratio_low": ratio.low,
                "ratio_high": ratio.high,
                "ms": Spread.of(times).median * 1e3,
            }
        )
    return rows


MEASURES = {
    "cost": cost,
    "burst": burst,
    "crowd": crowd,
    "trouble": trouble,
    "imports": imports,
}
