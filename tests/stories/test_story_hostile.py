"""A hostile network: garbage for HTTP, ids and addresses that bite, connections that die."""

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from fluxflex import GenerationError, SubmitUncertainError, TaskState, TaskTimeoutError, Timeouts
from fluxflex.errors import DownloadError, RequestRejectedError
from fluxflex.simulator import Simulator
from tests.stories.stage import (
    PICTURE,
    STATUS,
    Play,
    Scene,
    Wire,
    accepted,
    completed,
    cut_off,
    hangs_up,
    http,
    says,
    session_at,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GARBAGE = {
    "nothing": b"",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "noise": bytes(range(256)) * 4,
    "an unknown version": b"HTTP/9.9 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a negative length": HEAD + b"Content-Length: -5\r\n\r\n{}",
    "a length in words": HEAD + b"Content-Length: five\r\n\r\n{}",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nso it goes\r\n\r\n",
    "a header of 100 kB": HEAD + b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n",
    "half a header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "chunks that are none": HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n{}",
    "a chunk without an end": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n{",
    "a chunk of all there is": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{",
    "length and chunks": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
    "gzip that is none": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "gzip of nothing": http(gzip.compress(b""), Content_Encoding="gzip"),
    "an upgrade": b"HTTP/1.1 101 Go\r\nUpgrade: irc\r\nConnection: upgrade\r\n\r\n",
    "early hints only": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    "a body without bounds": http(b'{"a": "' + b"a" * 5_000_000 + b'"}'),
    "nested too deep": http(b"[" * 100_000),
    "half a letter": http(b'{"data": {"task_id": "\xc3'),
    "not a number": http(b'{"data": {"task_id": NaN}}'),
    "half a surrogate": http(b'{"data": {"task_id": "\\ud800"}}'),
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_in_reply_to_a_submit_is_uncertain(raw: bytes) -> None:
    """Whatever comes back, it was sent once, and may have been bought."""
    async with Wire(post=hangs_up(raw)) as wire, session_at(wire.url) as session:
        with pytest.raises(SubmitUncertainError) as caught:
            await session.submit("a lighthouse")
        assert session.statistics().in_flight == 0
    assert len(wire.posts) == 1
    assert caught.value.charged == "unknown"


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_in_reply_to_a_look_is_no_news(raw: bytes) -> None:
    """The task goes on, and the next look that can be read brings its picture."""

    async def look(scene: Scene) -> None:
        if len(scene.wire.looks) < 3:
            await hangs_up(raw)(scene)
        else:
            await scene.say(http(completed(f"{scene.wire.url}/a.png")))

    async with Wire(look=look) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
        assert await image.read() == PICTURE
    assert len(wire.posts) == 1


# A picture may be longer than any JSON, and needs no JSON to be one.
NO_PICTURES = {name: raw for name, raw in GARBAGE.items() if b"{" not in raw and b"[" not in raw}


@pytest.mark.parametrize("raw", NO_PICTURES.values(), ids=NO_PICTURES)
async def test_garbage_in_place_of_a_picture(raw: bytes) -> None:
    """It ends as a picture after another try or as a `DownloadError`, and as nothing else."""

    async def picture(scene: Scene) -> None:
        if len(scene.wire.pictures) < 3:
            await hangs_up(raw)(scene)
        else:
            await scene.say(http(PICTURE, kind="image/png"))

    async with Wire(picture=picture) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
        try:
            assert await image.read() == PICTURE
        except DownloadError as error:
            assert error.task_id == "t-1"  # noqa: PT017 - either end will do


HINTS = {
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "102 twice": b"HTTP/1.1 102 Processing\r\n\r\n" * 2,
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
}


@pytest.mark.parametrize("hint", HINTS.values(), ids=HINTS)
async def test_hints_before_the_reply_are_passed_over(hint: bytes) -> None:
    """A 1xx is no reply; the one after it counts."""
    async with Wire(post=says(hint + http(accepted()))) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
    assert image.task_id == "t-1"
    assert len(wire.posts) == 1


# -- connections ---------------------------------------------------------------------------------


async def test_a_connection_closed_between_two_submits() -> None:
    """A connection that died while idle is not used again: the second submit takes a new one."""
    dead = asyncio.Event()

    async def accept_and_leave(scene: Scene) -> None:
        await scene.say(http(accepted(f"t-{len(scene.wire.posts)}")))
        if len(scene.wire.posts) == 1:
            scene.writer.write_eof()
            await scene.gone()
            dead.set()

    async with Wire(post=accept_and_leave) as wire, session_at(wire.url) as session:
        first = await session.submit("a")
        await dead.wait()
        second = await session.submit("b")
    assert [first.task_id, second.task_id] == ["t-1", "t-2"]
    assert len(wire.posts) == 2


async def test_a_connection_closed_on_the_second_submit() -> None:
    """A kept connection that dies under a POST is uncertain: no library beneath repeats it."""
    ports = []

    async def second_dies(scene: Scene) -> None:
        ports.append(scene.writer.get_extra_info("peername"))
        if len(scene.wire.posts) == 1:
            await scene.say(http({"code": 422, "data": {"message": "no"}}, 422))
        else:
            scene.writer.close()

    async with Wire(post=second_dies) as wire, session_at(wire.url) as session:
        with pytest.raises(RequestRejectedError):
            await session.submit("a")
        with pytest.raises(SubmitUncertainError):
            await session.submit("b")
    assert len(wire.posts) == 2
    assert len(set(ports)) == 1


async def test_a_reply_before_the_body_was_read() -> None:
    """A server may answer on the headers alone; its answer counts."""
    prompt = "a lighthouse " * 75_000

    async def early(scene: Scene) -> None:
        await scene.say(http(accepted()))
        await scene.reader.readexactly(int(scene.headers["content-length"]))

    async with Wire(post=early, reads=False) as wire, session_at(wire.url) as session:
        image = await session.generate(prompt)
    assert image.task_id == "t-1"
    assert len(wire.posts) == 1


async def test_a_body_that_drips_is_cut_off() -> None:
    """One byte now and then does not keep an exchange alive beyond `Timeouts.request`."""
    cut = asyncio.Event()

    async def drip(scene: Scene) -> None:
        await scene.say(HEAD + b"Content-Length: 1000\r\n\r\n{")
        try:
            while True:
                await scene.say(b" ")
                await asyncio.wait_for(scene.reader.read(1), 0.002)
                break
        except (TimeoutError, ConnectionError):
            pass
        await scene.gone()
        cut.set()

    async with (
        Wire(post=drip) as wire,
        session_at(wire.url, timeout=Timeouts(request=0.05)) as session,
    ):
        with pytest.raises(SubmitUncertainError):
            await session.submit("a lighthouse")
        await cut.wait()
    assert len(wire.posts) == 1


async def test_an_id_in_a_body_that_never_ends_is_followed() -> None:
    """What arrived until the time was up is read: the whole id is in it."""
    said = asyncio.Event()

    async def stall(scene: Scene) -> None:
        await scene.say(HEAD + b"Content-Length: 1000\r\n\r\n" + json.dumps(accepted()).encode())
        said.set()
        await scene.gone()

    async with Wire(post=stall) as wire, session_at(wire.url) as session:
        submitting = asyncio.create_task(session.submit("a lighthouse"))
        await cut_off(session, said)
        handle = await submitting
        await session.aclose(drain=0)
    assert handle.task_id == "t-1"
    assert len(wire.posts) == 1


async def test_a_second_reply_that_nobody_asked_for() -> None:
    """Bytes behind a reply are not taken for the reply to the next request."""

    async def twice(scene: Scene) -> None:
        number = len(scene.wire.posts)
        await scene.say(http(accepted(f"t-{number}")) + http(accepted("smuggled")))

    async with Wire(post=twice) as wire, session_at(wire.url) as session:
        handles = [await session.submit(prompt) for prompt in ("a", "b", "c")]
    assert [handle.task_id for handle in handles] == ["t-1", "t-2", "t-3"]


async def test_old_http_is_understood() -> None:
    """HTTP/1.0 without a length: the body ends with the connection."""
    old = b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(accepted()).encode()
    async with Wire(post=hangs_up(old)) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
    assert image.task_id == "t-1"
    assert len(wire.posts) == 1


async def test_a_compressed_reply_is_read() -> None:
    """Gateways compress."""
    body = gzip.compress(json.dumps(accepted()).encode())
    reply = http(body, Content_Encoding="gzip")
    async with Wire(post=says(reply)) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
    assert image.task_id == "t-1"


# -- ids -----------------------------------------------------------------------------------------

IDS: dict[str, object] = {
    "slashes": "a/../../account",
    "a query": "a?b=c#d",
    "percent signs": "100%2F%zz",
    "letters": "tâche-№ 1 🎨",
    "blanks": "a b\tc",
    "a line break": "a\r\nX-Evil: yes",
    "quotes": "a\"b'c\\d",
    "500 characters": "x" * 500,
    "512 characters": "é" * 512,
    "a number": 12345678901234567890123,
    "dots": "..",
    "a zero byte": "a\x00b",
}


@pytest.mark.parametrize("given", IDS.values(), ids=IDS)
async def test_an_id_is_any_text(given: object, tmp_path: Path) -> None:
    """It is asked for quoted as one part of the path, and its picture gets a file in the folder."""
    task_id = str(given)
    async with (
        Wire(post=says(http(accepted(given)))) as wire,
        session_at(wire.url) as session,
    ):
        image = await session.generate("a lighthouse")
        path = await image.save(tmp_path)
    assert image.task_id == task_id
    assert path.parent == tmp_path
    assert path.read_bytes() == PICTURE
    [look] = wire.looks
    quoted = look.target.removeprefix(STATUS)
    assert look.target.startswith(STATUS)
    assert quoted.isascii()
    assert not set(quoted) & set("/?# \r\n")
    assert "x-evil" not in look.headers


NO_IDS: dict[str, object] = {
    "null": None,
    "empty": "",
    "blank": "  ",
    "true": True,
    "a list": ["t-1"],
    "an object": {"id": "t-1"},
    "a fraction": 1.5,
    "a book": "x" * 513,
}


@pytest.mark.parametrize("given", NO_IDS.values(), ids=NO_IDS)
async def test_what_is_no_id_is_uncertain(given: object) -> None:
    """A 200 whose task cannot be named may have been bought, and is not sent again."""
    async with (
        Wire(post=says(http(accepted(given)))) as wire,
        session_at(wire.url) as session,
    ):
        with pytest.raises(SubmitUncertainError):
            await session.submit("a lighthouse")
    assert len(wire.posts) == 1


async def test_pictures_of_ids_that_look_alike_are_kept_apart(tmp_path: Path) -> None:
    """Two tasks never share a file, whatever in their ids is no name for one."""
    ids = ["a/b", "a_b", "a b", "x" * 150 + "1", "x" * 150 + "2", ".a", "a", "/", "//"]
    given = iter(ids)

    async def accept(scene: Scene) -> None:
        await scene.say(http(accepted(next(given))))

    async def own(scene: Scene) -> None:
        await scene.say(http(PICTURE + scene.target.encode(), kind="image/png"))

    async def look(scene: Scene) -> None:
        await scene.say(http(completed(f"{scene.wire.url}/{len(scene.wire.looks)}.png", None)))

    async with (
        Wire(post=accept, look=look, picture=own) as wire,
        session_at(wire.url, concurrency=1) as session,
    ):
        outcomes = await session.map(map(str, range(len(ids))), save_to=tmp_path).collect()
    contents = [outcome.path.read_bytes() for outcome in outcomes if outcome.path]
    assert contents == [PICTURE + f"/{number}.png".encode() for number in range(1, len(ids) + 1)]
    assert outcomes[6].path == tmp_path / "a.png"


async def test_an_id_that_is_given_twice() -> None:
    """A provider that repeats an id confuses nobody: both submits end, each counted once."""
    async with Wire() as wire, session_at(wire.url) as session:
        images = await asyncio.gather(session.generate("a"), session.generate("b"))
        after = session.statistics()
    assert [image.task_id for image in images] == ["t-1", "t-1"]
    assert (after.accepted, after.completed, after.in_flight) == (2, 2, 0)
    assert len(wire.posts) == 2


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_look_that_tells_of_another_task_is_no_news(status: str) -> None:
    """Somebody else's picture, or failure, is not ours: the task goes on."""

    async def look(scene: Scene) -> None:
        other, ours = (f"{scene.wire.url}/{name}.png" for name in ("other", "ours"))
        mixed_up = len(scene.wire.looks) < 3
        body = completed(other, "t-2") if mixed_up else completed(ours)
        if mixed_up and status == "failed":
            body = {"code": 400, "data": {"task_id": "t-2", "status": "failed", "message": "no"}}
        await scene.say(http(body))

    async with Wire(look=look) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
    assert image.url == f"{wire.url}/ours.png"
    assert image.task_id == "t-1"
    assert len(wire.looks) == 3


# -- addresses of pictures -----------------------------------------------------------------------

NO_URLS: dict[str, object] = {
    "null": None,
    "empty": "",
    "a number": 5,
    "an object": {"url": "http://127.0.0.1/a.png"},
    "a file": "file:///etc/passwd",
    "a script": "javascript:alert(1)",
    "data": "data:image/png;base64,iVBORw0KGgo=",
    "no scheme": "//127.0.0.1/a.png",
    "a path": "/a.png",
}


@pytest.mark.parametrize("given", NO_URLS.values(), ids=NO_URLS)
async def test_completed_without_an_address_is_failed(given: object) -> None:
    """A completed task without a picture that can be fetched is told as failed, with its id."""
    async with Wire(look=says(http(completed(given)))) as wire, session_at(wire.url) as session:
        handle = await session.submit("a lighthouse")
        with pytest.raises(GenerationError) as caught:
            await handle
    assert (caught.value.code, caught.value.task_id) == ("no_image", "t-1")
    assert handle.state is TaskState.FAILED


async def test_good_addresses_are_found_among_bad_ones() -> None:
    """What is no address in `image_urls` is passed over; the others keep their order."""

    async def look(scene: Scene) -> None:
        good = [f"{scene.wire.url}/{name}.png" for name in "abc"]
        odd: list[object] = [None, 5, {"url": good[1]}, "ftp://x/a.png", []]
        urls = [*odd, good[0], *odd, good[1], good[0], *odd, good[2]]
        body = {"data": {"status": "completed", "output": {"image_urls": urls}}}
        await scene.say(http(body))

    async with Wire(look=look) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
        assert await image.read() == PICTURE
    assert image.urls == tuple(f"{wire.url}/{name}.png" for name in "abc")


BAD_URLS = {
    "no host": "http://",
    "a broken address": "http://[::1/a.png",
    "a port beyond ports": "http://127.0.0.1:99999/a.png",
    "a port in words": "http://127.0.0.1:http/a.png",
}


@pytest.mark.parametrize("given", BAD_URLS.values(), ids=BAD_URLS)
async def test_an_address_that_leads_nowhere_is_a_download_error(given: str) -> None:
    """The task is completed; its picture cannot be fetched, and the error says where it lies."""
    reply = http(completed(given))
    async with Wire(look=says(reply)) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
        with pytest.raises(DownloadError) as caught:
            await image.read()
    assert caught.value.url == given


# -- what looks say ------------------------------------------------------------------------------


def _looks(*bodies: object) -> Play:
    """Answer looks with these bodies, then with the picture."""
    left = list(bodies)

    async def look(scene: Scene) -> None:
        body = left.pop(0) if left else completed(f"{scene.wire.url}/a.png")
        await scene.say(http(json.dumps(body).encode()))

    return look


async def test_odd_words_mean_still_running() -> None:
    """Every word that is not known, and every shape that is none, is no end."""
    odd: list[object] = [
        [],
        "completed",
        None,
        5,
        {},
        {"data": None},
        {"data": []},
        {"data": {"status": "upscaling"}},
        {"data": {"status": "x" * 100_000}},
        {"data": {"status": 5, "output": 5}},
        {"data": {"status": None, "output": None}},
        {"data": {"status": ["failed"]}},
        {"status": "pending", "data": {"output": {"image_url": None}}},
        {"code": "200", "data": {"status": "processing"}},
        {"code": 500, "data": {"code": "internal_error", "message": "try later"}},
    ]
    async with Wire(look=_looks(*odd)) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
    assert image.task_id == "t-1"
    assert len(wire.looks) == len(odd) + 1


async def test_reference_pictures_are_not_results() -> None:
    """A body that repeats the request's own pictures does not complete the task with them."""
    echo = {
        "data": {
            "status": "processing",
            "image_urls": ["http://127.0.0.1/reference.png"],
            "input": {"image_url": "http://127.0.0.1/reference.png"},
        }
    }
    async with Wire(look=_looks(echo)) as wire, session_at(wire.url) as session:
        image = await session.generate("b", image_urls=["http://127.0.0.1/reference.png"])
    assert image.urls == (f"{wire.url}/a.png",)


async def test_a_server_that_never_says_anything_ends_at_the_deadline() -> None:
    """Garbage for ever is no reason to poll for ever: the task times out with its id."""
    async with (
        Wire(look=says(http({"data": {"status": "dreaming"}}))) as wire,
        session_at(wire.url, timeout=0.02) as session,
    ):
        with pytest.raises(TaskTimeoutError) as caught:
            await session.generate("a lighthouse")
    assert (caught.value.task_id, caught.value.charged) == ("t-1", "yes")


async def test_the_wire_itself_keeps_the_contract() -> None:
    """The well-behaved half of these stories is the simulator's way, so that they compare."""
    async with (
        Simulator(durations=0.0) as sim,
        Wire() as wire,
        session_at(sim.url) as one,
        session_at(wire.url) as other,
    ):
        images = [await one.generate("a"), await other.generate("a")]
    assert len({(image.request, image.cost) for image in images}) == 1
