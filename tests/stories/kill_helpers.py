"""A batch of the command line that is killed again and again until it ends by itself.

The simulator runs in the test's loop, the command in a process of its own. When it is killed is
drawn from a seed: at a request of some kind, at an acceptance, or after some time. What happened is
then told by the simulator's ledger, and compared with what the folder says.

`FLUXFLEX_KILL_SEEDS=100` lets every test of kills run with so many seeds in place of its few.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import struct
import sys
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

import fluxflex
from fluxflex import JournalEntry, TaskState
from fluxflex.simulator import Fault, Faults, Ledger, Simulator, faults
from fluxflex.simulator.contract import Order

KEY = "sk-kill/0123456789+abcdef=="
PRICE = Decimal("0.04")
AT_ONCE = 8
JOURNAL, RESULTS, PAGE = "journal.db", "results.jsonl", "index.html"
_SIZE = 6000
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SLOW, _TICK = 0.15, 0.01
# A round that neither ends nor gets to the moment of its kill hangs.
_ROUND_SECONDS = 30.0
# Each may make the session wary for ten seconds and more.
_MOST_TURNED_AWAY = 3
_MOST_KILLS = 8


def seeds(usual: int) -> range:
    """Return the seeds of a test: a few as a rule, as many as the environment asks for."""
    return range(int(os.environ.get("FLUXFLEX_KILL_SEEDS", usual)))


def dice(seed: int) -> random.Random:
    """Return the source of all chance of a story."""
    return random.Random(seed)  # noqa: S311 - the same seed is to give the same story


def at_start(home: Path, code: str) -> dict[str, str]:
    """Return the environment of an interpreter that runs this code before anything else."""
    (home / "sitecustomize.py").write_text(code)
    paths = filter(None, (str(home), os.environ.get("PYTHONPATH")))
    return {"PYTHONPATH": os.pathsep.join(paths)}


# -- the provider ----------------------------------------------------------------------------


def picture(prompt: str, size: int = _SIZE) -> bytes:
    """Return the PNG of a prompt: one pixel, the prompt, and padding to about that size."""
    text = b"Title\0" + prompt.encode("latin-1") + b" " * size
    pixel = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", pixel), (b"tEXt", text), (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def is_whole(content: bytes) -> bool:
    """Say whether a PNG is there from its beginning to its end."""
    return content.startswith(_SIGNATURE) and content.endswith(_chunk(b"IEND", b""))


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@attrs.frozen
class Brisk:
    """Let a task take up to so many seconds, all times alike."""

    most: float = 0.4

    def seconds(self, _order: Order, drawn: float, /) -> float:
        """Return the time of a task."""
        return self.most * drawn


@attrs.define
class Clerk:
    """Decides what goes wrong with each POST, and keeps count of those that were let in.

    Attributes:
        rng: the chance. let_in: how many POSTs of each prompt the provider may have acted on.
    """

    rng: random.Random
    let_in: Counter[str] = attrs.field(factory=Counter)
    turned_away: int = 0

    def __call__(self, arrival: faults.Arrival) -> Fault | None:
        """Hold up some, so that a kill meets them half way; turn a few away."""
        drawn = self.rng.random()
        if drawn < 0.06 and self.turned_away < _MOST_TURNED_AWAY:
            self.turned_away += 1
            return faults.rate_limited(retry_after=0.02)
        self.let_in[str(arrival.payload["prompt"])] += 1
        if drawn < 0.14:
            return faults.slow(before=_SLOW)
        return faults.slow(after=_SLOW) if drawn < 0.3 else None


# -- when a round is killed ------------------------------------------------------------------


@attrs.frozen
class Moment:
    """When a round is killed: so many seconds after so many of a kind.

    Kinds are those of the ledger's arrivals, "accepted", "printed" for pictures that the process
    named, "journal" for changes of the journal's file, and "start" for nothing.
    """

    kind: str
    count: int = 0
    after: float = 0.0

    async def come(self, batch: Series) -> None:
        """Wait for it."""
        if self.kind == "printed":
            while batch.printed() < self.count:  # noqa: ASYNC110 - its simulator tells only itself
                await asyncio.sleep(_TICK)
        elif self.kind == "journal":
            await batch.changes(self.count)
        else:
            await batch.sim.wait_for(lambda ledger: counted(ledger, self.kind) >= self.count)
        await asyncio.sleep(self.after)


def counted(ledger: Ledger, kind: str) -> int:
    """Return how often a thing happened; never, for what nobody counts."""
    return len(ledger) if kind == "accepted" else ledger.arrivals[kind]


def any_moment(rng: random.Random, ledger: Ledger, to_send: int, to_save: int) -> Moment:
    """Draw a moment that comes soon, for a series with so many items to send and to save."""
    after = rng.choice((0.0, rng.uniform(0, 0.005), rng.uniform(0, 0.05), rng.uniform(0, 0.4)))
    steps = {"account": 1, "status": rng.randint(1, 8), "start": 0}  # the journal is opened; work
    if to_send > 0:
        steps |= {kind: rng.randint(1, to_send // 2 + 1) for kind in ("submit", "accepted")}
    else:
        steps["last file"] = to_save
    if to_save > 0:
        steps["files"] = rng.randint(1, to_save // 2 + 1)
    kind = rng.choice([*steps, "submit" if to_send > 0 else "last file"])
    if kind == "start":
        return Moment(kind, after=rng.uniform(0.1, 1.2))
    if kind == "last file":
        return Moment("files", ledger.file_requests + to_save, rng.uniform(0, 0.5))
    return Moment(kind, counted(ledger, kind) + steps[kind], after)


# -- the series ------------------------------------------------------------------------------


def _nothing(_series: Series) -> None:
    """Do nothing between two rounds."""


@attrs.define(kw_only=True)
class Series:
    """One batch, one folder, one provider, and as many processes as it takes.

    Attributes:
        seed: of all chance. home: an empty folder. asked: the prompts.
        sim: the provider. clerk: at its door.
        options: more options of the command. environment: what it runs in, besides the usual.
        between: done before each round but the first.
        story: what happened, a line a round.
    """

    seed: int
    home: Path
    asked: list[str]
    sim: Simulator
    clerk: Clerk
    options: tuple[object, ...] = ("--yes", "-c", AT_ONCE)
    environment: dict[str, str] = attrs.field(factory=dict)
    between: Callable[[Series], None] = _nothing
    story: list[str] = attrs.field(factory=list)
    kills: int = 0
    rng: random.Random = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.rng = dice(self.seed)

    @property
    def folder(self) -> Path:
        """The folder of the batch."""
        return self.home / "out"

    @property
    def journal(self) -> Path:
        """The journal in it."""
        return self.folder / JOURNAL

    @property
    def ledger(self) -> Ledger:
        """What the provider saw."""
        return self.sim.ledger

    @property
    def spoken(self) -> Path:
        """What the process of this round says."""
        return self.home / f"said-{len(self.story):02}.txt"

    def printed(self) -> int:
        """Return how many pictures the process of this round has named."""
        return self.spoken.read_text().count(".png\n") if self.spoken.exists() else 0

    async def changes(self, count: int) -> None:
        """Wait until the journal's one file was written so often."""
        before = None
        while count:
            await asyncio.sleep(_TICK / 10)
            with suppress(FileNotFoundError):
                now = self.journal.stat().st_mtime_ns
                count, before = count - (now != before), now

    async def play(self) -> int:
        """Kill round after round, until one ends by itself; return its exit code."""
        for number in range(_MOST_KILLS + 1):
            if number:
                self.between(self)
            code = await self.round(self.any_moment() if number < _MOST_KILLS else None)
            if code is not None:
                return code
        raise AssertionError("it does not come to an end")

    def any_moment(self) -> Moment:
        """Draw when the next round is killed."""
        asked, saved = len(self.asked), len(list(self.folder.glob("*.png")))
        return any_moment(self.rng, self.ledger, asked - len(self.ledger), asked - saved)

    async def round(self, moment: Moment | None = None, *words: object) -> int | None:
        """Run the batch, and kill it when its moment comes; return its exit code, if it has one.

        Without a moment it runs to its end. `words` are those of another command in its place.
        """
        (self.home / "prompts.txt").write_text("".join(f"{line}\n" for line in self.asked))
        words = words or ("batch", "prompts.txt", "-o", self.folder.name, *self.options)
        spoken = self.spoken
        with spoken.open("wb") as said:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "fluxflex", *map(str, words)),
                cwd=self.home,
                env=self._environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        over = asyncio.create_task(process.wait())
        due = asyncio.create_task(moment.come(self) if moment else asyncio.Event().wait())
        await asyncio.wait({over, due}, timeout=_ROUND_SECONDS, return_when="FIRST_COMPLETED")
        hung = not over.done() and not due.done()
        due.cancel()
        if process.returncode is None:
            # Not `process.kill()`, which may reap what has just ended, and its exit code is lost.
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        code = await over
        self.story.append(f"{moment}: {code}, {self.ledger}")
        words_of_it = spoken.read_text()
        assert not hung, f"it hangs:\n{words_of_it}"
        assert "Traceback" not in words_of_it, words_of_it
        assert KEY not in words_of_it
        if code == -signal.SIGKILL:
            self.kills += 1
            return None
        self.story.append(words_of_it)
        return code

    def _environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "FLUXFLEX_API_KEY": KEY,
            "FLUXFLEX_BASE_URL": self.sim.url,
            "PYTHONWARNINGS": "error",
            "COVERAGE_PROCESS_START": "",
            **self.environment,
        }

    # -- what must be true ---------------------------------------------------------------------

    async def entries(self) -> list[JournalEntry]:
        """Return what the journal knows."""
        return [entry async for entry in fluxflex.read_journal(self.journal)]

    def rows(self) -> list[dict[str, Any]]:
        """Return the lines of the results."""
        return [json.loads(line) for line in (self.folder / RESULTS).read_text().splitlines()]

    async def check(self, code: int) -> None:
        """Check the end of a series against the ledger: nothing twice, nothing lost."""
        entries = await self.entries()
        self.check_bought(entries)
        assert [entry.number for entry in entries] == list(range(1, len(self.asked) + 1))
        assert [prompt_of(entry) for entry in entries] == self.asked
        states = Counter(entry.state for entry in entries)
        assert not states.keys() - {TaskState.COMPLETED, TaskState.UNCERTAIN}
        assert code == (10 if states[TaskState.UNCERTAIN] else 0)
        self.check_money(entries)
        self.check_folder(entries)
        made = [entry for entry in entries if entry.path is not None and entry.collected]
        wrong = [each for each in made if content_of(each) != picture(prompt_of(each))]
        assert not wrong, "not the picture that was paid for"

    def check_bought(self, entries: Iterable[JournalEntry]) -> None:
        """Check that no item was sent twice, and that all that was accepted is known."""
        asked = Counter(self.asked)
        accepted = Counter(entry.prompt for entry in self.ledger.entries)
        assert not accepted - asked, "accepted more often than asked for"
        assert not self.clerk.let_in - asked, "sent again although it may have been accepted"
        entries = list(entries)
        known = {entry.task_id for entry in entries}
        lost = [entry for entry in self.ledger.entries if entry.task_id not in known]
        unsure = Counter(prompt_of(entry) for entry in uncertain(entries))
        assert not Counter(entry.prompt for entry in lost) - unsure, "paid for and lost"

    def check_money(self, entries: Iterable[JournalEntry]) -> None:
        """Check that the journal counts what was billed, and what may have been."""
        entries = list(entries)
        unsure = len(uncertain(entries))
        known = {entry.task_id for entry in entries}
        lost = sum(entry.task_id not in known for entry in self.ledger.entries)
        spent = sum((entry.spent for entry in entries), Decimal(0))
        assert spent == self.ledger.billed_usd - lost * PRICE
        assert sum((entry.reserved for entry in entries), Decimal(0)) == unsure * PRICE

    def check_folder(self, entries: Iterable[JournalEntry]) -> None:
        """Check that each item has its line, each picture its file, and nothing else lies there."""
        entries, rows = list(entries), self.rows()
        assert [row["index"] + 1 for row in rows] == [entry.number for entry in entries]
        assert [row["state"] for row in rows] == [entry.state.name for entry in entries]
        assert [row["task_id"] for row in rows] == [entry.task_id for entry in entries]
        made = [entry for entry in entries if entry.state is TaskState.COMPLETED]
        paths = {entry.path for entry in made if entry.path is not None}
        assert len(paths) == len(made)
        assert len({content_of(entry) for entry in made}) == len({prompt_of(each) for each in made})
        assert all(is_whole(content_of(entry)) for entry in made)
        assert {row["path"] for row in rows} - {None} == {path.name for path in paths}
        page = (self.folder / PAGE).read_text()
        assert not [path for path in paths if path.name not in page], "not on the page"
        others = {path.name for path in self.folder.iterdir()} - {path.name for path in paths}
        assert others == {JOURNAL, RESULTS, PAGE}, others


