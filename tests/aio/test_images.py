"""Pictures: fetched whatever the wire does to them, and on disk whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from fluxflex import FixedPolling, GeneratedImage, GenerateRequest, RetryPolicy, Session
from fluxflex._aio import images
from fluxflex._aio.pictures import file_stem, suffix_of
from fluxflex._core.exchange import Call, Redirects, Reply
from fluxflex.errors import DownloadError
from fluxflex.simulator import Simulator
from tests.aio.fakes import (
    BASE,
    HANG,
    HOPELESS,
    KEY,
    NEVER_SENT,
    PNG,
    SENT,
    FakeSession,
    FakeTransport,
    Got,
    Late,
    completed,
    page,
    picture,
    refused,
)
from tests.aio.rawserver import Arrived, bytes_of, saying, serve

REST = PNG[20:]
# On real sockets there is nothing to wait for.
AT_ONCE = FixedPolling(0.001)


def cut(content: bytes, **headers: str) -> Reply:
    """Return a reply whose body breaks off after these bytes."""
    return Reply(status=200, headers=headers, body=content, complete=False)


def part(content: bytes, start: int, total: int | str, *, complete: bool = True) -> Reply:
    """Return a 206."""
    last = start + len(content) - 1
    headers = {"content-range": f"bytes {start}-{last}/{total}", "etag": '"v1"'}
    return Reply(status=206, headers=headers, body=content, complete=complete)


async def read(fake: FakeTransport, **settings: object) -> bytes:
    """Generate a picture and fetch it."""
    async with FakeSession(fake, **settings) as session:
        return await (await session.generate("a")).read()


def files(fake: FakeTransport) -> list[Call]:
    """Return the requests for pictures."""
    return [seen.call for seen in fake.seen if seen.kind == "file"]


# -- by the first bytes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "suffix"),
    [
        (b"\x89PNG\r\n\x1a\n", ".png"),
        (b"\xff\xd8\xff\xe0", ".jpg"),
        (b"GIF89a", ".gif"),
        (b"BM\x00\x00", ".bmp"),
        (b"II*\x00", ".tiff"),
        (b"MM\x00*", ".tiff"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", ".webp"),
        (b"\x00\x00\x00\x20ftypavif", ".avif"),
        (b"\x00\x00\x00\x20ftypavis", ".avif"),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"\x00\x00\x00\x20ftypmp42", None),
        (b"<html>", None),
        (b'{"error": "expired"}', None),
        (b"\x89PNG", None),
        (b"", None),
    ],
)
def test_pictures_are_known_by_their_first_bytes(start: bytes, suffix: str | None) -> None:
    """Neither headers nor names are believed."""
    assert suffix_of(start) == suffix


# -- fetching ------------------------------------------------------------------------------------


@pytest.mark.looptime(start=0)
class TestFetching:
    """Downloads with a fake transport, in virtual time."""

    async def test_the_bytes_are_the_providers(self) -> None:
        """Unkeyed, unpacked by nobody, from wherever redirects lead."""
        fake = FakeTransport()
        assert await read(fake) == PNG
        (call,) = files(fake)
        assert (call.method, call.url) == ("GET", "http://files.test/t1.png")
        assert (call.keyed, call.redirects) == (False, Redirects.ANY)
        assert call.headers == {"accept-encoding": "identity"}

    @pytest.mark.parametrize(
        "step",
        [NEVER_SENT, SENT, HANG, page(500), page(503), page(429), refused(416), cut(b"")],
        ids=repr,
    )
    async def test_what_went_wrong_is_asked_for_again(self, step: Got | Late) -> None:
        """Four times it fails, the fifth it comes."""
        fake = FakeTransport().script("file", *[step] * 4)
        assert await read(fake) == PNG
        assert len(files(fake)) == 5

    async def test_the_pauses_grow(self) -> None:
        """As for every call."""
        fake = FakeTransport().script("file", *[page(500)] * 4)
        await read(fake)
        first, *times = fake.times("file")
        assert [round(at - first, 6) for at in times] == [0.5, 1.5, 3.5, 7.5]

    async def test_it_ends_after_the_attempts(self) -> None:
        """The error says what went wrong last, and keeps the id and the URL."""
        fake = FakeTransport().rule("file", lambda _: page(500))
        with pytest.raises(DownloadError, match="HTTP 500") as caught:
            await read(fake, retry=RetryPolicy(attempts=3))
        error = caught.value
        assert (error.task_id, error.url) == ("t1", "http://files.test/t1.png")
        assert (error.charged, error.local) == ("yes", False)
        assert len(files(fake)) == 3

    @pytest.mark.parametrize(
        "step", [HOPELESS, page(401), refused(400), Reply(status=302), Reply(status=204)]
    )
    async def test_what_cannot_be_helped_ends_at_once(self, step: Got) -> None:
        """A certificate, a refusal, a redirect that is not followed."""
        fake = FakeTransport().script("file", step)
        with pytest.raises(DownloadError):
            await read(fake)
        assert len(files(fake)) == 1

    async def test_a_retry_after_is_kept(self) -> None:
        """Seconds or a date, as the host asks for, within reason."""
        fake = FakeTransport().script("file", page(503, retry_after="7"))
        fake.script("file", page(429, retry_after="Sun, 06 Nov 1994 08:49:37 GMT"))
        fake.script("file", page(503, retry_after="86400"))
        await read(fake)
        first, second, third, fourth = fake.times("file")
        assert second - first == 7
        assert round(third - second, 6) == 1.0, "a date that has passed asks for nothing"
        assert round(fourth - third, 6) == 60

    async def test_no_picture_is_an_error(self) -> None:
        """A page under a picture's URL is not saved as one."""
        fake = FakeTransport().script("file", page(200))
        with pytest.raises(DownloadError, match="no picture but text/html"):
            await read(fake)
        assert len(files(fake)) == 1

    async def test_at_most_so_many_at_once(self) -> None:
        """Downloads have a lane of their own."""
        fake = FakeTransport(latency=1)
        async with FakeSession(fake, downloads=3) as session:
            image = await session.generate("a")
            await asyncio.gather(*(image.read() for _ in range(9)))
        assert fake.most["file"] == 3
        assert len(files(fake)) == 9

    async def test_a_cancelled_download_frees_its_lane(self) -> None:
        """The next one gets it."""
        fake = FakeTransport().script("file", HANG)
        async with FakeSession(fake, downloads=1) as session:
            image = await session.generate("a")
            reading = asyncio.create_task(image.read())
            await asyncio.sleep(1)
            reading.cancel()
            assert await image.read() == PNG


