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
from fluxflex.cli import exits, gallery, hints, money, places, prospect, results, stock
from fluxflex.cli.closing import Closing
from fluxflex.cli.echo import Echo
from fluxflex.cli.exits import Code, UsageError
from fluxflex.cli.interrupts import Interrupts
from fluxflex.cli.plan import Plan
from fluxflex.cli.progress import Snapshot, View, view
from fluxflex.cli.results import Results, Row
from fluxflex.cli.source import BadLine
from fluxflex.cli.stock import Stock
from fluxflex.cli.summary import Ending, Tally, still_there
from fluxflex.cli.talk import Talk, counted, dollars, hushed
from fluxflex.cli.target import Access
from fluxflex.cli.ways import Ways
from fluxflex.errors import (
    STOPPING,
    BudgetExceededError,
    DownloadError,
    FluxFlexError,
    SessionClosedError,
)

_TICK = 0.2


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
        self._echo = Echo(talk)
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
            with self._left_named():
                session = self._session = self._new_session(access)
            with self._hush:
                try:
                    with self._left_named():
                        await session.open()
                    places.sweep(plan.folder)
                    with Results(plan.folder, plan.stock.numbers()) as self._results:
                        stopped = await self._gather(session)
                        await self._close(session)
                        return await self._conclude(stopped)
                finally:
                    await self._close(session)

    def _new_session(self, access: Access) -> Session:
        order = self._plan.order
        return Session(
            access.api_key,
            base_url=access.base_url,
            concurrency=order.concurrency,
            budget=order.budget,
            timeout=Timeouts() if order.timeout is None else order.timeout,
            journal=self._plan.folder / places.JOURNAL,
        )

    @contextlib.contextmanager
    def _left_named(self) -> Iterator[None]:
        """Name what is left at the provider where nothing can be begun."""
        try:
            yield
        except FluxFlexError:
            stock, way = self._plan.stock, self._plan.resume
            for line in still_there(stock, way, simulated=self._plan.simulated):
                self._talk.say(line)
            raise

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
        tally = self._tally
        return Snapshot(
            done=tally.done,
            total=self._plan.source.total,
            running=going.running + going.saving,
            failed=tally.states[TaskState.FAILED],
            uncertain=tally.states[TaskState.UNCERTAIN],
            left_running=tally.left_running,
            elapsed=self._clock() - self._began,
            spent=money.spent,
            reserved=money.reserved,
            throttled=money.throttled,
            estimate=self._plan.estimate,
            simulated=self._plan.simulated,
            unsent=tally.states[TaskState.QUEUED],
            replayed=tally.replayed,
            made=tally.made,
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
        # What meets every item that was read is told once, at the end.
        if error is not None and not isinstance(error, STOPPING):
            words = hints.sentence(error, simulated=self._plan.simulated, way=self._plan.resume)
            self._echo.tell(outcome.number, error, words)
        if self._repeats or not outcome.replayed:
            self._give(outcome, row)

    def _give(self, outcome: Outcome, row: Row) -> None:
        if self._plan.order.as_json:
            self._talk.out(results.as_line(row))
        elif outcome.path is not None and self._plan.order.download:
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
        play = " of play money" if self._plan.simulated else ""
        parts = [f"{dollars(worth)}{play}"] if worth else []
        parts += [f"{dollars(reserved)} reserved"] if reserved and not play else []
        cost = f" ({', '.join(parts)})" if parts else ""
        verb = "runs" if running == 1 else "run"
        self._talk.say(
            f"Stopping: nothing more is read. Waiting for {counted(running, 'task')} that "
            f"still {verb}{cost}. {next_step}",
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
        self._echo.finish()
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
        complete = tally.told == plan.source.total
        busy = tally.replayed < tally.told or not complete or self._results.grew
        after = await closing.stock(busy=busy)
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
        asked, short = plan.order, isinstance(stopped, BudgetExceededError)
        ways = Ways(plan, after, self._session.price)
        # Who breaks off has not asked for more money to be spent.
        more = self.interrupts.signal is None
        unread = self.interrupts.signal is not None and not plan.source.ended
        retries = words.get(gallery.WORDS["FAILED"]) and not asked.retry_failed
        carries_on = unread or stopped is not None or self._tally.open
        return Ending(
            folder=plan.folder,
            words=words,
            stock=after,
            before=plan.stock,
            seconds=self._clock() - self._began,
            resume=plan.resume,
            again=ways.line(enough=more) if carries_on else None,
            retry=ways.line("--retry-failed", enough=more) if retries else None,
            resubmit=ways.line(hints.AGAIN, enough=more) if after.uncertain else None,
            note=ways.note(short=short),
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
