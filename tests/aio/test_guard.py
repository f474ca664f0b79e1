"""URLs that came by callback: to public addresses only, whatever a name server says next."""

from __future__ import annotations

import pickle
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from fluxflex import GeneratedImage
from fluxflex._aio.guard import NotPublicError, PublicResolver
from fluxflex._aio.images import Downloads
from fluxflex._aio.transport import AiohttpTransport
from fluxflex._core.exchange import Call, Intent, Phase, Redirects, Reply, Unanswered
from fluxflex.errors import DownloadError
from tests.aio.fakes import PNG
from tests.aio.rawserver import saying, serve


class Book(AbstractResolver):
    """Knows the names that it is given; each answer is used once, the last for ever."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {name.replace("_", "."): list(found) for name, found in names.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the next answer."""
        self.asked.append(host)
        answers = self.names.get(host)
        if not answers:
            raise OSError(f"no such name: {host}")
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(hostname=host, host=each, port=port, family=family, proto=0, flags=0)
            for each in found.split()
        ]

    async def close(self) -> None:
        """Close."""


def get(url: str, *, public: bool = True) -> Call:
    """Return the call for a picture."""
    return Call(
        method="GET",
        url=url,
        intent=Intent.READ,
        redirects=Redirects.ANY,
        keyed=False,
        public=public,
    )


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    """Give the transport of an API on the internet."""
    found = AiohttpTransport(base_url="http://8.8.8.8")
    yield found
    await found.aclose()


def resolver(transport: AiohttpTransport, book: Book) -> Book:
    """Let a transport ask this book."""
    home = None if transport._origin is None else transport._origin.host
    transport._guard = PublicResolver(home, book)
    return book


PICTURE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(PNG), PNG)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "10.1.2.3", "169.254.169.254", "[::ffff:127.0.0.1]"]
)
async def test_an_address_that_is_private(transport: AiohttpTransport, host: str) -> None:
    """It is refused before anything is sent, for good."""
    got = await transport.send(get(f"http://{host}:9/a.png"), timeout=5)
    assert isinstance(got, Unanswered)
    assert got.phase is Phase.NEVER_SENT
    assert got.hopeless
    assert "not at a public address" in got.reason


@pytest.mark.parametrize(
    "url",
    [
        "http://user:password@127.0.0.1:9/a.png",
        "http://8.8.8.8@127.0.0.1:9/a.png",
        "http://[::1%251]:9/a.png",
        "http://[64:ff9b:1::7f00:1]:9/a.png",
        "http://2130706433:9/a.png",
        "http://0177.0.0.1:9/a.png",
        "http://0x7f.1:9/a.png",
        "http://localhost.:9/a.png",
        "http://127。0。0。1:9/a.png",
        "ftp://8.8.8.8/a.png",
        "file:///etc/hostname",
        "//8.8.8.8/a.png",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
    ],
)
async def test_an_address_in_disguise(transport: AiohttpTransport, url: str) -> None:
    """However it is written, and whatever is no http(s) at all: nothing is sent anywhere."""
    names = {"localhost.": ["127.0.0.1"], "127.0.0.1": ["127.0.0.1"], "0x7f.1": ["127.0.0.1"]}
    book = resolver(transport, Book())
    book.names |= {**names, "127。0。0。1": ["127.0.0.1"]}
    got = await transport.send(get(url), timeout=5)
    assert isinstance(got, Unanswered)
    assert got.phase is Phase.NEVER_SENT


@pytest.mark.parametrize("name", ["files.test", "127.1"])
async def test_a_name_that_leads_to_one(transport: AiohttpTransport, name: str) -> None:
    """Also where only one of its addresses is private, or a number is written in an old way."""
    resolver(transport, Book(files_test=["8.8.8.8 127.0.0.1"], **{"127_1": ["127.0.0.1"]}))
    got = await transport.send(get(f"http://{name}/a.png"), timeout=5)
    assert isinstance(got, Unanswered)
    assert (got.phase, got.hopeless) == (Phase.NEVER_SENT, True)
    words = {"files.test": "is not at a public address", "127.1": "is not a canonical"}
    assert words[name] in got.reason


async def test_a_name_is_resolved_once(transport: AiohttpTransport) -> None:
    """What was checked is what is connected to: a second answer is never asked for."""
    book = resolver(transport, Book(files_test=["127.0.0.1", "8.8.8.8"]))
    got = await transport.send(get("http://files.test/a.png"), timeout=5)
    assert isinstance(got, Unanswered)
    assert book.asked == ["files.test", "8.8.8.8"][:1]


