"""What the journal keeps of a task, and what it makes of it again."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxflex import errors
from fluxflex._aio.entry import (
    ACCEPTED,
    COLUMNS,
    JournalEntry,
    entry_of,
    error_text,
    path_text,
    request_text,
    row_of,
)
from fluxflex._core.lifecycle import (
    Abandoned,
    Accepted,
    Attached,
    Change,
    Completed,
    Failed,
    LeftUncertain,
    Sent,
    TaskEvent,
    TaskRecord,
    TaskState,
    TimedOut,
    TurnedAway,
    advance,
)
from fluxflex._core.request import ASPECT_RATIOS, QUALITIES, GenerateRequest
from fluxflex.errors import FluxFlexError, GenerationError, SubmitUncertainError

FOLDER = Path("/home/me/pictures")
REQUEST = GenerateRequest("a")
PRICE = Decimal("0.04")
ALL_ERRORS: list[FluxFlexError] = [
    errors.ConfigurationError("no"),
    errors.InvalidRequestError([errors.Fault("prompt", "is missing")]),
    errors.BudgetExceededError(budget=PRICE, spent=PRICE, reserved=PRICE, price=PRICE),
    errors.JournalError("no", task_id="t"),
    errors.SessionClosedError("closed", task_id="t"),
    errors.APIConnectionError("no route", hint="wait"),
    errors.RateLimitError("no", status=429, code="rate", retry_after=1.5),
    errors.AuthenticationError("no", status=401),
    errors.TaskNotFoundError("no", status=404, task_id="t", charged="unknown"),
    SubmitUncertainError("no answer", phase="sent", status=502, sent_at=1.5, excerpt="<html>"),
    GenerationError(task_id="t", code="bad", detail="worse ☃"),
    errors.ContentPolicyError(task_id="t", code="policy"),
    errors.TaskTimeoutError(task_id="t", seconds=600),
    errors.DownloadError("gone", task_id="t", url="http://a/b", local=True),
]


def entry(**values: Any) -> JournalEntry:
    """Return an entry of a row with these columns."""
    row = {"id": 1, "state": "QUEUED", **values}
    return entry_of([row.get(name) for name in COLUMNS], FOLDER)


def rows_of(*events: TaskEvent, cost: Decimal | None = None) -> list[dict[str, object]]:
    """Return what each step of a task changes in its row."""
    record = TaskRecord(key=3, request=REQUEST, created=0.0)
    found = []
    for at, event in enumerate(events):
        after = advance(record, event, float(at))
        change = Change(record, after, event)
        found.append(row_of(change, spent=cost, reserved=PRICE, wall=1000.0 + at))
        record = after
    return found


def test_an_empty_row_is_an_entry() -> None:
    """Columns that were never written are what they stand for: nothing."""
    found = entry()
    assert (found.id, found.state, found.attempts) == (1, TaskState.QUEUED, 0)
    assert (found.spent, found.reserved) == (Decimal(0), Decimal(0))
    assert (found.collected, found.replaced, found.unfinished) == (False, False, False)
    nothing = (found.run, found.number, found.digest, found.task_id, found.path, found.elapsed)
    assert nothing == (None,) * 6
    assert (found.request, found.result, found.error) == (None, None, None)
    assert (found.sent_at, found.accepted_at, found.ended_at) == (None, None, None)


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_comes_back_as_it_was(error: FluxFlexError) -> None:
    """Kind, words, id, money and hint; what an awaiter reads is the same sentence."""
    found = entry(error=error_text(error)).error
    assert found is not None
    assert type(found) is type(error)
    assert str(found) == str(error)
    for name in ("message", "task_id", "charged", "retryable", "hint"):
        assert getattr(found, name) == getattr(error, name)
    assert found.fresh().args == error.args
    assert str(pickle.loads(pickle.dumps(found))) == str(error)  # noqa: S301 - our own bytes


@pytest.mark.parametrize("name", ["OfALaterVersion", "annotations", "attrs", "TypeVar", None, 5])
def test_an_error_of_an_unknown_kind_is_still_one(name: object) -> None:
    """Whatever name stands there, it is an error of ours and nothing else is made."""
    text = json.dumps({"type": name, "args": ["hm"], "message": "hm", "task_id": None})
    found = entry(error=text).error
    assert type(found) is FluxFlexError


def test_an_error_holds_no_outcomes_and_no_objects() -> None:
    """Only plain values are kept of it."""
    error = errors.APIConnectionError("no")
    error.outcomes = (object(),)  # type: ignore[assignment]  # whatever it is
    kept = json.loads(error_text(error))
    assert "outcomes" not in kept
    found = entry(error=error_text(error)).error
    assert found is not None
    assert found.outcomes == ()


requests = st.builds(
    GenerateRequest,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
    aspect_ratio=st.sampled_from(ASPECT_RATIOS),
    quality=st.sampled_from(QUALITIES),
    steps=st.none() | st.integers(1, 50),
    cfg=st.none() | st.floats(1.5, 10) | st.integers(2, 10),
    image_urls=st.sampled_from([(), ("https://a.example/b.png",)]),
    metadata=st.none()
    | st.dictionaries(st.text("ab☃\x00"), st.integers(-(2**63), 2**63) | st.text("a\x00'\"")),
)


@given(requests)
@settings(deadline=None)
def test_a_request_comes_back_as_it_was(request: GenerateRequest) -> None:
    """Every field and the metadata; its digest is the same."""
    found = entry(request=request_text(request)).request
    assert found == request
    assert found is not None
    assert found.digest == request.digest


def test_large_numbers_in_metadata() -> None:
    """Whatever the size of a whole number, it comes back as the same."""
    asked = GenerateRequest("a", metadata={"n": 2**64, "deep": [{"m": -(10**30)}]})
    assert entry(request=request_text(asked)).request == asked


def test_a_callback_s_address_is_not_kept() -> None:
    """Its token is a secret."""
    asked = GenerateRequest("a", callback_url="https://me.example/secret-token", metadata={"n": 1})
    text = request_text(asked)
    assert "secret" not in text
    assert entry(request=text).request == GenerateRequest("a", metadata={"n": 1})


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/home/me/pictures/a/b.png", "a/b.png"),
        ("/home/me/pictures/b.png", "b.png"),
        ("/elsewhere/b.png", "/elsewhere/b.png"),
        ("/home/me/pictures-2/b.png", "/home/me/pictures-2/b.png"),
    ],
)
def test_a_path_below_the_journal_moves_with_it(path: str, kept: str) -> None:
    """Below its folder it is kept relative, elsewhere whole."""
    assert path_text(Path(path), FOLDER) == kept
    assert entry(path=kept).path == Path(path)
    moved = [{"id": 1, "state": "QUEUED", "path": kept}.get(name) for name in COLUMNS]
    expected = Path("/new") / kept
    assert entry_of(moved, Path("/new")).path == expected


def test_relative_paths_and_a_journal_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal and pictures named relative to the working folder are found again from there."""
    monkeypatch.chdir(tmp_path)
    kept = path_text(Path("out/a.png"), Path())
    assert kept == str(Path("out/a.png"))


