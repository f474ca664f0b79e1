"""The engine of a session: host task, registry, slots, the one door `tell`, and shutdown.

The host task owns the task group, never the caller's task: a session may be opened in one task
and closed in another (fixtures, notebook cells, an application's lifespan).

`tell` is a plain function, so it is atomic: everything that follows from a change (who waits, the
slot, the money, the poller, the observer) happens in this one place.
"""

from __future__ import annotations

import asyncio
import logging
import random
import weakref
from collections.abc import Coroutine
from typing import TypeVar

import anyio

from fluxflex._aio.crew import Crew
from fluxflex._aio.handle import TaskHandle
from fluxflex._aio.images import Downloads
from fluxflex._aio.poller import Forgiving, Poller, said
from fluxflex._aio.sender import Sender
from fluxflex._aio.settings import Settings
from fluxflex._aio.slots import Slots
from fluxflex._aio.tally import Tally
from fluxflex._aio.transport import Transport
from fluxflex._core import decode, refusals
from fluxflex._core.budget import Budget
from fluxflex._core.exchange import Call
from fluxflex._core.lifecycle import (
    Abandoned,
    Accepted,
    Attached,
    Change,
    Completed,
    Key,
    LeftUncertain,
    TaskEvent,
    TaskState,
)
from fluxflex._core.limits import Timeouts
from fluxflex._core.registry import Registry
from fluxflex._core.request import GenerateRequest
from fluxflex._core.scheduler import Scheduler
from fluxflex._core.till import Till
from fluxflex.errors import ConfigurationError, SessionClosedError, SubmitUncertainError

log = logging.getLogger("fluxflex")
T = TypeVar("T")

# How long a POST in the air may take to bring its task id when the session closes at once.
LAST_REPLIES = 5.0


