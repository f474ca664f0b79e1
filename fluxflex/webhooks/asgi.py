"""The receiver as an ASGI application: under uvicorn, or mounted in FastAPI or Starlette."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from fluxflex.webhooks.connection import ANSWER_HEADERS
from fluxflex.webhooks.receiver import WebhookReceiver, check_receiver

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Message, Receive, Send], Awaitable[None]]


def asgi_app(receiver: WebhookReceiver) -> ASGIApp:
    """Return an ASGI application that takes in callbacks at whatever path it is mounted.

    Bodies are read no further than the receiver's `limit`. Lifespan events are answered; where it
    is mounted the outer application has them. The server's access log writes tokens, as parts of
    paths: `uvicorn --no-access-log`.

    Raises:
        WebhookError: it is no receiver.
    """
    check_receiver(receiver, "asgi_app")

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            status = await _handled(receiver, scope, receive)
            if status is not None:
                await _answer(send, status)
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})

    return app


async def _handled(receiver: WebhookReceiver, scope: Message, receive: Receive) -> int | None:
    """Return the status of a request; `None` where the sender has gone."""
    path: str = scope["path"]
    headers = _headers(scope["headers"])
    found = receiver.check(scope["method"], path, headers)
    if isinstance(found, int):
        return found
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > receiver.limit:
            return receiver.too_large()
        more = message.get("more_body", False)
    return receiver.take(found, headers, bytes(body))


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, text in raw:
        headers.setdefault(name.decode("latin-1").lower(), text.decode("latin-1"))
    return headers


async def _answer(send: Send, status: int) -> None:
    more = ANSWER_HEADERS.get(status, {})
    headers = [(b"content-length", b"0")]
    headers += [(name.lower().encode(), text.encode()) for name, text in more.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
