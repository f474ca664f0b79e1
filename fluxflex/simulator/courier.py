"""The courier: carries callbacks to their receivers, by the simulated clock, beside all else."""

import asyncio
import contextlib
import heapq
import hmac
import io
import itertools
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from hashlib import sha256

import aiohttp
import attrs

from fluxflex.simulator.callbacks import Callbacks, Fates, Parcel
from fluxflex.simulator.ledger import Entry, Ledger, SentCallback

_MOST_AT_ONCE = 100
# Common servers close a quiet connection after five seconds; a POST must not meet that.
_KEEP_ALIVE = 2.0
# Of an answer only the status counts; the rest is read so that the connection can be used again.
_MOST_READ = 2**16
# Beyond it aiohttp wants a file in the place of bytes.
_LARGE = 2**20
# A clock that stands still just before something is due is not asked more often than that.
_SHORTEST_NAP = 0.001
_SERVER_ERROR = 500


class Courier:
    """Send the callbacks of tasks that end, a hundred at once at most; more wait their turn.

    What is due goes by `now`, the simulated seconds. A timer watches that clock; who moves it by
    hand calls `tick`. What is not sent when it stops is sent when it starts again.
    """

    def __init__(
        self,
        callbacks: Callbacks,
        ledger: Ledger,
        *,
        seed: int,
        speed: float,
        now: Callable[[], float],
        wall_clock: Callable[[], float],
        url_of: Callable[[str], str],
    ) -> None:
        self.callbacks = callbacks
        self._ledger, self._fates = ledger, Fates(seed)
        self._speed, self._now, self._wall_clock = speed, now, wall_clock
        self._url_of = url_of
        self._urls: dict[str, str] = {}
        self._held: dict[str, asyncio.Task[None]] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._ready: deque[Parcel] = deque()
        self._in_air: set[asyncio.Task[None]] = set()
        self._running = False
        self._http: aiohttp.ClientSession | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf

    def start(self) -> None:
        """Begin, in the running loop, with what was left at the last stop."""
        self._running = True
        self._depart()
        self.tick()

    async def stop(self) -> None:
        """Break off what is in the air and keep it for the next start; stopping twice is fine."""
        self._running = False
        self._set_timer(math.inf)
        in_air = tuple(self._in_air)
        for task in in_air:
            task.cancel()
        await asyncio.gather(*in_air, return_exceptions=True)
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def is_early(self, number: int, url: str | None) -> bool:
        """Say whether the callback of this task is to come before the reply to its POST."""
        how = self.callbacks
        return url is not None and how.reaches(url) and self._fates.is_early(how, number)

    def expect(self, entry: Entry, url: str | None, *, early: bool = False) -> None:
        """Note a task that was accepted, and where its end is to be told."""
        if url is None:
            return
        self._urls[entry.task_id] = url
        if early:
            self._tell(entry.task_id, entry.due, early=True)
            self.tick()
        elif not math.isinf(entry.due):
            self.end(entry)

    def end(self, entry: Entry) -> None:
        """Tell the end of a task when it is due; the last call for a task holds."""
        if entry.task_id in self._urls:
            self._at(entry.due, partial(self._tell, entry.task_id, entry.due))
            self.tick()

    async def hold(self, task_id: str) -> None:
        """Wait until the early callback of a task was tried; others have nothing to wait for."""
        task = self._held.pop(task_id, None)
        if task is not None:
            await asyncio.wait([task])

    def tick(self) -> None:
        """Do what is due by the clock."""
        now = self._now()
        while self._later and self._later[0][0] <= now:
            heapq.heappop(self._later)[2]()
        if self._running:
            self._set_timer(self._later[0][0] if self._later else math.inf)

    def _set_timer(self, due: float) -> None:
        if due == self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_due = None, due
        if not math.isinf(due):
            seconds = max(_SHORTEST_NAP, (due - self._now()) / self._speed)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        # The clock may stand still, so that the same time is waited for once more.
        self._timer, self._timer_due = None, math.inf
        self.tick()

    def _at(self, due: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._later, (due, next(self._numbers), action))

    def _tell(self, task_id: str, due: float, *, early: bool = False) -> None:
        entry, how = self._ledger.entry(task_id), self.callbacks
        if entry is None or entry.due != due:
            # It was finished by hand before its time, and has been told.
            return
        url = self._urls.pop(task_id)
        if not how.reaches(url):
            self._ledger.record_unsent("elsewhere")
            return
        for parcel in self._fates.forged(how, entry, url):
            self._send(parcel)
        if self._fates.is_lost(how, entry.number):
            self._ledger.record_unsent("lost")
            return
        picture = self._url_of(task_id)
        for delay, parcel in self._fates.sent(how, entry, url, picture, early=early):
            if parcel.kind == "early":
                self._hold_back(parcel)
            elif delay:
                self._at(due + delay, partial(self._send, parcel))
            else:
                self._send(parcel)

    def _send(self, parcel: Parcel) -> None:
        self._ready.append(parcel)
        self._depart()

    def _hold_back(self, parcel: Parcel) -> None:
        # A reply waits for this one: it does not queue.
        if self._running:
            self._held[parcel.task_id] = self._launch(parcel)
        else:
            self._ready.append(parcel)

    def _depart(self) -> None:
        while self._running and self._ready and len(self._in_air) < _MOST_AT_ONCE:
            self._launch(self._ready.popleft())

    def _launch(self, parcel: Parcel) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._carry(parcel))
        self._in_air.add(task)
        task.add_done_callback(partial(self._landed, parcel))
        return task

    def _landed(self, parcel: Parcel, task: asyncio.Task[None]) -> None:
        self._in_air.discard(task)
        if task.cancelled():
            # The simulator stops: the next start is to try it again.
            self._ready.append(parcel)
        else:
            self._depart()

    def _client(self) -> aiohttp.ClientSession:
        # Made when it is first needed: most rehearsals have no callbacks.
        if self._http is None:
            self._http = aiohttp.ClientSession(
                # The courier counts for itself: a queue in here would eat up the time to answer.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._http

    async def _carry(self, parcel: Parcel) -> None:
        began = self._now()
        status = await self._post(parcel)
        self._ledger.record_callback(
            SentCallback(
                task_id=parcel.task_id,
                kind=parcel.kind,
                attempt=parcel.attempt,
                at=began,
                status=status,
                url=parcel.url,
            )
        )
        pauses = self.callbacks.again_after
        failed = status is None or status >= _SERVER_ERROR
        if failed and not parcel.is_forged and parcel.attempt <= len(pauses):
            again = attrs.evolve(parcel, attempt=parcel.attempt + 1)
            self._at(self._now() + pauses[parcel.attempt - 1], partial(self._send, again))
            self.tick()

    async def _post(self, parcel: Parcel) -> int | None:
        """Make the POST; return the answer's status, None where none came."""
        body = parcel.body
        try:
            async with self._client().post(
                parcel.url,
                data=io.BytesIO(body) if len(body) > _LARGE else body,
                headers={"Content-Type": parcel.content_type, **self._signature(parcel)},
                timeout=aiohttp.ClientTimeout(total=self.callbacks.timeout),
                allow_redirects=False,
            ) as answer:
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    await answer.content.read(_MOST_READ)
                return answer.status
        except (aiohttp.ClientError, OSError, ValueError):
            return None

    def _signature(self, parcel: Parcel) -> dict[str, str]:
        if parcel.secret is None:
            return {}
        timestamp = str(int(self._wall_clock()))
        text = timestamp.encode() + b"." + parcel.body
        signature = hmac.new(parcel.secret.encode(), text, sha256).hexdigest()
        return {"X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": signature}
