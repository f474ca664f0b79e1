"""How a batch shows that it moves: a display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import Protocol, Self

import attrs
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fluxflex.cli.talk import Talk, counted, dollars

_MINUTE, _HOUR = 60, 3600
_QUIET = 10.0
_TENTHS = 10
_BAR = 40


@attrs.frozen(kw_only=True)
class Snapshot:
    """Where a run stands.

    Attributes:
        done: items that have ended; failed: those of them that the provider could not make.
        uncertain, left_running, unsent: items that were given up, by how they stand.
        replayed: items that were told again from an earlier run.
        made: pictures of this run. stopping: whether no more are sent.
        total: how many there will be; `None` where that is not known.
        running: sent, or being saved.
        elapsed: seconds since the beginning.
        spent, reserved: USD. estimate: of the whole run, where it is known.
        simulated: whether the money is play money.
        throttled: how often the provider said that it was too much at once.
    """

    done: int
    total: int | None
    running: int
    failed: int
    elapsed: float
    spent: Decimal
    reserved: Decimal
    estimate: Decimal | None = None
    simulated: bool = False
    uncertain: int = 0
    left_running: int = 0
    unsent: int = 0
    replayed: int = 0
    made: int = 0
    stopping: bool = False
    throttled: int = 0

    @property
    def rate(self) -> float:
        """Pictures of this run a second."""
        return self.made / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to the end at this rate; `None` where nobody can say, or it is near."""
        told = self.done + self.uncertain + self.left_running + self.unsent
        if self.stopping or self.total is None or told >= self.total or not self.rate:
            return None
        return (self.total - told) / self.rate


def duration(seconds: float) -> str:
    """Return seconds as a clock shows them: 0:07, 12:40, 3:05:00."""
    whole = round(seconds)
    clock = f"{whole // _MINUTE % _MINUTE}:{whole % _MINUTE:02}"
    return clock if whole < _HOUR else f"{whole // _HOUR}:{clock:0>5}"


def speed(per_second: float) -> str:
    """Return a rate in the unit in which it is easy to read."""
    if per_second >= 1:
        return f"{per_second:.1f} pictures/s"
    return f"{per_second * _MINUTE:.1f} pictures/min"


def money(at: Snapshot) -> str:
    """Return what is spent, what is set aside, and what all of it may cost."""
    spent = f"{dollars(at.spent)} spent"
    reserved = f", {dollars(at.reserved)} reserved" if at.reserved else ""
    estimate = f" of about {dollars(at.estimate)}" if at.estimate else ""
    return f"{'simulated: ' if at.simulated else ''}{spent}{reserved}{estimate}"


def count(at: Snapshot) -> str:
    """Return how many are done."""
    return f"{at.done:,}" if at.total is None else f"{at.done:,}/{at.total:,}"


def pace(at: Snapshot) -> list[str]:
    """Return how it goes."""
    parts = [f"{at.running} running", f"{at.failed} failed"]
    apart = {
        "done before": at.replayed,
        "uncertain": at.uncertain,
        "left running": at.left_running,
        "not sent": at.unsent,
    }
    parts += [f"{number:,} {word}" for word, number in apart.items() if number]
    if at.throttled:
        parts.append(f"slowed down by the provider (429): {at.throttled:,}")
    if at.rate:
        parts.append(speed(at.rate))
    if at.left is not None:
        parts.append(f"{duration(at.left)} left")
    return parts


class View(Protocol):
    """Shows where a run stands."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, at: Snapshot) -> None:
        """Show it, where it is time to."""
        ...


class Lines:
    """Says where the run stands at each tenth of it, and when nothing was said for 10 s."""

    def __init__(self, talk: Talk, clock: Callable[[], float] = time.monotonic) -> None:
        self._talk = talk
        self._clock = clock
        self._said_at = clock()
        self._tenths = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def show(self, at: Snapshot) -> None:
        """Say it, where it is time to."""
        now = self._clock()
        tenths = at.done * _TENTHS // at.total if at.total else 0
        if tenths == self._tenths and now - self._said_at < _QUIET:
            return
        self._tenths, self._said_at = tenths, now
        self._talk.say(", ".join([f"{count(at)} done", *pace(at), money(at)]))


class Screen:
    """Keeps a few lines at the bottom of a terminal up to date."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._live = Live(
            console=talk.console,
            auto_refresh=False,
            transient=True,
            # stdout belongs to programs, even while a display stands on stderr.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        self._talk.live = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._talk.live = False
        self._live.stop()

    def show(self, at: Snapshot) -> None:
        """Redraw."""
        line = Table.grid(padding=(0, 1))
        if at.total:
            share = f"{100 * at.done // at.total} %"
            bar = ProgressBar(total=at.total, completed=at.done, width=_BAR)
            line.add_row(Text(count(at), style="bold"), bar, share)
        else:
            line.add_row(Text(counted(at.done, "picture"), style="bold"))
        below = (Text(text, style="dim") for text in (" · ".join(pace(at)), money(at)))
        self._live.update(Group(line, *below), refresh=True)


def view(talk: Talk) -> View:
    """Return what suits the place where people read."""
    return Screen(talk) if talk.on_terminal else Lines(talk)
