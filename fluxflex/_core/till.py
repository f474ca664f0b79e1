"""What each step of a task means in money: the budget, told by the registry's changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from decimal import Decimal
from operator import attrgetter

from fluxflex._core.budget import Budget
from fluxflex._core.lifecycle import Change, Completed, Key, LeftUncertain, TaskRecord
from fluxflex._core.request import GenerateRequest, price_of
from fluxflex.errors import ConfigurationError

_NOTHING = Decimal(0)


class Till:
    """Pays for tasks.

    Args:
        budget: what is reserved and spent.
        prices: USD by quality.
        setting: what a price that was asked for holds for: requests of one setting cost the same.
    """

    def __init__(
        self,
        budget: Budget,
        prices: Mapping[str, Decimal],
        setting: Callable[[GenerateRequest], Hashable] = attrgetter("quality"),
    ) -> None:
        self.budget = budget
        self._prices = prices
        self._setting = setting
        self._quotes: dict[Hashable, Decimal] = {}
        self._counted: dict[Key, Decimal] = {}

    def __repr__(self) -> str:
        return repr(self.budget)

    def price(self, request: GenerateRequest) -> Decimal | None:
        """Return what a request costs in USD, by the table or a quote; `None` where not known."""
        price = price_of(request, self._prices)
        return self._quotes.get(self._setting(request)) if price is None else price

    def quoted(self, request: GenerateRequest, price: Decimal) -> None:
        """Take the provider's own price of a request, for all of its setting."""
        self._quotes[self._setting(request)] = price

    def reserve(self, key: Key, request: GenerateRequest) -> None:
        """Set the price of a request aside.

        Raises:
            BudgetExceededError: it does not fit.
            ConfigurationError: there is a budget, and the price is not known.
        """
        price = self.price(request)
        if price is None and self.budget.limit is not None:
            raise ConfigurationError(
                f"No price is known for quality {request.quality}, so no budget can be kept",
                hint="Name its price in `prices`, or go without a budget.",
            )
        self.budget.reserve(key, price or _NOTHING)

    def reserve_again(self, key: Key, request: GenerateRequest) -> None:
        """Set money aside for one more attempt, beside what the uncertain one may have cost.

        Raises:
            BudgetExceededError: it does not fit.
        """
        self.budget.keep(key)
        self.reserve(key, request)

    def recall(self, key: Key, counted: Decimal) -> None:
        """Take up a task that was counted before, at another price perhaps."""
        self._counted[key] = counted

    def release(self, key: Key) -> None:
        """Give back what was set aside for an attempt that was not accepted."""
        self.budget.release(key)

    def note(self, change: Change) -> None:
        """Take one step of a task into account."""
        event, after = change.event, change.after
        if change.names:
            self.budget.spend(after.key)
        if isinstance(event, LeftUncertain):
            self.budget.keep(after.key)
        elif isinstance(event, Completed) and event.cost is not None:
            self._correct(after, event.cost)
        if change.ends and after.state.settled:
            self._counted.pop(after.key, None)

    def _correct(self, record: TaskRecord, cost: Decimal) -> None:
        """Take the provider's word for what a task of ours cost."""
        if record.request is None or not record.attempts:
            return  # somebody else bought it
        if record.key in self._counted:
            self.budget.earlier += cost - self._counted[record.key]
        else:
            self.budget.correct(self.price(record.request) or _NOTHING, cost)

    def told(self, change: Change) -> Decimal | None:
        """Return what a step tells of a task's cost in USD; `None` where it tells nothing new."""
        priced = isinstance(change.event, Completed) and change.event.cost is not None
        return self.cost_of(change.after) if change.names or priced else None

    def cost_of(self, record: TaskRecord) -> Decimal | None:
        """Return what a task costs in USD: what the provider says, else the table's price."""
        if record.result is not None and record.result.cost is not None:
            return record.result.cost
        return None if record.request is None else self.price(record.request)
