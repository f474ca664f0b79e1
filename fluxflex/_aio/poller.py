"""One timer for all tasks: at the scheduler's next due time ask, and tell."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
import time
from collections.abc import Callable

from fluxflex._aio.sender import Got, Sender
from fluxflex._core import decode, refusals
from fluxflex._core.durations import Kind, kind_of
from fluxflex._core.exchange import Answer, Call, Phase, Unanswered
from fluxflex._core.lifecycle import (
    LAST_WORDS,
    Abandoned,
    Completed,
    Failed,
    Key,
    Running,
    TaskEvent,
    TaskRecord,
    TimedOut,
)
from fluxflex._core.request import GenerateRequest
from fluxflex._core.retry import Reach, reach
from fluxflex._core.schedule import AdaptivePolling, FixedPolling, PollPolicy
from fluxflex._core.scheduler import PollScheduler
from fluxflex.errors import FluxFlexError, TaskTimeoutError

log = logging.getLogger("fluxflex")

_NOT_FOUND = 404
# A task may be accepted a moment before the status endpoint knows it.
_MOST_MISSING = 3
_YOUNG = 10.0
_ABOUT_ONE = (Running, Completed, Failed)


class Forgiving:
    """A poll policy whose faults lose no task: the first is logged, and the usual gap holds."""

    def __init__(self, policy: PollPolicy) -> None:
        self._policy = policy
        self._usual = AdaptivePolling()
        self._said = False

    def gap(self, age: float) -> float:
        """Return the policy's gap, or the usual one where it raises or gives no number."""
        try:
            return float(self._policy.gap(age))
        except Exception:
            if not self._said:
                log.exception("the poll policy raised; tasks are looked at as usual")
            self._said = True
            return self._usual.gap(age)


def guarded(policy: PollPolicy) -> PollPolicy:
    """Return a policy that cannot raise: ours as it is, one of the user's own with a guard."""
    return policy if isinstance(policy, AdaptivePolling | FixedPolling) else Forgiving(policy)


