"""HTTP on aiohttp, behind one method. The only file that talks to `aiohttp.ClientSession`.

`send` never raises for the network: what went wrong comes back as a value that says how far the
request got, which is what the retry law needs to know. aiohttp's exceptions do not tell that (it
raises the same one whether the server closed before reading or after acting). A body that sees
itself being written does, at a tenth of what aiohttp's trace hooks cost.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp
import attrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace
from yarl import URL

from fluxflex._aio.deadlines import Deadlines
from fluxflex._aio.guard import NotPublicError, PublicResolver
from fluxflex._aio.ways import Way, way_to
from fluxflex._core.exchange import Call, Phase, Redirects, Reply, Unanswered
from fluxflex._core.scrub import Scrubber

log = logging.getLogger("fluxflex")

# Below the idle timeouts of common gateways: a POST on a connection that the other side has just
# closed would be left uncertain.
KEEP_ALIVE = 15.0
_MOST_REDIRECTS = 5
# asyncio asks for 256 KiB of memory for each read, which the system then maps and unmaps every
# time; a reply takes a small part of this.
_READ_SIZE = 65_536
# What may stand in an address as it is, the percent sign of what is quoted already above all.
_AS_IT_IS = "%/:?[]@!$&'()*+,;="
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What says for certain that nothing was written.
_NOT_REACHED = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    NotPublicError,
)
_HOPELESS = (
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    NotPublicError,
)


class Transport(Protocol):
    """What carries a call to the provider and its reply back."""

    async def send(self, call: Call, *, timeout: float) -> Reply | Unanswered:
        """Send a call and return what came of it; never raise for the network."""
        ...

    def hurry(self, seconds: float) -> None:
        """Give what is in the air, and what is sent from now on, at most so many seconds."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


@attrs.define
class _Progress:
    """How far one exchange has got: the body and the reader move it on."""

    phase: Phase = Phase.NEVER_SENT
    response: aiohttp.ClientResponse | None = None
    chunks: list[bytes] = attrs.field(factory=list)
    size: int = 0
    reached: bool = True  # unless an error says that no connection was made


