"""What a run adds up to: how many items ended how, the money, and what is left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs

from fluxflex import Outcome, Statistics
from fluxflex.cli import exits, gallery, places
from fluxflex.cli.results import Row
from fluxflex.cli.talk import counted, dollars
from fluxflex.errors import FluxFlexError, SessionClosedError

_NAMED = 20


@attrs.define
class Tally:
    """Counts outcomes.

    Attributes:
        states: how many items ended how, in words.
        codes: the exit codes that fit.
        left: ids of tasks that go on without us, or whose pictures were not fetched.
    """

    states: Counter[str] = attrs.field(factory=Counter)
    codes: set[int] = attrs.field(factory=set)
    left: list[str] = attrs.field(factory=list)
    done: int = 0
    failed: int = 0
    saved: int = 0

    def count(self, outcome: Outcome, row: Row, error: FluxFlexError | None) -> None:
        """Count an outcome; `error` is why it did not end well."""
        self.done += 1
        self.states[gallery.state_of(row)] += 1
        self.saved += outcome.path is not None
        if error is None:
            return
        self.failed += 1
        self.codes.add(exits.code_of_item(error))
        if isinstance(error, SessionClosedError) and outcome.task_id is not None:
            self.left.append(outcome.task_id)

    def totals(self, folder: Path, money: Statistics, *, simulated: bool) -> gallery.Totals:
        """Return what stands above the pictures."""
        return gallery.Totals(
            title=folder.resolve().name,
            states=self.in_order(),
            spent=money.spent,
            reserved=money.reserved,
            simulated=simulated,
        )

    def in_order(self) -> dict[str, int]:
        """Return the states, the good ones first."""
        words = [gallery.WORDS["COMPLETED"], gallery.UNSAVED, *gallery.WORDS.values()]
        return {word: self.states[word] for word in words if self.states[word]}

    def lines(
        self, folder: Path, money: Statistics, *, seconds: float, simulated: bool
    ) -> Iterator[str]:
        """Give what people want to know at the end."""
        how = ", ".join(f"{number:,} {state}" for state, number in self.in_order().items())
        spent = f"{dollars(money.spent)} spent"
        if simulated:
            spent += " (simulated: nothing was bought)"
        if money.reserved:
            spent += f", {dollars(money.reserved)} may still be billed"
        items = counted(sum(self.states.values()), "item")
        yield f"{items}: {how or 'nothing to do'}. {spent}, {seconds:.1f} s."
        if self.left:
            yield (
                f"{counted(len(self.left), 'task')} left at the provider, and paid for. "
                "Each picture is fetched, at no further cost, with:"
            )
            yield from (f"  fluxflex wait {task_id}" for task_id in self.left[:_NAMED])
        if len(self.left) > _NAMED:
            yield f"  … and {len(self.left) - _NAMED:,} more, named in {places.RESULTS}"
        pictures = counted(self.saved, "picture")
        yield f"{pictures} in {folder}. To look at them: {folder / places.GALLERY}"
