"""A provider in virtual time: tasks that end by themselves, and looks at them by a scheduler."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from random import Random

import attrs

from fluxflex._core.durations import Kind
from fluxflex._core.schedule import PollPolicy
from fluxflex._core.scheduler import Scheduler

KIND: Kind = ("1K", 0, 0)


def chance(seed: int) -> Random:
    """Return a generator that gives the same in every run."""
    return Random(seed)  # noqa: S311 - it guards nothing


@attrs.frozen
class Job:
    """One task: when it is accepted, how long it takes, when its callback comes if at all."""

    accepted: float
    duration: float
    callback: float | None = None
    kind: Kind = KIND

    @property
    def ends(self) -> float:
        """When the provider has finished it."""
        return self.accepted + self.duration


@attrs.define
class Seen:
    """What came of it: for each job when its end was known, and when each look began."""

    known: list[float]
    looks: list[float]
    jobs: Sequence[Job]

    def lags(self, start: int = 0, stop: int | None = None) -> list[float]:
        """Return how long each end stayed unknown."""
        pairs = zip(self.known[start:stop], self.jobs[start:stop], strict=True)
        return [known - job.ends for known, job in pairs]

    @property
    def lag(self) -> float:
        """The mean lag in seconds."""
        return math.fsum(self.lags()) / len(self.jobs)

    @property
    def looks_each(self) -> float:
        """The looks per task."""
        return len(self.looks) / len(self.jobs)


def run(
    policy: PollPolicy, jobs: Sequence[Job], *, rate: float | None = 100, seed: int = 1
) -> Seen:
    """Follow all jobs to their ends; a reply comes at once."""
    scheduler = Scheduler(policy, rate, chance(seed))
    seen = Seen([math.inf] * len(jobs), [], jobs)
    events = [(job.accepted, 0, key) for key, job in enumerate(jobs)]
    for key, job in enumerate(jobs):
        if job.callback is not None:
            events.append((job.ends + job.callback, 1, key))
    heapq.heapify(events)
    left = len(jobs)
    while left:
        due = scheduler.next_due()
        if events and events[0][0] <= due:
            now, what, key = heapq.heappop(events)
            if not what:
                with_callback = jobs[key].callback is not None
                scheduler.add(key, jobs[key].kind, now, math.inf, webhook=with_callback)
                continue
            sent = None
        else:
            now = sent = due
            taken = scheduler.take(now)
            assert taken is not None, "`next_due` promised a task"
            key = taken
            seen.looks.append(now)
            if jobs[key].ends > now:
                scheduler.pending(key, now, now)
                continue
        if seen.known[key] == math.inf:
            scheduler.done(key, now, sent)
            seen.known[key] = now
            left -= 1
    return seen


def steady(count: int, spread: float, *, seed: int, median: float = 18.0) -> list[Job]:
    """Return one job a second on average, log-normal durations about a median."""
    rng, now, jobs = chance(seed), 0.0, []
    for _ in range(count):
        now += rng.expovariate(1.0)
        jobs.append(Job(now, median * math.exp(rng.gauss(0, spread))))
    return jobs
