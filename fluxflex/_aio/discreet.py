"""A transport that keeps the tokens of callbacks out of everything that is read from replies."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from fluxflex._aio.transport import Transport
from fluxflex._core.exchange import Call, Reply, Unanswered


class Discreet:
    """A transport whose replies do not repeat what a callback URL keeps secret."""

    def __init__(self, transport: Transport, scrub: Callable[[bytes], bytes]) -> None:
        self._transport = transport
        self._scrub = scrub
        self.hurry = transport.hurry
        self.aclose = transport.aclose

    async def send(self, call: Call, *, timeout: float) -> Reply | Unanswered:
        """Send a call and return what came of it; never raise for the network."""
        got = await self._transport.send(call, timeout=timeout)
        if isinstance(got, Unanswered) or not call.keyed:
            return got
        body = self._scrub(got.body)
        return got if body is got.body else attrs.evolve(got, body=body)
