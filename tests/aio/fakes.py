"""A provider without sockets: a `Transport` that answers from a script, in virtual time."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from fluxflex._aio.engine import Engine
from fluxflex._aio.journal import Journal
from fluxflex._aio.session import Session
from fluxflex._core.exchange import Call, Phase, Reply, Unanswered

KEY = "sk-test-0123456789"
BASE = "http://api.test"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))

Got = Reply | Unanswered


def as_json(body: object, status: int = 200, **headers: str) -> Reply:
    """Return a reply with a JSON body; `retry_after=…` is the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(
        status=status,
        headers={"content-type": "application/json", **named},
        body=json.dumps(body).encode(),
    )


def accepted(task_id: str) -> Reply:
    """Return the reply to a submit that was accepted."""
    return as_json({"code": 200, "data": {"status": "processing", "task_id": task_id}})


def running(task_id: str, word: str = "processing") -> Reply:
    """Return the status of a task that runs."""
    return as_json({"code": 200, "data": {"status": word, "task_id": task_id}})


def completed(task_id: str, **more: object) -> Reply:
    """Return the status of a task that has its picture."""
    output = {"image_url": f"http://files.test/{task_id}.png"}
    data = {"status": "completed", "task_id": task_id, "output": output, **more}
    return as_json({"code": 200, "data": data})


def failed(task_id: str, status: int = 200) -> Reply:
    """Return the status of a task that failed."""
    error = {"code": "generation_failed", "message": "It did not work"}
    data = {"status": "failed", "task_id": task_id, "error": error}
    return as_json({"code": status, "data": data}, status)


def refused(status: int, code: str = "no", **headers: str) -> Reply:
    """Return the provider's envelope of an error."""
    return as_json({"code": status, "data": {"code": code, "message": "No."}}, status, **headers)


def page(status: int, **headers: str) -> Reply:
    """Return a gateway's HTML page."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(
        status=status, headers={"content-type": "text/html", **named}, body=b"<html>oops</html>"
    )


def picture(content: bytes = PNG, status: int = 200, **headers: str) -> Reply:
    """Return a picture, whole or in part."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, headers={"content-type": "image/png", **named}, body=content)


NEVER_SENT = Unanswered(phase=Phase.NEVER_SENT, reason="refused")
HOPELESS = Unanswered(phase=Phase.NEVER_SENT, reason="bad certificate", hopeless=True)
WRITING = Unanswered(phase=Phase.WRITING, reason="reset")
SENT = Unanswered(phase=Phase.SENT, reason="reset")


@attrs.frozen
class Late:
    """A reply that takes its time, in seconds; infinity never comes."""

    got: Got
    after: float


HANG = Late(SENT, math.inf)
Step = Got | Late | None


@attrs.frozen
class Seen:
    """A call as it was sent."""

    kind: str
    call: Call
    at: float
    timeout: float


