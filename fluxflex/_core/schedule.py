"""When to look next at one task: the policies that users choose from, and the learned schedule.

The learned schedule solves the inspection problem (Barlow, Hunter and Proschan 1963): look at the
times that make `cost x looks + lag` least. For frequent looks the answer is a density of looks
(Keller 1974), `n(t) = sqrt(h(t) / 2 cost)` a second, where h is the hazard of the duration: the
next look is where the integral of n has grown by one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import Protocol, final, runtime_checkable

import attrs

from fluxflex._core.durations import EDGES, LifeTable


@runtime_checkable
class PollPolicy(Protocol):
    """What `Session(poll=…)` takes: given the age of a task, the seconds until its next look."""

    def gap(self, age: float) -> float:
        """Return the seconds from now to the next look at a task that is `age` seconds old."""
        ...


def _positive(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{attribute.name} must be more than 0 seconds, not {value!r}")


def _finite(_: object, attribute: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
        raise ValueError(f"{attribute.name} must be seconds, more than 0, not {value!r}")


@attrs.frozen
class FixedPolling:
    """Look at each task every so many seconds.

    Args:
        seconds: between two looks, and from being accepted to the first.
    """

    seconds: float = attrs.field(validator=_positive)

    def gap(self, age: float) -> float:  # noqa: ARG002 - the same at every age, by definition
        """Return the interval."""
        return self.seconds


SHORTEST_GAP, LONGEST_GAP = 0.25, 30.0
# Seconds of lag that one look is worth: with few tasks in flight what counts is to be quick, with
# many the looks add up.
_LEAST_COST, _MOST_COST = 0.042, 0.16
_FEW = 12
_USUAL_DURATION = 15.0


@final
@attrs.frozen
class AdaptivePolling:
    """Learn how long tasks take, and look when the answer is likely to be there.

    What it learns holds for the session. See the documentation, "How polling works".

    Args:
        lag_cost: the seconds of delay that one look is worth: higher is fewer looks and later
            answers, both by its square root. By default 0.042 with up to twelve tasks in
            flight, rising to 0.16 with forty-six.
    """

    lag_cost: float | None = attrs.field(default=None, validator=_finite)

    def cost(self, in_flight: int) -> float:
        """Return the seconds of delay that one look is worth now."""
        if self.lag_cost is not None:
            return self.lag_cost
        return min(_MOST_COST, _LEAST_COST * max(1.0, in_flight / _FEW))

    def gap(self, age: float) -> float:
        """Return the gap for a task of which nothing but a least age is known.

        What has run for `age` seconds, and nobody knows of what kind and since when, may end at
        any time: the hazard is about one in `15 + age` seconds.
        """
        lasting = _USUAL_DURATION + max(0.0, age)  # nought also for NaN
        return clipped(math.sqrt(2 * self.cost(1) * lasting))


def clipped(gap: float) -> float:
    """Return a gap within the bounds of the learned schedule."""
    return min(max(gap, SHORTEST_GAP), LONGEST_GAP)


# With x = sqrt(age / scale) the density of looks is sqrt(2 scale / cost) x sqrt(h) dx, h now per
# unit of ln(age): constant within a cell, so that its integral is a line from edge to edge.
_ROOTS = [0.0, *(math.exp(edge / 2) for edge in EDGES)]
_WIDTHS = [b - a for a, b in pairwise(_ROOTS)]
_CELL_WIDTHS = [b - a for a, b in pairwise(EDGES)]


class Schedule:
    """The learned schedule: the next look is one step on along the integral of sqrt(h).

    Args:
        table: the hazards, as they are learnt.
    """

    def __init__(self, table: LifeTable) -> None:
        self._table = table
        self._version = -1
        self._slopes: list[float] = []
        self._areas: list[float] = []

    def next_age(self, age: float, scale: float, step: float) -> float:
        """Return the age at which to look next.

        Args:
            age: of the task now, in seconds.
            scale: the duration about which tasks of its kind lie, in seconds.
            step: how far to go; `sqrt(2 cost / scale)` is what one look is worth.
        """
        if self._version != self._table.version:
            self._integrate()
        root = math.sqrt(age / scale)
        cell = bisect_right(_ROOTS, root) - 1
        area = self._areas[cell] + (root - _ROOTS[cell]) * self._slopes[cell] + step
        cell = bisect_right(self._areas, area) - 1
        root = _ROOTS[cell] + (area - self._areas[cell]) / self._slopes[cell]
        return scale * root * root

    def _integrate(self) -> None:
        self._version = self._table.version
        slopes = [
            2 * math.sqrt(hazard / width)
            for hazard, width in zip(self._table.hazards, _CELL_WIDTHS, strict=True)
        ]
        # Before the first edge and beyond the last the hazards of the outermost cells hold.
        self._slopes = [slopes[0], *slopes, slopes[-1]]
        steps = (slope * width for slope, width in zip(self._slopes, _WIDTHS, strict=False))
        self._areas = [0.0, *accumulate(steps)]
