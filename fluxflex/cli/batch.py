"""`fluxflex batch`: everything that is checked, counted and asked before the first item is sent."""

from __future__ import annotations

from decimal import Decimal

import attrs

from fluxflex import Session
from fluxflex.cli import hints, money, places, prospect, stock
from fluxflex.cli.exits import Code, UsageError
from fluxflex.cli.order import Order
from fluxflex.cli.plan import Plan
from fluxflex.cli.prospect import Prospect
from fluxflex.cli.results import Row, as_line
from fluxflex.cli.run import Run
from fluxflex.cli.source import FileSource, Source, Survey, open_source, survey
from fluxflex.cli.stock import Stock
from fluxflex.cli.talk import Talk, counted, dollars
from fluxflex.cli.target import run
from fluxflex.errors import JournalError


@attrs.frozen
class Look:
    """What a look through a source found.

    Attributes:
        survey: its items and its faults; the estimate is for what is to be bought.
        ahead: what a run would do with them.
    """

    survey: Survey
    ahead: Prospect


def batch(order: Order, talk: Talk) -> int:
    """Check everything, ask where that is due, run, and return the exit code.

    Raises:
        UsageError: it cannot be done as it is written; nothing was bought.
        FluxFlexError: nothing could be begun.
    """
    try:
        return _batch(order, talk)
    except JournalError as error:
        raise hints.in_folder(error, chosen=True) from None


def _batch(order: Order, talk: Talk) -> int:
    source = open_source(order.source)
    found = _stock(order)
    agreed = order.agreed or order.budget is not None or order.dry_run
    countable = isinstance(source, FileSource)
    if found.empty or not countable:
        money.check_consent(talk, order.target, agreed=agreed, countable=countable)
    look = _look(source, order, found, talk) if countable or order.dry_run else None
    if look is None:
        return _run(order, source, found, talk)
    if look.survey.faults:
        return Code.INVALID
    if order.dry_run or order.out is None:
        return _count_only(order, talk, look, found)
    if not look.survey.count:
        talk.say(f"{source.name} holds no prompts: there is nothing to do.")
        return Code.DONE
    _refuse_strangers(order, look, found)
    for line in look.ahead.lines():
        talk.say(line)
    if not (look.ahead.buy and order.target.costs_money and not agreed):
        if look.ahead.warning:
            talk.say(look.ahead.warning, style="yellow")
        return _run(order, source, found, talk, estimate=look.survey.estimate)
    money.check_consent(talk, order.target, agreed=False, countable=True)
    if not _agrees(order, talk, look, found):
        talk.say("Nothing was bought.")
        return Code.OTHER
    return _run(order, source, found, talk, estimate=look.survey.estimate, told=True)


def _stock(order: Order) -> Stock:
    """Return what the folder has; nothing where it is new."""
    if order.out is None:
        if not order.dry_run:
            raise UsageError("Say where the pictures go: -o DIR.")
        return Stock()
    if not places.check_folder(order.out):
        return Stock()
    places.check_kind(order.out, simulate=order.target.simulate)
    return run(stock.take(order.out))


def _look(source: Source, order: Order, found: Stock, talk: Talk) -> Look:
    """Look through the whole source, and name every line that is no request."""
    # Prices and rules need no connection, so this session is never opened and its key never used.
    price = Session("unused", base_url=order.target.base_url).price
    price({"prompt": "the defaults alone", **order.defaults})
    for note in source.notes:
        talk.say(note)
    ahead = Prospect(found, price, order.again, simulated=order.target.simulate)
    seen = survey(source, order.defaults, ahead.price)
    for complaint in seen.complaints():
        talk.say(complaint, style="red")
    if seen.faults:
        lines = counted(len(seen.faults), "line")
        talk.complain(f"{lines} of {seen.count:,} cannot be used. Nothing was bought.")
    return Look(seen, ahead)


def _refuse_strangers(order: Order, look: Look, found: Stock) -> None:
    """Refuse to buy into a folder of another source, which this one is probably not meant for."""
    if found.sent and not look.ahead.known and not order.agreed:
        raise prospect.strangers(order.source, order.folder, found.sent)


def _agrees(order: Order, talk: Talk, look: Look, found: Stock) -> bool:
    return money.ask(
        talk,
        order.target,
        count=look.ahead.buy,
        estimate=look.survey.estimate,
        warning=look.ahead.warning,
        journal=None if found.empty else order.folder / places.JOURNAL,
    )


def _count_only(order: Order, talk: Talk, look: Look, found: Stock) -> int:
    ahead, estimate = look.ahead, look.survey.estimate
    for line in ahead.lines():
        talk.say(line)
    if ahead.warning:
        talk.say(ahead.warning, style="yellow")
    talk.say(
        f"{counted(ahead.buy, 'picture')} for about {dollars(estimate)}. "
        "This was a dry run: nothing was bought."
    )
    if found.sent and not ahead.known and not order.agreed:
        talk.say(str(prospect.strangers(order.source, order.folder, found.sent)), style="yellow")
    if order.as_json:
        counts: Row = {"count": ahead.buy, "estimate_usd": float(estimate)}
        if not found.empty:
            kinds = (prospect.DONE, prospect.FAILED, prospect.RUNNING, prospect.UNCERTAIN)
            counts |= {kind: ahead.counts[kind] for kind in kinds}
        talk.out(as_line(counts))
    return Code.DONE


def _run(
    order: Order,
    source: Source,
    found: Stock,
    talk: Talk,
    *,
    estimate: Decimal | None = None,
    told: bool = False,
) -> int:
    plan = Plan(order=order, source=source, stock=found, estimate=estimate, told=told)
    return run(Run(plan, talk).run())
