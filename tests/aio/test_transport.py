"""The transport on real sockets: how far each request got, and where the key goes."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from aioresponses import aioresponses
from yarl import URL

from fluxflex._aio.transport import KEEP_ALIVE, AiohttpTransport, _target
from fluxflex._core.exchange import Call, Phase, Redirects, Reply, Unanswered
from tests.aio.fakes import KEY
from tests.aio.rawserver import (
    Arrived,
    breaking,
    bytes_of,
    closed_port,
    drop,
    get,
    post,
    saying,
    serve,
    silence,
)

BODY = b'{"code": 200, "data": {"task_id": "t1"}}'


class Book(AbstractResolver):
    """Knows no name but those given, which are all this machine."""

    def __init__(self, *names: str) -> None:
        self.names = names

    async def resolve(self, host: str, port: int = 0, family: Any = 2) -> list[ResolveResult]:
        """Look a name up."""
        if host not in self.names:
            raise OSError(f"no such host {host}")
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Close nothing."""


async def exchange(
    call: Call, *, base_url: str | None = None, timeout: float = 5.0, **more: Any
) -> Reply | Unanswered:
    """Send one call with a transport of its own."""
    origin = str(URL(call.url).origin())
    transport = AiohttpTransport(base_url=base_url or origin, key=KEY, **more)
    try:
        return await transport.send(call, timeout=timeout)
    finally:
        await transport.aclose()


async def cut_off(
    call: Call, arrived: asyncio.Event, *, base_url: str | None = None
) -> Reply | Unanswered:
    """Send one call whose time is up once the server got so far, however slow the machine is."""
    transport = AiohttpTransport(base_url=base_url, key=KEY)
    sending = asyncio.create_task(transport.send(call, timeout=600))
    await arrived.wait()
    for _ in range(100):  # what the server said is in the socket: let it be read
        await asyncio.sleep(0)
    transport.hurry(0)
    got = await sending
    await transport.aclose()
    return got


# -- how far it got ------------------------------------------------------------------------------


async def test_an_unknown_name_means_never_sent() -> None:
    """A name that cannot be resolved leaves nothing on the wire."""
    async with aiohttp.TCPConnector(resolver=Book()) as connector:
        got = await exchange(post("http://api.invalid/generate"), connector=connector)
    assert isinstance(got, Unanswered)
    assert (got.phase, got.hopeless) == (Phase.NEVER_SENT, False)
    assert "ClientConnectorDNSError" in got.reason


async def test_a_refused_connection_means_never_sent() -> None:
    """Nobody listens: nothing was sent."""
    with closed_port() as origin:
        got = await exchange(post(origin))
    assert isinstance(got, Unanswered)
    assert (got.phase, got.hopeless) == (Phase.NEVER_SENT, False)


async def test_a_failed_tls_handshake_means_never_sent() -> None:
    """A server that speaks no TLS gets nothing of the request, the key least of all."""
    heard = bytearray()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(1000))
        writer.write(b"I speak plain text\r\n")
        writer.close()

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        got = await exchange(post(f"https://127.0.0.1:{port}/"))
    assert isinstance(got, Unanswered)
    assert got.phase is Phase.NEVER_SENT
    assert heard
    assert b"prompt" not in heard


async def test_waiting_for_the_pool_means_never_sent() -> None:
    """A call whose time is up in the queue for a connection was not sent."""
    async with serve(silence) as server:
        transport = AiohttpTransport(base_url=server.url, connections=1)
        first = asyncio.create_task(transport.send(post(server.url), timeout=5))
        await server.arrived.wait()
        got = await transport.send(post(server.url), timeout=0.02)
        first.cancel()
        await asyncio.wait([first])
        await transport.aclose()
    assert got == Unanswered(phase=Phase.NEVER_SENT, reason="no reply within 0.02 seconds")
    assert len(server.seen) == 1


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n", b"what?\r\n\r\n"],
    ids=["nothing", "half a line", "half the headers", "nonsense"],
)
async def test_no_reply_after_the_request_means_sent(start: bytes, *, reset: bool) -> None:
    """The server had the request and gave no reply: it may have acted on it."""
    async with serve(breaking(start, reset=reset)) as server:
        got = await exchange(post(server.url))
    assert isinstance(got, Unanswered)
    assert (got.phase, got.hopeless) == (Phase.SENT, False)
    assert len(server.seen) == 1, "aiohttp sends no POST twice"


