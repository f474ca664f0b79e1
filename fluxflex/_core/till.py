"""What each step of a task means in money: the budget, told by the registry's changes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from fluxflex._core.budget import Budget
from fluxflex._core.lifecycle import Change, Completed, Key, LeftUncertain, TaskRecord
from fluxflex._core.request import GenerateRequest, price_of


class Till:
    """Pays for tasks.

    Args:
        budget: what is reserved and spent.
        prices: USD by quality.
    """

    def __init__(self, budget: Budget, prices: Mapping[str, Decimal]) -> None:
        self.budget = budget
        self._prices = prices

    def __repr__(self) -> str:
        return repr(self.budget)

    def reserve(self, key: Key, request: GenerateRequest) -> None:
        """Set the price of a request aside.

        Raises:
            BudgetExceededError: it does not fit.
        """
        self.budget.reserve(key, price_of(request, self._prices))

    def reserve_again(self, key: Key, request: GenerateRequest) -> None:
        """Set money aside for one more attempt, beside what the uncertain one may have cost.

        Raises:
            BudgetExceededError: it does not fit.
        """
        self.budget.keep(key)
        self.reserve(key, request)

    def release(self, key: Key) -> None:
        """Give back what was set aside for an attempt that was not accepted."""
        self.budget.release(key)

    def note(self, change: Change) -> None:
        """Take one step of a task into account."""
        event, after = change.event, change.after
        if isinstance(event, LeftUncertain):
            self.budget.keep(after.key)
        if change.names:
            self.budget.spend(after.key)
        request = after.request if after.attempts else None  # bought by us
        if isinstance(event, Completed) and event.cost is not None and request is not None:
            self.budget.correct(price_of(request, self._prices), event.cost)

    def cost_of(self, record: TaskRecord) -> Decimal | None:
        """Return what a task costs in USD: what the provider says, else the table's price."""
        if record.result is not None and record.result.cost is not None:
            return record.result.cost
        return None if record.request is None else price_of(record.request, self._prices)
