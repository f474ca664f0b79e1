"""One HTTP exchange as values: what is sent, what came back, and how far it got.

Reprs are redacted: a `Call` never holds the key (the transport adds it), and bodies show only
their length.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from fluxflex._core.lifecycle import TaskEvent

# One for all that have none, and never written to.
_NOTHING: Mapping[str, str] = {}


class Intent(enum.Enum):
    """Why a call is made, which decides whether it may be repeated."""

    SUBMIT = "submit"  # bills, and the provider has no idempotency key
    READ = "read"  # costs nothing


class Redirects(enum.Enum):
    """Which redirects a call follows."""

    NONE = "none"
    SAME_ORIGIN = "same origin"
    ANY = "any"


class Phase(enum.Enum):
    """How far a request got that was not answered."""

    NEVER_SENT = "never sent"  # DNS, connect, TLS, the wait for a connection
    WRITING = "writing"  # the headers were handed over, the body perhaps not
    SENT = "sent"  # all of it was handed over


def _length(body: bytes | None) -> str:
    return "none" if body is None else f"{len(body)} bytes"


# Many are made and thrown away: without slots they are made in half the time.
@attrs.frozen(kw_only=True, slots=False)
class Call:
    """A request to be sent.

    Attributes:
        url: absolute, already quoted.
        body: JSON, or nothing.
        keyed: whether the API key goes with it; the transport sends it to the API's origin only.
        public: whether it may lead to public addresses only, as a URL that came by callback.
        limit: the largest body that is read, in bytes.
    """

    method: str
    url: str
    intent: Intent
    body: bytes | None = attrs.field(default=None, repr=_length)
    headers: Mapping[str, str] = _NOTHING
    redirects: Redirects = Redirects.NONE
    keyed: bool = True
    public: bool = False
    limit: int = 4 * 1024 * 1024


@attrs.frozen(kw_only=True, slots=False)
class Reply:
    """What came back: a status, headers with lower-case names, and the bytes that arrived.

    Attributes:
        complete: whether the body arrived whole; a broken transfer keeps what did arrive.
        oversized: whether the body was larger than the call's limit.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(default=_NOTHING, repr=False)
    body: bytes = attrs.field(default=b"", repr=_length)
    complete: bool = True
    oversized: bool = False


@attrs.frozen(kw_only=True)
class Unanswered:
    """No reply came.

    Attributes:
        reason: what happened, in words, without anything secret.
        hopeless: whether trying again cannot help, as with a certificate that does not fit.
    """

    phase: Phase
    reason: str
    hopeless: bool = False


@attrs.frozen(kw_only=True, slots=False)
class Answer:
    """What `decode` made of a reply.

    Attributes:
        status: what to judge it by: the HTTP status, or the body's `code` inside an HTTP 200.
        readable: whether the body was whole and JSON.
        page: whether the body is an HTML page, as gateways send them.
        code: the provider's own word, lower case.
        message: the provider's message.
        task_id: the task's id, wherever in the body it stood.
        retry_after: seconds the provider asks to wait.
        reply_id: the reply's `x-request-id` or `cf-ray`.
        excerpt: the first 4 KiB of the body as text.
        event: what was learnt about a task, where the body is about one.
        data: the body's `data` object, or the body itself where it has none.
    """

    status: int
    readable: bool
    page: bool = False
    code: str | None = None
    message: str | None = None
    task_id: str | None = None
    retry_after: float | None = None
    reply_id: str | None = None
    excerpt: str = attrs.field(default="", repr=False)
    event: TaskEvent | None = None
    data: Mapping[str, object] = attrs.field(default=_NOTHING, repr=False)
