"""What the command line says: words to people on stderr, results to programs on stdout."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

from rich.console import Console
from rich.text import Text

from fluxflex.cli import exits, hints
from fluxflex.cli.exits import Code, SignalledError, UsageError
from fluxflex.errors import FluxFlexError

_CENTS = 2


def dollars(amount: Decimal) -> str:
    """Return an amount in USD with at least two decimals, and as many as it has."""
    exponent = amount.normalize().as_tuple().exponent
    places = max(_CENTS, -exponent) if isinstance(exponent, int) else _CENTS
    return f"${amount:,.{places}f}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where that is due."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str) -> str:
    """Return text without the control characters that could steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


class Talk:
    """Where a command speaks. `NO_COLOR` and a missing terminal are respected.

    Args:
        simulated: whether what it speaks of is a rehearsal.

    Attributes:
        live: whether a display at the bottom of the terminal is being redrawn.
    """

    def __init__(self, *, simulated: bool = False) -> None:
        self.console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
        self.live = False
        self._simulated = simulated
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A folder's name may hold bytes that are no text; they go out as they came.
            sys.stdout.reconfigure(errors="surrogateescape")

    @property
    def on_terminal(self) -> bool:
        """Whether stderr is a terminal that can be redrawn."""
        return sys.stderr.isatty() and not self.console.is_dumb_terminal

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there who could answer a question."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def say(self, text: str, *, style: str = "") -> None:
        """Say something to people."""
        self.console.print(Text(printable(text), style=style))

    def complain(self, text: str) -> None:
        """Say what went wrong."""
        self.say(f"fluxflex: {text}", style="red")

    def error(self, error: BaseException) -> None:
        """Say what went wrong, whether it cost money, and what to do next."""
        if isinstance(error, FluxFlexError):
            self.complain(hints.sentence(error, simulated=self._simulated))
        else:
            self.complain(str(error) or type(error).__name__)

    def out(self, line: str) -> None:
        """Give a line to programs; a stdout that takes it no more is no error."""
        if self.live and sys.stdout.isatty():
            # The same screen: the line goes above the display instead of through it.
            self.say(line)
            return
        try:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        except OSError as error:
            # Who pays for pictures wants them, whoever reads along or not.
            why = "nobody reads it" if isinstance(error, BrokenPipeError) else error.strerror
            self.say(f"stdout takes no more lines: {why}.")
            _silence_stdout()

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show on a terminal that something is under way."""
        if not self.on_terminal:
            yield
            return
        with self.console.status(f"{what} …", spinner="dots"):
            yield

    def ask(self, question: str) -> bool:
        """Ask a question that only a plain yes answers with yes."""
        self.console.print(Text(f"{printable(question)} [y/N] "), end="")
        return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _silence_stdout() -> None:
    """Let what is still written to stdout go nowhere, the flush at the exit included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def guarded(talk: Talk, work: Callable[[], int]) -> int:
    """Run a command; whatever ends it becomes words and an exit code, never a traceback."""
    try:
        with _logged(talk):
            return work()
    except (FluxFlexError, UsageError) as error:
        talk.error(error)
        return exits.code_of(error)
    except KeyboardInterrupt as error:
        talk.say("Interrupted.")
        return exits.code_of(error)
    except SignalledError as error:
        return exits.code_of(error)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        talk.complain(f"{error.strerror or error}{where}")
        return Code.OTHER
    except Exception as error:  # noqa: BLE001 - the last resort: people get words
        talk.complain(f"This should not happen, please report it: {type(error).__name__}: {error}")
        return Code.OTHER


class _Notes(logging.Handler):
    """Says what the library logs, in the same voice as everything else."""

    def __init__(self, talk: Talk) -> None:
        super().__init__(logging.WARNING)
        self._talk = talk

    def emit(self, record: logging.LogRecord) -> None:
        """Say the message, without a traceback."""
        self._talk.say(f"Note: {record.getMessage()}")


@contextmanager
def _logged(talk: Talk) -> Iterator[None]:
    log, notes = logging.getLogger("fluxflex"), _Notes(talk)
    log.addHandler(notes)
    try:
        yield
    finally:
        log.removeHandler(notes)


@contextmanager
def hushed() -> Iterator[None]:
    """Keep the library's notes back while the command tells the same in its own words.

    Its errors are told all the same: an id that is in no journal is known nowhere else.
    """
    log = logging.getLogger("fluxflex")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
