"""The receiver as an aiohttp application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluxflex.webhooks.connection import ANSWER_HEADERS
from fluxflex.webhooks.receiver import WebhookReceiver, check_receiver

if TYPE_CHECKING:
    from aiohttp import web


def aiohttp_app(receiver: WebhookReceiver) -> web.Application:
    """Return an application that takes in callbacks: `app.add_subapp("/callbacks", …)`.

    Bodies are read no further than the receiver's `limit`. aiohttp's access log writes tokens, as
    parts of paths: `web.run_app(…, access_log=None)`.

    Raises:
        WebhookError: it is no receiver.
    """
    check_receiver(receiver, "aiohttp_app")
    from aiohttp import web  # a session without callbacks need not wait for a server's import

    async def handled(request: web.Request) -> int:
        found = receiver.check(request.method, request.path, request.headers)
        if isinstance(found, int):
            return found
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > receiver.limit:
                return receiver.too_large()
        return receiver.take(found, request.headers, bytes(body))

    async def handle(request: web.Request) -> web.Response:
        status = await handled(request)
        return web.Response(status=status, headers=ANSWER_HEADERS.get(status))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    return app
