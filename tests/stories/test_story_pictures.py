"""Pictures: broken transfers, expired addresses, pages in place of pictures, closed sessions."""

import asyncio
import pickle
from pathlib import Path

import pytest

from fluxflex import GeneratedImage
from fluxflex.errors import DownloadError
from fluxflex.simulator import Fault, Faults, Simulator, faults
from tests.stories.stage import (
    PICTURE,
    Scene,
    Wire,
    completed,
    files_in,
    http,
    says,
    session_at,
    until,
)


def painted(count: int = 5000) -> bytes:
    """Return a picture of so many bytes, no two stretches of it alike."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(number.to_bytes(4) for number in range(count // 4))


PAINTED = painted()


def ranges(sim: Simulator) -> list[str | None]:
    """Return the Range headers of the requests for pictures, in order."""
    return [seen.headers.get("Range") for seen in sim.ledger.requests if "/files/" in seen.path]


async def fetched(script: list[Fault | None]) -> tuple[bytes, Simulator]:
    """Generate a picture, read it under these faults, and return it with the simulator."""
    async with (
        Simulator(durations=0.0, pictures=lambda _: PAINTED, faults=Faults(files=script)) as sim,
        session_at(sim.url) as session,
    ):
        image = await session.generate("a lighthouse")
        return await image.read(), sim


async def test_a_broken_transfer_is_resumed() -> None:
    """What arrived is kept, and only the rest is asked for."""
    content, sim = await fetched([faults.truncated(1000), faults.truncated(2000)])
    assert content == PAINTED
    assert ranges(sim) == [None, "bytes=1000-", "bytes=3000-"]


async def test_a_host_without_ranges_sends_it_whole() -> None:
    """A 200 in reply to a request for the rest is the whole picture, not its end."""
    content, sim = await fetched([faults.truncated(1000), faults.whole()])
    assert content == PAINTED
    assert ranges(sim) == [None, "bytes=1000-"]


async def test_a_transfer_that_lacks_only_its_end() -> None:
    """All bytes but the last: the rest is one byte long."""
    content, sim = await fetched([faults.truncated(len(PAINTED) - 1)])
    assert content == PAINTED
    assert ranges(sim) == [None, f"bytes={len(PAINTED) - 1}-"]


PARTS = {
    "another part": {"Content_Range": f"bytes 3-{len(PAINTED) - 1}/{len(PAINTED)}", "ETag": '"1"'},
    "of another picture": {
        "Content_Range": f"bytes 1000-{len(PAINTED) - 1}/{len(PAINTED)}",
        "ETag": '"2"',
    },
}


@pytest.mark.parametrize("headers", PARTS.values(), ids=PARTS)
async def test_parts_that_do_not_fit_are_never_joined(headers: dict[str, str]) -> None:
    """A part from elsewhere, or of a picture that changed meanwhile: it is fetched anew."""
    whole = http(PAINTED, kind="image/png", ETag='"2"')

    async def picture(scene: Scene) -> None:
        match len(scene.wire.pictures):
            case 1:
                first = http(PAINTED[:8] + bytes(len(PAINTED) - 8), kind="image/png", ETag='"1"')
                await scene.say(first[: 1000 - len(PAINTED)])
                scene.writer.close()
            case 2:
                await scene.say(http(PAINTED[1000:], 206, "image/png", **headers))
            case _:
                await scene.say(whole)

    async with Wire(picture=picture) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
        assert await image.read() == PAINTED
    asked = [scene.headers.get("range") for scene in wire.pictures]
    assert asked == [None, "bytes=1000-", None]


ACCIDENTS = {
    "reset": faults.reset(),
    "closed": faults.accept_then_drop(),
    "502": faults.gateway(502),
    "429": faults.rate_limited(),
    "503 with Retry-After": faults.gateway(503, retry_after=0.001),
    "nothing of the body": faults.truncated(0),
}


@pytest.mark.parametrize("fault", ACCIDENTS.values(), ids=ACCIDENTS)
async def test_accidents_on_the_way_are_survived(fault: Fault) -> None:
    """A download costs nothing, so it is repeated whatever went wrong."""
    content, sim = await fetched([fault] * 3)
    assert content == PAINTED
    assert sim.ledger.file_requests == 4


async def test_a_host_that_never_delivers_is_given_up() -> None:
    """After `attempts` failures without a byte of progress the error says where it lies."""
    with pytest.raises(DownloadError, match="502") as caught:
        await fetched([faults.gateway(502)] * 50)
    assert (caught.value.charged, caught.value.retryable) == ("yes", True)
    assert caught.value.url.endswith(f"/files/{caught.value.task_id}.png")


@pytest.mark.parametrize("status", [403, 404])
async def test_an_expired_address_is_asked_for_once_more(status: int) -> None:
    """The provider is asked where the picture lies now; a second refusal is the end."""
    content, sim = await fetched([faults.expired(status)])
    assert content == PAINTED
    assert sim.ledger.status_requests == 2
    with pytest.raises(DownloadError, match=str(status)):
        await fetched([faults.expired(status)] * 2)


async def test_a_new_address_is_used() -> None:
    """Where the provider names another address, the picture is fetched from there."""
    looks = iter(["/old.png", "/new.png"])

    async def look(scene: Scene) -> None:
        await scene.say(http(completed(scene.wire.url + next(looks))))

    async def picture(scene: Scene) -> None:
        gone = scene.target == "/old.png"
        await scene.say(http(b"", 410) if gone else http(PICTURE, kind="image/png"))

    async with Wire(look=look, picture=picture) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
        assert await image.read() == PICTURE
    assert [scene.target for scene in wire.pictures] == ["/old.png", "/new.png"]


async def test_a_page_is_no_picture(tmp_path: Path) -> None:
    """HTML under 200 is an error, and leaves no file behind."""
    async with (
        Simulator(durations=0.0, faults=Faults(files=[faults.unreadable()])) as sim,
        session_at(sim.url) as session,
    ):
        image = await session.generate("a lighthouse")
        with pytest.raises(DownloadError, match="no picture but text/html") as caught:
            await image.save(tmp_path / "deep" / "a.png")
    assert caught.value.task_id == image.task_id
    assert files_in(tmp_path) == []


async def test_a_picture_after_the_session_closed(tmp_path: Path) -> None:
    """A connection of its own fetches it, also from a pickled copy and in another loop."""
    async with Simulator(durations=0.0, pictures=lambda _: PAINTED) as sim:
        async with session_at(sim.url) as session:
            image = await session.generate("a lighthouse")
        assert await image.read() == PAINTED
        copy: GeneratedImage = pickle.loads(pickle.dumps(image))  # noqa: S301 - our own
        assert copy == image
        path = await copy.save(tmp_path)
        assert (path, path.read_bytes()) == (tmp_path / f"{image.task_id}.png", PAINTED)
        files = [seen for seen in sim.ledger.requests if "/files/" in seen.path]
    assert len(files) == 2
    assert not any(seen.authorized for seen in files)


async def test_where_a_picture_is_saved(tmp_path: Path) -> None:
    """A folder, a path without a suffix, a path with one of its own; older files are replaced."""
    async with (
        Simulator(durations=0.0, pictures=lambda _: PAINTED) as sim,
        session_at(sim.url) as session,
    ):
        image = await session.generate("a lighthouse")
        (tmp_path / "own.jpeg").write_text("older")
        paths = [
            await image.save(tmp_path),
            await image.save(str(tmp_path / "new" / "folders" / "plain")),
            await image.save(tmp_path / "own.jpeg"),
        ]
    assert paths == [
        tmp_path / f"{image.task_id}.png",
        tmp_path / "new" / "folders" / "plain.png",
        tmp_path / "own.jpeg",
    ]
    assert {path.read_bytes() for path in paths} == {PAINTED}
    assert files_in(tmp_path) == sorted(paths)


async def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A fault of this machine says so; the picture can still be had."""
    (tmp_path / "file").write_text("in the way")
    async with (
        Simulator(durations=0.0, pictures=lambda _: PAINTED) as sim,
        session_at(sim.url) as session,
    ):
        image = await session.generate("a lighthouse")
        with pytest.raises(DownloadError) as caught:
            await image.save(tmp_path / "file" / "a.png")
        assert caught.value.local
        assert await image.read() == PAINTED


