"""The command line: `fluxflex`, which comes with `pip install 'fluxflex[cli]'`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from fluxflex.errors import ConfigurationError

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
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
