"""`fluxflex bench`: what is checked and asked before the first task, and the run."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from fluxflex import TaskState, Timeouts
from fluxflex.bench import Bench, Conditions, Level, check_plot
from fluxflex.cli import exits, hints, money, serve
from fluxflex.cli.bench_report import FILES, Report
from fluxflex.cli.exits import Code, UsageError
from fluxflex.cli.interrupts import Interrupts
from fluxflex.cli.progress import Snapshot, View, view
from fluxflex.cli.talk import Talk, counted, hushed
from fluxflex.cli.target import PLAY_MONEY, Target, embedded, run
from fluxflex.errors import ConfigurationError, FluxFlexError, SessionClosedError
from fluxflex.simulator import Simulator

_TICK = 0.2
# Short, so that a newcomer need not wait; the provider's tasks take about 16 s.
_LATENCY = 1.0


@attrs.frozen(kw_only=True)
class Order:
    """A bench that somebody wants.

    Attributes:
        levels: the concurrencies. tasks: at each of them; `None` for enough.
        target: where requests go.
        fields: of every request.
        timeout: seconds a task may take.
        budget: USD. agreed: whether `--yes` was given.
        out: the folder for the files. as_json: whether stdout gets objects.
        simulator: what the embedded simulator is like, as fields of `serve.Setting`.
    """

    levels: Sequence[int]
    tasks: int | None = None
    target: Target = attrs.field(factory=Target)
    fields: Mapping[str, object] = attrs.field(factory=dict)
    timeout: float | None = None
    budget: Decimal | None = None
    agreed: bool = False
    out: Path | None = None
    as_json: bool = False
    simulator: dict[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if self.simulator and not self.target.simulate:
            named = ", ".join(f"--{name.replace('_', '-').rstrip('s')}" for name in self.simulator)
            raise UsageError(f"Only with --simulate: {named}.")

    @property
    def latency(self) -> float:
        """The median seconds of a simulated task."""
        return float(self.simulator.get("latency", _LATENCY))

    def conditions(self, **more: Any) -> Conditions:
        """Return what all levels share."""
        return Conditions(
            fields=self.fields,
            tasks=self.tasks,
            timeout=Timeouts() if self.timeout is None else self.timeout,
            # Tasks that are many times shorter than the provider's are looked at as much oftener.
            poll_rate=None if self.target.simulate else 100,
            **more,
        )

    @contextlib.asynccontextmanager
    async def access(self) -> AsyncIterator[Conditions]:
        """Give what all levels share, with the simulator behind it where that is asked for."""
        if not self.target.simulate:
            async with self.target.access() as access:
                yield self.conditions(api_key=access.api_key, base_url=access.base_url)
            return
        like = {"latency": _LATENCY, "balance": PLAY_MONEY, **self.simulator}
        simulator: Simulator = serve.simulator(serve.Setting(**like))
        async with embedded(simulator) as access:
            yield self.conditions(
                api_key=access.api_key, base_url=access.base_url, simulator=simulator
            )


def levels(text: str) -> tuple[int, ...]:
    """Read the concurrencies, such as `1,4,16,64`; they come back in order, each once.

    Raises:
        UsageError: they are none.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise UsageError(f"--concurrency {text}: it takes whole numbers from 1, such as 1,4,16,64.")
    return tuple(sorted(set(map(int, words))))


def bench(order: Order, talk: Talk) -> int:
    """Check everything, ask where that is due, measure, and return the exit code.

    Raises:
        UsageError: it cannot be done as it is written; nothing was bought.
        FluxFlexError: nothing could be begun.
    """
    if order.out is not None:
        try:
            check_plot()
        except ConfigurationError as error:
            talk.complain(f"{error} Without -o no plot is made. Nothing was bought.")
            return Code.OTHER
        _check_folder(order.out)
    ahead = Bench(order.conditions(base_url=order.target.base_url), order.levels)
    count, estimate = ahead.tasks, ahead.cost()
    agreed = order.agreed or order.budget is not None
    money.check_consent(talk, order.target, agreed=agreed, countable=True)
    if (
        order.target.costs_money
        and not agreed
        and not money.ask(talk, order.target, count=count, estimate=estimate)
    ):
        talk.say("Nothing was bought.")
        return Code.OTHER
    if order.target.costs_money and order.budget is None:
        order = attrs.evolve(order, budget=estimate)  # what was agreed to, and no more
    if order.out is not None:
        _make_folder(order.out)
    return run(Run(order, talk, estimate).run())


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot take the files, or has them from another bench.

    Raises:
        UsageError: it is so.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; -o takes a folder. Nothing was bought.")
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise UsageError(
            f"{folder} holds {there[0]} of an earlier bench: choose another -o. Nothing was bought."
        )


