"""What to do next, and whether it cost money, in the words of the command line."""

from __future__ import annotations

from fluxflex.errors import (
    APIConnectionError,
    BudgetExceededError,
    ConfigurationError,
    DownloadError,
    FluxFlexError,
    JournalError,
    RateLimitError,
    ServerError,
    SessionClosedError,
    SubmitUncertainError,
    TaskTimeoutError,
)

# After these the task may still run, or its picture may still be fetched.
GOES_ON = (
    APIConnectionError,
    DownloadError,
    RateLimitError,
    ServerError,
    SessionClosedError,
    TaskTimeoutError,
)
ENDED = "The simulated task ended with the simulator; nothing was bought."
AGAIN = "--resubmit-uncertain"

# The library speaks of calls and arguments; the first that fits stands for its hint.
_TABLE: tuple[tuple[type[FluxFlexError], str], ...] = (
    (SubmitUncertainError, "Look at the account's usage before you submit it again."),
    (BudgetExceededError, "With a higher --budget the same command carries on."),
    (RateLimitError, "Try again later, or with a lower --concurrency."),
    (SessionClosedError, "Submit it again."),
)
# As the library words a journal that cannot be read.
_BROKEN = "is damaged", "is no journal"
_ADDRESS = "Use a journal of its own for each address.", "Name that address with --base-url."
_NO_KEY = "There is no API key"
_KEY = "Set FLUXFLEX_API_KEY or UNIFICALLY_API_KEY. To try without a key: --simulate."


def hint(error: FluxFlexError, *, simulated: bool = False, way: str | None = None) -> str:
    """Return what to do next.

    Args:
        error: what went wrong.
        simulated: whether it was a rehearsal; a task of its own leaves nothing to go on with.
        way: the command that goes on with the batch that the task is of.
    """
    if isinstance(error, GOES_ON) and error.task_id is not None:
        if simulated and way is None:
            return ENDED
        return _way_on(error, way or f"fluxflex wait {error.task_id}")
    if isinstance(error, JournalError):
        return error.hint.replace("a journal of its own", "another folder (-o)")
    if isinstance(error, ConfigurationError) and error.message.startswith(_NO_KEY):
        return _KEY
    if simulated and isinstance(error, SubmitUncertainError):
        return "Nothing was bought."
    if isinstance(error, SubmitUncertainError) and way is not None:
        return f"Look at the account's usage. With {AGAIN} it is bought again, maybe twice."
    return next((words for kind, words in _TABLE if isinstance(error, kind)), error.hint)


def _way_on(error: FluxFlexError, way: str) -> str:
    if not isinstance(error, DownloadError):
        return f"To go on, at no further cost: {way}"
    if error.local:
        return f"Make room or choose another place, then fetch it with: {way}"
    return f"Fetch it with: {way}"


def in_folder(error: JournalError, *, chosen: bool) -> JournalError:
    """Return the error of a batch's journal with what to do next.

    Args:
        error: as the library words it.
        chosen: whether the command has an option for another folder.
    """
    found = error.fresh()
    if any(word in error.message for word in _BROKEN):
        other = ", or choose another folder with -o" if chosen else ""
        found.hint = f"Put the journal back from a copy{other}."
    elif not chosen:
        first, _, rest = error.hint.partition(", or ")
        found.hint = f"{first}." if rest else error.hint.replace(*_ADDRESS)
    return found


def sentence(error: FluxFlexError, *, simulated: bool = False, way: str | None = None) -> str:
    """Return what went wrong, whether it cost money, and what to do next."""
    said = f"{error.message.rstrip('.')}."
    if not simulated:
        said = str(error).removesuffix(error.hint).rstrip()
    return " ".join(filter(None, (said, hint(error, simulated=simulated, way=way))))