async def test_closing_before_the_request_is_read_means_sent() -> None:
    """A connection that is accepted and reset at once cannot be told from one that acted."""

    def begin(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        drop(writer)
        writer.close()

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        got = await exchange(post(f"http://127.0.0.1:{port}/"))
    assert isinstance(got, Unanswered)
    assert got.phase is not Phase.NEVER_SENT


async def test_silence_means_sent() -> None:
    """A server that says nothing has the request; the reason tells the seconds."""
    async with serve(silence) as server:
        got = await cut_off(post(server.url), server.arrived)
    assert got == Unanswered(phase=Phase.SENT, reason="no reply within 600 seconds")


async def test_a_request_without_a_body_is_written() -> None:
    """Without a body there is no hook that says when all of it was handed over."""
    async with serve(silence) as server:
        got = await cut_off(get(server.url), server.arrived)
    assert got == Unanswered(phase=Phase.WRITING, reason="no reply within 600 seconds")


@pytest.mark.parametrize(
    "url", ["http://", "http:///x", "nonsense", "ftp://files.test/x", "http://[::1"]
)
@pytest.mark.parametrize("redirects", Redirects)
async def test_an_address_that_is_none(url: str, redirects: Redirects) -> None:
    """A bad address, as a hostile body may hold one, is a value like any other trouble."""
    transport = AiohttpTransport()
    got = await transport.send(get(url, redirects=redirects), timeout=1)
    await transport.aclose()
    assert isinstance(got, Unanswered)
    assert got.phase is Phase.NEVER_SENT


async def test_cancelling_is_not_swallowed() -> None:
    """A cancelled caller is cancelled, and its exchange leaves nothing behind."""
    async with serve(silence) as server:
        transport = AiohttpTransport(base_url=server.url)
        sending = asyncio.create_task(transport.send(get(server.url), timeout=5))
        await server.arrived.wait()
        assert repr(transport) == "<AiohttpTransport: 1 in the air>"
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert repr(transport) == "<AiohttpTransport: 0 in the air>"
        await transport.aclose()


# -- what came back ------------------------------------------------------------------------------


async def test_a_reply_comes_through() -> None:
    """Status, headers (names in lower case) and body are what the server sent."""
    async with serve(saying(bytes_of(201, BODY, Retry_After="3", X_Request_Id="r1"))) as server:
        got = await exchange(post(server.url, b"sent"))
    assert isinstance(got, Reply)
    assert (got.status, got.body, got.complete, got.oversized) == (201, BODY, True, False)
    assert got.headers["retry-after"] == "3"
    assert got.headers["x-request-id"] == "r1"
    (seen,) = server.seen
    assert (seen.method, seen.body) == ("POST", b"sent")
    assert seen.headers["user-agent"] == "fluxflex"


async def test_a_body_that_breaks_off_keeps_what_arrived() -> None:
    """A task id may be among the bytes that did arrive."""
    whole = bytes_of(200, BODY)
    async with serve(breaking(whole[:-4])) as server:
        got = await exchange(post(server.url))
    assert isinstance(got, Reply)
    assert (got.status, got.body, got.complete) == (200, BODY[:-4], False)


async def test_a_body_that_stops_arriving_keeps_what_did() -> None:
    """A body whose rest never comes is cut off by the timeout, not lost."""
    said = asyncio.Event()

    async def answer(_: Arrived, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes_of(200, BODY)[:-4])
        said.set()
        await asyncio.Event().wait()

    async with serve(answer) as server:
        got = await cut_off(post(server.url), said)
    assert isinstance(got, Reply)
    assert (got.status, got.body, got.complete) == (200, BODY[:-4], False)


async def test_a_chunked_body_without_its_end_keeps_what_arrived() -> None:
    """A chunked body that just stops is not whole."""
    start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"%x\r\n%s\r\n" % (len(BODY), BODY)
    async with serve(breaking(start + chunks)) as server:
        got = await exchange(post(server.url))
    assert isinstance(got, Reply)
    assert (got.body, got.complete) == (BODY, False)


async def test_a_body_that_cannot_be_unpacked() -> None:
    """What claims to be gzip and is not is a body that breaks off."""
    reply = bytes_of(200, b"no gzip at all", content_encoding="gzip")
    async with serve(saying(reply)) as server:
        got = await exchange(get(server.url))
    assert got == Reply(status=200, headers=got.headers, complete=False)  # type: ignore[union-attr]  # a Reply, or unequal


async def test_a_body_over_the_limit_is_not_read() -> None:
    """An endless body costs its limit in memory, and says so."""

    async def answer(_: Arrived, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 1000)
            await writer.drain()

    async with serve(answer) as server:
        got = await exchange(get(server.url, limit=100))
    assert isinstance(got, Reply)
    assert (got.body, got.oversized) == (b"x" * 100, True)


async def test_a_body_at_the_limit_is_read() -> None:
    """The limit itself is allowed."""
    async with serve(saying(bytes_of(200, b"x" * 100))) as server:
        got = await exchange(get(server.url, limit=100))
    assert isinstance(got, Reply)
    assert (len(got.body), got.oversized, got.complete) == (100, False, True)


async def test_connections_are_reused() -> None:
    """Two calls take one connection, kept no longer than gateways keep theirs."""
    async with serve(saying(bytes_of())) as server:
        transport = AiohttpTransport(base_url=server.url)
        for _ in range(2):
            await transport.send(get(server.url), timeout=5)
        connector = transport._session.connector
        await transport.aclose()
    assert server.connections == 1
    assert KEEP_ALIVE == 15.0
    assert isinstance(connector, aiohttp.TCPConnector)
    assert connector._keepalive_timeout == KEEP_ALIVE
    assert connector.closed


# -- redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_submit_follows_no_redirect(status: int) -> None:
    """Who redirects a paid request gets no second one: the reply is handed up."""
    async with serve(saying(bytes_of())) as other:
        moved = bytes_of(status, b"", location=f"{other.url}/x")
        async with serve(saying(moved)) as server:
            got = await exchange(post(server.url))
    assert isinstance(got, Reply)
    assert got.status == status
    assert (len(server.seen), len(other.seen)) == (1, 0)


async def test_a_look_follows_redirects_on_its_own_origin_only() -> None:
    """On the same origin it goes on, with the key; elsewhere it ends."""
    async with serve(saying(bytes_of(200, b"elsewhere"))) as other:
        away = bytes_of(302, b"", location=f"{other.url}/away")
        async with serve(saying(bytes_of(307, b"", location="../b?c=%20d"), away)) as server:
            call = get(f"{server.url}/v1/a", redirects=Redirects.SAME_ORIGIN)
            got = await exchange(call)
    assert isinstance(got, Reply)
    assert got.status == 302
    assert [seen.target for seen in server.seen] == ["/v1/a", "/b?c=%20d"]
    assert all(seen.headers["authorization"] == f"Bearer {KEY}" for seen in server.seen)
    assert not other.seen


async def test_the_key_goes_to_the_api_only() -> None:
    """Redirected or asked outright, no other origin sees the key."""
    async with serve(saying(bytes_of(200, b"picture"))) as other:
        away = bytes_of(302, b"", location=f"{other.url}/picture")
        async with serve(saying(away)) as server:
            for call in (
                get(server.url, redirects=Redirects.ANY),
                get(other.url, redirects=Redirects.ANY),
            ):
                got = await exchange(call, base_url=server.url)
                assert isinstance(got, Reply)
                assert got.body == b"picture"
    assert server.saw(KEY)
    assert len(other.seen) == 2
    assert not other.saw(KEY)
    assert not any("authorization" in seen.headers for seen in other.seen)


async def test_a_call_without_the_key_takes_none_along() -> None:
    """A picture on the API's own host is fetched without the key."""
    async with serve(saying(bytes_of())) as server:
        await exchange(get(server.url, keyed=False))
    assert not server.saw(KEY)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.test:443",
        "http://api.test:80/some/path",
        "http://api.test:08080",
        "https://API.test/x",
        "https://b\u00fccher.test",
        "http://[0:0:0:0:0:0:0:1]:8080/x",
        "http://api.test:/x",
    ],
)
async def test_an_address_may_be_written_in_many_ways(base_url: str) -> None:
    """A port that goes without saying, or an odd name, changes neither the path nor whose it is."""
    transport = AiohttpTransport(base_url=base_url, key=KEY)
    url, at = transport._place(get(f"{base_url}/status/a%2F.."))
    await transport.aclose()
    assert url.raw_path == urlsplit(base_url).path + "/status/a%2F.."
    assert url.origin() == at == URL(base_url).origin()


