"""What the provider says: every shape of reply that FACTS.md knows, named as its sample file.

A shape is chosen with `Shapes`; the bodies are those of the samples, with the task's own id and
URL.
"""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import attrs

Document = dict[str, Any]
"""A JSON body about to be sent."""

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_encode = json.JSONEncoder(separators=(",", ":")).encode


@attrs.frozen
class Reply:
    """Hold one HTTP answer before it is sent. `accepts` is the task that was accepted with it."""

    status: int
    body: bytes = attrs.field(repr=False)
    content_type: str = "application/json"
    headers: Mapping[str, str] = _NO_HEADERS
    accepts: str | None = None


@attrs.frozen
class Failure:
    """Say why a task failed."""

    code: str = "generation_failed"
    message: str = "Generation failed"


CONTENT_POLICY = Failure(
    "generation_failed",
    "Generation failed. Please rephrase your prompt to comply with content policies.",
)
"""A refused prompt: it shows only in the words of the message (docs)."""


def as_json(
    document: Document, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS
) -> Reply:
    """Make a JSON reply."""
    return Reply(status, _encode(document).encode(), headers=headers)


def as_error(
    status: int, code: str, message: str, headers: Mapping[str, str] = _NO_HEADERS
) -> Reply:
    """Make a refusal in the provider's envelope."""
    return as_json({"code": status, "data": {"code": code, "message": message}}, status, headers)


UNAUTHORIZED = as_error(401, "authentication_failed", "Invalid API key provided")
NO_BALANCE = as_error(402, "insufficient_balance", "Insufficient balance")
NOT_JSON = as_error(422, "validation_error", "The request body must be application/json")
NO_TASK = as_error(404, "not_found", "Task not found")
NO_ROUTE = as_error(404, "not_found", "Not found")
TOO_LARGE = as_error(413, "request_too_large", "The request body is too large")
BROKEN_BODY = as_error(400, "bad_request", "The request body could not be read")
RATE_LIMITED = as_error(429, "rate_limit_exceeded", "Rate limit exceeded. Please try again later")


def account(user_id: int, balance: Decimal) -> Reply:
    """Make the account's reply. The balance keeps its digits: a float would round it."""
    return Reply(
        200,
        b'{"success":true,"code":200,"data":{"user_id":%d,"balance_usd":%s,'
        b'"email":"a@example.com","created_at":1750920400,"updated_at":1750920400}}'
        % (user_id, format(balance, "f").encode()),
    )


def priced(cost: Decimal) -> Reply:
    """Make the reply to a dry run. The cost keeps its digits, as the balance does."""
    cost_usd = format(cost, "f").encode()
    return Reply(200, b'{"code":200,"success":true,"data":{"cost":%s}}' % cost_usd)


def _ok(**data: object) -> Document:
    return {"code": 200, "data": data}


def _unified(**data: object) -> Document:
    return {"code": 200, "success": True, "data": data}


def _failed(task_id: str, **data: object) -> Document:
    return {"code": 400, "data": {"task_id": task_id, "status": "failed", **data}}


ACCEPTED: Mapping[str, Callable[[str], Document]] = {
    "accepted": lambda task: _ok(status="processing", task_id=task),
    "accepted-unified": lambda task: _unified(status="pending", task_id=task),
}
"""Replies to an accepted POST, by (task id)."""

RUNNING: Mapping[str, Callable[[str, str], Document]] = {
    "processing": lambda task, word: _ok(status=word, task_id=task),
    "pending-unified": lambda task, word: _unified(status=word, task_id=task),
    "code-400-still-processing": lambda task, word: {
        "code": 400,
        "data": {"task_id": task, "status": word},
    },
    "unknown-word": lambda task, _: _ok(status="upscaling", task_id=task),
}
"""Replies about a running task, by (task id, the provider's word for its state)."""

COMPLETED: Mapping[str, Callable[[str, str], Document]] = {
    "completed": lambda task, url: _ok(status="completed", task_id=task, output={"image_url": url}),
    "completed-unified": lambda task, url: _unified(
        status="completed", task_id=task, output={"image_url": url}
    ),
    "completed-flat-output": lambda task, url: _unified(
        status="completed", task_id=task, image_url=url
    ),
    "completed-many-images": lambda task, url: _unified(
        status="completed", task_id=task, output={"image_urls": [url, f"{url}?2"]}
    ),
    "completed-empty-error": lambda task, url: _ok(
        status="completed", task_id=task, output={"image_url": url}, error={}
    ),
    "completed-without-status": lambda task, url: {
        **_ok(output={"image_url": url}, task_id=task),
        "error": {},
    },
    "completed-without-image": lambda task, _: _ok(status="completed", task_id=task, output={}),
}
"""Replies about a completed task, by (task id, image URL)."""

FAILED: Mapping[str, Callable[[str, Failure], Document]] = {
    "failed-nested-error": lambda task, why: _failed(
        task, error={"message": why.message, "code": why.code}
    ),
    "failed-flat-error": lambda task, why: _failed(task, message=why.message, code=why.code),
    "failed-http-400": lambda task, why: _failed(task, message=why.message, code=why.code),
    "failed-content-policy": lambda task, why: {
        **_failed(task, message=why.message, code=why.code),
        "success": False,
    },
    "failed-error-message": lambda task, why: {
        **_failed(task, error_message=why.message),
        "code": 200,
    },
    "failed-error-text": lambda task, why: _failed(task, error=why.message),
    "failed-top-level-message": lambda task, why: {**_failed(task), "message": why.message},
}
"""Replies about a failed task, by (task id, why). All are HTTP 200 but "failed-http-400"."""

ALREADY_COMPLETED = "already-completed"
"""The shape of an accepted POST that says what the status route would say."""

_FAILED_OVER_HTTP = "failed-http-400"


@attrs.frozen(kw_only=True)
class Shapes:
    """Choose the shape of each kind of reply, by the name of its sample file.

    "completed-unified" has no sample: it is the example that openapi.yaml gives.

    The choices are the keys of `ACCEPTED` (and "already-completed"), `RUNNING`, `COMPLETED` and
    `FAILED` in `fluxflex.simulator.replies`.
    """

    accepted: str = attrs.field(
        default="accepted", validator=attrs.validators.in_([*ACCEPTED, ALREADY_COMPLETED])
    )
    running: str = attrs.field(default="processing", validator=attrs.validators.in_(RUNNING))
    completed: str = attrs.field(default="completed", validator=attrs.validators.in_(COMPLETED))
    failed: str = attrs.field(default="failed-nested-error", validator=attrs.validators.in_(FAILED))

    def as_running(self, task_id: str, word: str) -> Reply:
        """Answer a look at a running task; `word` is pending or processing."""
        return as_json(RUNNING[self.running](task_id, word))

    def as_completed(self, task_id: str, url: str) -> Reply:
        """Answer a look at a completed task."""
        return as_json(COMPLETED[self.completed](task_id, url))

    def as_failed(self, task_id: str, why: Failure) -> Reply:
        """Answer a look at a failed task."""
        status = 400 if self.failed == _FAILED_OVER_HTTP else 200
        return as_json(FAILED[self.failed](task_id, why), status)


FLAT = Shapes()
"""The usual shapes of the generation of the seed document."""

UNIFIED = Shapes(
    accepted="accepted-unified",
    running="pending-unified",
    completed="completed-unified",
    failed="failed-content-policy",
)
"""The usual shapes of the unified API: `success` stands beside `code` (docs).

For failures that is a guess: of their samples this is the only one with `success`.
"""
