"""The tree of errors: as drawn, complete, picklable, and each one says what to do next."""

from __future__ import annotations

import copy
import pickle
import re
import traceback
from decimal import Decimal

import pytest

from fluxflex import errors
from fluxflex.errors import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    ContentPolicyError,
    DownloadError,
    Fault,
    FluxFlexError,
    GenerationError,
    InsufficientBalanceError,
    InvalidRequestError,
    JournalError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    SessionClosedError,
    SubmitUncertainError,
    TaskNotFoundError,
    TaskTimeoutError,
    WebhookError,
)

ONE_OF_EACH: list[tuple[FluxFlexError, str]] = [
    (FluxFlexError("Something broke"), "Something broke. It cost nothing."),
    (
        ConfigurationError("There is no key"),
        "There is no key. It cost nothing. Correct the set-up and start again.",
    ),
    (
        InvalidRequestError(
            [Fault("steps", "must be from 1 to 50, not 0"), Fault("cfg", "is bad")]
        ),
        (
            "Invalid request: steps must be from 1 to 50, not 0; cfg is bad. It cost nothing. "
            "Correct the fields that are named."
        ),
    ),
    (
        BudgetExceededError(
            budget=Decimal(1),
            spent=Decimal("0.94"),
            reserved=Decimal("0.04"),
            price=Decimal("0.06"),
        ),
        (
            "The budget of $1 has no room for a request of $0.06: $0.94 spent, $0.04 reserved. "
            "It cost nothing. Raise the budget, or wait for reserved money to be released."
        ),
    ),
    (
        JournalError("The disk is full"),
        (
            "The disk is full. It cost nothing. "
            "Mend the journal file or its disk, then run the same thing again."
        ),
    ),
    (
        SessionClosedError("The session closed before the task ended", task_id="t-1"),
        (
            "The session closed before the task ended (task t-1). "
            "The provider accepted it, so it is billed. "
            "Open a session and use `attach(task_id)` to follow the task."
        ),
    ),
    (
        APIConnectionError("The provider was not reached: no such host"),
        (
            "The provider was not reached: no such host. It cost nothing. "
            "Check the network, the proxy and the base URL, then try again."
        ),
    ),
    (
        APIError("No", status=418, code="teapot", retry_after=1.5),
        "No. It cost nothing. Read the provider's message.",
    ),
    (
        AuthenticationError("No", status=401),
        "No. It cost nothing. Check the API key and what it is allowed to do.",
    ),
    (
        InsufficientBalanceError("No", status=402),
        "No. It cost nothing. Top up the account, then try again.",
    ),
    (
        RequestRejectedError("No", status=422),
        "No. It cost nothing. Change the request as the message says.",
    ),
    (
        TaskNotFoundError("No", status=404, task_id="t-1", charged="unknown"),
        (
            "No (task t-1). It may have been billed. "
            "Check the task id, and that the key belongs to the same account."
        ),
    ),
    (
        RateLimitError("No", status=429, retry_after=3.0),
        (
            "No. It cost nothing. "
            "Try again later, with a lower concurrency or a longer `Timeouts.submit`."
        ),
    ),
    (ServerError("No", status=500), "No. It cost nothing. Try again later."),
    (
        SubmitUncertainError(
            "The request was sent and not answered",
            phase="sent",
            status=504,
            sent_at=1.5,
            payload_sha256="ab",
            reply_id="ray",
            excerpt="<html>",
        ),
        (
            "The request was sent and not answered. It may have been billed. "
            "Look at the account's usage before you submit it again; "
            "`RetryPolicy(resubmit_uncertain=True)` opts in to paying twice."
        ),
    ),
    (
        GenerationError(task_id="t-1", code="generation_failed", detail="Upstream error."),
        (
            "The task failed: Upstream error (task t-1). It may have been billed. "
            "Submit it again, or change the prompt."
        ),
    ),
    (
        ContentPolicyError(task_id="t-1", code="moderated"),
        (
            "The task failed: moderated (task t-1). It may have been billed. "
            "Rephrase the prompt; the same one will fail again."
        ),
    ),
    (
        TaskTimeoutError(task_id="t-1", seconds=600.0),
        (
            "The task did not end within 600 seconds (task t-1). "
            "The provider accepted it, so it is billed. "
            "Use `attach(task_id)` to go on following it: that costs nothing."
        ),
    ),
    (
        DownloadError("HTTP 403", task_id="t-1", url="https://files.example/a.png", local=True),
        (
            "HTTP 403 (task t-1). The provider accepted it, so it is billed. "
            "The picture is paid for: fetch it from its URL, or `attach(task_id)` and save."
        ),
    ),
    (
        WebhookError("The port is taken"),
        "The port is taken. It cost nothing. Check the receiver's public URL, host and port.",
    ),
]
ALL = [error for error, _ in ONE_OF_EACH]
by_kind = pytest.mark.parametrize("error", ALL, ids=[type(error).__name__ for error in ALL])


def kinds(base: type[FluxFlexError] = FluxFlexError) -> set[type[FluxFlexError]]:
    """Return a class of errors and all below it."""
    below = [kinds(kind) for kind in base.__subclasses__() if kind.__module__ == errors.__name__]
    return {base}.union(*below)


