"""What durations look like: a law that is learnt while tasks run.

A duration is a scale times chance. The scale is a sum in logarithms, of which each request has its
share: `ln scale = level + quality + steps + references + the whole kind`. Chance is one life table
for all kinds, over `ln(age / scale)`.

Both learn from unfinished tasks too. Otherwise, in the first minute, only the quick tasks would
have been seen, and all would seem quick.

Sources: occurrence over exposure is the life table's estimate of a hazard (Kaplan and Meier 1958
in its limit of narrow cells); the scale is followed by an extended Kalman filter with a diagonal
covariance, whose gain opens as errors keep to one side (Trigg and Leach 1967).
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

Kind = tuple[str, int, int]

_MOST_REFERENCES = 10


@functools.lru_cache(maxsize=2048)
def kind_of(quality: str, steps: int | None, references: int) -> Kind:
    """Return what tells quick requests from slow ones; close numbers of steps count as one."""
    rounded = round(2 * math.log2(steps)) + 1 if steps else 0  # 0: left to the provider
    return (quality, rounded, min(references, _MOST_REFERENCES))


# -- the life table --------------------------------------------------------------------------

CELLS = 60
_MIDDLE = CELLS // 2
_FINEST, _GROWTH = 0.3, 0.1
# The edges of the cells in ln(age / scale): from a twentieth of the scale to twenty times it,
# finest about the scale itself.
EDGES = [_FINEST * math.sinh(_GROWTH * (edge - _MIDDLE)) for edge in range(CELLS + 1)]
# The least hazards, per unit of ln(age): nothing is ever impossible. Doubt about the young costs
# looks in vain, too little doubt about the old long waits; and the longer a task is overdue, the
# less the others tell about it.
_LEAST_EARLY, _LEAST_LATE, _LEAST_AT_LAST = 0.005, 0.07, 1.0
_LEAST = [
    (b - a) * (_LEAST_EARLY if a < 0 else min(_LEAST_LATE * math.exp(2 * a), _LEAST_AT_LAST))
    for a, b in pairwise(EDGES)
]
_ROUNDING = 1e-9
_END = CELLS - _ROUNDING
_PRIOR_TASKS = 8
_MEMORY = 600  # tasks; those before count e times less
_GROWTH_OF_WEIGHT = 1 + 1 / _MEMORY
_MOST_KNOWN = 2.0 * _MEMORY
# Counts are turned into hazards again once so much more is known: it takes some 20 µs.
_NEWS = 1 / 8


def place(log_age: float) -> float:
    """Return where on the cells, 0 to 60, an age lies, given as ln(age / scale)."""
    at = _MIDDLE + math.asinh(log_age / _FINEST) / _GROWTH
    return 0.0 if at < 0 else min(_END, at)


def _prior_survival(log_age: float) -> float:
    """Return the share of tasks that outlive an age, before anything was seen."""
    narrow, wide = log_age / (0.6 * math.sqrt(2)), log_age / (1.6 * math.sqrt(2))
    return 0.45 * math.erfc(narrow) + 0.05 * math.erfc(wide)


class LifeTable:
    """In each cell of age: how many tasks entered it unfinished, and how many ended in it.

    Attributes:
        hazards: for each cell, how many of those who enter it end in it (events / exposure).
        passed: their running sum, the cumulative hazard at each edge.
        version: grows whenever the hazards change.
    """

    def __init__(self) -> None:
        alive = [_prior_survival(edge) for edge in EDGES]
        self._events = [_PRIOR_TASKS * (a - b) for a, b in pairwise(alive)]
        exposed = [_PRIOR_TASKS * (a + b) / 2 for a, b in pairwise(alive)]
        # As differences from cell to cell: a task that lived through forty takes four additions.
        self._steps = [b - a for a, b in zip([0.0, *exposed], [*exposed, 0.0], strict=True)]
        self._weight = 1.0  # of what is seen now; growing weights are the same as fading counts
        self._known = float(_PRIOR_TASKS)
        self._news, self._enough = 0, 0.0
        self.version = 0
        self._estimate()

    def survived(self, since: float, until: float) -> None:
        """Count a task that was alive at one place and still is at another."""
        self._expose(since, until)
        self._news += 1
        if self._news > self._enough:
            self._estimate()

    def ended(self, since: float, at: float) -> None:
        """Count a task that was alive at one place and ended at another."""
        self._expose(since, at)
        self._events[int(at)] += self._weight
        self._weight *= _GROWTH_OF_WEIGHT
        self._news += 1
        if self._news > self._enough:
            self._estimate()

    def draw(self, since: float, until: float, chance: float) -> float:
        """Return where between two places a task ended, by the law and a chance from 0 to 1."""
        passed, hazards = self.passed, self.hazards
        cell = int(since)
        first = passed[cell] + (since - cell) * hazards[cell]
        cell = int(until)
        last = passed[cell] + (until - cell) * hazards[cell]
        # The inverse of the law's distribution, given that it ended between the two.
        target = first - math.log1p(chance * math.expm1(first - last))
        cell = bisect_right(passed, target, int(since), cell + 1) - 1
        at = cell + (target - passed[cell]) / hazards[cell]
        return since if at < since else min(until, at)

    def _expose(self, since: float, until: float) -> None:
        steps, weight = self._steps, self._weight
        cell = int(since)
        part = (since - cell) * weight
        steps[cell] += weight - part
        steps[cell + 1] += part
        cell = int(until)
        part = (until - cell) * weight
        steps[cell] -= weight - part
        steps[cell + 1] -= part

    def _estimate(self) -> None:
        self._known = min(self._known + self._news, _MOST_KNOWN)
        self._news, self._enough = 0, self._known * _NEWS
        share = 1 / self._weight
        self._weight = 1.0
        self._steps = [step * share for step in self._steps]
        self._events = [event * share for event in self._events]
        exposed = accumulate(self._steps)
        self.hazards = [
            (ended / entered if entered > ended else 1.0)
            if ended > least * entered and ended > _ROUNDING
            else least
            for least, ended, entered in zip(_LEAST, self._events, exposed, strict=False)
        ]
        self.passed = [0.0, *accumulate(self.hazards)]
        self.version += 1


# -- the scale -------------------------------------------------------------------------------

_USUAL = math.log(15)  # s; what the provider takes for a usual picture
_LOG_SHORTEST, _LOG_LONGEST = math.log(0.1), math.log(7200)
_FIRST_SPREAD = 0.15
_LEAST_SPREAD, _MOST_SPREAD = 0.003, 1.0
_LEVEL_VARIANCE, _FEATURE_VARIANCE, _KIND_VARIANCE = 0.5, 0.12, 0.02
_LEAST_SCORE, _MOST_SCORE = -3.0, 3.0
_LEAST_INFORMATION = 0.1
_SPREAD_GAIN, _BIAS_GAIN = 0.02, 0.05
# What time adds to a variance, as a share of the spread: without it nothing new would be learnt.
_LEVEL_NOISE, _BIASED_NOISE, _USUAL_BIAS, _EFFECT_NOISE = 1e-4, 0.2, 0.7, 5e-5


class _Effect:
    """One term of ln scale: what is believed, and with which variance."""

    __slots__ = ("mean", "most", "variance")

    def __init__(self, mean: float, variance: float) -> None:
        self.mean = mean
        self.variance = self.most = variance


class Law:
    """How long tasks of each kind take, from the moment at which a clock starts for them.

    Args:
        rng: where within an interval a task ended is drawn, since only its ends are known.

    Attributes:
        table: the chance, the same for all kinds.
        level: what all kinds share of ln scale.
    """

    def __init__(self, rng: Random) -> None:
        self.table = LifeTable()
        self._rng = rng
        self._spread = _FIRST_SPREAD  # the variance of ln(duration / scale)
        self._root = math.sqrt(_FIRST_SPREAD)
        self._bias = self._error = 0.0
        self.level = _Effect(_USUAL, _LEVEL_VARIANCE)
        self._features: dict[tuple[int, object], _Effect] = {}
        self._effects: dict[Kind, tuple[_Effect, ...]] = {}

    def scale(self, kind: Kind) -> float:
        """Return the duration, in seconds, about which those of a kind lie."""
        return math.exp(self.expected(kind))

    def expected(self, kind: Kind) -> float:
        """Return ln of the scale."""
        mean = _mean(self._effects.get(kind) or self._new(kind))
        return mean if _LOG_SHORTEST < mean < _LOG_LONGEST else _bounded_scale(mean)

    def survived(self, kind: Kind, since: float, until: float) -> None:
        """Learn that a task was alive at one age, and still is at another."""
        if until <= since:
            return
        effects = self._effects.get(kind) or self._new(kind)
        mean, root = _mean(effects), self._root
        start, score, information = self._alive(since, mean)
        late = _log(until) - mean
        if late > _EARLY * root:  # before, to be alive says next to nothing about the scale
            last, known = _tail(late / root)
            self._move(effects, last - score, max(0.0, known - information), 0.0)
        self.table.survived(start, place(late))

    def ended(self, kind: Kind, since: float, until: float, *, exact: bool = False) -> None:
        """Learn that a task was alive at one age and had ended at another.

        With `exact` it ended just then; otherwise somewhere between.
        """
        effects = self._effects.get(kind) or self._new(kind)
        mean, root = _mean(effects), self._root
        start, before, known = self._alive(since, mean)
        late = _log(until) - mean
        at = place(late)
        if exact:
            score, information = late / root, 1.0
        else:
            at = self.table.draw(start, at, self._rng.random())
            score, information = _between((_log(since) - mean) / root, late / root)
        self.table.ended(start, max(start, at))
        rest = max(_LEAST_INFORMATION, information - known)
        total = self._move(effects, _bounded(score - before), rest, self._spread * _EFFECT_NOISE)
        self._follow(_bounded(score), information, total)

    def _new(self, kind: Kind) -> tuple[_Effect, ...]:
        named = self._features
        for feature in enumerate(kind):
            named.setdefault(feature, _Effect(0.0, _FEATURE_VARIANCE))
        features = [named[feature] for feature in enumerate(kind)]
        effects = (self.level, *features, _Effect(0.0, _KIND_VARIANCE))
        self._effects[kind] = effects
        return effects

    def _alive(self, age: float, mean: float) -> tuple[float, float, float]:
        """Return the place of an age, and what it told to be alive then."""
        if age <= _NOTHING:
            return 0.0, 0.0, 0.0
        early = math.log(age) - mean
        score, information = _tail(early / self._root)
        return place(early), score, information

    def _move(
        self, effects: tuple[_Effect, ...], score: float, information: float, noise: float
    ) -> float:
        """One step of the filter: each effect takes its share, by its variance.

        Noise is what that variance grows by; returns the variance of ln scale before.
        """
        total = 0.0
        for effect in effects:
            total += effect.variance
        shrink = 1 / (self._spread + total * information)
        shift = score * self._root * shrink
        shrink *= information
        for effect in effects:
            variance = effect.variance
            effect.mean += variance * shift
            variance += noise - variance * variance * shrink
            effect.variance = min(effect.most, variance)
        return total

    def _follow(self, score: float, information: float, total: float) -> None:
        """Learn the spread from an error of ln scale, and open the gain where errors pile up.

        The score is the error's mean in standard deviations, the information what its variance
        lacks of one; the total is the variance of ln scale.
        """
        error, spread = score * self._root, self._spread
        excess = error * error - information * (spread + total)
        spread += _SPREAD_GAIN * excess
        if not _LEAST_SPREAD < spread < _MOST_SPREAD:
            spread = min(max(spread, _LEAST_SPREAD), _MOST_SPREAD)
        self._spread, self._root = spread, math.sqrt(spread)
        self._bias += _BIAS_GAIN * (error - self._bias)
        self._error += _BIAS_GAIN * (abs(error) - self._error)
        noise, more = _LEVEL_NOISE, abs(self._bias) - _USUAL_BIAS * self._error
        if more > 0:
            noise += _BIASED_NOISE * more / self._error
        level = self.level
        level.variance = min(level.variance + spread * noise, level.most)


def _mean(effects: tuple[_Effect, ...]) -> float:
    level, quality, steps, references, whole = effects
    return level.mean + quality.mean + steps.mean + references.mean + whole.mean


def _bounded_scale(mean: float) -> float:
    return min(max(mean, _LOG_SHORTEST), _LOG_LONGEST)


def _bounded(score: float) -> float:
    return score if _LEAST_SCORE < score < _MOST_SCORE else math.copysign(_MOST_SCORE, score)


def _log(age: float) -> float:
    return math.log(age) if age > _NOTHING else _LOG_NOTHING


_EARLY = -3.0  # standard deviations
_NOTHING = 1e-4
_LOG_NOTHING = math.log(_NOTHING)
_FAR = 8.0
_NARROW = 0.1
_DENSITY, _HALF = math.sqrt(2 / math.pi), math.sqrt(0.5)


def _tail(z: float) -> tuple[float, float]:
    """Return what survival to z teaches, by the normal law: score and information.

    They are the law's hazard and its slope.
    """
    if z > _FAR:  # both by their asymptote; the complement underflows further out
        return z + 1 / z, 1.0
    if z < -_FAR:
        return 0.0, 0.0
    hazard = _DENSITY * math.exp(-0.5 * z * z) / math.erfc(z * _HALF)
    return hazard, hazard * (hazard - z)


def _between(a: float, b: float) -> tuple[float, float]:
    """Return what an end between a and b teaches, by the normal law: score and information."""
    if a + b < 0:
        score, information = _between(-b, -a)
        return -score, information
    if b - a < _NARROW:
        return (a + b) / 2, 1.0
    if a > _FAR:
        return _tail(a)
    share = (math.erfc(a * _HALF) - math.erfc(b * _HALF)) / _DENSITY
    left, right = math.exp(-0.5 * a * a) / share, math.exp(-0.5 * b * b) / share
    score = left - right
    return score, score * score - a * left + b * right
