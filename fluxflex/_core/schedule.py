"""When to look next at one task: the poll policies that users choose from.

A policy is a small frozen value. Given the age of a task it names the seconds until its next
look; the scheduler does the rest (deadlines, the rate, the order).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import attrs


@runtime_checkable
class PollPolicy(Protocol):
    """What `Session(poll=…)` takes."""

    def gap(self, age: float) -> float:
        """Return the seconds from now to the next look at a task that is `age` seconds old."""
        ...


def _positive(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{attribute.name} must be more than 0 seconds, not {value!r}")


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


# A quarter of the age keeps the lag under a quarter of what the picture took anyway; a task of
# 16 s is seen done about a second late, after some twelve looks.
_SHARE_OF_AGE = 0.25
_SHORTEST, _LONGEST = 0.25, 2.0


@attrs.frozen
class AdaptivePolling:
    """Look at gaps that grow with the age of the task: a quarter of it, from 0.25 to 2 seconds."""

    def gap(self, age: float) -> float:
        """Return a quarter of the age, within bounds."""
        return min(_LONGEST, max(_SHORTEST, _SHARE_OF_AGE * age))
