"""Numbers as people read them: three digits that mean something."""

from __future__ import annotations

_HUNDRED, _TEN, _ONE, _TENTH = 100, 10, 1, 0.1


def three(value: float) -> str:
    """Return a number with about three significant digits, at most five characters long."""
    if value >= _HUNDRED:
        return f"{value:.0f}"
    if value >= _TEN:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= _ONE else f"{value:.3f}"


def seconds(value: float) -> str:
    """Return seconds."""
    return three(value)


def rate(a_second: float) -> str:
    """Return a throughput in the unit in which it is easy to read."""
    if a_second >= _TENTH:
        return f"{three(a_second)} pictures/s"
    return f"{three(a_second * 60)} pictures/min"
