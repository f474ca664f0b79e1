"""Smooth randomness for landscapes: profiles along a line and fields over a plane.

Value noise: random values on a grid, smoothly joined. Fields are joined row by row in big integers,
one 16-bit lane a pixel, which makes a row of 600 pixels cost a few microseconds in plain Python.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from random import Random

import attrs

# Grid lines an octave, and columns to begin at: without a common factor, so that pairs seldom meet
# again.
_LINES, _STARTS = 5, 61


def profile(rng: Random, width: int, cell: float, octaves: int, rough: float = 0.5) -> list[float]:
    """Return a line of `width` heights from 0 to 1: hills `cell` pixels wide, finer ones on them.

    Each octave is half as wide and `rough` times as high as the one before.
    """
    heights = [0.0] * width
    weight, total = 1.0, 0.0
    for _ in range(octaves):
        line = _line(rng, width, cell)
        # Octaves begin anywhere: else all of them would have a grid line at the left edge.
        start = rng.randrange(width)
        line = line[start:] + line[:start]
        heights = [height + weight * value for height, value in zip(heights, line, strict=True)]
        total += weight
        weight, cell = weight * rough, max(2.0, cell / 2)
    return [height / total for height in heights]


def _line(rng: Random, width: int, cell: float) -> list[float]:
    """Return smooth noise from 0 to 1 along a line whose end joins its beginning."""
    count = max(2, round(width / cell))
    nodes = [rng.random() for _ in range(count)]
    nodes.append(nodes[0])
    line: list[float] = []
    for number in range(count):
        left, step = nodes[number], nodes[number + 1] - nodes[number]
        size = (number + 1) * width // count - len(line)
        line += [left + step * weight for weight in _weights(size)]
    return line


@lru_cache(maxsize=1024)
def _weights(size: int) -> tuple[float, ...]:
    """Return how far the next value counts at each pixel of a cell."""
    parts = [pixel / size for pixel in range(size)]
    return tuple(part * part * (3 - 2 * part) for part in parts)


@attrs.frozen
class Octave:
    """Describe one layer of a field: the pixels of its cells, and values from 0 to `peak`."""

    wide: float
    high: float
    peak: int


class Field:
    """Give rows of noise, a byte a pixel, at any height; the peaks together are at most 255.

    Each octave has a few grid lines only, used again and again from another column on: enough for
    the eye, and a tenth of the time.
    """

    def __init__(self, rng: Random, width: int, octaves: Sequence[Octave]) -> None:
        self._width = width
        self._octaves = octaves
        self._lines = [
            [_lane_line(rng, width, octave) for _ in range(_LINES)] for octave in octaves
        ]
        self._starts = [rng.randrange(width) for _ in range(_STARTS)]
        self._recent: dict[tuple[int, int], int] = {}

    def row(self, y: float) -> bytes:
        """Return the row at that height, which need not be whole."""
        total = 0
        for index, octave in enumerate(self._octaves):
            above, part = divmod(y / octave.high, 1)
            weight = int(256 * part * part * (3 - 2 * part))
            total += self._lanes(index, int(above)) * (256 - weight)
            total += self._lanes(index, int(above) + 1) * weight
        # The upper byte of each lane: the sum divided by the 256 of the weights.
        return total.to_bytes(2 * self._width, "little")[1::2]

    def _lanes(self, index: int, number: int) -> int:
        """Return a grid line of one octave as lanes."""
        lanes = self._recent.get((index, number))
        if lanes is None:
            line = self._lines[index][number % _LINES]
            start = 2 * self._starts[number % _STARTS]
            lanes = int.from_bytes(line[start:] + line[:start], "little")
            self._recent[index, number] = lanes
        return lanes


def _lane_line(rng: Random, width: int, octave: Octave) -> bytes:
    line = bytearray(2 * width)
    line[::2] = bytes([int(octave.peak * value) for value in _line(rng, width, octave.wide)])
    return bytes(line)


def happens(rng: Random, share: float) -> bool:
    """Return whether something with this chance, from 0 to 1, happens."""
    return rng.random() < share


def bell(width: int, middle: float, spread: float) -> bytes:
    """Return a bell curve along a row, a byte a pixel, 255 in the middle."""
    return bytes(int(255 * math.exp(-(((x - middle) / spread) ** 2) / 2)) for x in range(width))
