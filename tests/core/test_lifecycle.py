"""The law of the states: the full product of states and events, written out a second time."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

import attrs
import pytest

from fluxflex._core.lifecycle import (
    TABLE,
    Abandoned,
    Accepted,
    Attached,
    Change,
    Completed,
    Failed,
    LeftUncertain,
    Running,
    Sent,
    TaskEvent,
    TaskRecord,
    TaskState,
    TimedOut,
    TurnedAway,
    advance,
)
from fluxflex._core.request import GenerateRequest
from fluxflex.errors import (
    ContentPolicyError,
    GenerationError,
    SessionClosedError,
    SubmitUncertainError,
    TaskTimeoutError,
)

# One of each kind of event, in the order of the columns below.
EVENTS: dict[str, TaskEvent] = {
    "Sent": Sent(),
    "TurnedAway": TurnedAway(),
    "Accepted": Accepted("t-1"),
    "Attached": Attached("t-1"),
    "Running": Running("t-1", "processing"),
    "Completed": Completed("t-1", ("https://files.example/a.png",), Decimal("0.04"), {"x": 1}),
    "Failed": Failed(GenerationError(task_id="t-1")),
    "LeftUncertain": LeftUncertain(SubmitUncertainError("Sent, not answered", phase="sent")),
    "TimedOut": TimedOut(TaskTimeoutError(task_id="t-1", seconds=600)),
    "Abandoned": Abandoned(SessionClosedError("Closed", task_id="t-1")),
}
COLUMNS = """
            Sent    TurnedAway Accepted Attached Running Completed Failed LeftUncertain TimedOut  Abandoned