def test_a_result_comes_back_exact() -> None:
    """Addresses, the reply as it came, and the cost to its last digit."""
    event = Completed("t", ("http://a/1", "http://a/2"), Decimal("0.1000000000000000000001"), {})
    *_, row = rows_of(Sent(), Accepted("t"), attrs_with(event, {"n": [1, {"x": None}]}))
    found = entry(**{**row, "id": 3, "task_id": "t"})
    assert found.result == attrs_with(event, {"n": [1, {"x": None}]})
    for text in ("[]", "{", json.dumps({"urls": None, "cost": None, "raw": 5})):
        with pytest.raises(errors.JournalError, match="damaged"):
            assert entry(result=text, task_id="t").result


def attrs_with(event: Completed, raw: dict[str, object]) -> Completed:
    """Return the event with another reply."""
    return Completed(event.task_id, event.urls, event.cost, raw)


def test_each_step_changes_what_it_brings() -> None:
    """State and attempts always; times, money, id and result where the step has them."""
    sent, away, again, accepted, done = rows_of(
        *(Sent(), TurnedAway(), Sent(), Accepted("t"), Completed("t", ("http://a/b",)))
    )
    assert sent == {
        "id": 3,
        "state": "SENDING",
        "attempts": 1,
        "error": "",
        "reserved": "0.04",
        "sent_at": 1000.0,
    }
    assert away == {"id": 3, "state": "QUEUED", "attempts": 1, "error": "", "reserved": "0"}
    assert (again["attempts"], again["sent_at"], again["reserved"]) == (2, 1002.0, "0.04")
    assert (accepted["state"], accepted["task_id"]) == ("RUNNING", "t")
    assert accepted["accepted_at"] == 1003.0
    assert (done["state"], done["ended_at"], done["elapsed"]) == ("COMPLETED", 1004.0, 1.0)
    assert "task_id" not in done
    assert "reserved" not in done


