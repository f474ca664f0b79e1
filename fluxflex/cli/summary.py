"""What a run adds up to: how many items ended how, the money, and what is left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import attrs

from fluxflex import Outcome, Statistics, TaskState
from fluxflex.cli import exits, gallery, hints, places
from fluxflex.cli.results import Row
from fluxflex.cli.talk import counted, dollars
from fluxflex.errors import FluxFlexError

_NAMED = 5


@attrs.frozen(kw_only=True)
class Ending:
    """How a run ended, besides its outcomes.

    Attributes:
        folder: where everything lies.
        money: what the session counted.
        seconds: how long it took.
        simulated: whether it was a rehearsal.
        page: whether the page was written.
        download: whether pictures were to be saved.
    """

    folder: Path
    money: Statistics
    seconds: float
    simulated: bool = False
    page: bool = True
    download: bool = True


@attrs.define
class Tally:
    """Counts outcomes.

    Attributes:
        states: how many items ended how, in words.
        codes: the exit codes that fit.
        left: ids of tasks that go on without us, or whose pictures were not fetched.
        done: outcomes; of them failed, unsent, and saved as pictures.
    """

    states: Counter[str] = attrs.field(factory=Counter)
    codes: set[int] = attrs.field(factory=set)
    left: list[str] = attrs.field(factory=list)
    done: int = 0
    failed: int = 0
    unsent: int = 0
    saved: int = 0

    def count(self, outcome: Outcome, row: Row, error: FluxFlexError | None) -> None:
        """Count an outcome; `error` is why it did not end well."""
        self.done += 1
        self.states[gallery.state_of(row)] += 1
        self.unsent += outcome.state is TaskState.QUEUED
        self.saved += outcome.path is not None
        if error is None:
            return
        self.failed += outcome.state is not TaskState.QUEUED
        self.codes.add(exits.code_of_item(error))
        if isinstance(error, hints.GOES_ON) and outcome.task_id is not None:
            self.left.append(outcome.task_id)

    def totals(self, folder: Path, money: Statistics, *, simulated: bool) -> gallery.Totals:
        """Return what stands above the pictures."""
        return gallery.Totals(
            title=folder.resolve().name,
            states=self.in_order(),
            spent=money.spent,
            reserved=Decimal(0) if simulated else money.reserved,
            simulated=simulated,
        )

    def in_order(self) -> dict[str, int]:
        """Return the states, the good ones first."""
        good = [gallery.WORDS["COMPLETED"], gallery.UNSAVED]
        words = [*good, *gallery.WORDS.values(), gallery.ENDED]
        return {word: self.states[word] for word in words if self.states[word]}

    def lines(self, end: Ending) -> Iterator[str]:
        """Give what people want to know at the end."""
        money = end.money
        how = ", ".join(f"{number:,} {state}" for state, number in self.in_order().items())
        spent = f"{dollars(money.spent)} spent"
        if end.simulated:
            spent += " (simulated: nothing was bought)"
        elif money.reserved:
            spent += f", {dollars(money.reserved)} may still be billed"
        items = counted(sum(self.states.values()), "item")
        yield f"{items}: {how or 'nothing to do'}. {spent}, {end.seconds:.1f} s."
        if self.left:
            yield from _ended(len(self.left)) if end.simulated else self._left_lines()
        yield self._where(end)

    def _left_lines(self) -> Iterator[str]:
        yield (
            f"{counted(len(self.left), 'task')} left at the provider, and paid for. "
            "Each picture is fetched, at no further cost, with:"
        )
        yield from (f"  fluxflex wait {task_id}" for task_id in self.left[:_NAMED])
        if len(self.left) > _NAMED:
            yield f"  … and {len(self.left) - _NAMED:,} more, named in {places.RESULTS}"

    def _where(self, end: Ending) -> str:
        page = end.folder / places.GALLERY if end.page else None
        if not end.download and self.states[gallery.WORDS["COMPLETED"]]:
            return f"The links are in {page or end.folder / places.RESULTS}."
        if not self.saved:
            return "No pictures were saved." + (f" What happened to each: {page}" if page else "")
        pictures = f"{counted(self.saved, 'picture')} in {end.folder}."
        return pictures + (f" To look at them: {page}" if page else "")


def _ended(number: int) -> Iterator[str]:
    if number == 1:
        yield "1 simulated task was left; it ended with the simulator."
    else:
        yield f"{number:,} simulated tasks were left; they ended with the simulator."
