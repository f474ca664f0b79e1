"""A provider in virtual time: tasks that end by themselves, and looks at them by a scheduler."""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections.abc import Sequence
from random import Random

import attrs

from fluxflex._core.durations import Kind
from fluxflex._core.schedule import PollPolicy
from fluxflex._core.scheduler import PollScheduler, Scheduler

KIND: Kind = ("1K", 0, 0)
_ACCEPTED, _CALLBACK, _REPLY = range(3)


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
    policy: PollPolicy,
    jobs: Sequence[Job],
    *,
    rate: float | None = 100,
    seed: int = 1,
    round_trip: float = 0.0,
) -> Seen:
    """Follow all jobs to their ends; a reply comes a round trip after its look began."""
    scheduler = Scheduler(policy, rate, chance(seed))
    seen = Seen([math.inf] * len(jobs), [], jobs)
    events = [(job.accepted, _ACCEPTED, key) for key, job in enumerate(jobs)]
    for key, job in enumerate(jobs):
        if job.callback is not None:
            events.append((job.ends + job.callback, _CALLBACK, key))
    heapq.heapify(events)
    left = len(jobs)
    while left:
        due = scheduler.next_due()
        if not events or events[0][0] > due:
            taken = scheduler.take(due)
            assert taken is not None, "`next_due` promised a task"
            seen.looks.append(due)
            heapq.heappush(events, (due + round_trip, _REPLY, taken))
            continue
        now, what, key = heapq.heappop(events)
        sent = now - round_trip if what == _REPLY else None
        if what == _ACCEPTED:
            with_callback = jobs[key].callback is not None
            scheduler.add(key, jobs[key].kind, now, math.inf, webhook=with_callback)
        elif sent is not None and jobs[key].ends > sent:
            scheduler.pending(key, now, sent)
        elif seen.known[key] == math.inf:
            scheduler.done(key, now, sent)
            seen.known[key] = now
            left -= 1
    return seen


def last_look(
    scheduler: PollScheduler,
    kind: Kind | None,
    deadline: float,
    replies: Sequence[tuple[float, bool]],
) -> float:
    """Follow a task that never ends until its time is up; return when that look began.

    Each reply is how long it takes and whether it is usable; the last one is given for ever.
    """
    scheduler.add(1, kind, 0.0, deadline)
    for slow, usable in itertools.chain(replies, itertools.repeat(replies[-1])):
        began = scheduler.next_due()
        assert scheduler.take(began) == 1
        if scheduler.pending(1, began + slow, began if usable else None):
            break
    return began


def steady(count: int, spread: float, *, seed: int, median: float = 18.0) -> list[Job]:
    """Return one job a second on average, log-normal durations about a median."""
    rng, now, jobs = chance(seed), 0.0, []
    for _ in range(count):
        now += rng.expovariate(1.0)
        jobs.append(Job(now, median * math.exp(rng.gauss(0, spread))))
    return jobs


def most_in_a_second(times: list[float]) -> int:
    """Return how many looks fall into the fullest second, its end not included."""
    ends = [bisect.bisect_left(times, time + 1 - 1e-6) for time in times]
    return max((end - start for start, end in enumerate(ends)), default=0)
