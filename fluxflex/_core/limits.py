"""What a session may have in the air at once, and how long it waits: values users choose."""

from __future__ import annotations

import math

import attrs


def _whole(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{attribute.name} must be a whole number from 1, not {value!r}")


def _seconds(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or math.isnan(value) or value <= 0:
        raise ValueError(f"{attribute.name} must be more than 0 seconds, not {value!r}")


@attrs.frozen
class FixedConcurrency:
    """Keep at most so many tasks sent and not yet finished: a plain semaphore.

    Args:
        ceiling: tasks at once, over everything the session does.
    """

    ceiling: int = attrs.field(validator=_whole)


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long a session waits, in seconds.

    Args:
        connect: for reaching the server.
        request: for one exchange.
        submit: from first having a slot to being accepted; pauses after a 429 included.
        task: from being accepted to being finished.
        adopt: how long an unanswered submit waits for its callback, where there are callbacks.
    """

    connect: float = attrs.field(default=10.0, validator=_seconds)
    request: float = attrs.field(default=60.0, validator=_seconds)
    submit: float = attrs.field(default=600.0, validator=_seconds)
    task: float = attrs.field(default=600.0, validator=_seconds)
    adopt: float = attrs.field(default=120.0, validator=_seconds)