@pytest.mark.looptime(start=0)
class TestResuming:
    """Transfers that break off."""

    async def test_the_rest_is_asked_for(self) -> None:
        """What did arrive is kept, and asked on from there, if it is still the same file."""
        fake = FakeTransport().script("file", cut(PNG[:20], etag='"v1"'), part(REST, 20, len(PNG)))
        assert await read(fake) == PNG
        first, second = files(fake)
        assert "range" not in first.headers
        assert second.headers["range"] == "bytes=20-"
        assert second.headers["if-range"] == '"v1"'

    async def test_without_an_etag_there_is_no_condition(self) -> None:
        """Not every host names versions."""
        fake = FakeTransport().script("file", cut(PNG[:20]), part(REST, 20, len(PNG)))
        assert await read(fake) == PNG
        assert "if-range" not in files(fake)[1].headers

    async def test_progress_does_not_use_up_the_attempts(self) -> None:
        """A host that gives a few bytes at a time is borne with."""
        steps: list[Got] = [cut(PNG[:2], etag='"v1"')]
        steps += [part(PNG[n : n + 2], n, len(PNG), complete=False) for n in range(2, 60, 2)]
        fake = FakeTransport().script("file", *steps, part(PNG[60:], 60, len(PNG)))
        assert await read(fake) == PNG
        assert len(files(fake)) == 31

    async def test_but_not_for_ever(self) -> None:
        """Fifty requests for one picture are enough."""
        big = PNG + bytes(1000)
        fake = FakeTransport()

        def drip(call: Call) -> Reply:
            start = int(call.headers.get("range", "bytes=0-")[6:-1])
            return part(big[start : start + 1], start, len(big), complete=False)

        with pytest.raises(DownloadError, match="broke off"):
            await read(fake.rule("file", drip))
        assert len(files(fake)) == 50

    async def test_a_whole_picture_instead_of_the_rest_starts_over(self) -> None:
        """200 means: from the start, whatever was asked."""
        other = PNG + b"another version"
        fake = FakeTransport().script("file", cut(PNG[:20], etag='"v1"'), picture(other))
        assert await read(fake) == other

    async def test_a_range_that_cannot_be_starts_over(self) -> None:
        """416: what we have is not a part of what is there."""
        fake = FakeTransport().script("file", cut(PNG[:20]), Reply(status=416))
        assert await read(fake) == PNG
        assert "range" not in files(fake)[2].headers

    @pytest.mark.parametrize(
        "wrong",
        [
            part(PNG[10:], 10, len(PNG)),
            part(PNG[30:], 30, len(PNG)),
            Reply(status=206, body=REST),
            Reply(status=206, headers={"content-range": "bytes */99"}, body=REST),
        ],
        ids=["before", "behind", "nowhere", "nonsense"],
    )
    async def test_a_part_that_does_not_fit_is_not_put_together(self, wrong: Reply) -> None:
        """The wrong bytes never become a picture: it starts over."""
        fake = FakeTransport().script("file", cut(PNG[:20]), wrong)
        assert await read(fake) == PNG
        assert "range" not in files(fake)[2].headers

    async def test_a_part_without_its_total_is_not_whole(self) -> None:
        """Whether more follows is not known: the rest is asked for."""
        fake = FakeTransport().script("file", cut(PNG[:20]), part(PNG[20:40], 20, "*"))
        fake.script("file", part(PNG[40:], 40, len(PNG)))
        assert await read(fake) == PNG

    async def test_a_part_nobody_asked_for_is_completed(self) -> None:
        """A host that answers 206 to begin with is asked for the rest."""
        fake = FakeTransport().script("file", part(PNG[:20], 0, len(PNG)))
        fake.script("file", part(REST, 20, len(PNG)))
        assert await read(fake) == PNG


