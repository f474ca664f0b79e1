"""What a run adds up to: how many items ended how, the money, and what is left behind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import attrs

from fluxflex import JournalEntry, Outcome, TaskState
from fluxflex.cli import exits, gallery, hints, places
from fluxflex.cli.overview import GOES_ON, Sum
from fluxflex.cli.stock import Stock, added
from fluxflex.cli.talk import counted, dollars
from fluxflex.errors import FluxFlexError, InvalidRequestError, RequestRejectedError

_NAMED = 10
_PROMPT = 60
_WORDS = tuple(dict.fromkeys(["completed", gallery.UNSAVED, *gallery.WORDS.values()]))


@attrs.define
class Tally:
    """Counts outcomes.

    Attributes:
        codes: the exit codes that fit.
        told: outcomes. replayed: those of them that were told again from an earlier run.
        made: pictures of this run. open: what was not sent, and may be by the same command.
        states: how the items stand.
    """

    codes: set[int] = attrs.field(factory=set)
    told: int = 0
    replayed: int = 0
    made: int = 0
    open: int = 0
    states: Counter[TaskState] = attrs.field(factory=Counter)

    @property
    def done(self) -> int:
        """How many have ended, well or not."""
        return self.states[TaskState.COMPLETED] + self.states[TaskState.FAILED]

    @property
    def left_running(self) -> int:
        """How many the provider still works on, without anybody waiting for them."""
        return sum(self.states[state] for state in GOES_ON)

    def count(self, outcome: Outcome, error: FluxFlexError | None) -> None:
        """Count an outcome; `error` is why it did not end well."""
        self.told += 1
        self.states[outcome.state] += 1
        self.replayed += outcome.replayed
        self.made += outcome.state is TaskState.COMPLETED and not outcome.replayed
        if error is None:
            return
        refused = isinstance(error, InvalidRequestError | RequestRejectedError)
        self.open += outcome.state is TaskState.QUEUED and not refused
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
            submit once more. note: what these three need besides.
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
    note: str = ""
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
            yield f"To try what failed once more{self.note}:\n  {self.retry}"
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
        one = len(unsure) == 1
        verb, them = ("is", "it") if one else ("are", "them")
        billed = "" if self.simulated else ", and may have been billed"
        yield (
            f"{counted(len(unsure), 'item')} {verb} uncertain: sent and never answered{billed}. "
            f"Nothing sends {them} again by itself:"
        )
        yield from (f"  {_named(entry)}" for entry in unsure[:_NAMED])
        if len(unsure) > _NAMED:
            yield f"  … and {len(unsure) - _NAMED:,} more, named in {places.RESULTS}"
        if self.simulated:
            yield f"To submit once more{self.note}:\n  {self._resubmit()}"
        else:
            yield (
                f"Look at the account's usage at {'that time' if one else 'those times'}. To "
                f"submit once more, which may pay twice{self.note}:\n  {self._resubmit()}"
            )

    def _resubmit(self) -> str:
        return self.resubmit or f"the same fluxflex batch command with {hints.AGAIN}"

    def _left(self) -> Iterator[str]:
        yield from still_there(self.stock, self.resume, simulated=self.simulated)
        if self.again is not None:
            what = "nothing is paid twice"
            if "--retry-failed" in self.again:
                what = "what failed is bought once more"
            yield f"To carry on, where {what}{self.note}:\n  {self.again}"

    def _where(self) -> str:
        page = self.folder / places.GALLERY if self.page else None
        if not self.download and self.words.get(gallery.WORDS["COMPLETED"]):
            return f"The links are in {page or self.folder / places.RESULTS}."
        if not self.stock.saved:
            return "No pictures were saved." + (f" What happened to each: {page}" if page else "")
        pictures = f"{counted(self.stock.saved, 'picture')} in {self.folder}."
        return pictures + (f" To look at them: {page}" if page else "")


def still_there(stock: Stock, resume: str, *, simulated: bool) -> Iterator[str]:
    """Give what is left at the provider, and the command that fetches it."""
    if not stock.left:
        return
    running = sum(entry.state in GOES_ON for entry in stock.left)
    what = [f"{counted(running, 'task')} left running"] if running else []
    if unsaved := len(stock.left) - running:
        what.append(f"{counted(unsaved, 'picture')} made and not saved")
    paid = "" if simulated else ", paid for"
    yield f"{', '.join(what)}{paid}. To fetch, at no further cost:\n  {resume}"


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