class _Body(aiohttp.BytesPayload):
    """A body that notes when it is handed over."""

    def __init__(self, content: bytes, progress: _Progress) -> None:
        super().__init__(content, content_type="application/json")
        self._progress = progress

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Write it; the headers are written with it."""
        self._progress.phase = Phase.WRITING
        await super().write_with_length(writer, content_length)
        self._progress.phase = Phase.SENT


class _Connector(aiohttp.TCPConnector):
    """Connections that read in small pieces."""

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        protocol = await super()._create_connection(req, traces, timeout)
        transport = protocol.transport
        if transport is not None and hasattr(transport, "max_size"):  # asyncio's own, without TLS
            transport.max_size = _READ_SIZE
        return protocol


class AiohttpTransport:
    """A `Transport` on aiohttp's public interface. Create it inside a running loop.

    Args:
        base_url: the API; the key goes to its origin only.
        key: the API key, or `None` for a transport that needs none.
        connect: seconds for reaching a server.
        connections: how many at once; sized by the session so that the pool is never a queue.
        connector: the user's own, never closed by us.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        key: str | None = None,
        connect: float = 10.0,
        connections: int = 8,
        connector: aiohttp.BaseConnector | None = None,
    ) -> None:
        self._origin = URL(base_url).origin() if base_url else None
        # An origin may be written in many ways, such as with the port that goes without saying.
        self._root, self._home = urlsplit(base_url or "").path, f"{base_url}/"
        self._key = key or ""
        self._scrubber = Scrubber(key)
        self._ways: dict[tuple[URL, bool], Way] = {}
        self._deadlines = Deadlines()
        self._most = math.inf
        self._given = connector
        self._connect = connect
        self._connections = connections
        self._session = self._new_session(connector)
        self._guard: PublicResolver | None = None
        self._guarded: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<AiohttpTransport: {len(self._deadlines)} in the air>"

    async def send(self, call: Call, *, timeout: float) -> Reply | Unanswered:
        """Send a call and return what came of it; never raise for the network."""
        try:
            url, at = self._place(call)
            for _ in range(_MOST_REDIRECTS):
                got = await self._exchange(call, url, at, min(timeout, self._most))
                target = _target(call.redirects, url, got)
                if target is None:
                    return got
                url, at = target, target.origin()
        except ValueError as error:
            return Unanswered(phase=Phase.NEVER_SENT, reason=self._words(error), hopeless=True)
        return Unanswered(
            phase=Phase.SENT, reason=f"more than {_MOST_REDIRECTS} redirects", hopeless=True
        )

    def _place(self, call: Call) -> tuple[URL, URL]:
        """Return the address of a call, and its origin."""
        origin, text = self._origin, call.url
        if origin is not None and call.keyed and text.startswith(self._home) and "?" not in text:
            # A path on a known address takes half the time of reading the whole.
            path = f"{self._root}/{text[len(self._home) :]}"
            return origin.with_path(path, encoded=True), origin
        # Ours are quoted when they are made; a picture's comes as the provider wrote it.
        url = URL(text, encoded=True) if call.keyed else _address(text)
        return url, url.origin()

    def hurry(self, seconds: float) -> None:
        """Give what is in the air, and what is sent from now on, at most so many seconds."""
        self._most = min(self._most, seconds)
        self._deadlines.hurry(seconds)

    async def aclose(self) -> None:
        """Close the connections."""
        self._deadlines.close()
        await self._session.close()
        if self._guarded is not None:
            await self._guarded.close()
        if self._guard is not None:
            await self._guard.close()

    async def _exchange(self, call: Call, url: URL, at: URL, seconds: float) -> Reply | Unanswered:
        progress = _Progress()
        complete, reason, hopeless = False, "", False
        deadline = self._deadlines.begin(seconds)
        try:
            await self._once(call, url, at, progress)
            complete = True
        except asyncio.CancelledError:
            if not deadline.was_ours():
                raise
        except Exception as error:  # noqa: BLE001 - whatever a hostile reply makes a parser raise
            deadline.was_ours()
            reason = self._words(error)
            causes = (error, getattr(error, "os_error", None))
            hopeless = any(isinstance(cause, _HOPELESS) for cause in causes)
            if isinstance(error, _NOT_REACHED) or self._session.closed:
                progress.reached = False
        finally:
            self._deadlines.end(deadline)
        if deadline.passed:
            reason = f"no reply within {seconds:g} seconds"
        got: Reply | Unanswered
        if progress.response is None:
            # A call without a body sees no writing.
            written = call.body is None and progress.reached
            phase = Phase.WRITING if written else progress.phase
            got = Unanswered(phase=phase, reason=reason, hopeless=hopeless)
        else:
            got = self._reply(call, progress, complete=complete)
        if log.isEnabledFor(logging.DEBUG):  # without the query: picture hosts sign theirs
            log.debug("%s %s: %s", call.method, url.with_query(None), got)
        return got

    async def _once(self, call: Call, url: URL, at: URL, progress: _Progress) -> None:
        """Make one request to an origin, and read what comes back as far as the limit."""
        way = self._ways.get((at, call.keyed))
        if way is None:
            way = self._ways[at, call.keyed] = self._way(url, at, keyed=call.keyed)
        session = await self._outside(url, way) if call.public else self._session
        response = progress.response = await session.request(
            call.method,
            url,
            data=None if call.body is None else _Body(call.body, progress),
            headers={**way.headers, **call.headers} if call.headers else way.headers,
            allow_redirects=False,
            proxy=way.proxy,
            proxy_headers=way.proxy_headers,
        )
        content = response.content
        try:
            # `response.read()` would lose what did arrive of a body that breaks off.
            while progress.size <= call.limit and not content.at_eof():
                chunk = await content.readany()
                progress.chunks.append(chunk)
                progress.size += len(chunk)
        finally:
            if not content.at_eof():
                response.close()

    async def _outside(self, url: URL, way: Way) -> aiohttp.ClientSession:
        """Return what makes connections to public addresses only.

        Through a proxy, or a connector of the user's, we do not connect ourselves: the name is
        looked up beforehand, as far as we can.
        """
        if self._guard is None:
            self._guard = PublicResolver(None if self._origin is None else self._origin.host)
        elsewhere = self._given is not None or way.proxy is not None
        await self._guard.check(url.host or "", names=elsewhere)
        if elsewhere:
            return self._session
        if self._guarded is None:
            self._guarded = self._new_session(None, self._guard)
        return self._guarded

    def _new_session(
        self, connector: aiohttp.BaseConnector | None, resolver: PublicResolver | None = None
    ) -> aiohttp.ClientSession:
        if connector is None:
            limit = self._connections
            ours = _Connector(limit=limit, keepalive_timeout=KEEP_ALIVE, resolver=resolver)
        return aiohttp.ClientSession(
            connector=connector or ours,
            connector_owner=connector is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect),
            headers={"user-agent": "fluxflex"},
        )

    def _way(self, url: URL, at: URL, *, keyed: bool) -> Way:
        """Return how an origin is reached, and what every request to it says."""
        way = way_to(url)
        if keyed and self._key and at == self._origin:
            way.headers["authorization"] = f"Bearer {self._key}"
        return way

    def _reply(self, call: Call, progress: _Progress, *, complete: bool) -> Reply:
        response = progress.response
        assert response is not None  # noqa: S101 - the caller has just looked
        body = b"".join(progress.chunks)[: call.limit]
        headers = {name.lower(): text for name, text in response.headers.items()}
        return Reply(
            status=response.status,
            headers=self._scrubber.texts(headers),
            body=self._scrubber.body(body) if call.keyed else body,  # a picture stays as it is
            complete=complete,
            oversized=progress.size > call.limit,
        )

    def _words(self, error: Exception) -> str:
        text = self._scrubber.text(str(error))
        return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _address(text: str) -> URL:
    """Quote what may not stand in a request line; the rest stays as it is, for it may be signed."""
    parts = urlsplit(text)
    path, query = (quote(part, _AS_IT_IS, errors="surrogateescape") for part in parts[2:4])
    return URL(urlunsplit(parts._replace(path=path, query=query)), encoded=True)


def _target(rule: Redirects, url: URL, got: Reply | Unanswered) -> URL | None:
    """Return where a redirect leads that is to be followed."""
    if rule is Redirects.NONE or isinstance(got, Unanswered) or got.status not in _REDIRECTS:
        return None
    location = got.headers.get("location")
    if not location:
        return None
    target = url.join(_address(location))
    if rule is Redirects.SAME_ORIGIN:
        return target if target.origin() == url.origin() else None
    downgraded = url.scheme == "https" and target.scheme != "https"
    return None if downgraded or target.scheme not in {"http", "https"} else target
