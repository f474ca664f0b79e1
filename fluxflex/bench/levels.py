"""What was measured at one concurrency, as values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

import attrs

from fluxflex.bench.words import rate as in_words

# So many tasks for each slot: one round to begin with, one to end with, and two that count.
ROUNDS = 4
# A rate needs a full round that neither begins nor ends.
_FEWEST_ROUNDS = 3
_DIGITS = 6


@attrs.frozen
class Spread:
    """Percentiles of a measure, in seconds; each is a value that was measured (nearest rank)."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Return the percentiles of these values, `None` where there are none."""
        if not values:
            return None
        ordered = sorted(values)
        ranks = (math.ceil(len(ordered) * share) - 1 for share in (0.50, 0.95, 0.99))
        return cls(*(ordered[rank] for rank in ranks))


@attrs.frozen(kw_only=True)
class Level:
    """What was measured at one concurrency.

    Attributes:
        concurrency: tasks sent and not yet finished, at most.
        tasks: requests that there were to be. cut: whether it ended before them all.
        seconds: from the first request to the last outcome.
        throughput: pictures a second; see `rate`. steady: whether its beginning and its end
            could be left out of that.
        submit: from having a slot to having the task's id; pauses after a 429 are in it.
        lag: from when the task was finished to when the session knew. Only the simulator tells
            the former: `None` against anything else.
        picture: from having a slot to knowing that the picture is there.
        running: tasks that the provider had at once, on average.
        accepted, completed, failed, uncertain: tasks, by what became of them.
        turned_away: attempts to submit that were answered 429, or 503 with a `Retry-After`:
            nothing was bought, and they are sent again.
        polls: status requests sent.
        errors: how many tasks ended with an error, by the name of its class.
        spent: USD. reserved: USD that may still be billed, for what is uncertain.
    """

    concurrency: int
    tasks: int
    cut: bool = False
    seconds: float
    throughput: float
    steady: bool = True
    submit: Spread | None = None
    lag: Spread | None = None
    picture: Spread | None = None
    running: float = 0.0
    accepted: int
    completed: int
    failed: int = 0
    uncertain: int = 0
    turned_away: int = 0
    polls: int = 0
    errors: Mapping[str, int] = attrs.field(factory=dict)
    spent: Decimal = Decimal(0)
    reserved: Decimal = Decimal(0)

    def __str__(self) -> str:
        tasks = "1 task" if self.tasks == 1 else f"{self.tasks:,} tasks"
        made = in_words(self.throughput) if self.completed else "no picture"
        why = "".join(f", {count:,} {name}" for name, count in sorted(self.errors.items()))
        return (
            f"{self.concurrency} at once: {made} "
            f"({self.completed:,} of {tasks} in {self.seconds:.1f} s{why})"
        )

    @property
    def polls_a_task(self) -> float:
        """Status requests for each accepted task."""
        return self.polls / self.accepted if self.accepted else 0.0

    @property
    def usd_a_picture(self) -> Decimal | None:
        """USD spent for each picture; `None` where there is none."""
        return self.spent / self.completed if self.completed else None

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON has it: seconds (to the microsecond) and USD as numbers."""
        found = attrs.asdict(self, value_serializer=_short)
        each = self.usd_a_picture
        found |= {
            "spent_usd": float(found.pop("spent")),
            "reserved_usd": float(found.pop("reserved")),
            "usd_a_picture": None if each is None else float(each),
            "polls_a_task": _short(None, None, self.polls_a_task),
        }
        return found


def _short(_instance: object, _attribute: object, value: object) -> object:
    """Leave out the digits that say nothing."""
    return round(value, _DIGITS) if isinstance(value, float) else value


def rate(ends: Sequence[float], concurrency: int, seconds: float) -> tuple[float, bool]:
    """Return pictures a second, and whether that is the rate of a long batch.

    The first `concurrency` pictures and the last are left out where enough remain: nothing can be
    done at the beginning, and at the end slots stand empty. A long batch notices neither.

    Args:
        ends: when each picture was done, in seconds.
        concurrency: how many tasks ran at once.
        seconds: how long all of it took.
    """
    done = sorted(ends)
    if len(done) >= _FEWEST_ROUNDS * concurrency:
        window = done[-concurrency - 1] - done[concurrency - 1]
        if window > 0:
            return (len(done) - 2 * concurrency) / window, True
    return (len(done) / seconds if seconds > 0 else 0.0), False
