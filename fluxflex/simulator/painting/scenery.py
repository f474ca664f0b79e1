"""What a picture shows: place, light and weather, from the words of the prompt and from chance."""

import re
from collections.abc import Collection, Mapping
from hashlib import sha256
from math import sqrt
from random import Random

import attrs

from fluxflex.simulator.contract import Order

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

# Pixels of a picture: a picture the provider makes has several times as many, but these are painted
# in pure Python.
_AREA: Mapping[str, int] = {"1K": 360 * 360, "2K": 512 * 512}


def mix(one: Colour, other: Colour, part: float) -> Colour:
    """Return the colour between the two: part 0 is the one, part 1 is the other."""
    # The three channels are written out: this is called for every row and layer.
    red, green, blue = one
    return (
        int(red + (other[0] - red) * part),
        int(green + (other[1] - green) * part),
        int(blue + (other[2] - blue) * part),
    )


_NIGHT, _DARK = 0.5, 0.2


@attrs.frozen
class Light:
    """Hold the colours of an hour: the sky from top to horizon, and what its light does to things.

    `glow` and `cloud` are added to the sky; `far` and `near` are the ground's first and last layer.
    """

    zenith: Colour
    middle: Colour
    horizon: Colour
    glow: Colour
    cloud: Colour
    far: Colour
    near: Colour
    water: Colour
    disc: Colour
    stars: float = 0.0

    @property
    def is_night(self) -> bool:
        """Say whether the moon stands in the sky instead of the sun."""
        return self.stars > _NIGHT

    @property
    def is_dark(self) -> bool:
        """Say whether lamps are lit."""
        return self.stars > _DARK

    def towards(self, other: "Light", part: float) -> "Light":
        """Return the light between the two."""
        mixed = {
            field.name: mix(getattr(self, field.name), getattr(other, field.name), part)
            for field in attrs.fields(Light)
            if field.name != "stars"
        }
        return Light(**mixed, stars=self.stars + (other.stars - self.stars) * part)


LIGHTS: Mapping[str, Light] = {
    "dawn": Light(
        (74, 92, 152), (204, 150, 166), (252, 206, 172), (90, 62, 24), (64, 44, 44),
        (160, 134, 164), (44, 40, 66), (64, 76, 120), (255, 243, 220),
    ),
    "day": Light(
        (44, 108, 190), (112, 172, 224), (204, 228, 240), (60, 52, 30), (120, 104, 84),
        (142, 176, 204), (24, 66, 56), (22, 78, 116), (255, 252, 236),
    ),
    "sunset": Light(
        (46, 34, 92), (192, 78, 88), (252, 164, 78), (110, 90, 40), (92, 44, 28),
        (150, 74, 94), (26, 14, 36), (58, 28, 62), (255, 238, 190),
    ),
    "dusk": Light(
        (22, 26, 70), (78, 66, 130), (222, 134, 136), (80, 52, 50), (60, 34, 52),
        (96, 78, 128), (14, 16, 36), (26, 28, 66), (255, 226, 206), 0.25,
    ),
    "night": Light(
        (5, 8, 26), (14, 24, 60), (40, 58, 102), (70, 74, 84), (26, 30, 40),
        (40, 54, 92), (4, 8, 18), (6, 14, 36), (244, 243, 228), 1.0,
    ),
    "gold": Light(
        (104, 126, 148), (212, 186, 136), (253, 226, 158), (60, 46, 26), (54, 44, 30),
        (196, 162, 116), (62, 42, 28), (104, 88, 72), (255, 247, 222),
    ),
    "violet": Light(
        (34, 18, 78), (118, 62, 154), (246, 152, 176), (80, 50, 50), (64, 34, 54),
        (122, 82, 150), (26, 12, 48), (48, 26, 84), (255, 232, 236), 0.35,
    ),
    "teal": Light(
        (12, 62, 86), (66, 140, 146), (232, 222, 170), (70, 60, 30), (50, 50, 40),
        (92, 150, 150), (8, 38, 44), (14, 66, 82), (255, 250, 226),
    ),
    "storm": Light(
        (34, 42, 54), (74, 86, 98), (150, 156, 156), (40, 40, 34), (62, 64, 66),
        (104, 116, 124), (18, 24, 28), (34, 48, 58), (226, 228, 222),
    ),
    "pale": Light(
        (136, 158, 178), (184, 198, 206), (224, 226, 222), (30, 28, 22), (34, 32, 30),
        (176, 188, 196), (58, 72, 80), (112, 130, 142), (255, 253, 244),
    ),
    "ember": Light(
        (66, 26, 30), (170, 82, 54), (240, 178, 116), (60, 50, 34), (50, 34, 26),
        (178, 104, 76), (50, 18, 20), (80, 34, 34), (255, 240, 214),
    ),
    "jade": Light(
        (30, 84, 96), (128, 184, 160), (240, 238, 196), (40, 36, 24), (70, 62, 50),
        (132, 180, 158), (16, 52, 40), (24, 88, 84), (255, 254, 236),
    ),
}  # fmt: skip

