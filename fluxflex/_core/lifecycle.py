"""The law of a task's states. Everything about states lives in this one file.

A `TaskRecord` is what is known of a task; a `TaskEvent` is something learnt about it; `advance`
applies one to the other by `TABLE`, which has a cell for every state and every kind of event.
`None` in a cell means that the event is absorbed: it brings nothing new.

Two rules shape the table:

- The provider's word beats ours: `Completed` and `Failed` win over every state but themselves,
  so that a last word that comes late still counts.
- The first last word stays: nothing changes a record that is `COMPLETED` or `FAILED`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from decimal import Decimal

import attrs

from fluxflex._core.request import GenerateRequest
from fluxflex.errors import FluxFlexError, GenerationError

Key = int

_FOLLOWED = frozenset({"queued", "sending", "running"})
_SETTLED = frozenset({"completed", "failed"})


class TaskState(enum.Enum):
    """Where a task stands."""

    QUEUED = "queued"  # nothing is sent, or what was sent was definitely refused
    SENDING = "sending"  # a POST is in the air
    RUNNING = "running"  # the provider accepted it
    COMPLETED = "completed"  # the provider made the picture
    FAILED = "failed"  # the provider says that it failed
    TIMED_OUT = "timed out"  # we stopped following it at its deadline
    ABANDONED = "abandoned"  # we stopped following it: refused, or the session closed
    UNCERTAIN = "uncertain"  # sent and not answered: it may have been accepted

    # Each member is one object; that of `Enum` is a call in Python, and asked at every step.
    __hash__ = object.__hash__

    over: bool
    """Whether we follow it no more."""
    settled: bool
    """Whether the provider has said its last word: nothing changes it any more."""

    def __init__(self, words: str) -> None:
        self.settled = words in _SETTLED
        self.over = words not in _FOLLOWED


@attrs.frozen
class Sent:
    """One attempt to submit is about to go on the wire."""


@attrs.frozen
class TurnedAway:
    """The attempt was definitely not accepted; nothing was bought."""


@attrs.frozen
class Accepted:
    """The provider gave the task an id; it is billed from here on."""

    task_id: str


@attrs.frozen
class Attached:
    """We follow a task that was submitted elsewhere, earlier, or given up."""

    task_id: str


@attrs.frozen
class Running:
    """The provider says that it is not finished, in a word of its own."""

    task_id: str | None
    word: str


@attrs.frozen
class Completed:
    """The provider made the picture.

    Attributes:
        urls: where it lies; one or more.
        cost: what the provider says it cost in USD, where it does.
        raw: the reply's `data`, as it came.
        by_callback: whether a callback told it: whoever knows its URL may have written it.
    """

    task_id: str | None
    urls: tuple[str, ...]
    cost: Decimal | None = None
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False)
    by_callback: bool = attrs.field(default=False, repr=False)


@attrs.frozen
class Failed:
    """The provider says that the task failed."""

    error: GenerationError

    @property
    def task_id(self) -> str | None:
        """The id of the task that failed."""
        return self.error.task_id


@attrs.frozen
class LeftUncertain:
    """An attempt was sent and not answered."""

    error: FluxFlexError


@attrs.frozen
class TimedOut:
    """The task's deadline passed, and a look after it found it running."""

    error: FluxFlexError


@attrs.frozen
class Abandoned:
    """We follow the task no more."""

    error: FluxFlexError


TaskEvent = (
    Sent
    | TurnedAway
    | Accepted
    | Attached
    | Running
    | Completed
    | Failed
    | LeftUncertain
    | TimedOut
    | Abandoned
)

# What the provider's last word may be; for `isinstance`, which takes longer with a union.
LAST_WORDS = (Completed, Failed)

_S = TaskState
_END: dict[type[TaskEvent], TaskState | None] = {
    Completed: _S.COMPLETED,
    Failed: _S.FAILED,
}
_NOTHING: dict[type[TaskEvent], TaskState | None] = {
    Sent: None,
    TurnedAway: None,
    Accepted: None,
    Attached: None,
    Running: None,
    Completed: None,
    Failed: None,
    LeftUncertain: None,
    TimedOut: None,
    Abandoned: None,
}

