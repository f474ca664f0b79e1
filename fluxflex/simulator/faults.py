"""What goes wrong on the way, as values that a rehearsal scripts.

Every fault answers four questions: does the provider do its work first (accept and bill the task),
how long does it take, what is said instead of the true reply, and how does the exchange end. One
more fault to rehearse is one more function here.

    Faults(
        submit=[None, accept_then_drop(), rate_limited(retry_after=2)],    # the 2nd and 3rd POST
        status=share(0.5, gateway(502)),                                   # half of all looks
        files=when(lambda arrival: "Range" in arrival.seen.headers, whole()),
    )

A sequence is used up in order, one entry a request, None = behave; after its end all behave. A
callable is asked for every request. Both see requests of their own kind only, counted from 1 since
the faults were set.
"""

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TypeAlias

import attrs

from fluxflex.simulator.chance import draw
from fluxflex.simulator.ledger import SeenRequest
from fluxflex.simulator.replies import RATE_LIMITED, Reply, as_error, as_json

RetryAfter: TypeAlias = float | str | None
"""Seconds, or the header's text as it is (a date, nonsense), or no such header."""


class Ending(enum.Enum):
    """How an exchange ends."""

    REPLY = enum.auto()
    CLOSE = enum.auto()
    RESET = enum.auto()
    HANG = enum.auto()


@attrs.frozen(kw_only=True)
class Fault:
    """Describe one departure from what the provider ought to do; the functions below make them.

    Delays are simulated seconds: `before` the provider's work, and `after` it. `acts` says whether
    the work is done at all. `reply` replaces the true reply. `keep` is how many bytes of the body
    are sent under a full Content-Length.
    """

    name: str
    acts: bool = True
    before: float = 0.0
    after: float = 0.0
    reply: Reply | None = None
    keep: int | None = None
    ignores_range: bool = False
    ending: Ending = Ending.REPLY


@attrs.frozen
class Arrival:
    """Describe a request to a script that decides about it. `number` counts its kind, from 1."""

    number: int
    seen: SeenRequest
    body: bytes = attrs.field(repr=False)

    @property
    def payload(self) -> dict[str, object]:
        """Return the JSON object that came, empty where none did."""
        try:
            payload = json.loads(self.body)
        except ValueError:
            return {}
        return payload if isinstance(payload, dict) else {}


Script: TypeAlias = Sequence[Fault | None] | Callable[[Arrival], Fault | None]
"""Who is hit: a sequence used up in order, or a callable asked every time."""


@attrs.frozen(kw_only=True)
class Faults:
    """Script what goes wrong with each kind of request; one value may serve several simulators."""

    submit: Script = ()
    status: Script = ()
    files: Script = ()
    account: Script = ()


def pick(script: Script, arrival: Arrival) -> Fault | None:
    """Return what this script has for this request."""
    if callable(script):
        return script(arrival)
    return script[arrival.number - 1] if arrival.number <= len(script) else None


def share(fraction: float, fault: Fault, *, seed: int = 0) -> Callable[[Arrival], Fault | None]:
    """Hit this share of all requests, from 0 to 1, the same ones for the same seed."""
    return when(lambda arrival: draw(seed, fault.name, arrival.number) < fraction, fault)


def when(test: Callable[[Arrival], bool], fault: Fault) -> Callable[[Arrival], Fault | None]:
    """Hit every request for which the test holds."""
    return lambda arrival: fault if test(arrival) else None


def waiting(retry_after: RetryAfter) -> dict[str, str]:
    """Return the Retry-After header, or no header."""
    if retry_after is None:
        return {}
    return {"Retry-After": retry_after if isinstance(retry_after, str) else f"{retry_after:g}"}


def _page(status: int, headers: Mapping[str, str] | None = None) -> Reply:
    title = f"{status} {HTTPStatus(status).phrase}"
    page = f"<html><head><title>{title}</title></head><body>nginx</body></html>"
    return Reply(status, page.encode(), "text/html", headers or {})


def reset() -> Fault:
    """Reset the connection before anything is processed: nothing is accepted, nothing billed."""
    return Fault(name="reset", acts=False, ending=Ending.RESET)


def accept_then_drop(*, reset: bool = False) -> Fault:
    """Accept and bill, then close the connection (or reset it) without a reply."""
    return Fault(name="accept_then_drop", ending=Ending.RESET if reset else Ending.CLOSE)


def rate_limited(retry_after: RetryAfter = None) -> Fault:
    """Answer 429; nothing is accepted. `retry_after` may be any nonsense."""
    reply = attrs.evolve(RATE_LIMITED, headers=waiting(retry_after))
    return Fault(name="rate_limited", acts=False, reply=reply)


def error(
    status: int,
    *,
    code: str = "internal_error",
    message: str = "Internal server error",
    http_status: int | None = None,
    retry_after: RetryAfter = None,
    accepts: bool = False,
) -> Fault:
    """Answer with the provider's JSON envelope.

    `http_status` is for an envelope that says one thing and HTTP another: a refusal inside a 200.
    """
    reply = as_error(status, code, message, waiting(retry_after))
    if http_status is not None:
        reply = attrs.evolve(reply, status=http_status)
    return Fault(name=f"error {status}", acts=accepts, reply=reply)


def gateway(status: int = 502, *, retry_after: RetryAfter = None, accepts: bool = False) -> Fault:
    """Answer with a gateway's HTML page; with `accepts` the task behind it was accepted."""
    page = _page(status, waiting(retry_after))
    return Fault(name=f"gateway {status}", acts=accepts, reply=page)


def truncated(keep: int, *, reset: bool = False) -> Fault:
    """Announce the whole body, send its first `keep` bytes, close. A submit is accepted."""
    ending = Ending.RESET if reset else Ending.CLOSE
    return Fault(name="truncated", keep=keep, ending=ending)


def unreadable(*, accepts: bool = False) -> Fault:
    """Answer 200 with an HTML page where JSON, or a picture, is due."""
    page = Reply(200, b"<html>Welcome</html>", "text/html")
    return Fault(name="unreadable", acts=accepts, reply=page)


def no_task_id(*, accepts: bool = True) -> Fault:
    """Answer 200 and "processing" without saying which task."""
    reply = as_json({"code": 200, "data": {"status": "processing"}})
    return Fault(name="no_task_id", acts=accepts, reply=reply)


def slow(*, before: float = 0.0, after: float = 0.0) -> Fault:
    """Wait before the work, which is done even if the client gave up, or before the reply."""
    return Fault(name="slow", before=before, after=after)


def hang(*, accepts: bool = False) -> Fault:
    """Never answer; the connection stays open until the simulator stops."""
    return Fault(name="hang", acts=accepts, ending=Ending.HANG)


def redirect(location: str, *, status: int = 307) -> Fault:
    """Send the client elsewhere; nothing is accepted."""
    reply = Reply(status, b"", "text/html", {"Location": location})
    return Fault(name=f"redirect {status}", acts=False, reply=reply)


def expired(status: int = 403) -> Fault:
    """Answer as a file host does for a URL that lived too long, with 403 or 404."""
    return Fault(name=f"expired {status}", acts=False, reply=_page(status))


def whole() -> Fault:
    """Ignore a Range header: 200 and the whole file instead of 206 and a part."""
    return Fault(name="whole", ignores_range=True)


def custom(
    status: int,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
    accepts: bool = False,
) -> Fault:
    """Answer with anything at all."""
    reply = Reply(status, body, content_type, dict(headers or {}))
    return Fault(name=f"custom {status}", acts=accepts, reply=reply)
