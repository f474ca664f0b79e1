"""The last metres: replies whole, cut short, or not at all."""

import socket
import struct
import sys
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from fluxflex.simulator.replies import Reply

# struct linger {on, 0 seconds}: closing then sends RST instead of FIN. Windows has shorts there.
_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


def send(reply: Reply) -> web.Response:
    """Return the whole reply."""
    headers = {**reply.headers, "Content-Type": reply.content_type}
    return web.Response(status=reply.status, body=reply.body, headers=headers)


def send_part(request: web.Request, reply: Reply, keep: int) -> None:
    """Announce the whole reply and send only the first `keep` bytes of its body."""
    transport = request.transport
    if transport is None:
        return
    head: Mapping[str, str] = {
        **reply.headers,
        "Content-Type": reply.content_type,
        "Content-Length": str(len(reply.body)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    first = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n{lines}\r\n"
    # aiohttp is honest about Content-Length, so this goes past it.
    transport.write(first.encode("latin-1") + reply.body[:keep])


def cut(request: web.Request, *, reset: bool) -> web.Response:
    """Close the connection after what was sent, or reset it; what is returned is never sent."""
    transport = request.transport
    if transport is not None:
        if reset:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            transport.abort()
        else:
            transport.close()
    return web.Response()
