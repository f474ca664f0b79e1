"""`Session`: the verbs, thin."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Collection, Iterable, Mapping
from decimal import Decimal

import aiohttp

from fluxflex._aio import settings
from fluxflex._aio.account import account, quote
from fluxflex._aio.batch import Batch
from fluxflex._aio.handle import TaskHandle, check_attached
from fluxflex._aio.images import GeneratedImage
from fluxflex._aio.lifetime import Lifetime
from fluxflex._aio.outcome import SaveTo, check_batch, checked_place
from fluxflex._aio.pages import Pages, RunPages
from fluxflex._aio.reports import Account, Statistics
from fluxflex._aio.settings import Money, Observer, Settings
from fluxflex._core import encode
from fluxflex._core.lifecycle import TaskRecord, TaskState
from fluxflex._core.limits import ConcurrencyPolicy, Timeouts
from fluxflex._core.request import GenerateRequest, as_request, known_price
from fluxflex._core.retry import RetryPolicy
from fluxflex._core.schedule import AdaptivePolling, PollPolicy
from fluxflex.webhooks.receiver import WebhookReceiver

Request = str | Mapping[str, object] | GenerateRequest


class Session(Lifetime):
    """Submits requests, follows their tasks and hands out their pictures.

    Use it with `async with`, or `open()` and `aclose()`, which may be called from different tasks
    of one event loop.

    Args:
        api_key: falls back to the environment: `FLUXFLEX_API_KEY`, then `UNIFICALLY_API_KEY`.
        base_url: falls back to `FLUXFLEX_BASE_URL`, then the provider's.
        api: the generation of the provider's API.
        concurrency: the ceiling of tasks sent and not yet finished, over everything the session
            does. A number stands for `AdaptiveConcurrency`, which finds the provider's own limit
            below it; `FixedConcurrency`, or a policy of your own, decides otherwise.
        poll_rate: status requests a second over all tasks, at most; `None` for no limit.
        poll: when to look at a task.
        retry: how often and how soon a call is repeated where that is safe.
        timeout: a `Timeouts`, or the seconds a task may take.
        budget: the most to be spent, in USD.
        prices: USD by quality, in place of the published table. What it does not name has no
            known price; under a budget that is asked for (`api="v1"`) or refused.
        journal: durable memory: a file, or a folder (one that exists, or a path that ends in a
            slash) with a file per process. It belongs to one account at one origin. Without it
            everything is kept in memory only.
        keep: days after which the journal forgets what is finished and collected, prompts
            included; `None` keeps it. Checked when the session opens.
        webhooks: receives callbacks; every submit without a `callback_url` of its own then gets
            one. Tasks are looked at as well, more seldom while callbacks come.
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
        concurrency: int | ConcurrencyPolicy = 32,
        poll_rate: float | None = 100,
        poll: PollPolicy = AdaptivePolling(),
        retry: RetryPolicy = RetryPolicy(),
        timeout: Timeouts | float = Timeouts(),
        budget: Money | None = None,
        prices: Mapping[str, Money] | None = None,
        journal: str | os.PathLike[str] | None = None,
        keep: float | None = None,
        webhooks: WebhookReceiver | None = None,
        connector: aiohttp.BaseConnector | None = None,
        downloads: int = 8,
        on_event: Observer | None = None,
    ) -> None:
        policy = settings.concurrency(concurrency)
        checked = Settings(
            api=settings.api(api),
            base_url=settings.base_url(base_url),
            concurrency=policy,
            poll_rate=settings.rate("poll_rate", poll_rate),
            poll=settings.poll(poll),
            retry=settings.instance(RetryPolicy, "retry", retry),
            timeouts=settings.timeouts(timeout, Timeouts()),
            budget=None if budget is None else settings.money("budget", budget),
            prices=settings.prices(prices),
            journal=settings.path("journal", journal),
            keep=settings.keep(keep, journal),
            lanes=settings.lanes(policy.ceiling, downloads, settings.limit(connector)),
            on_event=settings.observer(on_event),
            webhooks=settings.receiver(webhooks),
        )
        super().__init__(checked, settings.key(api_key), connector)

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
        run: str | None = None,
        again: Collection[TaskState] = (),
        timeout: Timeouts | float | None = None,
        **defaults: object,
    ) -> Batch:
        """Submit many requests, reading them as slots free up, and give an outcome for each.

        Args:
            requests: a sync or async iterable of what `submit` takes; read lazily.
            ordered: give the outcomes in input order instead of as they complete.
            save_to: a folder, where each is named by its task id, or a callable
                `(index, request) -> Path`, called before the request is sent. Pictures are
                downloaded in the background, and `outcome.path` says where to. In a named run
                the index is that of the item in the run, and the path is kept with it.
            run: a name under which the journal knows the items again, by their content and
                occurrence: what is finished is told from there and not bought again.
            again: of a named run, how items may have ended that are to be bought once more:
                `TaskState.FAILED`, `TaskState.UNCERTAIN` (which may pay twice).
            timeout: for each of them, as in `submit`.
            **defaults: fields for the requests that do not set them.

        Raises:
            InvalidRequestError: `requests` is one request, or not iterable, or a default is bad.
            ConfigurationError: a named run without a journal in one file.
        """
        check_batch(requests, defaults)
        return Batch(
            self._opened,
            requests,
            prepare=lambda item: self._checked(as_request(item, {}, defaults)),
            timeouts=self._timeouts(timeout),
            save_to=checked_place(save_to),
            ordered=settings.instance(bool, "ordered", ordered),
            pages=self._pages(run, again),
        )

    def _pages(self, run: str | None, again: Collection[TaskState]) -> Pages:
        """Return where the items of a batch stand in the journal."""
        states = settings.again(again, run, uncertain=self._settings.retry.resubmit_uncertain)
        if run is None:
            return Pages()
        memory = self._remembered
        return RunPages(memory, self._opened.tasks, memory.check_run(run), states)

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
        check_attached(task_id, request)
        timeouts, engine = self._timeouts(timeout), self._opened
        engine.check_open()
        return engine.tasks.attach(task_id.strip(), request, timeouts)

    async def resume(self) -> list[TaskHandle]:
        """Take up what the journal has: paid for, and not finished or not collected. Costs nothing.

        Collected is a picture that was read or saved. In a folder the files of processes that are
        gone are taken over first.

        Raises:
            ConfigurationError: the session has no journal.
            JournalError: it cannot be read.
        """
        return await self._remembered.resume()

    def uncertain(self) -> list[TaskRecord]:
        """Return the records of all submits that were sent and not answered.

        Those that the journal has of earlier sessions are among them. Each may have been billed,
        and is never sent again by itself.
        """
        return [] if self._engine is None else list(self._engine.tasks.uncertain.values())

    def handles(self) -> list[TaskHandle]:
        """Return the handles of all tasks that the session follows now."""
        return [] if self._engine is None else self._engine.tasks.handles()

    async def account(self) -> Account:
        """Ask for the account behind the key. Costs nothing.

        Raises:
            APIError, APIConnectionError: there is no answer, or one without a balance.
        """
        engine = self._opened
        engine.check_open()
        return await account(engine.sender, self._settings.base_url)

    def price(self, request: Request) -> Decimal:
        """Return what a request costs in USD, from the published table or `prices`.

        Raises:
            InvalidRequestError: it is no valid request.
            ConfigurationError: `prices` does not name its quality.
        """
        asked = self._checked(as_request(request, {}))
        return known_price(asked, self._settings.prices)

    async def quote(self, request: Request) -> Decimal:
        """Ask the provider what a request would cost in USD: a dry run, which buys nothing.

        Raises:
            InvalidRequestError: it is no valid request.
            ConfigurationError: the session's `api` has no dry run; `"v1"` has one.
            APIError, APIConnectionError: the provider does not say.
        """
        asked, engine = self._checked(as_request(request, {})), self._opened
        engine.check_open()
        return await quote(engine.sender, self._settings.api, self._settings.base_url, asked)

    def statistics(self) -> Statistics:
        """Return a snapshot of what the session has done and does."""
        return self._opened.statistics()

    def _checked(self, request: GenerateRequest) -> GenerateRequest:
        self._settings.api.check(request)
        return request

    def _timeouts(self, given: Timeouts | float | None) -> Timeouts:
        return settings.timeouts(given, self._settings.timeouts)
