"""The command line: `fluxflex`, which comes with `pip install 'fluxflex[cli]'`."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from fluxflex.errors import ConfigurationError

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    _open_missing()
    missing = [name for name in ("rich", "typer") if find_spec(name) is None]
    if missing:
        error = ConfigurationError(
            f"The command line needs {' and '.join(missing)}, not installed here",
            hint="Run: pip install 'fluxflex[cli]'",
        )
        sys.stderr.write(f"fluxflex: {error}\n")
        sys.exit(1)
    from fluxflex.cli.app import app

    app(prog_name="fluxflex")


def _open_missing() -> None:
    """Put the null device in place of streams that were closed before the command began.

    Otherwise the first socket or file would take their numbers.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", closefd=False))
