"""The retry law: what may be sent again, as data.

`reach` says how far an exchange got, `LAW` says what follows from it for each intent, and
`decide` adds the delay. The law is stricter than its neighbours' for one reason: the POST bills,
and the provider has no idempotency key. It is sent again only where it is certain that it was
not acted on.
"""

from __future__ import annotations

import email.utils
import enum
import math
import re
from collections.abc import Mapping
from datetime import UTC

import attrs

from fluxflex._core.exchange import Answer, Intent, Phase, Unanswered

_TOO_MANY = 429
_UNAVAILABLE = 503
_REQUEST_TIMEOUT = 408
_UNAUTHORIZED = 401
_LONGEST_RETRY_AFTER = 24 * 3600.0
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")


class Reach(enum.Enum):
    """How far an exchange got."""

    NEVER_SENT = "never sent: DNS, connect, TLS, the wait for a connection"
    HOPELESS = "never sent, and never will be: a certificate that does not fit"
    THROTTLED = "429, or 503 with Retry-After"
    REFUSED = "any other 4xx but 408"
    PAGE = "such a 4xx, but not 401, as an HTML page: a gateway's word, not the provider's"
    TASK = "any status with a task in the body"
    GOOD = "200, readable, without a task"
    BROKEN = "5xx, 408, HTML, truncated or unreadable 200"
    UNANSWERED = "sent, no answer: reset, disconnect, timeout"
    REDIRECTED = "3xx"


class Verdict(enum.Enum):
    """What an exchange came to, when it is not to be repeated."""

    TASK = "the body is about a task"
    READ = "the body is what was asked for"
    REFUSED = "the provider said no"
    UNCERTAIN = "it may have been accepted"
    UNREACHABLE = "the provider was never reached"
    MISCONFIGURED = "the address answers with a redirect"


class Rule(enum.Enum):
    """What follows: repeat it, or end with a verdict."""

    AGAIN_FEW = "again, up to `attempts`"
    AGAIN_LONG = "again, until the deadline"
    TASK = "the task in the body wins"
    READ = "done"
    REFUSE = "no: typed error"
    UNREACHABLE = "no: `APIConnectionError`"
    UNCERTAIN = "never: `SubmitUncertainError`"
    MISCONFIGURED = "not followed: `ConfigurationError`"


LAW: Mapping[Reach, Mapping[Intent, Rule]] = {
    Reach.NEVER_SENT: {Intent.SUBMIT: Rule.AGAIN_FEW, Intent.READ: Rule.AGAIN_FEW},
    Reach.HOPELESS: {Intent.SUBMIT: Rule.UNREACHABLE, Intent.READ: Rule.UNREACHABLE},
    Reach.THROTTLED: {Intent.SUBMIT: Rule.AGAIN_LONG, Intent.READ: Rule.AGAIN_FEW},
    Reach.REFUSED: {Intent.SUBMIT: Rule.REFUSE, Intent.READ: Rule.REFUSE},
    Reach.PAGE: {Intent.SUBMIT: Rule.REFUSE, Intent.READ: Rule.AGAIN_FEW},
    Reach.TASK: {Intent.SUBMIT: Rule.TASK, Intent.READ: Rule.TASK},
    Reach.GOOD: {Intent.SUBMIT: Rule.UNCERTAIN, Intent.READ: Rule.READ},
    Reach.BROKEN: {Intent.SUBMIT: Rule.UNCERTAIN, Intent.READ: Rule.AGAIN_FEW},
    Reach.UNANSWERED: {Intent.SUBMIT: Rule.UNCERTAIN, Intent.READ: Rule.AGAIN_FEW},
    Reach.REDIRECTED: {Intent.SUBMIT: Rule.MISCONFIGURED, Intent.READ: Rule.MISCONFIGURED},
}

_ENDS: Mapping[Rule, Verdict] = {
    Rule.TASK: Verdict.TASK,
    Rule.READ: Verdict.READ,
    Rule.REFUSE: Verdict.REFUSED,
    Rule.UNREACHABLE: Verdict.UNREACHABLE,
    Rule.UNCERTAIN: Verdict.UNCERTAIN,
    Rule.MISCONFIGURED: Verdict.MISCONFIGURED,
}


