"""Small things and weather: lit windows, a boat, a lighthouse, birds, fog, rain and snow."""

import math
from collections import defaultdict
from functools import lru_cache

from fluxflex.simulator.painting.land import Land
from fluxflex.simulator.painting.noise import happens
from fluxflex.simulator.painting.scenery import Colour, Scene, mix

Span = tuple[int, int, Colour, float]
"""Columns from and to, colour, and how much of it: 1 covers."""


class Marks:
    """Put small things into a picture, row by row."""

    def __init__(self, scene: Scene, land: Land) -> None:
        self._scene, self._land = scene, land
        self._rng = scene.rng("marks")
        self._behind: defaultdict[int, list[Span]] = defaultdict(list)
        self._before: defaultdict[int, list[Span]] = defaultdict(list)
        self._haze = mix(scene.light.horizon, (235, 236, 236), 0.1 if scene.light.is_night else 0.3)
        if scene.place == "city":
            self._windows()
        if land.shore is not None:
            self._afloat(land.shore)
        if not scene.light.is_night and ("bird" in scene.features or happens(self._rng, 0.35)):
            self._birds()
        self._falling()

    def behind(self, y: int, planes: list[bytes]) -> list[bytes]:
        """Return the row with what stands behind the front layers."""
        return _drawn(self._behind.get(y), planes)

    def before(self, y: int, planes: list[bytes]) -> list[bytes]:
        """Return the row with what is nearest: the weather."""
        planes = _drawn(self._before.get(y), planes)
        if self._scene.weather != "fog":
            return planes
        away = (y - self._land.horizon) / self._scene.height
        thick = 0.62 * max(0.0, 1 - abs(away) * (2.6 if away < 0 else 1.9))
        level = int(thick * 32)
        if not level:
            return planes
        return [
            plane.translate(_veiled(value, level))
            for plane, value in zip(planes, self._haze, strict=True)
        ]

    def _windows(self) -> None:
        rng, unit = self._rng, self._scene.unit
        lit = 0.42 if self._scene.light.is_dark else 0.13
        size, gap = max(1, int(unit * 0.6)), max(3, int(unit * 1.7))
        for layer in self._land.back[1:-1]:
            tops = layer.tops
            for x in range(2, self._scene.width - size - 1, gap):
                top = max(tops[x - 1], tops[x + size], tops[x])
                for y in range(int(top) + gap, self._scene.height, gap):
                    if happens(rng, lit) and self._is_open(layer.tops, x, y):
                        colour = mix((255, 214, 130), (255, 246, 220), rng.random())
                        for row in range(y, y + size):
                            self._behind[row].append((x, x + size, colour, rng.uniform(0.45, 0.95)))

    def _is_open(self, tops: object, x: int, y: int) -> bool:
        nearer = False
        for layer in self._land.back:
            if nearer and layer.tops[x] <= y + 1:
                return False
            nearer = nearer or layer.tops is tops
        return True

    def _afloat(self, shore: int) -> None:
        scene, rng = self._scene, self._rng
        if "lighthouse" in scene.features:
            self._lighthouse()
        if scene.features & {"boat", "sail", "ship"} or happens(rng, 0.3):
            y = int(shore + (scene.height - shore) * rng.uniform(0.08, 0.3))
            self._boat(scene.width * rng.uniform(0.2, 0.8), y, scene.unit * rng.uniform(4, 9))

    def _boat(self, x: float, y: int, size: float) -> None:
        sail = mix(self._scene.light.disc, self._scene.light.middle, 0.15)
        hull = mix(self._scene.light.near, (0, 0, 0), 0.3)
        for row in range(int(size * 1.6)):
            up = y - row - int(size * 0.35)
            half = size * 0.55 * (1 - row / (size * 1.6))
            self._add(up, x - half * 0.25, x + half * 1.25, sail, 0.95)
            self._add(up, x - half * 0.9, x - half * 0.32, mix(sail, hull, 0.25), 0.95)
        for row in range(int(size * 0.35)):
            half = size * (0.75 - 0.45 * row / (size * 0.35))
            self._add(y - int(size * 0.35) + row, x - half, x + half, hull, 1.0)
        for row in range(int(size * 1.4)):
            half = size * 0.5 * (1 - row / (size * 1.4)) * self._rng.uniform(0.4, 1.2)
            self._add(y + row, x - half, x + half, sail, 0.22)

    def _lighthouse(self) -> None:
        """Put a tower, banded red and white, on the highest rock in front."""
        scene = self._scene
        unit, light, tops = scene.unit, scene.light, self._land.front[0].tops
        edge = int(scene.width * 0.1)
        x = min(range(edge, scene.width - edge), key=lambda column: tops[column])
        foot, size = int(tops[x]) + 3, unit * self._rng.uniform(26, 36)
        white, red = mix((250, 248, 244), light.middle, 0.25), mix((196, 52, 48), light.near, 0.2)
        dark = mix(light.near, (0, 0, 0), 0.2)
        # From which height up, in which colour, how broad: bands, gallery, lamp, roof.
        bands = [(0.17 * band, red if band % 2 else white, 3.0 - 0.22 * band) for band in range(5)]
        parts = [*bands, (0.84, dark, 2.4), (0.87, (255, 240, 170), 1.2), (0.95, dark, 1.5)]
        for row in range(int(size)):
            _, colour, half = max(part for part in parts if part[0] <= row / size)
            self._add(foot - row, x - half * unit, x + half * unit, colour, 1.0)
            shade = mix(colour, dark, 0.5)
            self._add(foot - row, x + half * unit * 0.2, x + half * unit, shade, 0.6)
        if light.is_dark or scene.weather != "clear":
            self._beam(x, foot - int(size * 0.91), turn=-1 if x > scene.width / 2 else 1)

    def _beam(self, x: float, lamp: int, *, turn: int) -> None:
        """Draw a beam that widens, fades and points a little upwards."""
        unit, pieces = self._scene.unit, 45
        for piece in range(pieces):
            near, far = (unit * (1.4 + 2 * step) for step in (piece, piece + 1))
            left, right = sorted((x + turn * near, x + turn * far))
            middle, half = lamp - near * 0.06, unit * 0.5 + near * 0.09
            part = 0.5 * (1 - piece / pieces) ** 1.5
            for y in range(round(middle - half), round(middle + half) + 1):
                self._add(y, left, right, (255, 244, 196), part)

    def _birds(self) -> None:
        rng, scene = self._rng, self._scene
        x, y = scene.width * rng.uniform(0.2, 0.8), self._land.horizon * rng.uniform(0.2, 0.5)
        colour = mix(scene.light.near, scene.light.middle, 0.25)
        for _ in range(rng.randint(4, 9)):
            size = int(scene.unit * rng.uniform(0.9, 1.9)) + 1
            left, up = x + rng.gauss(0, scene.unit * 9), y + rng.gauss(0, scene.unit * 4)
            for step in range(size + 1):
                row = round(up - size * 0.5 * math.sin(2.3 * step / size))
                self._add(row, left + step, left + step + 1.2, colour, 0.8)
                self._add(row, left - step, left - step + 1.2, colour, 0.8)

    def _falling(self) -> None:
        rng, scene = self._rng, self._scene
        if scene.weather == "rain":
            for _ in range(int(scene.width * 0.7)):
                x, y = rng.uniform(0, scene.width * 1.2), rng.randrange(scene.height)
                part = rng.uniform(0.08, 0.26)
                for step in range(int(scene.unit * rng.uniform(3, 8))):
                    column = int(x - step * 0.25)
                    self._put(self._before, y + step, (column, column + 1, (226, 234, 240), part))
        if scene.weather == "snow":
            for _ in range(int(scene.width * 1.1)):
                x, y = rng.randrange(scene.width), rng.randrange(scene.height)
                size, part = 1 + int(scene.unit * 0.45 * rng.random() ** 2), rng.uniform(0.4, 0.9)
                for row in range(y, y + size):
                    self._put(self._before, row, (x, x + size, (255, 255, 255), part))

    def _add(self, y: int, left: float, right: float, colour: Colour, part: float) -> None:
        self._put(self._behind, y, (int(left), int(right), colour, part))

    def _put(self, rows: defaultdict[int, list[Span]], y: int, span: Span) -> None:
        first, last = max(0, span[0]), min(self._scene.width, span[1])
        if first < last:
            rows[y].append((first, last, *span[2:]))


def _drawn(spans: list[Span] | None, planes: list[bytes]) -> list[bytes]:
    if not spans:
        return planes
    edges = [bytearray(plane) for plane in planes]
    for first, last, colour, part in spans:
        for edge, value in zip(edges, colour, strict=True):
            for x in range(first, last):
                edge[x] = int(edge[x] + (value - edge[x]) * part)
    return [bytes(edge) for edge in edges]


@lru_cache(maxsize=4096)
def _veiled(value: int, level: int) -> bytes:
    """Return the table that draws a channel towards the haze, `level` thirty-seconds of the way."""
    return bytes(old + (value - old) * level // 32 for old in range(256))
