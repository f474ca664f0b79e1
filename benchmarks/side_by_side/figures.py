"""From what the rounds gave to what the tables say. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import attrs


@attrs.frozen
class Spread:
    """The median of several rounds, and how far apart they were."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


def ratios(these: Sequence[float], those: Sequence[float]) -> Spread:
    """Return these to those, round by round: what slows a round down slows both.

    A round that gave nothing is nought, and is left out where it would be divided by.
    """
    pairs = [(a, b) for a, b in zip(these, those, strict=True) if b > 0]
    return Spread.of([a / b for a, b in pairs]) if pairs else Spread(math.nan, math.nan, math.nan)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all does not exceed."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def clean(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row that JSON can hold: `None` for a number that was not measured."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }


@attrs.frozen
class Target:
    """What a figure must reach.

    Attributes:
        least: whether the figure must reach the limit, rather than stay within it.
    """

    name: str
    value: float | None
    limit: float
    least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether it is reached; `None` where the figure was not measured."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.least else self.value <= self.limit