class Poller:
    """Looks at the tasks that the scheduler names and tells what it learns.

    Args:
        scheduler: whom to look at, and when.
        sender: what carries a look.
        call: the status request for a task id.
        record: what is known of a task, `None` where it is forgotten.
        tell: where to enter what was learnt.
        looks: how many may be in the air at once, so that the pool is never a queue.
    """

    def __init__(
        self,
        *,
        scheduler: PollScheduler,
        sender: Sender,
        call: Callable[[str], Call],
        record: Callable[[Key], TaskRecord | None],
        tell: Callable[[Key, TaskEvent], object],
        looks: int,
    ) -> None:
        self._scheduler = scheduler
        self._sender = sender
        self._call = call
        self._record = record
        self._tell = tell
        self._looks = looks
        self._looking: set[asyncio.Task[None]] = set()
        self._missing: dict[Key, int] = {}
        self._runs = False
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf
        loop = asyncio.get_running_loop()
        self._clock, self._call_at = loop.time, loop.call_at
        # Whoever's step begins a look: it is about other tasks than that caller's.
        self._context = contextvars.copy_context()
        # The loop runs a timer up to one tick of its clock early; without this we would spin then.
        self._tick = time.get_clock_info("monotonic").resolution
        self.polls = 0

    def follow(self, key: Key, deadline: float, *, fresh: bool, webhook: bool = False) -> None:
        """Begin to look at a task.

        A fresh one was accepted just now; of one with `webhook` a callback is expected.
        """
        record = self._record(key)
        kind = None if record is None or not fresh else _kind(record.request)
        self._scheduler.add(key, kind, self._clock(), deadline, webhook=webhook)
        self._hurry()

    def hasten(self, key: Key) -> None:
        """Look at a task as soon as the rate allows: a callback says that it is over."""
        self._scheduler.hasten(key)
        self._hurry()

    def ended(self, key: Key) -> None:
        """Look no more at a task that the provider says is over, and learn how long it took.

        What a look told is entered before by the look itself; so a callback told this.
        """
        self._scheduler.done(key, self._clock())
        self._missing.pop(key, None)
        self._hurry()  # another task's turn may have come

    def forget(self, key: Key) -> None:
        """Look at a task no more, and learn nothing from it."""
        self._scheduler.forget(key, self._clock())
        self._missing.pop(key, None)

    async def run(self) -> None:
        """Look at tasks until cancelled."""
        self._runs = True
        self._begin()
        try:
            await asyncio.get_running_loop().create_future()  # which nothing ever ends
        finally:
            self._runs = False
            self._wake_at(math.inf)
            for looking in self._looking:
                looking.cancel()

    def _hurry(self) -> None:
        """Begin earlier where a task is due before the one that the timer waits for."""
        if self._scheduler.next_due() < self._wakes_at:
            self._context.copy().run(self._begin)

    def _begin(self) -> None:
        """Begin the looks that are due, and set the timer for the next: the only one of all tasks.

        Without one where no further look may begin: the end of one that is in the air comes here.
        """
        due = math.inf
        while self._runs and len(self._looking) < self._looks:
            key = self._scheduler.take(self._clock() + self._tick)
            if key is None:
                due = self._scheduler.next_due()
                break
            looking = asyncio.create_task(self._look_on(key))
            self._looking.add(looking)
            looking.add_done_callback(self._looked)
        self._wake_at(due)

    async def _look_on(self, key: Key | None) -> None:
        """Look at a task, and go on with the next that is due by then."""
        while key is not None:
            await self._look(key)
            key = self._scheduler.take(self._clock() + self._tick)

    def _looked(self, looking: asyncio.Task[None]) -> None:
        self._looking.discard(looking)
        self._begin()

    def _wake_at(self, due: float) -> None:
        if due == self._wakes_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = due
        self._timer = self._call_at(due, self._wake) if math.isfinite(due) else None

    def _wake(self) -> None:
        self._timer, self._wakes_at = None, math.inf
        self._begin()

    async def _look(self, key: Key) -> None:
        record = self._record(key)
        if record is None or record.task_id is None or record.state.over:
            self.forget(key)
            return
        self.polls += 1
        sent = self._clock()
        got: Got
        try:
            got = await self._sender.once(self._call(record.task_id), decode.read_status)
        except Exception as error:  # a fault of ours must not lose a task that is paid for
            log.exception("a look at task %s failed; there will be others", record.task_id)
            got = Unanswered(phase=Phase.NEVER_SENT, reason=type(error).__name__)
        known = self._record(key)
        if known is not None and not known.state.over:
            self._learn(known, got, sent)

    def _learn(self, record: TaskRecord, got: Got, sent: float) -> None:
        """Enter what a look brought; whatever is not the provider's own word is no news."""
        now = self._clock()
        where = reach(got)
        if where is not Reach.REFUSED:
            self._missing.pop(record.key, None)
        event = said(record.task_id, got)
        if isinstance(event, LAST_WORDS):
            self._scheduler.done(record.key, now, sent)
            self._tell(record.key, event)
            return
        if event is not None:
            self._tell(record.key, event)
            up = self._scheduler.pending(record.key, now, sent)
        elif isinstance(got, Answer) and where is Reach.REFUSED:
            up = self._refused(record, got, now)
        elif isinstance(got, Answer) and where is Reach.THROTTLED:
            up = self._scheduler.throttled(record.key, now, got.retry_after)
        else:
            up = self._scheduler.pending(record.key, now, None)
        if up and record.task_id is not None:
            seconds = now - (record.accepted or record.created)
            error = TaskTimeoutError(task_id=record.task_id, seconds=round(seconds, 3))
            if not record.attempts and record.word is None:
                error.charged = "unknown"  # the provider never said that there is such a task
            self._tell(record.key, TimedOut(error))

    def _refused(self, record: TaskRecord, answer: Answer, now: float) -> bool:
        """Take a refusal for the end, but for a 404 that may pass."""
        missing = self._missing[record.key] = self._missing.get(record.key, 0) + 1
        # Only what we submitted ourselves can be too new for the provider to know.
        young = record.attempts > 0 and now - (record.accepted or record.created) < _YOUNG
        if answer.status == _NOT_FOUND and (missing < _MOST_MISSING or young):
            return self._scheduler.pending(record.key, now, None)
        error = refusals.refusal(answer, task_id=record.task_id)
        if not record.attempts:
            error.charged = "unknown"  # it was submitted elsewhere, if at all
        self._tell(record.key, Abandoned(error))
        return False


def _kind(request: GenerateRequest | None) -> Kind | None:
    """Return what the duration of a task depends on."""
    if request is None:
        return None
    return kind_of(request.quality, request.steps, len(request.image_urls))


def said(task_id: str | None, got: Got) -> TaskEvent | None:
    """Return what a look brought about the task; a reply that names another one is mixed up."""
    event = got.event if isinstance(got, Answer) else None
    named = event.task_id if isinstance(event, _ABOUT_ONE) else None
    return event if named in {None, task_id} else None


async def asked(sender: Sender, call: Call, task_id: str) -> TaskEvent | None:
    """Ask how a task stands, apart from all other looks; `None` where there is no telling."""
    with contextlib.suppress(FluxFlexError):
        return said(task_id, await sender.read(call, decode.read_status))
    return None