async def test_a_redirect_to_one() -> None:
    """Every hop is checked."""
    async with serve(saying(PICTURE)) as inner:
        hop = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://{inner.url[7:]}/a.png\r\n\r\n".encode()
        async with serve(saying(hop)) as outer:
            transport = AiohttpTransport(base_url="http://8.8.8.8")
            guard = PublicResolver("8.8.8.8")
            transport._guard = guard
            checked = []

            async def check(host: str, *, names: bool) -> None:  # noqa: ARG001 - as the original
                checked.append(host)
                if len(checked) > 1:
                    await PublicResolver("8.8.8.8", Book()).check(host, names=False)

            guard.check = check  # type: ignore[method-assign]  # the first hop is let through
            got = await transport.send(get(outer.url + "/a.png"), timeout=5)
            await transport.aclose()
        assert isinstance(got, Unanswered)
        assert got.hopeless
        assert len(checked) == 2


async def test_an_api_on_a_private_address() -> None:
    """There nothing is refused: all of it is on this side."""
    async with serve(saying(PICTURE)) as host:
        for base, book in (
            (host.url, Book()),
            ("http://api.test", Book(api_test=["10.0.0.1"], files_test=["127.0.0.1"])),
        ):
            transport = AiohttpTransport(base_url=base)
            resolver(transport, book)
            for url in (host.url, host.url.replace("127.0.0.1", "files.test")):
                if url == host.url or book.names:
                    got = await transport.send(get(url + "/a.png"), timeout=5)
                    assert isinstance(got, Reply)
            await transport.aclose()


async def test_an_api_that_cannot_be_found_is_not_private() -> None:
    """In doubt it is refused; so it is without an API."""
    for home in ("api.test", None):
        guard = PublicResolver(home, Book())
        with pytest.raises(NotPublicError):
            await guard.check("127.0.0.1", names=False)
        await guard.close()


async def test_through_the_users_connector() -> None:
    """Names are looked up beforehand; one that only a proxy can know is let through."""
    async with serve(saying(PICTURE)) as host:
        port = host.url.rpartition(":")[2]
        inside = aiohttp.TCPConnector(resolver=Book(files_test=["127.0.0.1"], lan_test=["1.1.1.1"]))
        transport = AiohttpTransport(base_url="http://8.8.8.8", connector=inside)
        resolver(transport, Book(lan_test=["10.0.0.1"]))
        refused = await transport.send(get(f"http://lan.test:{port}/a.png"), timeout=5)
        passed = await transport.send(get(f"http://files.test:{port}/a.png"), timeout=5)
        await transport.aclose()
        await inside.close()
    assert isinstance(refused, Unanswered)
    assert refused.hopeless
    assert isinstance(passed, Reply)


async def test_what_the_api_told_is_not_guarded(transport: AiohttpTransport) -> None:
    """Only what came by callback is; the API's own word is trusted as before."""
    async with serve(saying(PICTURE)) as host:
        got = await transport.send(get(host.url + "/a.png", public=False), timeout=5)
    assert isinstance(got, Reply)
    assert transport._guarded is None


@pytest.mark.parametrize("knows", [True, False])
async def test_the_api_is_asked_where_the_picture_is(*, knows: bool) -> None:
    """A URL that may not be used is asked for once more; what the API says is used."""
    async with serve(saying(PICTURE)) as host:

        async def refresh(task_id: str) -> tuple[str, ...]:
            assert task_id == "t1"
            return (host.url + "/a.png",) if knows else ()

        transport = AiohttpTransport(base_url="http://8.8.8.8")
        downloads = Downloads(transport, refresh=refresh)
        if knows:
            assert await downloads.fetch(host.url + "/a.png", "t1", public=True) == PNG
        else:
            with pytest.raises(DownloadError, match="not at a public address"):
                await downloads.fetch("http://127.0.0.1:9/a.png", "t1", public=True)
        await transport.aclose()


async def test_a_picture_remembers_after_its_session() -> None:
    """Pickled and without a session too it keeps to public addresses, unless the API does not."""
    async with serve(saying(PICTURE)) as host:
        url = host.url + "/a.png"
        for guarded_by, fits in (("http://8.8.8.8", False), (host.url, True), (None, True)):
            image = GeneratedImage(url=url, urls=(url,), task_id="t1", guarded_by=guarded_by)
            again = pickle.loads(pickle.dumps(image))  # noqa: S301 - our own
            if fits:
                assert await again.read() == PNG
            else:
                with pytest.raises(DownloadError, match="not at a public address"):
                    await again.read()
