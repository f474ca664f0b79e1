"""The file host: whole pictures, parts of them, and who paints when."""

import asyncio
import threading

import pytest

from fluxflex.simulator import Simulator
from fluxflex.simulator.contract import Order
from fluxflex.simulator.files import Gallery, served
from tests.simulator.simulator_client import Client, Clock, plain_client, standing_clock

client = plain_client
clock = standing_clock

PICTURE = bytes(range(100))


@pytest.mark.parametrize(
    ("asked", "status", "part", "content_range"),
    [
        ("", 200, PICTURE, None),
        ("bytes=0-9", 206, PICTURE[:10], "bytes 0-9/100"),
        ("bytes=90-", 206, PICTURE[90:], "bytes 90-99/100"),
        ("bytes=-5", 206, PICTURE[95:], "bytes 95-99/100"),
        ("bytes=-500", 206, PICTURE, "bytes 0-99/100"),
        ("bytes=50-500", 206, PICTURE[50:], "bytes 50-99/100"),
        ("bytes=99-99", 206, PICTURE[99:], "bytes 99-99/100"),
        ("bytes=100-", 416, b"", "bytes */100"),
        ("bytes=-0", 416, b"", "bytes */100"),
        ("bytes=-", 200, PICTURE, None),
        ("bytes=9-3", 200, PICTURE, None),
        ("bytes=0-1,5-6", 200, PICTURE, None),
        ("pages=1-2", 200, PICTURE, None),
    ],
)
def test_ranges(asked: str, status: int, part: bytes, content_range: str | None) -> None:
    """One satisfiable range gives 206, one beyond the end 416, and what is no range the whole."""
    reply = served(PICTURE, {"Range": asked})
    assert (reply.status, reply.body) == (status, part)
    assert reply.headers.get("Content-Range") == content_range


def test_a_range_of_another_version_is_not_served() -> None:
    """If-Range with another ETag gives the whole picture."""
    etag = served(PICTURE, {}).headers["ETag"]
    assert served(PICTURE, {"Range": "bytes=0-9", "If-Range": etag}).status == 206
    assert served(PICTURE, {"Range": "bytes=0-9", "If-Range": '"other"'}).status == 200


async def test_a_finished_task_has_a_picture(client: Client) -> None:
    """No key is needed; type, length and ranges are those of a file host."""
    async with Simulator(durations=0.0, pictures=lambda _: PICTURE) as sim:
        task_id = await client.accepted(sim)
        url = (await client.look(sim, task_id)).json["data"]["output"]["image_url"]
        whole = await client.ask("GET", url, key=None)
        head = await client.ask("HEAD", url, key=None)
        part = await client.ask("GET", url, key=None, headers={"Range": "bytes=10-19"})
        beyond = await client.ask("GET", url, key=None, headers={"Range": "bytes=100-"})
    assert (whole.status, whole.body) == (200, PICTURE)
    assert whole.headers["Content-Type"] == "image/png"
    assert whole.headers["Content-Length"] == "100"
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "100")
    assert (part.status, part.body) == (206, PICTURE[10:20])
    assert part.headers["Content-Range"] == "bytes 10-19/100"
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, "bytes */100")
    assert not any(seen.authorized for seen in sim.ledger.requests if "/files/" in seen.path)


async def test_there_is_no_picture_before_the_end_nor_of_a_failure(
    client: Client, clock: Clock
) -> None:
    """Running, failed and unknown tasks have no file."""
    async with Simulator(durations=1, clock=clock, forbidden_words=["gun"]) as sim:
        running, failing = await client.accepted(sim), await client.accepted(sim, "gun")
        paths = [f"{sim.url}/files/{task}.png" for task in (running, failing, "unknown")]
        before = [(await client.ask("GET", path)).status for path in paths]
        clock.now = 1.0
        after = [(await client.ask("GET", path)).status for path in paths]
    assert before == [404, 404, 404]
    assert after == [200, 404, 404]


async def test_pictures_may_live_on_another_host(client: Client) -> None:
    """`files_host` makes image URLs of another origin, so that a leaking key can be seen."""
    async with Simulator(durations=0.0, files_host="localhost", pictures=lambda _: PICTURE) as sim:
        task_id = await client.accepted(sim)
        url = (await client.look(sim, task_id)).json["data"]["output"]["image_url"]
        port = sim.url.rpartition(":")[2]
        assert url == f"http://localhost:{port}/files/{task_id}.png"
        await client.ask("GET", url, key=None)
        assert sim.ledger.keys_at(f"localhost:{port}") == frozenset()
        await client.ask("GET", url)
        assert len(sim.ledger.keys_at(f"localhost:{port}")) == 1


async def test_the_real_painter_is_the_default(client: Client) -> None:
    """What a user downloads is a PNG of the prompt, the same every time."""
    async with Simulator(durations=0.0) as sim:
        task_id = await client.accepted(sim, "a lighthouse in fog", aspect_ratio="16:9")
        url = f"{sim.url}/files/{task_id}.png"
        first, second = await client.ask("GET", url), await client.ask("GET", url)
    assert first.body.startswith(b"\x89PNG\r\n\x1a\n")
    assert first.body == second.body


async def test_a_picture_is_painted_once_for_all_who_ask() -> None:
    """Askers at the same time share one painting, and the latest pictures are kept."""
    painted: list[str] = []

    def paint(order: Order) -> bytes:
        painted.append(order.prompt)
        return order.prompt.encode()

    gallery = Gallery(paint, keep=2)
    both = await asyncio.gather(*(gallery.picture("a", Order("a")) for _ in range(2)))
    assert both == [b"a", b"a"]
    for name in ("b", "a", "c", "a", "b"):
        assert await gallery.picture(name, Order(name)) == name.encode()
    assert painted == ["a", "b", "c", "b"]


async def test_who_goes_away_does_not_take_the_picture_along() -> None:
    """Cancelling one asker leaves the painting to the other."""
    go = threading.Event()

    def paint(_order: Order) -> bytes:
        assert go.wait(5)
        return b"done"

    gallery = Gallery(paint)
    first = asyncio.create_task(gallery.picture("a", Order("a")))
    second = asyncio.create_task(gallery.picture("a", Order("a")))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    go.set()
    assert await second == b"done"


async def test_a_closed_gallery_waits_for_no_painter_and_paints_again() -> None:
    """Closing gives up what is being painted; the next asker starts anew."""
    go = threading.Event()
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def paint(_order: Order) -> bytes:
        loop.call_soon_threadsafe(started.set)
        assert go.wait(5)
        return b"done"

    gallery = Gallery(paint)
    asked = asyncio.create_task(gallery.picture("a", Order("a")))
    await started.wait()
    await gallery.close()
    await asyncio.wait([asked])
    assert asked.cancelled()
    go.set()
    assert await gallery.picture("a", Order("a")) == b"done"


async def test_it_stops_while_a_picture_is_painted(client: Client) -> None:
    """A painter at work delays no stop."""
    go = threading.Event()
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def paint(_order: Order) -> bytes:
        loop.call_soon_threadsafe(started.set)
        go.wait(5)
        return b""

    async with Simulator(durations=0.0, pictures=paint) as sim:
        task_id = await client.accepted(sim)
        asked = asyncio.create_task(client.ask("GET", f"{sim.url}/files/{task_id}.png"))
        await started.wait()
    await asyncio.wait([asked])
    assert asked.exception() is not None
    go.set()
