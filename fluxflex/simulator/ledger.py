"""What happened, as the provider saw it: tasks billed, requests received, counters.

This is the truth that end-to-end tests check a client against: not what the client believes it sent
and paid, but what arrived.
"""

import heapq
import json
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from hashlib import sha256
from types import MappingProxyType
from urllib.parse import urlsplit

import attrs

from fluxflex.simulator.contract import Generation, Order
from fluxflex.simulator.replies import Failure

_KEPT_CALLBACKS = 100_000
# The first moments of a task are "pending": this share of its whole duration.
_PENDING_SHARE = 0.05
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def fingerprint(key: str) -> str:
    """Return which key it was without telling the key: eight hex digits of its SHA-256."""
    return sha256(key.encode()).hexdigest()[:8]


@attrs.frozen
class SeenRequest:
    """Describe one HTTP request that arrived, without secrets.

    `key` is the `fingerprint` of the Authorization header's token, None where there was no such
    header. `headers` are the others, as sent; the query and the headers stay out of the repr.
    """

    method: str
    path: str
    host: str
    key: str | None
    query: str = attrs.field(default="", repr=False)
    headers: Mapping[str, str] = attrs.field(default=_NO_HEADERS, repr=False)

    @property
    def authorized(self) -> bool:
        """Say whether an Authorization header came with it."""
        return self.key is not None


@attrs.frozen
class Entry:
    """Hold one accepted task. Times are simulated seconds since the simulator was made.

    `due` is infinity while nobody has finished a task by hand. `failure` is how it ends, None for
    an image; before `due` nobody outside learns of it. A task that an earlier simulator accepted
    has the number 0, times that may lie before this simulator's, and as much of its body as its id
    could carry.
    """

    number: int
    task_id: str
    prompt: str
    body: bytes = attrs.field(repr=False)
    price: Decimal
    accepted_at: float
    due: float
    failure: Failure | None
    generation: Generation = attrs.field(repr=False)

    @property
    def payload(self) -> dict[str, object]:
        """Return the JSON body of the POST, exactly as it came here."""
        payload: dict[str, object] = json.loads(self.body)
        return payload

    @property
    def order(self) -> Order:
        """Return what the payload asks for, with defaults filled in."""
        return self.generation.read(self.payload)

    def state(self, now: float) -> str:
        """Return the provider's word for the task at that time."""
        if now >= self.due:
            return "failed" if self.failure else "completed"
        if math.isinf(self.due):
            return "processing"
        pending = (now - self.accepted_at) < _PENDING_SHARE * (self.due - self.accepted_at)
        return "pending" if pending else "processing"


