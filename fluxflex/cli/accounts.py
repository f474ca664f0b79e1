"""`fluxflex account` and `price`: what there is to spend, and what it would buy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs

from fluxflex import Account, GenerateRequest, Session
from fluxflex.cli import money
from fluxflex.cli.exits import Code, UsageError
from fluxflex.cli.results import Row, as_line
from fluxflex.cli.source import open_source, survey
from fluxflex.cli.talk import Talk, counted, dollars, printable
from fluxflex.cli.target import Target

_QUALITIES = ("1K", "2K")
_SIMULATED = "Simulated: play money."


async def account(target: Target, talk: Talk, *, as_json: bool) -> int:
    """Tell what the account holds, and return the exit code.

    Raises:
        FluxFlexError: there is no key, it is not accepted, or there is no answer.
    """
    with talk.busy("Asking for the account"):
        found = await money.look(target)
    if target.simulate:
        talk.say(_SIMULATED)
    if as_json:
        row: Row = attrs.asdict(found) | {"balance_usd": float(found.balance_usd)}
        talk.out(as_line(row | ({"simulated": True} if target.simulate else {})))
    else:
        for line in _words(found):
            talk.out(printable(line))
    return Code.DONE


def _words(found: Account) -> Iterator[str]:
    price = _table().price
    costs = {name: price({"prompt": "any", "quality": name}) for name in _QUALITIES}
    enough = (f"{max(found.balance_usd, Decimal(0)) // costs[name]:,} at {name}" for name in costs)
    yield f"Balance: {dollars(found.balance_usd)}, enough for pictures: {' or '.join(enough)}"
    if found.user_id is not None:
        yield f"User: {found.user_id}"
    if found.email is not None:
        yield f"Email: {found.email}"
    if found.restricted_until is not None:
        yield f"Restricted: it may not generate until {_when(found.restricted_until)}"


def _when(seconds: float) -> str:
    """Return seconds since the epoch as a date; as they are where they are none."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def _table() -> Session:
    # Prices and rules need no connection, so this session is never opened and its key never used.
    return Session("unused")


@attrs.define
class _Bill:
    """What requests cost, by quality."""

    count: dict[str, int] = attrs.field(factory=dict)
    cost: dict[str, Decimal] = attrs.field(factory=dict)
    table: Session = attrs.field(factory=_table)

    def add(self, fields: Mapping[str, object]) -> Decimal:
        """Add a request, and return its price.

        Raises:
            InvalidRequestError: it is none.
        """
        request = GenerateRequest.from_dict(fields)
        price = self.table.price(request)
        self.count[request.quality] = self.count.get(request.quality, 0) + 1
        self.cost[request.quality] = self.cost.get(request.quality, Decimal(0)) + price
        return price

    @property
    def total(self) -> Decimal:
        """What all of them cost."""
        return sum(self.cost.values(), Decimal(0))

    def row(self) -> Row:
        """Return it for programs."""
        by_quality = {
            name: {"count": self.count[name], "estimate_usd": float(self.cost[name])}
            for name in sorted(self.count)
        }
        return {
            "count": sum(self.count.values()),
            "estimate_usd": float(self.total),
            "by_quality": by_quality,
        }

    def lines(self) -> Iterator[str]:
        """Return it for people."""
        each = [
            f"{counted(self.count[name], 'picture')} at {name}: {dollars(self.cost[name])}"
            for name in sorted(self.count)
        ]
        yield from each
        if len(each) != 1:
            pictures = counted(sum(self.count.values()), "picture")
            yield f"{pictures} in all: {dollars(self.total)}"


@attrs.frozen(kw_only=True)
class Question:
    """What is to be priced.

    Attributes:
        source: a file's name, or `-`; `None` for one request.
        fields: what the options say of each request.
        simulate: whether it is a rehearsal. as_json: whether stdout gets an object.
    """

    source: str | None
    fields: dict[str, Any]
    simulate: bool = False
    as_json: bool = False


def price(question: Question, talk: Talk) -> int:
    """Tell what one request or a whole source would cost, and return the exit code.

    Raises:
        UsageError: the source cannot be read, or there is a prompt beside it.
        InvalidRequestError: the options are no request.
    """
    bill = _Bill()
    if question.source is None:
        bill.add({"prompt": "any", **question.fields})
    elif "prompt" in question.fields:
        raise UsageError("SOURCE and --prompt exclude each other.")
    elif not _count(question.source, question.fields, bill, talk):
        return Code.INVALID
    if question.simulate:
        talk.say("Simulated: a rehearsal asks for the same prices, in play money.")
    if question.as_json:
        talk.out(as_line(bill.row() | ({"simulated": True} if question.simulate else {})))
    else:
        for line in bill.lines():
            talk.out(line)
    return Code.DONE


def _count(name: str, fields: dict[str, Any], bill: _Bill, talk: Talk) -> bool:
    """Add up a source; false where some of its lines are no requests."""
    bill.table.price({"prompt": "the options alone", **fields})
    source = open_source(name)
    for note in source.notes:
        talk.say(note)
    found = survey(source, fields, bill.add)
    for words in found.complaints():
        talk.say(words, style="red")
    if found.faults:
        lines = counted(len(found.faults), "line")
        talk.complain(f"{lines} of {found.count:,} cannot be used.")
    if not found.count:
        talk.say(f"{source.name} holds no prompts.")
    return not found.faults