def drawn() -> dict[str, tuple[str, ...]]:
    """Return the bases of each class in the drawing of the module's docstring."""
    assert errors.__doc__ is not None
    line = re.compile(r" {4}((?:│ {3}| {4})*)(?:├── |└── )(\w+)(?: \((\w+)\))?")
    tree: dict[str, tuple[str, ...]] = {"FluxFlexError": ("Exception",)}
    path = ["FluxFlexError"]
    for found in map(line.match, errors.__doc__.splitlines()):
        if found is not None:
            depth = len(found[1]) // 4
            path[depth + 1 :] = [found[2]]
            tree[found[2]] = tuple(filter(None, (path[depth], found[3])))
    return tree


def test_the_tree_is_the_one_that_is_drawn() -> None:
    """The drawing in the module's docstring names every class, and each with its bases."""
    real = {kind.__name__: tuple(base.__name__ for base in kind.__bases__) for kind in kinds()}
    assert real == drawn()


def test_every_kind_is_tried_here() -> None:
    """The table above holds one of each class."""
    assert {type(error) for error in ALL} == kinds()


@pytest.mark.parametrize(
    ("error", "text"), ONE_OF_EACH, ids=[type(error).__name__ for error in ALL]
)
def test_says_what_happened_what_it_cost_and_what_to_do(error: FluxFlexError, text: str) -> None:
    """`str` gives the event, the task where one is known, the money and the next step."""
    assert str(error) == text


@by_kind
def test_carries_what_every_error_carries(error: FluxFlexError) -> None:
    """Every error has the five attributes, and every class but the base a hint of its own."""
    assert error.charged in {"no", "yes", "unknown"}
    assert isinstance(error.retryable, bool)
    assert error.task_id is None or error.task_id == "t-1"
    assert bool(error.hint) is (type(error) is not FluxFlexError)
    assert error.outcomes == ()


@by_kind
def test_pickles_and_copies_whole(error: FluxFlexError) -> None:
    """A pickled, copied or fresh error has every attribute, the arguments and the text."""
    for again in (
        pickle.loads(pickle.dumps(error)),  # noqa: S301 - our own bytes
        copy.copy(error),
        copy.deepcopy(error),
        error.fresh(),
    ):
        assert type(again) is type(error)
        assert again.__dict__ == error.__dict__
        assert again.args == error.args == (error.message,)
        assert (str(again), repr(again)) == (str(error), repr(error))


@by_kind
def test_fresh_has_no_traceback(error: FluxFlexError) -> None:
    """However often one error is raised, what `fresh` gives starts without a traceback."""
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            raise error
        assert caught.value is error
    again = error.fresh()
    assert again is not error
    assert again.__traceback__ is None
    assert traceback.extract_tb(error.__traceback__)


def test_a_note_on_one_fresh_error_is_not_on_another() -> None:
    """Each awaiter has an exception object of its own, notes and outcomes included."""
    error = JournalError("The disk is full")
    one, two = error.fresh(), error.fresh()
    one.add_note("seen in the first awaiter")
    assert not hasattr(two, "__notes__")
    assert not hasattr(error, "__notes__")


def test_a_known_task_id_means_that_it_is_charged() -> None:
    """Once a task id is known `charged` is `"yes"`, unless the caller knows better."""
    assert FluxFlexError("x").charged == "no"
    assert FluxFlexError("x", task_id="t-1").charged == "yes"
    assert SessionClosedError("x", task_id="t-1").charged == "yes"
    assert AuthenticationError("x", status=401, task_id="t-1").charged == "yes"
    assert FluxFlexError("x", task_id="t-1", charged="no").charged == "no"


def test_a_failed_task_may_or_may_not_be_charged() -> None:
    """For a `GenerationError` `charged` is `"unknown"`, since the provider does not say."""
    assert GenerationError(task_id="t-1").charged == "unknown"
    assert ContentPolicyError(task_id=None).charged == "unknown"


def test_the_standard_bases() -> None:
    """`except ValueError` and `except TimeoutError` catch the errors that are of that kind."""
    assert {kind.__name__ for kind in kinds() if issubclass(kind, ValueError)} == {
        "InvalidRequestError"
    }
    assert {kind.__name__ for kind in kinds() if issubclass(kind, TimeoutError)} == {
        "TaskTimeoutError"
    }


def test_what_may_succeed_later_unchanged() -> None:
    """`retryable` says so of what passes by itself, and a caller may say otherwise."""
    assert {type(error) for error in ALL if error.retryable} == {
        APIConnectionError,
        RateLimitError,
        ServerError,
        TaskTimeoutError,
        DownloadError,
    }
    assert not APIConnectionError("x", retryable=False).retryable
    assert FluxFlexError("x", hint="Do this.").hint == "Do this."


def test_a_failure_without_a_reason_says_so() -> None:
    """A failed task is explained by the message, else the code, else by saying there is none."""
    assert GenerationError(task_id=None, code="c", detail="d").message == "The task failed: d"
    assert GenerationError(task_id=None, code="c").message == "The task failed: c"
    silent = GenerationError(task_id=None)
    assert silent.message == "The task failed: the provider gives no reason"
