"""Every error that fluxflex raises: one tree, each leaf saying what to do next.

    FluxFlexError
    ├── ConfigurationError                    no key, two loops, a redirect on POST, …
    ├── InvalidRequestError (ValueError)      faults: every bad field, found before anything is sent
    ├── BudgetExceededError                   found before anything is sent
    ├── JournalError                          full, locked, another account's, a newer schema
    ├── SessionClosedError
    ├── APIConnectionError                    never reached the provider, after all retries
    ├── APIError  (status, code, message)     the provider said no
    │   ├── AuthenticationError      401 403
    │   ├── InsufficientBalanceError 402, or said so in words
    │   ├── RequestRejectedError     400 422 and other 4xx
    │   ├── TaskNotFoundError        404
    │   ├── RateLimitError           429, until the deadline
    │   └── ServerError              5xx, on calls that cost nothing
    ├── SubmitUncertainError                  sent, never answered: it may have been billed
    ├── GenerationError                       the task failed; charged unknown
    │   └── ContentPolicyError
    ├── TaskTimeoutError (TimeoutError)       still running; keeps the task id
    ├── DownloadError                         keeps the task id and the URL
    └── WebhookError

All of them pickle, and none of them holds the API key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeVar

import attrs

if TYPE_CHECKING:
    from fluxflex._aio.outcome import Outcome

Charged = Literal["no", "yes", "unknown"]

_MONEY = {
    "no": "It cost nothing.",
    "yes": "The provider accepted it, so it is billed.",
    "unknown": "It may have been billed.",
}

E = TypeVar("E", bound="FluxFlexError")


def _revive(cls: type[E], args: tuple[object, ...], state: dict[str, object]) -> E:
    error = cls.__new__(cls, *args)
    error.args = args  # `TimeoutError.__new__` leaves them to `__init__`
    error.__dict__.update(state)
    return error


class FluxFlexError(Exception):
    """Base of all errors of fluxflex.

    Attributes:
        task_id: the provider's id of the task it is about, where one is known.
        charged: whether it cost money: `"no"`, `"yes"` (a task id is known) or `"unknown"`.
        retryable: whether the same call may succeed later without anything being changed.
        hint: what to do next, in one sentence.
        outcomes: what a batch had got when this error stopped it; empty elsewhere.
    """

    default_charged: ClassVar[Charged] = "no"
    default_retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        task_id: str | None = None,
        charged: Charged | None = None,
        retryable: bool | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.task_id = task_id
        if charged is None:
            known = task_id is not None and self.default_charged == "no"
            charged = "yes" if known else self.default_charged
        self.charged: Charged = charged
        self.retryable = self.default_retryable if retryable is None else retryable
        self.hint = self.default_hint if hint is None else hint
        self.outcomes: Sequence[Outcome] = ()

    def __str__(self) -> str:
        task = f" (task {self.task_id})" if self.task_id else ""
        text = self.message.rstrip(".") + task + "."
        return " ".join(filter(None, (text, _MONEY[self.charged], self.hint)))

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _revive, (type(self), self.args, self.__dict__.copy())

    def fresh(self) -> Self:
        """Return an equal error without a traceback.

        One exception object raised to several awaiters grows a traceback frame with each.
        """
        return _revive(type(self), self.args, self.__dict__)


class ConfigurationError(FluxFlexError):
    """The session or the machine is not set up for what was asked."""

    default_hint = "Correct the set-up and start again."


@attrs.frozen
class Fault:
    """One bad field of a request."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field} {self.message}"


class InvalidRequestError(FluxFlexError, ValueError):
    """A request breaks the provider's rules; found before anything was sent.

    Attributes:
        faults: every bad field, not only the first.
    """

    default_hint = "Correct the fields that are named."

    def __init__(self, faults: Iterable[Fault], *, hint: str | None = None) -> None:
        self.faults = tuple(faults)
        super().__init__("Invalid request: " + "; ".join(map(str, self.faults)), hint=hint)


class BudgetExceededError(FluxFlexError):
    """The next request would cost more than is left of the budget; it was not sent.

    Attributes:
        budget, spent, reserved, price: USD.
    """

    default_hint = "Raise the budget, or wait for reserved money to be released."

    def __init__(
        self, *, budget: Decimal, spent: Decimal, reserved: Decimal, price: Decimal
    ) -> None:
        self.budget, self.price = budget, price
        self.spent, self.reserved = spent, reserved
        super().__init__(
            f"The budget of ${budget} has no room for a request of ${price}: "
            f"${spent} spent, ${reserved} reserved"
        )


class JournalError(FluxFlexError):
    """The journal cannot be written or is not ours; nothing new is sent after it."""

    default_hint = "Mend the journal file or its disk, then run the same thing again."


class SessionClosedError(FluxFlexError):
    """The session is closed, or closed before the task ended."""

    default_hint = "Open a session and use `attach(task_id)` to follow the task."


