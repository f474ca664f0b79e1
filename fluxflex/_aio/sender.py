"""A call with the retry law and the deadline.

`Sender.once` is one attempt: the transport, the reader, nothing else. `Sender.read` repeats a call
that costs nothing. `Sender.submit` is the one place where a paid request is repeated; it runs in a
task of the session, which a cancelled caller no longer stops, and everything that becomes known is
told to the registry from inside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import random
import time
from typing import Protocol

import attrs

from fluxflex._aio.slots import Slots
from fluxflex._aio.transport import Transport
from fluxflex._core import decode, refusals
from fluxflex._core.exchange import Answer, Call, Intent, Phase, Reply, Unanswered
from fluxflex._core.lifecycle import Key, LeftUncertain, Sent, TaskEvent, TurnedAway
from fluxflex._core.retry import Again, Reach, RetryPolicy, Verdict, decide, reach
from fluxflex.errors import FluxFlexError, SubmitUncertainError

Got = Answer | Unanswered


class Reader(Protocol):
    """One of the readers of `decode`."""

    def __call__(self, reply: Reply, *, wall: float) -> Answer:
        """Return what a reply says."""
        ...


@attrs.frozen
class Retry:
    """What one attempt came to, when another is to follow.

    Attributes:
        delay: after so many seconds.
        left: set where this attempt, or one before it, may have been accepted and the user opted
            in to sending it again all the same.
    """

    delay: float
    left: SubmitUncertainError | None = None


# What one attempt came to: another is to follow, an error, or `None` for accepted.
Step = Retry | FluxFlexError | None


class Desk(Protocol):
    """What the sender needs of the session's tasks.

    Attributes:
        stopping: set when the session takes its leave, which ends all pauses.
        slots: the door that every attempt goes through.
    """

    stopping: asyncio.Event
    slots: Slots

    def tell(self, key: Key, event: TaskEvent) -> object:
        """Enter what was learnt about a task."""
        ...

    async def written(self, key: Key) -> None:
        """Wait until what is known of a task is on disk.

        Raises:
            JournalError: it cannot be written.
        """
        ...

    def withdraw(self, key: Key) -> None:
        """Forget a task that was not sent, with its slot and its money; no other."""
        ...

    def pay_again(self, key: Key) -> None:
        """Set money aside for one more attempt, beside what the uncertain one may have cost."""
        ...

    def refund(self, key: Key) -> None:
        """Give back the money of an attempt that was refused after an uncertain one."""
        ...

    def pay_once(self, key: Key) -> None:
        """Give back the money of an attempt that is not made: the one before was accepted."""
        ...

    def final(self, key: Key) -> bool:
        """Say whether no further attempt is to be made."""
        ...

    def known(self, key: Key) -> bool:
        """Say whether the provider's id of a task is known; a callback may bring it."""
        ...

    async def adopted(self, key: Key) -> bool:
        """Wait for the callback of a submit that was not answered; true where it came."""
        ...

    def admit(self) -> None:
        """Let an attempt begin.

        Raises:
            SessionClosedError: the session takes its leave; nothing more is sent.
            JournalError: what is sent could not be noted.
        """
        ...