async def test_the_key_goes_to_the_apis_port_only() -> None:
    """Another port on the same host is another origin."""
    async with serve(saying(bytes_of())) as server:
        with closed_port() as api:
            await exchange(get(server.url), base_url=api)
    assert len(server.seen) == 1
    assert not server.saw(KEY)


async def test_a_circle_of_redirects_ends() -> None:
    """After five hops there is no reply, and no use in trying again."""
    async with serve(saying(bytes_of(302, b"", location="/again"))) as server:
        got = await exchange(get(server.url, redirects=Redirects.ANY))
    assert got == Unanswered(phase=Phase.SENT, reason="more than 5 redirects", hopeless=True)
    assert len(server.seen) == 5


@pytest.mark.parametrize("location", ["", "javascript:alert(1)", "ftp://files.test/x"])
async def test_a_redirect_to_nowhere_is_the_reply(location: str) -> None:
    """What leads nowhere is not followed."""
    async with serve(saying(bytes_of(302, b"", location=location))) as server:
        got = await exchange(get(server.url, redirects=Redirects.ANY))
    assert isinstance(got, Unanswered) or got.status == 302
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("start", "location", "target"),
    [
        ("https://a.test/1", "http://a.test/2", None),
        ("https://a.test/1", "https://b.test/2", "https://b.test/2"),
        ("http://a.test/1", "https://b.test/2", "https://b.test/2"),
        ("http://a.test/1", "http://b.test/2", "http://b.test/2"),
        ("https://a.test/1", "//b.test/2", "https://b.test/2"),
        ("https://a.test/1", "2", "https://a.test/2"),
    ],
)
def test_a_redirect_never_leaves_encryption(start: str, location: str, target: str | None) -> None:
    """Pictures are followed anywhere but from https to http."""
    reply = Reply(status=302, headers={"location": location})
    found = _target(Redirects.ANY, URL(start), reply)
    assert (None if found is None else str(found)) == target