@pytest.mark.looptime(start=0)
class TestLimit:
    """No picture is larger than the limit, however it comes."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the limit a hundred bytes; the picture has 72."""
        monkeypatch.setattr(images, "LARGEST", 100)

    async def test_too_large_is_an_error(self) -> None:
        """Said at once, and not tried again."""
        over = Reply(status=200, body=b"x" * 100, oversized=True)
        fake = FakeTransport().script("file", over)
        with pytest.raises(DownloadError, match="larger than"):
            await read(fake)
        assert files(fake)[0].limit == 100
        assert len(files(fake)) == 1

    async def test_starting_over_has_the_whole_limit(self) -> None:
        """A whole picture instead of the rest is measured from its start."""
        fake = FakeTransport().script("file", cut(PNG[:60]))
        assert await read(fake) == PNG
        assert files(fake)[1].limit >= len(PNG)

    async def test_parts_together_are_measured(self) -> None:
        """Many small parts cannot exceed it either."""
        big = PNG + bytes(1000)
        fake = FakeTransport().rule(
            "file",
            lambda call: part(
                big[int(call.headers.get("range", "bytes=0-")[6:-1]) :][:60],
                int(call.headers.get("range", "bytes=0-")[6:-1]),
                len(big),
                complete=False,
            ),
        )
        with pytest.raises(DownloadError, match="larger than"):
            await read(fake)
        assert len(files(fake)) == 2


@pytest.mark.looptime(start=0)
class TestExpired:
    """URLs do not live for ever."""

    @pytest.mark.parametrize("status", [403, 404, 410])
    async def test_an_expired_url_is_asked_for_once_more(self, status: int) -> None:
        """The status endpoint gives a new one."""
        fake = FakeTransport().script("file", page(status))
        async with FakeSession(fake) as session:
            image = await session.generate("a")
            looks = fake.count("status")
            renewed = completed("t1", output={"image_url": "http://files.test/new.png"})
            fake.script("status", renewed)
            assert await image.read() == PNG
            assert fake.count("status") == looks + 1
        assert [call.url for call in files(fake)] == [
            "http://files.test/t1.png",
            "http://files.test/new.png",
        ]

    async def test_what_had_arrived_of_the_old_one_is_dropped(self) -> None:
        """Another URL may be another file."""
        fake = FakeTransport().script("file", cut(PNG[:20]), page(403))
        assert await read(fake) == PNG
        assert "range" not in files(fake)[2].headers

    async def test_once_only(self) -> None:
        """A new URL that is refused too is the end."""
        fake = FakeTransport().rule("file", lambda _: page(403))
        with pytest.raises(DownloadError, match="HTTP 403"):
            await read(fake)
        assert len(files(fake)) == 2

    @pytest.mark.parametrize("answer", [SENT, page(502), refused(404)])
    async def test_without_a_new_url_it_has_expired(self, answer: Got) -> None:
        """The error says so."""
        fake = FakeTransport().rule("file", lambda _: page(404))
        async with FakeSession(fake) as session:
            image = await session.generate("a")
            fake.rule("status", lambda _: answer)
            with pytest.raises(DownloadError, match="expired"):
                await image.read()


