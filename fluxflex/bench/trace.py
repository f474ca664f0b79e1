"""What a session's observer writes down while a level is measured."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from fluxflex import Change, TaskState
from fluxflex.bench.levels import Spread, rate

# From a task's id to the seconds since it was finished; `None` where nobody can say.
SinceDue = Callable[[str], float | None]


@attrs.define
class Trace:
    """Takes the times of a level's tasks as their changes come: hand it over as `on_event`.

    All times are those of the records, on the loop's clock.
    """

    _since_due: SinceDue
    _submits: list[float] = attrs.field(factory=list)
    _lags: list[float] = attrs.field(factory=list)
    _pictures: list[float] = attrs.field(factory=list)
    _running: list[float] = attrs.field(factory=list)
    _ends: list[float] = attrs.field(factory=list)

    def __call__(self, change: Change) -> None:
        """Take note of a step of a task."""
        after = change.after
        accepted = after.ended if after.accepted is None else after.accepted
        if change.names and accepted is not None:
            self._submits.append(accepted - after.created)
        if not change.ends or after.ended is None or after.task_id is None or accepted is None:
            return
        if after.state.settled:
            since = self._since_due(after.task_id)
            if since is not None:
                self._lags.append(since)
            self._running.append(max(0.0, after.ended - accepted - (since or 0.0)))
        if after.state is TaskState.COMPLETED:
            self._pictures.append(after.ended - after.created)
            self._ends.append(after.ended)

    @property
    def submit(self) -> Spread | None:
        """From having a slot to having the task's id."""
        return Spread.of(self._submits)

    @property
    def lag(self) -> Spread | None:
        """From when a task was finished to when the session knew."""
        return Spread.of(self._lags)

    @property
    def picture(self) -> Spread | None:
        """From having a slot to knowing that the picture is there."""
        return Spread.of(self._pictures)

    def rate(self, concurrency: int, seconds: float) -> tuple[float, bool]:
        """Return pictures a second, and whether that is the rate of a long batch."""
        return rate(self._ends, concurrency, seconds)

    def running(self, throughput: float) -> float:
        """Return how many tasks the provider had at once: rate times duration (Little's law)."""
        if not self._running:
            return 0.0
        return throughput * sum(self._running) / len(self._running)
