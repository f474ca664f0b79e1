"""The command `bench` and its options; see `app` for the others."""

from __future__ import annotations

import typer

from fluxflex.cli.options import (
    AsJson,
    AspectRatio,
    BaseUrl,
    BenchFolder,
    Budget,
    Cfg,
    FailureRate,
    FaultShares,
    Levels,
    MaxInFlight,
    Quality,
    RetryAfter,
    Simulate,
    Steps,
    SubmitsPerMinute,
    TasksEach,
    TaskSeconds,
    Timeout,
    Yes,
    fields,
)

EXAMPLES = (
    "Examples: fluxflex bench --simulate --max-in-flight 20, "
    "fluxflex bench -c 1,4,16 --tasks 16 --budget 2 -o out"
)


def bench(
    *,
    concurrency: Levels = "1,4,16,64",
    tasks: TasksEach = None,
    out: BenchFolder = None,
    budget: Budget = None,
    yes: Yes = False,
    aspect_ratio: AspectRatio = None,
    quality: Quality = None,
    steps: Steps = None,
    cfg: Cfg = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
    simulate: Simulate = False,
    latency: TaskSeconds = None,
    failure_rate: FailureRate = 0.0,
    max_in_flight: MaxInFlight = None,
    submits_per_minute: SubmitsPerMinute = None,
    retry_after: RetryAfter = None,
    fault: FaultShares = None,
    base_url: BaseUrl = None,
) -> None:
    """Measure throughput and latency against concurrency, and tell the concurrency to use.

    Against the provider every task is bought; nothing is downloaded. The last options, from
    --latency on, are for --simulate.
    """
    from fluxflex.cli import bench as benches
    from fluxflex.cli.talk import Talk, guarded
    from fluxflex.cli.target import Target

    talk = Talk(simulated=simulate)

    def work() -> int:
        order = benches.Order(
            levels=benches.levels(concurrency),
            tasks=tasks,
            target=Target(base_url=base_url, simulate=simulate),
            fields=fields(aspect_ratio=aspect_ratio, quality=quality, steps=steps, cfg=cfg),
            timeout=timeout,
            budget=budget,
            agreed=yes,
            out=out,
            as_json=as_json,
            simulator=fields(
                latency=latency,
                failure_rate=failure_rate or None,
                max_in_flight=max_in_flight,
                submits_per_minute=submits_per_minute,
                retry_after=retry_after,
                faults=fault,
            ),
        )
        return benches.bench(order, talk)

    raise typer.Exit(guarded(talk, work))