def _not_negative(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{attribute.name} must be 0 or more seconds, not {value!r}")


def _at_least_one(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{attribute.name} must be a whole number from 1, not {value!r}")


def _a_bool(_: object, attribute: attrs.Attribute[bool], value: bool) -> None:  # noqa: FBT001 - attrs calls it
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name} must be True or False, not {value!r}")


@attrs.frozen
class RetryPolicy:
    """How often and how soon a call is repeated where that is safe.

    Args:
        attempts: how often in all a call is tried that never reached the provider, or a reading
            call that failed. A submit that is turned away (429) is repeated until
            `Timeouts.submit` instead.
        initial, maximum: the first and the longest pause between two attempts, in seconds;
            each is drawn from nothing up to twice the one before (full jitter).
        resubmit_uncertain: send a submit again although it may have been accepted. This can pay
            twice; it is off by default.
    """

    attempts: int = attrs.field(default=5, validator=_at_least_one)
    initial: float = attrs.field(default=0.5, validator=_not_negative)
    maximum: float = attrs.field(default=10.0, validator=_not_negative)
    resubmit_uncertain: bool = attrs.field(default=False, kw_only=True, validator=_a_bool)

    def pause(self, attempt: int, draw: float) -> float:
        """Return the pause after this attempt (from 1) in seconds; `draw` is from 0 to 1."""
        return draw * min(self.maximum, self.initial * 2.0 ** min(attempt - 1, 60))


@attrs.frozen(kw_only=True)
class Again:
    """Send it again.

    Attributes:
        delay: after so many seconds.
        uncertain: whether the attempt before may have been accepted.
    """

    delay: float
    uncertain: bool = False


def reach(got: Answer | Unanswered) -> Reach:
    """Say how far an exchange got."""
    if isinstance(got, Unanswered):
        if got.phase is not Phase.NEVER_SENT:
            return Reach.UNANSWERED
        return Reach.HOPELESS if got.hopeless else Reach.NEVER_SENT
    return Reach.TASK if _about_a_task(got) else _judge(got.status, got)


def _about_a_task(answer: Answer) -> bool:
    return answer.task_id is not None or answer.event is not None


def _judge(status: int, answer: Answer) -> Reach:
    if status == _TOO_MANY or (status == _UNAVAILABLE and answer.retry_after is not None):
        return Reach.THROTTLED
    if 300 <= status < 400:  # noqa: PLR2004 - the class of the status
        return Reach.REDIRECTED
    if 400 <= status < 500 and status != _REQUEST_TIMEOUT:  # noqa: PLR2004 - as above
        return Reach.PAGE if answer.page and status != _UNAUTHORIZED else Reach.REFUSED
    if 200 <= status < 300 and answer.readable:  # noqa: PLR2004 - as above
        return Reach.GOOD
    return Reach.BROKEN


def decide(
    intent: Intent, got: Answer | Unanswered, attempt: int, policy: RetryPolicy, draw: float
) -> Again | Verdict:
    """Say whether to send it again, and when, or what it came to.

    Args:
        intent: whether the call bills.
        got: what came of this attempt.
        attempt: its number, from 1.
        policy: how often and how soon.
        draw: a random number from 0 to 1, for the jitter.
    """
    rule = LAW[reach(got)][intent]
    again = Again(delay=_delay(got, attempt, policy, draw))
    if rule is Rule.AGAIN_LONG or (rule is Rule.AGAIN_FEW and attempt < policy.attempts):
        return again
    if rule is Rule.UNCERTAIN and policy.resubmit_uncertain and attempt < policy.attempts:
        return attrs.evolve(again, uncertain=True)
    if rule is not Rule.AGAIN_FEW:
        return _ENDS[rule]
    return Verdict.UNREACHABLE if isinstance(got, Unanswered) else Verdict.REFUSED


def _delay(got: Answer | Unanswered, attempt: int, policy: RetryPolicy, draw: float) -> float:
    if isinstance(got, Answer) and got.retry_after is not None:
        # A little later than asked, so that all who were turned away do not return at once.
        return got.retry_after + draw * policy.initial
    return policy.pause(attempt, draw)


def parse_retry_after(value: str | None, wall: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks to wait; `None` for none or nonsense.

    Args:
        value: seconds (fractions are accepted) or an HTTP date.
        wall: now, in seconds since the epoch, for the dates.
    """
    if value is None:
        return None
    text = value.strip()
    seconds = float(text) if _SECONDS.fullmatch(text) else _until(text, wall)
    return None if seconds is None else min(seconds, _LONGEST_RETRY_AFTER)


def _until(date: str, wall: float) -> float | None:
    try:
        then = email.utils.parsedate_to_datetime(date)
        # HTTP dates are in UTC, also in the old form that does not say so.
        there = then if then.tzinfo is not None else then.replace(tzinfo=UTC)
        return max(0.0, there.timestamp() - wall)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
