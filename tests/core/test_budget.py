"""Money: reserved before sending, spent when accepted, kept while uncertain, never over."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fluxflex._core.budget import Budget
from fluxflex._core.lifecycle import Key
from fluxflex.errors import BudgetExceededError

SMALL, LARGE = Decimal("0.04"), Decimal("0.06")
KEYS = st.integers(1, 5)


class BudgetMachine(RuleBasedStateMachine):
    """Drive a budget and a plain model of it side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(Decimal("0.50"))
        self.in_air: dict[Key, Decimal] = {}
        self.uncertain: dict[Key, list[Decimal]] = {}
        self.spent = Decimal(0)

    @property
    def reserved(self) -> Decimal:
        """What the model has set aside."""
        kept = [price for prices in self.uncertain.values() for price in prices]
        return sum([*self.in_air.values(), *kept], Decimal(0))

    @rule(key=KEYS, price=st.sampled_from([SMALL, LARGE]))
    def reserve(self, key: Key, price: Decimal) -> None:
        """A request that is not in the air reserves its price, where it fits."""
        if key in self.in_air:
            return
        if self.spent + self.reserved + price > Decimal("0.50"):
            with pytest.raises(BudgetExceededError) as caught:
                self.budget.reserve(key, price)
            assert (caught.value.spent, caught.value.reserved) == (self.spent, self.reserved)
            assert (caught.value.budget, caught.value.price) == (Decimal("0.50"), price)
        else:
            self.budget.reserve(key, price)
            self.in_air[key] = price

    @rule(key=KEYS)
    def release(self, key: Key) -> None:
        """A definite refusal gives it back; unknown keys give nothing."""
        self.budget.release(key)
        self.in_air.pop(key, None)

    @rule(key=KEYS)
    def keep(self, key: Key) -> None:
        """An uncertain submit keeps it, beside what the same task kept before."""
        self.budget.keep(key)
        if key in self.in_air:
            self.uncertain.setdefault(key, []).append(self.in_air.pop(key))

    @rule(key=KEYS)
    def spend(self, key: Key) -> None:
        """An accepted task spends what is in the air for it, else what was uncertain."""
        self.budget.spend(key)
        if key in self.in_air:
            self.spent += self.in_air.pop(key)
        else:
            self.spent += sum(self.uncertain.pop(key, []), Decimal(0))

    @precondition(lambda self: self.spent >= SMALL)
    @rule(cost=st.sampled_from([Decimal(0), Decimal("0.039"), SMALL]))
    def correct(self, cost: Decimal) -> None:
        """The provider's own figure replaces the table's."""
        self.budget.correct(SMALL, cost)
        self.spent += cost - SMALL

    @invariant()
    def agrees_with_the_model(self) -> None:
        """Budget and model have the same sums, to the cent and below."""
        assert self.budget.spent == self.spent
        assert self.budget.reserved == self.reserved

    @invariant()
    def each_task_has_its_own(self) -> None:
        """What is held for the tasks, one by one, is what is reserved."""
        for key in range(1, 6):
            kept = sum(self.uncertain.get(key, []), Decimal(0))
            assert self.budget.held(key) == self.in_air.get(key, Decimal(0)) + kept
        assert sum(map(self.budget.held, range(1, 6)), Decimal(0)) == self.reserved

    @invariant()
    def never_over_the_limit(self) -> None:
        """What is spent and set aside never exceeds the budget."""
        assert self.budget.spent + self.budget.reserved <= Decimal("0.50")


TestBudget = BudgetMachine.TestCase
TestBudget.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_the_last_cent_may_be_spent() -> None:
    """A request that fits exactly is allowed, the next one is not."""
    budget = Budget(Decimal("0.10"))
    budget.reserve(1, SMALL)
    budget.reserve(2, LARGE)
    with pytest.raises(BudgetExceededError, match=r"\$0\.10 has no room for a request of \$0\.04"):
        budget.reserve(3, SMALL)
    budget.release(2)
    budget.reserve(3, SMALL)
    assert (budget.spent, budget.reserved) == (Decimal(0), Decimal("0.08"))


def test_without_a_limit_it_only_counts() -> None:
    """With no limit nothing is refused."""
    budget = Budget()
    for key in range(10_000):
        budget.reserve(key, LARGE)
        budget.spend(key)
    assert budget.spent == Decimal(600)
    assert budget.reserved == 0


def test_a_resubmitted_attempt_is_paid_beside_the_uncertain_one() -> None:
    """After opting in to sending again the lost attempt stays reserved: it may be billed."""
    budget = Budget(Decimal("0.10"))
    budget.reserve(1, SMALL)
    budget.keep(1)
    budget.reserve(1, SMALL)
    budget.spend(1)
    assert (budget.spent, budget.reserved) == (SMALL, SMALL)
    with pytest.raises(BudgetExceededError):
        budget.reserve(2, SMALL)


def test_the_provider_s_figure_replaces_the_table_s() -> None:
    """What a task really cost counts, to more or to less than its price."""
    budget = Budget(Decimal(1))
    budget.reserve(1, SMALL)
    budget.spend(1)
    budget.correct(SMALL, Decimal("0.0375"))
    assert budget.spent == Decimal("0.0375")
    budget.correct(Decimal("0.0375"), LARGE)
    assert budget.spent == LARGE


def test_nothing_is_given_back_twice() -> None:
    """Releasing, keeping or spending twice moves the money once."""
    budget = Budget(Decimal(1))
    budget.reserve(1, SMALL)
    for _ in range(2):
        budget.spend(1)
        budget.release(1)
        budget.keep(1)
    assert (budget.spent, budget.reserved) == (SMALL, Decimal(0))


def test_the_repr_tells_the_sums() -> None:
    """A budget shows what is spent, what is reserved and its limit."""
    budget = Budget(Decimal(5))
    budget.reserve(1, SMALL)
    assert repr(budget) == "<Budget: $0 spent, $0.04 reserved, of $5>"
    assert repr(Budget()) == "<Budget: $0 spent, $0 reserved, no limit>"


def test_what_a_journal_brought_along_takes_room() -> None:
    """Earlier sessions count in the limit and in the error, and stay apart in the sums."""
    budget = Budget(Decimal("0.10"))
    budget.earlier = LARGE
    budget.reserve(1, SMALL)
    budget.spend(1)
    with pytest.raises(BudgetExceededError) as caught:
        budget.reserve(2, SMALL)
    assert (caught.value.spent, caught.value.reserved) == (Decimal("0.10"), Decimal(0))
    assert (budget.earlier, budget.spent) == (LARGE, SMALL)


def test_a_journal_that_brought_more_than_the_limit() -> None:
    """Then nothing fits any more, but what costs nothing."""
    budget = Budget(SMALL)
    budget.earlier = LARGE
    with pytest.raises(BudgetExceededError):
        budget.reserve(1, SMALL)
    assert (budget.spent, budget.reserved) == (Decimal(0), Decimal(0))


def test_nothing_is_held_for_a_task_that_nobody_knows() -> None:
    """An unknown key has nothing set aside."""
    assert Budget().held(7) == 0


def test_what_is_known_to_be_bought_once_is_held_no_more() -> None:
    """Of two attempts only one was made: what was set aside for the other is given back."""
    budget = Budget()
    budget.reserve(1, Decimal("0.04"))
    budget.keep(1)
    budget.reserve(1, Decimal("0.04"))
    budget.spend(1)
    budget.drop(1)
    budget.drop(1)
    assert (budget.spent, budget.reserved) == (Decimal("0.04"), Decimal(0))
