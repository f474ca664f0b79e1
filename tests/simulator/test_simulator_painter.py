"""The pictures: real PNGs, different for every order and the same for the same one."""

import struct
import zlib
from random import Random

import attrs
import pytest

from fluxflex.simulator import paint
from fluxflex.simulator.contract import Order
from fluxflex.simulator.painting.noise import Field, Octave, bell, profile
from fluxflex.simulator.painting.png import encode
from fluxflex.simulator.painting.scenery import imagine


@attrs.frozen
class Decoded:
    """A PNG taken apart."""

    width: int
    height: int
    rows: list[bytes]


def decoded(png: bytes) -> Decoded:
    """Take a PNG apart, checking every chunk's sum."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = [], 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        (crc,) = struct.unpack(">I", png[at + 8 + size : at + 12 + size])
        assert crc == zlib.crc32(kind + data)
        chunks.append((kind, data))
        at += 12 + size
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *form = struct.unpack(">IIBBBBB", chunks[0][1])
    assert form == [8, 2, 0, 0, 0]
    raw, line = zlib.decompress(chunks[1][1]), 3 * width + 1
    assert len(raw) == line * height
    rows, above = [], bytes(3 * width)
    for y in range(height):
        assert raw[y * line] == 2
        here = raw[y * line + 1 : (y + 1) * line]
        above = bytes((a + b) & 255 for a, b in zip(here, above, strict=True))
        rows.append(above)
    return Decoded(width, height, rows)


def rng() -> Random:
    """Give the same chance to every test."""
    return Random(1)  # noqa: S311 - noise, not secrets


def test_an_encoded_picture_decodes_to_its_rows() -> None:
    """Filter and compression lose nothing, whatever the bytes."""
    chance = rng()
    rows = [chance.randbytes(21) for _ in range(9)] + [b"\x00" * 21, b"\xff" * 21, b"\x00" * 21]
    assert decoded(encode(7, 12, rows)) == Decoded(7, 12, rows)


@pytest.mark.parametrize(
    "prompt",
    [
        "a lighthouse in fog",
        "a lighthouse and a ship on a starry night",
        "a red bicycle in the rain",
        "city skyline at night",
        "a forest in the morning mist",
        "a lake under the aurora",
        "dunes of mars",
        "a snowy village in winter",
        "islands at sunset",
        "green hills, birds, spring",
        "mountains at dusk",
        "a sunny sea",
        "mountains in the rain",
    ],
)
def test_every_place_and_weather_is_a_valid_png(prompt: str) -> None:
    """A picture decodes, has its size, and is more than one colour."""
    picture = decoded(paint(Order(prompt)))
    assert (picture.width, picture.height) == (360, 360)
    assert len(set(picture.rows)) > 100
    assert len(set(zip(*[iter(picture.rows[200])] * 3, strict=True))) > 5


def test_the_same_order_gives_the_same_bytes() -> None:
    """A picture depends on its order only; where the callback goes is no matter of taste."""
    order = Order("a fox", steps=20)
    again = attrs.evolve(order, callback_url="https://example.com/hook")
    assert paint(order) == paint(again)


def test_different_orders_give_different_pictures() -> None:
    """Prompt, ratio, quality, steps, strength and references each make another picture."""
    order = Order("a fox")
    others = [
        Order("a fox."),
        Order("a fox", aspect_ratio="16:9"),
        Order("a fox", quality="2K"),
        Order("a fox", steps=20),
        Order("a fox", cfg=2.0),
        Order("a fox", image_urls=("https://example.com/a",)),
    ]
    assert len({paint(each) for each in [order, *others]}) == 7


@pytest.mark.parametrize(
    "ratio", ["auto", "1:1", "4:3", "16:9", "3:2", "2:3", "9:16", "3:4", "21:9"]
)
def test_the_aspect_ratio_is_kept_exactly(ratio: str) -> None:
    """Width and height are as the order says, and 2K has more pixels than 1K."""
    across, down = (1, 1) if ratio == "auto" else map(int, ratio.split(":"))
    small = imagine(Order("p", aspect_ratio=ratio))
    large = imagine(Order("p", aspect_ratio=ratio, quality="2K"))
    assert small.width * down == small.height * across
    assert large.width * down == large.height * across
    assert large.width * large.height > 1.5 * small.width * small.height


def test_a_wide_picture_is_as_wide_as_imagined() -> None:
    """What is imagined is what is painted."""
    order = Order("p", aspect_ratio="16:9", quality="2K")
    scene, picture = imagine(order), decoded(paint(order))
    assert (picture.width, picture.height) == (scene.width, scene.height)


@pytest.mark.parametrize(
    ("prompt", "place", "weather"),
    [
        ("a lighthouse in FOG", "sea", "fog"),
        ("misty mountains", "mountains", "fog"),
        ("a city in the rain", "city", "rain"),
        ("Trees, snow", "forest", "snow"),
        ("desert under an aurora", "dunes", "aurora"),
        ("a clear lake", "lake", "clear"),
    ],
)
def test_words_are_heeded(prompt: str, place: str, weather: str) -> None:
    """Known words choose the place and the weather, in any case and in longer forms."""
    scene = imagine(Order(prompt))
    assert (scene.place, scene.weather) == (place, weather)


def test_a_word_within_a_word_is_none() -> None:
    """A season is no sea."""
    places = {imagine(Order(f"season of art {n}")).place for n in range(40)}
    assert len(places) > 3


def test_noise_stays_in_its_bounds() -> None:
    """Profiles lie between 0 and 1, rows of a field between 0 and the sum of its peaks."""
    heights = profile(rng(), 200, 40, 5)
    assert len(heights) == 200
    assert 0 <= min(heights) < max(heights) <= 1
    field = Field(rng(), 200, [Octave(20, 9, 155), Octave(3, 2, 100)])
    rows = [field.row(y / 2) for y in range(300)]
    assert all(len(row) == 200 for row in rows)
    assert field.row(7.5) == rows[15]
    assert len(set(rows)) > 250


def test_a_bell_is_highest_in_its_middle() -> None:
    """The curve falls on both sides."""
    curve = bell(101, 50, 10)
    assert curve[50] == 255
    assert curve[40] == curve[60] < curve[45] == curve[55]
    assert curve[0] == curve[100] == 0