def _make_folder(folder: Path) -> None:
    """Make a folder that takes files.

    Raises:
        OSError: it cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


class Run:
    """One run of a bench.

    Attributes:
        interrupts: what signals do to it.
    """

    def __init__(
        self, order: Order, talk: Talk, estimate: Decimal, *, shown: View | None = None
    ) -> None:
        self.interrupts = Interrupts(stop=self._stop, detach=self._detach)
        if order.target.simulate:
            self.interrupts.again = "Press Ctrl-C again to leave them running."
        self._order = order
        self._talk = talk
        self._estimate = estimate
        self._view = shown or view(talk)
        self._report = Report(
            talk=talk,
            simulated=order.target.simulate,
            latency=order.latency if order.target.simulate else None,
            fields=order.fields,
            out=order.out,
            as_json=order.as_json,
        )
        self._detaching: asyncio.Task[None] | None = None
        self._hush = contextlib.ExitStack()

    async def run(self) -> int:
        """Measure, say and write down what was found, and return the exit code.

        Raises:
            FluxFlexError, OSError: nothing could be begun.
        """
        order = self._order
        async with order.access() as conditions:
            self._bench = Bench(conditions, order.levels, budget=order.budget)
            self._report.begin(self._bench, self._estimate, order.budget)
            with self._hush, self.interrupts.installed():
                error = await self._gather()
                if self._detaching is not None:
                    await self._detaching
        if error is not None:
            self._report.codes.add(exits.code_of(error))
            self._talk.error(error)
        self._report.conclude(self._bench)
        if self.interrupts.signal is not None and self._broken_off:
            return exits.signalled(self.interrupts.signal)
        return exits.first(self._report.codes)

    @property
    def _broken_off(self) -> bool:
        found = self._report.levels
        return len(found) < len(self._bench.levels) or any(level.cut for level in found)

    async def _gather(self) -> FluxFlexError | None:
        """Take all levels; return what ended the bench early, if anything did."""
        with self._view:
            ticker = asyncio.create_task(self._tick())
            try:
                async for level in self._bench:
                    self._take(level)
            except FluxFlexError as error:
                return error
            finally:
                ticker.cancel()
        return None

    def _take(self, level: Level) -> None:
        now = self._bench.now
        assert now is not None  # noqa: S101 - a level was measured
        self._report.add(level)
        for kind, error in now.errors.items():
            self._report.codes.add(exits.code_of_item(error))
            # What ended the level is told once, and whoever lets go knows what that means.
            if not isinstance(error, type(now.error) | SessionClosedError):
                words = hints.sentence(error, simulated=self._order.target.simulate)
                self._talk.say(f"{counted(now.counts[kind], 'task')}: {words}", style="red")
        if now.left and not self._order.target.simulate:
            self._talk.say(
                f"{counted(len(now.left), 'task')} left running, paid for; to fetch one, at no "
                f"further cost: fluxflex wait TASK_ID. They are: {' '.join(now.left)}"
            )

    async def _tick(self) -> None:
        while True:
            if self._bench.now is not None:
                self._view.show(self._snapshot())
            await asyncio.sleep(_TICK)

    def _snapshot(self) -> Snapshot:
        now = self._bench.now
        assert now is not None  # noqa: S101 - as it was asked before
        seen, before = now.session.statistics(), self._report.spent
        return Snapshot(
            done=now.states.total(),
            # Without a display the levels are told as they end, and a sign of life in between.
            total=now.tasks if self._talk.on_terminal else None,
            running=seen.in_flight,
            failed=now.states[TaskState.FAILED],
            uncertain=now.states[TaskState.UNCERTAIN],
            elapsed=now.seconds,
            spent=seen.spent + before,
            reserved=seen.reserved,
            estimate=self._estimate,
            simulated=self._order.target.simulate,
            made=now.states[TaskState.COMPLETED],
            stopping=self.interrupts.signal is not None,
        )

    def _stop(self, next_step: str) -> None:
        self._bench.stop()
        now = self._bench.now
        running = 0 if now is None else now.session.statistics().in_flight
        verb = "runs" if running == 1 else "run"
        self._talk.say(
            f"Stopping: nothing more is submitted. Waiting for {counted(running, 'task')} that "
            f"still {verb}. {next_step}",
            style="yellow",
        )

    def _detach(self) -> None:
        self._hush.enter_context(hushed())
        self._talk.say("Detaching from what still runs.", style="yellow")
        self._detaching = asyncio.create_task(self._bench.detach())