# -- secrets -------------------------------------------------------------------------------------


async def test_a_key_that_is_repeated_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    """Bodies, headers and logs never show the key, even where the provider repeats it."""

    async def answer(seen: Arrived, writer: asyncio.StreamWriter) -> None:
        token = seen.headers["authorization"]
        writer.write(bytes_of(401, f"bad {token}".encode(), x_seen=token))

    with caplog.at_level(logging.DEBUG):
        async with serve(answer) as server:
            got = await exchange(get(f"{server.url}/a?token={KEY}"))
    assert isinstance(got, Reply)
    assert got.body == b"bad Bearer ***"
    assert got.headers["x-seen"] == "Bearer ***"
    assert KEY not in repr(got)
    ours = [record.getMessage() for record in caplog.records if record.name == "fluxflex"]
    assert ours
    assert KEY not in "".join(ours)


async def test_a_key_in_an_exception_goes_no_further() -> None:
    """A parser that quotes the bytes it chokes on quotes no key."""
    async with serve(breaking(f"HTTP/1.1 {KEY} what\r\n\r\n".encode())) as server:
        got = await exchange(post(server.url))
    assert isinstance(got, Unanswered)
    assert KEY not in got.reason
    assert "***" in got.reason


async def test_a_picture_is_not_scrubbed() -> None:
    """The bytes of a picture are the provider's, whatever stands in them."""
    content = b"\x89PNG " + KEY.encode()
    async with serve(saying(bytes_of(200, content))) as server:
        got = await exchange(get(server.url, keyed=False))
    assert isinstance(got, Reply)
    assert got.body == content


