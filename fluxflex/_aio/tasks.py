"""The tasks of a session, and the one door through which everything about them is entered.

`tell` is a plain function, so it is atomic: everything that follows from a change (who waits, the
slot, the money, the journal, the poller, the observer) happens in this one place.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import weakref
from collections.abc import Callable
from decimal import Decimal

from fluxflex._aio.callbacks import Callbacks
from fluxflex._aio.crew import closed
from fluxflex._aio.handle import TaskHandle
from fluxflex._aio.images import Downloads
from fluxflex._aio.journal import Journal
from fluxflex._aio.settings import Observer, Settings
from fluxflex._aio.slots import Slots
from fluxflex._aio.tally import Tally
from fluxflex._aio.watch import Watch
from fluxflex._core.budget import Budget
from fluxflex._core.lifecycle import (
    LAST_WORDS,
    Accepted,
    Attached,
    Change,
    Key,
    TaskEvent,
    TaskRecord,
    TaskState,
)
from fluxflex._core.limits import Timeouts
from fluxflex._core.registry import Registry
from fluxflex._core.request import GenerateRequest
from fluxflex._core.till import Till
from fluxflex.errors import JournalError

log = logging.getLogger("fluxflex")

_NOT_NOTED = "The task is followed; keep its id, since the journal could not take it."


class Tasks:
    """Records, handles, slots, money and the journal of all tasks of one session.

    Args:
        settings: what the session was opened with.
        journal: where every step is noted.
        changed: called after each step.
        rng: the source of the limiter's jitter.

    Attributes:
        stopping: set when the session takes its leave, which ends all pauses.
        uncertain: the records of all submits that were sent and not answered.
        remembered: what the journal brought along as accepted and not finished: by task id, its
            key, its attempts and what was counted for it in USD.
        untold: how many calls wait for an id to be on disk.
        watch, downloads: as the engine sets them; so are `callbacks`, where there are any.
    """

    watch: Watch
    downloads: Downloads
    callbacks: Callbacks | None = None

    def __init__(
        self,
        settings: Settings,
        journal: Journal | None,
        changed: Callable[[], None],
        rng: random.Random,
    ) -> None:
        self.settings = settings
        self.journal = journal
        self.tally = Tally()
        self.till = Till(Budget(settings.budget), settings.prices, settings.api.setting)
        self.slots = Slots(settings.concurrency, posts=settings.lanes.posts, rng=rng)
        self.registry = Registry()
        self.stopping = asyncio.Event()
        self.uncertain: dict[Key, TaskRecord] = {}
        self.remembered: dict[str, tuple[Key, int, Decimal]] = {}
        self.untold = 0
        self._now = asyncio.get_running_loop().time
        self._changed = changed
        self._handles: dict[Key, TaskHandle] = {}
        self._ended: weakref.WeakValueDictionary[Key, TaskHandle] = weakref.WeakValueDictionary()

    # -- coming and going --------------------------------------------------------------------

    def open(
        self, request: GenerateRequest | None, timeouts: Timeouts, key: Key | None = None
    ) -> TaskHandle:
        """Enter a task for which a slot and leave to send are held.

        `withdraw` or the task's end gives the slot back, and `answered` the leave.
        `key` is that of a task which the journal knows already.
        """
        handle = self._enter(request, timeouts, key)
        self.slots.clear(handle.key)
        return handle

    def _enter(
        self, request: GenerateRequest | None, timeouts: Timeouts, key: Key | None = None
    ) -> TaskHandle:
        record = self.registry.open(request, self._now(), key)
        handle = self._handles[record.key] = TaskHandle(self, record, timeouts.task)
        return handle

    def attach(
        self, task_id: str, request: GenerateRequest | None, timeouts: Timeouts
    ) -> TaskHandle:
        """Follow a task that was submitted elsewhere, earlier, or given up."""
        key = self.registry.find(task_id)
        handle = None if key is None else self.handle(key)
        if handle is None and task_id in self.remembered:
            return self.from_journal(task_id, request, timeouts)
        if handle is None:
            self.slots.overdraw()
            handle = self._enter(request, timeouts)
        handle.timeout = timeouts.task
        self.tell(handle.key, Attached(task_id))
        return handle

    def from_journal(
        self, task_id: str, request: GenerateRequest | None, timeouts: Timeouts
    ) -> TaskHandle:
        """Follow a task under the key that the journal knows it by."""
        key, attempts, counted = self.remembered[task_id]
        now = self._now()
        record = TaskRecord(
            key=key,
            request=request,
            created=now,
            state=TaskState.RUNNING,
            task_id=task_id,
            attempts=attempts,
            accepted=now,
        )
        return self.restore(record, timeouts, counted)

    def restore(self, record: TaskRecord, timeouts: Timeouts, counted: Decimal) -> TaskHandle:
        """Take up a task as the journal knows it; what the provider has not finished is followed.

        The handle that there is, where the task is known.

        Args:
            record: as the journal has it.
            timeouts: how long it is followed.
            counted: USD that the journal counted for it.
        """
        found = None if record.task_id is None else self.registry.find(record.task_id)
        key = record.key if found is None else found
        handle, known = self.handle(key), self.registry.get(key)
        if handle is None and known is not None:
            handle = self._ended[key] = TaskHandle(self, known, timeouts.task)
        if handle is not None:
            if handle.state.over and record.task_id is not None and not record.state.over:
                handle.timeout = timeouts.task
                self.tell(key, Attached(record.task_id))  # it was given up
            return handle
        handle = TaskHandle(self, record, timeouts.task)
        if record.state.over:
            self._ended[record.key] = handle
            return handle
        self.slots.resume()
        self.registry.restore(record)
        self._handles[record.key] = handle
        self.tally.resumed()
        self.remembered.pop(str(record.task_id), None)
        self.till.recall(record.key, counted)
        self.watch.follow(record.key, self._now() + timeouts.task, fresh=False)
        return handle

    def withdraw(self, key: Key) -> None:
        """Forget a task that was not sent, with its slot and its money; no other."""
        if self.registry.withdraw(key) is None:
            return
        self._handles.pop(key, None)
        if self.journal is not None:
            self.journal.forget(key)
        if self.callbacks is not None:
            self.callbacks.forget(key)
        self.till.release(key)
        self.slots.answered(key)
        self.slots.release()
        self._changed()

    def handle(self, key: Key) -> TaskHandle | None:
        """Return the handle of a task, where somebody may still have it."""
        return self._handles.get(key) or self._ended.get(key)

    def handles(self) -> list[TaskHandle]:
        """Return the handles of all tasks that are followed."""
        waits = frozenset() if self.journal is None else self.journal.waiting
        return [
            handle
            for key, handle in self._handles.items()
            if handle.task_id is not None and key not in waits
        ]

    def unsent(self) -> list[TaskHandle]:
        """Return the handles of all tasks that are being submitted."""
        return [handle for handle in self._handles.values() if handle.sending is not None]

    # -- the one door ------------------------------------------------------------------------

    def tell(self, key: Key, event: TaskEvent) -> Change | None:
        """Enter what was learnt about a task, with everything that follows from it."""
        change = self.registry.apply(key, event, self._now())
        if change is None:
            return None
        self._keep_books(change)
        handle = self.handle(key)
        if change.revives:
            self.slots.overdraw()
            if handle is not None:
                self._handles[key] = handle
        if change.begins:
            patience = self.settings.timeouts.task if handle is None else handle.timeout
            fresh = isinstance(event, Accepted) and change.before.state is not TaskState.UNCERTAIN
            webhook = self.callbacks is not None and self.callbacks.accepted(key)
            self.watch.follow(key, self._now() + patience, fresh=fresh, webhook=webhook)
        if change.ends:
            if self.callbacks is not None:
                self.callbacks.ended(change)
            over = self.watch.ended if isinstance(event, LAST_WORDS) else self.watch.forget
            over(key)
            self.slots.release()
            if handle is not None:
                self._ended[key] = handle
            self._handles.pop(key, None)
        if handle is not None:
            handle._moved(change.after)  # noqa: SLF001 - the door moves the handles
        if self.settings.on_event is not None:
            self._in_order(functools.partial(self._observe, self.settings.on_event, change))
        self._changed()
        return change

    def _keep_books(self, change: Change) -> None:
        key = change.after.key
        self.tally.note(change)
        self.till.note(change)
        self.slots.note(change)
        if change.after.state is TaskState.UNCERTAIN:
            self.uncertain[key] = change.after
        elif self.uncertain:
            self.uncertain.pop(key, None)
        if self.journal is not None:
            spent, reserved = self.till.told(change), self.till.budget.held(key)
            again = self.journal.note(change, spent=spent, reserved=reserved)
            if again is not None:
                self.uncertain.pop(again, None)
            if change.ends:
                self.journal.forget(key)

    def _in_order(self, call: Callable[[], None]) -> None:
        """Let nobody hear of a step before the journal has it."""
        if self.journal is None:
            call()
        else:
            self.journal.after(call)

    def when_over(self, handle: TaskHandle, call: Callable[[], None]) -> None:
        """Call once when a task is over and its id is on disk, or cannot be; at once where so."""
        written = functools.partial(self._when_written, handle.key, call)
        handle._when_over(call if self.journal is None else written)  # noqa: SLF001 - as above

    def _when_written(self, key: Key, call: Callable[[], None]) -> None:
        if self.journal is None or not self.journal.lacks_id(key):
            call()
            return
        self.untold += 1
        self.journal.after(functools.partial(self._told, call))

    def _told(self, call: Callable[[], None]) -> None:
        self.untold -= 1
        call()
        self._changed()

    def _observe(self, on_event: Observer, change: Change) -> None:
        try:
            on_event(change)
        except (Exception, asyncio.CancelledError):
            log.exception("on_event raised; the task is not affected")

    # -- what the sender asks for ------------------------------------------------------------

    def admit(self) -> None:
        """Let an attempt begin, unless the session takes its leave or cannot note it.

        Raises:
            SessionClosedError, JournalError: as said.
        """
        if self.stopping.is_set():
            raise closed()
        if self.journal is not None:
            self.journal.check()

    async def written(self, key: Key) -> None:
        """Wait until what is known of a task is on disk.

        Raises:
            JournalError: it cannot be written.
        """
        if self.journal is None:
            return
        try:
            await self.journal.written(key)
        except JournalError as error:
            record = self.registry.get(key)
            if record is None or record.task_id is None:
                raise
            raise JournalError(error.message, task_id=record.task_id, hint=_NOT_NOTED) from None

    def pay_again(self, key: Key) -> None:
        """Set money aside for one more attempt, beside what the uncertain one may have cost."""
        record = self.registry.get(key)
        if record is not None and record.request is not None:
            self.till.reserve_again(key, record.request)

    def refund(self, key: Key) -> None:
        """Give back the money of an attempt that was refused after an uncertain one."""
        self.tally.refused()
        self.till.release(key)

    def known(self, key: Key) -> bool:
        """Say whether the provider's id of a task is known; a callback may bring it."""
        record = self.registry.get(key)
        return record is not None and record.task_id is not None

    async def adopted(self, key: Key) -> bool:
        """Wait for the callback of a submit that was not answered; true where it came."""
        return self.callbacks is not None and await self.callbacks.adopted(key)

    def pay_once(self, key: Key) -> None:
        """Give back the money of an attempt that is not made: the one before was accepted."""
        self.till.budget.drop(key)

    def final(self, key: Key) -> bool:
        """Say whether no further attempt is to be made."""
        handle = self._handles.get(key)
        return handle is not None and handle.final

    def heard(self, key: Key) -> None:
        """Note that somebody learnt how the task ended."""
        self.tally.heard(key)
