"""Replies and callbacks in: tolerant. Body bytes become a `TaskEvent` or a refusal.

The contract of this reader:

- It never raises, whatever the bytes are.
- `data.status` decides about a task; the body's `code` and the HTTP status do not. A failed task
  may come as HTTP 400, and a running one with `code: 400`.
- Picture URLs are read from the documented places only, never harvested from elsewhere in a
  body: reference pictures stand there too.
- A status word that is not known means that the task is still running.
- An error inside an HTTP 200 is judged as the HTTP status that its `code` names.
- From a broken reply to a submit a whole task id is salvaged: the task exists and is billed.
  So it is from the reply to a dry run: the task was not asked for, and is billed all the same.
- The price in the reply to a dry run keeps its digits: it does not pass through a float.

Every shape is one file in `tests/samples/`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation

import attrs

from fluxflex._core import jsonlib
from fluxflex._core.exchange import Answer, Reply
from fluxflex._core.lifecycle import LAST_WORDS, Accepted, Completed, Failed, Running, TaskEvent
from fluxflex._core.retry import parse_retry_after
from fluxflex.errors import ContentPolicyError, GenerationError

NO_IMAGE = "no_image"
_EXCERPT = 4096
_LONGEST_TEXT = 1000
_HIGHEST_COST = 1_000_000
_LONGEST_ID = 512
_OK = 200
_BAD_REQUEST = 400
_SERVER_ERROR = 500
# A picture without a word is one that was made.
_ENDED_WELL = frozenset({"completed", ""})
KNOWN_WORDS = frozenset({"pending", "processing", "completed", "failed"})
# The provider's documented words for a refusal, for bodies that name no number.
_WORDS = {
    "validation_error": 422,
    "authentication_failed": 401,
    "insufficient_balance": 402,
    "rate_limit_exceeded": 429,
    "internal_error": 500,
}
_POLICY = re.compile(
    r"content[ _-]?polic|moderation|moderated|nsfw|safety (?:filter|system|polic|check)",
    re.IGNORECASE,
)
_TASK_ID = re.compile(rb'"task_id"\s*:\s*(?:("(?:[^"\\]|\\.)*")|(\d+)(?=\s*[,}\]]))')

_Object = Mapping[str, object]
_EMPTY: _Object = {}
# JSON with the text of each number in its place.
_as_written = functools.partial(json.loads, parse_float=str, parse_int=str)


def read_submit(reply: Reply, *, wall: float) -> Answer:
    """Read the reply to a submit; it is about a task only where it names the task's id."""
    body, data = _open(reply.body)
    task_id = _created(reply.body, body, data)
    event = _event(data, body or _EMPTY, task_id) if task_id else None
    if task_id and (event is None or isinstance(event, Running)):
        event = Accepted(task_id)
    return _answer(reply, body, data, task_id, event, wall=wall)


def read_status(reply: Reply, *, wall: float) -> Answer:
    """Read the reply to a status request."""
    body, data = _open(reply.body)
    task_id = _task_id(data, body or _EMPTY)
    event = _event(data, body or _EMPTY, task_id)
    if reply.status >= _BAD_REQUEST and _is_gateways(event, reply.status):
        event = None
    return _answer(reply, body, data, None, event, wall=wall)


def read_plain(reply: Reply, *, wall: float) -> Answer:
    """Read a reply that is not about a task, such as the account's."""
    body, data = _open(reply.body)
    return _answer(reply, body, data, None, None, wall=wall)


def read_quote(reply: Reply, *, wall: float) -> Answer:
    """Read the reply to a dry run; `cost_of` finds the price in it.

    Where it names a task, the provider created one all the same: `Answer.task_id` is its id.
    """
    body, data = _open(reply.body)
    task_id = _created(reply.body, body, data)
    answer = _answer(reply, body, data, task_id, None, wall=wall)
    return attrs.evolve(answer, data=_open(reply.body, _as_written)[1])


def cost_of(answer: Answer) -> Decimal | None:
    """Return what a dry run says that the request costs in USD; `None` where it names no sum."""
    return _cost(answer.data)


def read_callback(body: bytes) -> Completed | Failed | None:
    """Read the body of a callback; `None` where it brings no last word."""
    whole, data = _open(body)
    if whole is None:
        return None
    event = _event(data, whole, _task_id(data, whole), callback=True)
    return event if isinstance(event, LAST_WORDS) and event.task_id else None