QUEUED      SENDING -          RUNNING  RUNNING  -       COMPLETED FAILED -             -         -
SENDING     SENDING QUEUED     RUNNING  -        -       COMPLETED FAILED UNCERTAIN     -         -
RUNNING     -       -          -        -        RUNNING COMPLETED FAILED -             TIMED_OUT ABANDONED
COMPLETED   -       -          -        -        -       -         -      -             -         -
FAILED      -       -          -        -        -       -         -      -             -         -
TIMED_OUT   -       -          -        RUNNING  -       COMPLETED FAILED -             -         -
ABANDONED   -       -          -        RUNNING  -       COMPLETED FAILED -             -         -
UNCERTAIN   -       -          RUNNING  -        -       COMPLETED FAILED -             -         -
"""  # noqa: E501 - a table is read along its rows
HEAD, *LINES = [line.split() for line in COLUMNS.split("\n") if line.strip()]
EXPECTED = {
    (TaskState[state], kind): None if cell == "-" else TaskState[cell]
    for state, *cells in LINES
    for kind, cell in zip(HEAD, cells, strict=True)
}
PRODUCT = [(state, kind) for state in TaskState for kind in EVENTS]
LAST = [TaskState.COMPLETED, TaskState.FAILED]
OURS = [TaskState.TIMED_OUT, TaskState.ABANDONED, TaskState.UNCERTAIN]


def record_in(state: TaskState) -> TaskRecord:
    """Return a record as it stands in a state, with the time stamps of its way there."""
    known = state not in {TaskState.QUEUED, TaskState.SENDING, TaskState.UNCERTAIN}
    gone_wrong = state.over and state is not TaskState.COMPLETED
    return TaskRecord(
        key=1,
        request=GenerateRequest("a"),
        created=10.0,
        state=state,
        task_id="t-1" if known else None,
        attempts=0 if state is TaskState.QUEUED else 1,
        accepted=11.0 if known else None,
        ended=12.0 if state.over else None,
        result=Completed("t-1", ("https://files.example/a.png",))
        if state is TaskState.COMPLETED
        else None,
        error=GenerationError(task_id="t-1") if gone_wrong else None,
    )


def test_the_expectation_covers_the_product() -> None:
    """The table above has one cell for every state and every kind of event there is."""
    assert set(EXPECTED) == set(PRODUCT)
    assert [type(event) for event in EVENTS.values()] == list(get_args(TaskEvent))
    assert [type(event).__name__ for event in EVENTS.values()] == HEAD


def test_the_law_has_every_cell() -> None:
    """`TABLE` names every state, and each of them every kind of event."""
    assert list(TABLE) == list(TaskState)
    for row in TABLE.values():
        assert set(row) == set(get_args(TaskEvent))


@pytest.mark.parametrize(("state", "kind"), PRODUCT)
def test_every_event_in_every_state(state: TaskState, kind: str) -> None:
    """Each cell of the product is as written out above; absorbed means the same object."""
    before = record_in(state)
    after = advance(before, EVENTS[kind], 20.0)
    expected = EXPECTED[state, kind]
    if expected is None:
        assert after is before
    else:
        assert after is not before
        assert after.state is expected
        assert after.ended == (20.0 if expected.over else None)
        assert (after.key, after.request, after.created) == (1, before.request, 10.0)


@pytest.mark.parametrize(("state", "kind"), PRODUCT)
def test_a_change_says_what_it_does(state: TaskState, kind: str) -> None:
    """`ends` and `revives` cross the line between followed and over; `names` brings the id.

    `begins` is where there is something to look at from now on.
    """
    before = record_in(state)
    change = Change(before, advance(before, EVENTS[kind], 20.0), EVENTS[kind])
    to = EXPECTED[state, kind] or state
    assert change.ends is (not state.over and to.over)
    assert change.revives is (state.over and not to.over)
    assert change.begins is (to is TaskState.RUNNING and state is not TaskState.RUNNING)
    bringing = {"Accepted", "Attached", "Completed", "Failed"}
    unnamed = {TaskState.QUEUED, TaskState.SENDING, TaskState.UNCERTAIN}
    moved = EXPECTED[state, kind] is not None
    assert change.names is (moved and kind in bringing and state in unnamed)


def test_what_is_followed() -> None:
    """Three states are followed, the other five are over; two of these are settled for good."""
    assert [state.name for state in TaskState if not state.over] == ["QUEUED", "SENDING", "RUNNING"]
    assert [state.name for state in TaskState if state.settled] == ["COMPLETED", "FAILED"]


@pytest.mark.parametrize("state", OURS)
@pytest.mark.parametrize("kind", ["Completed", "Failed"])
def test_the_provider_s_last_word_beats_ours(state: TaskState, kind: str) -> None:
    """A last word that comes late turns what we gave up into what the provider says."""
    after = advance(record_in(state), EVENTS[kind], 20.0)
    assert after.state.name == kind.upper()
    assert after.ended == 20.0
    assert after.task_id == "t-1"
    assert isinstance(after.error, GenerationError) is (kind == "Failed")
    assert (after.result is EVENTS[kind]) is (kind == "Completed")


@pytest.mark.parametrize("state", LAST)
@pytest.mark.parametrize("kind", list(EVENTS))
def test_the_first_last_word_stays(state: TaskState, kind: str) -> None:
    """Nothing changes a record that is `COMPLETED` or `FAILED`."""
    before = record_in(state)
    assert advance(before, EVENTS[kind], 20.0) is before


def test_the_way_of_a_task_with_its_time_stamps() -> None:
    """Created, sent twice, accepted, running, completed: each step leaves its own mark."""
    record = TaskRecord(key=1, request=None, created=1.0)
    sent = advance(record, Sent(), 2.0)
    assert sent == attrs.evolve(record, state=TaskState.SENDING, attempts=1)
    away = advance(sent, TurnedAway(), 3.0)
    assert away == attrs.evolve(sent, state=TaskState.QUEUED)
    again = advance(away, Sent(), 4.0)
    assert again.attempts == 2
    accepted = advance(again, Accepted("t-1"), 5.0)
    assert accepted == attrs.evolve(again, state=TaskState.RUNNING, task_id="t-1", accepted=5.0)
    running = advance(accepted, Running("t-1", "pending"), 6.0)
    assert running == attrs.evolve(accepted, word="pending")
    done = Completed("t-1", ("https://files.example/a.png",))
    completed = advance(running, done, 7.0)
    assert completed == attrs.evolve(running, state=TaskState.COMPLETED, ended=7.0, result=done)


def test_a_word_that_was_heard_is_absorbed() -> None:
    """The same status word twice brings nothing new; another one does."""
    running = advance(record_in(TaskState.RUNNING), Running("t-1", "pending"), 20.0)
    assert advance(running, Running("t-1", "pending"), 21.0) is running
    assert advance(running, Running(None, "upscaling"), 21.0).word == "upscaling"


def test_attached_again_after_it_was_given_up() -> None:
    """A task that timed out starts anew: followed, its error forgotten, its clock set again."""
    gone = record_in(TaskState.TIMED_OUT)
    again = advance(gone, Attached("t-1"), 30.0)
    assert again == attrs.evolve(
        gone, state=TaskState.RUNNING, accepted=30.0, ended=None, error=None
    )


def test_an_uncertain_submit_is_rescued() -> None:
    """A reply that comes after we took it for lost gives the task its id, and it is followed."""
    lost = advance(record_in(TaskState.SENDING), EVENTS["LeftUncertain"], 20.0)
    assert isinstance(lost.error, SubmitUncertainError)
    found = advance(lost, Accepted("t-1"), 21.0)
    assert found == attrs.evolve(
        lost,
        state=TaskState.RUNNING,
        task_id="t-1",
        accepted=21.0,
        ended=None,
        error=None,
    )


@pytest.mark.parametrize("kind", [GenerationError, ContentPolicyError])
@pytest.mark.parametrize("said", [None, "another"])
def test_a_failure_is_about_the_task_that_was_asked_for(
    kind: type[GenerationError], said: str | None
) -> None:
    """Where a body does not name the task, or another one, the error still carries our id."""
    error = kind(task_id=said, code="c", detail="d")
    failed = advance(record_in(TaskState.RUNNING), Failed(error), 20.0)
    assert failed.task_id == "t-1"
    assert type(failed.error) is kind
    assert failed.error.task_id == "t-1"
    assert failed.error.message == error.message
    assert error.task_id == said


def test_a_failure_of_a_task_without_an_id_stays_without() -> None:
    """Where nobody knows the id, none is made up."""
    failed = advance(record_in(TaskState.SENDING), Failed(GenerationError(task_id=None)), 20.0)
    assert failed.task_id is None
    assert failed.error is not None
    assert failed.error.task_id is None


def test_a_failed_event_is_about_the_task_of_its_error() -> None:
    """`Failed.task_id` is that of its error."""
    assert Failed(GenerationError(task_id="t-1")).task_id == "t-1"
