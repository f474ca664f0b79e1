"""Callbacks: the provider tells at once when a task is over.

    receiver = WebhookReceiver("https://example.org/callbacks", secret=SECRET)
    async with receiver.serve("0.0.0.0", 8080), fluxflex.Session(webhooks=receiver) as session:
        image = await session.generate("a lighthouse in fog")

Whichever brings the last word first, a callback or a look, resolves the same handle. No callback,
lost, doubled, late, early, forged or broken, can do harm. The token in a callback's URL is its
password: keep it out of logs that others read (access logs of proxies write the path).
"""

from __future__ import annotations

from fluxflex.webhooks.asgi import asgi_app
from fluxflex.webhooks.receiver import WebhookReceiver
from fluxflex.webhooks.server import Server
from fluxflex.webhooks.signatures import HmacSignature, Verify
from fluxflex.webhooks.web import aiohttp_app

__all__ = ["HmacSignature", "Server", "Verify", "WebhookReceiver", "aiohttp_app", "asgi_app"]
