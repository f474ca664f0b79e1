"""Exit codes: which number stands for what, and which of several is given."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fluxflex import errors
from fluxflex.cli.exits import ORDER, Code, SignalledError, UsageError, code_of, code_of_item, first

ID = "task-1"
CODES = [
    (UsageError("x"), 2),
    (errors.InvalidRequestError([errors.Fault("steps", "is bad")]), 8),
    (errors.RequestRejectedError("x", status=422), 8),
    (errors.RequestRejectedError("x", status=400), 8),
    (errors.RequestRejectedError("x", status=409), 1),
    (errors.ConfigurationError("x"), 3),
    (errors.AuthenticationError("x", status=401), 3),
    (errors.InsufficientBalanceError("x", status=402), 6),
    (
        errors.BudgetExceededError(
            budget=Decimal(1), spent=Decimal(1), reserved=Decimal(0), price=Decimal(1)
        ),
        6,
    ),
    (errors.RateLimitError("x", status=429), 4),
    (errors.TaskNotFoundError("x", status=404), 5),
    (errors.TaskTimeoutError(task_id=ID, seconds=1), 7),
    (errors.SubmitUncertainError("x", phase="sent"), 10),
    (errors.GenerationError(task_id=ID), 9),
    (errors.ContentPolicyError(task_id=ID), 9),
    (errors.ServerError("x", status=500), 1),
    (errors.APIConnectionError("x"), 1),
    (errors.SessionClosedError("x"), 1),
    (errors.DownloadError("x", task_id=ID, url="u"), 1),
    (errors.JournalError("x"), 1),
    (OSError(28, "No space left on device"), 1),
    (KeyboardInterrupt(), 130),
    (SignalledError(2), 130),
    (SignalledError(15), 143),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda value: type(value).__name__)
def test_each_error_has_its_code(error: BaseException, code: int) -> None:
    """The table of the contract, row by row."""
    assert code_of(error) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.GenerationError(task_id=ID), 9),
        (errors.ServerError("x", status=500), 9),
        (errors.DownloadError("x", task_id=ID, url="u"), 9),
        (errors.DownloadError("x", task_id=ID, url="u", local=True), 1),
        (errors.JournalError("x"), 1),
        (errors.SubmitUncertainError("x", phase="sent"), 10),
        (errors.TaskTimeoutError(task_id=ID, seconds=1), 7),
    ],
)
def test_an_item_fails_its_batch_in_its_own_way(error: BaseException, code: int) -> None:
    """An item's failure counts as one; a full disk or a lost journal is this machine's fault."""
    assert code_of_item(error) == code


def test_the_first_code_that_fits_is_given() -> None:
    """Usage comes before input, key, money, limits, time, doubt, failure, and the rest."""
    assert list(map(int, ORDER)) == [2, 8, 3, 6, 4, 5, 7, 10, 9, 1, 0]
    assert set(ORDER) == set(Code)
    assert first([9, 1, 10]) == 10
    assert first([1, 9]) == 9
    assert first([]) == 0