class Sender:
    """Sends calls by the retry law. Create it inside a running loop.

    Args:
        transport: what carries them.
        policy: how often and how soon a call is repeated.
        request: seconds for one exchange.
        rng: the source of the jitter.

    Attributes:
        in_air: the tasks of which an attempt is on its way; what sends it is not to be cancelled.
        retries: how often a call was repeated.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        policy: RetryPolicy,
        request: float,
        rng: random.Random,
    ) -> None:
        self._transport = transport
        self._policy = policy
        self._request = request
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self.in_air: set[Key] = set()
        self.retries = 0

    async def once(self, call: Call, reader: Reader, *, timeout: float = math.inf) -> Got:
        """Make one attempt and read what came of it."""
        got = await self._transport.send(call, timeout=min(timeout, self._request))
        return got if isinstance(got, Unanswered) else reader(got, wall=time.time())

    async def read(self, call: Call, reader: Reader) -> Answer:
        """Repeat a call that costs nothing until it is answered.

        Raises:
            APIError, APIConnectionError, ConfigurationError: after its last attempt.
        """
        seen: dict[Reach, int] = {}
        while True:
            got = await self.once(call, reader)
            step = self.judge(Intent.READ, got, seen)
            if isinstance(step, Again) and step.delay <= self._request:
                self.retries += 1
                await asyncio.sleep(step.delay)
            elif isinstance(got, Answer) and step in {Verdict.READ, Verdict.TASK}:
                return got
            elif isinstance(got, Answer) and step is Verdict.MISCONFIGURED:
                raise refusals.redirected(got)
            else:
                raise refusals.failed_read(got)

    def judge(self, intent: Intent, got: Got, seen: dict[Reach, int]) -> Again | Verdict:
        """Apply the law.

        `seen` counts apart what this call met, so that a hundred 429s do not use up the attempts
        that a failure to connect has.
        """
        where = reach(got)
        seen[where] = seen.get(where, 0) + 1
        return decide(intent, got, seen[where], self._policy, self._rng.random())

    async def submit(self, desk: Desk, key: Key, call: Call, *, within: float) -> None:
        """Send a submit until it is accepted, refused or uncertain, or its time is up.

        Cancelled, nothing more is sent; it is not to be cancelled while `in_air` has it.

        Raises:
            APIError, APIConnectionError, ConfigurationError: it was not accepted.
            SubmitUncertainError: it may have been.
            SessionClosedError, JournalError: it was not sent, or no more; see `Desk.admit`.
        """
        course = _Course(self._loop.time() + within)
        step: Step = None
        while True:
            if not await self._turn(desk, key, step, course):
                desk.slots.answered(key)
                return
            self.in_air.add(key)
            try:
                step = await self._attempt(desk, key, call, course)
            finally:
                self.in_air.discard(key)
                desk.slots.answered(key)
            if step is None:
                return
            if not isinstance(step, Retry):
                raise step

    async def _turn(self, desk: Desk, key: Key, before: Step, course: _Course) -> bool:
        """Wait until an attempt may begin; the first was let through with its slot.

        False where none is to begin: a callback told that one before was accepted.

        It is told before it begins, so that it is on disk before its bytes are on the wire.
        `before` is what the attempt before came to; whoever gives up here leaves it entered.
        """
        again = before if isinstance(before, Retry) else None
        try:
            if again is not None:
                self.retries += 1
                await self._wait(desk, key, again.delay, course)
                if desk.known(key):
                    return False
            paid_again = False
            try:
                desk.admit()
                course.admit(self._loop.time())
                if again is not None and again.left is not None:
                    desk.pay_again(key)
                    paid_again = True
                desk.tell(key, Sent())
                await desk.written(key)
                # Writing takes its time: the session may have taken its leave meanwhile.
                desk.admit()
                course.admit(self._loop.time())
                self._check_wanted()
                told = again is not None and desk.known(key)
            except BaseException:
                if paid_again:
                    desk.refund(key)
                raise
        except BaseException as error:
            _give_up(desk, key, before)
            if again is not None and again.left is not None and isinstance(error, FluxFlexError):
                raise again.left from None  # the attempt before may have been billed
            raise
        if told:
            desk.pay_once(key)
        return not told

    def _check_wanted(self) -> None:
        """Let no cancellation of this very step, which an observer may have made, reach the air."""
        this = asyncio.current_task(self._loop)
        if this is not None and this.cancelling():
            raise asyncio.CancelledError

    async def _wait(self, desk: Desk, key: Key, delay: float, course: _Course) -> None:
        """Wait for a pause of its own, and then until the limiter lets it through.

        Only who was turned away before is bounded here: its time runs already.
        """
        if delay > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await desk.stopping.wait()
        deadline = None if math.isinf(course.deadline) else course.deadline
        try:
            async with asyncio.timeout_at(deadline):
                await desk.slots.again(key)
        except TimeoutError:
            raise course.late() from None

    async def _attempt(self, desk: Desk, key: Key, call: Call, course: _Course) -> Step:
        """Make one attempt and enter what came of it."""
        clock = self._loop.time
        began, sent_at = clock(), time.time()
        got = await self.once(call, decode.read_submit, timeout=course.deadline - began)
        if isinstance(got, Answer) and got.event is not None:
            desk.tell(key, got.event)
            return None
        step = self.judge(Intent.SUBMIT, got, course.seen)
        unclear = step is Verdict.UNCERTAIN or (isinstance(step, Again) and step.uncertain)
        if desk.known(key) or (unclear and await desk.adopted(key)):
            return None  # a callback told of it
        if unclear:
            digest = hashlib.sha256(call.body or b"").hexdigest()
            course.left = refusals.uncertain(got, sent_at=sent_at, payload_sha256=digest)
        elif course.left is not None:
            desk.refund(key)  # refusing this attempt does not undo the one before
        else:
            desk.tell(key, TurnedAway())
        delay = pause = step.delay if isinstance(step, Again) else math.inf
        if isinstance(got, Answer) and reach(got) is Reach.THROTTLED:
            until = desk.slots.turned_away(began, got.retry_after)
            if until is not None:  # everything pauses, this submit with it
                delay, pause = 0.0, until - clock()
            course.throttled = refusals.refusal(got, submit=True)
        if clock() + pause < course.deadline and not desk.final(key):
            return Retry(delay, course.left)
        if course.left is not None:
            desk.tell(key, LeftUncertain(course.left))
            return course.left
        return _refusal(got, step)


@attrs.define
class _Course:
    """What the attempts of one submit share.

    Attributes:
        deadline: seconds on the loop's clock; no attempt begins after it.
        seen: what they met, counted apart.
        left: set once one of them may have been accepted.
        throttled: what the last one that was turned away (429) came to.
    """

    deadline: float
    seen: dict[Reach, int] = attrs.field(factory=dict)
    left: SubmitUncertainError | None = None
    throttled: FluxFlexError | None = None

    def admit(self, now: float) -> None:
        """Let an attempt begin, unless it could only be cut off and left uncertain."""
        if now >= self.deadline:
            raise self.late()

    def late(self) -> FluxFlexError:
        """Return the error of a submit whose time was up while it waited."""
        late = Unanswered(phase=Phase.NEVER_SENT, reason="its time was up in the queue")
        return refusals.unreachable(late) if self.throttled is None else self.throttled


def _refusal(got: Got, step: Again | Verdict) -> FluxFlexError:
    if isinstance(got, Unanswered):
        return refusals.unreachable(got)
    if step is Verdict.MISCONFIGURED:
        return refusals.redirected(got)
    return refusals.refusal(got, submit=True)


def _give_up(desk: Desk, key: Key, step: Step) -> None:
    """Enter that nobody goes on with a submit, of which no attempt is in the air."""
    desk.slots.answered(key)
    if isinstance(step, Retry) and step.left is not None:
        desk.tell(key, LeftUncertain(step.left))
    desk.tell(key, TurnedAway())  # absorbed, unless an attempt was told that did not begin
    desk.withdraw(key)