class APIConnectionError(FluxFlexError):
    """The provider was never reached, so nothing was sent."""

    default_retryable = True
    default_hint = "Check the network, the proxy and the base URL, then try again."


class APIError(FluxFlexError):
    """The provider answered, and said no.

    Attributes:
        status: the HTTP status, or the `code` of the body where that is the refusal.
        code: the provider's own word for it, lower case.
        retry_after: seconds the provider asks to wait, where it says so.
    """

    default_hint = "Read the provider's message."

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        retry_after: float | None = None,
        task_id: str | None = None,
        charged: Charged | None = None,
    ) -> None:
        super().__init__(message, task_id=task_id, charged=charged)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class AuthenticationError(APIError):
    """The provider does not accept the key (401, 403)."""

    default_hint = "Check the API key and what it is allowed to do."


class InsufficientBalanceError(APIError):
    """The account has no money left (402, or said so in words)."""

    default_hint = "Top up the account, then try again."


class RequestRejectedError(APIError):
    """The provider refuses this request as it is (400, 422 and other 4xx)."""

    default_hint = "Change the request as the message says."


class TaskNotFoundError(APIError):
    """The provider does not know the task (404)."""

    default_hint = "Check the task id, and that the key belongs to the same account."


class RateLimitError(APIError):
    """The provider kept turning us away (429) until the deadline."""

    default_retryable = True
    default_hint = "Try again later, with a lower concurrency or a longer `Timeouts.submit`."


class ServerError(APIError):
    """The provider failed (5xx) on a call that costs nothing."""

    default_retryable = True
    default_hint = "Try again later."


class SubmitUncertainError(FluxFlexError):
    """A submit was sent and not answered: it may have been accepted and billed.

    It is never sent again by itself, since the provider has no idempotency key.

    Attributes:
        phase: how far it got: `"writing"` or `"sent"`.
        status: the HTTP status, where there was one.
        sent_at: seconds since the epoch at which the request was sent.
        payload_sha256: the hash of the bytes that were sent.
        reply_id: the reply's `x-request-id` or `cf-ray`, for the provider's support.
        excerpt: the first 4 KiB of the reply's body as text, where there was one.
    """

    default_charged = "unknown"
    default_hint = (
        "Look at the account's usage before you submit it again; "
        "`RetryPolicy(resubmit_uncertain=True)` opts in to paying twice."
    )

    def __init__(
        self,
        message: str,
        *,
        phase: str,
        status: int | None = None,
        sent_at: float | None = None,
        payload_sha256: str | None = None,
        reply_id: str | None = None,
        excerpt: str | None = None,
    ) -> None:
        super().__init__(message)
        self.phase = phase
        self.status = status
        self.sent_at = sent_at
        self.payload_sha256 = payload_sha256
        self.reply_id = reply_id
        self.excerpt = excerpt


class GenerationError(FluxFlexError):
    """The provider says that the task failed; it does not say whether it bills that.

    Attributes:
        code: the provider's own word for it, lower case, where it gives one.
        detail: the provider's message, where it gives one.
    """

    default_charged = "unknown"
    default_hint = "Submit it again, or change the prompt."

    def __init__(
        self, *, task_id: str | None, code: str | None = None, detail: str | None = None
    ) -> None:
        why = detail or code or "the provider gives no reason"
        super().__init__(f"The task failed: {why}", task_id=task_id)
        self.code, self.detail = code, detail


class ContentPolicyError(GenerationError):
    """The task failed because its prompt or pictures break the provider's content policy."""

    default_hint = "Rephrase the prompt; the same one will fail again."


class TaskTimeoutError(FluxFlexError, TimeoutError):
    """The task did not end in time; it may still be running at the provider.

    Attributes:
        seconds: how long it was followed.
    """

    default_charged = "yes"
    default_retryable = True
    default_hint = "Use `attach(task_id)` to go on following it: that costs nothing."

    def __init__(self, *, task_id: str, seconds: float) -> None:
        super().__init__(f"The task did not end within {seconds:g} seconds", task_id=task_id)
        self.seconds = seconds


class DownloadError(FluxFlexError):
    """A finished picture could not be fetched or saved.

    Attributes:
        url: where the picture lies.
        local: whether the fault is on this machine, as a full disk is.
    """

    default_charged = "yes"
    default_retryable = True
    default_hint = "The picture is paid for: fetch it from its URL, or `attach(task_id)` and save."

    def __init__(
        self, message: str, *, task_id: str, url: str, local: bool = False, hint: str | None = None
    ) -> None:
        super().__init__(message, task_id=task_id, hint=hint)
        self.url, self.local = url, local


class WebhookError(FluxFlexError):
    """The callback receiver is not set up or cannot serve."""

    default_hint = "Check the receiver's public URL, host and port."


_OUR_OWN = BudgetExceededError | ConfigurationError | JournalError | SessionClosedError
# What the next item of a batch would meet too.
STOPPING = _OUR_OWN | AuthenticationError | InsufficientBalanceError
