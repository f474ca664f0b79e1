"""Exit codes: one table from what went wrong to the number that the shell sees."""

from __future__ import annotations

import enum
import signal
from collections.abc import Iterable

from fluxflex.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    DownloadError,
    GenerationError,
    InsufficientBalanceError,
    InvalidRequestError,
    JournalError,
    RateLimitError,
    RequestRejectedError,
    SubmitUncertainError,
    TaskNotFoundError,
    TaskTimeoutError,
)

_SIGNALLED = 128
# As the library words a journal of another account, or of another address.
_ANOTHERS = " belongs to "
# The provider found in the request what our own rules did not.
_INVALID_STATUSES = frozenset({400, 422})


class Code(enum.IntEnum):
    """What the shell sees."""

    DONE = 0
    OTHER = 1
    USAGE = 2
    ACCOUNT = 3
    RATE_LIMIT = 4
    NOT_FOUND = 5
    MONEY = 6
    TIMEOUT = 7
    INVALID = 8
    FAILED = 9
    UNCERTAIN = 10


# Where several fit, the first of these is given.
ORDER = (
    Code.USAGE,
    Code.INVALID,
    Code.ACCOUNT,
    Code.MONEY,
    Code.RATE_LIMIT,
    Code.NOT_FOUND,
    Code.TIMEOUT,
    Code.UNCERTAIN,
    Code.FAILED,
    Code.OTHER,
    Code.DONE,
)


class UsageError(Exception):
    """What was asked for on the command line cannot be done as it is written."""


class SignalledError(Exception):
    """A signal ended the command.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


TABLE: tuple[tuple[type[BaseException], Code], ...] = (
    (UsageError, Code.USAGE),
    (InvalidRequestError, Code.INVALID),
    (ConfigurationError, Code.ACCOUNT),
    (AuthenticationError, Code.ACCOUNT),
    (InsufficientBalanceError, Code.MONEY),
    (BudgetExceededError, Code.MONEY),
    (RateLimitError, Code.RATE_LIMIT),
    (TaskNotFoundError, Code.NOT_FOUND),
    (TaskTimeoutError, Code.TIMEOUT),
    (SubmitUncertainError, Code.UNCERTAIN),
    (GenerationError, Code.FAILED),
    (JournalError, Code.OTHER),
)


def code_of(error: BaseException) -> int:
    """Return the exit code of a command that an error ended."""
    if isinstance(error, KeyboardInterrupt):
        return signalled(signal.SIGINT)
    if isinstance(error, SignalledError):
        return signalled(error.number)
    if isinstance(error, RequestRejectedError) and error.status in _INVALID_STATUSES:
        return Code.INVALID
    if isinstance(error, JournalError) and _ANOTHERS in error.message:
        return Code.ACCOUNT
    return next((code for kind, code in TABLE if isinstance(error, kind)), Code.OTHER)


def code_of_item(error: BaseException) -> int:
    """Return what an item's error adds to the exit code of its batch.

    A fault of this machine, such as a full disk or a lost journal, is no failure of the item.
    """
    local = isinstance(error, JournalError) or (isinstance(error, DownloadError) and error.local)
    code = code_of(error)
    return Code.FAILED if code == Code.OTHER and not local else code


def first(codes: Iterable[int]) -> int:
    """Return the first code that fits, `DONE` where there is none."""
    return min(codes, key=lambda code: ORDER.index(Code(code)), default=Code.DONE)


def signalled(number: int) -> int:
    """Return the exit code of what a signal ended, as shells count it."""
    return _SIGNALLED + number
