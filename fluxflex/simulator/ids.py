"""Task ids: what the provider calls its tasks, and what it still knows by such a name."""

import uuid
from typing import Protocol

import attrs

from fluxflex.simulator.contract import Order
from fluxflex.simulator.ledger import Entry


class TaskIds(Protocol):
    """Give ids to tasks, and answer for ids that this simulator never gave."""

    def named(self, entry: Entry, /) -> Entry:
        """Return a task that was just accepted with an id of its own."""
        ...

    def recalled(self, task_id: str, /) -> Entry | None:
        """Return the task that an earlier simulator accepted under this id, None for any other."""
        ...

    def shown(self, entry: Entry, /) -> Order:
        """Return what the picture of a task shows: always the same for the same id."""
        ...


@attrs.frozen
class RandomIds:
    """Give ids that mean nothing, as the provider does; what is not in the ledger is unknown."""

    def named(self, entry: Entry, /) -> Entry:
        """Return the task with a random id."""
        # Not from the seed: a journal must never meet the same id in two simulators.
        return attrs.evolve(entry, task_id=str(uuid.uuid4()))

    def recalled(self, _task_id: str, /) -> Entry | None:
        """Know nothing."""
        return None

    def shown(self, entry: Entry, /) -> Order:
        """Return what was asked for."""
        return entry.order