# What words say of light, place and weather; the first meaning with a word in the prompt decides.
_LIGHT_WORDS: Mapping[str, str] = {
    "night": "night midnight moon star aurora galaxy",
    "sunset": "sunset evening",
    "dawn": "sunrise dawn morning",
    "dusk": "dusk twilight",
    "violet": "neon purple",
    "storm": "storm rain thunder",
    "pale": "fog foggy mist snow winter",
    "gold": "golden autumn",
    "day": "noon sunny summer blue",
    "ember": "mars volcano fire red",
    "jade": "jungle green spring",
}
_PLACE_WORDS: Mapping[str, str] = {
    "sea": "lighthouse boat ship sail ocean sea beach wave harbour whale",
    "islands": "island coast",
    "lake": "lake river",
    "mountains": "mountain peak alps volcano",
    "forest": "forest tree wood jungle",
    "dunes": "desert dune mars",
    "city": "city street tokyo town skyline bicycle car",
    "hills": "hill meadow field garden village",
}
_WEATHER_WORDS: Mapping[str, str] = {
    "fog": "fog foggy mist haze",
    "rain": "rain storm",
    "snow": "snow winter blizzard",
    "aurora": "aurora",
    "clear": "clear sunny",
}
# Words longer than this also count as the beginning of another.
_STEM = 3
_FEATURES = ("lighthouse", "boat", "sail", "ship", "bird", "moon", "aurora")


@attrs.frozen
class Scene:
    """Hold all that is decided before the first pixel."""

    width: int
    height: int
    place: str
    weather: str
    light: Light
    features: frozenset[str]
    seed: int

    @property
    def unit(self) -> float:
        """Return the length that scales with the picture: 1 % of its shorter side."""
        return min(self.width, self.height) / 100

    def rng(self, purpose: str) -> Random:
        """Return the chance for one purpose, independent of all others."""
        return _random(f"{self.seed}/{purpose}")


def imagine(order: Order) -> Scene:
    """Return the scene of an order: the same for the same order, another for any other."""
    digest = sha256(repr(attrs.astuple(attrs.evolve(order, callback_url=None))).encode()).digest()
    rng = _random(digest)
    words = re.findall("[a-z]+", order.prompt.lower())
    light = LIGHTS[_first(_LIGHT_WORDS, words) or rng.choice(list(LIGHTS))]
    # A touch of another hour: two pictures of one light still differ.
    light = light.towards(rng.choice(list(LIGHTS.values())), rng.uniform(0.0, 0.22))
    width, height = _size(order)
    return Scene(
        width=width,
        height=height,
        place=_first(_PLACE_WORDS, words) or rng.choice(list(_PLACE_WORDS)),
        weather=_first(_WEATHER_WORDS, words) or rng.choice(("clear", "clear", "clear", "fog")),
        light=light,
        features=frozenset(feature for feature in _FEATURES if _says(words, feature)),
        seed=rng.getrandbits(64),
    )


def _random(seed: str | bytes) -> Random:
    return Random(seed)  # noqa: S311 - pictures are no secrets


def _first(meanings: Mapping[str, str], words: Collection[str]) -> str | None:
    return next(
        (
            meaning
            for meaning, known in meanings.items()
            if any(_says(words, word) for word in known.split())
        ),
        None,
    )


def _says(words: Collection[str], known: str) -> bool:
    """Say whether one of the words is the known one, or a longer form of it (misty, stars)."""
    longer = len(known) > _STEM
    return any(
        word in (known, f"{known}s") or (longer and word.startswith(known)) for word in words
    )


def _size(order: Order) -> tuple[int, int]:
    """Return width and height of the order's aspect ratio, equal in area for all ratios."""
    across, down = 1, 1
    if order.aspect_ratio != "auto":
        across, down = map(int, order.aspect_ratio.split(":"))
    step = round(sqrt(_AREA[order.quality] / (across * down)))
    return across * step, down * step
