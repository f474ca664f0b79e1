"""The concurrency to use, and why: rules over what was measured, nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from fluxflex.bench.levels import Level
from fluxflex.bench.words import rate, seconds

# What comes so close to the best is as good, and easier on everybody.
_AS_GOOD = 0.9
# Between two levels, so much more is growth.
_GROWTH = 1.1
# 429s for each task from which a level is beyond what the provider grants.
_TURNED_AWAY = 0.25
# Fewer of them hold a level back where no more than this share of its slots had a task.
_HELD_BACK = 0.75
# The lag has risen when its 95th percentile is so many times that of the lowest level, and by so
# many seconds.
_LATER, _LATER_SECONDS = 3.0, 0.5
# A share of tasks without a picture that is so far above that of the best level is too many.
_LOST = 0.05
_PERCENT = 100


@attrs.frozen
class Advice:
    """Which concurrency to use.

    Attributes:
        concurrency: one of those measured.
        reason: why, in sentences.
    """

    concurrency: int
    reason: str

    def __str__(self) -> str:
        return f"Use a concurrency of {self.concurrency}. {self.reason}"


def advise(levels: Sequence[Level]) -> Advice | None:
    """Return the concurrency to use; `None` where no level was measured to its end.

    It is the smallest level that reaches 90 % of the best throughput among those that the provider
    does not turn away, where pictures are not learnt of late, and no more tasks are lost than
    elsewhere. Where no level is so, that holds among all.
    """
    measured = sorted(
        (level for level in levels if level.completed and not level.cut),
        key=lambda level: level.concurrency,
    )
    if not measured:
        return None
    usable = [level for level in measured if _fault(level, measured) is None]
    found = _smallest_as_good(usable or measured)
    return Advice(found.concurrency, " ".join(_reasons(found, measured, usable)))


def _smallest_as_good(levels: Sequence[Level]) -> Level:
    best = max(level.throughput for level in levels)
    return next(level for level in levels if level.throughput >= _AS_GOOD * best)


def _fault(level: Level, measured: Sequence[Level]) -> str | None:
    """Return what is wrong with a level, as the end of a sentence that names it."""
    if level.turned_away > _TURNED_AWAY * level.tasks:
        times = "once" if level.turned_away == 1 else f"{level.turned_away:,} times"
        ran = round(level.running)
        tasks = "1 task" if ran == 1 else f"{ran} tasks"
        return f"submits were turned away (429) {times}; about {tasks} ran at once"
    lowest = measured[0]
    if level.lag is not None and lowest.lag is not None:
        before, lag = lowest.lag.p95, level.lag.p95
        if lag > _LATER * before and lag > before + _LATER_SECONDS:
            return (
                f"pictures are learnt of late: the lag's 95th percentile is {seconds(lag)} s, "
                f"{seconds(before)} s at {lowest.concurrency}"
            )
    if _lost(level) > min(map(_lost, measured)) + _LOST:
        lost = level.tasks - level.completed
        return f"{lost:,} of {level.tasks:,} tasks brought no picture"
    return None


def _lost(level: Level) -> float:
    return 1 - level.completed / level.tasks


def _reasons(found: Level, measured: Sequence[Level], usable: Sequence[Level]) -> Iterator[str]:
    """Give what speaks for a level and what is above it, sentence by sentence."""
    best = max(usable or measured, key=lambda level: level.throughput)
    fastest = max(measured, key=lambda level: level.throughput)
    if found is best:
        among = "" if best is fastest else " level without trouble"
        yield f"It is the fastest{among}: {rate(found.throughput)}."
    else:
        share = _PERCENT * found.throughput / best.throughput
        yield (
            f"It makes {rate(found.throughput)}, {share:.0f} % of what {best.concurrency} makes "
            f"({rate(best.throughput)}); more at once only takes longer."
        )
    if not usable:
        yield f"But at {found.concurrency} {_fault(found, measured)}: measure lower ones too."
    for level in measured:
        fault = _fault(level, measured)
        if usable and fault is not None:
            faster = _PERCENT * (level.throughput / found.throughput - 1)
            more = f" ({faster:.0f} % faster)" if level.throughput > best.throughput else ""
            yield f"At {level.concurrency}{more} {fault}."
    if usable:
        yield from _what_next(found, measured)
    if not all(level.steady for level in measured):
        yield (
            "Some levels had fewer than three tasks a slot, which understates their throughput: "
            "measure more tasks."
        )


def _what_next(found: Level, measured: Sequence[Level]) -> Iterator[str]:
    """Say what holds it back, and where to look for a better one."""
    place = measured.index(found)
    if found.turned_away and 0 < found.running <= _HELD_BACK * found.concurrency:
        yield (
            f"After {found.turned_away:,} answers of 429 the session kept to what the provider "
            f"takes: about {found.running:.0f} tasks ran at once."
        )
    if found is not measured[-1]:
        beyond = measured[place + 1]
        if beyond.turned_away > _TURNED_AWAY * beyond.tasks and beyond.running > found.concurrency:
            yield f"The limit seems to be near {beyond.running:.0f} at once: measure around it."
        return
    if not place:
        yield "It is the only one that was measured."
    elif found.throughput >= _GROWTH * measured[place - 1].throughput:
        yield (
            "The throughput still grows at the highest level: a higher one may be faster still "
            f"(measure {2 * found.concurrency} and {4 * found.concurrency})."
        )