TABLE: Mapping[TaskState, Mapping[type[TaskEvent], TaskState | None]] = {
    _S.QUEUED: _NOTHING | _END | {Sent: _S.SENDING, Accepted: _S.RUNNING, Attached: _S.RUNNING},
    _S.SENDING: _NOTHING
    | _END
    | {
        # Sent again while sending: the user opted in to resubmitting an uncertain attempt.
        Sent: _S.SENDING,
        TurnedAway: _S.QUEUED,
        Accepted: _S.RUNNING,
        LeftUncertain: _S.UNCERTAIN,
    },
    _S.RUNNING: _NOTHING
    | _END
    | {Running: _S.RUNNING, TimedOut: _S.TIMED_OUT, Abandoned: _S.ABANDONED},
    _S.COMPLETED: _NOTHING,
    _S.FAILED: _NOTHING,
    _S.TIMED_OUT: _NOTHING | _END | {Attached: _S.RUNNING},
    _S.ABANDONED: _NOTHING | _END | {Attached: _S.RUNNING},
    _S.UNCERTAIN: _NOTHING | _END | {Accepted: _S.RUNNING},
}


@attrs.frozen(kw_only=True)
class TaskRecord:
    """What is known of one task; never changed, only replaced.

    Attributes:
        key: ours, within one session.
        request: `None` for a task that was submitted elsewhere.
        attempts: how many POSTs were sent for it.
        created, accepted, ended: seconds on the loop's clock.
        word: the provider's latest status word while it runs.
        result: what the provider made.
        error: why it did not end well.
    """

    key: Key
    request: GenerateRequest | None
    created: float
    state: TaskState = TaskState.QUEUED
    task_id: str | None = None
    attempts: int = 0
    accepted: float | None = None
    ended: float | None = None
    word: str | None = None
    result: Completed | None = None
    error: FluxFlexError | None = None


@attrs.frozen
class Change:
    """One step of a task: what was known before, what is known now, and what was learnt."""

    before: TaskRecord
    after: TaskRecord
    event: TaskEvent

    @property
    def begins(self) -> bool:
        """Whether this step began our following the task at the provider."""
        running = TaskState.RUNNING
        return self.after.state is running and self.before.state is not running

    @property
    def ends(self) -> bool:
        """Whether this step ended our following the task."""
        return self.after.state.over and not self.before.state.over

    @property
    def names(self) -> bool:
        """Whether this step brought the task's id."""
        return self.before.task_id is None and self.after.task_id is not None

    @property
    def revives(self) -> bool:
        """Whether we follow a task again that was given up."""
        return self.before.state.over and not self.after.state.over


def advance(record: TaskRecord, event: TaskEvent, now: float) -> TaskRecord:
    """Return the record after the event; the same object when the event is absorbed."""
    state = TABLE[record.state][type(event)]
    if state is None or (isinstance(event, Running) and event.word == record.word):
        return record
    return _written(record, event, state, now)


def _written(record: TaskRecord, event: TaskEvent, state: TaskState, now: float) -> TaskRecord:
    # Field by field, since `attrs.evolve` looks all of them up each time: three steps a task.
    task_id, accepted, word = record.task_id, record.accepted, record.word
    attempts, result, error = record.attempts, record.result, record.error
    match event:
        case Sent():
            attempts += 1
        case Accepted() | Attached():
            task_id, accepted, error = event.task_id, now, None
        case Running():
            word = event.word
        case Completed():
            task_id, result, error = task_id or event.task_id, event, None
        case Failed():
            task_id = task_id or event.task_id
            error = _named(event.error, task_id)
        case TurnedAway():
            pass
        case _:  # given up: left uncertain, timed out or abandoned
            error = event.error
    return TaskRecord(
        key=record.key,
        request=record.request,
        created=record.created,
        state=state,
        task_id=task_id,
        attempts=attempts,
        accepted=accepted,
        ended=now if state.over else None,
        word=word,
        result=result,
        error=error,
    )


def _named(error: GenerationError, task_id: str | None) -> GenerationError:
    if error.task_id == task_id:
        return error
    named = error.fresh()  # the body did not say which task failed; we know which one we asked for
    named.task_id = task_id
    return named
