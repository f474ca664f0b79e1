"""What the learned policy does through the scheduler: its promises, and its figures.

The figures come from a provider that lives in virtual time.
"""

from __future__ import annotations

import itertools
import math
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxflex._core.durations import Kind
from fluxflex._core.schedule import AdaptivePolling, FixedPolling, PollPolicy
from fluxflex._core.scheduler import Scheduler
from tests.core.provider import (
    KIND,
    Job,
    Seen,
    chance,
    last_look,
    most_in_a_second,
    run,
    steady,
)

FOREVER = math.inf


def scheduler_of(rate: float | None = None, *, seed: int = 1) -> Scheduler:
    """Return a scheduler with the default policy."""
    return Scheduler(AdaptivePolling(), rate, chance(seed))


def in_order(*, last_deadline: float = FOREVER) -> Scheduler:
    """Return one of a hundred tasks; the first twenty have ended in order: a narrow frontier."""
    scheduler = scheduler_of()
    for key in range(100):
        scheduler.add(key, KIND, 0.0, last_deadline if key == 99 else FOREVER)
    for key in range(20):
        scheduler.done(key, 10.0 + key / 10)
    return scheduler


# -- promises --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(
    rate=st.floats(1, 60),
    lives=st.lists(st.tuples(st.floats(0, 40), st.floats(0.01, 90)), min_size=1, max_size=120),
    seed=st.integers(),
)
def test_every_end_is_seen_within_the_rate(
    rate: float, lives: list[tuple[float, float]], seed: int
) -> None:
    """Whatever durations are, no task is forgotten; no second has more than 1.15 times the rate.

    And none is said to have ended before it did.
    """
    jobs = [Job(accepted, duration) for accepted, duration in lives]
    seen = run(AdaptivePolling(), jobs, rate=rate, seed=seed)
    assert min(seen.lags()) >= 0
    assert max(seen.known) < FOREVER
    assert most_in_a_second(seen.looks) <= max(math.ceil(rate), 1.15 * rate)


@settings(deadline=None, max_examples=40)
@given(
    patience=st.floats(0, 120),
    replies=st.lists(st.tuples(st.floats(0, 3), st.booleans()), min_size=1, max_size=20),
    kind=st.sampled_from([KIND, None]),
    seed=st.integers(),
)
def test_no_task_times_out_without_a_look_after_its_deadline(
    patience: float, replies: list[tuple[float, bool]], kind: Kind | None, seed: int
) -> None:
    """Time is up only by a look that began at the deadline or later, as with any policy."""
    assert last_look(scheduler_of(seed=seed), kind, patience, replies) >= patience


def test_a_seed_decides_everything() -> None:
    """The same generator gives the same looks to the last bit; another one does not."""
    jobs = steady(80, 0.3, seed=4)
    first, again = (run(AdaptivePolling(), jobs, seed=5) for _ in range(2))
    assert first.looks == again.looks
    assert run(AdaptivePolling(), jobs, seed=6).looks != first.looks


def test_behind_the_frontier_the_deadline_holds() -> None:
    """A task that waits for its turn gets its look at the deadline all the same."""
    scheduler = in_order(last_deadline=90.0)
    while (now := scheduler.next_due()) < 90.0:
        taken = scheduler.take(now)
        assert taken is not None
        scheduler.pending(taken, now, now)
    up = []
    while (now := scheduler.next_due()) <= 90.0:
        taken = scheduler.take(now)
        assert taken is not None
        if scheduler.pending(taken, now, now):
            up.append(taken)
            scheduler.forget(taken, now)
    assert up == [99]


def test_unknown_ages_teach_nothing() -> None:
    """An attached task is looked at at once, at gaps by the time it was followed; no law learns."""
    scheduler, other = scheduler_of(), scheduler_of()
    scheduler.add(1, None, 0.0, FOREVER)
    assert scheduler.next_due() == 0.0
    assert scheduler.take(0.0) == 1
    scheduler.pending(1, 0.0, 0.0)
    assert scheduler.next_due() == AdaptivePolling().gap(0.0)
    scheduler.done(1, 3000.0, 3000.0)
    scheduler.add(2, None, 3000.0, FOREVER)
    scheduler.forget(2, 3000.0)
    scheduler.add(3, KIND, 4000.0, FOREVER)
    other.add(3, KIND, 4000.0, FOREVER)
    assert scheduler.next_due() == other.next_due()


