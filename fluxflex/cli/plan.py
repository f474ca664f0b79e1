"""What a run is to do: an order whose parts were all checked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import attrs

from fluxflex import GenerateRequest
from fluxflex.cli import order, places, prospect
from fluxflex.cli.order import Order
from fluxflex.cli.source import Item, Source
from fluxflex.cli.stock import Stock


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be run; everything in it was checked.

    Attributes:
        order: what was asked for. source: where the items come from.
        stock: what the folder has from earlier runs.
        estimate: USD for what is to be bought, where that is known.
        told: whether the balance was told already.
    """

    order: Order
    source: Source
    stock: Stock = attrs.field(factory=Stock)
    estimate: Decimal | None = None
    told: bool = False

    @property
    def simulated(self) -> bool:
        """Whether it is a rehearsal."""
        return self.order.target.simulate

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        return self.order.folder

    @property
    def resume(self) -> str:
        """The command that fetches what is left, and buys nothing."""
        return order.resume_line(self.folder, self.order.target)

    def place(self, index: int, request: GenerateRequest) -> Path:
        """Return where an item's picture goes; it gets its suffix from its content."""
        highest = max(self.source.total or 0, self.stock.last)
        return self.folder / places.numbered(index, request.prompt, highest)

    def items(self) -> AsyncIterator[Item]:
        """Give the items of the source."""
        items, asked = self.source.items(), self.order
        if self.source.total is None and self.stock.sent and not asked.agreed:
            return prospect.known_first(items, self.stock, asked.defaults, self.folder)
        return items
