"""What a session may have in the air at once, and how long it waits: values users choose."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import attrs

from fluxflex._core.window import Pausing, ProbeWindow

if TYPE_CHECKING:
    from random import Random


class Limiter(Protocol):
    """What a session asks before every POST, and tells what came of it.

    Times are seconds on the loop's clock. `running` counts the tasks that are accepted and not
    finished, attached ones included; `sending` the POSTs without an answer. Nothing is sent over
    the policy's ceiling, whatever a limiter says.

    Attributes:
        window: how many tasks may run by what it learnt, for `Statistics`; `None` while nothing
            limits them.
    """

    @property
    def window(self) -> int | None:
        """How many tasks may run; `None` while nothing limits them."""
        ...

    def ready(self, now: float, running: int, sending: int) -> float:
        """Return the earliest time at which a POST may start; infinity for after the next event."""
        ...

    def accepted(self, now: float, running: int) -> None:
        """Learn that a POST was accepted; its task runs."""
        ...

    def finished(self, now: float, running: int, seconds: float) -> None:
        """Learn that a task finished, so many seconds after it was accepted."""
        ...

    def refused(
        self, now: float, running: int, sent: float, retry_after: float | None
    ) -> float | None:
        """Learn that a POST was turned away: 429, or 503 with Retry-After.

        Return when it may be sent again, at its turn, before all that wait for their first; `None`
        to let it back off by itself, as the `RetryPolicy` says.
        """
        ...


@runtime_checkable
class ConcurrencyPolicy(Protocol):
    """What `Session(concurrency=…)` takes: a ceiling, and who decides below it.

    Attributes:
        ceiling: tasks sent and not yet finished, at most, over everything the session does.
    """

    @property
    def ceiling(self) -> int:
        """Tasks at once, at most."""
        ...

    def limiter(self, rng: Random) -> Limiter:
        """Return a limiter for one session; `rng` is for its jitter."""
        ...


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

    A submit that is turned away waits as its Retry-After asks, and all others with it; without
    one it backs off by itself, as the `RetryPolicy` says.

    Args:
        ceiling: tasks at once, over everything the session does.
    """

    ceiling: int = attrs.field(validator=_whole)

    def limiter(self, rng: Random) -> Limiter:
        """Return what only pauses."""
        return Pausing(rng)


@attrs.frozen
class AdaptiveConcurrency:
    """Find the provider's own limit below the ceiling, from the submits that it turns away.

    After a 429 (or a 503 with Retry-After) the whole session pauses as Retry-After asks, else from
    a second up to half a minute. A burst of them cuts once. The limit that was learnt is given up
    from time to time, so that a raised one is found.

    Args:
        ceiling: tasks at once, over everything the session does; never exceeded.
    """

    ceiling: int = attrs.field(validator=_whole)

    def limiter(self, rng: Random) -> Limiter:
        """Return a window that learns."""
        return ProbeWindow(self.ceiling, rng)


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long a session waits, in seconds.

    Args:
        connect: for reaching the server.
        request: for one exchange.
        submit: from first having a slot, and leave to send, to being accepted; pauses after a 429
            included.
        task: from being accepted to being finished.
        adopt: how long an unanswered submit waits for its callback, where there are callbacks.
    """

    connect: float = attrs.field(default=10.0, validator=_seconds)
    request: float = attrs.field(default=60.0, validator=_seconds)
    submit: float = attrs.field(default=600.0, validator=_seconds)
    task: float = attrs.field(default=600.0, validator=_seconds)
    adopt: float = attrs.field(default=120.0, validator=_seconds)
