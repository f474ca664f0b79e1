"""The commands that go on with a batch, with a budget that is enough for them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import attrs

from fluxflex import GenerateRequest, TaskState
from fluxflex.cli import hints, prospect
from fluxflex.cli.plan import Plan
from fluxflex.cli.prospect import Prospect
from fluxflex.cli.stock import Stock
from fluxflex.cli.talk import dollars

_AGAIN = {"--retry-failed": TaskState.FAILED, hints.AGAIN: TaskState.UNCERTAIN}


@attrs.define
class Ways:
    """Makes the commands that go on.

    Args:
        plan: what was run. after: what the folder has now.
        price: USD of a request.
    """

    _plan: Plan
    _after: Stock
    _price: Callable[[GenerateRequest], Decimal]
    _raised: bool = False

    def line(self, *more: str, enough: bool) -> str:
        """Return a command, with more options; `enough` raises a budget that falls short."""
        order = self._plan.order
        if order.budget is None or not enough:
            return order.line(*more)
        # What the command says itself: who resubmitted once does not by carrying on.
        again = {_AGAIN[word] for word in more}
        again |= {TaskState.FAILED} if order.retry_failed else set()
        ahead = Prospect(self._after, self._price, again)
        needed = prospect.needed(self._plan.source, order.defaults, ahead)
        if needed is None or needed <= order.budget:
            return order.line(*more)
        self._raised = True
        amount = dollars(needed).strip("$").replace(",", "")
        return attrs.evolve(order, budget=Decimal(amount)).line(*more)

    def note(self, *, short: bool) -> str:
        """Return what the commands need besides; `short`: the budget was used up."""
        needs = ["with the same lines on stdin"] if self._plan.order.source == "-" else []
        if self._raised:
            needs.append("with a budget that is enough for it")
        elif short:
            needs.append("with a higher --budget")
        return f", {' and '.join(needs)}" if needs else ""
