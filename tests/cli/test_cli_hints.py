"""Hints: the command line speaks of its own options and commands, not of the library's calls."""

from __future__ import annotations

import pytest

from fluxflex import errors
from fluxflex.cli import hints

ID = "task-1"
LOCAL = errors.DownloadError("x", task_id=ID, url="u", local=True)
ROWS = [
    (
        errors.ConfigurationError("There is no API key", hint="Set X, or pass `api_key`."),
        "Set FLUXFLEX_API_KEY or UNIFICALLY_API_KEY. To try without a key: --simulate.",
    ),
    (errors.ConfigurationError("x", hint="Mend it."), "Mend it."),
    (
        errors.SubmitUncertainError("x", phase="sent"),
        "Look at the account's usage before you submit it again.",
    ),
    (errors.RateLimitError("x", status=429), "Try again later, or with a lower --concurrency."),
    (errors.DownloadError("x", task_id=ID, url="u"), "Fetch it with: fluxflex wait task-1"),
    (LOCAL, "Make room or choose another place, then fetch it with: fluxflex wait task-1"),
    (
        errors.TaskTimeoutError(task_id=ID, seconds=1),
        "To go on, at no further cost: fluxflex wait task-1",
    ),
    (errors.SessionClosedError("x"), "Submit it again."),
]


@pytest.mark.parametrize(("error", "words"), ROWS, ids=lambda value: type(value).__name__)
def test_each_error_has_its_hint(error: errors.FluxFlexError, words: str) -> None:
    """The hint ends the sentence, and stands there once."""
    assert hints.hint(error) == words
    assert hints.sentence(error).endswith(f" {words}")
    assert error.hint == words or error.hint not in hints.sentence(error)


@pytest.mark.parametrize("error", [error for error, _ in ROWS], ids=lambda e: type(e).__name__)
def test_a_rehearsal_speaks_of_no_money(error: errors.FluxFlexError) -> None:
    """Whatever goes wrong in a rehearsal was not paid for and cannot be fetched."""
    said = hints.sentence(error, simulated=True)
    assert "billed" not in said
    assert "fluxflex wait" not in said
