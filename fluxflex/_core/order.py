"""Who is next where tasks end in the order in which they were submitted.

The rank of a task that ends is how many older ones still run. Where a provider works through a
queue, ranks stay small however long the queue is, and only the first few tasks, the frontier, can
have ended. The rest is sampled, so that an order that is none is found out.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from random import Random


class Placed(Protocol):
    """What stands in the order: `turn` says where."""

    turn: int


P = TypeVar("P", bound=Placed)

_RECENT = 32
_ENOUGH = 8
# The frontier: so much wider than the highest of the latest ranks, and narrower only by a leap.
_SPAN, _MARGIN = 2, 5
_NARROWER = 1.5
_turn = attrgetter("turn")


class Order(Generic[P]):
    """All tasks that run by the order of their submits, and how many of them make the frontier."""

    def __init__(self) -> None:
        self._line: list[P] = []
        self._ranks: deque[int] = deque(maxlen=_RECENT)
        self.width = math.inf

    def __len__(self) -> int:
        """Return how many run."""
        return len(self._line)

    @property
    def outside(self) -> int:
        """How many stand behind the frontier."""
        return max(0, len(self._line) - int(min(self.width, len(self._line))))

    def add(self, task: P) -> None:
        """Take in a task; mostly it is the last."""
        insort(self._line, task, key=_turn)

    def has(self, task: P) -> bool:
        """Say whether a task that runs stands within the frontier."""
        return self.width >= len(self._line) or task.turn <= self._line[int(self.width) - 1].turn

    def drop(self, task: P) -> list[P]:
        """Let go of a task without learning; return those that come into the frontier by it."""
        line, rank = self._line, self._rank(task)
        del line[rank]
        return [line[int(self.width) - 1]] if rank < self.width <= len(line) else []

    def ended(self, task: P) -> list[P]:
        """Let go of a task that ended; return those that come into the frontier by it."""
        rank, before = self._rank(task), self.width
        if len(self._line) >= _ENOUGH:
            self._ranks.append(rank)
        came = self.drop(task)
        self._learn(rank)
        if self.width > before:
            came += self._line[int(before) : int(min(self.width, len(self._line)))]
        return came

    def sample(self, rng: Random) -> P:
        """Return any one task from behind the frontier; there must be one."""
        first, last = int(self.width), len(self._line) - 1
        return self._line[min(last, first + int(rng.random() * (last - first + 1)))]

    def _rank(self, task: P) -> int:
        return bisect_left(self._line, task.turn, key=_turn)

    def _learn(self, rank: int) -> None:
        if len(self._ranks) < _ENOUGH:
            return
        width = int(_SPAN * max(self._ranks)) + _MARGIN
        if rank >= self.width:
            self.width = max(2 * self.width, width)
        elif width > self.width or width * _NARROWER < self.width:
            self.width = width
