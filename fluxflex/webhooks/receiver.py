"""`WebhookReceiver`: what every callback goes through, whatever server took it in.

It answers first and lets the work be done afterwards: a callback that is let in goes into the
bounded inbox of the session that sent its task. Who has no valid token leaves nothing behind but
a count.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
import ssl
from collections import Counter
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from fluxflex.errors import WebhookError
from fluxflex.webhooks.server import Server
from fluxflex.webhooks.signatures import Headers, Verify, header
from fluxflex.webhooks.tokens import Ticket, Tokens, looks_like_token

log = logging.getLogger("fluxflex")

LIMIT = 256 * 1024
OK = 200
# Why a callback is turned away, in the order in which that is looked at, and what it is told.
REFUSALS: Mapping[str, int] = {
    "method": 405,
    "path": 404,
    "token": 404,
    "type": 415,
    "size": 413,
    "signature": 401,
    "busy": 503,
}


class Inbox(Protocol):
    """The side of a session: it takes what was let in, and works on it after the answer.

    Attributes:
        session: the part of a ticket that names it.
    """

    session: bytes

    def put(self, ticket: Ticket, body: bytes) -> bool:
        """Take a callback; false where there is no room for it now."""
        ...


class WebhookReceiver:
    """Takes in the provider's callbacks for one session or several of the same event loop.

    Hand it to `Session(webhooks=receiver)`: every submit whose request has no `callback_url` of its
    own then gets `public_url` + `/` + token, a token that only the provider is told. Let callbacks
    reach it by `aiohttp_app`, `asgi_app`, `serve` or, in any other framework, by `receive`.
    Callbacks never are the only way: tasks are looked at as well, more seldom while callbacks come.

    Args:
        public_url: where the provider reaches the receiver, without the token. Port 0 stands for
            the port that `serve` gets, each time that it gets one.
        secret: what tokens are made with; random by default. Give the same one again (32 random
            bytes, kept like a password) and callbacks for tasks that an earlier process sent are
            known again after a restart.
        confirm: believe a callback only after the status endpoint said the same. It costs one
            status request for each, and makes a leaked URL worthless.
        verify: one more check of headers and raw body, such as `HmacSignature`; the documented
            provider signs nothing.
        limit: the largest body that is taken, in bytes.

    Raises:
        WebhookError: one of these cannot be used.
    """

    def __init__(
        self,
        public_url: str,
        *,
        secret: str | bytes | None = None,
        confirm: bool = False,
        verify: Verify | None = None,
        limit: int = LIMIT,
    ) -> None:
        self._url = _checked_url(public_url)
        # What a server's port is put into, where it is the server that settles it.
        self._template = self._url if urlsplit(self._url).port == 0 else None
        self._tokens = Tokens(secrets.token_bytes(32) if secret is None else secret)
        if verify is not None and not _is_function(verify):
            raise WebhookError(
                "verify must be a plain function of headers and body",
                hint="Such as `HmacSignature(secret)`: an object, not its class, and no coroutine.",
            )
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise WebhookError(
                f"limit must be a number of bytes from 1, not {limit!r}",
                hint=f"{LIMIT} is the default, and far more than a callback needs.",
            )
        if not isinstance(confirm, bool):
            raise WebhookError(
                f"confirm must be True or False, not {confirm!r}",
                hint="True asks the status endpoint before a callback is believed.",
            )
        self.confirm = confirm
        self.limit = limit
        self._verify = verify
        self._verify_failed = False
        self._counts: Counter[str] = Counter()
        self._inboxes: dict[bytes, Inbox] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._said = False

    def __repr__(self) -> str:
        return f"<WebhookReceiver at {self._url}: {len(self._inboxes)} sessions>"

    @property
    def public_url(self) -> str:
        """Where the provider reaches the receiver, without the token."""
        return self._url

    @property
    def counts(self) -> dict[str, int]:
        """How many callbacks were let in (`accepted`) and turned away, by why.

        `method`, `path`, `token`, `type`, `size` and `signature` say what was wrong with it;
        `busy` were told to come again: the inbox was full, or no session open.
        """
        return {name: self._counts[name] for name in ("accepted", *REFUSALS)}

    @property
    def refused(self) -> int:
        """How many callbacks were turned away, for whatever reason."""
        return sum(self._counts[name] for name in REFUSALS)

    async def receive(self, method: str, path: str, headers: Headers, body: bytes) -> int:
        """Take in one request and return the HTTP status to answer it with; never raises for it.

        The work is done after the answer: 200 says that the callback was let in, not that it was
        right. 503 asks the sender to try again.

        Args:
            method: as it stands in the request.
            path: of which the last part is the token; a query is left aside.
            headers: whose names may be written in capitals or not.
            body: the raw bytes.
        """
        return self.receive_now(method, path, headers, body)

    def receive_now(self, method: str, path: str, headers: Headers, body: bytes) -> int:
        """Do what `receive` does, for servers that need not wait."""
        found = self.check(method, path, headers)
        return found if isinstance(found, int) else self.take(found, headers, body)

    def check(self, method: str, path: str, headers: Headers) -> Ticket | int:
        """Return whose a request is, before its body is read, or the status to refuse it with.

        After a ticket `take` or `too_large` is to follow.
        """
        ticket = self.owner(method, path)
        if isinstance(ticket, int):
            return ticket
        if not _is_json(headers):
            return self._refuse("type")
        length = header(headers, "content-length")
        if length.isascii() and length.isdigit() and int(length[:20]) > self.limit:
            return self._refuse("size")
        return ticket

    def owner(self, method: str, path: str) -> Ticket | int:
        """Return whose a request is by its first line, or the status to refuse it with.

        It is enough where the headers are those of a request that `check` let pass.
        """
        if method != "POST":
            return self._refuse("method")
        token = _last_part(path)
        ticket = self._tokens.read(token)
        if ticket is None:
            return self._refuse("token" if looks_like_token(token) else "path")
        return ticket

    def too_large(self) -> int:
        """Return the status for a body that turned out to be larger than `limit`."""
        return self._refuse("size")

    def take(self, ticket: Ticket, headers: Headers, body: bytes) -> int:
        """Take the body of a request that was not turned away, and return its status."""
        if len(body) > self.limit:
            return self._refuse("size")
        if self._verify is not None and not self._verified(self._verify, headers, body):
            return self._refuse("signature")
        if not self._deliver(ticket, bytes(body)):
            return self._refuse("busy")
        self._counts["accepted"] += 1
        return OK

    def _verified(self, verify: Verify, headers: Headers, body: bytes) -> bool:
        try:
            return verify(headers, body) is True
        except Exception:
            if not self._verify_failed:
                log.exception("the signature check raised; callbacks are refused by it")
            self._verify_failed = True
            return False

    def _deliver(self, ticket: Ticket, body: bytes) -> bool:
        """Put a callback into the inbox of its session; true where somebody took it."""
        inbox = self._inboxes.get(ticket.session)
        if inbox is None and not self._inboxes:
            return False
        if asyncio.get_running_loop() is not self._loop:
            if not self._said:
                log.error("callbacks arrive in another event loop than the session's: refused")
            self._said = True
            return False
        if inbox is not None:
            return inbox.put(ticket, body)
        # Sent by an earlier process, or a session that is closed: whoever has the task knows it.
        taken = [other.put(ticket, body) for other in self._inboxes.values()]
        return any(taken)

    def _refuse(self, why: str) -> int:
        self._counts[why] += 1
        return REFUSALS[why]

    # -- the side of the session ---------------------------------------------------------------

    def join(self, inbox: Inbox) -> None:
        """Let a session that opens have its callbacks.

        Raises:
            WebhookError: it is in another event loop than those that are open.
        """
        self.check_loop()
        self._loop = asyncio.get_running_loop()
        self._inboxes[inbox.session] = inbox

    def leave(self, inbox: Inbox) -> None:
        """Let a session go; what comes for it from now on is counted."""
        self._inboxes.pop(inbox.session, None)

    def address(self, ticket: Ticket) -> str:
        """Return the callback URL of a task.

        Raises:
            WebhookError: its port is that of a server which was not entered yet.
        """
        if self._url == self._template:
            raise WebhookError(
                "The receiver's port is not known yet",
                hint="Enter `receiver.serve()` first, or give a public URL without port 0.",
            )
        return f"{self._url}/{self._tokens.make(ticket)}"

    def check_loop(self) -> None:
        """Refuse a session of another event loop than those that are open.

        Raises:
            WebhookError: it is one.
        """
        if self._inboxes and self._loop is not asyncio.get_running_loop():
            raise WebhookError(
                "The receiver belongs to another event loop",
                hint="Make one receiver for each event loop.",
            )

    # -- a server of its own -------------------------------------------------------------------

    def serve(
        self, host: str = "127.0.0.1", port: int = 0, *, ssl: ssl.SSLContext | None = None
    ) -> Server:
        """Return a small HTTP server for callbacks alone, to be used with `async with`.

        It keeps connections, bounds everything a sender may send or take its time with, and
        answers what it does not understand by closing. Its `port` is the one that it got.

        Args:
            host: the address to listen at; `"0.0.0.0"` for all of this machine's.
            port: 0 for any that is free.
            ssl: for HTTPS without a proxy before it.

        Raises:
            WebhookError: on entering, where it cannot listen there.
        """
        return Server(self, host, port, ssl=ssl, started=self._got_port)

    def _got_port(self, port: int) -> None:
        if self._template is not None:
            parts = urlsplit(self._template)
            host = parts.netloc.rpartition(":")[0]
            self._url = urlunsplit(parts._replace(netloc=f"{host}:{port}"))


def check_receiver(given: object, taker: str) -> None:
    """Refuse what is no receiver, with a `WebhookError`."""
    if not isinstance(given, WebhookReceiver):
        raise WebhookError(
            f"{taker} takes a WebhookReceiver, not {given!r}",
            hint="Hand over the one that the session has as `webhooks`.",
        )


def _last_part(path: str) -> str:
    return str(path).partition("?")[0].rpartition("/")[2]


def _is_function(verify: object) -> bool:
    unusable = inspect.isclass(verify) or inspect.iscoroutinefunction(verify)
    return callable(verify) and not unusable


def _is_json(headers: Headers) -> bool:
    kind = header(headers, "content-type").partition(";")[0].strip().lower()
    coding = header(headers, "content-encoding").strip().lower()
    json = kind == "application/json" or (kind.startswith("application/") and kind[-5:] == "+json")
    return json and coding in {"", "identity"}


def _checked_url(url: object) -> str:
    text = url.strip() if isinstance(url, str) else ""
    fault = _fault_of(text) if isinstance(url, str) else f"it is {url!r}"
    if fault is not None:
        raise WebhookError(
            f"The public URL must be an http(s) address without a query or a login: {fault}",
            hint="Give the address at which the provider reaches the receiver, such as "
            "https://example.org/flux-callbacks.",
        )
    return text.rstrip("/")


def _fault_of(text: str) -> str | None:
    """Say what is wrong with a URL, without what may be secret in it."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - it is read where it is asked for
    except ValueError:
        return "its host or its port is none"
    faults = {
        "it begins neither with https:// nor with http://": parts.scheme not in {"http", "https"},
        "it has no host": not parts.hostname,
        "it has a login": "@" in parts.netloc,
        "it has a query or a fragment": bool(parts.query or parts.fragment),
        "it has blanks": any(char.isspace() or not char.isprintable() for char in text),
    }
    return next((fault for fault, found in faults.items() if found), None)