async def test_a_key_of_a_few_letters_is_no_secret() -> None:
    """A made-up key, as for the simulator, must not eat the words of a reply."""
    async with serve(saying(bytes_of(200, BODY))) as server:
        transport = AiohttpTransport(base_url=server.url, key="a")
        got = await transport.send(post(server.url), timeout=5)
        await transport.aclose()
    assert isinstance(got, Reply)
    assert got.body == BODY
    assert server.seen[0].headers["authorization"] == "Bearer a"


# -- proxies -------------------------------------------------------------------------------------


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Set up a plain proxy that wants a login and answers by itself."""
    async with serve(saying(bytes_of(200, b"by proxy"))) as server:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{server.port}")
        yield server


async def test_the_proxy_variables_are_honoured(proxy: Any) -> None:
    """An http request goes to the proxy whole, with its login beside the headers."""
    got = await exchange(post("http://api.test/generate?a=%20b"))
    assert isinstance(got, Reply)
    assert got.body == b"by proxy"
    (seen,) = proxy.seen
    assert seen.target == "http://api.test/generate?a=%20b"
    login = base64.b64encode(b"me:p@ss").decode()
    assert seen.headers["proxy-authorization"] == f"Basic {login}"
    assert seen.headers["authorization"] == f"Bearer {KEY}"


async def test_no_proxy_is_honoured(proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that the environment names are reached directly, without the proxy's login."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with serve(saying(bytes_of())) as server:
        await exchange(get(server.url))
    assert not proxy.seen
    assert "proxy-authorization" not in server.seen[0].headers


async def test_a_proxy_without_login_or_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """`host:port` is how many write their proxy."""
    async with serve(saying(bytes_of(200, b"by proxy"))) as server:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{server.port}")
        got = await exchange(get("http://api.test/"))
    assert isinstance(got, Reply)
    assert got.body == b"by proxy"
    assert "proxy-authorization" not in server.seen[0].headers


async def test_a_tunnel_that_is_refused_means_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is asked for a tunnel, with its login; the request and the key stay here."""
    async with serve(saying(bytes_of(407, b""))) as server:
        monkeypatch.setenv("https_proxy", f"http://me:pw@127.0.0.1:{server.port}")
        got = await exchange(post("https://api.test/generate"))
    assert isinstance(got, Unanswered)
    assert got.phase is Phase.NEVER_SENT
    (seen,) = server.seen
    assert (seen.method, seen.target) == ("CONNECT", "api.test:443")
    assert seen.headers["proxy-authorization"].startswith("Basic ")
    assert not server.saw(KEY)


