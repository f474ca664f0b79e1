"""The ground: layers of silhouettes from far to near, with the air between them."""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import attrs

from fluxflex.simulator.painting.scenery import Colour, mix

# A row's pixel is one byte, layer * 32 + shade: 7 layers and the sky, 32 shades each.
SHADES = 32
MOST_LAYERS = 256 // SHADES - 1
_NOTHING = (bytes(SHADES),) * 3
_IS_SKY = b"\xff" + bytes(255)


@attrs.frozen
class Layer:
    """Describe one silhouette: where its top is at each column, and how it is coloured.

    The colour runs from `upper` at its highest point to `lower` (haze gathers below) over `fade`
    rows. `grain` is how much its shades differ; above `snowline` it is white.
    """

    tops: Sequence[float]
    upper: Colour
    lower: Colour
    fade: float
    grain: float = 0.5
    snowline: float = -math.inf
    snow: Colour = (255, 255, 255)
    highest: float = attrs.field(init=False)

    @highest.default
    def _find_highest(self) -> float:
        return min(self.tops)

    def shades(self, y: int) -> tuple[bytes, bytes, bytes]:
        """Return the shades of each channel in this row."""
        if y + 1 < self.highest:
            return _NOTHING
        part = min(1.0, max(0.0, (y - self.highest) / self.fade))
        colour = mix(self.upper, self.lower, part)
        red, green, blue = (_shades(value, self.grain) for value in colour)
        if y >= self.snowline:
            return red, green, blue
        white = min(SHADES, int((self.snowline - y) / 2))
        bare = SHADES - white
        snow = mix(self.snow, self.lower, part)
        one, two, three = (_shades(value, self.grain) for value in snow)
        return red[:bare] + one[bare:], green[:bare] + two[bare:], blue[:bare] + three[bare:]


@lru_cache(maxsize=4096)
def _shades(value: int, grain: float) -> bytes:
    middle = SHADES / 2
    return bytes(
        min(255, max(0, round(value + grain * (shade - middle)))) for shade in range(SHADES)
    )


class Ground:
    """Lay the layers over the rows of a picture, from the top row down."""

    def __init__(self, layers: Sequence[Layer], width: int) -> None:
        self._layers = layers
        self._width = width
        self._shown = bytearray(width)
        self._begins: defaultdict[int, list[tuple[int, int, float]]] = defaultdict(list)
        for number, layer in enumerate(layers, start=1):
            for x, top in enumerate(layer.tops):
                row = max(0, int(top))
                self._begins[row].append((x, number, row + 1 - top))
        self.top = min(self._begins, default=10**9)
        """The first row with ground in it."""

    def cover(self, y: int, sky: list[bytes], grain: bytes) -> list[bytes]:
        """Return the row's channels with the ground over them; rows come in order, from `top` on.

        `grain` holds a shade (0 to 31) a pixel.
        """
        shown = self._shown
        tables = self._tables(y)
        planes = sky
        if any(shown):
            planes = self._blend(sky, tables, grain)
        begins = self._begins.get(y)
        if not begins:
            return planes
        edges = [bytearray(plane) for plane in planes]
        for x, number, cover in begins:
            layer = number * SHADES
            if shown[x] >= layer:
                continue
            shown[x] = layer
            # The edge covers a part of its first pixel: this is what makes it smooth.
            part = min(1.0, cover)
            for edge, table in zip(edges, tables, strict=True):
                edge[x] = int(edge[x] + (table[layer + grain[x]] - edge[x]) * part)
        return [bytes(edge) for edge in edges]

    def _tables(self, y: int) -> list[bytes]:
        rows = [layer.shades(y) for layer in self._layers]
        rest = bytes(SHADES * (MOST_LAYERS - len(rows)))
        return [
            b"".join((bytes(SHADES), *(row[channel] for row in rows), rest)) for channel in range(3)
        ]

    def _blend(self, sky: list[bytes], tables: list[bytes], grain: bytes) -> list[bytes]:
        size = self._width
        mixed = (int.from_bytes(self._shown) + int.from_bytes(grain)).to_bytes(size)
        ground = [mixed.translate(table) for table in tables]
        if all(self._shown):
            return ground
        open_sky = int.from_bytes(self._shown.translate(_IS_SKY))
        return [
            (int.from_bytes(above) & open_sky | int.from_bytes(below)).to_bytes(size)
            for above, below in zip(sky, ground, strict=True)
        ]
