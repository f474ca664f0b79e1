"""`fluxflex resume`: what a batch left is followed and fetched; nothing is bought."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import attrs

from fluxflex import GeneratedImage, JournalEntry, Session, TaskHandle, TaskState, Timeouts
from fluxflex.cli import exits, hints, order, places, progress, results, stock
from fluxflex.cli.closing import Closing
from fluxflex.cli.echo import Echo
from fluxflex.cli.exits import Code, SignalledError
from fluxflex.cli.interrupts import stoppable
from fluxflex.cli.overview import GOES_ON
from fluxflex.cli.progress import Snapshot
from fluxflex.cli.results import Results
from fluxflex.cli.stock import Stock
from fluxflex.cli.summary import Ending
from fluxflex.cli.talk import Talk, counted, hushed
from fluxflex.cli.target import Target, run
from fluxflex.errors import FluxFlexError, JournalError

_TICK = 0.2
_CONCURRENCY = 32
# What the exit code says of items that stand so at the end.
_CODES = {
    TaskState.FAILED: Code.FAILED,
    TaskState.TIMED_OUT: Code.TIMEOUT,
    TaskState.UNCERTAIN: Code.UNCERTAIN,
}


@attrs.frozen(kw_only=True)
class How:
    """What the command line asks for.

    Attributes:
        folder: of the batch. target: where its tasks are.
        timeout: seconds that a task may take from now.
        as_json: whether stdout gets objects.
    """

    folder: Path
    target: Target
    timeout: float | None = None
    as_json: bool = False

    @property
    def line(self) -> str:
        """The same command, as a shell takes it."""
        return order.resume_line(self.folder, self.target)


def resume(how: How, talk: Talk) -> int:
    """Follow, fetch, write everything down, and return the exit code.

    Raises:
        UsageError: there is no batch to go on with.
        FluxFlexError: nothing could be begun.
    """
    places.check_batch(how.folder)
    places.check_kind(how.folder, simulate=how.target.simulate)
    try:
        return run(Resume(how, talk).run())
    except JournalError as error:
        raise hints.in_folder(error, chosen=False) from None


@attrs.define
class _Fetched:
    """What became of one task."""

    image: GeneratedImage | None = None
    path: Path | None = None
    error: FluxFlexError | None = None


class Resume:
    """One pass over what a batch left."""

    def __init__(self, how: How, talk: Talk) -> None:
        self._how = how
        self._talk = talk
        self._began = time.monotonic()
        self._codes: set[int] = set()
        self._signal: SignalledError | None = None
        self._states: Counter[TaskState] = Counter()
        self._echo = Echo(talk)
        # Finished pictures are saved some at a time.
        self._lanes = asyncio.Semaphore(_CONCURRENCY)

    async def run(self) -> int:
        """Run to the end."""
        how = self._how
        before = await stock.take(how.folder)
        async with how.target.access() as access:
            session = Session(
                access.api_key,
                base_url=access.base_url,
                timeout=Timeouts() if how.timeout is None else how.timeout,
                journal=how.folder / places.JOURNAL,
            )
            try:
                await session.open()
                places.sweep(how.folder)
                with Results(how.folder, before.numbers()) as self._results:
                    await self._follow(session, before)
                    await _close(session)
                    return await self._conclude(before)
            finally:
                await _close(session)

    async def _follow(self, session: Session, before: Stock) -> None:
        left = {entry.task_id: entry for entry in before.left if entry.task_id is not None}
        handles = [handle for handle in await session.resume() if handle.task_id in left]
        # Saved once, and gone since: the provider may still have them.
        gone = [entry for entry in left.values() if entry.saved]
        handles += [session.attach(str(entry.task_id), entry.request) for entry in gone]
        self._total = len(handles)
        if not handles:
            self._talk.say("Nothing is left to fetch.")
            return
        self._talk.say(f"Following {counted(len(handles), 'task')}, at no further cost.")
        try:
            with progress.view(self._talk) as shown:
                ticker = asyncio.create_task(self._tick(session, shown))
                try:
                    await stoppable(self._all(session, handles, left))
                finally:
                    ticker.cancel()
        except SignalledError as error:
            self._signal = error

    async def _tick(self, session: Session, shown: progress.View) -> None:
        while True:
            shown.show(self._snapshot(session))
            await asyncio.sleep(_TICK)

    def _snapshot(self, session: Session) -> Snapshot:
        counts = session.statistics()
        states = self._states
        return Snapshot(
            done=states[TaskState.COMPLETED] + states[TaskState.FAILED],
            total=self._total,
            running=self._total - states.total(),
            failed=states[TaskState.FAILED],
            left_running=sum(states[state] for state in GOES_ON),
            made=states[TaskState.COMPLETED],
            elapsed=time.monotonic() - self._began,
            spent=counts.spent,
            reserved=counts.reserved,
            simulated=self._how.target.simulate,
        )

    async def _all(
        self, session: Session, handles: list[TaskHandle], left: dict[str, JournalEntry]
    ) -> None:
        async with asyncio.TaskGroup() as group:
            for handle in handles:
                group.create_task(self._one(session, handle, left[str(handle.task_id)]))

    async def _one(self, session: Session, handle: TaskHandle, entry: JournalEntry) -> None:
        """Wait for a task, save its picture where it belongs, and write it down."""
        got = _Fetched()
        try:
            got.image = await handle
            if entry.path is not None:
                async with self._lanes:
                    got.path = await got.image.save(self._how.folder / entry.path.name)
        except FluxFlexError as error:
            got.error = error
        self._tell(session, handle, entry, got)

    def _tell(
        self, session: Session, handle: TaskHandle, entry: JournalEntry, got: _Fetched
    ) -> None:
        image, path, error = got.image, got.path, got.error
        simulated, way = self._how.target.simulate, self._how.line
        self._states[handle.state] += 1
        index = (entry.number or 1) - 1
        cost = None if image is None else image.cost
        if cost is None and entry.request is not None and handle.state in GOES_ON:
            cost = session.price(entry.request)
        row = results.row(
            index=index,
            request=entry.request,
            state=handle.state,
            task_id=handle.task_id,
            path=None if path is None else path.name,
            url=None if image is None else image.url,
            error=error,
            cost=cost,
            simulated=simulated,
            way=way,
        )
        self._results.add(index, row)
        if error is not None:
            self._codes.add(exits.code_of_item(error))
            words = hints.sentence(error, simulated=simulated, way=way)
            self._echo.tell(entry.number or 1, error, words)
        if self._how.as_json:
            self._talk.out(results.as_line(row))
        elif path is not None:
            self._talk.out(str(path))
        elif image is not None:
            self._talk.out(image.url)

    async def _conclude(self, before: Stock) -> int:
        """Put the folder in order, say how it stands, and return the exit code."""
        how = self._how
        self._echo.finish()
        closing = Closing(
            talk=self._talk,
            folder=how.folder,
            file=self._results,
            before=before,
            simulated=how.target.simulate,
            way=how.line,
            codes=self._codes,
        )
        after = await closing.stock(busy=True)
        written = closing.put_in_order()
        end = Ending(
            folder=how.folder,
            words=self._results.words,
            stock=after,
            before=before,
            seconds=time.monotonic() - self._began,
            resume=how.line,
            simulated=how.target.simulate,
        )
        page = written and closing.write_page(end)
        for line in attrs.evolve(end, page=page).lines():
            self._talk.say(line)
        if self._signal is not None:
            return exits.code_of(self._signal)
        states = {state for _, state in after.known.all()}
        self._codes |= {_CODES[state] for state in states & _CODES.keys()}
        return exits.first(self._codes)


async def _close(session: Session) -> None:
    with hushed():
        await session.aclose(drain=0)
