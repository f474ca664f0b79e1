"""What a run adds up to: how many items ended how, the money, and what is left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import attrs

from fluxflex import JournalEntry, Outcome, TaskState
from fluxflex.cli import exits, gallery, hints, places
from fluxflex.cli.overview import Sum
from fluxflex.cli.stock import GOES_ON, Stock, added
from fluxflex.cli.talk import counted, dollars
from fluxflex.errors import FluxFlexError

_NAMED = 10
_PROMPT = 60
_WORDS = tuple(dict.fromkeys(["completed", gallery.UNSAVED, *gallery.WORDS.values()]))


@attrs.define
class Tally:
    """Counts outcomes.

    Attributes:
        codes: the exit codes that fit.
        done: outcomes; of them failed, unsent, saved now as pictures, and told again.
        unread: items that the run did not come to.
    """

    codes: set[int] = attrs.field(factory=set)
    done: int = 0
    failed: int = 0
    unsent: int = 0
    saved: int = 0
    replayed: int = 0
    unread: int = 0

    def count(self, outcome: Outcome, error: FluxFlexError | None) -> None:
        """Count an outcome; `error` is why it did not end well."""
        self.done += 1
        self.unsent += outcome.state is TaskState.QUEUED
        self.saved += outcome.path is not None
        self.replayed += outcome.replayed
        if error is None:
            return
        self.failed += outcome.state is not TaskState.QUEUED
        self.codes.add(exits.code_of_item(error))


@attrs.frozen(kw_only=True)
class Ending:
    """How it ended.

    Attributes:
        folder: where everything lies.
        words: how many items of the folder stand how.
        stock: what the journal says now. before: what it said when the run began.
        seconds: how long it took.
        resume: the command that fetches what is left.
        again: the command that carries on, where one was interrupted. retry, resubmit: those that
            submit once more.
        simulated: whether it was a rehearsal.
        page: whether the page was written.
        download: whether pictures were to be saved.
    """

    folder: Path
    words: Mapping[str, int]
    stock: Stock
    before: Stock
    seconds: float
    resume: str
    again: str | None = None
    retry: str | None = None
    resubmit: str | None = None
    simulated: bool = False
    page: bool = True
    download: bool = True

    def totals(self) -> gallery.Totals:
        """Return what stands above the pictures."""
        total = self.stock.total
        return gallery.Totals(
            title=self.folder.resolve().name,
            states=in_order(self.words),
            spent=total.spent,
            reserved=Decimal(0) if self.simulated else total.reserved,
            simulated=self.simulated,
        )

    def lines(self) -> Iterator[str]:
        """Give what people want to know at the end."""
        yield self._all()
        if not self.before.empty:
            yield self._this_run()
        yield from self._uncertain()
        yield from self._left()
        if self.retry is not None and self.words.get(gallery.WORDS["FAILED"]):
            yield f"To try what failed once more:\n  {self.retry}"
        yield self._where()

    def _all(self) -> str:
        states, parts = dict(self.stock.states), in_order(self.words)
        items = counted(sum(parts.values()), "item")
        if self.stock.earlier.count:
            word = "submitted again since"
            parts[word], states[word] = self.stock.earlier.count, self.stock.earlier
        how = self._each(parts, states) or "nothing to do"
        runs = "" if self.before.empty else " in all runs"
        end = f", {self.seconds:.1f} s" if self.before.empty else ""
        return f"{items}: {how}. {self._money(self.stock.total)}{runs}{end}."

    def _this_run(self) -> str:
        fresh = self.stock.fresh
        if not fresh:
            return f"This run bought nothing, {self.seconds:.1f} s."
        total = added(fresh.values())
        how = self._each({word: each.count for word, each in fresh.items()}, fresh)
        return f"This run: {how}. {self._money(total)}, {self.seconds:.1f} s."

    def _each(self, parts: Mapping[str, int], sums: Mapping[str, Sum]) -> str:
        """Return how many stand how, with the money of each where it is not all one."""
        paid = [
            word for word in parts if word in sums and (sums[word].spent or sums[word].reserved)
        ]
        texts = []
        for word, number in parts.items():
            money = f" ({self._amounts(sums[word])})" if len(paid) > 1 and word in paid else ""
            texts.append(f"{number:,} {word}{money}")
        return ", ".join(texts)

    def _amounts(self, each: Sum) -> str:
        parts = [dollars(each.spent)] if each.spent or self.simulated else []
        if each.reserved and not self.simulated:
            parts.append(f"{dollars(each.reserved)} may be billed")
        return ", ".join(parts)

    def _money(self, total: Sum) -> str:
        spent = f"{dollars(total.spent)} spent"
        if self.simulated:
            return f"{spent} (simulated: nothing was bought)"
        return spent + (
            f", {dollars(total.reserved)} may still be billed" if total.reserved else ""
        )

    def _uncertain(self) -> Iterator[str]:
        unsure = self.stock.uncertain
        if not unsure:
            return
        verb = "is" if len(unsure) == 1 else "are"
        billed = "" if self.simulated else ", and may have been billed"
        yield (
            f"{counted(len(unsure), 'item')} {verb} uncertain: sent and never answered{billed}. "
            "Nothing sends it again by itself:"
        )
        yield from (f"  {_named(entry)}" for entry in unsure[:_NAMED])
        if len(unsure) > _NAMED:
            yield f"  … and {len(unsure) - _NAMED:,} more, named in {places.RESULTS}"
        if self.simulated:
            yield f"To submit once more:\n  {self._resubmit()}"
        else:
            yield (
                "Look at the account's usage at those times. To submit once more, which may pay "
                f"twice:\n  {self._resubmit()}"
            )

    def _resubmit(self) -> str:
        return self.resubmit or f"the same fluxflex batch command with {hints.AGAIN}"

    def _left(self) -> Iterator[str]:
        left = self.stock.left
        if left:
            running = sum(entry.state in GOES_ON for entry in left)
            what = [f"{counted(running, 'task')} left running"] if running else []
            if unsaved := len(left) - running:
                what.append(f"{counted(unsaved, 'picture')} made and not saved")
            paid = "" if self.simulated else ", paid for"
            yield f"{', '.join(what)}{paid}. To fetch, at no further cost:\n  {self.resume}"
        if self.again is not None:
            yield f"To carry on, where nothing is paid twice:\n  {self.again}"

    def _where(self) -> str:
        page = self.folder / places.GALLERY if self.page else None
        if not self.download and self.words.get(gallery.WORDS["COMPLETED"]):
            return f"The links are in {page or self.folder / places.RESULTS}."
        if not self.stock.saved:
            return "No pictures were saved." + (f" What happened to each: {page}" if page else "")
        pictures = f"{counted(self.stock.saved, 'picture')} in {self.folder}."
        return pictures + (f" To look at them: {page}" if page else "")


def in_order(words: Mapping[str, int]) -> dict[str, int]:
    """Return how many stand how, the good ones first."""
    return {word: words[word] for word in [*_WORDS, *(set(words) - set(_WORDS))] if words.get(word)}


def _named(entry: JournalEntry) -> str:
    """Return what tells an uncertain item: its number, when it was sent, and its prompt."""
    when = "at a time not known"
    if entry.sent_at is not None:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.sent_at))
    prompt = "" if entry.request is None else " ".join(entry.request.prompt.split())
    short = prompt if len(prompt) <= _PROMPT else f"{prompt[: _PROMPT - 1]}…"
    return f"{entry.number}: sent {when}, {short}"
