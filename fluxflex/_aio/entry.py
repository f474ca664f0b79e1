"""What the journal keeps of a task: `JournalEntry`, and how it is written down.

A row is a mapping of the columns that a step changed; what is absent stays as it was. Texts inside
are JSON. Nothing is kept that is not needed: no key, no callback address with its token.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import attrs

from fluxflex import errors
from fluxflex._core import jsonlib
from fluxflex._core.lifecycle import Change, Completed, Sent, TaskRecord, TaskState
from fluxflex._core.request import GenerateRequest
from fluxflex.errors import FluxFlexError, InvalidRequestError, JournalError

Row = dict[str, object]

# In the order of `JournalEntry`'s attributes, so that a row as it is read makes one.
COLUMNS = (
    "id",
    "state",
    "run",
    "number",
    "digest",
    "task_id",
    "attempts",
    "sent_at",
    "accepted_at",
    "ended_at",
    "elapsed",
    "spent",
    "reserved",
    "collected",
    "replaced",
    "path",
    "request",
    "result",
    "error",
)
# What the provider accepted and what is not finished: it is followed again.
ACCEPTED = (TaskState.RUNNING, TaskState.TIMED_OUT, TaskState.ABANDONED)


def _state(name: str) -> TaskState:
    try:
        return TaskState[name]
    except KeyError:
        raise _damaged() from None


def _count(number: int | None) -> int:
    return number or 0


@attrs.frozen
class JournalEntry:
    """What the journal knows of one task.

    Attributes:
        id: its own number within the file.
        state: where the task stands. `QUEUED`: read, or definitely refused; nothing was bought.
        run: the named run that it belongs to, if any.
        number: its number in the run, from 1.
        digest: that of the request; see `GenerateRequest.digest`.
        task_id: the provider's id, where it was accepted.
        attempts: how many POSTs were sent for it.
        sent_at, accepted_at, ended_at: seconds since the epoch, by this machine's clock then.
        elapsed: seconds from being accepted to being known as finished.
        collected: whether its picture was read or saved.
        replaced: whether the same item was submitted again later, in an entry of its own.
    """

    # In the order of COLUMNS; what takes long to read is read when it is asked for.
    id: int
    state: TaskState = attrs.field(converter=_state)
    run: str | None
    number: int | None
    digest: str | None
    task_id: str | None
    attempts: int = attrs.field(converter=_count)
    sent_at: float | None
    accepted_at: float | None
    ended_at: float | None
    elapsed: float | None
    _spent: str | None = attrs.field(repr=False)
    _reserved: str | None = attrs.field(repr=False)
    collected: bool = attrs.field(converter=bool)
    replaced: bool = attrs.field(converter=bool)
    _path: str | None = attrs.field(repr=False)
    _request: str | None = attrs.field(repr=False)
    _result: str | None = attrs.field(repr=False)
    _error: str | None = attrs.field(repr=False)
    _folder: Path = attrs.field(repr=False)

    @property
    def spent(self) -> Decimal:
        """USD, as far as it is known to be billed."""
        return Decimal(self._spent or 0)

    @property
    def cost(self) -> Decimal | None:
        """USD; `None` where nobody knows."""
        return None if self._spent is None else Decimal(self._spent)

    @property
    def reserved(self) -> Decimal:
        """USD that may still be billed."""
        return Decimal(self._reserved or 0)

    @property
    def path(self) -> Path | None:
        """Where its picture is, or is to be; without a suffix while it is not saved."""
        return None if self._path is None else self._folder / self._path

    @property
    def saved(self) -> bool:
        """Whether its picture was saved to a file."""
        return self.collected and self._path is not None

    @property
    def request(self) -> GenerateRequest | None:
        """What was asked for, metadata included and `callback_url` left out."""
        if not self._request:
            return None
        try:
            return GenerateRequest.from_dict(_loaded(self._request, _exactly))
        except InvalidRequestError:
            raise _damaged() from None

    @property
    def result(self) -> Completed | None:
        """What the provider made: `urls`, `cost` and `raw`."""
        if not self._result:
            return None
        values = _loaded(self._result)
        cost, urls, raw = values.get("cost"), values.get("urls"), values.get("raw")
        if not urls or not isinstance(urls, list):
            raise _damaged()
        return Completed(
            self.task_id,
            tuple(urls),
            None if cost is None else Decimal(str(cost)),
            raw if isinstance(raw, dict) else {},
            bool(values.get("by_callback")),
        )

    @property
    def error(self) -> FluxFlexError | None:
        """Why it did not end well."""
        return None if not self._error else _error_of(_loaded(self._error))

    @property
    def unfinished(self) -> bool:
        """Whether the provider accepted it and its end is not known."""
        return self.state in ACCEPTED and self.task_id is not None

    def record(self, now: float, request: GenerateRequest | None = None) -> TaskRecord:
        """Return the record of this task.

        Args:
            now: on the loop's clock.
            request: what was asked for, where that is at hand.
        """
        over = not self.unfinished
        return TaskRecord(
            key=self.id,
            request=request or self.request,
            created=now,
            state=self.state if over else TaskState.RUNNING,
            task_id=self.task_id,
            attempts=self.attempts,
            accepted=None if self.task_id is None else now,
            ended=now + (self.elapsed or 0.0) if over else None,
            result=self.result,
            error=self.error if over else None,
        )


def entry_of(row: Sequence[object], folder: Path) -> JournalEntry:
    """Return a row as it was read, in the order of `COLUMNS`."""
    return JournalEntry(*row, folder)  # type: ignore[call-arg, arg-type]  # as they were written


# -- values out ------------------------------------------------------------------------------


def row_of(change: Change, *, spent: Decimal | None, reserved: Decimal, wall: float) -> Row:
    """Return what a step changes in the row of its task.

    Args:
        change: the step.
        spent: USD that it is known to have cost; `None` where this step tells nothing new.
        reserved: USD that may still be billed for what this session sent.
        wall: seconds since the epoch.
    """
    before, after, event = change.before, change.after, change.event
    row: Row = {"id": after.key, "state": after.state.name, "attempts": after.attempts}
    row["error"] = "" if after.error is None else _hidden(error_text(after.error), after)
    if spent is not None:
        row["spent"] = str(spent)
    if after.state is TaskState.QUEUED:
        row["reserved"] = "0"  # refused: what was set aside is given back next
    elif before.state in _UNANSWERED or isinstance(event, Sent):
        row["reserved"] = str(reserved)
    if isinstance(event, Sent):
        row["sent_at"] = wall
    if change.names:
        row["task_id"] = after.task_id
        row["accepted_at"] = wall
    if change.ends:
        row["ended_at"] = wall
    if isinstance(event, Completed):
        row["result"] = _hidden(_text(_result(event)), after)
        if after.ended is not None and after.accepted is not None:
            row["elapsed"] = after.ended - after.accepted
    return row


_UNANSWERED = frozenset({TaskState.QUEUED, TaskState.SENDING, TaskState.UNCERTAIN})


def _hidden(text: str, record: TaskRecord) -> str:
    """Return JSON without the task's callback address, which the provider may repeat."""
    secret = None if record.request is None else record.request.callback_url
    return text.replace(jsonlib.dumps(secret).decode()[1:-1], "***") if secret else text


