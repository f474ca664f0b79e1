"""The outcomes of a batch that wait to be read."""

from __future__ import annotations

from fluxflex._aio.outcome import Outcome


class Outbox:
    """Gives outcomes as they come, or in the order of their items.

    Args:
        ordered: whether they are given in input order.
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._waiting: dict[int, Outcome] = {}
        self._given = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, outcome: Outcome) -> None:
        """Let an outcome wait for its reader."""
        self._waiting[outcome.index] = outcome

    def take(self) -> Outcome | None:
        """Return the next outcome; `None` while it has not come."""
        index = self._given if self._ordered else next(iter(self._waiting), None)
        outcome = None if index is None else self._waiting.pop(index, None)
        self._given += outcome is not None
        return outcome

    def unread(self) -> list[Outcome]:
        """Return those whose pictures lie nowhere else."""
        return [each for each in self._waiting.values() if each.ok and each.path is None]
