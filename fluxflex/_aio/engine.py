"""The engine of a session: the host task, the verbs, and shutdown.

The host task owns the task group, never the caller's task: a session may be opened in one task
and closed in another (fixtures, notebook cells, an application's lifespan).
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable

import anyio

from fluxflex._aio.account import quote
from fluxflex._aio.callbacks import Callbacks
from fluxflex._aio.crew import Crew, closed, heard
from fluxflex._aio.discreet import Discreet
from fluxflex._aio.handle import TaskHandle
from fluxflex._aio.images import Downloads
from fluxflex._aio.journal import Journal
from fluxflex._aio.poller import Poller, asked, guarded, said
from fluxflex._aio.reports import Statistics
from fluxflex._aio.sender import Sender
from fluxflex._aio.settings import Settings
from fluxflex._aio.tasks import Tasks
from fluxflex._aio.transport import Transport
from fluxflex._core import decode, refusals
from fluxflex._core.exchange import Call
from fluxflex._core.lifecycle import Abandoned, Completed, LeftUncertain, TaskState
from fluxflex._core.limits import Timeouts
from fluxflex._core.request import GenerateRequest
from fluxflex._core.scheduler import Scheduler
from fluxflex.errors import ConfigurationError, SessionClosedError, SubmitUncertainError

# How long a POST in the air may take to bring its task id when the session closes at once.
LAST_REPLIES = 5.0


class Engine:
    """Follows all tasks of one session.

    Args:
        settings: what the session was opened with.
        transport: what carries the calls.
        rng: the source of the jitter.
        journal: where everything is noted; closed with the session.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        rng: random.Random,
        journal: Journal | None = None,
    ) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.crew = Crew(self._check_idle)
        self.tasks = Tasks(settings, journal, self._check_idle, rng)
        if settings.webhooks is not None:
            self.tasks.callbacks = Callbacks(
                settings.webhooks,
                self.tasks,
                settings.timeouts,
                look=lambda task_id: asked(self.sender, self._status_call(task_id), task_id),
                work=lambda look: self.crew.work(look, heard),
            )
            transport = Discreet(transport, self.tasks.callbacks.scrub)
        self.sender = Sender(
            transport,
            policy=settings.retry,
            request=settings.timeouts.request,
            rng=rng,
        )
        self.poller = self.tasks.watch = Poller(
            scheduler=Scheduler(guarded(settings.poll), settings.poll_rate, rng),
            sender=self.sender,
            call=self._status_call,
            record=self.tasks.registry.get,
            tell=self.tasks.tell,
            looks=settings.lanes.looks,
        )
        self.tasks.downloads = Downloads(
            transport,
            at_once=settings.lanes.downloads,
            policy=settings.retry,
            refresh=self._urls,
            base_url=settings.base_url,
            collected=None if journal is None else journal.collected,
        )
        self.closing = False
        self._journal = journal
        self._transport = transport
        self._submits = 0
        self._asks_prices = settings.budget is not None and settings.api.dry_run is not None
        self._pricing = asyncio.Lock()
        self._no_quotes: ConfigurationError | None = None
        self._idle = asyncio.Event()
        self._host = asyncio.create_task(self._serve(), name="fluxflex session")

    def __repr__(self) -> str:
        tasks = self.tasks
        return f"<Engine: {tasks.registry!r}, {tasks.slots!r}, {tasks.till!r}>"

    # -- verbs -------------------------------------------------------------------------------

    async def submit(self, request: GenerateRequest, timeouts: Timeouts) -> TaskHandle:
        """Wait for a slot, submit, and return the handle once the provider gave a task id.

        It is the caller who waits for the slot, and for all that keeps it from being sent now:
        cancelled there, nothing is sent.
        """
        self.check_open()
        self._submits += 1
        try:
            await asyncio.sleep(0)  # a cancellation that is under way arrives before anything else
            await self.tasks.slots.acquire(timeouts.submit)
            handle = self.tasks.open(request, timeouts)
            await self._sent(handle, self.launch(handle, timeouts))
        finally:
            self._submits -= 1
            self._check_idle()
        return handle

    async def _sent(self, handle: TaskHandle, sending: asyncio.Task[None]) -> None:
        """Wait until a task is accepted and its id is on disk."""
        this = asyncio.current_task()
        before = 0 if this is None else this.cancelling()
        try:
            await asyncio.shield(sending)
            await self.tasks.written(handle.key)  # before anyone is told of its id
        except SubmitUncertainError:
            self.tasks.heard(handle.key)
            raise
        except asyncio.CancelledError:
            if sending.cancelled() and this is not None and this.cancelling() <= before:
                # It was not the caller who was cancelled.
                if handle.task_id is not None:
                    return await self.tasks.written(handle.key)
                raise closed() from None
            self.drop(handle)
            if handle.key not in self.sender.in_air:
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([sending])
            raise

    def launch(
        self,
        handle: TaskHandle,
        timeouts: Timeouts,
        then: Callable[[asyncio.Task[None]], object] = heard,
    ) -> asyncio.Task[None]:
        """Send the request of a task that was entered, whatever becomes of the caller.

        Its id need not be on disk when the task that is returned ends; `then` is called with that.
        """
        ended = functools.partial(self._launched, handle, then)
        sending = handle.sending = self.crew.launch(self._send(handle, timeouts), ended)
        return sending

    def _launched(
        self,
        handle: TaskHandle,
        then: Callable[[asyncio.Task[None]], object],
        sending: asyncio.Task[None],
    ) -> None:
        handle.sending = None
        self.tasks.withdraw(handle.key)
        then(sending)

    def drop(self, handle: TaskHandle) -> None:
        """Send nothing more for a task; what is in the air ends by itself."""
        handle.final = True
        self._recall(handle)

    def _recall(self, handle: TaskHandle) -> None:
        if handle.sending is not None and handle.key not in self.sender.in_air:
            handle.sending.cancel()

    async def _send(self, handle: TaskHandle, timeouts: Timeouts) -> None:
        """Set the money aside and send the request."""
        request, tasks = handle.request, self.tasks
        assert request is not None  # noqa: S101 - only `attach` opens a task without one
        tasks.admit()
        if self._asks_prices:
            await self._learn_price(request)
        tasks.till.reserve(handle.key, request)
        url = tasks.callbacks.address(handle.key, request) if tasks.callbacks else None
        call = self.settings.api.submit(self.settings.base_url, request, url)
        await self.sender.submit(tasks, handle.key, call, within=timeouts.submit)

    async def _learn_price(self, request: GenerateRequest) -> None:
        """Ask what no table says, once for each setting."""
        till, api = self.tasks.till, self.settings.api
        if till.price(request) is not None:
            return
        async with self._pricing:
            if self._no_quotes is not None:
                raise self._no_quotes.fresh()
            if till.price(request) is not None:
                return
            try:
                price = await quote(self.sender, api, self.settings.base_url, request)
            except ConfigurationError as error:
                self._no_quotes = error  # each of them may cost: never again
                raise
            till.quoted(request, price)

    def statistics(self) -> Statistics:
        """Return what the session has done and does."""
        counts, money, slots = self.tasks.tally, self.tasks.till.budget, self.tasks.slots
        callbacks = self.tasks.callbacks
        return Statistics(
            in_flight=slots.taken,
            accepted=counts["accepted"],
            attached=counts["attached"],
            completed=counts[TaskState.COMPLETED],
            failed=counts[TaskState.FAILED],
            timed_out=counts[TaskState.TIMED_OUT],
            abandoned=counts[TaskState.ABANDONED],
            uncertain=counts[TaskState.UNCERTAIN],
            posts=counts["posts"],
            refused=counts["refused"],
            throttled=slots.throttled,
            pauses=slots.pauses,
            window=slots.window,
            polls=self.poller.polls,
            retries=self.sender.retries,
            spent=money.spent,
            reserved=money.reserved,
            earlier=money.earlier,
            callbacks=callbacks.counts() if callbacks else {},
        )

    def check_open(self) -> None:
        """Refuse a verb that comes too late, or from another event loop.

        Raises:
            SessionClosedError, ConfigurationError: as said.
        """
        self._check_loop()
        if self.closing:
            raise SessionClosedError("The session is closed", hint="Open a new session.")

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self.loop:
            raise ConfigurationError(
                "The session belongs to another event loop", hint="Open one session in each loop."
            )

    # -- looks -------------------------------------------------------------------------------

    def _status_call(self, task_id: str) -> Call:
        return self.settings.api.status(self.settings.base_url, task_id)

    async def _urls(self, task_id: str) -> tuple[str, ...]:
        """Ask once more where the pictures of a task lie."""
        got = await self.sender.once(self._status_call(task_id), decode.read_status)
        event = said(task_id, got)
        return event.urls if isinstance(event, Completed) else ()

    # -- the host and shutdown ---------------------------------------------------------------

    async def close(self, drain: float | None) -> None:
        """Stop taking submits, wait for what runs (at most `drain` seconds), then detach."""
        if not self._host.done():
            self._check_loop()
        self.closing = True
        self.crew.stop_reading()
        try:
            if drain is None or drain > 0:
                self._check_idle()
                await asyncio.wait_for(self._idle.wait(), drain)
        except TimeoutError:
            pass  # what is left is named below
        finally:
            self.tasks.stopping.set()
            if not self._host.done():
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([self._host])
        if not self._host.cancelled():
            self._host.result()

    async def _serve(self) -> None:
        """Own the task group until the session closes, then end everything in order."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self.poller.run)
                await self.tasks.stopping.wait()
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await self._detach()
                finally:
                    self._let_go()
                    await self._close_files()

    async def _close_files(self) -> None:
        try:
            if self._journal is not None:
                await self._journal.close()
        finally:
            await self._transport.aclose()

    async def _detach(self) -> None:
        """Let go of what still runs: learn the ids of POSTs in the air, name what is left."""
        self.closing = True
        self.tasks.stopping.set()
        self.tasks.slots.refuse(closed)
        self._transport.hurry(LAST_REPLIES)
        for handle in self.tasks.unsent():
            self._recall(handle)
        await self.crew.dismiss()
        if self._journal is not None:
            # Who waits for it learns that the session has closed, and sends nothing.
            await self._journal.flush()
            await asyncio.sleep(0)

    def _let_go(self) -> None:
        """Name what is left: a plain function, so that no second interruption cuts it short."""
        tasks = self.tasks
        tasks.downloads.closed = True
        if tasks.callbacks is not None:
            tasks.callbacks.close()
        for record in [record for record in tasks.registry if record.state is TaskState.SENDING]:
            tasks.tell(record.key, LeftUncertain(refusals.interrupted()))
        left = [record for record in tasks.registry if record.state is TaskState.RUNNING]
        for record in left:
            error = SessionClosedError(
                "The session closed before the task ended", task_id=record.task_id
            )
            tasks.tell(record.key, Abandoned(error))
        tasks.tally.name_left(left, tasks.till.cost_of)
        self._idle.set()

    def _check_idle(self) -> None:
        if self.closing and not self._busy():
            self._idle.set()

    def _busy(self) -> bool:
        tasks = self.tasks
        return bool(self._submits or self.crew.busy or tasks.untold or tasks.registry)