@pytest.mark.parametrize("proxy_url", ["http://127.0.0.1:nonsense", "socks5://127.0.0.1:1"])
async def test_a_proxy_that_cannot_be_used_means_never_sent(
    proxy_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nonsense in the environment is trouble with the network, not an exception."""
    monkeypatch.setenv("http_proxy", proxy_url)
    got = await exchange(post("http://api.test/"))
    assert isinstance(got, Unanswered)
    assert got.phase is Phase.NEVER_SENT


async def test_netrc_is_not_consulted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login in `.netrc` neither replaces our key nor goes anywhere by itself."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with serve(saying(bytes_of())) as server:
        await exchange(get(server.url))
        await exchange(get(server.url, keyed=False))
    first, second = server.seen
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in second.headers


async def test_cookies_are_not_kept() -> None:
    """What a server sets it does not get back."""
    async with serve(saying(bytes_of(set_cookie="a=b"))) as server:
        transport = AiohttpTransport(base_url=server.url)
        for _ in range(2):
            await transport.send(get(server.url), timeout=5)
        await transport.aclose()
    assert not any("cookie" in seen.headers for seen in server.seen)


# -- life ----------------------------------------------------------------------------------------


async def test_a_users_connector_is_never_closed() -> None:
    """It is theirs, before and after."""
    async with serve(saying(bytes_of())) as server, aiohttp.TCPConnector() as connector:
        await exchange(get(server.url), connector=connector)
        assert not connector.closed
        got = await exchange(get(server.url), connector=connector)
        assert isinstance(got, Reply)


async def test_closing_keeps_the_deadline_of_what_is_in_the_air() -> None:
    """On a user's own connector, which stays open, nothing else would end a call that hangs."""
    async with serve(silence) as server, aiohttp.TCPConnector() as connector:
        transport = AiohttpTransport(base_url=server.url, connector=connector)
        calling = asyncio.create_task(transport.send(get(f"{server.url}/x"), timeout=60))
        await server.arrived.wait()
        transport.hurry(0.01)
        await transport.aclose()
        assert isinstance(await calling, Unanswered)


async def test_after_closing_nothing_is_sent() -> None:
    """A closed transport answers with a value too."""
    async with serve(saying(bytes_of())) as server:
        transport = AiohttpTransport(base_url=server.url)
        await transport.aclose()
        got = await transport.send(get(server.url), timeout=1)
    assert isinstance(got, Unanswered)
    assert got.phase is Phase.NEVER_SENT
    assert not server.seen


async def test_hurry_shortens_what_is_in_the_air_and_what_follows() -> None:
    """Once in a hurry nothing takes longer, and nothing gets more time than it had."""
    async with serve(silence) as server:
        transport = AiohttpTransport(base_url=server.url, connections=3)
        long = asyncio.create_task(transport.send(post(server.url), timeout=600))
        short = asyncio.create_task(transport.send(post(server.url), timeout=0.01))
        await server.arrived.wait()
        transport.hurry(0.03)
        async with asyncio.timeout(10):
            assert isinstance(await short, Unanswered)
            assert isinstance(await long, Unanswered)
            later = await transport.send(post(server.url), timeout=600)
        transport.hurry(5)
        again = await transport.send(post(server.url), timeout=600)
        await transport.aclose()
    assert isinstance(later, Unanswered)
    assert isinstance(again, Unanswered)
    assert later.reason == again.reason == "no reply within 0.03 seconds"


# -- without sockets: aioresponses -----------------------------------------------------------------


class PatchedResponse(aiohttp.ClientResponse):
    """What aioresponses can build: it does not know `stream_writer` yet."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{"stream_writer": SimpleNamespace(output_size=0), **more})


CERTIFICATE = aiohttp.ClientConnectorCertificateError(
    aiohttp.client_reqrep.ConnectionKey(
        "api.test",
        443,
        True,
        True,
        None,
        None,
        None,
        None,
    ),
    ssl.SSLCertVerificationError("self-signed"),
)


async def test_status_headers_and_body_pass_through() -> None:
    """What aiohttp read is what we hand up."""
    transport = AiohttpTransport(base_url="http://api.test", key=KEY)
    with aioresponses() as mocked:
        mocked.post(
            "http://api.test/generate",
            status=422,
            body=BODY,
            headers={"X-Request-Id": "r1"},
            response_class=PatchedResponse,
        )
        got = await transport.send(post("http://api.test/generate"), timeout=1)
    await transport.aclose()
    assert isinstance(got, Reply)
    assert (got.status, got.body, got.complete) == (422, BODY, True)
    assert got.headers == {"content-type": "application/json", "x-request-id": "r1"}


@pytest.mark.parametrize(
    ("error", "hopeless"),
    [
        (aiohttp.ClientConnectionError("gone"), False),
        (aiohttp.ServerDisconnectedError(), False),
        (aiohttp.ConnectionTimeoutError("slow"), False),
        (OSError("broken"), False),
        (RuntimeError("whatever"), False),
        (CERTIFICATE, True),
        (aiohttp.ServerFingerprintMismatch(b"a", b"b", "api.test", 443), True),
        (aiohttp.NonHttpUrlClientError("ftp://api.test"), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_exceptions_become_values(error: Exception, *, hopeless: bool) -> None:
    """Nothing that aiohttp raises gets past the transport; what cannot be mended says so."""
    transport = AiohttpTransport(base_url="http://api.test", key=KEY)
    with aioresponses() as mocked:
        mocked.post("http://api.test/generate", exception=error)
        got = await transport.send(post("http://api.test/generate"), timeout=1)
    await transport.aclose()
    assert isinstance(got, Unanswered)
    assert (got.phase, got.hopeless) == (Phase.NEVER_SENT, hopeless)
    assert got.reason.startswith(type(error).__name__)
