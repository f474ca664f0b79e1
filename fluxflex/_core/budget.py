"""Money: what is reserved, what is spent, and whether the next request fits.

A price is reserved before the POST. A definite refusal releases it; an accepted task spends it
(at the provider's reported cost, where one comes); an uncertain submit keeps it reserved, since
it may have been billed. Failed tasks count as spent: the provider does not say that they are
free. What a journal counted in earlier sessions takes room as well.
"""

from __future__ import annotations

from decimal import Decimal

from fluxflex._core.lifecycle import Key
from fluxflex.errors import BudgetExceededError

_NOTHING = Decimal(0)


class Budget:
    """Reservations against an optional limit, all in USD.

    Attributes:
        earlier: what the journal brought along, spent and still uncertain.
    """

    def __init__(self, limit: Decimal | None = None) -> None:
        self.limit = limit
        self.earlier = _NOTHING
        self.spent = _NOTHING
        self.reserved = _NOTHING
        self._in_air: dict[Key, Decimal] = {}
        self._uncertain: dict[Key, Decimal] = {}

    def __repr__(self) -> str:
        limit = "no limit" if self.limit is None else f"of ${self.limit}"
        return f"<Budget: ${self.spent} spent, ${self.reserved} reserved, {limit}>"

    def reserve(self, key: Key, price: Decimal) -> None:
        """Set the price of a request aside.

        Raises:
            BudgetExceededError: it does not fit.
        """
        spent = self.earlier + self.spent
        if self.limit is not None and spent + self.reserved + price > self.limit:
            raise BudgetExceededError(
                budget=self.limit, spent=spent, reserved=self.reserved, price=price
            )
        self.reserved += price
        self._in_air[key] = price

    def release(self, key: Key) -> None:
        """Give back what was set aside: the request was not accepted."""
        self.reserved -= self._in_air.pop(key, _NOTHING)

    def keep(self, key: Key) -> None:
        """Keep it reserved: nobody knows whether the request was accepted."""
        price = self._in_air.pop(key, _NOTHING)
        self._uncertain[key] = self._uncertain.get(key, _NOTHING) + price

    def drop(self, key: Key) -> None:
        """Give back all that is still set aside for a task: what it cost is spent."""
        self.reserved -= self._in_air.pop(key, _NOTHING) + self._uncertain.pop(key, _NOTHING)

    def spend(self, key: Key) -> None:
        """Turn what was set aside into what is spent: the request was accepted."""
        source = self._in_air if key in self._in_air else self._uncertain
        price = source.pop(key, _NOTHING)
        self.reserved -= price
        self.spent += price

    def held(self, key: Key) -> Decimal:
        """Return what is set aside for a task: in the air, or uncertain."""
        return self._in_air.get(key, _NOTHING) + self._uncertain.get(key, _NOTHING)

    def correct(self, price: Decimal, cost: Decimal) -> None:
        """Replace the table's price by what the provider says that a task cost."""
        self.spent += cost - price