# -- without the session -------------------------------------------------------------------------


def image_at(url: str, task_id: str = "t1") -> GeneratedImage:
    """Return a picture that no session holds."""
    return GeneratedImage(url=url, urls=(url,), task_id=task_id)


async def test_after_the_session_closed() -> None:
    """On a connection of its own, without the key, even from the API's own host."""
    async with Simulator(durations=0.0, pictures=lambda _: PNG) as sim:
        async with Session(KEY, base_url=sim.url, poll=AT_ONCE) as session:
            image = await session.generate("a")
        assert await image.read() == PNG
        (seen,) = [request for request in sim.ledger.requests if "/files/" in request.path]
        assert not seen.authorized


async def test_a_download_that_the_closing_session_cuts_off_goes_on() -> None:
    """Whoever is still fetching when the session closes gets the picture all the same."""
    arrived = asyncio.Event()
    closed = asyncio.Event()

    async def answer(_: Arrived, writer: asyncio.StreamWriter) -> None:
        if not arrived.is_set():
            arrived.set()
            await closed.wait()
        writer.write(bytes_of(200, PNG))

    async with serve(answer) as server, Simulator(durations=0.0) as sim:
        async with Session(KEY, base_url=sim.url, poll=AT_ONCE) as session:
            image = await session.generate("a")
            own = GeneratedImage(
                url=server.url,
                urls=(server.url,),
                task_id=image.task_id,
                downloads=image._downloads,
            )
            reading = asyncio.create_task(own.read())
            await arrived.wait()
        closed.set()
        assert await reading == PNG


async def test_in_another_event_loop_after_unpickling() -> None:
    """A picture may be made here and saved in another process."""
    async with serve(saying(bytes_of(200, PNG))) as server:
        async with FakeSession(FakeTransport(seconds=0), poll=AT_ONCE) as session:
            made = await session.generate("a")
        pickled = pickle.dumps(made)
        there: GeneratedImage = pickle.loads(pickled)  # noqa: S301 - our own
        assert there == made
        there = image_at(server.url)
        got = await asyncio.to_thread(lambda: asyncio.run(there.read()))
    assert got == PNG
    assert not server.saw("authorization")


async def test_in_another_event_loop_while_the_session_is_open() -> None:
    """A thread with a loop of its own fetches on a connection of its own."""
    async with (
        Simulator(durations=0.0, pictures=lambda _: PNG) as sim,
        Session(KEY, base_url=sim.url, poll=AT_ONCE) as session,
    ):
        image = await session.generate("a")
        got = await asyncio.to_thread(lambda: asyncio.run(image.read()))
        assert got == PNG


async def test_an_expired_url_after_the_session_closed() -> None:
    """Without a session nobody can be asked for a new one."""
    async with serve(saying(bytes_of(403, b"gone"))) as server:
        with pytest.raises(DownloadError, match="expired"):
            await image_at(server.url).read()


# -- saving --------------------------------------------------------------------------------------


async def save(path: str | os.PathLike[str], task_id: str = "t1", content: bytes = PNG) -> Path:
    """Fetch a picture from a server of its own and save it."""
    async with serve(saying(bytes_of(200, content))) as server:
        return await image_at(server.url, task_id).save(path)


def names(folder: Path) -> list[str]:
    """Return what lies in a folder and below."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path  # type: ignore[return-value]  # a fixture without a teardown


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("", "t1.png"),
        (".", "t1.png"),
        ("new", "new.png"),
        ("new.jpg", "new.jpg"),
        ("deep/down/new", "deep/down/new.png"),
        ("v1.5", "v1.5"),
        (".hidden", ".hidden.png"),
        ("picture.", "picture..png"),
        ("日" * 80 + ".png", "日" * 80 + ".png"),
    ],
)
async def test_where_a_picture_goes(given: str, name: str, here: Path) -> None:
    """A folder gets `<task_id><suffix>`, no suffix gets the content's, a given one is kept."""
    path = await save(given)
    assert path == Path(name)
    assert names(here) == [name]
    assert path.read_bytes() == PNG


async def test_the_suffix_is_the_contents(tmp_path: Path) -> None:
    """A JPEG is not called PNG, whatever its URL says."""
    assert (await save(tmp_path, content=b"\xff\xd8\xff\xe0...")).name == "t1.jpg"


