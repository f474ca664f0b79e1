"""The places: which silhouettes a scene has, and where its water begins."""

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random

import attrs

from fluxflex.simulator.painting.layers import Layer
from fluxflex.simulator.painting.noise import happens, profile
from fluxflex.simulator.painting.scenery import Colour, Scene, mix

# Only the farthest ranges are high enough for snow.
_SNOWY_RANGES = 2


@attrs.frozen
class Land:
    """Hold a place's silhouettes: those behind the water, mirrored in it, and those before it.

    `shore` is the row at which water begins, None for a place without.
    """

    horizon: float
    back: Sequence[Layer]
    front: Sequence[Layer] = ()
    shore: int | None = None


def settle(scene: Scene) -> Land:
    """Return the land of a scene."""
    return _PLACES[scene.place](scene, scene.rng("land"))


def _rise(
    scene: Scene, rng: Random, base: float, high: float, cell: float, *, sharp: bool
) -> list[float]:
    """Return tops of a range `high` rows over `base` at most; sharp ones have crests."""
    heights = profile(rng, scene.width, cell, 6 if sharp else 4, 0.48 if sharp else 0.3)
    if sharp:
        heights = [1.15 - 2.3 * abs(height - 0.5) for height in heights]
    low, top = min(heights), max(heights)
    reach = high / max(0.05, top - low)
    return [base - (height - low) * reach for height in heights]


def _ranges(
    scene: Scene, rng: Random, base: float, foot: float, count: int, *, sharp: bool
) -> list[Layer]:
    """Return ranges of mountains or hills between two heights, nearer ones darker and lower."""
    light, layers = scene.light, []
    haze = mix(light.horizon, light.far, 0.25)
    for number in range(count):
        near = number / max(1, count - 1)
        bottom = base + (foot - base) * near**1.2
        high = scene.height * (rng.uniform(0.20, 0.34) * (1 - 0.55 * near))
        cell = scene.unit * rng.uniform(42, 70) * (1 - 0.3 * near)
        tops = _rise(scene, rng, bottom, high, cell, sharp=sharp)
        upper = mix(light.far, light.near, near**0.9)
        snow = -math.inf
        if sharp and number < _SNOWY_RANGES and scene.weather != "rain":
            snow = min(tops) + high * rng.uniform(0.3, 0.55)
        layers.append(
            Layer(
                tops=tops,
                upper=upper,
                lower=mix(upper, haze, 0.62 * (1 - near)),
                fade=high * 1.3 + 1,
                grain=0.35 + 0.5 * near,
                snowline=snow,
                snow=mix(mix((255, 255, 255), light.horizon, 0.35), light.far, 0.25 + 0.2 * near),
            )
        )
    return layers


def _firs(scene: Scene, rng: Random, line: Sequence[float], tall: float) -> list[float]:
    """Return a line with fir trees on it, up to `tall` rows high."""
    tops = list(line)
    x = 0.0
    while x < scene.width:
        high = tall * rng.uniform(0.45, 1.0)
        half = max(1.5, high * rng.uniform(0.16, 0.24))
        left, right = max(0, int(x - half)), min(scene.width, int(x + half) + 1)
        foot = line[min(scene.width - 1, int(x))]
        for column in range(left, right):
            part = 1 - abs(column - x) / half
            # Branches: the slope of a fir goes in steps.
            stepped = part + 0.09 * math.sin(part * 21)
            tops[column] = min(tops[column], foot - high * max(0.0, stepped))
        x += half * rng.uniform(0.5, 1.7)
    return tops


def _plain(scene: Scene, tops: Sequence[float], colour: Colour, deeper: float = 0.4) -> Layer:
    lower = mix(colour, (0, 0, 0), deeper)
    return Layer(tops=tops, upper=colour, lower=lower, fade=scene.height * 0.25, grain=0.6)


def _mountains(scene: Scene, rng: Random) -> Land:
    base = scene.height * rng.uniform(0.58, 0.7)
    back = _ranges(scene, rng, base, scene.height * 0.97, rng.randint(4, 5), sharp=True)
    shore = _rise(scene, rng, scene.height * 0.98, scene.unit * 6, scene.unit * 50, sharp=False)
    firs = _firs(scene, rng, shore, scene.unit * rng.uniform(9, 17))
    return Land(base, [*back, _plain(scene, firs, scene.light.near)])


