"""The callbacks of one session: each gets to its task, whenever it comes.

A callback's token names its task, so one that beats the POST's own reply, or that is all that ever
comes back, is entered like any other. Which task it is for is decided by what only we could have
written into the token; what the body says is checked against it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping

from fluxflex._aio.books import Books
from fluxflex._core import decode
from fluxflex._core.lifecycle import (
    LAST_WORDS,
    Accepted,
    Change,
    Completed,
    Failed,
    Key,
    TaskEvent,
    TaskRecord,
    TaskState,
)
from fluxflex._core.limits import Timeouts
from fluxflex._core.request import GenerateRequest
from fluxflex.webhooks.receiver import WebhookReceiver
from fluxflex.webhooks.tokens import NAME, Ticket, pattern

log = logging.getLogger("fluxflex")

KINDS = ("received", "early", "late", "duplicate", "unknown", "broken", "refused", "missed")
# What may wait for its work: callbacks, and bytes of their bodies.
_ROOM = 1024
_ROOM_BYTES = 16 * 1024 * 1024
# So many are worked on before the loop's other work has its turn.
_AT_ONCE = 64
# Of so many tasks it is known whether a callback has come.
_KEPT = 4096
# Seconds that a POST has to be answered once a callback has told of its task.
_GRACE = 1.0
# So many tasks must have ended without any callback before it is said that none comes.
_MISSED, _MISSED_AT_END = 8, 3


class Callbacks:
    """Takes what the receiver let in for a session, and tells its tasks.

    Args:
        receiver: where they arrive; `open` joins it.
        tasks: of the session.
        timeouts: of the session.
        look: asks for a task's status; `None` is no news.
        work: runs something that leaving the session waits for.

    Attributes:
        session: this session, in tickets.
        home: what outlives it, in tickets: its journal, where it has one.
    """

    def __init__(
        self,
        receiver: WebhookReceiver,
        tasks: Books,
        timeouts: Timeouts,
        *,
        look: Callable[[str], Awaitable[TaskEvent | None]],
        work: Callable[[Coroutine[object, object, None]], object],
    ) -> None:
        self.session = secrets.token_bytes(NAME)
        self._receiver = receiver
        self._tasks = tasks
        self._timeouts = timeouts
        self._look = look
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._counts: Counter[str] = Counter()
        self._queue: deque[tuple[Ticket, bytes]] = deque()
        self._bytes = 0
        self._working = self._said = False
        self._expected: set[Key] = set()
        # Of tasks that ended: true where a callback came, false where a look was all there was.
        self._heard: OrderedDict[Key, bool] = OrderedDict()
        self._parked: dict[Key, str] = {}
        self._checking: set[Key] = set()
        self._awaited: dict[Key, asyncio.Future[None]] = {}
        self.belong(secrets.token_bytes(NAME))

    def belong(self, home: bytes, inherited: Mapping[tuple[bytes, Key], Key] | None = None) -> None:
        """Belong to a journal.

        Args:
            home: what names it in tokens.
            inherited: our keys of tasks that it took over from others, by their home and key.
        """
        self.home = home
        self._inherited = inherited or {}
        others = {other for other, _ in self._inherited}
        self._start, self._ours = pattern(home, *others)

    def counts(self) -> dict[str, int]:
        """Return how many came, by kind."""
        found = {kind: self._counts[kind] for kind in KINDS}
        return found | {"refused": self._receiver.refused}

    def open(self) -> None:
        """Have callbacks from now on."""
        self._receiver.join(self)

    def close(self) -> None:
        """Work on what is there, and have no more."""
        self._receiver.leave(self)
        while self._queue:
            self._next()
        if self._counts["missed"] >= _MISSED_AT_END:
            self._say_none()

    # -- submits -----------------------------------------------------------------------------

    def address(self, key: Key, request: GenerateRequest) -> str | None:
        """Return the callback URL for a task; `None` where its request has one of its own."""
        if request.callback_url is not None:
            return None
        self._expected.add(key)
        return self._receiver.address(Ticket(self.home, self.session, key))

    def scrub(self, body: bytes) -> bytes:
        """Return a body without tokens of this session or its journal; providers repeat them."""
        found = self._inherited or self._start in body
        return self._ours.sub(b"***", body) if found else body

    async def adopted(self, key: Key) -> bool:
        """Wait for the callback of a submit that was not answered; true where it came."""
        if key not in self._expected:
            return False
        self._tasks.slots.answered(key)  # another POST may go
        found = self._awaited[key] = self._loop.create_future()
        stopping = self._loop.create_task(self._tasks.stopping.wait())
        try:
            task_id = self._parked.pop(key, None)
            record = self._tasks.registry.get(key)
            if task_id is not None and record is not None:
                self._check(record, task_id)
            within, first = self._timeouts.adopt, asyncio.FIRST_COMPLETED
            await asyncio.wait({found, stopping}, timeout=within, return_when=first)
            return found.done()
        finally:
            stopping.cancel()
            self._awaited.pop(key, None)

    # -- what the tasks tell -----------------------------------------------------------------

    def accepted(self, key: Key) -> bool:
        """Note that the id of a task is known; return whether a callback is expected for it."""
        if self._parked.pop(key, None) is not None:
            self._loop.call_soon(self._tasks.watch.hasten, key)
        self._rescue(key)
        return key in self._expected

    def ended(self, change: Change) -> None:
        """Note that a task is over."""
        key = change.after.key
        self._rescue(key)
        expected = key in self._expected
        self.forget(key)
        if not expected or not change.after.state.settled or key in self._heard:
            return
        self._note(key, heard=False)
        self._counts["missed"] += 1
        if self._counts["missed"] >= _MISSED:
            self._say_none()

    def forget(self, key: Key) -> None:
        """Expect nothing for a task any more."""
        self._expected.discard(key)
        self._parked.pop(key, None)

    def _rescue(self, key: Key) -> None:
        waiter = self._awaited.get(key)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _note(self, key: Key, *, heard: bool) -> None:
        self._heard[key] = heard
        self._heard.move_to_end(key)
        if len(self._heard) > _KEPT:
            self._heard.popitem(last=False)

    # -- what comes --------------------------------------------------------------------------

    def put(self, ticket: Ticket, body: bytes) -> bool:
        """Take a callback, to be worked on after its answer; false where there is no room."""
        if len(self._queue) >= _ROOM or self._bytes + len(body) > _ROOM_BYTES:
            return False
        self._queue.append((ticket, body))
        self._bytes += len(body)
        if not self._working:
            self._working = True
            self._loop.call_soon(self._work_on)
        return True

    def _work_on(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._queue))):
            self._next()
        self._working = bool(self._queue)
        if self._working:
            self._loop.call_soon(self._work_on)

    def _next(self) -> None:
        ticket, body = self._queue.popleft()
        self._bytes -= len(body)
        try:
            self._take(ticket, self.scrub(body))
        except Exception:  # whatever it is, the next callback is worked on
            log.exception("a callback could not be worked on; its task is looked at as before")

    def _take(self, ticket: Ticket, body: bytes) -> None:
        self._counts["received"] += 1
        event = decode.read_callback(body)
        if event is None:
            self._counts["broken"] += 1
            return
        record = self._record_of(ticket, str(event.task_id))
        if record is None:
            self._count_unplaced(ticket)
            return
        state = record.state
        late = state.over or ticket.session != self.session
        self._count(record.key, late=late, early=state is not TaskState.RUNNING)
        if record.state.settled:
            return
        if self._receiver.confirm or _doubtful(event):
            self._check(record, str(event.task_id))
            return
        self._tasks.tell(record.key, event)
        if record.state is TaskState.SENDING:
            self._loop.call_later(_GRACE, self._go_on, record.key)

    def _record_of(self, ticket: Ticket, task_id: str) -> TaskRecord | None:
        """Return the task that a callback is for; `None` for none of this session's."""
        tasks, owner = self._tasks, self._tasks.registry.find(task_id)
        if ticket.session == self.session:
            record = tasks.registry.get(ticket.key)
            if record is None or record.task_id == task_id:
                return record
            return record if record.task_id is None and owner is None else None
        theirs = ticket.home, ticket.key
        mine = ticket.key if ticket.home == self.home else self._inherited.get(theirs)
        known = tasks.remembered.get(task_id) if owner is None else None  # by a journal
        key = owner if known is None else known[0]
        if key is not None:
            if mine != key and (mine is not None or key in self._expected):
                return None  # the token is another task's
            if known is not None:
                tasks.from_journal(task_id, None, self._timeouts)
            return tasks.registry.get(key)
        if mine is None or tasks.registry.get(mine) is not None:
            return None
        left = tasks.uncertain.get(mine)
        if left is not None:
            tasks.tally.reopened(left)
            tasks.registry.keep(left)
        return left

    def _count(self, key: Key, *, late: bool, early: bool = False) -> None:
        before = self._heard.get(key)
        self._note(key, heard=True)
        if before:
            self._counts["duplicate"] += 1
        elif late:
            self._counts["late"] += 1
            self._counts["missed"] -= before is False
        elif early:
            self._counts["early"] += 1

    def _count_unplaced(self, ticket: Ticket) -> None:
        """Count one for no task, or for one that ended so long ago that its record is gone."""
        key = ticket.key
        gone = ticket.session == self.session and self._tasks.registry.get(key) is None
        if gone and key in self._heard:
            self._count(key, late=True)
        else:
            self._counts["unknown"] += 1

    def _go_on(self, key: Key) -> None:
        """Wait no longer for the reply to a POST of which a callback has told already."""
        handle = self._tasks.handle(key)
        if handle is not None and handle.sending is not None:
            handle.sending.cancel()

    # -- asking instead of believing -----------------------------------------------------------

    def _check(self, record: TaskRecord, task_id: str) -> None:
        """Ask the provider how a task stands, once its id is certain."""
        key = record.key
        if record.state is TaskState.RUNNING:
            self._tasks.watch.hasten(key)
        elif record.state is TaskState.SENDING and key not in self._awaited:
            self._parked[key] = task_id  # until the POST's own reply
        elif key not in self._checking:
            self._checking.add(key)
            self._work(self._look_up(key, task_id))

    async def _look_up(self, key: Key, task_id: str) -> None:
        try:
            event = await self._look(task_id)
        finally:
            self._checking.discard(key)
        record = self._tasks.registry.get(key)
        if event is None or record is None:
            return
        if record.task_id is None:
            self._tasks.tell(key, Accepted(task_id))
        if isinstance(event, LAST_WORDS):
            self._tasks.tell(key, event)

    def _say_none(self) -> None:
        """Say once that no callback comes, and what may be the reason."""
        if self._said or self._counts["received"]:
            return
        self._said = True
        refused = {why: n for why, n in self._receiver.counts.items() if n and why != "accepted"}
        named = ", ".join(f"{n} for {why}" for why, n in refused.items())
        came = f"what came was turned away ({named}; see `secret`, `verify`, `limit`), or "
        log.warning(
            "%d tasks ended and no callback came for any of them; polling does without. Likely: "
            "%s%s cannot be reached from the internet or leads to another process, a proxy or "
            "tunnel before it does not pass POSTs on, or the receiver is not served",
            self._counts["missed"],
            came if refused else "",
            self._receiver.public_url,
        )


def _doubtful(event: Completed | Failed) -> bool:
    """Say whether a look may know better: a picture in a place that is not known is no failure."""
    return isinstance(event, Failed) and event.error.code == decode.NO_IMAGE
