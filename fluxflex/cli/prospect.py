"""What a run of a source would do in a folder: what is told again, followed, and bought."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from decimal import Decimal

from fluxflex import GenerateRequest, TaskState
from fluxflex.cli import hints
from fluxflex.cli.exits import UsageError
from fluxflex.cli.overview import GOES_ON
from fluxflex.cli.source import BadLine, Item, Source
from fluxflex.cli.stock import Stock, Walk
from fluxflex.cli.talk import counted, dollars
from fluxflex.errors import InvalidRequestError

DONE, FAILED, RUNNING, UNCERTAIN, BUY = "done", "failed", "running", "uncertain", "buy"


def _kind(state: TaskState) -> str:
    if state in GOES_ON:
        return RUNNING
    return _KINDS.get(state, BUY)


_KINDS = {
    TaskState.COMPLETED: DONE,
    TaskState.FAILED: FAILED,
    TaskState.UNCERTAIN: UNCERTAIN,
}


class Prospect:
    """Counts the items of a source by what a run would do with them.

    Args:
        found: what the folder has.
        price: USD of a request.
        again: the states in which an item is submitted once more.
        simulated: whether it is a rehearsal.

    Attributes:
        counts: items by what they are. known: those that were sent before.
        buy: how many are to be bought, those that are submitted once more included.
        twice: how many of them may be paid for twice, and twice_usd: for how much.
        counted: USD that the folder has spent or set aside.
    """

    def __init__(
        self,
        found: Stock,
        price: Callable[[GenerateRequest], Decimal],
        again: Collection[TaskState] = (),
        *,
        simulated: bool = False,
    ) -> None:
        self._simulated = simulated
        self.counts: Counter[str] = Counter()
        self.known = self.buy = self.twice = 0
        self.twice_usd = Decimal(0)
        self.counted = found.total.spent + found.total.reserved
        self._walk = None if found.empty else Walk(found)
        self._price = price
        self._again = {_kind(state) for state in again}

    def price(self, fields: Mapping[str, object]) -> Decimal:
        """Count an item; return what it will cost in USD.

        Raises:
            InvalidRequestError: it is no request.
        """
        request = GenerateRequest.from_dict(fields)
        match = None if self._walk is None else self._walk.find(request.digest)
        kind = BUY if match is None else _kind(match[1])
        self.counts[kind] += 1
        self.known += kind != BUY
        if kind != BUY and kind not in self._again:
            return Decimal(0)
        price = self._price(request)
        self.buy += 1
        if kind == UNCERTAIN:
            self.twice += 1
            self.twice_usd += price
        return price

    def lines(self) -> Iterator[str]:
        """Give what is there already, and what becomes of it."""
        found = self.counts
        if found[DONE]:
            yield f"{counted(found[DONE], 'item')} done before: not bought again."
        if found[RUNNING]:
            where = "in the simulation" if self._simulated else "at the provider, paid for"
            yield f"{counted(found[RUNNING], 'item')} still running {where}: not bought again."
        if found[FAILED] and FAILED in self._again:
            yield f"{counted(found[FAILED], 'item')} failed before: bought once more."
        elif found[FAILED]:
            yield (
                f"{counted(found[FAILED], 'item')} failed before: not bought again "
                "(--retry-failed does)."
            )
        if found[UNCERTAIN] and not self.twice:
            yield (
                f"{counted(found[UNCERTAIN], 'item')} uncertain, may have been billed: not bought "
                f"again ({hints.AGAIN} does)."
            )

    @property
    def warning(self) -> str:
        """What may be paid for twice, as a sentence; blank where nothing may."""
        if not self.twice:
            return ""
        return (
            f"{counted(self.twice, 'picture')} of these may have been billed before: "
            f"{dollars(self.twice_usd)} may be paid twice."
        )


def strangers(name: str, folder: object, known: int) -> UsageError:
    """Return the refusal of a source that has nothing to do with its folder."""
    return UsageError(
        f"{folder} holds {counted(known, 'item')} of another batch: none of them is asked for by "
        f"{name} as it is now, with these options. Nothing was bought. If all of it is to be "
        "bought into the same folder, add --yes; else choose another -o."
    )


def needed(source: Source, defaults: Mapping[str, object], ahead: Prospect) -> Decimal | None:
    """Return the USD that all runs of a source take together; `None` where nobody can say.

    Args:
        source: to be run again.
        defaults: fields for the items that do not set them.
        ahead: a fresh prospect of the folder as it is.
    """
    if source.total is None:
        return None
    total = ahead.counted
    try:
        for item in source.again():
            if not isinstance(item, BadLine):
                with contextlib.suppress(InvalidRequestError):
                    total += ahead.price({**defaults, **item})
    except OSError:
        return None
    return total


async def known_first(
    items: AsyncIterator[Item], found: Stock, defaults: Mapping[str, object], folder: object
) -> AsyncIterator[Item]:
    """Give the items of a pipe, of which nobody can know beforehand what they will be.

    Its first request tells whether it is the pipe that began the folder.

    Raises:
        UsageError: it is not.
    """
    first = True
    async for item in items:
        if first and not isinstance(item, BadLine):
            first = False
            if not _has(found, {**defaults, **item}):
                raise strangers("stdin", folder, found.sent)
        yield item


def unread(
    source: Source, defaults: Mapping[str, object], found: Stock
) -> Iterator[tuple[int, GenerateRequest | Mapping[str, object] | None]]:
    """Give the items that no run has read, with the indexes that they would get.

    Raises:
        OSError: the source cannot be read once more.
    """
    walk, index = Walk(found), found.last
    for item in source.again():
        asked = None if isinstance(item, BadLine) else _asked({**defaults, **item})
        if isinstance(asked, GenerateRequest) and walk.find(asked.digest):
            continue
        yield index, asked
        index += 1


def _asked(fields: Mapping[str, object]) -> GenerateRequest | Mapping[str, object]:
    """Return the request of an item that was checked, unless its file was changed since."""
    try:
        return GenerateRequest.from_dict(fields)
    except InvalidRequestError:
        return fields


def _has(found: Stock, fields: Mapping[str, object]) -> bool:
    asked = _asked(fields)
    return isinstance(asked, GenerateRequest) and asked.digest in found.known