def _lake(scene: Scene, rng: Random) -> Land:
    shore = int(scene.height * rng.uniform(0.56, 0.68))
    back = _ranges(scene, rng, shore - scene.unit * 4, shore + 1, 3, sharp=True)
    bank = [shore + scene.unit * 0.4] * scene.width
    trees = _firs(scene, rng, bank, scene.unit * rng.uniform(3, 6))
    colour = mix(scene.light.far, scene.light.near, 0.82)
    back.append(_plain(scene, trees, colour))
    slope = rng.choice((-1, 1)) * scene.height * rng.uniform(0.15, 0.35)
    line = [
        scene.height * 0.99 + slope * (x / scene.width - 0.5) + abs(slope) * 0.1
        for x in range(scene.width)
    ]
    front = _firs(scene, rng, line, scene.unit * rng.uniform(10, 22))
    return Land(shore, back, [_plain(scene, front, scene.light.near)], shore)


def _sea(scene: Scene, rng: Random) -> Land:
    shore = int(scene.height * rng.uniform(0.54, 0.66))
    back = []
    if happens(rng, 0.6):
        back = [_headland(scene, rng, shore, near) for near in (0.25, 0.6)[: rng.randint(1, 2)]]
    return Land(shore, back, _rocks(scene, rng), shore)


def _islands(scene: Scene, rng: Random) -> Land:
    shore = int(scene.height * rng.uniform(0.5, 0.62))
    back = [_headland(scene, rng, shore, near) for near in (0.05, 0.3, 0.55, 0.8)]
    return Land(shore, back, _rocks(scene, rng), shore)


def _headland(scene: Scene, rng: Random, shore: int, near: float) -> Layer:
    """Return an island or a cape at the horizon."""
    middle, half = rng.uniform(-0.1, 1.1) * scene.width, scene.width * rng.uniform(0.12, 0.42)
    rough = profile(rng, scene.width, scene.unit * 22, 5)
    high = scene.height * rng.uniform(0.06, 0.2) * (1 - 0.3 * near)
    tops = []
    for x in range(scene.width):
        swell = max(0.0, 1 - ((x - middle) / half) ** 2)
        tops.append(shore + 1 - high * swell**0.7 * (0.35 + rough[x]) if swell else scene.height)
    upper = mix(scene.light.far, scene.light.near, near)
    lower = mix(upper, scene.light.horizon, 0.3 * (1 - near))
    return Layer(tops=tops, upper=upper, lower=lower, fade=high, grain=0.5)


def _rocks(scene: Scene, rng: Random) -> list[Layer]:
    """Return a rocky corner near the viewer, or nothing."""
    if "lighthouse" not in scene.features and happens(rng, 0.45):
        return []
    rough = profile(rng, scene.width, scene.unit * 16, 5, 0.55)
    side = happens(rng, 0.5)
    reach, high = rng.uniform(0.45, 0.8), scene.height * rng.uniform(0.12, 0.24)
    tops = []
    for x in range(scene.width):
        away = (x if side else scene.width - x) / (scene.width * reach)
        swell = max(0.0, 1 - away) ** 0.8
        tops.append(scene.height * 1.01 - high * swell * (0.4 + 0.9 * rough[x]))
    return [_plain(scene, tops, scene.light.near)]


def _forest(scene: Scene, rng: Random) -> Land:
    base = scene.height * rng.uniform(0.5, 0.6)
    haze = mix(scene.light.horizon, scene.light.far, 0.3)
    back = _ranges(scene, rng, base, base + scene.unit * 5, 1, sharp=True)
    count = 5
    for number in range(count):
        near = number / (count - 1)
        bottom = base + (scene.height * 1.0 - base) * near**0.9
        line = _rise(scene, rng, bottom, scene.unit * 9, scene.unit * 60, sharp=False)
        tops = _firs(scene, rng, line, scene.unit * (5 + 19 * near**1.3))
        upper = mix(scene.light.far, scene.light.near, 0.25 + 0.75 * near)
        lower = mix(upper, haze, 0.75 * (1 - near))
        back.append(Layer(tops=tops, upper=upper, lower=lower, fade=scene.unit * 26, grain=0.7))
    return Land(base, back)


