"""`Session`: the verbs, thin."""

from __future__ import annotations

import random
from collections.abc import AsyncIterable, Iterable, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Self

import aiohttp

from fluxflex._aio import settings
from fluxflex._aio.batch import Batch
from fluxflex._aio.engine import Engine
from fluxflex._aio.handle import TaskHandle
from fluxflex._aio.images import GeneratedImage
from fluxflex._aio.outcome import SaveTo, checked_place
from fluxflex._aio.reports import Account, Statistics, account_of
from fluxflex._aio.settings import Money, Observer, Settings
from fluxflex._aio.transport import AiohttpTransport, Transport
from fluxflex._core import decode, encode
from fluxflex._core.lifecycle import TaskState
from fluxflex._core.limits import FixedConcurrency, Timeouts
from fluxflex._core.request import RULES, GenerateRequest, as_request, faults_of, price_of
from fluxflex._core.retry import RetryPolicy
from fluxflex._core.schedule import AdaptivePolling, PollPolicy
from fluxflex.errors import (
    ConfigurationError,
    Fault,
    InvalidRequestError,
    TaskNotFoundError,
)

Request = str | Mapping[str, object] | GenerateRequest


class Session:
    """Submits requests, follows their tasks and hands out their pictures.

    Use it with `async with`, or `open()` and `aclose()`, which may be called from different tasks
    of one event loop.

    Args:
        api_key: falls back to the environment: `FLUXFLEX_API_KEY`, then `UNIFICALLY_API_KEY`.
        base_url: falls back to `FLUXFLEX_BASE_URL`, then the provider's.
        api: the generation of the provider's API.
        concurrency: the ceiling of tasks sent and not yet finished, over everything the session
            does.
        poll_rate: status requests a second over all tasks, at most; `None` for no limit.
        poll: when to look at a task.
        retry: how often and how soon a call is repeated where that is safe.
        timeout: a `Timeouts`, or the seconds a task may take.
        budget: the most to be spent, in USD.
        prices: USD by quality, in place of the published table.
        connector: your own `aiohttp.BaseConnector`; never closed by the session.
        downloads: pictures fetched at the same time, at most.
        on_event: called with each `Change` of a task. What it raises is logged, never raised.

    Raises:
        ConfigurationError: no key, or a setting that cannot be used.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        api: str = encode.FLUX_2_FLEX.name,
        concurrency: int | FixedConcurrency = 32,
        poll_rate: float | None = 100,
        poll: PollPolicy = AdaptivePolling(),
        retry: RetryPolicy = RetryPolicy(),
        timeout: Timeouts | float = Timeouts(),
        budget: Money | None = None,
        prices: Mapping[str, Money] | None = None,
        connector: aiohttp.BaseConnector | None = None,
        downloads: int = 8,
        on_event: Observer | None = None,
    ) -> None:
        ceiling = settings.ceiling(concurrency)
        limit = 0 if connector is None else _limit(connector)
        self._key = settings.key(api_key)
        self._connector = connector
        self._settings = Settings(
            api=settings.api(api),
            base_url=settings.base_url(base_url),
            ceiling=ceiling,
            poll_rate=settings.rate(poll_rate),
            poll=settings.poll(poll),
            retry=settings.instance(RetryPolicy, "retry", retry),
            timeouts=settings.timeouts(timeout, Timeouts()),
            budget=None if budget is None else settings.money("budget", budget),
            prices=settings.prices(prices),
            lanes=settings.lanes(ceiling, downloads, limit),
            on_event=settings.observer(on_event),
        )
        self._engine: Engine | None = None

    def __repr__(self) -> str:
        state = "not open" if self._engine is None else repr(self._engine)
        return f"<fluxflex.Session at {self._settings.base_url}: {state}>"

    # -- opening and closing -----------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for what runs; leaving by an exception, detach at once and let it out as it is."""
        await self.aclose(drain=None if error is None else 0)

    async def open(self) -> None:
        """Open the session in the running event loop.

        Raises:
            ConfigurationError: it was opened before.
        """
        if self._engine is not None:
            raise ConfigurationError("A session is opened once", hint="Make a new `Session`.")
        self._engine = Engine(self._settings, self._transport(), random.Random())  # noqa: S311 - jitter

    async def aclose(self, drain: float | None = None) -> None:
        """Close the session: refuse new submits, wait for what runs, let go of the rest.

        Args:
            drain: seconds to wait at most; `None` waits to the end. What still runs then is
                detached: its ids are logged, and `attach` in another session follows it.
        """
        if self._engine is not None:
            await self._engine.close(drain)

    def _transport(self) -> Transport:
        return AiohttpTransport(
            base_url=self._settings.base_url,
            key=self._key,
            connect=self._settings.timeouts.connect,
            connections=self._settings.lanes.connections,
            connector=self._connector,
        )

    @property
    def _opened(self) -> Engine:
        if self._engine is None:
            raise ConfigurationError(
                "The session is not open", hint="Use `async with` or `await session.open()`."
            )
        return self._engine

    # -- the verbs ---------------------------------------------------------------------------

    async def submit(
        self,
        request: Request,
        *,
        timeout: Timeouts | float | None = None,
        **params: object,
    ) -> TaskHandle:
        """Submit a request and return the handle of its task, once the provider gave an id.

        Waits for a slot first; cancelled there, nothing is sent. Cancelled later, the POST in the
        air still brings its id, and the task is followed.

        Args:
            request: a prompt, a mapping of the fields of a `GenerateRequest`, or one.
            timeout: a `Timeouts`, of which `submit` and `task` count here, or the seconds this
                task may take; the session's otherwise.
            **params: fields that override those of the request.

        Raises:
            InvalidRequestError, BudgetExceededError: nothing was sent.
            APIConnectionError, APIError: it was not accepted, and cost nothing.
            SubmitUncertainError: it may have been accepted.
            SessionClosedError: the session closed before it was sent.
        """
        asked = self._checked(as_request(request, params))
        return await self._opened.submit(asked, self._timeouts(timeout))

    async def generate(
        self,
        request: Request,
        *,
        timeout: Timeouts | float | None = None,
        **params: object,
    ) -> GeneratedImage:
        """Submit a request and wait for its picture.

        Takes what `submit` takes, and raises what `submit` and awaiting a `TaskHandle` raise.
        """
        return await (await self.submit(request, timeout=timeout, **params))

    def map(
        self,
        requests: Iterable[object] | AsyncIterable[object],
        *,
        ordered: bool = False,
        save_to: SaveTo | str | None = None,
        timeout: Timeouts | float | None = None,
        **defaults: object,
    ) -> Batch:
        """Submit many requests, reading them as slots free up, and give an outcome for each.

        Args:
            requests: a sync or async iterable of what `submit` takes; read lazily.
            ordered: give the outcomes in input order instead of as they complete.
            save_to: a folder, where each is named by its task id, or a callable
                `(index, request) -> Path`, called before the request is sent. Pictures are
                downloaded in the background, and `outcome.path` says where to.
            timeout: for each of them, as in `submit`.
            **defaults: fields for the requests that do not set them.

        Raises:
            InvalidRequestError: `requests` is one request, or not iterable, or a default is bad.
        """
        single = isinstance(requests, str | bytes | Mapping | GenerateRequest)
        if single or not isinstance(requests, Iterable | AsyncIterable):
            kind = type(requests).__name__
            fault = f"must be an iterable of requests, not one {kind}; `submit` takes one"
            raise InvalidRequestError([Fault("requests", fault)])
        allowed = [name for name in RULES if name != "prompt"]
        faults = [
            Fault(name, f"is no default; there are {', '.join(allowed)}")
            for name in defaults
            if name not in allowed
        ]
        if faults := [*faults, *faults_of(defaults)]:
            raise InvalidRequestError(faults)
        return Batch(
            self._opened,
            requests,
            prepare=lambda item: self._checked(as_request(item, {}, defaults)),
            timeouts=self._timeouts(timeout),
            save_to=checked_place(save_to),
            ordered=settings.instance(bool, "ordered", ordered),
        )

    def attach(
        self,
        task_id: str,
        request: GenerateRequest | None = None,
        *,
        timeout: Timeouts | float | None = None,
    ) -> TaskHandle:
        """Follow a task that was submitted elsewhere, earlier, or timed out. Costs nothing.

        Args:
            task_id: the provider's id.
            request: what was asked for, where you know it; it comes back on the handle.
            timeout: a `Timeouts`, or the seconds from now that it may take.

        Raises:
            InvalidRequestError: the id is no text, or blank, or the request is none.
        """
        if not isinstance(task_id, str) or not task_id.strip():
            raise InvalidRequestError([Fault("task_id", f"must be an id, not {task_id!r}")])
        if not isinstance(request, GenerateRequest | None):
            kind = type(request).__name__
            fault = Fault("request", f"must be a GenerateRequest, as it comes back, not {kind}")
            raise InvalidRequestError([fault])
        timeouts = self._timeouts(timeout)
        return self._opened.attach(task_id.strip(), request, timeouts)

    def handles(self) -> list[TaskHandle]:
        """Return the handles of all tasks that the session follows now."""
        return [] if self._engine is None else self._engine.handles()

    async def account(self) -> Account:
        """Ask for the account behind the key. Costs nothing.

        Raises:
            APIError, APIConnectionError: there is no answer, or one without a balance.
        """
        engine = self._opened
        engine.check_open()
        first, second = (
            encode.account(self._settings.base_url, path) for path in encode.ACCOUNT_PATHS
        )
        try:
            answer = await engine.sender.read(first, decode.read_plain)
        except TaskNotFoundError:
            answer = await engine.sender.read(second, decode.read_plain)
        return account_of(answer)

    def price(self, request: Request) -> Decimal:
        """Return what a request costs in USD, from the published table or `prices`.

        Raises:
            InvalidRequestError: it is no valid request.
        """
        return price_of(self._checked(as_request(request, {})), self._settings.prices)

    def statistics(self) -> Statistics:
        """Return a snapshot of what the session has done and does."""
        engine = self._opened
        counts = engine.tally
        return Statistics(
            in_flight=engine.slots.taken,
            accepted=counts["accepted"],
            attached=counts["attached"],
            completed=counts[TaskState.COMPLETED.name],
            failed=counts[TaskState.FAILED.name],
            timed_out=counts[TaskState.TIMED_OUT.name],
            abandoned=counts[TaskState.ABANDONED.name],
            uncertain=counts[TaskState.UNCERTAIN.name],
            posts=counts["posts"],
            refused=counts["refused"],
            polls=engine.poller.polls,
            retries=engine.sender.retries,
            spent=engine.till.budget.spent,
            reserved=engine.till.budget.reserved,
        )

    def _checked(self, request: GenerateRequest) -> GenerateRequest:
        self._settings.api.check(request)
        return request

    def _timeouts(self, given: Timeouts | float | None) -> Timeouts:
        return settings.timeouts(given, self._settings.timeouts)


def _limit(connector: aiohttp.BaseConnector) -> int:
    """Return how many connections a connector gives; 0 stands for no limit."""
    settings.instance(aiohttp.BaseConnector, "connector", connector)
    return min(filter(None, (connector.limit, connector.limit_per_host)), default=0)
