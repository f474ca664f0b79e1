"""What the provider knows and decides: tasks, money and limits, without a socket."""

from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal

import attrs

from fluxflex.simulator import replies
from fluxflex.simulator.chance import draw
from fluxflex.simulator.contract import Generation, Order, RefusedError, decode
from fluxflex.simulator.courier import Courier
from fluxflex.simulator.durations import DurationLaw
from fluxflex.simulator.ids import TaskIds
from fluxflex.simulator.ledger import Entry, Ledger
from fluxflex.simulator.replies import CONTENT_POLICY, FLAT, UNIFIED, Failure, Reply, Shapes

_MINUTE = 60.0


@attrs.frozen(kw_only=True)
class Terms:
    """Hold the conditions under which the provider works. See `Simulator` for their meaning."""

    seed: int
    durations: DurationLaw
    balance_usd: Decimal
    user_id: int
    failure_rate: float
    forbidden_words: tuple[str, ...]
    max_in_flight: int | None
    submits_per_minute: int | None
    limit_headers: Mapping[str, str]
    shapes: Shapes | None

    def shapes_of(self, generation: Generation) -> Shapes:
        """Return the shapes of a generation's replies: those chosen, or its usual ones."""
        return self.shapes or (UNIFIED if generation.is_unified else FLAT)


class Provider:
    """Decide about tasks.

    `now` gives the simulated seconds since the start, `url_of` the image URL of a task id.
    """

    def __init__(
        self,
        terms: Terms,
        ledger: Ledger,
        ids: TaskIds,
        now: Callable[[], float],
        url_of: Callable[[str], str],
        *,
        courier: Courier,
    ) -> None:
        self.terms = terms
        self._courier = courier
        self._url_of = url_of
        self._ledger = ledger
        self._ids = ids
        self._now = now
        self._recent: deque[float] = deque()

    @property
    def balance_usd(self) -> Decimal:
        """Return what is left of the balance."""
        return self.terms.balance_usd - self._ledger.billed_usd

    def account(self) -> Reply:
        """Answer a look at the account."""
        return replies.account(self.terms.user_id, self.balance_usd)

    def submit(self, generation: Generation, body: bytes) -> Reply:
        """Accept and bill a task, or say why not; what is refused leaves no trace in the ledger.

        A dry run is checked and priced, and meets neither the limits nor the balance: a guess.
        """
        try:
            payload = decode(body)
            order = generation.read(payload)
        except RefusedError as fault:
            return replies.as_error(422, "validation_error", str(fault))
        if generation.only_prices(payload):
            self._ledger.record_dry_run()
            return replies.priced(order.price)
        now = self._now()
        if self._is_limited(now):
            return attrs.evolve(replies.RATE_LIMITED, headers=self.terms.limit_headers)
        if order.price > self.balance_usd:
            return replies.NO_BALANCE
        self._recent.append(now)
        entry = self._ids.named(self._entry(generation, order, body, now))
        early = self._courier.is_early(entry.number, order.callback_url)
        if early:
            entry = attrs.evolve(entry, due=now)
        self._ledger.record_task(entry)
        self._courier.expect(entry, order.callback_url, early=early)
        return attrs.evolve(self._accepted(entry), accepts=entry.task_id)

    def _entry(self, generation: Generation, order: Order, body: bytes, now: float) -> Entry:
        number = len(self._ledger) + 1
        seconds = self.terms.durations.seconds(order, draw(self.terms.seed, "duration", number))
        return Entry(
            number=number,
            task_id="",
            prompt=order.prompt,
            body=body,
            price=order.price,
            accepted_at=now,
            due=now + seconds,
            failure=self._fate(order.prompt, number),
            generation=generation,
        )

    def look(self, generation: Generation, task_id: str) -> Reply:
        """Answer a look at a task.

        A generation knows its own tasks only. Whether the provider's do is unknown; who asks the
        wrong one is to notice it here.
        """
        entry = self._find(task_id)
        if entry is None or entry.generation is not generation:
            return replies.NO_TASK
        shapes = self.terms.shapes_of(generation)
        state = entry.state(self._now())
        if state == "completed":
            return shapes.as_completed(task_id, self._url_of(task_id))
        if state == "failed" and entry.failure is not None:
            return shapes.as_failed(task_id, entry.failure)
        return shapes.as_running(task_id, state)

    def painted(self, task_id: str) -> Order | None:
        """Return what the image of a task shows, None while it has none."""
        entry = self._find(task_id)
        if entry is None or entry.state(self._now()) != "completed":
            return None
        return self._ids.shown(entry)

    def end(self, task_id: str, failure: Failure | None) -> None:
        """Finish a running task now.

        Raises:
            ValueError: There is no such task, or it is finished already.
        """
        entry = self._find(task_id)
        now = self._now()
        if entry is None:
            raise ValueError(f"no task {task_id!r} was accepted here")
        if entry.due <= now:
            raise ValueError(f"task {task_id!r} is finished already")
        self._courier.end(self._ledger.record_end(task_id, now, failure))

    def _find(self, task_id: str) -> Entry | None:
        entry = self._ledger.entry(task_id)
        if entry is None and (entry := self._ids.recalled(task_id)) is not None:
            self._ledger.record_recalled(entry)
        return entry

    def _accepted(self, entry: Entry) -> Reply:
        shape = self.terms.shapes_of(entry.generation).accepted
        if shape == replies.ALREADY_COMPLETED:
            return self.look(entry.generation, entry.task_id)
        return replies.as_json(replies.ACCEPTED[shape](entry.task_id))

    def _fate(self, prompt: str, number: int) -> Failure | None:
        lowered = prompt.lower()
        if any(word in lowered for word in self.terms.forbidden_words):
            return CONTENT_POLICY
        unlucky = draw(self.terms.seed, "failure", number) < self.terms.failure_rate
        return Failure() if unlucky else None

    def _is_limited(self, now: float) -> bool:
        ceiling, rate = self.terms.max_in_flight, self.terms.submits_per_minute
        if ceiling is not None and self._ledger.in_flight(now) >= ceiling:
            return True
        while self._recent and self._recent[0] <= now - _MINUTE:
            self._recent.popleft()
        return rate is not None and len(self._recent) >= rate