def _open(
    raw: bytes, loads: Callable[[bytes], object] | None = None
) -> tuple[_Object | None, _Object]:
    """Return the body, and its `data` where it is wrapped in an envelope."""
    try:
        body = (loads or jsonlib.loads)(raw.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return None, _EMPTY
    if not isinstance(body, dict):
        return None, _EMPTY
    data = body.get("data")
    return body, data if isinstance(data, dict) else body


def _answer(
    reply: Reply,
    body: _Object | None,
    data: _Object,
    task_id: str | None,
    event: TaskEvent | None,
    *,
    wall: float,
) -> Answer:
    if event is not None:  # whatever else the reply says, it is about a task
        readable = body is not None
        return Answer(
            status=reply.status, readable=readable, task_id=task_id, event=event, data=data
        )
    code, message = _explanation(data, body or _EMPTY)
    return Answer(
        status=_status(reply.status, body, code),
        readable=body is not None,
        page=body is None and _is_page(reply),
        code=code,
        message=message,
        task_id=task_id,
        retry_after=parse_retry_after(reply.headers.get("retry-after"), wall),
        reply_id=reply.headers.get("x-request-id") or reply.headers.get("cf-ray"),
        excerpt=reply.body[:_EXCERPT].decode("utf-8", "replace"),
        event=event,
        data=data,
    )


def _status(http: int, body: _Object | None, word: str | None) -> int:
    if http != _OK or body is None:
        return http
    code = body.get("code")
    if isinstance(code, int) and not isinstance(code, bool) and code != _OK:
        # There was no redirect: such a code is as unknown as any.
        return _SERVER_ERROR if 300 <= code < 400 else code  # noqa: PLR2004 - the class of the code
    if (code is None or code == _OK) and body.get("success") is not False:
        return http
    return _WORDS.get(word or "", _SERVER_ERROR)


def _is_gateways(event: TaskEvent | None, status: int) -> bool:
    """Say whether `status: error` or `failed` is of the exchange that broke, not of a task."""
    if isinstance(event, Failed):
        return status != _BAD_REQUEST and event.task_id is None
    return isinstance(event, Running) and event.word not in KNOWN_WORDS


def _is_page(reply: Reply) -> bool:
    kind = reply.headers.get("content-type", "")
    return "html" in kind.lower() or reply.body.lstrip()[:1] == b"<"


def _task_id(*places: _Object) -> str | None:
    for place in places:
        value = place.get("task_id")
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and 0 < len(text := value.strip()) <= _LONGEST_ID:
            return text
    return None


def _created(raw: bytes, body: _Object | None, data: _Object) -> str | None:
    """Return the id of the task that a POST created, salvaged where the body is broken."""
    task_id = _task_id(data, body or _EMPTY)
    huge = isinstance(data.get("task_id"), float)  # orjson's reading of an integer over 64 bits
    return _salvage(raw) if task_id is None and (body is None or huge) else task_id


def _salvage(raw: bytes) -> str | None:
    found = _TASK_ID.search(raw)
    if found is None:
        return None
    try:
        return _task_id({"task_id": found[2].decode() if found[2] else jsonlib.loads(found[1])})
    except ValueError:
        return None


def _event(
    data: _Object, body: _Object, task_id: str | None, *, callback: bool = False
) -> TaskEvent | None:
    word = (_text(data.get("status")) or _text(body.get("status")) or "").lower()
    if word == "failed":
        return Failed(_failure(data, body, task_id))
    if word not in _ENDED_WELL:
        return Running(task_id, word)
    if urls := _urls(data, callback=callback):
        return Completed(task_id, urls, _cost(data), data, callback)
    return Failed(GenerationError(task_id=task_id, code=NO_IMAGE)) if word else None


def _urls(data: _Object, *, callback: bool) -> tuple[str, ...]:
    output, found = data.get("output"), []
    if isinstance(output, dict):
        found = [output.get("image_url"), *_listed(output)]
    found.append(data.get("image_url"))
    # Elsewhere than in a callback, a flat `image_urls` is the request's own: its references.
    if callback:
        found += _listed(data)
    pictures = [u for u in found if isinstance(u, str) and u.startswith(("http://", "https://"))]
    return tuple(dict.fromkeys(pictures))


def _listed(place: _Object) -> Iterable[object]:
    many = place.get("image_urls")
    return many if isinstance(many, list) else ()


def _failure(data: _Object, body: _Object, task_id: str | None) -> GenerationError:
    code, message = _explanation(data, body)
    policy = _POLICY.search(f"{code} {message}")
    kind = ContentPolicyError if policy else GenerationError
    return kind(task_id=task_id, code=code, detail=message)


def _explanation(data: _Object, body: _Object) -> tuple[str | None, str | None]:
    """Return the provider's code and message, from any of the places where they occur."""
    nested = (place.get("error") for place in (data, body))
    places = [data, *(error for error in nested if isinstance(error, dict)), body]
    codes = (_text(place.get("code")) for place in places)
    messages = (
        _text(place.get(name)) or _detail(place.get(name))
        for place in places
        for name in ("message", "error_message", "error", "detail")
    )
    code = next(filter(None, codes), None)
    message = next(filter(None, messages), None)
    return code.lower() if code else None, message[:_LONGEST_TEXT] if message else None


def _text(value: object) -> str | None:
    return value.strip()[:_LONGEST_TEXT] or None if isinstance(value, str) else None


def _detail(value: object) -> str | None:
    """Return the messages of a FastAPI-style list of faults."""
    if not isinstance(value, list):
        return None
    faults = [fault for fault in value if isinstance(fault, dict)]
    return "; ".join(filter(None, (_text(fault.get("msg")) for fault in faults))) or None


def _cost(data: _Object) -> Decimal | None:
    value = data.get("cost")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        cost = Decimal(str(value))
    except InvalidOperation:
        return None
    return cost if cost.is_finite() and 0 <= cost <= _HIGHEST_COST else None
