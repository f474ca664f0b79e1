"""A batch under way: items out, outcomes in, each written down as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from fluxflex import Batch, GenerateRequest, Outcome, Session, TaskState, Timeouts
from fluxflex.cli import exits, gallery, hints, places, progress, results
from fluxflex.cli.exits import Code
from fluxflex.cli.interrupts import Interrupts
from fluxflex.cli.progress import Snapshot, View, view
from fluxflex.cli.results import Results, Row
from fluxflex.cli.source import BadLine, Source
from fluxflex.cli.summary import Ending, Tally
from fluxflex.cli.talk import Talk, counted, hushed
from fluxflex.cli.target import Target
from fluxflex.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    DownloadError,
    FluxFlexError,
    InsufficientBalanceError,
    InvalidRequestError,
    SessionClosedError,
)

_TICK = 0.2
# These meet every item that was read; they are told once, at the end.
_COMMON = (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    InsufficientBalanceError,
    SessionClosedError,
)


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be run; everything in it was checked.

    Attributes:
        estimate: USD for all of it, where that is known.
    """

    source: Source
    folder: Path
    target: Target
    defaults: dict[str, Any] = attrs.field(factory=dict)
    estimate: Decimal | None = None
    concurrency: int = 32
    timeout: float | None = None
    budget: Decimal | None = None
    download: bool = True
    as_json: bool = False

    def place(self, index: int, request: GenerateRequest) -> Path:
        """Return where an item's picture goes; it gets its suffix from its content."""
        return self.folder / places.numbered(index, request.prompt, self.source.total)


