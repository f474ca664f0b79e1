"""Money: what the session says it spent is what the provider billed, and never over the budget."""

import asyncio
from decimal import Decimal

import pytest

from fluxflex import BudgetExceededError, GenerateRequest, SubmitUncertainError
from fluxflex.errors import APIError, ConfigurationError, RequestRejectedError
from fluxflex.simulator import Faults, Manual, Simulator, faults
from tests.stories.stage import (
    NOTHING,
    Wire,
    accepted,
    completed,
    finish,
    http,
    mixed,
    says,
    session_at,
    until,
)

PRICE, DEARER = Decimal("0.04"), Decimal("0.06")


async def test_the_books_of_amixed_run_are_the_providers() -> None:
    """Spent is what was billed and known; uncertain ones stay reserved, at their price."""
    async with Simulator(durations=0.0, failure_rate=0.2, seed=7) as sim:
        sim.faults = Faults(submit=mixed)
        async with session_at(sim.url, concurrency=6) as session:
            prompts = (
                {"prompt": f"study {n}", "quality": "2K" if n % 3 else "1K"} for n in range(120)
            )
            outcomes = await session.map(prompts).collect()
            after = session.statistics()
    known = {outcome.task_id for outcome in outcomes if outcome.task_id}
    unsure = [outcome for outcome in outcomes if isinstance(outcome.error, SubmitUncertainError)]
    lost = sum((entry.price for entry in sim.ledger.entries if entry.task_id not in known), NOTHING)
    assert lost > 0
    assert after.spent == sim.ledger.billed_usd - lost
    assert after.reserved == sum((session.price(one.request or "") for one in unsure), NOTHING)
    assert after.reserved >= lost
    assert after.accepted == len(known)
    assert after.completed + after.failed == len(known)
    assert after.uncertain == len(unsure)
    assert after.failed > 0
    assert after.refused > 0
    assert after.posts == sim.ledger.posts_received
    assert sim.ledger.duplicates() == {}
    assert after.in_flight == 0


async def test_never_over_the_budget() -> None:
    """Of many at once exactly those that fit are sent; the others are refused before."""
    async with Simulator(durations=0.0) as sim, session_at(sim.url, budget="0.21") as session:
        got = await asyncio.gather(
            *(session.generate(f"study {n}") for n in range(20)), return_exceptions=True
        )
        after = session.statistics()
    refused = [error for error in got if isinstance(error, BudgetExceededError)]
    assert len(refused) == 15
    assert {error.charged for error in refused} == {"no"}
    assert sim.ledger.posts_received == len(sim.ledger) == 5
    assert (after.spent, after.reserved) == (sim.ledger.billed_usd, NOTHING)


async def test_a_budget_of_nothing_sends_nothing() -> None:
    """The budget is looked at before anything is sent; the slot is given back."""
    async with Simulator() as sim, session_at(sim.url, budget=0, concurrency=1) as session:
        for _ in range(3):
            with pytest.raises(BudgetExceededError) as caught:
                await session.submit("a lighthouse")
        assert session.statistics().in_flight == 0
    assert (caught.value.budget, caught.value.price) == (NOTHING, PRICE)
    assert sim.ledger.posts_received == 0


async def test_what_is_refused_gives_its_money_back() -> None:
    """After refusals of every kind the whole budget is there for what is accepted."""
    script = [faults.error(422), faults.rate_limited(), faults.error(402), faults.redirect("/")]
    async with (
        Simulator(durations=0.0, faults=Faults(submit=script)) as sim,
        session_at(sim.url, budget=PRICE, concurrency=1) as session,
    ):
        with pytest.raises(RequestRejectedError):
            await session.submit("a")
        with pytest.raises(APIError):
            await session.submit("b")
        with pytest.raises(Exception, match="redirect"):
            await session.submit("c")
        await session.generate("d")
        with pytest.raises(BudgetExceededError):
            await session.submit("e")
    assert sim.ledger.billed_usd == PRICE


async def test_what_is_uncertain_keeps_its_money() -> None:
    """It may have been billed, so the budget counts it."""
    script = Faults(submit=[faults.gateway(502)])
    async with (
        Simulator(durations=0.0, faults=script) as sim,
        session_at(sim.url, budget=2 * PRICE) as session,
    ):
        with pytest.raises(SubmitUncertainError):
            await session.submit("a")
        await session.generate("b")
        with pytest.raises(BudgetExceededError) as caught:
            await session.submit("c")
    assert (caught.value.spent, caught.value.reserved) == (PRICE, PRICE)
    assert sim.ledger.posts_received == 2


async def test_a_failed_task_counts_as_spent() -> None:
    """The provider does not say that failures are free."""
    async with Simulator(durations=0.0) as sim, session_at(sim.url, budget=PRICE) as session:
        outcomes = await session.map(["nsfw"]).collect()
        assert outcomes[0].error is not None
        assert outcomes[0].error.charged == "unknown"
        with pytest.raises(BudgetExceededError):
            await session.submit("b")
    assert sim.ledger.billed_usd == PRICE


async def test_while_it_is_in_the_air_it_is_reserved() -> None:
    """Two at once cannot spend the same money."""
    async with (
        Simulator(durations=Manual()) as sim,
        session_at(sim.url, budget=DEARER) as session,
    ):
        first = asyncio.create_task(session.submit("a"))
        await until(lambda: session.statistics().reserved == PRICE)
        with pytest.raises(BudgetExceededError):
            await session.submit("b")
        finish(sim, await first)
    assert sim.ledger.posts_received == 1


async def test_the_providers_cost_beats_the_table() -> None:
    """Where the provider says what a task cost, that is what was spent."""
    body = completed("http://127.0.0.1/a.png", None)
    data = body["data"]
    assert isinstance(data, dict)
    data["cost"] = 0.055
    async with Wire(look=says(http(body))) as wire, session_at(wire.url) as session:
        image = await session.generate("a lighthouse")
        assert image.cost == Decimal("0.055")
        assert session.statistics().spent == Decimal("0.055")
        await session.attach("t-2", GenerateRequest("bought elsewhere"))
        assert session.statistics().spent == Decimal("0.055")


async def test_own_prices_are_reserved_and_spent() -> None:
    """A price table of one's own stands in for the published one."""
    async with (
        Wire(post=says(http(accepted()))) as wire,
        session_at(wire.url, prices={"1K": "0.5"}, budget="0.5") as session,
    ):
        assert session.price("a") == Decimal("0.5")
        image = await session.generate("a")
        assert image.cost == Decimal("0.5")
        with pytest.raises(BudgetExceededError):
            await session.submit("b")
        with pytest.raises(ConfigurationError, match="no budget can be kept"):
            await session.submit("b", quality="2K")  # the table does not name its price
    assert len(wire.posts) == 1


async def test_the_balance_is_told_to_the_last_digit() -> None:
    """`account` asks for the balance as the provider counts it."""
    async with (
        Simulator(durations=0.0, balance_usd=Decimal("0.1")) as sim,
        session_at(sim.url) as session,
    ):
        await session.generate("a", quality="2K")
        account = await session.account()
        assert account.balance_usd == sim.balance_usd == Decimal("0.04")
        await session.generate("b")
        with pytest.raises(APIError) as caught:
            await session.generate("c")
    assert (caught.value.status, caught.value.charged) == (402, "no")
    assert sim.ledger.billed_usd == Decimal("0.10")
