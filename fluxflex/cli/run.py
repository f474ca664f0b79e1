"""A batch under way: items out, outcomes in, each written down as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal

import attrs

from fluxflex import Batch, Outcome, Session, TaskState, Timeouts
from fluxflex.cli import exits, hints, money, places, prospect, results, stock
from fluxflex.cli.closing import Closing
from fluxflex.cli.exits import Code, UsageError
from fluxflex.cli.interrupts import Interrupts
from fluxflex.cli.plan import Plan
from fluxflex.cli.progress import Snapshot, View, view
from fluxflex.cli.results import Results, Row
from fluxflex.cli.source import BadLine
from fluxflex.cli.stock import Stock
from fluxflex.cli.summary import Ending, Tally
from fluxflex.cli.talk import Talk, counted, dollars, hushed
from fluxflex.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    DownloadError,
    FluxFlexError,
    InsufficientBalanceError,
    JournalError,
    SessionClosedError,
)

_TICK = 0.2
# These meet every item that was read; they are told once, at the end.
_COMMON = (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    InsufficientBalanceError,
    JournalError,
    SessionClosedError,
)


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
        if plan.simulated:
            self.interrupts.again = "Press Ctrl-C again to leave them running."
        self._plan = plan
        self._talk = talk
        self._view = shown or view(talk)
        self._clock = clock
        self._began = clock()
        self._tally = Tally()
        self._detaching: asyncio.Task[None] | None = None
        self._hush = contextlib.ExitStack()
        # One screen shows what is new; programs get all of it.
        self._repeats = not sys.stdout.isatty()

    async def run(self) -> int:
        """Run to the end, write everything down, and return the exit code.

        Raises:
            FluxFlexError, UsageError, OSError: nothing could be begun.
        """
        plan = self._plan
        async with plan.order.target.access() as access:
            session = self._session = Session(
                access.api_key,
                base_url=access.base_url,
                concurrency=plan.order.concurrency,
                budget=plan.order.budget,
                timeout=Timeouts() if plan.order.timeout is None else plan.order.timeout,
                journal=plan.folder / places.JOURNAL,
            )
            with self._hush:
                try:
                    await session.open()
                    places.sweep(plan.folder)
                    with Results(plan.folder, plan.stock.numbers()) as self._results:
                        stopped = await self._gather(session)
                        await self._close(session)
                        return await self._conclude(stopped)
                finally:
                    await self._close(session)

    async def _close(self, session: Session) -> None:
        with hushed():
            await session.aclose(drain=0)

    async def _gather(self, session: Session) -> Exception | None:
        """Take all outcomes; return what ended the batch early, if anything did."""
        plan = self._plan
        if plan.simulated:
            self._talk.say("Simulated: nothing is bought, and money is play money.")
        elif plan.estimate and not plan.told:
            await money.preflight(session, self._talk, plan.estimate)
        self._batch: Batch = session.map(
            plan.items(),
            save_to=plan.place if plan.order.download else None,
            run=stock.RUN,
            again=plan.order.again,
            **plan.order.defaults,
        )
        with self.interrupts.installed(), self._view:
            async with self._batch:
                ticker = asyncio.create_task(self._tick())
                try:
                    async for outcome in self._batch:
                        self._take(outcome)
                        if not outcome.replayed:
                            self._show()
                except (FluxFlexError, UsageError, OSError) as error:
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
            simulated=self._plan.simulated,
            unsent=self._tally.unsent,
            replayed=self._tally.replayed,
            stopping=self.interrupts.signal is not None,
        )

    # -- outcomes ----------------------------------------------------------------------------

    def _take(self, outcome: Outcome) -> None:
        """Write an outcome down, and tell people and programs."""
        error = outcome.item.error if isinstance(outcome.item, BadLine) else outcome.error
        self._tally.count(outcome, error)
        index = outcome.number - 1
        new = not self._results.says(index, self._mark(outcome, error))
        row = self._row(outcome, error) if new or self._plan.order.as_json else {}
        if new and not self._results.add(index, row) and len(self._results.unwritten) == 1:
            self._talk.complain(f"results.jsonl cannot be written: {self._results.error}.")
            self._tally.codes.add(Code.OTHER)
            self._plan.source.stop()
        told = isinstance(error, _COMMON) or (outcome.replayed and not new)
        if error is not None and not told:
            words = hints.sentence(error, simulated=self._plan.simulated, way=self._plan.resume)
            self._talk.say(f"{outcome.number:,}: {words}", style="red")
        if self._repeats or not outcome.replayed:
            self._give(outcome, row)

    def _give(self, outcome: Outcome, row: Row) -> None:
        if self._plan.order.as_json:
            self._talk.out(results.as_line(row))
        elif outcome.path is not None:
            self._talk.out(str(outcome.path))
        elif outcome.ok:
            self._talk.out(outcome.image.url)

    def _mark(self, outcome: Outcome, error: FluxFlexError | None) -> int:
        return results.mark(
            outcome.state,
            task_id=outcome.task_id,
            path=None if outcome.path is None else outcome.path.name,
            error=None if error is None else type(error).__name__,
        )

    def _row(self, outcome: Outcome, error: FluxFlexError | None) -> Row:
        url = cost = None
        request, item = outcome.request, outcome.item
        if outcome.state is TaskState.COMPLETED:
            url, cost = outcome.image.url, outcome.image.cost
        elif request is not None and error is not None and error.charged == "yes":
            cost = self._session.price(request)
        return results.row(
            index=outcome.number - 1,
            request=request or (item if isinstance(item, Mapping) else None),
            state=outcome.state,
            task_id=outcome.task_id,
            path=None if outcome.path is None else outcome.path.name,
            url=url,
            error=error,
            cost=cost,
            simulated=self._plan.simulated,
            way=self._plan.resume,
        )

    # -- interruption ------------------------------------------------------------------------

    def _stop(self, next_step: str) -> None:
        self._plan.source.stop()
        self._batch.stop()
        running = self._batch.progress.running + self._batch.progress.saving
        requests = [handle.request for handle in self._session.handles()]
        worth = sum((self._session.price(each) for each in requests if each), Decimal(0))
        reserved = self._session.statistics().reserved
        parts = [dollars(worth)] if worth else []
        parts += [f"{dollars(reserved)} reserved"] if reserved else []
        cost = f" ({', '.join(parts)})" if parts and not self._plan.simulated else ""
        self._talk.say(
            f"Stopping: nothing more is read. Waiting for {counted(running, 'task')} that "
            f"still run{cost}. {next_step}",
            style="yellow",
        )

    def _detach(self) -> None:
        self._hush.enter_context(hushed())
        self._talk.say("Detaching from what still runs.", style="yellow")
        self._detaching = asyncio.create_task(self._session.aclose(drain=0))

    # -- the end -----------------------------------------------------------------------------

    async def _conclude(self, stopped: Exception | None) -> int:
        """Put the folder in order, say how it ended, and return the exit code."""
        plan, tally = self._plan, self._tally
        if self._detaching is not None and isinstance(stopped, SessionClosedError):
            stopped = None
        if stopped is not None:
            tally.codes.add(exits.code_of(stopped))
            if not isinstance(stopped, DownloadError):  # told with its item
                self._talk.error(stopped)
        closing = Closing(
            talk=self._talk,
            folder=plan.folder,
            file=self._results,
            before=plan.stock,
            simulated=plan.simulated,
            way=plan.resume,
            codes=tally.codes,
        )
        complete = tally.done == plan.source.total
        after = await closing.stock(busy=tally.replayed < tally.done or not complete)
        unread = () if complete else self._unread(after)
        written = closing.put_in_order(unread)
        end = self._ending(after, stopped)
        page = written and closing.write_page(end)
        for line in attrs.evolve(end, page=page).lines():
            self._talk.say(line)
        if self.interrupts.signal is not None and self._broken_off:
            return exits.signalled(self.interrupts.signal)
        return exits.first(tally.codes)

    @property
    def _broken_off(self) -> bool:
        """Whether items were not read, or tasks not waited for."""
        return not self._plan.source.ended or self._detaching is not None

    def _ending(self, after: Stock, stopped: Exception | None) -> Ending:
        plan, words = self._plan, self._results.words
        asked = plan.order
        unread = self.interrupts.signal is not None and not plan.source.ended
        return Ending(
            folder=plan.folder,
            words=words,
            stock=after,
            before=plan.stock,
            seconds=self._clock() - self._began,
            resume=plan.resume,
            again=asked.line() if unread or stopped is not None else None,
            retry=None if asked.retry_failed else asked.line("--retry-failed"),
            resubmit=asked.line(hints.AGAIN),
            simulated=plan.simulated,
            download=asked.download,
        )

    def _unread(self, after: Stock) -> Iterator[tuple[int, Row]]:
        """Give the rows of items that were never read."""
        plan = self._plan
        try:
            for index, asked in prospect.unread(plan.source, plan.order.defaults, after):
                found = results.row(
                    index=index, request=asked, state=TaskState.QUEUED, simulated=plan.simulated
                )
                yield index, found
        except OSError as error:
            self._talk.error(error)