def request_text(request: GenerateRequest) -> str:
    """Return what is kept of a request."""
    values = request.to_dict()
    values.pop("callback_url", None)  # its token is a secret, and nothing follows from it
    return _text(values)


def path_text(path: Path, folder: Path) -> str | None:
    """Return a path as it is kept: below the journal's folder it may move with it.

    `None` for a name that is no text: a path may hold any bytes, the file may not.
    """
    whole, home = path.absolute(), folder.absolute()
    text = os.fspath(whole.relative_to(home) if whole.is_relative_to(home) else whole)
    return text if text.isprintable() or text == text.encode(errors="replace").decode() else None


def error_text(error: FluxFlexError) -> str:
    """Return what is kept of an error."""
    return _text(_values_of(error))


def _result(event: Completed) -> Row:
    cost = None if event.cost is None else str(event.cost)
    row: Row = {"urls": list(event.urls), "cost": cost, "raw": dict(event.raw)}
    return {**row, "by_callback": True} if event.by_callback else row


def _values_of(error: FluxFlexError) -> Row:
    state = {
        name: value
        for name, value in vars(error).items()
        if isinstance(value, str | int | float | None)
    }
    return {"type": type(error).__name__, "args": [str(arg) for arg in error.args], **state}


def _error_of(values: Mapping[str, object]) -> FluxFlexError:
    kind = getattr(errors, str(values.get("type")), FluxFlexError)
    if not (isinstance(kind, type) and issubclass(kind, FluxFlexError)):
        kind = FluxFlexError
    args = values.get("args")
    error = kind.__new__(kind)
    error.args = tuple(args) if isinstance(args, list) else ()
    state = {name: value for name, value in values.items() if name not in {"type", "args"}}
    vars(error).update({"outcomes": (), **state})
    return error


def _text(values: Row) -> str:
    return jsonlib.dumps(values).decode()


def _exactly(body: bytes) -> object:
    """Read JSON with integers of any size: metadata comes back as it was given."""
    value: object = json.loads(body)
    return value


def _loaded(text: str, loads: Callable[[bytes], object] = jsonlib.loads) -> Row:
    try:
        values = loads(text.encode())
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise _damaged()
    return values


def _damaged() -> JournalError:
    return JournalError(
        "An entry of the journal is damaged, so what it bought is not known for certain",
        hint="Put a copy of the file back, or begin with a journal of its own, which buys anew.",
    )