def test_a_look_that_a_callback_asked_for_teaches_what_the_callback_said() -> None:
    """The task ended when the callback came, so polling relaxes as if that had told it."""
    confirmed, told, polled = scheduler_of(), scheduler_of(), scheduler_of()
    for scheduler in (confirmed, told, polled):
        scheduler.add(1, KIND, 0.0, FOREVER, webhook=True)
    confirmed.hasten(1)
    assert confirmed.take(7.0) == 1
    confirmed.done(1, 8.0, 7.0)
    told.done(1, 8.0)
    assert polled.take(7.0) == 1
    polled.done(1, 8.0, 7.0)
    for scheduler in (confirmed, told, polled):
        scheduler.add(2, KIND, 9.0, FOREVER, webhook=True)
    assert confirmed.next_due() == told.next_due() != polled.next_due()


def test_a_hastened_task_need_not_wait_for_its_turn() -> None:
    """Behind the frontier too its look is due at once."""
    scheduler = in_order()
    scheduler.hasten(99)
    assert scheduler.take(12.0) == 99


def test_no_sample_is_looked_at_in_place_of_a_hastened_task() -> None:
    """One that is due at once must not wait for the end of a look at another."""
    scheduler = in_order()
    for key in range(99, 49, -1):
        scheduler.hasten(key)
        assert scheduler.take(12.0) == key


def test_a_reply_that_is_overtaken_teaches_nothing() -> None:
    """Of two replies the one whose look began earlier brings nothing new."""
    scheduler = scheduler_of()
    scheduler.add(1, KIND, 0.0, FOREVER)
    assert scheduler.pending(1, 9.0, 8.0) is False
    assert scheduler.pending(1, 10.0, 7.0) is False
    scheduler.done(1, 12.0, 11.0)
    assert scheduler.next_due() == FOREVER


def test_a_task_that_is_looked_at_comes_in_with_its_reply() -> None:
    """A look in the air, at one whose turn comes meanwhile, is not doubled."""
    scheduler = scheduler_of()
    for key in range(40):
        scheduler.add(key, KIND, 0.0, FOREVER)
    taken = []
    while (now := scheduler.next_due()) < 20.0:
        key_ = scheduler.take(now)
        assert key_ is not None
        taken.append(key_)
    for key in range(20):
        scheduler.done(key, 20.0, 19.0)
    assert sorted(taken) == list(range(40))
    assert scheduler.next_due() == FOREVER
    assert scheduler.throttled(0, 20.0, 1.0) is False
    assert scheduler.pending(20, 20.0, 19.0) is False
    assert scheduler.next_due() < 60.0


def test_the_many_who_lose_their_place_hold_nobody_up() -> None:
    """When an order shows, `take` passes over a few hundred at a time; it says so by `None`."""
    scheduler = scheduler_of()
    for key in range(2000):
        scheduler.add(key, KIND, 0.0, FOREVER)
    for key in range(20):
        scheduler.done(key, 10.0 + key / 10)
    takes = []
    while scheduler.next_due() < FOREVER:
        takes.append(scheduler.take(60.0))
    assert 2 <= takes.count(None) <= 6
    assert {20, 21, 22, 23} <= set(takes)


def test_when_tasks_become_quicker_the_waiting_are_planned_anew() -> None:
    """After a stall no task waits for the look that was planned by the durations of the stall."""
    scheduler = Scheduler(AdaptivePolling(lag_cost=2.0), None, chance(1))
    for key in range(40):
        scheduler.add(key, KIND, 200.0 * key, FOREVER)
        scheduler.done(key, 200.0 * key + 100)
    start = 8000.0
    scheduler.add(99, KIND, start, FOREVER)
    assert scheduler.next_due() == start + 30
    for key in range(10):
        scheduler.add(key, KIND, start, FOREVER)
    for key in range(10):
        scheduler.done(key, start + 5)
    assert scheduler.next_due() < start + 20


