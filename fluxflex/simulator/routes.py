"""The front of the provider: routes, keys, and the faults that requests meet."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from aiohttp import web

from fluxflex.simulator import replies
from fluxflex.simulator.contract import GENERATIONS, Generation
from fluxflex.simulator.courier import Courier
from fluxflex.simulator.faults import Arrival, Ending, Fault, Faults, pick
from fluxflex.simulator.files import Gallery, served
from fluxflex.simulator.ledger import Ledger, SeenRequest, fingerprint
from fluxflex.simulator.provider import Provider
from fluxflex.simulator.replies import Reply
from fluxflex.simulator.wire import cut, send, send_part

_MOST_BYTES = 4 * 2**20
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})

Work = Callable[[web.Request, bytes], Awaitable[Reply]]
"""Do what a route is for, given the request and its body."""


class Front:
    """Take requests down in the ledger, let them meet their faults, and answer them."""

    def __init__(
        self,
        provider: Provider,
        ledger: Ledger,
        gallery: Gallery,
        courier: Courier,
        *,
        keys: Collection[str] | None,
        speed: float,
        faults: Faults,
    ) -> None:
        self.stopping = asyncio.Event()
        self._provider, self._ledger, self._gallery = provider, ledger, gallery
        self._courier = courier
        self._keys = None if keys is None else frozenset(keys)
        self._speed = speed
        self._posts_open = 0
        self.script(faults)

    def script(self, faults: Faults) -> None:
        """Let these faults happen from now on, from the beginning of their scripts."""
        self.faults = faults
        self._arrivals: Counter[str] = Counter()

    def application(self) -> web.Application:
        """Make the application; a new one for every start, as aiohttp wants it."""
        app = web.Application(client_max_size=_MOST_BYTES)
        add = app.router.add_route
        for generation in GENERATIONS.values():
            submit, status = partial(self._submit, generation), partial(self._status, generation)
            add("POST", generation.submit, partial(self._serve, "submit", submit))
            add("GET", generation.status, partial(self._serve, "status", status))
        for path in ("/account", "/v1/account"):
            add("GET", path, partial(self._serve, "account", self._account))
        for method in ("GET", "HEAD"):
            add(method, "/files/{task_id}.png", partial(self._serve, "files", self._file))
        add("*", "/{rest:.*}", partial(self._serve, "other", self._nowhere))
        return app

    async def _serve(self, kind: str, work: Work, request: web.Request) -> web.StreamResponse:
        is_post = request.method == "POST"
        self._posts_open += is_post
        self._ledger.peak_posts = max(self._ledger.peak_posts, self._posts_open)
        seen = _seen(request)
        self._ledger.record_request(kind, seen)
        self._courier.tick()
        try:
            body = await request.read()
            fault = self._fault(kind, seen, body)
            if fault is None:
                return send(await work(request, body))
            return await self._misbehave(fault, work, request, body)
        except web.HTTPRequestEntityTooLarge:
            return send(replies.TOO_LARGE)
        except web.RequestPayloadError:
            return send(replies.BROKEN_BODY)
        except ConnectionError:
            # The client went away in the middle of its body: nothing was asked, nobody listens.
            return cut(request, reset=False)
        finally:
            self._posts_open -= is_post

    def _fault(self, kind: str, seen: SeenRequest, body: bytes) -> Fault | None:
        script = getattr(self.faults, kind, ())
        if not script:
            return None
        self._arrivals[kind] += 1
        return pick(script, Arrival(self._arrivals[kind], seen, body))

    async def _misbehave(
        self, fault: Fault, work: Work, request: web.Request, body: bytes
    ) -> web.StreamResponse:
        await self._wait(fault.before)
        if self.stopping.is_set():
            return cut(request, reset=False)
        asked = _without_range(request) if fault.ignores_range else request
        reply = await work(asked, body) if fault.acts else replies.NO_ROUTE
        reply = fault.reply or reply
        await self._wait(fault.after)
        if fault.ending is Ending.HANG:
            await self.stopping.wait()
        if fault.ending is Ending.REPLY and not self.stopping.is_set():
            return send(reply)
        if fault.keep is not None:
            send_part(request, reply, fault.keep)
        return cut(request, reset=fault.ending is Ending.RESET)

    async def _wait(self, seconds: float) -> None:
        """Wait so many simulated seconds, or until the simulator stops."""
        if seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), seconds / self._speed)

    def _is_known(self, request: web.Request) -> bool:
        key = _key(request)
        return bool(key) and (self._keys is None or key in self._keys)

    async def _submit(self, generation: Generation, request: web.Request, body: bytes) -> Reply:
        if not self._is_known(request):
            return replies.UNAUTHORIZED
        if request.content_type != "application/json":
            return replies.NOT_JSON
        reply = self._provider.submit(generation, body)
        if reply.accepts is not None:
            await self._courier.hold(reply.accepts)
        return reply

    async def _status(self, generation: Generation, request: web.Request, _body: bytes) -> Reply:
        if not self._is_known(request):
            return replies.UNAUTHORIZED
        return self._provider.look(generation, request.match_info["task_id"])

    async def _account(self, request: web.Request, _body: bytes) -> Reply:
        return self._provider.account() if self._is_known(request) else replies.UNAUTHORIZED

    async def _file(self, request: web.Request, _body: bytes) -> Reply:
        task_id = request.match_info["task_id"]
        order = self._provider.painted(task_id)
        if order is None:
            return replies.NO_TASK
        picture = await self._gallery.picture(task_id, order)
        return served(picture, request.headers)

    async def _nowhere(self, _request: web.Request, _body: bytes) -> Reply:
        return replies.NO_ROUTE


def _key(request: web.Request) -> str:
    """Return the bearer's token, empty where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _without_range(request: web.Request) -> web.Request:
    headers = request.headers.copy()
    headers.popall("Range", None)
    return request.clone(headers=headers)


def _seen(request: web.Request) -> SeenRequest:
    headers = request.headers
    sent = headers.get("Authorization")
    return SeenRequest(
        method=request.method,
        path=request.path,
        host=headers.get("Host", ""),
        key=fingerprint(_key(request) or sent) if sent is not None else None,
        query=request.query_string,
        headers={
            name: value for name, value in headers.items() if name.lower() not in _SECRET_HEADERS
        },
    )