def _hills(scene: Scene, rng: Random) -> Land:
    base = scene.height * rng.uniform(0.52, 0.64)
    layers = _ranges(scene, rng, base, scene.height * 1.04, 5, sharp=False)
    grass = mix(scene.light.near, scene.light.cloud, 0.12)
    layers[-1] = attrs.evolve(layers[-1], upper=grass, lower=scene.light.near)
    row = _firs(scene, rng, layers[3].tops, scene.unit * rng.uniform(4, 7))
    layers[3] = attrs.evolve(layers[3], tops=row)
    return Land(base, layers)


def _dunes(scene: Scene, rng: Random) -> Land:
    base = scene.height * rng.uniform(0.56, 0.66)
    sand = mix(mix(scene.light.far, scene.light.horizon, 0.45), (226, 164, 98), 0.35)
    dark = mix(scene.light.near, (86, 46, 28), 0.45)
    layers = []
    for number in range(6):
        near = number / 5
        bottom = base + (scene.height * 1.1 - base) * near
        high = scene.height * (0.05 + 0.2 * near)
        tops = _crests(scene, rng, bottom, high, scene.unit * (26 + 60 * near))
        # Every other dune turns its lit side to the viewer.
        lit = mix(sand, dark, 0.1 + 0.55 * near + (0.16 if number % 2 else 0.0))
        shadow = mix(lit, dark, 0.6)
        layers.append(Layer(tops=tops, upper=lit, lower=shadow, fade=high * 1.2, grain=0.3))
    return Land(base, layers)


def _crests(scene: Scene, rng: Random, bottom: float, high: float, cell: float) -> list[float]:
    """Return a row of dunes: a long back, a crest, a short steep fall."""
    swell = profile(rng, scene.width, cell * 0.8, 2, 0.3)
    lean = rng.choice((0.68, 0.32))
    start = rng.random() * cell
    tops = []
    for x in range(scene.width):
        part = ((x + start + 0.5 * cell * swell[x]) / cell) % 1
        slope = part / lean if part < lean else (1 - part) / (1 - lean)
        rounded = slope * slope * (3 - 2 * slope)
        tops.append(bottom - high * rounded * (0.35 + 0.65 * swell[x]))
    return tops


def _city(scene: Scene, rng: Random) -> Land:
    base = scene.height * rng.uniform(0.78, 0.88)
    layers = []
    for number in range(4):
        near = number / 3
        high = scene.height * rng.uniform(0.36, 0.5) * (1 - 0.45 * near)
        tops = _roofs(scene, rng, base + scene.unit * 8 * near, high, 4 + 7 * near)
        upper = mix(scene.light.far, scene.light.near, 0.15 + 0.85 * near)
        lower = mix(upper, scene.light.horizon, 0.4 * (1 - near))
        layers.append(Layer(tops=tops, upper=upper, lower=lower, fade=high * 1.2, grain=0.25))
    street = [scene.height * 0.95] * scene.width
    layers.append(_plain(scene, street, scene.light.near))
    return Land(base, layers)


def _roofs(scene: Scene, rng: Random, base: float, high: float, broad: float) -> list[float]:
    """Return a skyline: houses side by side, some with a mast."""
    swell = profile(rng, scene.width, scene.unit * 45, 2)
    tops: list[float] = []
    while len(tops) < scene.width:
        size = int(scene.unit * broad * rng.uniform(0.6, 1.6)) + 2
        roof = int(base - high * (0.25 + 0.75 * swell[len(tops)] * rng.uniform(0.5, 1.3)))
        house = [float(roof)] * size
        if happens(rng, 0.2):
            house[size // 2] -= int(scene.unit * rng.uniform(3, 8))
        tops += house
    return tops[: scene.width]


_PLACES: Mapping[str, Callable[[Scene, Random], Land]] = {
    "mountains": _mountains,
    "lake": _lake,
    "sea": _sea,
    "islands": _islands,
    "forest": _forest,
    "hills": _hills,
    "dunes": _dunes,
    "city": _city,
}