def test_a_rush_teaches_by_a_part_of_its_tasks() -> None:
    """To learn takes time: two thousand tasks can teach at once, then twenty a second.

    The others are looked at all the same.
    """
    scheduler = scheduler_of()
    for key in range(20_000):
        scheduler.add(key, KIND, key / 1000, FOREVER)
    teachers = [key for key, entry in scheduler._entries.items() if entry.teaches]
    assert 2000 < len(teachers) < 2400
    assert teachers[:1000] == list(range(1000))
    assert max(b - a for a, b in itertools.pairwise(teachers)) < 500
    assert len([key for key in teachers if key >= 19_000]) > 15
    scheduler.add(-1, KIND, 120.0, FOREVER)
    assert scheduler._entries[-1].teaches == KIND
    passed_over = next(key for key in range(19_000, 20_000) if key not in teachers)
    assert scheduler.pending(passed_over, 121.0, 120.5) is False
    scheduler.done(passed_over, 122.0, 121.5)


def test_what_times_out_teaches_nothing_by_that() -> None:
    """To give up a task is not to know how long it took: the next one is due as without it."""
    scheduler, other = scheduler_of(), scheduler_of()
    scheduler.add(1, None, 0.0, FOREVER)
    scheduler.forget(1, 500.0)
    for each in (scheduler, other):
        each.add(2, KIND, 600.0, FOREVER)
    assert scheduler.next_due() == other.next_due()


def test_a_hundred_thousand_in_flight_take_little_room() -> None:
    """At most one KiB for each task."""
    scheduler = scheduler_of(100)
    tracemalloc.start()
    for key in range(20_000):
        scheduler.add(key, KIND, key / 1000, 600.0 + key / 1000)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / 20_000 < 1024


# -- figures ---------------------------------------------------------------------------------


def fixed_at_equal_lag(jobs: list[Job], lag: float) -> Seen:
    """Return what the fixed interval does that has the same mean lag, or a little more."""
    short, long = 0.05, 30.0
    for _ in range(8):
        middle = math.sqrt(short * long)
        if run(FixedPolling(middle), jobs, rate=None).lag < lag:
            short = middle
        else:
            long = middle
    return run(FixedPolling(long), jobs, rate=None)


@pytest.mark.parametrize(("spread", "share"), [(0.35, 0.8), (0.15, 0.5)])
def test_fewer_looks_at_equal_lag(spread: float, share: float) -> None:
    """What a fixed interval needs for the same mean lag, times 0.8, or 0.5 where spread is small.

    From the first task on: what it takes to learn is counted.
    """
    jobs = steady(400, spread, seed=11)
    learned = run(AdaptivePolling(), jobs)
    fixed = fixed_at_equal_lag(jobs, learned.lag)
    assert fixed.lag >= learned.lag
    assert learned.looks_each <= share * fixed.looks_each


@pytest.mark.parametrize(
    ("median", "lag", "looks"), [(6.0, 0.96, 4.1), (18.0, 1.07, 11.9), (50.0, 1.61, 28.0)]
)
def test_a_single_task_without_history(median: float, lag: float, looks: float) -> None:
    """The first task of a session is seen about a second late, whether it is quick or slow."""
    rng = chance(3)
    ends = [
        run(AdaptivePolling(), [Job(0.0, median * math.exp(rng.gauss(0, 0.35)))], seed=seed)
        for seed in range(200)
    ]
    assert math.fsum(seen.lag for seen in ends) / 200 <= lag
    assert math.fsum(seen.looks_each for seen in ends) / 200 <= looks


def test_a_queue_is_followed_from_its_head() -> None:
    """Where the provider works through a queue in order, the many who wait cost next to nothing."""
    rng, free, jobs = chance(2), [0.0] * 20, []
    for turn in range(600):
        start = min(free)
        free[free.index(start)] = end = start + 15 * math.exp(rng.gauss(0, 0.25))
        jobs.append(Job(turn / 1000, end - turn / 1000))
    learned, fixed = run(AdaptivePolling(), jobs), run(FixedPolling(3.0), jobs)
    assert learned.lag < 2.0
    assert learned.looks_each < 9
    assert fixed.looks_each > 50
    assert most_in_a_second(learned.looks) <= 120


