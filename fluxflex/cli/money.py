"""Consent: nothing is bought by a batch before somebody has agreed to what it costs."""

from __future__ import annotations

from decimal import Decimal

from fluxflex import RetryPolicy, Session
from fluxflex.cli.exits import UsageError
from fluxflex.cli.talk import Talk, counted, dollars
from fluxflex.cli.target import Target, run
from fluxflex.errors import AuthenticationError, ConfigurationError, FluxFlexError

_LOOKS = RetryPolicy(attempts=2)


def check_consent(talk: Talk, target: Target, *, agreed: bool, countable: bool) -> None:
    """Refuse to begin where consent is needed, not given, and nobody can be asked.

    Raises:
        UsageError: it is so.
    """
    if agreed or not target.costs_money:
        return
    if not countable:
        raise UsageError(
            "How much stdin will bring is not known, so nobody can be asked: give --budget USD "
            "or --yes. Nothing was bought."
        )
    if not talk.can_ask:
        raise UsageError(
            "This costs money and there is no terminal to ask on: give --budget USD or --yes. "
            "Nothing was bought."
        )


def ask(talk: Talk, target: Target, *, count: int, estimate: Decimal) -> bool:
    """Ask once whether to buy so many pictures for so much.

    Raises:
        ConfigurationError, AuthenticationError: there is no key, or it is not accepted.
    """
    question = f"{counted(count, 'picture')} for {dollars(estimate)}."
    try:
        balance = run(_balance(target))
    except (ConfigurationError, AuthenticationError):
        raise
    except FluxFlexError as error:
        return talk.ask(f"{question} The account's balance cannot be had: {error.message} Go on?")
    question += f" The account holds {dollars(balance)}"
    if balance < estimate:
        question += ", which is less: the batch will stop when it is used up"
    return talk.ask(f"{question}. Go on?")


async def _balance(target: Target) -> Decimal:
    async with (
        target.access() as access,
        Session(access.api_key, base_url=access.base_url, retry=_LOOKS) as session,
    ):
        return (await session.account()).balance_usd