async def test_no_more_downloads_at_once_than_said() -> None:
    """`downloads` bounds how many pictures are on their way."""
    go = asyncio.Event()

    async def slow(scene: Scene) -> None:
        await go.wait()
        await scene.say(http(PICTURE, kind="image/png"))

    async with Wire(picture=slow) as wire, session_at(wire.url, downloads=3) as session:
        image = await session.generate("a lighthouse")
        reads = [asyncio.create_task(image.read()) for _ in range(10)]
        await until(lambda: len(wire.pictures) == 3)
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(wire.pictures) == 3
        go.set()
        assert {await read for read in reads} == {PICTURE}


async def test_a_redirect_of_a_picture_is_followed() -> None:
    """Result hosts vary: a picture's redirect may lead to another host, a few times."""
    async with Wire() as host, Wire(picture=says(http(PICTURE, kind="image/png"))) as other:

        async def away(scene: Scene) -> None:
            await scene.say(http(b"", 302, Location=f"{other.url}/there.png?sig=a%2Fb"))

        async with (
            Wire(picture=away) as wire,
            session_at(wire.url) as session,
        ):
            image = await session.generate("a lighthouse")
            assert await image.read() == PICTURE
    assert [scene.target for scene in other.pictures] == ["/there.png?sig=a%2Fb"]
    assert host.connections == 0


async def test_redirects_in_a_circle_end() -> None:
    """A picture that is always somewhere else is given up."""

    async def round_and_round(scene: Scene) -> None:
        await scene.say(http(b"", 302, Location="/again.png"))

    async with Wire(picture=round_and_round) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
        with pytest.raises(DownloadError, match="redirects"):
            await image.read()
    assert len(wire.pictures) <= 10


PLACES = {
    "a blank": ("/a picture.png", "/a%20picture.png"),
    "letters": ("/hütte.png", "/h%C3%BCtte.png"),
    "quoted already": ("/a%20b%2Fc.png?s=%2B+x", "/a%20b%2Fc.png?s=%2B+x"),
    "a line break": ("/a\r\nX-Evil: yes\r\n\r\nb.png", None),
    "a quote": ('/a"b<c>.png', None),
}


@pytest.mark.parametrize(("path", "sent"), PLACES.values(), ids=PLACES)
async def test_an_address_is_sent_as_one_address(path: str, sent: str | None) -> None:
    """What may stand in no request line is quoted; what is quoted already stays as it is."""

    async def look(scene: Scene) -> None:
        await scene.say(http(completed(scene.wire.url + path)))

    async with Wire(look=look) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
        assert await image.read() == PICTURE
    [scene] = wire.pictures
    assert "x-evil" not in scene.headers
    assert not set(scene.target) & set(' \r\n"<>')
    assert sent is None or scene.target == sent