class FakeTransport:
    """Answers each kind of call by its script, one entry a call, then as a provider that behaves.

    Kinds are `submit`, `status`, `account` and `file`. A script is a list of steps (`None` =
    behave) or a callable that is asked for each call. Tasks are called t1, t2, … and are completed
    `seconds` after they were accepted.
    """

    def __init__(self, *, seconds: float = 1.0, latency: float = 0.0) -> None:
        self.seconds = seconds
        self.latency = latency
        self.seen: list[Seen] = []
        self.closed = False
        self.in_air: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.scripts: defaultdict[str, deque[Step]] = defaultdict(deque)
        self.rules: dict[str, Callable[[Call], Step]] = {}
        self.due: dict[str, float] = {}
        self.hurried: float = math.inf
        self._scopes: set[asyncio.Timeout] = set()

    def script(self, kind: str, *steps: Step) -> FakeTransport:
        """Add steps for calls of a kind."""
        self.scripts[kind].extend(steps)
        return self

    def rule(self, kind: str, rule: Callable[[Call], Step]) -> FakeTransport:
        """Ask this for every call of a kind whose script is used up."""
        self.rules[kind] = rule
        return self

    def count(self, kind: str) -> int:
        """Return how many calls of a kind were sent."""
        return len(self.times(kind))

    def times(self, kind: str) -> list[float]:
        """Return when calls of a kind were sent."""
        return [seen.at for seen in self.seen if seen.kind == kind]

    @property
    def posts(self) -> int:
        """Return how many POSTs were sent."""
        return self.count("submit")

    def prompts(self) -> list[str]:
        """Return the prompts that were sent, in order."""
        bodies = [json.loads(s.call.body or b"{}") for s in self.seen if s.kind == "submit"]
        return [str(body["prompt"]) for body in bodies]

    async def send(self, call: Call, *, timeout: float) -> Got:
        """Answer a call."""
        kind = _kind(call)
        now = asyncio.get_running_loop().time()
        self.seen.append(Seen(kind, call, now, timeout))
        self.in_air[kind] += 1
        self.most[kind] = max(self.most[kind], self.in_air[kind])
        step = self._step(kind, call)
        late = step if isinstance(step, Late) else Late(step, self.latency)
        scope = asyncio.timeout(min(timeout, self.hurried))
        self._scopes.add(scope)
        try:
            async with scope:
                await _sleep(late.after)
        except TimeoutError:
            return Unanswered(phase=Phase.SENT, reason="no reply in time")
        finally:
            self._scopes.discard(scope)
            self.in_air[kind] -= 1
        return late.got

    def hurry(self, seconds: float) -> None:
        """Give what is in the air so many seconds."""
        self.hurried = seconds
        latest = asyncio.get_running_loop().time() + seconds
        for scope in self._scopes:
            when = scope.when()
            if when is None or when > latest:
                scope.reschedule(latest)

    async def aclose(self) -> None:
        """Close."""
        self.closed = True

    def _step(self, kind: str, call: Call) -> Got | Late:
        step = self.scripts[kind].popleft() if self.scripts[kind] else None
        if step is None and kind in self.rules:
            step = self.rules[kind](call)
        return self._behave(kind, call) if step is None else step

    def _behave(self, kind: str, call: Call) -> Got:
        now = asyncio.get_running_loop().time()
        if kind == "submit":
            task_id = f"t{len(self.due) + 1}"
            self.due[task_id] = now + self.seconds
            return accepted(task_id)
        if kind == "status":
            task_id = call.url.rpartition("/")[2]
            due = self.due.setdefault(task_id, now + self.seconds)
            return completed(task_id) if now >= due else running(task_id)
        if kind == "account":
            return as_json({"code": 200, "data": {"balance_usd": "12.50", "user_id": 7}})
        return picture()


class Draws(random.Random):
    """Chance that always comes out the same."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        """Return the same number every time."""
        return self.value


class FakeSession(Session):
    """A session whose provider is a `FakeTransport`, and whose jitter is always the longest."""

    def __init__(self, fake: FakeTransport | None = None, **settings: Any) -> None:
        super().__init__(**{"api_key": KEY, "base_url": BASE, **settings})
        self.fake = FakeTransport() if fake is None else fake

    async def open(self) -> None:
        """Open it."""
        await super().open()
        self.engine.tasks.downloads._rng = Draws()

    @property
    def engine(self) -> Engine:
        """Return the engine, for white-box looks."""
        return self._opened

    def _new_engine(self, journal: Journal | None = None) -> Engine:
        return Engine(self._settings, self._transport(), Draws(), journal)

    def _transport(self) -> FakeTransport:
        return self.fake


def fields(call: Call) -> Mapping[str, object]:
    """Return the JSON body of a call."""
    body: Mapping[str, object] = json.loads(call.body or b"{}")
    return body


def _kind(call: Call) -> str:
    if call.method == "POST":
        return "submit"
    if "/status/" in call.url:
        return "status"
    return "account" if call.url.endswith("/account") else "file"


async def _sleep(seconds: float) -> None:
    if math.isinf(seconds):
        await asyncio.Event().wait()
    await asyncio.sleep(seconds)


def now() -> float:
    """Return the running loop's time."""
    return asyncio.get_running_loop().time()


async def settle() -> None:
    """Let everything that can run now do so; no time passes."""
    for _ in range(20):
        await asyncio.sleep(0)
