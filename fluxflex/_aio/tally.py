"""What a session counts, and what it says in its log: once, and with the ids."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal

from fluxflex._core.decode import KNOWN_WORDS
from fluxflex._core.lifecycle import (
    Attached,
    Change,
    Key,
    Running,
    Sent,
    TaskEvent,
    TaskRecord,
    TaskState,
    TurnedAway,
)

log = logging.getLogger("fluxflex")

_MOST_UNHEARD = 1000
_NAMED = 20
_COUNTED: dict[type[TaskEvent], str] = {Sent: "posts", TurnedAway: "refused"}
_BAD = frozenset({TaskState.FAILED, TaskState.UNCERTAIN})


class Tally:
    """Counts of a session by what happened, and the failures that nobody has heard of."""

    def __init__(self) -> None:
        self._counts: Counter[str | TaskState] = Counter()
        self._words: set[str] = set()
        self._unheard: dict[Key, TaskRecord] = {}
        self._uncollected: list[str] = []

    def __getitem__(self, what: str | TaskState) -> int:
        """Return a count: `posts`, `refused`, `accepted`, `attached`, or how many ended so."""
        return self._counts[what]

    def note(self, change: Change) -> None:
        """Count one step of a task."""
        before, after, event = change.before.state, change.after.state, change.event
        counts = self._counts
        name = _COUNTED.get(type(event))
        if name is not None:
            counts[name] += 1
        elif isinstance(event, Running):
            self._say_once(event.word)
        if change.names:
            counts["attached" if isinstance(event, Attached) else "accepted"] += 1
        if after is not before:
            if before.over:
                counts[before] -= 1
            if after.over:
                counts[after] += 1
        if after in _BAD:
            self._unheard[change.after.key] = change.after
            if len(self._unheard) > _MOST_UNHEARD:
                del self._unheard[next(iter(self._unheard))]

    def resumed(self) -> None:
        """Count a task of an earlier session that is followed again."""
        self._counts["attached"] += 1

    def reopened(self, record: TaskRecord) -> None:
        """Count a task of an earlier session that was left as it stands."""
        self._counts[record.state] += 1

    def refused(self) -> None:
        """Count a refusal that ended nothing, since an attempt before it is uncertain."""
        self._counts["refused"] += 1

    def uncollected(self, task_id: str | None) -> None:
        """Note a picture that was paid for and that a batch, left early, gave to nobody."""
        self._counts["uncollected"] += 1
        if task_id is not None and len(self._uncollected) < _NAMED:
            self._uncollected.append(task_id)

    def heard(self, key: Key) -> None:
        """Note that somebody learnt how the task ended."""
        self._unheard.pop(key, None)

    def name_left(
        self, left: Sequence[TaskRecord], cost_of: Callable[[TaskRecord], Decimal | None]
    ) -> None:
        """Log the ids of what still runs at the provider, and the failures nobody awaited."""
        if left:
            named = ", ".join(str(record.task_id) for record in left[:_NAMED])
            more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
            log.warning("detached from %d running tasks: %s%s", len(left), named, more)
        if self._uncollected:
            log.warning(
                "%d pictures were paid for and not collected: %s; attach(task_id) fetches them, "
                "and resume() with a journal",
                self._counts["uncollected"],
                ", ".join(self._uncollected),
            )
        for record in list(self._unheard.values())[:_NAMED]:
            cost = cost_of(record)
            price = "at an unknown price" if cost is None else f"at ${cost}"
            what = "a failed task" if record.state is TaskState.FAILED else "an uncertain submit"
            log.warning("%s that nobody awaited, %s: %s", what, price, record.error)
        if len(self._unheard) > _NAMED:
            log.warning("and %d more of these", len(self._unheard) - _NAMED)

    def _say_once(self, word: str) -> None:
        if word not in KNOWN_WORDS | self._words and len(self._words) < _NAMED:
            self._words.add(word)
            log.warning("the provider says %r of a task: taken for still running", word)
