"""Errors of exchanges: which class, for which money, with which words."""

from __future__ import annotations

import pytest

from fluxflex._core import refusals
from fluxflex._core.exchange import Answer, Phase, Unanswered
from fluxflex.errors import (
    APIError,
    AuthenticationError,
    InsufficientBalanceError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    TaskNotFoundError,
)


def said(status: int, code: str | None = None, message: str | None = None) -> Answer:
    """Return an answer that says no."""
    return Answer(status=status, readable=True, code=code, message=message, retry_after=3.0)


@pytest.mark.parametrize(
    ("status", "read", "submit"),
    [
        (400, RequestRejectedError, RequestRejectedError),
        (401, AuthenticationError, AuthenticationError),
        (402, InsufficientBalanceError, InsufficientBalanceError),
        (403, AuthenticationError, AuthenticationError),
        (404, TaskNotFoundError, RequestRejectedError),
        (413, RequestRejectedError, RequestRejectedError),
        (422, RequestRejectedError, RequestRejectedError),
        (429, RateLimitError, RateLimitError),
        (499, RequestRejectedError, RequestRejectedError),
        (500, ServerError, ServerError),
        (502, ServerError, ServerError),
        (503, ServerError, RateLimitError),
        (200, ServerError, ServerError),
        (0, ServerError, ServerError),
    ],
)
def test_the_class_says_what_kind_of_no(
    status: int, read: type[APIError], submit: type[APIError]
) -> None:
    """Each status has its class; what is no 4xx is the server's fault, not the request's."""
    assert type(refusals.refusal(said(status))) is read
    assert type(refusals.refusal(said(status), submit=True)) is submit


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("insufficient_balance", None),
        ("insufficient_credits", None),
        ("validation_error", "Insufficient balance"),
        (None, "You have not enough credits left"),
        (None, "No funds"),
        (None, "low account balance"),
    ],
)
def test_no_money_may_be_said_in_words(code: str | None, message: str | None) -> None:
    """A refusal that speaks of the balance is about the balance, whatever its status is."""
    for status in (400, 402, 403, 422):
        assert type(refusals.refusal(said(status, code, message))) is InsufficientBalanceError
    assert type(refusals.refusal(said(500, code, message))) is ServerError


def test_a_refusal_keeps_what_was_said() -> None:
    """Status, code, message and the time to wait are on the error; a known task is charged."""
    error = refusals.refusal(said(422, "validation_error", "steps"), task_id="t-1")
    assert (error.status, error.code, error.retry_after) == (422, "validation_error", 3.0)
    assert (error.task_id, error.charged) == ("t-1", "yes")
    assert error.message == "The provider refused it with 422: steps"
    bare = refusals.refusal(said(422, "validation_error"))
    assert (bare.task_id, bare.charged) == (None, "no")
    assert bare.message == "The provider refused it with 422: validation_error"
    assert refusals.refusal(said(422)).message.endswith("422: without saying why")


def test_a_pause_that_is_too_long() -> None:
    """A submit that was never sent is turned away as by a 429, with the seconds to wait."""
    error = refusals.paused(41.6)
    assert isinstance(error, RateLimitError)
    assert "a pause of 42 s" in error.message
    assert (error.status, error.retry_after) == (429, 41.6)
    assert (error.charged, error.retryable) == ("no", True)


@pytest.mark.parametrize("hopeless", [False, True])
def test_unreachable(hopeless: bool) -> None:  # noqa: FBT001 - a row
    """What was never sent cost nothing, and may succeed later unless it is hopeless."""
    got = Unanswered(phase=Phase.NEVER_SENT, reason="no such host", hopeless=hopeless)
    error = refusals.unreachable(got)
    assert error.message == "The provider was not reached: no such host"
    assert (error.charged, error.retryable) == ("no", not hopeless)


def test_a_reading_call_that_was_given_up() -> None:
    """An answered one is a refusal, an unanswered one a lost connection; both know the task."""
    refused = refusals.failed_read(said(404), task_id="t-1")
    assert isinstance(refused, TaskNotFoundError)
    assert (refused.task_id, refused.charged) == ("t-1", "yes")
    lost = refusals.failed_read(Unanswered(phase=Phase.SENT, reason="reset"), task_id="t-1")
    assert (lost.task_id, lost.charged) == ("t-1", "yes")
    assert lost.message == "The provider did not answer: reset"
    assert refusals.failed_read(Unanswered(phase=Phase.SENT, reason="reset")).charged == "no"


def test_redirected() -> None:
    """A redirect on the API's address is a matter of the set-up, and cost nothing."""
    error = refusals.redirected(said(307))
    assert "(307)" in error.message
    assert (error.charged, error.hint) == ("no", "Correct the base URL.")


@pytest.mark.parametrize("phase", [Phase.WRITING, Phase.SENT])
def test_uncertain_without_an_answer(phase: Phase) -> None:
    """How far it got, when, and the hash of what was sent are on the error."""
    got = Unanswered(phase=phase, reason="reset")
    error = refusals.uncertain(got, sent_at=7.0, payload_sha256="ab")
    assert (error.phase, error.sent_at, error.payload_sha256) == (phase.value, 7.0, "ab")
    assert (error.status, error.excerpt, error.charged) == (None, None, "unknown")


@pytest.mark.parametrize(
    ("readable", "words"), [(True, "with HTTP 504"), (False, "with an unreadable HTTP 504")]
)
def test_uncertain_after_an_answer(readable: bool, words: str) -> None:  # noqa: FBT001 - a row
    """Status, the reply's id and an excerpt are kept for whoever looks into it."""
    got = Answer(status=504, readable=readable, reply_id="ray", excerpt="<html>")
    error = refusals.uncertain(got, sent_at=7.0, payload_sha256="ab")
    assert (error.phase, error.status, error.reply_id) == ("sent", 504, "ray")
    assert (error.excerpt, error.charged) == ("<html>", "unknown")
    assert words in error.message


def test_what_was_cut_off_may_have_been_billed() -> None:
    """A submit in the air when everything is torn down is uncertain, as one without a reply is."""
    error = refusals.interrupted()
    assert (error.phase, error.charged, error.retryable) == ("sent", "unknown", False)
