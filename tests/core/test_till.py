"""What each step of a task means in money."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fluxflex._core.budget import Budget
from fluxflex._core.lifecycle import (
    Accepted,
    Attached,
    Completed,
    Failed,
    LeftUncertain,
    Sent,
    TaskEvent,
)
from fluxflex._core.registry import Registry
from fluxflex._core.request import PRICES, GenerateRequest
from fluxflex._core.till import Till
from fluxflex.errors import BudgetExceededError, GenerationError, SubmitUncertainError

REQUEST = GenerateRequest("a", quality="2K")
PRICE = Decimal("0.06")
NOTHING = Decimal(0)


def books(*events: TaskEvent, request: GenerateRequest | None = REQUEST) -> tuple[Decimal, Decimal]:
    """Return what is spent and what is reserved after these steps of one task."""
    till, registry = Till(Budget(), PRICES), Registry()
    key = registry.open(request, 0.0).key
    if request is not None:
        till.reserve(key, request)
    for event in events:
        change = registry.apply(key, event, 1.0)
        assert change is not None
        till.note(change)
    return till.budget.spent, till.budget.reserved


UNCERTAIN = LeftUncertain(SubmitUncertainError("no answer", phase="sent"))
FAILED = Failed(GenerationError(task_id="t"))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((), (NOTHING, PRICE)),
        ((Sent(),), (NOTHING, PRICE)),
        ((Sent(), Accepted("t")), (PRICE, NOTHING)),
        ((Sent(), Accepted("t"), FAILED), (PRICE, NOTHING)),
        ((Sent(), Completed("t", ("http://a/b",))), (PRICE, NOTHING)),
        (
            (Sent(), Accepted("t"), Completed("t", ("http://a/b",), Decimal("0.05"))),
            (Decimal("0.05"), NOTHING),
        ),
        ((Sent(), UNCERTAIN), (NOTHING, PRICE)),
        ((Sent(), UNCERTAIN, Accepted("t")), (PRICE, NOTHING)),
    ],
)
def test_each_step_moves_the_money_once(
    events: tuple[TaskEvent, ...], expected: tuple[Decimal, Decimal]
) -> None:
    """Reserved until accepted, kept while uncertain, spent once, corrected by a reported cost."""
    assert books(*events) == expected


@pytest.mark.parametrize("request_given", [None, REQUEST])
def test_a_task_that_others_bought_costs_this_session_nothing(
    request_given: GenerateRequest | None,
) -> None:
    """An attached task was paid for elsewhere, whatever its reply says that it cost."""
    till, registry = Till(Budget(), PRICES), Registry()
    key = registry.open(request_given, 0.0).key
    for event in (Attached("t"), Completed("t", ("http://a/b",), Decimal("0.05"))):
        change = registry.apply(key, event, 1.0)
        assert change is not None
        till.note(change)
    assert (till.budget.spent, till.budget.reserved) == (NOTHING, NOTHING)


def test_an_attempt_after_an_uncertain_one_is_paid_beside_it() -> None:
    """Both may be billed, so both are set aside, and a refused one gives back its own only."""
    till = Till(Budget(Decimal("0.12")), PRICES)
    till.reserve(1, REQUEST)
    till.reserve_again(1, REQUEST)
    assert till.budget.reserved == 2 * PRICE
    with pytest.raises(BudgetExceededError):
        till.reserve(2, REQUEST)
    till.release(1)
    assert till.budget.reserved == PRICE


def test_the_cost_is_what_the_provider_says_else_the_price() -> None:
    """A reported cost wins over the table; without a request there is no price to name."""
    till, registry = Till(Budget(), PRICES), Registry()
    asked, foreign = registry.open(REQUEST, 0.0), registry.open(None, 0.0)
    assert (till.cost_of(asked), till.cost_of(foreign)) == (PRICE, None)
    registry.apply(foreign.key, Completed("t", ("http://a/b",), Decimal("0.05")), 1.0)
    told = registry.get(foreign.key)
    assert told is not None
    assert till.cost_of(told) == Decimal("0.05")


def test_it_shows_the_money() -> None:
    """The repr is the budget's: amounts, and nothing else."""
    assert repr(Till(Budget(), PRICES)) == repr(Budget())
