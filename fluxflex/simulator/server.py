"""The simulator itself: what users set and call, and a socket that starts and stops cleanly."""

import asyncio
import time
from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Self

import attrs
from aiohttp import web

from fluxflex.simulator.callbacks import Callbacks
from fluxflex.simulator.courier import Courier
from fluxflex.simulator.durations import Constant, DurationLaw, Durations
from fluxflex.simulator.faults import Faults, RetryAfter, waiting
from fluxflex.simulator.files import Gallery, Painter
from fluxflex.simulator.ids import RandomIds
from fluxflex.simulator.lasting import LastingIds
from fluxflex.simulator.ledger import Ledger
from fluxflex.simulator.painter import paint
from fluxflex.simulator.provider import Provider, Terms
from fluxflex.simulator.replies import Failure, Shapes
from fluxflex.simulator.routes import Front

# Handlers end by themselves when the simulator stops; this is for one stuck in reading a body.
_STOP_SECONDS = 0.1
_USUAL_DURATIONS, _NO_FAULTS, _TRUE_CALLBACKS = Durations(), Faults(), Callbacks()


class Simulator:
    """Serve the provider's API from the running event loop, with its delays and its accidents.

    `async with` it, or `start` and `stop`; after a stop it may start again, on the same port, and
    still knows its tasks, as a provider does after an outage.

    Args:
        host: Where to listen.
        port: Where to listen; 0 takes a free one.
        seed: All chance follows from it: the same seed gives task number n the same fate.
        durations: Seconds for all tasks (0.0 = finished at the first look), or a law: `Durations()`
            (log-normal, median 16 s), `Manual()` (until told), or one of your own.
        speed: How many simulated seconds pass in one second. All times here are simulated.
        api_keys: The keys that are good; None takes any that is not empty.
        balance_usd: The account's balance in USD at the start.
        user_id: The account's number.
        failure_rate: The share of tasks, 0 to 1, that end as failed.
        forbidden_words: A prompt with one of them fails with a content-policy message.
        max_in_flight: The most tasks accepted and not finished; a POST beyond is answered 429.
        submits_per_minute: The most tasks accepted in any 60 s; a POST beyond is answered 429. The
            provider publishes no limit: both are for rehearsal.
        limit_retry_after: The Retry-After of those 429s; None leaves the header out.
        faults: What goes wrong on the way.
        callbacks: How the ends of tasks that have a `callback_url` are told; as it is, faithfully,
            but to this machine only.
        shapes: Which of the known shapes all replies have; None gives each generation of the API
            its usual ones.
        files_host: The host in image URLs, where it is to differ from the API's ("localhost").
        pictures: Makes the PNG of an order, called in a thread; `paint` takes tens of milliseconds.
        keep_requests: How many requests the ledger's log keeps.
        clock: The clock behind the simulated time, in seconds.
        lasting_ids: Let a task id carry all that a later simulator needs to answer for the task, in
            another process and on another port: when it is due, how it ends and what was asked for.
            Ids are some 120 characters long then, at most 600; a prompt or references that do not
            fit are shortened in the picture. Only a simulator with this on knows such ids again; it
            bills nothing for them, lists them in `ledger.recalled`, and sends no callbacks for
            them: an id does not carry the URL.
        wall_clock: The clock that lasting ids go by, in seconds of the epoch. A task that it says
            was accepted in the future is finished: the clock was set back.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        durations: DurationLaw | float = _USUAL_DURATIONS,
        speed: float = 1.0,
        api_keys: Collection[str] | None = None,
        balance_usd: Decimal = Decimal(100),
        user_id: int = 12345,
        failure_rate: float = 0.0,
        forbidden_words: Collection[str] = ("nsfw",),
        max_in_flight: int | None = None,
        submits_per_minute: int | None = None,
        limit_retry_after: RetryAfter = None,
        faults: Faults = _NO_FAULTS,
        callbacks: Callbacks = _TRUE_CALLBACKS,
        shapes: Shapes | None = None,
        files_host: str | None = None,
        pictures: Painter = paint,
        keep_requests: int = 1000,
        clock: Callable[[], float] = time.monotonic,
        lasting_ids: bool = False,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if speed <= 0:
            raise ValueError("speed must be above 0")
        self._host, self._port = host, port
        self._files_host = host if files_host is None else files_host
        self._speed = speed
        self._clock, self._began = clock, clock()
        self._changed = asyncio.Event()
        self._gallery = Gallery(pictures)
        self._runner: web.AppRunner | None = None
        self.ledger = Ledger(keep_requests=keep_requests, on_change=self._announce)
        """What happened so far."""
        self._courier = Courier(
            callbacks,
            self.ledger,
            seed=seed,
            speed=speed,
            now=self.now,
            wall_clock=wall_clock,
            url_of=self._image_url,
        )
        self._provider = Provider(
            Terms(
                seed=seed,
                durations=Constant(durations) if isinstance(durations, int | float) else durations,
                balance_usd=Decimal(balance_usd),
                user_id=user_id,
                failure_rate=failure_rate,
                forbidden_words=tuple(word.lower() for word in forbidden_words),
                max_in_flight=max_in_flight,
                submits_per_minute=submits_per_minute,
                limit_headers=waiting(limit_retry_after),
                shapes=shapes,
            ),
            self.ledger,
            LastingIds(self.now, wall_clock, speed) if lasting_ids else RandomIds(),
            self.now,
            self._image_url,
            courier=self._courier,
        )
        self._front = Front(
            self._provider,
            self.ledger,
            self._gallery,
            self._courier,
            keys=api_keys,
            speed=speed,
            faults=faults,
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    def __repr__(self) -> str:
        where = "stopped" if self._runner is None else self.url
        return f"<Simulator {where} {self.ledger!r}>"

    @property
    def url(self) -> str:
        """Return the origin, without a trailing slash, such as http://127.0.0.1:8080.

        Raises:
            RuntimeError: It was never started with a port of its own.
        """
        return self._origin(self._host)

    @property
    def faults(self) -> Faults:
        """What goes wrong on the way. Setting it starts the scripts from their beginning."""
        return self._front.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._front.script(faults)

    @property
    def callbacks(self) -> Callbacks:
        """How the ends of tasks are told. Setting it holds for the tasks that end from then on."""
        return self._courier.callbacks

    @callbacks.setter
    def callbacks(self, callbacks: Callbacks) -> None:
        self._courier.callbacks = callbacks

    @property
    def max_in_flight(self) -> int | None:
        """The most tasks accepted and not finished. Setting it holds for the POSTs to come."""
        return self._provider.terms.max_in_flight

    @max_in_flight.setter
    def max_in_flight(self, limit: int | None) -> None:
        self._provider.terms = attrs.evolve(self._provider.terms, max_in_flight=limit)

    @property
    def submits_per_minute(self) -> int | None:
        """The most tasks accepted in any 60 s. Setting it holds for the POSTs to come."""
        return self._provider.terms.submits_per_minute

    @submits_per_minute.setter
    def submits_per_minute(self, limit: int | None) -> None:
        self._provider.terms = attrs.evolve(self._provider.terms, submits_per_minute=limit)

    @property
    def balance_usd(self) -> Decimal:
        """Return what is left of the balance."""
        return self._provider.balance_usd

    @property
    def speed(self) -> float:
        """Return how many simulated seconds pass in one second."""
        return self._speed

    def now(self) -> float:
        """Return the simulated seconds since this simulator was made."""
        return (self._clock() - self._began) * self._speed

    async def start(self) -> None:
        """Listen.

        Raises:
            RuntimeError: It is started already.
            OSError: The address cannot be had.
        """
        if self._runner is not None:
            raise RuntimeError("this simulator is started already")
        self._front.stopping.clear()
        application = self._front.application()
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_STOP_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._port = runner.addresses[0][1]
        self._runner = runner
        self._courier.start()

    async def stop(self) -> None:
        """Stop listening and close every connection at once; stopping twice is harmless.

        Callbacks that are not answered yet are sent when it starts again, if ever.
        """
        runner, self._runner = self._runner, None
        if runner is not None:
            self._front.stopping.set()
            await self._courier.stop()
            await self._gallery.close()
            await runner.cleanup()

    def finish(self, task_id: str) -> None:
        """Complete a running task now.

        A lasting id was given before that: a later simulator goes by what was to happen.

        Raises:
            ValueError: There is no such task, or it is finished already.
        """
        self._provider.end(task_id, None)

    def fail(
        self,
        task_id: str,
        *,
        code: str = "generation_failed",
        message: str = "Generation failed",
    ) -> None:
        """Fail a running task now; see `finish` for lasting ids.

        Raises:
            ValueError: There is no such task, or it is finished already.
        """
        self._provider.end(task_id, Failure(code, message))

    def tick(self) -> None:
        """Send the callbacks that are due by the clock.

        It is for a `clock` that is moved by hand; any other is watched. Each request that arrives
        does the same.
        """
        self._courier.tick()

    async def wait_for(self, condition: Callable[[Ledger], bool]) -> None:
        """Wait until the condition holds for the ledger.

        It is asked again whenever a request arrives, a task is accepted or finished by hand and a
        callback is answered, so let it look at what only grows.
        """
        while not condition(self.ledger):
            await self._changed.wait()

    async def wait_for_posts(self, count: int) -> None:
        """Wait until so many POSTs arrived since the beginning, whatever becomes of them."""
        await self.wait_for(lambda ledger: ledger.posts_received >= count)

    def _announce(self) -> None:
        # A pulse: who waits is woken and looks for itself.
        self._changed.set()
        self._changed.clear()

    def _origin(self, host: str) -> str:
        if not self._port:
            raise RuntimeError("this simulator has no address yet: start it first")
        named = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - only named
        return f"http://[{named}]:{self._port}" if ":" in named else f"http://{named}:{self._port}"

    def _image_url(self, task_id: str) -> str:
        return f"{self._origin(self._files_host)}/files/{task_id}.png"