def test_an_order_that_breaks_is_found_out() -> None:
    """Samples from behind the frontier find that others end first, and all are looked at again."""
    jobs = [Job(turn / 1000, 10.0 + turn / 20) for turn in range(300)]
    start = 40.0
    jobs += [Job(start + turn / 1000, 40.0 - turn / 20) for turn in range(600)]
    seen = run(AdaptivePolling(), jobs)
    assert max(seen.lags(300)) < 30
    assert seen.lag < 5


def with_callbacks(jobs: list[Job], until: float) -> list[Job]:
    """Return the jobs, with a callback soon after its end for each that ends before a time."""
    return [Job(job.accepted, job.duration, 0.2 if job.ends < until else FOREVER) for job in jobs]


def test_polling_relaxes_while_callbacks_arrive_and_takes_over_when_they_stop() -> None:
    """Callbacks make most looks needless; once they stop, ends are seen within seconds."""
    jobs = steady(400, 0.35, seed=7)
    alone = run(AdaptivePolling(), jobs)
    relaxed = run(AdaptivePolling(), with_callbacks(jobs, FOREVER))
    assert relaxed.lag <= 0.25
    assert relaxed.looks_each < 0.35 * alone.looks_each

    stop = 200.0
    mixed = with_callbacks(jobs, stop)
    seen = run(AdaptivePolling(), mixed)
    orphans = [n for n, job in enumerate(mixed) if job.callback == FOREVER]
    first = sorted(orphans, key=lambda n: jobs[n].ends)[:10]
    assert max(seen.known[n] - jobs[n].ends for n in first) < 12
    late = [seen.known[n] - jobs[n].ends for n in orphans if jobs[n].ends > stop + 30]
    usual = [alone.known[n] - jobs[n].ends for n in orphans if jobs[n].ends > stop + 30]
    assert math.fsum(late) < 1.4 * math.fsum(usual)


def with_accidents(jobs: list[Job], seed: int) -> list[Job]:
    """Return the jobs with callbacks, mean 0.5 s: a tenth lost, a twentieth a minute late."""
    rng, found = chance(seed), []
    for job in jobs:
        lost, late = rng.random() < 0.1, rng.random() < 0.05
        wait = FOREVER if lost else rng.expovariate(2.0) + 60 * late
        found.append(Job(job.accepted, job.duration, wait))
    return found


def test_lost_and_late_callbacks_cost_no_more_than_a_few_looks() -> None:
    """Of all ends 99 in 100 are known within 2.7 seconds, by at most 4.1 looks a task.

    Without callbacks it takes twice as many looks. Five sessions count together: the slowest
    hundredth of one are twenty tasks.
    """
    lags: list[float] = []
    looks = alone = 0
    for seed in range(1, 6):
        jobs = steady(2000, 0.35, seed=seed)
        seen = run(AdaptivePolling(), with_accidents(jobs, seed + 100), seed=seed, round_trip=0.1)
        lags += seen.lags()
        looks += len(seen.looks)
        alone += len(run(AdaptivePolling(), jobs[:200], seed=seed).looks)
    assert sorted(lags)[len(lags) * 99 // 100] <= 2.7
    assert math.fsum(lags) / len(lags) <= 0.56
    assert looks / len(lags) <= 4.1
    assert looks / len(lags) < 0.5 * alone / 1000


@pytest.mark.parametrize("policy", [AdaptivePolling(), FixedPolling(5.0)])
def test_turned_away_the_rate_yields(policy: PollPolicy) -> None:
    """After a 429 half as many looks go out, whichever the policy."""
    scheduler = Scheduler(policy, 40, chance(1))
    for key in range(4000):
        scheduler.add(key, KIND, 0.0, FOREVER)
    looks = []
    while (now := scheduler.next_due()) < 40.0:
        key_ = scheduler.take(now)
        assert key_ is not None
        looks.append(now)
        if len(looks) == 200:
            scheduler.throttled(key_, now, None)
            cut = now
        else:
            scheduler.pending(key_, now, now)
    assert sum(cut < look <= cut + 2 for look in looks) <= 50
    assert sum(cut - 2 < look <= cut for look in looks) >= 79
