"""The sky, row by row: gradient, glow, clouds, aurora, stars, and the sun or the moon."""

import math
from collections import defaultdict
from functools import cache

import attrs

from fluxflex.simulator.painting.noise import Field, Octave, bell
from fluxflex.simulator.painting.scenery import Colour, Scene, mix

_TWINKLING = 0.75
_AURORA = (44, 170, 112)
# The gradient turns from its upper to its lower half here, as a share of the way to the horizon.
_TURN = 0.55
_CONTRAST = bytes(min(255, max(0, (value - 96) * 3)) for value in range(256))


@cache
def scale(peak: int) -> bytes:
    """Return the table that brings 0 to 255 down to 0 to `peak`."""
    return bytes(value * peak // 255 for value in range(256))


@attrs.frozen
class Veil:
    """Describe light that adds itself to the sky: a row of strengths, stronger around a height."""

    y: float
    high: float
    colour: Colour

    def strength(self, y: int) -> float:
        """Return how strong it is in this row, 0 to 1."""
        return math.exp(-(((y - self.y) / self.high) ** 2) / 2)


class Sky:
    """Paint the rows of a sky that ends at `horizon`."""

    def __init__(self, scene: Scene, horizon: float) -> None:
        self._scene, self._horizon = scene, horizon
        self._ones = int.from_bytes(b"\x01" * scene.width)
        rng, unit = scene.rng("sky"), scene.unit
        low, high = (0.15, 0.5) if scene.light.is_night else (0.35, 0.95)
        self.x = scene.width * rng.uniform(0.15, 0.85)
        """The column of sun or moon."""
        self._y = horizon * rng.uniform(low, high)
        self._radius = unit * rng.uniform(3.0, 6.0)
        self._bite = self._radius * rng.choice((-0.7, -0.45, 0.45, 0.7, 3))
        glow = scene.light.glow
        self._glows = [
            (
                Veil(self._y, unit * 34, mix(glow, (0, 0, 0), 0.2)),
                bell(scene.width, self.x, unit * 46),
            ),
            (Veil(self._y, unit * 9, glow), bell(scene.width, self.x, unit * 9)),
        ]
        sizes = ((48, 13, 128), (23, 6, 70), (11, 3, 38), (5, 1.5, 19))
        octaves = [Octave(unit * wide, unit * tall, peak) for wide, tall, peak in sizes]
        self._clouds = Field(rng, scene.width, octaves)
        cover = {"rain": 0.3, "fog": 0.52}.get(scene.weather, rng.uniform(0.44, 0.62))
        gain = rng.uniform(2.0, 4.0)
        self._density = bytes(
            min(255, max(0, int((value - 255 * cover) * gain))) for value in range(256)
        )
        rays = [Octave(unit * 9, unit * 70, 170), Octave(unit * 2.5, unit * 60, 85)]
        has_aurora = "aurora" in (*scene.features, scene.weather)
        self._curtain = Field(rng, scene.width, rays) if has_aurora else None
        self._aurora = Veil(horizon * 0.42, horizon * 0.22, _AURORA)
        self._stars = self._sow(int(scene.light.stars * scene.width * horizon / 420))

    def row(self, y: int) -> list[bytes]:
        """Return the red, green and blue of a row, a byte a pixel each."""
        density = self._clouds.row(y * (1 + 1.3 * y / self._horizon)).translate(self._density)
        veils = [(along, veil.colour, veil.strength(y)) for veil, along in self._glows]
        if self._curtain is not None:
            along = self._curtain.row(y)
            veils.append((along.translate(_CONTRAST), _AURORA, self._aurora.strength(y)))
        veils.append((density, self._scene.light.cloud, 0.35 + 0.65 * min(1.0, y / self._horizon)))
        planes = []
        for channel, value in enumerate(self._gradient(y)):
            lanes, room = value * self._ones, 255 - value
            for along, colour, strength in veils:
                # Never more than there is room for: the lanes must not run over.
                peak = min(room, int(colour[channel] * strength))
                if peak > 0:
                    lanes += int.from_bytes(along.translate(scale(peak)))
                    room -= peak
            planes.append(lanes.to_bytes(self._scene.width))
        return self._dotted(y, planes)

    def _gradient(self, y: int) -> Colour:
        light, part = self._scene.light, min(1.0, y / self._horizon)
        if part < _TURN:
            return mix(light.zenith, light.middle, part / _TURN)
        return mix(light.middle, light.horizon, ((part - _TURN) / (1 - _TURN)) ** 1.15)

    def _sow(self, count: int) -> dict[int, list[tuple[int, float]]]:
        """Return stars by row: fewer towards the horizon, few of them bright."""
        rng = self._scene.rng("stars")
        stars: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
        for _ in range(count):
            y = int(self._horizon * rng.random() ** 1.4)
            x, bright = rng.randrange(self._scene.width), 0.12 + 0.88 * rng.random() ** 4
            stars[y].append((x, bright))
            if bright > _TWINKLING and 0 < x < self._scene.width - 1:
                stars[y] += [(x - 1, 0.3), (x + 1, 0.3)]
        return stars

    def _dotted(self, y: int, planes: list[bytes]) -> list[bytes]:
        stars = self._stars.get(y, ())
        away = abs(y - self._y)
        if away >= self._radius and not stars:
            return planes
        edges = [bytearray(plane) for plane in planes]
        for x, bright in stars:
            _touch(edges, x, (255, 250, 240), bright)
        if away < self._radius:
            for left, right in self._disc(y):
                self._span(edges, left, right)
        return [bytes(edge) for edge in edges]

    def _disc(self, y: int) -> list[tuple[float, float]]:
        """Return the columns of sun or moon in a row; the moon lacks another disc beside it."""
        half = math.sqrt(self._radius**2 - (y - self._y) ** 2)
        left, right = self.x - half, self.x + half
        shadow = (0.9 * self._radius) ** 2 - (y - self._y + 0.3 * self._radius) ** 2
        if not self._scene.light.is_night or shadow <= 0:
            return [(left, right)]
        middle, dark = self.x + self._bite, math.sqrt(shadow)
        spans = [(left, min(right, middle - dark)), (max(left, middle + dark), right)]
        return [span for span in spans if span[0] < span[1]]

    def _span(self, edges: list[bytearray], left: float, right: float) -> None:
        first, last = max(0, int(left)), min(self._scene.width - 1, int(right))
        for x in range(first, last + 1):
            part = min(1.0, x + 1 - left, right - x)
            if part > 0:
                _touch(edges, x, self._scene.light.disc, part)


def _touch(edges: list[bytearray], x: int, colour: Colour, part: float) -> None:
    for edge, value in zip(edges, colour, strict=True):
        edge[x] = int(edge[x] + (value - edge[x]) * part)