class Run:
    """One run of a plan.

    Attributes:
        interrupts: what signals do to it.
    """

    def __init__(
        self,
        plan: Plan,
        talk: Talk,
        *,
        shown: View | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.interrupts = Interrupts(stop=self._stop, detach=self._detach)
        if plan.target.simulate:
            self.interrupts.again = "Press Ctrl-C again to stop at once."
        self._plan = plan
        self._talk = talk
        self._view = shown or view(talk)
        self._clock = clock
        self._began = clock()
        self._tally = Tally()
        self._detaching: asyncio.Task[None] | None = None
        self._hush = contextlib.ExitStack()

    async def run(self) -> int:
        """Run to the end, write everything down, and return the exit code.

        Raises:
            FluxFlexError, UsageError, OSError: nothing could be begun.
        """
        plan = self._plan
        async with plan.target.access() as access:
            session = self._session = Session(
                access.api_key,
                base_url=access.base_url,
                concurrency=plan.concurrency,
                budget=plan.budget,
                timeout=Timeouts() if plan.timeout is None else plan.timeout,
            )
            plan.folder.mkdir(parents=True, exist_ok=True)
            with Results(plan.folder) as self._results, self._hush:
                await session.open()
                try:
                    stopped = await self._gather(session)
                finally:
                    with hushed():
                        await session.aclose(drain=0)
                return self._conclude(stopped)

    async def _gather(self, session: Session) -> Exception | None:
        """Take all outcomes; return what ended the batch early, if anything did."""
        plan = self._plan
        if plan.target.simulate:
            self._talk.say("Simulated: nothing is bought, and money is play money.")
        self._batch: Batch = session.map(
            plan.source.items(), save_to=plan.place if plan.download else None, **plan.defaults
        )
        with self.interrupts.installed(), self._view:
            async with self._batch:
                ticker = asyncio.create_task(self._tick())
                try:
                    async for outcome in self._batch:
                        self._take(outcome)
                        self._show()
                except (FluxFlexError, OSError) as error:
                    return error
                finally:
                    ticker.cancel()
        return None

    async def _tick(self) -> None:
        while True:
            self._show()
            await asyncio.sleep(_TICK)

    def _show(self) -> None:
        self._view.show(self._snapshot())

    def _snapshot(self) -> Snapshot:
        money, going = self._session.statistics(), self._batch.progress
        return Snapshot(
            done=self._tally.done,
            total=self._plan.source.total,
            running=going.running + going.saving,
            failed=self._tally.failed,
            elapsed=self._clock() - self._began,
            spent=money.spent,
            reserved=money.reserved,
            estimate=self._plan.estimate,
            simulated=self._plan.target.simulate,
            unsent=self._tally.unsent,
            stopping=self.interrupts.signal is not None,
        )

    # -- outcomes ----------------------------------------------------------------------------

    def _take(self, outcome: Outcome) -> None:
        """Write an outcome down, and tell people and programs."""
        row = self._row(outcome)
        error = outcome.item.error if isinstance(outcome.item, BadLine) else outcome.error
        self._tally.count(outcome, row, error)
        if not self._results.add(outcome.index, row) and len(self._results.unwritten) == 1:
            self._talk.complain(f"results.jsonl cannot be written: {self._results.error}.")
            self._tally.codes.add(Code.OTHER)
            self._plan.source.stop()
        if error is not None and not isinstance(error, _COMMON):
            words = hints.sentence(error, simulated=self._plan.target.simulate)
            self._talk.say(f"{outcome.index + 1:,}: {words}", style="red")
        if self._plan.as_json:
            self._talk.out(results.as_line(row))
        elif outcome.path is not None:
            self._talk.out(str(outcome.path))
        elif outcome.ok:
            self._talk.out(outcome.image.url)

    def _row(self, outcome: Outcome) -> Row:
        url = cost = path = None
        request, error, item = outcome.request, outcome.error, outcome.item
        if outcome.state is TaskState.COMPLETED:
            url, cost = outcome.image.url, outcome.image.cost
        elif request is not None and error is not None and error.charged == "yes":
            cost = self._session.price(request)
        if outcome.path is not None:
            path = outcome.path.relative_to(self._plan.folder).as_posix()
        if isinstance(item, BadLine):
            error = item.error
        asked = request or (item if isinstance(item, Mapping) else None)
        return results.row(
            index=outcome.index,
            request=asked,
            state=outcome.state,
            task_id=outcome.task_id,
            path=path,
            url=url,
            error=error,
            cost=cost,
            simulated=self._plan.target.simulate,
        )

    # -- interruption ------------------------------------------------------------------------

    def _stop(self, next_step: str) -> None:
        self._plan.source.stop()
        self._batch.stop()
        at = self._snapshot()
        money = "" if at.simulated else f" ({progress.money(attrs.evolve(at, estimate=None))})"
        self._talk.say(
            f"Stopping: nothing more is read. Waiting for {counted(at.running, 'task')} that "
            f"still run{money}. {next_step}",
            style="yellow",
        )

    def _detach(self) -> None:
        self._hush.enter_context(hushed())
        simulated = self._plan.target.simulate
        words = "Stopping at once." if simulated else "Detaching from what still runs."
        self._talk.say(words, style="yellow")
        self._detaching = asyncio.create_task(self._session.aclose(drain=0))

    # -- the end -----------------------------------------------------------------------------

    def _conclude(self, stopped: Exception | None) -> int:
        """Put the folder in order, say how it ended, and return the exit code."""
        if self._detaching is not None and isinstance(stopped, SessionClosedError):
            stopped = None
        if stopped is not None:
            self._tally.codes.add(exits.code_of(stopped))
            if not isinstance(stopped, DownloadError):  # told with its item
                self._talk.error(stopped)
        unsent = (self._plan.source.total or 0) - self._tally.done
        if unsent > 0:
            self._tally.states[gallery.WORDS["QUEUED"]] += unsent
        folder, money = self._plan.folder, self._session.statistics()
        simulated = self._plan.target.simulate
        end = Ending(
            page=self._write(self._tally.totals(folder, money, simulated=simulated)),
            folder=folder,
            money=money,
            seconds=self._clock() - self._began,
            simulated=simulated,
            download=self._plan.download,
        )
        for line in self._tally.lines(end):
            self._talk.say(line)
        if self.interrupts.signal is not None and not self._plan.source.ended:
            return exits.signalled(self.interrupts.signal)
        return exits.first(self._tally.codes)

    def _unsent(self) -> Iterator[tuple[int, Row]]:
        """Give the rows of items that were never read."""
        simulated = self._plan.target.simulate
        try:
            for index, item in enumerate(self._plan.source.again()):
                asked = None if isinstance(item, BadLine) else self._asked(item)
                yield (
                    index,
                    results.row(
                        index=index, request=asked, state=TaskState.QUEUED, simulated=simulated
                    ),
                )
        except OSError as error:
            self._talk.error(error)

    def _asked(self, item: Mapping[str, object]) -> GenerateRequest | Mapping[str, object]:
        """Return the request of an item that was checked, unless its file was changed since."""
        fields = {**self._plan.defaults, **item}
        try:
            return GenerateRequest.from_dict(fields)
        except InvalidRequestError:
            return fields

    def _write(self, totals: gallery.Totals) -> bool:
        """Write the results in order, and the page; false where that cannot be done."""
        folder = self._plan.folder
        complete = len(self._results) == self._plan.source.total
        try:
            self._results.finish(() if complete else self._unsent())
            gallery.write(folder / places.GALLERY, totals, results.read(self._results.path))
        except OSError as error:
            self._tally.codes.add(Code.OTHER)
            self._talk.complain(f"{folder} cannot be completed: {error.strerror or error}.")
            for row in self._results.unwritten:
                self._talk.say(f"Not written down: {results.as_line(row)}")
            return False
        return True