def test_a_late_last_word_takes_the_error_away() -> None:
    """Completed after it was given up: no error is left, and what it cost is known."""
    error = errors.TaskTimeoutError(task_id="t", seconds=1)
    *_, late, done = rows_of(
        *(Sent(), Accepted("t"), TimedOut(error), Completed("t", ("http://a/b",))), cost=PRICE
    )
    assert json.loads(str(late["error"]))["type"] == "TaskTimeoutError"
    assert (done["error"], done["state"], done["spent"]) == ("", "COMPLETED", "0.04")


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (TimedOut(errors.TaskTimeoutError(task_id="t", seconds=1)), "TIMED_OUT"),
        (Abandoned(errors.TaskNotFoundError("x", status=404, task_id="t")), "ABANDONED"),
        (Failed(GenerationError(task_id="t")), "FAILED"),
    ],
)
def test_how_it_ended_is_kept(event: TaskEvent, state: str) -> None:
    """With its error and its time."""
    *_, row = rows_of(Sent(), Accepted("t"), event)
    assert (row["state"], row["ended_at"]) == (state, 1002.0)
    found = entry(**{**row, "id": 3, "task_id": "t"})
    assert found.error is not None
    assert found.error.task_id == "t"
    assert found.unfinished == (state != "FAILED")


@pytest.mark.parametrize("state", list(TaskState))
def test_the_record_of_an_entry(state: TaskState) -> None:
    """What was accepted and has no last word runs again; anything else is as it ended."""
    error = error_text(GenerationError(task_id="t"))
    found = entry(state=state.name, task_id="t", attempts=2, error=error, elapsed=7.5)
    record = found.record(100.0)
    if state in ACCEPTED:
        assert (record.state, record.ended, record.error) == (TaskState.RUNNING, None, None)
    else:
        assert (record.state, record.ended) == (state, 107.5)
        assert record.error is not None
    assert (record.key, record.task_id, record.attempts, record.accepted) == (1, "t", 2, 100.0)


def test_an_uncertain_entry_has_a_record_without_an_id() -> None:
    """It was never accepted, as far as is known."""
    error = SubmitUncertainError("x", phase="sent")
    *_, row = rows_of(Sent(), LeftUncertain(error))
    record = entry(**{**row, "id": 3, "request": request_text(REQUEST)}).record(5.0)
    assert (record.state, record.accepted, record.ended) == (TaskState.UNCERTAIN, None, 5.0)
    assert (record.request, type(record.error)) == (REQUEST, SubmitUncertainError)


def test_following_again_brings_no_new_id() -> None:
    """A task that is followed again keeps the time at which it was accepted."""
    error = errors.TaskTimeoutError(task_id="t", seconds=1)
    *_, row = rows_of(Sent(), Accepted("t"), TimedOut(error), Attached("t"))
    assert row["state"] == "RUNNING"
    assert "accepted_at" not in row


def test_an_entry_is_a_value() -> None:
    """Equal by what it holds, also after a pickle; long texts stay out of its repr."""
    values: dict[str, Any] = {"request": request_text(REQUEST), "spent": "0.04", "path": "a.png"}
    one, two = entry(**values), entry(**values)
    assert one.request == REQUEST  # one was looked at, the other not
    assert one == two
    assert pickle.loads(pickle.dumps(one)) == two  # noqa: S301 - our own bytes
    assert pickle.loads(pickle.dumps(two)).request == REQUEST  # noqa: S301 - as above
    assert "prompt" not in repr(one)
    assert entry(id=2) != entry(id=3)


@pytest.mark.parametrize("state", ["LATER", "", "running", None])
def test_a_state_that_nobody_knows_is_damage(state: str | None) -> None:
    """It is said in words, and nothing is made of it."""
    with pytest.raises(errors.JournalError):
        entry(state=state)


@pytest.mark.parametrize("text", ["{}", '{"prompt": ""}', '{"prompt": "a", "mood": 1}', "[]"])
def test_a_request_that_is_none_is_damage(text: str) -> None:
    """It is said when it is asked for; the entry itself can be read."""
    found = entry(request=text)
    with pytest.raises(errors.JournalError):
        _ = found.request
