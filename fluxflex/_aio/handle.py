"""`TaskHandle`: the user's view of one task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Protocol

from fluxflex._aio.images import Downloads, GeneratedImage
from fluxflex._core.lifecycle import Completed, Key, TaskRecord, TaskState
from fluxflex._core.request import GenerateRequest
from fluxflex._core.till import Till
from fluxflex.errors import Fault, InvalidRequestError


class Owner(Protocol):
    """What a handle needs of the engine."""

    downloads: Downloads
    till: Till

    def heard(self, key: Key) -> None:
        """Note that somebody learnt how the task ended."""
        ...


class TaskHandle:
    """One task: await it for its picture, as often and from as many places as you like.

    Cancelling one awaiter cancels nobody else, and not the task: the provider has no cancel.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_future",
        "_owner",
        "_record",
        "final",
        "sending",
        "timeout",
    )

    def __init__(self, owner: Owner, record: TaskRecord, timeout: float) -> None:
        self._owner = owner
        self._record = record
        self._future: asyncio.Future[None] | None = None
        self._callbacks: tuple[Callable[[], None], ...] = ()
        self.timeout = timeout
        self.sending: asyncio.Task[None] | None = None  # what submits it
        self.final = False  # whether no further attempt is to be made

    def __repr__(self) -> str:
        return f"<TaskHandle {self.task_id}: {self.state.name}>"

    @property
    def key(self) -> Key:
        """Our own number of the task, within the session."""
        return self._record.key

    @property
    def task_id(self) -> str | None:
        """The provider's id of the task."""
        return self._record.task_id

    @property
    def state(self) -> TaskState:
        """Where the task stands, as far as is known."""
        return self._record.state

    @property
    def request(self) -> GenerateRequest | None:
        """What was asked for; `None` for a task that was submitted elsewhere."""
        return self._record.request

    def __await__(self) -> Generator[object, None, GeneratedImage]:
        """Wait for the picture.

        Raises:
            GenerationError: the task failed.
            TaskTimeoutError: it did not end in time.
            APIError: the provider will not say how it stands.
            SessionClosedError: the session closed before the task ended.
        """
        return self._image().__await__()

    async def wait(self, timeout: float | None = None) -> TaskState:
        """Wait until the task is over, at most `timeout` seconds, and return its state.

        Never raises for the task.
        """
        if not self.state.over:
            await asyncio.wait([self._over()], timeout=timeout)
        if self.state.over:
            self._owner.heard(self._record.key)
        return self.state

    async def _image(self) -> GeneratedImage:
        while not self.state.over:  # it may be revived before we get our turn
            await asyncio.shield(self._over())
        return self.result()

    def result(self) -> GeneratedImage:
        """Return the picture of a task that is over, or raise why there is none.

        Raises:
            asyncio.InvalidStateError: the task is not over.
        """
        record = self._record
        if not record.state.over:
            raise asyncio.InvalidStateError(f"{self!r} is not over")
        self._owner.heard(record.key)
        if record.error is not None:
            raise record.error.fresh()
        assert record.result is not None  # noqa: S101 - a task is over with one or the other
        return self._picture(record, record.result)

    def _picture(self, record: TaskRecord, result: Completed) -> GeneratedImage:
        begun = record.created if record.accepted is None else record.accepted
        return GeneratedImage(
            url=result.urls[0],
            urls=result.urls,
            task_id=record.task_id or "",
            request=record.request,
            cost=self._owner.till.cost_of(record),
            elapsed=None if record.ended is None else record.ended - begun,
            raw=result.raw,
            guarded_by=self._owner.downloads.base_url if result.by_callback else None,
            downloads=self._owner.downloads,
            key=record.key if record.attempts else None,
        )

    def _over(self) -> asyncio.Future[None]:
        """Return the one future of this task; every awaiter shares it."""
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        return self._future

    def _when_over(self, callback: Callable[[], None]) -> None:
        """Call back once when the task is over; at once where it is."""
        if self.state.over:
            callback()
        else:
            self._callbacks = (*self._callbacks, callback)

    def _moved(self, record: TaskRecord) -> None:
        """Take the new record, and wake who waits when the task is over."""
        self._record = record
        if not record.state.over:
            return
        if self._future is not None:
            if not self._future.done():
                self._future.set_result(None)
            self._future = None
        callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            callback()


def check_attached(task_id: object, request: object) -> None:
    """Refuse what is no task to attach to.

    Raises:
        InvalidRequestError: the id is no text, or blank, or cannot be sent, or the request is none.
    """
    try:
        usable = isinstance(task_id, str) and bool(task_id.strip() and task_id.encode())
    except UnicodeEncodeError:  # half a character: no look at it could be made, ever
        usable = False
    if not usable:
        raise InvalidRequestError([Fault("task_id", f"must be an id, not {task_id!r}")])
    if not isinstance(request, GenerateRequest | None):
        kind = type(request).__name__
        fault = Fault("request", f"must be a GenerateRequest, as it comes back, not {kind}")
        raise InvalidRequestError([fault])
