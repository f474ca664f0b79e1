"""`fluxflex batch`: everything that is checked, counted and asked before the first item is sent."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from fluxflex import Session
from fluxflex.cli import money, places
from fluxflex.cli.exits import Code, UsageError
from fluxflex.cli.results import as_line
from fluxflex.cli.run import Plan, Run
from fluxflex.cli.source import NO_TEXT, FileSource, Source, Survey, open_source, survey
from fluxflex.cli.talk import Talk, counted, dollars
from fluxflex.cli.target import Target, run

# Bad lines that are told one by one.
_NAMED = 10


@attrs.frozen(kw_only=True)
class Order:
    """What the command line asks for.

    Attributes:
        source: a file's name, or `-`.
        out: the folder for everything; only a dry run does without.
        target: where requests go.
        defaults: fields for the items that do not set them.
        concurrency: tasks at once. timeout: seconds a task may take.
        budget: USD. agreed: whether `--yes` was given.
        dry_run: only check and count.
        download: whether pictures are saved. as_json: whether stdout gets objects.
    """

    source: str
    out: Path | None
    target: Target
    defaults: dict[str, Any]
    concurrency: int
    timeout: float | None
    budget: Decimal | None
    agreed: bool
    dry_run: bool
    download: bool
    as_json: bool


def batch(order: Order, talk: Talk) -> int:
    """Check everything, ask where that is due, run, and return the exit code.

    Raises:
        UsageError: it cannot be done as it is written; nothing was bought.
        FluxFlexError: nothing could be begun.
    """
    source = open_source(order.source)
    if order.out is not None:
        places.check_folder(order.out)
    elif not order.dry_run:
        raise UsageError("Say where the pictures go: -o DIR.")
    agreed = order.agreed or order.budget is not None or order.dry_run
    countable = isinstance(source, FileSource)
    money.check_consent(talk, order.target, agreed=agreed, countable=countable)
    found = _survey(source, order, talk) if countable or order.dry_run else None
    if found is not None and found.faults:
        return Code.INVALID
    if order.dry_run or order.out is None:
        return _count_only(order, talk, found)
    if found is not None and not found.count:
        talk.say(f"{source.name} holds no prompts: there is nothing to do.")
        return Code.DONE
    if found is not None and not (agreed or _agrees(order, talk, found)):
        talk.say("Nothing was bought.")
        return Code.OTHER
    return run(Run(_plan(order, order.out, source, found), talk).run())


def _agrees(order: Order, talk: Talk, found: Survey) -> bool:
    if not order.target.costs_money:
        return True
    return money.ask(talk, order.target, count=found.count, estimate=found.estimate)


def _survey(source: Source, order: Order, talk: Talk) -> Survey:
    """Look through the whole source, and name every line that is no request."""
    # Prices and rules need no connection, so this session is never opened and its key never used.
    price = Session("unused", base_url=order.target.base_url).price
    price({"prompt": "the defaults alone", **order.defaults})
    found = survey(source, order.defaults, price)
    for fault in found.faults[:_NAMED]:
        talk.say(fault, style="red")
    if len(found.faults) > _NAMED:
        doubt = " Is it a text file in UTF-8?" if _unreadable(found) else ""
        talk.say(f"… and {len(found.faults) - _NAMED:,} more.{doubt}", style="red")
    if found.faults:
        lines = counted(len(found.faults), "line")
        talk.complain(f"{lines} of {found.count:,} cannot be used. Nothing was bought.")
    return found


def _unreadable(found: Survey) -> bool:
    return any(fault.endswith(NO_TEXT) for fault in found.faults)


def _count_only(order: Order, talk: Talk, found: Survey | None) -> int:
    assert found is not None  # noqa: S101 - a dry run always looks
    talk.say(
        f"{counted(found.count, 'picture')} for about {dollars(found.estimate)}. "
        "This was a dry run: nothing was bought."
    )
    if order.as_json:
        talk.out(as_line({"count": found.count, "estimate_usd": float(found.estimate)}))
    return Code.DONE


def _plan(order: Order, folder: Path, source: Source, found: Survey | None) -> Plan:
    return Plan(
        source=source,
        folder=folder,
        target=order.target,
        defaults=order.defaults,
        estimate=None if found is None else found.estimate,
        concurrency=order.concurrency,
        timeout=order.timeout,
        budget=order.budget,
        download=order.download,
        as_json=order.as_json,
    )