class Engine:
    """Follows all tasks of one session.

    Args:
        settings: what the session was opened with.
        transport: what carries the calls.
        rng: the source of the jitter.
    """

    def __init__(self, settings: Settings, transport: Transport, rng: random.Random) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.tally = Tally()
        self.crew = Crew(self._check_idle)
        self.till = Till(Budget(settings.budget), settings.prices)
        self.slots = Slots(settings.ceiling)
        self.sender = Sender(
            transport,
            policy=settings.retry,
            request=settings.timeouts.request,
            posts=settings.lanes.posts,
            rng=rng,
        )
        self._registry = Registry()
        self.poller = Poller(
            scheduler=Scheduler(Forgiving(settings.poll), settings.poll_rate),
            sender=self.sender,
            call=self._status_call,
            record=self._registry.get,
            tell=self.tell,
            looks=settings.lanes.looks,
        )
        self.downloads = Downloads(
            transport, at_once=settings.lanes.downloads, policy=settings.retry, refresh=self._urls
        )
        self.closing = False
        self._transport = transport
        self._handles: dict[Key, TaskHandle] = {}
        self._ended: weakref.WeakValueDictionary[Key, TaskHandle] = weakref.WeakValueDictionary()
        self._submits = 0
        self._idle = asyncio.Event()
        self.stopping = asyncio.Event()
        self._host = asyncio.create_task(self._serve(), name="fluxflex session")

    def __repr__(self) -> str:
        return f"<Engine: {self._registry!r}, {self.slots!r}, {self.till!r}>"

    # -- verbs -------------------------------------------------------------------------------

    async def submit(self, request: GenerateRequest, timeouts: Timeouts) -> TaskHandle:
        """Wait for a slot, submit, and return the handle once the provider gave a task id.

        It is the caller who waits for the slot: cancelled there, nothing is sent.
        """
        self.check_open()
        self._submits += 1
        try:
            await asyncio.sleep(0)  # a cancellation that is under way arrives before anything else
            await self.slots.acquire()
            handle = self.open(request, timeouts)
            await self.send(handle, timeouts)
        finally:
            self._submits -= 1
            self._check_idle()
        return handle

    def open(self, request: GenerateRequest | None, timeouts: Timeouts) -> TaskHandle:
        """Enter a task for which a slot is held; `withdraw` or the task's end gives it back."""
        record = self._registry.open(request, self.loop.time())
        handle = self._handles[record.key] = TaskHandle(self, record, timeouts.task)
        return handle

    async def send(self, handle: TaskHandle, timeouts: Timeouts) -> None:
        """Set the money aside and send the request of a task that was entered."""
        request = handle.request
        assert request is not None  # noqa: S101 - only `attach` opens a task without one
        try:
            self.admit()
            self.till.reserve(handle.key, request)
            call = self.settings.api.submit(self.settings.base_url, request)
            await self.sender.submit(self, handle.key, call, within=timeouts.submit)
        except SubmitUncertainError:
            self.heard(handle.key)
            raise
        finally:
            self.withdraw(handle.key)

    def attach(
        self, task_id: str, request: GenerateRequest | None, timeouts: Timeouts
    ) -> TaskHandle:
        """Follow a task that was submitted elsewhere, earlier, or given up."""
        self.check_open()
        key = self._registry.find(task_id)
        handle = None if key is None else self._handle(key)
        if handle is None:
            self.slots.overdraw()
            handle = self.open(request, timeouts)
        handle.timeout = timeouts.task
        self.tell(handle.key, Attached(task_id))
        return handle

    def handles(self) -> list[TaskHandle]:
        """Return the handles of all tasks that are followed."""
        return [handle for handle in self._handles.values() if handle.task_id is not None]

    def admit(self) -> None:
        """Let an attempt begin, unless the session takes its leave."""
        if self.stopping.is_set() or self._host.done():
            raise _closed()

    def final(self, key: Key) -> bool:
        """Say whether no further attempt is to be made."""
        handle = self._handles.get(key)
        return handle is not None and handle.final

    def launch(self, attempt: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Run an attempt as a task of the session, which a cancelled caller does not stop."""
        return self.crew.launch(attempt)

    def check_open(self) -> None:
        """Refuse a verb that comes too late, or from another event loop.

        Raises:
            SessionClosedError, ConfigurationError: as said.
        """
        self._check_loop()
        if self.closing:
            raise SessionClosedError("The session is closed", hint="Open a new session.")

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self.loop:
            raise ConfigurationError(
                "The session belongs to another event loop", hint="Open one session in each loop."
            )

    # -- the one door ------------------------------------------------------------------------

    def tell(self, key: Key, event: TaskEvent) -> Change | None:
        """Enter what was learnt about a task, with everything that follows from it."""
        change = self._registry.apply(key, event, self.loop.time())
        if change is None:
            return None
        self.tally.note(change)
        self.till.note(change)
        handle = self._handle(key)
        if change.revives:
            self.slots.overdraw()
            if handle is not None:
                self._handles[key] = handle
        if isinstance(event, Accepted | Attached):
            self.poller.follow(key, self.loop.time() + self._patience(handle))
        if change.ends:
            self.poller.forget(key)
            self.slots.release()
            if handle is not None:
                self._ended[key] = handle
            self._handles.pop(key, None)
        if handle is not None:
            handle._moved(change.after)  # noqa: SLF001 - the engine moves its handles
        self._observe(change)
        self._check_idle()
        return change

    def withdraw(self, key: Key) -> None:
        """Forget a task that was not sent, with its slot and its money; no other."""
        if self._registry.withdraw(key) is None:
            return
        self._handles.pop(key, None)
        self.till.release(key)
        self.slots.release()
        self._check_idle()

    def pay_again(self, key: Key) -> None:
        """Set money aside for one more attempt, beside what the uncertain one may have cost."""
        record = self._registry.get(key)
        if record is not None and record.request is not None:
            self.till.reserve_again(key, record.request)

    def refund(self, key: Key) -> None:
        """Give back the money of an attempt that was refused after an uncertain one."""
        self.tally.refused()
        self.till.release(key)

    def heard(self, key: Key) -> None:
        """Note that somebody learnt how the task ended."""
        self.tally.heard(key)

    def _handle(self, key: Key) -> TaskHandle | None:
        return self._handles.get(key) or self._ended.get(key)

    def _patience(self, handle: TaskHandle | None) -> float:
        return self.settings.timeouts.task if handle is None else handle.timeout

    def _observe(self, change: Change) -> None:
        if self.settings.on_event is None:
            return
        try:
            self.settings.on_event(change)
        except (Exception, asyncio.CancelledError):
            log.exception("on_event raised; the task is not affected")

    # -- looks -------------------------------------------------------------------------------

    def _status_call(self, task_id: str) -> Call:
        return self.settings.api.status(self.settings.base_url, task_id)

    async def _urls(self, task_id: str) -> tuple[str, ...]:
        """Ask once more where the pictures of a task lie."""
        got = await self.sender.once(self._status_call(task_id), decode.read_status)
        event = said(task_id, got)
        return event.urls if isinstance(event, Completed) else ()

    # -- the host and shutdown ---------------------------------------------------------------

    async def close(self, drain: float | None) -> None:
        """Stop taking submits, wait for what runs (at most `drain` seconds), then detach."""
        if not self._host.done():
            self._check_loop()
        self.closing = True
        self.crew.stop_reading()
        try:
            if drain is None or drain > 0:
                self._check_idle()
                await asyncio.wait_for(self._idle.wait(), drain)
        except TimeoutError:
            pass  # what is left is named below
        finally:
            self.stopping.set()
            if not self._host.done():
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([self._host])
        if not self._host.cancelled():
            self._host.result()

    async def _serve(self) -> None:
        """Own the task group until the session closes, then end everything in order."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self.poller.run)
                await self.stopping.wait()
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await self._detach()
                finally:
                    self._let_go()
                    await self._transport.aclose()

    async def _detach(self) -> None:
        """Let go of what still runs: learn the ids of POSTs in the air, name what is left."""
        self.closing = True
        self.stopping.set()
        self.slots.refuse(_closed)
        self._transport.hurry(LAST_REPLIES)
        await self.crew.dismiss()

    def _let_go(self) -> None:
        """Name what is left: a plain function, so that no second interruption cuts it short."""
        self.downloads.closed = True
        for record in [record for record in self._registry if record.state is TaskState.SENDING]:
            self.tell(record.key, LeftUncertain(refusals.interrupted()))
        left = [record for record in self._registry if record.state is TaskState.RUNNING]
        for record in left:
            error = SessionClosedError(
                "The session closed before the task ended", task_id=record.task_id
            )
            self.tell(record.key, Abandoned(error))
        self.tally.name_left(left, self.till.cost_of)
        self._idle.set()

    def _check_idle(self) -> None:
        if self.closing and not (self._submits or self.crew.busy or self._registry):
            self._idle.set()


def _closed() -> SessionClosedError:
    return SessionClosedError("The session closed before the request was sent")