def _without_token(url: str) -> str:
    """Return the repr of a callback URL without what may be secret: its end, and its user."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return repr(f"{parts.scheme}://{host}{parts.path.rpartition('/')[0]}/…")


@attrs.frozen(kw_only=True)
class SentCallback:
    """Describe one POST to a callback URL, as it went out.

    `kind` is "plain", "late", "early", "double" (the second of two), or that of a forged one. `at`
    is when it was sent, in simulated seconds; `status` that of the answer, None where none came.
    `attempt` counts from 1. The last segment of the URL stays out of the repr: it is the token.
    """

    task_id: str
    kind: str
    attempt: int
    at: float
    status: int | None
    url: str = attrs.field(repr=_without_token)


def _nobody() -> None:
    """Tell nobody."""


class Ledger:
    """Record what was accepted, billed and asked. Read it; only the simulator writes.

    Entries stay for good, a few hundred bytes each; the log of requests keeps the latest
    `keep_requests` only. Every counter just grows.
    """

    def __init__(
        self, *, keep_requests: int = 1000, on_change: Callable[[], None] = _nobody
    ) -> None:
        self.posts: Counter[str] = Counter()
        """POSTs that arrived, by path, whatever became of them."""
        self.arrivals: Counter[str] = Counter()
        """Requests that arrived, by kind: submit, status, files, account, other."""
        self.billed_usd = Decimal(0)
        self.dry_runs = 0
        """POSTs that were answered with a price; nothing was accepted."""
        self.max_in_flight = 0
        """Most tasks that were ever accepted and, by the clock, not finished."""
        self.peak_posts = 0
        """Most POSTs that were ever being answered at the same time."""
        self.requests: deque[SeenRequest] = deque(maxlen=keep_requests)
        """The latest requests, oldest first."""
        self.callbacks: deque[SentCallback] = deque(maxlen=_KEPT_CALLBACKS)
        """The latest 100,000 POSTs to callback URLs, in the order in which they were answered."""
        self.callbacks_by_kind: Counter[str] = Counter()
        """Callbacks by kind, each counted at its first try, as soon as that is answered.

        "again" counts the tries after the first, "lost" and "elsewhere" what was never sent: see
        `Callbacks`.
        """
        self._entries: dict[str, Entry] = {}
        self._recalled: dict[str, Entry] = {}
        self._keys_by_host: defaultdict[str, set[str]] = defaultdict(set)
        self._open: set[str] = set()
        self._due: list[tuple[float, str]] = []
        self._on_change = on_change

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return (
            f"<Ledger: {self.posts_received} POSTs, {len(self)} tasks accepted, "
            f"{self.billed_usd} USD billed, {self.status_requests} looks>"
        )

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return all accepted tasks, in order."""
        return tuple(self._entries.values())

    @property
    def recalled(self) -> tuple[Entry, ...]:
        """Return the tasks of earlier simulators that were asked about here, in that order.

        They were accepted and billed there: nothing else in this ledger counts them.
        """
        return tuple(self._recalled.values())

    @property
    def posts_received(self) -> int:
        """Return how many POSTs arrived on all paths together."""
        return self.posts.total()

    @property
    def status_requests(self) -> int:
        """Return how many looks at tasks arrived."""
        return self.arrivals["status"]

    @property
    def file_requests(self) -> int:
        """Return how many requests for pictures arrived."""
        return self.arrivals["files"]

    def entry(self, task_id: str) -> Entry | None:
        """Return one accepted or recalled task, or None."""
        return self._entries.get(task_id) or self._recalled.get(task_id)

    def by_prompt(self) -> dict[str, list[Entry]]:
        """Return the accepted tasks of each prompt, in order."""
        groups: dict[str, list[Entry]] = {}
        for entry in self._entries.values():
            groups.setdefault(entry.prompt, []).append(entry)
        return groups

    def duplicates(self) -> dict[str, list[Entry]]:
        """Return the prompts that were accepted, and so billed, more than once."""
        return {prompt: found for prompt, found in self.by_prompt().items() if len(found) > 1}

    def keys_at(self, host: str) -> frozenset[str]:
        """Return the fingerprints of all keys that ever arrived with this Host header."""
        return frozenset(self._keys_by_host.get(host, ()))

    def in_flight(self, now: float) -> int:
        """Return how many tasks are accepted and, at that time, not finished."""
        while self._due and self._due[0][0] <= now:
            self._open.discard(heapq.heappop(self._due)[1])
        return len(self._open)

    def record_request(self, kind: str, seen: SeenRequest) -> None:
        """Note a request that arrived."""
        self.requests.append(seen)
        self.arrivals[kind] += 1
        if seen.method == "POST":
            self.posts[seen.path] += 1
        if seen.key is not None:
            self._keys_by_host[seen.host].add(seen.key)
        self._on_change()

    def record_task(self, entry: Entry) -> None:
        """Note a task that was accepted, and bill it."""
        self._entries[entry.task_id] = entry
        self.billed_usd += entry.price
        if entry.due > entry.accepted_at:
            self._open.add(entry.task_id)
            if not math.isinf(entry.due):
                heapq.heappush(self._due, (entry.due, entry.task_id))
        self.max_in_flight = max(self.max_in_flight, self.in_flight(entry.accepted_at))
        self._on_change()

    def record_recalled(self, entry: Entry) -> None:
        """Note a task that an earlier simulator accepted."""
        self._recalled[entry.task_id] = entry
        self._on_change()

    def record_dry_run(self) -> None:
        """Note that a price was told."""
        self.dry_runs += 1
        self._on_change()

    def record_callback(self, sent: SentCallback) -> None:
        """Note a POST to a callback URL that was answered or given up."""
        self.callbacks.append(sent)
        self.callbacks_by_kind[sent.kind if sent.attempt == 1 else "again"] += 1
        self._on_change()

    def record_unsent(self, why: str) -> None:
        """Note a callback that is never sent."""
        self.callbacks_by_kind[why] += 1
        self._on_change()

    def record_end(self, task_id: str, now: float, failure: Failure | None) -> Entry:
        """Note that a task was finished by hand, and return it as it is now."""
        tasks = self._entries if task_id in self._entries else self._recalled
        ended = tasks[task_id] = attrs.evolve(tasks[task_id], due=now, failure=failure)
        self._open.discard(task_id)
        self._on_change()
        return ended
