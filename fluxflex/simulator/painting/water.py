"""Water: what stands above it, mirrored, darkened and broken by waves."""

from collections.abc import Iterator, Sequence

from fluxflex.simulator.painting.noise import Field, Octave, bell
from fluxflex.simulator.painting.scenery import Scene
from fluxflex.simulator.painting.sky import scale

_DEPTHS = 24
# The highest waves throw the sun back, high ones are a little lighter.
_GLINTS = bytes(139) + b"\xff" * 117
_CRESTS = bytes(min(255, max(0, (value - 120) * 4)) for value in range(256))


class Water:
    """Paint the rows of water below `shore`, given the finished rows above it."""

    def __init__(self, scene: Scene, shore: int, light_at: float) -> None:
        self._scene, self._shore = scene, shore
        self._high = scene.height - shore
        self._near_rows = self._high * 0.12
        self._rng = scene.rng("water")
        self._even = int.from_bytes(b"\xfe" * scene.width)
        unit = scene.unit
        self._waves = Field(
            self._rng,
            scene.width,
            [Octave(unit * 16, 1.6, 120), Octave(unit * 6, 1.2, 85), Octave(unit * 2, 1.0, 50)],
        )
        self._path = bell(scene.width, light_at, unit * 7)
        self._wide_path = bell(scene.width, light_at, unit * 20)
        self._tables = [self._tints(depth / (_DEPTHS - 1)) for depth in range(_DEPTHS)]

    def _tints(self, depth: float) -> list[bytes]:
        """Return the tables that tint a mirrored row: near water has more colour of its own."""
        own = 0.18 + 0.42 * depth
        return [
            bytes(int((value * (1 - own) + colour * own) * 0.94) for value in range(256))
            for colour in self._scene.light.water
        ]

    def row(self, y: int, above: Sequence[list[bytes]]) -> list[bytes]:
        """Return a row of water; `above` holds the rows from the top to the shore."""
        below = y - self._shore
        depth = below / self._high
        waves = self._waves.row(below**0.72 * 2.2)
        glints = int.from_bytes(waves.translate(_GLINTS))
        crests = waves.translate(_CRESTS)
        path = self._path if below < self._near_rows else self._wide_path
        planes = []
        for channel, mirrored in enumerate(self._mirrored(below, depth, above)):
            table = self._tables[int(depth * (_DEPTHS - 1))][channel]
            light = self._scene.light.disc[channel]
            # Never more than there is room for: the bytes must not run over.
            room = 255 - table[255]
            peak = min(room, int(light * 0.5 * (1 - 0.55 * depth)))
            crest = min(room - peak, int(light * 0.1))
            lanes = int.from_bytes(mirrored.translate(table))
            lanes += int.from_bytes(path.translate(scale(peak))) & glints
            lanes += int.from_bytes(crests.translate(scale(crest)))
            planes.append(lanes.to_bytes(self._scene.width))
        return planes

    def _mirrored(self, below: int, depth: float, above: Sequence[list[bytes]]) -> Iterator[bytes]:
        """Give each channel of the mirrored row: the mean of two rows that waves have displaced."""
        rng, width = self._rng, self._scene.width
        rough = self._scene.unit * (0.3 + 2.6 * depth)
        middle = self._shore - 1 - below * self._shore / self._high * 0.8
        one, other = (
            above[min(self._shore - 1, max(0, int(middle + rng.gauss(0, rough))))] for _ in range(2)
        )
        shift = int(rng.gauss(0, rough * 0.6))
        for left, right in zip(one, other, strict=True):
            half = (int.from_bytes(left) & self._even) >> 1
            half += (int.from_bytes(_shifted(right, shift)) & self._even) >> 1
            yield half.to_bytes(width)


def _shifted(plane: bytes, shift: int) -> bytes:
    """Return the row moved sideways, its edge repeated."""
    if shift > 0:
        return plane[:1] * shift + plane[:-shift]
    return plane[-shift:] + plane[-1:] * -shift
