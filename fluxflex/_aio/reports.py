"""What a session reports of the account and of itself."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import attrs

from fluxflex._core.exchange import Answer
from fluxflex.errors import ServerError


@attrs.frozen(kw_only=True)
class Account:
    """The account behind the key.

    Attributes:
        balance_usd: what is left on it, in USD.
        user_id: the provider's number of the user.
        email: as the provider has it.
        restricted_until: seconds since the epoch until which it may not generate, where set.
    """

    balance_usd: Decimal
    user_id: str | None = None
    email: str | None = attrs.field(default=None, repr=False)
    restricted_until: float | None = None


@attrs.frozen(kw_only=True)
class Statistics:
    """A snapshot of a session.

    Attributes:
        in_flight: tasks that hold a slot.
        accepted: submits that the provider accepted.
        attached: tasks followed that were submitted elsewhere or earlier.
        completed, failed, timed_out, abandoned, uncertain: tasks that are over, by how.
        posts: attempts to submit. refused: those that were definitely not accepted.
        polls: status requests sent.
        retries: calls that were repeated.
        throttled: those refused because it was too much at once: 429, or 503 with Retry-After.
        pauses: how often the whole session paused because of that.
        window: how many tasks may run by what it learnt from that; `None` while only the ceiling
            of `concurrency` holds.
        spent, reserved: USD; reserved is what may still be billed.
        earlier: USD that the journal brought along, spent or perhaps still to be billed; it takes
            room in the budget too.
        callbacks: how many came, by kind: `received` of all kinds; `early`, before the POST's own
            reply; `late`, after the task was over, or for one of an earlier session; `duplicate`;
            `unknown`, for no task of this session; `broken`, without a last word in it. `refused`
            by the receiver, whatever session they were for. `missed`: tasks of which a look told
            the end and no callback has come. Empty without a receiver.
    """

    in_flight: int
    accepted: int
    attached: int
    completed: int
    failed: int
    timed_out: int
    abandoned: int
    uncertain: int
    posts: int
    refused: int
    polls: int
    retries: int
    spent: Decimal
    reserved: Decimal
    earlier: Decimal = Decimal(0)
    throttled: int = 0
    pauses: int = 0
    window: int | None = None
    callbacks: Mapping[str, int] = attrs.field(factory=dict, hash=False)


def account_of(answer: Answer) -> Account:
    """Read the account out of the provider's answer.

    Raises:
        ServerError: there is no balance in it.
    """
    data = answer.data
    try:
        balance = Decimal(str(data["balance_usd"]))
    except (KeyError, InvalidOperation):
        raise ServerError(
            "The provider's account has no balance in it", status=answer.status
        ) from None
    user, email, restricted = (data.get(n) for n in ("user_id", "email", "restricted_until"))
    return Account(
        balance_usd=balance,
        user_id=None if user is None else str(user),
        email=email if isinstance(email, str) else None,
        restricted_until=float(restricted) if isinstance(restricted, int | float) else None,
    )