async def test_any_path_like_will_do(tmp_path: Path) -> None:
    """Text, `Path` and anything with `__fspath__`."""
    assert await save(str(tmp_path)) == tmp_path / "t1.png"
    assert await save(tmp_path / "b") == tmp_path / "b.png"


async def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    """In one step: nobody sees a half of each."""
    old = tmp_path / "a.png"
    old.write_bytes(b"old")
    assert await save(old) == old
    assert old.read_bytes() == PNG
    assert names(tmp_path) == ["a.png"]


async def test_a_failed_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: no half of the new file, all of the old one, and an error that says why."""
    old = tmp_path / "a.png"
    old.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DownloadError, match="No space left") as caught:
        await save(old)
    error = caught.value
    assert (error.local, error.charged, error.task_id) == (True, "yes", "t1")
    assert names(tmp_path) == ["a.png"]
    assert old.read_bytes() == b"old"


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the way is an error of this machine, not a traceback."""
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(DownloadError) as caught:
        await save(tmp_path / "a" / "b.png")
    assert caught.value.local


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
async def test_a_name_that_no_disk_takes(name: str, here: Path) -> None:
    """A careless path is the same error, and nothing is left."""
    with pytest.raises(DownloadError) as caught:
        await save(name)
    assert caught.value.local
    assert names(here) == []


@pytest.mark.parametrize(
    "task_id",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        "a\0b",
        "C:x",
        "x" * 500,
        "日本",
    ],
)
async def test_a_hostile_task_id_stays_in_the_folder(task_id: str, tmp_path: Path) -> None:
    """Whatever the provider calls its task: one file, in this folder, not hidden."""
    folder = tmp_path / "out"
    folder.mkdir()
    path = await save(folder, task_id)
    assert path.parent == folder
    assert path.suffix == ".png"
    assert not path.name.startswith(".")
    assert len(names(tmp_path)) == 1


def test_ids_that_differ_are_files_that_differ() -> None:
    """No two tasks share a file, however alike their ids look."""
    ids = ["a/b", "a_b", "a b", ".a", "a", "..a", "x" * 100, "x" * 101, "x" * 102, ""]
    assert len({file_stem(task_id) for task_id in ids}) == len(ids)
    assert file_stem("0c5a-4f") == "0c5a-4f"


# -- the value -----------------------------------------------------------------------------------


@pytest.mark.looptime(start=0)
async def test_a_picture_pickles_without_its_session() -> None:
    """And without the key."""
    async with FakeSession() as session:
        image = await session.generate("a", metadata={"shelf": [1, 2]})
        pickled = pickle.dumps(image)
        again = pickle.loads(pickled)  # noqa: S301 - our own
    assert again == image
    assert hash(again) == hash(image)
    assert again.raw == image.raw
    assert again.request == GenerateRequest("a", metadata={"shelf": [1, 2]})
    assert KEY.encode() not in pickled
    assert KEY not in repr(image)
    assert BASE not in repr(image)


def test_it_shows_itself_in_notebooks() -> None:
    """With its prompt, and nothing in either can break out of the markup."""
    url = "http://files.test/a.png?x=1&y='\"<b>"
    request = GenerateRequest("<script>alert('x')</script> \"fog\"")
    image = GeneratedImage(url=url, urls=(url,), task_id="t1", request=request)
    shown = image._repr_html_()
    assert shown.startswith('<img src="http://files.test/a.png?x=1&amp;y=&#x27;&quot;&lt;b&gt;"')
    assert shown.count("<") == shown.count(">") == 1
    assert "&lt;script&gt;" in shown
    bare = GeneratedImage(url=url, urls=(url,), task_id='"><b>')
    assert 'alt="&quot;&gt;&lt;b&gt;"' in bare._repr_html_()


def test_a_picture_is_a_frozen_value() -> None:
    """Equal by what it says."""
    values: Mapping[str, object] = {"url": "http://a.test", "urls": ("http://a.test",)}
    one = GeneratedImage(**values, task_id="t1", cost=Decimal(1))  # type: ignore[arg-type]  # as above
    two = GeneratedImage(**values, task_id="t1", cost=Decimal(1))  # type: ignore[arg-type]  # as above
    assert one == two
    with pytest.raises(AttributeError):
        one.url = "http://b.test"  # type: ignore[misc]  # that is the point
