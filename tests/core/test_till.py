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
    TaskRecord,
    TaskState,
    TimedOut,
    TurnedAway,
)
from fluxflex._core.registry import Registry
from fluxflex._core.request import PRICES, GenerateRequest
from fluxflex._core.till import Till
from fluxflex.errors import (
    BudgetExceededError,
    ConfigurationError,
    GenerationError,
    SubmitUncertainError,
    TaskTimeoutError,
)

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


# -- prices that are asked for ----------------------------------------------------------------


def test_a_quote_holds_for_its_setting() -> None:
    """A request of the same setting has the same price; another setting has none yet."""
    till = Till(Budget(), {}, lambda request: (request.quality, request.steps))
    assert till.price(REQUEST) is None
    till.quoted(REQUEST, Decimal("0.045"))
    alike = GenerateRequest("another", quality="2K", aspect_ratio="1:1")
    assert till.price(alike) == Decimal("0.045")
    assert till.price(GenerateRequest("a", quality="2K", steps=5)) is None
    assert till.price(GenerateRequest("a")) is None


def test_the_table_wins_over_a_quote() -> None:
    """What the user or the provider published is not asked for, and not replaced."""
    till = Till(Budget(), PRICES)
    till.quoted(REQUEST, Decimal(9))
    assert till.price(REQUEST) == PRICE


def test_without_a_price_no_budget_can_be_kept() -> None:
    """Under a limit it is refused and nothing set aside; without one it is set aside as nothing."""
    till = Till(Budget(Decimal(1)), {})
    with pytest.raises(ConfigurationError, match="No price is known for quality 2K") as caught:
        till.reserve(1, REQUEST)
    assert "prices" in caught.value.hint
    assert till.budget.reserved == 0
    till.quoted(REQUEST, Decimal("0.045"))
    till.reserve(1, REQUEST)
    assert till.budget.held(1) == Decimal("0.045")
    free = Till(Budget(), {})
    free.reserve(1, REQUEST)
    assert (free.budget.reserved, free.price(REQUEST)) == (NOTHING, None)


# -- what the journal is told -----------------------------------------------------------------


def told(*events: TaskEvent) -> list[Decimal | None]:
    """Return what each step tells of the cost of a task."""
    till, registry = Till(Budget(), PRICES), Registry()
    key = registry.open(REQUEST, 0.0).key
    till.reserve(key, REQUEST)
    found = []
    for event in events:
        change = registry.apply(key, event, 1.0)
        assert change is not None
        till.note(change)
        found.append(till.told(change))
    return found


DONE, PRICED = (
    Completed("t", ("http://a/b",)),
    Completed("t", ("http://a/b",), Decimal("0.05")),
)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((Sent(), TurnedAway()), [None, None]),
        ((Sent(), UNCERTAIN), [None, None]),
        ((Sent(), UNCERTAIN, Accepted("t")), [None, None, PRICE]),
        ((Sent(), Accepted("t"), DONE), [None, PRICE, None]),
        ((Sent(), Accepted("t"), FAILED), [None, PRICE, None]),
        ((Sent(), Accepted("t"), PRICED), [None, PRICE, Decimal("0.05")]),
        ((Sent(), PRICED), [None, Decimal("0.05")]),
        ((Sent(), DONE), [None, PRICE]),
    ],
)
def test_what_a_step_tells_of_the_cost(
    events: tuple[TaskEvent, ...], expected: list[Decimal | None]
) -> None:
    """The price with the id, the provider's own figure when it comes, else nothing new."""
    assert told(*events) == expected


GIVEN_UP = TimedOut(TaskTimeoutError(task_id="t", seconds=1))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param((DONE,), NOTHING, id="nothing told"),
        pytest.param((FAILED,), NOTHING, id="failed"),
        pytest.param((PRICED,), Decimal("-0.05"), id="told"),
        pytest.param((GIVEN_UP, PRICED), Decimal("-0.05"), id="given up and told late"),
        pytest.param((GIVEN_UP, Attached("t"), PRICED), Decimal("-0.05"), id="taken up again"),
    ],
)
def test_what_an_earlier_session_counted_is_corrected(
    events: tuple[TaskEvent, ...], expected: Decimal
) -> None:
    """By what the journal has of it, not by the table of today; and once."""
    till, registry = Till(Budget(), PRICES), Registry()
    record = TaskRecord(
        key=5, request=REQUEST, created=0.0, state=TaskState.RUNNING, task_id="t", attempts=1
    )
    registry.restore(record)
    till.recall(5, Decimal("0.10"))
    for event in events:
        change = registry.apply(5, event, 1.0)
        assert change is not None
        till.note(change)
    assert (till.budget.earlier, till.budget.spent, till.budget.reserved) == (
        expected,
        NOTHING,
        NOTHING,
    )
