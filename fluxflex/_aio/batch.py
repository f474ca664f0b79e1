"""Bounded lazy fan-out: many requests from any source, one outcome each.

Three rules bound it. A new item is read while fewer than `ahead` are running, waiting to be saved
or waiting unread. A download begins while fewer than `ahead` are downloading or waiting unread, so
that never more than `ahead` outcomes wait. And an item that runs holds a slot of the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Self

import attrs

from fluxflex._aio.engine import Engine
from fluxflex._aio.entry import JournalEntry
from fluxflex._aio.handle import TaskHandle
from fluxflex._aio.outbox import Outbox
from fluxflex._aio.outcome import (
    BatchProgress,
    Item,
    Outcome,
    SaveTo,
    closed_early,
    items_of,
    outcome_of,
    refused_of,
    replayed_of,
    saved_or_why,
    stopped_early,
    stops,
)
from fluxflex._aio.pages import Pages
from fluxflex._core.lifecycle import TaskState
from fluxflex._core.limits import Timeouts
from fluxflex._core.request import GenerateRequest
from fluxflex.errors import ConfigurationError, FluxFlexError

_END = object()


class Batch:
    """The outcomes of many requests, as they complete.

    Use it as `async with session.map(…) as outcomes: async for outcome in outcomes: …`, or await
    `collect()` for a list in input order. One item's failure is its outcome, never an exception.
    """

    def __init__(
        self,
        engine: Engine,
        source: Iterable[object] | AsyncIterable[object],
        *,
        prepare: Callable[[object], GenerateRequest],
        timeouts: Timeouts,
        save_to: SaveTo | None,
        ordered: bool,
        pages: Pages,
    ) -> None:
        self._engine = engine
        self._tasks = engine.tasks
        self._pages = pages
        self._source = source
        self._prepare = prepare
        self._timeouts = timeouts
        self._save_to = save_to
        self._ordered = ordered
        self._ahead = engine.tasks.slots.ceiling * (2 if ordered else 1)
        self._outcomes = Outbox(ordered=ordered)
        self._sending: set[TaskHandle] = set()
        self._to_save: deque[tuple[Item, Outcome]] = deque()
        self._running = self._saving = self._read = self._ok = self._failed = 0
        self._reader: asyncio.Task[None] | None = None
        self._stop: FluxFlexError | None = None
        self._source_error: BaseException | None = None
        self._left = self._asked_to_stop = False
        self._moved = asyncio.Event()  # for who reads outcomes
        self._space = asyncio.Event()  # for who reads the source

    def __repr__(self) -> str:
        return f"<Batch: {self.progress}>"

    @property
    def progress(self) -> BatchProgress:
        """Where the batch stands now."""
        return BatchProgress(
            read=self._read,
            exhausted=self._reader is not None and self._reader.done(),
            running=self._running,
            saving=self._saving + len(self._to_save),
            unread=len(self._outcomes),
            ok=self._ok,
            failed=self._failed,
        )

    async def __aenter__(self) -> Self:
        if self._reader is not None:
            raise ConfigurationError("A batch is entered once", hint="Call `session.map` again.")
        self._engine.check_open()
        await self._pages.enter()
        self._reader = self._engine.crew.read(self._read_all(), lambda _: self._moved.set())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop reading, drop what was not sent, and do not wait for what was."""
        self._left = True
        self._read_no_more()
        self._drop_unsent()
        self._leave_pages()
        for outcome in [*(outcome for _, outcome in self._to_save), *self._outcomes.unread()]:
            self._tasks.tally.uncollected(outcome.task_id)

    def stop(self) -> None:
        """Read no more and drop what was not sent; the iteration ends when the rest is over.

        What was dropped gets an outcome too, with a `SessionClosedError`: nothing was bought.
        """
        if self._stop is None:
            self._stop, self._asked_to_stop = stopped_early(), True
        self._read_no_more()
        self._drop_unsent()

    def __aiter__(self) -> AsyncIterator[Outcome]:
        if self._reader is None:
            raise ConfigurationError(
                "A batch is iterated inside `async with`",
                hint="Write `async with session.map(…) as outcomes:` around it.",
            )
        return self

    async def __anext__(self) -> Outcome:
        while True:
            self._moved.clear()
            outcome = self._outcomes.take()
            if outcome is not None:
                self._go_on()
                return outcome
            if self._done():
                raise self._ending() or StopAsyncIteration
            await self._moved.wait()

    async def collect(self) -> list[Outcome]:
        """Return all outcomes in input order.

        Raises:
            FluxFlexError: what stopped the batch; `error.outcomes` has what it had got.
        """
        if self._reader is None:
            async with self:
                return await self.collect()
        outcomes: list[Outcome] = []
        try:
            async for outcome in self:
                outcomes.append(outcome)  # noqa: PERF401 - what was got is kept when it raises
        except FluxFlexError as error:
            error.outcomes = tuple(sorted(outcomes, key=lambda outcome: outcome.index))
            raise
        return sorted(outcomes, key=lambda outcome: outcome.index)

    def _done(self) -> bool:
        busy = self._running or self._saving or self._to_save or self._outcomes
        return self._reader is not None and self._reader.done() and not busy

    def _ending(self) -> BaseException | None:
        if self._source_error is not None:
            return self._source_error
        return None if self._stop is None or self._asked_to_stop else self._stop.fresh()

    # -- reading -----------------------------------------------------------------------------

    async def _read_all(self) -> None:
        try:
            async with contextlib.aclosing(items_of(self._source)) as source:
                while await self._room():
                    item = await anext(source, _END)
                    if item is _END or self._left:  # it may have swallowed the cancellation
                        return
                    await self._take(item)
        except asyncio.CancelledError:
            if self._stop is None and not self._left:
                self._stop = closed_early()
            raise
        except Exception as error:  # noqa: BLE001 - the source's own, given out after the drain
            if self._stop is None or self._asked_to_stop:  # else our own ending comes first
                self._source_error = error

    async def _room(self) -> bool:
        """Wait until another item may be read; false when no more is to be."""
        while self._stop is None and not self._left:  # a source may swallow the cancellation
            busy = self._running + len(self._to_save) + len(self._outcomes)
            # In order, those being saved count too: else outcomes that wait for their turn could
            # take all the room, and the one they wait for could not be saved.
            if busy + (self._saving if self._ordered else 0) < self._ahead:
                return True
            self._space.clear()
            await self._space.wait()
        return False

    async def _take(self, item: object) -> None:
        """Check an item, wait for its slot, and send it on its way."""
        entry = Item(self._read, item)
        self._read += 1
        self._running += 1
        try:
            entry.request = self._prepare(item)
            await self._pages.find(entry, self._save_to)
            if entry.known is None:
                self._check_wanted()
                await self._tasks.slots.acquire(self._timeouts.submit)
                self._begin(entry)
            else:
                self._recall(entry, entry.known)
        except FluxFlexError as error:
            self._refused(entry, error)
        except asyncio.CancelledError:
            if entry.number:
                self._refused(entry, self._why_stopped())
            else:  # not known yet: as good as not read
                self._running, self._read = self._running - 1, self._read - 1
            raise
        except Exception:
            self._running -= 1  # the user's own: an item's, or what `save_to` raised
            raise

    def _check_wanted(self) -> None:
        """Refuse what a source still gives after it has stopped the batch itself, or was told."""
        if self._stop is not None or self._left:
            raise self._why_stopped()

    def _begin(self, entry: Item) -> None:
        """Send an item for which a slot is held."""
        handle = self._tasks.open(entry.asked, self._timeouts, entry.key)
        self._sending.add(handle)
        then = functools.partial(self._sent, entry, handle)
        self._engine.launch(handle, self._timeouts, then)

    def _recall(self, entry: Item, known: JournalEntry) -> None:
        """Follow an item that the journal has as accepted, or tell how it ended."""
        if not known.unfinished:
            self._ended(entry, replayed_of(entry, known, self._tasks.downloads))
            return
        record = known.record(self._engine.loop.time(), entry.request)
        self._follow(entry, self._tasks.restore(record, self._timeouts, known.spent))

    # -- one item ----------------------------------------------------------------------------

    def _sent(self, entry: Item, handle: TaskHandle, sending: asyncio.Task[None]) -> None:
        """Follow an item that was sent, or give its outcome."""
        self._sending.discard(handle)
        self._leave_pages()
        error = None if sending.cancelled() else sending.exception()
        if handle.state is not TaskState.QUEUED:
            self._follow(entry, handle)
        elif error is None:
            self._refused(entry, self._why_stopped())
        elif isinstance(error, FluxFlexError):
            self._refused(entry, error)
        else:
            self._running -= 1
            self._source_error = error
            self.stop()

    def _leave_pages(self) -> None:
        """Let the next pass begin, once nothing of this one is still being sent."""
        if self._left and not self._sending:
            self._pages.leave()

    def _why_stopped(self) -> FluxFlexError:
        return closed_early() if self._stop is None else self._stop.fresh()

    def _follow(self, entry: Item, handle: TaskHandle) -> None:
        self._tasks.when_over(handle, functools.partial(self._over, entry, handle))

    def _refused(self, entry: Item, error: FluxFlexError) -> None:
        """Give the outcome of an item that was not bought."""
        self._running -= 1
        if not entry.number:
            self._pages.count(entry)
        self._give(refused_of(entry, error))

    def _over(self, entry: Item, handle: TaskHandle) -> None:
        """Take an item whose task is over."""
        if not self._left:
            self._ended(entry, outcome_of(entry, handle))
            return
        self._running -= 1
        if handle.state is TaskState.COMPLETED:
            self._tasks.tally.uncollected(handle.task_id)

    def _ended(self, entry: Item, outcome: Outcome) -> None:
        """Save the picture of an item, or give its outcome."""
        self._running -= 1
        if outcome.ok and outcome.path is None and self._save_to is not None:
            self._to_save.append((entry, outcome))
            self._go_on()
        else:
            self._give(outcome)

    def _save(self, entry: Item, outcome: Outcome) -> None:
        self._saving += 1
        work = saved_or_why(outcome.image, entry.place)
        self._engine.crew.work(work, functools.partial(self._saved, outcome))

    def _saved(self, outcome: Outcome, task: asyncio.Task[Path | FluxFlexError]) -> None:
        self._saving -= 1
        saved = closed_early(outcome.task_id) if task.cancelled() else task.result()
        path, error = (saved, None) if isinstance(saved, Path) else (None, saved)
        self._give(attrs.evolve(outcome, path=path, error=error))

    # -- what follows ------------------------------------------------------------------------

    def _give(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self._ok += 1
        else:
            self._failed += 1
            self._halt_for(outcome.error)
        if not self._left:
            self._outcomes.put(outcome)
        self._moved.set()
        self._go_on()

    def _go_on(self) -> None:
        """Let in what there is room for now: downloads first, then the source."""
        while self._to_save and self._saving + len(self._outcomes) < self._ahead:
            self._save(*self._to_save.popleft())
        self._space.set()

    def _halt_for(self, error: FluxFlexError) -> None:
        """Stop reading and sending for what the next item would meet too."""
        if self._stop is None and stops(error):
            self._stop = error
            self._read_no_more()
            self._drop_unsent()

    def _read_no_more(self) -> None:
        """Leave the source, or the queue for a slot."""
        if self._reader is not None:
            self._reader.cancel()

    def _drop_unsent(self) -> None:
        for handle in tuple(self._sending):
            handle.final = True  # what is in the air is not repeated when it is turned away
            if handle.state is TaskState.QUEUED:  # what has its money is on its way
                self._engine.drop(handle)
