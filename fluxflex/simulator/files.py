"""The file host: pictures by task, whole or in part."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256

import attrs

from fluxflex.simulator.contract import Order
from fluxflex.simulator.replies import Reply

# A single range; what does not look like one is ignored, as RFC 9110 allows.
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_KEPT_PICTURES = 32

Painter = Callable[[Order], bytes]
"""Make the PNG of an order; called in a thread."""


class Gallery:
    """Paint pictures when they are first asked for and keep the latest few."""

    def __init__(self, paint: Painter, *, keep: int = _KEPT_PICTURES) -> None:
        self._paint = paint
        self._keep = keep
        self._pictures: OrderedDict[str, asyncio.Task[bytes]] = OrderedDict()

    async def picture(self, task_id: str, order: Order) -> bytes:
        """Return the task's picture; who asks while it is painted waits for the same one."""
        painting = self._pictures.get(task_id)
        if painting is None or painting.cancelled():
            painting = asyncio.create_task(asyncio.to_thread(self._paint, order))
            self._pictures[task_id] = painting
            if len(self._pictures) > self._keep:
                self._pictures.popitem(last=False)
        self._pictures.move_to_end(task_id)
        # One asker that goes away must not take the picture from the others.
        return await asyncio.shield(painting)

    async def close(self) -> None:
        """Wait for nobody: what a thread still paints is thrown away."""
        paintings = [painting for painting in self._pictures.values() if not painting.done()]
        for painting in paintings:
            painting.cancel()
        await asyncio.gather(*paintings, return_exceptions=True)


def served(picture: bytes, asked: Mapping[str, str]) -> Reply:
    """Answer a request for a picture: 200, 206 for a Range, 416 for one that lies outside."""
    etag = f'"{sha256(picture).hexdigest()[:16]}"'
    headers = {"Accept-Ranges": "bytes", "ETag": etag}
    reply = Reply(200, picture, "image/png", headers)
    match = _RANGE.fullmatch(asked.get("Range", ""))
    if match is None or asked.get("If-Range", etag) != etag:
        return reply
    first, last = match.groups()
    if not (first or last) or (first and last and int(last) < int(first)):
        return reply
    size = len(picture)
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= size:
        refusal = {**headers, "Content-Range": f"bytes */{size}"}
        return attrs.evolve(reply, status=416, body=b"", headers=refusal)
    part = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return attrs.evolve(reply, status=206, body=picture[start:stop], headers=part)
