"""Pictures for prompts: landscapes in plain Python, different for every order.

Nobody expects the simulator to draw what a prompt says; but a rehearsal should be good to look at,
and two pictures must not be mistaken for one another. Words such as fog, night, sea, forest or city
are heeded; the rest is chance, and the same order always gives the same bytes.
"""

from collections.abc import Iterator

from fluxflex.simulator.contract import Order
from fluxflex.simulator.painting.land import Land, settle
from fluxflex.simulator.painting.layers import Ground
from fluxflex.simulator.painting.marks import Marks
from fluxflex.simulator.painting.noise import Field, Octave
from fluxflex.simulator.painting.png import encode
from fluxflex.simulator.painting.scenery import Scene, imagine
from fluxflex.simulator.painting.sky import Sky
from fluxflex.simulator.painting.water import Water

Planes = list[bytes]
"""A row's red, green and blue, a byte a pixel each."""


def paint(order: Order) -> bytes:
    """Return a PNG for the order; it takes some tens of milliseconds of processor time."""
    scene = imagine(order)
    land = settle(scene)
    rows = (_interleaved(planes) for planes in _rows(scene, land))
    return encode(scene.width, scene.height, rows)


def _rows(scene: Scene, land: Land) -> Iterator[Planes]:
    unit = scene.unit
    sky = Sky(scene, land.horizon)
    back, front = Ground(land.back, scene.width), Ground(land.front, scene.width)
    grain = Field(
        scene.rng("grain"), scene.width, [Octave(unit * 3, unit * 2, 19), Octave(2, 2, 12)]
    )
    shore = scene.height if land.shore is None else land.shore
    water = Water(scene, shore, sky.x) if shore < scene.height else None
    marks = Marks(scene, land)
    above: list[Planes] = []
    for y in range(scene.height):
        shades = grain.row(y)
        if water is not None and y >= shore:
            planes = water.row(y, above)
        else:
            planes = sky.row(y)
            if y >= back.top:
                planes = back.cover(y, planes, shades)
            above.append(planes)
        planes = marks.behind(y, planes)
        if y >= front.top:
            planes = front.cover(y, planes, shades)
        yield marks.before(y, planes)


def _interleaved(planes: Planes) -> bytes:
    row = bytearray(3 * len(planes[0]))
    row[::3], row[1::3], row[2::3] = planes
    return bytes(row)
