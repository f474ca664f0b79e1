"""Errors of exchanges, built in one place: what an answer, or none, means to the user."""

from __future__ import annotations

import re

from fluxflex._core.exchange import Answer, Unanswered
from fluxflex.errors import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    ConfigurationError,
    FluxFlexError,
    InsufficientBalanceError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    SubmitUncertainError,
    TaskNotFoundError,
)

_BALANCE = re.compile(
    r"(?:insufficient|not enough|no|low) (?:account )?(?:balance|credit|fund)"
    r"|insufficient_(?:balance|credit|fund)",
    re.IGNORECASE,
)
_REQUEST_ERRORS, _TOO_MANY, _SERVER_ERRORS = 400, 429, 500
_KINDS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    402: InsufficientBalanceError,
    403: AuthenticationError,
    404: TaskNotFoundError,
    _TOO_MANY: RateLimitError,
}
# A 404 to a submit is about the address; a 503 that may be repeated turned it away as a 429 does.
_ON_SUBMIT: dict[int, type[APIError]] = {404: RequestRejectedError, 503: RateLimitError}


def refusal(answer: Answer, *, task_id: str | None = None, submit: bool = False) -> APIError:
    """Return the error of an answer that says no.

    Args:
        answer: what the provider said.
        task_id: the task the call was about; once there is one it is charged.
        submit: whether the call was a submit.
    """
    kinds = _KINDS | _ON_SUBMIT if submit else _KINDS
    kind = kinds.get(answer.status)
    if _BALANCE.search(f"{answer.code} {answer.message}") and answer.status < _SERVER_ERRORS:
        kind = InsufficientBalanceError
    elif kind is None:
        # A page or nonsense under another status, such as 200, is no word on the request either.
        rejected = _REQUEST_ERRORS <= answer.status < _SERVER_ERRORS
        kind = RequestRejectedError if rejected else ServerError
    words = answer.message or answer.code or "without saying why"
    return kind(
        f"The provider refused it with {answer.status}: {words}",
        status=answer.status,
        code=answer.code,
        retry_after=answer.retry_after,
        task_id=task_id,
    )


def paused(seconds: float) -> RateLimitError:
    """Return the error of a submit that was not sent since everything pauses for longer."""
    return RateLimitError(
        f"The provider asks for a pause of {seconds:.0f} s, longer than a submit may take",
        status=_TOO_MANY,
        retry_after=seconds,
    )


def unreachable(got: Unanswered) -> APIConnectionError:
    """Return the error of a call that never reached the provider."""
    return APIConnectionError(
        f"The provider was not reached: {got.reason}", retryable=not got.hopeless
    )


def failed_read(got: Answer | Unanswered, *, task_id: str | None = None) -> FluxFlexError:
    """Return the error of a reading call that was given up after its last attempt."""
    if isinstance(got, Answer):
        return refusal(got, task_id=task_id)
    return APIConnectionError(f"The provider did not answer: {got.reason}", task_id=task_id)


def redirected(answer: Answer) -> ConfigurationError:
    """Return the error of an API address that answers with a redirect."""
    return ConfigurationError(
        f"The API's address answers with a redirect ({answer.status}), which is not followed: "
        "the key and a paid request go to the API's own origin only",
        hint="Correct the base URL.",
    )


def interrupted() -> SubmitUncertainError:
    """Return the error of a submit that was in the air when everything was torn down."""
    return SubmitUncertainError("It was cut off before the reply came", phase="sent")


def uncertain(
    got: Answer | Unanswered, *, sent_at: float, payload_sha256: str
) -> SubmitUncertainError:
    """Return the error of a submit that was sent and whose fate is not known."""
    if isinstance(got, Unanswered):
        return SubmitUncertainError(
            f"The request was sent and not answered: {got.reason}",
            phase=got.phase.value,
            sent_at=sent_at,
            payload_sha256=payload_sha256,
        )
    what = f"HTTP {got.status}" if got.readable else f"an unreadable HTTP {got.status}"
    return SubmitUncertainError(
        f"The request was sent and answered with {what}, without a task id",
        phase="sent",
        status=got.status,
        sent_at=sent_at,
        payload_sha256=payload_sha256,
        reply_id=got.reply_id,
        excerpt=got.excerpt,
    )
