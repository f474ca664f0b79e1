"""The account, and consent: no batch buys before somebody has agreed to what it costs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from fluxflex import Account, RetryPolicy, Session
from fluxflex.cli.exits import UsageError
from fluxflex.cli.talk import Talk, counted, dollars
from fluxflex.cli.target import Target, run
from fluxflex.errors import AuthenticationError, ConfigurationError, FluxFlexError, JournalError

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


def ask(
    talk: Talk,
    target: Target,
    *,
    count: int,
    estimate: Decimal,
    warning: str = "",
    journal: Path | None = None,
) -> bool:
    """Ask once whether to buy so many pictures for so much.

    Args:
        talk: where to ask.
        target: where they would be bought.
        count: how many.
        estimate: for how many USD.
        warning: what else to know, as a sentence.
        journal: that of the folder, which must be this account's.

    Raises:
        ConfigurationError, AuthenticationError: there is no key, or it is not accepted.
        JournalError: the folder is another account's.
    """
    question = f"{counted(count, 'picture')} for {dollars(estimate)}."
    question = " ".join(filter(None, (question, warning)))
    try:
        balance = run(look(target, journal)).balance_usd
    except (ConfigurationError, AuthenticationError, JournalError):
        raise
    except FluxFlexError as error:
        return talk.ask(f"{question} The account's balance cannot be had: {error.message} Go on?")
    question += f" The account holds {dollars(balance)}"
    if balance < estimate:
        question += ", which is less: the batch will stop when it is used up"
    return talk.ask(f"{question}. Go on?")


async def preflight(session: Session, talk: Talk, estimate: Decimal) -> None:
    """Warn where the account holds less than what is to be bought; a top-up may still come."""
    try:
        balance = (await session.account()).balance_usd
    except FluxFlexError:
        return  # what is wrong with the account is met, and told, by the first item
    if balance < estimate:
        talk.say(
            f"The account holds {dollars(balance)}, less than the {dollars(estimate)} that this "
            "will cost: the batch will stop when it is used up. After a top-up the same command "
            "carries on.",
            style="yellow",
        )


async def look(target: Target, journal: Path | None = None) -> Account:
    """Ask for the account. Costs nothing.

    Args:
        target: where it is.
        journal: a file that must be this account's.

    Raises:
        FluxFlexError: there is no key, it is not accepted, or there is no answer.
    """
    async with (
        target.access() as access,
        Session(access.api_key, base_url=access.base_url, retry=_LOOKS, journal=journal) as session,
    ):
        return await session.account()
