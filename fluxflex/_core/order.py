"""Who is next where tasks end in the order in which they were submitted.

The rank of a task that ends is how many older ones still run. Where a provider works through a
queue, ranks stay small however long the queue is, and only the first few tasks, the frontier, can
have ended. The rest is sampled, so that an order that is none is found out.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from random import Random


class Placed(Protocol):
    """What stands in the order: `turn` says where, and is given by it."""

    turn: int


P = TypeVar("P", bound=Placed)

_RECENT = 32
_ENOUGH = 8
# The frontier: so much wider than the highest of the latest ranks, and narrower only by a leap.
_SPAN, _MARGIN = 1.5, 5
_NARROWER = 1.5
# Wider by so many at once, that no end of a task takes long.
_LEAP = 200
# One list would be moved as a whole by each end: of a hundred thousand that takes 30 µs.
_BLOCK = 1024
_turn = attrgetter("turn")


class Order(Generic[P]):
    """All tasks that run by the order of their submits, and how many of them make the frontier.

    Attributes:
        width: of the frontier; infinite until it is known.
        last: the highest turn within it; infinite where that is true of all tasks.
    """

    def __init__(self) -> None:
        self._blocks: list[list[P]] = [[]]  # by turn, so many turns to each
        self._gone = 0  # blocks before the first
        self._turns = 0
        self._count = 0
        self._ranks: deque[int] = deque(maxlen=_RECENT)
        self.width = math.inf
        self.last = math.inf

    def __len__(self) -> int:
        """Return how many run."""
        return self._count

    @property
    def outside(self) -> int:
        """How many stand behind the frontier."""
        return 0 if self.width >= self._count else self._count - int(self.width)

    def add(self, task: P) -> None:
        """Take in a task as the last."""
        task.turn = turn = self._turns
        self._turns += 1
        self._count += 1
        if turn // _BLOCK - self._gone == len(self._blocks):
            self._blocks.append([])
        self._blocks[-1].append(task)
        if self._count > self.width and self.last == math.inf:
            self._aim()

    def has(self, task: P) -> bool:
        """Say whether a task that runs stands within the frontier."""
        return task.turn <= self.last

    def drop(self, task: P) -> list[P]:
        """Let go of a task without learning; return those that come into the frontier by it."""
        number = task.turn // _BLOCK - self._gone
        block = self._blocks[number]
        del block[bisect_left(block, task.turn, key=_turn)]
        self._count -= 1
        while not self._blocks[0] and len(self._blocks) > 1:
            del self._blocks[0]
            self._gone += 1
        if self.last == math.inf:
            return []
        came = [self._at(int(self.width) - 1)] if task.turn <= self.last else []
        self._aim()
        return came

    def ended(self, task: P) -> list[P]:
        """Let go of a task that ended; return those that come into the frontier by it."""
        rank = self._rank(task)
        if self._count >= _ENOUGH:
            self._ranks.append(rank)
        came = self.drop(task)
        if len(self._ranks) >= _ENOUGH:
            came += self._resize(rank)
        return came

    def oldest(self, most: int) -> list[P]:
        """Return those that were added first of the frontier, so many at most."""
        line = itertools.chain.from_iterable(self._blocks)
        return list(itertools.islice(line, int(min(most, self.width))))

    def sample(self, rng: Random) -> P:
        """Return any one task from behind the frontier; there must be one."""
        first, last = int(self.width), self._count - 1
        return self._at(min(last, first + int(rng.random() * (last - first + 1))))

    def _rank(self, task: P) -> int:
        number = task.turn // _BLOCK - self._gone
        before = sum(map(len, self._blocks[:number])) if number else 0
        return before + bisect_left(self._blocks[number], task.turn, key=_turn)

    def _at(self, rank: int) -> P:
        number = 0
        while rank >= len(self._blocks[number]):
            rank -= len(self._blocks[number])
            number += 1
        return self._blocks[number][rank]

    def _aim(self) -> None:
        """Find the last one within the frontier."""
        self.last = self._at(int(self.width) - 1).turn if self.width < self._count else math.inf

    def _resize(self, rank: int) -> list[P]:
        """Follow the latest ranks; return those that come in where the frontier becomes wider."""
        before, width = self.width, int(_SPAN * max(self._ranks)) + _MARGIN
        if rank >= before:
            self.width = min(max(2 * before, width), before + _LEAP)
        elif width > before or width * _NARROWER < before:
            self.width = min(width, before + _LEAP)
        if self.width == before:
            return []
        last = self.last
        self._aim()
        return self._after(last) if self.width > before else []

    def _after(self, turn: float) -> list[P]:
        """Return those in the frontier whose turn is later than another."""
        if turn == math.inf:
            return []
        found: list[P] = []
        first, last = int(turn) // _BLOCK, int(min(self.last, self._turns)) // _BLOCK
        for block in self._blocks[first - self._gone : last - self._gone + 1]:
            start = bisect_right(block, turn, key=_turn)
            found += block[start : bisect_right(block, self.last, key=_turn)]
        return found