def prompt_of(entry: JournalEntry) -> str:
    """Return the prompt of an entry."""
    assert entry.request is not None
    return entry.request.prompt


def content_of(entry: JournalEntry) -> bytes:
    """Return the picture of an entry, as it was saved."""
    assert entry.path is not None
    return entry.path.read_bytes()


def uncertain(entries: Iterable[JournalEntry]) -> list[JournalEntry]:
    """Return the entries of which nobody knows whether they were accepted."""
    return [entry for entry in entries if entry.state is TaskState.UNCERTAIN]


@asynccontextmanager
async def series(
    seed: int, home: Path, *, asked: int | list[str] = 30, **more: Any
) -> AsyncIterator[Series]:
    """Give a series with its provider; what fails in it tells the whole story."""
    clerk = Clerk(dice(seed))
    async with Simulator(
        seed=seed,
        durations=Brisk(),
        faults=Faults(submit=clerk),
        pictures=lambda order: picture(order.prompt),
    ) as sim:
        prompts = (
            [f"a study of the sea, {number}" for number in range(1, asked + 1)]
            if isinstance(asked, int)
            else asked
        )
        told = Series(seed=seed, home=home, asked=prompts, sim=sim, clerk=clerk, **more)
        try:
            yield told
        except BaseException as error:
            error.add_note("\n".join(told.story))
            raise
