"""Measures: a session for each concurrency, and as many tasks as it takes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from decimal import Decimal

import attrs

from fluxflex import Batch, Outcome, Session, TaskState, Timeouts
from fluxflex.bench.levels import ROUNDS, Level
from fluxflex.bench.trace import Trace
from fluxflex.errors import ConfigurationError, FluxFlexError
from fluxflex.simulator import Simulator

_FEWEST = 8
# The provider goes on with such a task.
_LEFT = frozenset({TaskState.TIMED_OUT, TaskState.ABANDONED})
_SUBJECTS = (
    "a lighthouse in fog",
    "a red bicycle in the rain",
    "a kitchen table in the morning sun",
    "a paper boat on a canal",
    "an old tram on a hill",
    "a greenhouse in winter",
    "a fisherman mending nets",
)


def _no_fields() -> dict[str, object]:
    return {}


@attrs.frozen(kw_only=True)
class Conditions:
    """What all levels of a bench share.

    Attributes:
        api_key, base_url: as a `Session` takes them.
        fields: fields of every request, such as `quality`; the prompts are made up, all different.
        tasks: how many at each level; `None` for four a slot, and at least eight.
        timeout: seconds a task may take, or a `Timeouts`.
        poll_rate: status requests a second, at most, as a `Session` takes it.
        simulator: the one behind `base_url`, in this process: it tells when a task was finished.
    """

    api_key: str | None = attrs.field(default=None, repr=False)
    base_url: str | None = None
    fields: Mapping[str, object] = attrs.field(factory=_no_fields)
    tasks: int | None = None
    timeout: Timeouts | float = attrs.field(factory=Timeouts)
    poll_rate: float | None = 100
    simulator: Simulator | None = None

    def tasks_at(self, concurrency: int) -> int:
        """Return how many tasks a level has."""
        return max(_FEWEST, ROUNDS * concurrency) if self.tasks is None else self.tasks

    def session(
        self, concurrency: int, budget: Decimal | None = None, trace: Trace | None = None
    ) -> Session:
        """Return a session, not yet open, for a level.

        Raises:
            ConfigurationError: there is no key, or a setting that cannot be used.
        """
        return Session(
            self.api_key,
            base_url=self.base_url,
            concurrency=concurrency,
            poll_rate=self.poll_rate,
            timeout=self.timeout,
            budget=budget,
            on_event=trace,
        )

    def price(self) -> Decimal:
        """Return what each task costs in USD.

        Raises:
            InvalidRequestError: the fields are none of a request.
        """
        # Prices need no connection: this session is never opened and its key never used.
        return Session("unused", base_url=self.base_url).price({"prompt": "any", **self.fields})

    def since_due(self, task_id: str) -> float | None:
        """Return the seconds since a task was finished; `None` where nobody can say."""
        entry = None if self.simulator is None else self.simulator.ledger.entry(task_id)
        if entry is None or self.simulator is None:
            return None
        return (self.simulator.now() - entry.due) / self.simulator.speed

    def requests(self, concurrency: int) -> Iterator[Mapping[str, object]]:
        """Give the requests of a level: their prompts are all different."""
        for number in range(self.tasks_at(concurrency)):
            subject = _SUBJECTS[number % len(_SUBJECTS)]
            prompt = f"{subject}, study {number + 1} of a bench at {concurrency}"
            yield {**self.fields, "prompt": prompt}


class Measurement:
    """One level under way.

    Args:
        conditions: of all levels.
        concurrency: of this one.
        budget: the most that it may spend, in USD.

    Attributes:
        states: outcomes so far, by how they ended.
        errors: the first error of each kind that outcomes had, and counts: how many had one.
        left: the ids of tasks that were paid for and are followed no more.
        error: what ended the level early, where anything did.
    """

    def __init__(
        self, conditions: Conditions, concurrency: int, *, budget: Decimal | None = None
    ) -> None:
        self.concurrency = concurrency
        self.tasks = conditions.tasks_at(concurrency)
        self.states: Counter[TaskState] = Counter()
        self.errors: dict[str, FluxFlexError] = {}
        self.counts: Counter[str] = Counter()
        self.left: list[str] = []
        self.error: FluxFlexError | None = None
        self._conditions = conditions
        self._trace = Trace(conditions.since_due)
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self.session = conditions.session(concurrency, budget, self._trace)
        self._batch: Batch | None = None
        self._stopped = False

    async def run(self) -> Level:
        """Measure to the end, or until it is stopped, and return what was found.

        Raises:
            FluxFlexError: the session cannot be opened; what comes later is in `error`.
        """
        session, asked = self.session, self._conditions
        await session.open()
        try:
            self._began = self._clock()
            self._batch = session.map(asked.requests(self.concurrency))
            if self._stopped:
                self._batch.stop()
            await self._gather(self._batch)
            return self._level()
        finally:
            await session.aclose(drain=0)

    async def _gather(self, batch: Batch) -> None:
        async with batch:
            try:
                async for outcome in batch:
                    self._take(outcome)
            except FluxFlexError as error:
                self.error = error

    def _take(self, outcome: Outcome) -> None:
        self.states[outcome.state] += 1
        if outcome.state in _LEFT and outcome.task_id is not None:
            self.left.append(outcome.task_id)
        if outcome.error is not None:
            kind = type(outcome.error).__name__
            self.counts[kind] += 1
            self.errors.setdefault(kind, outcome.error)

    @property
    def seconds(self) -> float:
        """Seconds since the first request."""
        return self._clock() - self._began

    def stop(self) -> None:
        """Submit nothing more; what runs is waited for."""
        self._stopped = True
        if self._batch is not None:
            self._batch.stop()

    def _level(self) -> Level:
        seen, trace, seconds = self.session.statistics(), self._trace, self.seconds
        throughput, steady = trace.rate(self.concurrency, seconds)
        return Level(
            concurrency=self.concurrency,
            tasks=self.tasks,
            cut=self.error is not None or self.states.total() < self.tasks,
            seconds=seconds,
            throughput=throughput,
            steady=steady,
            submit=trace.submit,
            lag=trace.lag,
            picture=trace.picture,
            running=trace.running(throughput),
            accepted=seen.accepted,
            completed=seen.completed,
            failed=seen.failed,
            uncertain=seen.uncertain,
            turned_away=seen.throttled,
            polls=seen.polls,
            errors=dict(self.counts),
            spent=seen.spent,
            reserved=seen.reserved,
        )


class Bench:
    """Measures level after level, from the lowest: `async for level in Bench(…)`.

    Args:
        conditions: of all levels.
        levels: the concurrencies.
        budget: the most that all of them together may spend, in USD. A level that what is left
            cannot pay for is not begun.

    Attributes:
        levels: in the order in which they are measured.
        now: the level under way.
        left: of the budget, in USD.
        skipped: the levels that the budget was not enough for.

    Raises:
        ConfigurationError: there is no level, or one below 1.
    """

    def __init__(
        self, conditions: Conditions, levels: Sequence[int], *, budget: Decimal | None = None
    ) -> None:
        if not _are_levels(levels):
            raise ConfigurationError(
                f"A bench needs whole numbers from 1 as its levels, not {levels!r}",
                hint="Such as [1, 4, 16, 64].",
            )
        self.levels = sorted(set(levels))
        self.now: Measurement | None = None
        self.left = budget
        self.skipped: list[int] = []
        self._conditions = conditions
        self._stopped = False

    @property
    def tasks(self) -> int:
        """How many tasks all levels have together."""
        return sum(map(self._conditions.tasks_at, self.levels))

    def cost(self) -> Decimal:
        """Return what all levels cost together in USD.

        Raises:
            InvalidRequestError: the fields are none of a request.
        """
        return self.tasks * self._conditions.price()

    async def __aiter__(self) -> AsyncIterator[Level]:
        """Measure, and give each level as it ends; one without a picture is the last.

        Raises:
            FluxFlexError: the key, the balance or the budget ended it; the level that it ended
                is given first, where it found anything.
        """
        price = self._conditions.price()
        for place, concurrency in enumerate(self.levels):
            if self._stopped:
                return
            worst = self._conditions.tasks_at(concurrency) * price
            if self.left is not None and worst > self.left:
                self.skipped = self.levels[place:]
                return
            now = self.now = Measurement(self._conditions, concurrency, budget=self.left)
            level = await now.run()
            self._pay(level)
            if now.error is None or level.accepted or level.uncertain:
                yield level
            if now.error is not None and not self._stopped:
                raise now.error
            if not level.completed:
                return

    def _pay(self, level: Level) -> None:
        if self.left is not None:
            self.left = max(Decimal(0), self.left - level.spent - level.reserved)

    def stop(self) -> None:
        """Submit nothing more; the level under way ends with what runs."""
        self._stopped = True
        if self.now is not None:
            self.now.stop()

    async def detach(self) -> None:
        """Stop, and do not wait for what runs either."""
        self.stop()
        if self.now is not None:
            await self.now.session.aclose(drain=0)


def _are_levels(given: object) -> bool:
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        return False
    whole = all(isinstance(level, int) and not isinstance(level, bool) for level in given)
    return bool(given) and whole and min(given) >= 1
