"""The command line: `fluxflex`, which comes with `pip install 'fluxflex[cli]'`."""

from __future__ import annotations

import sys

from fluxflex.errors import ConfigurationError

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from fluxflex.cli.app import app
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in {"rich", "typer"}:
            raise
        error = ConfigurationError(
            f"The command line needs {missing.name}, which is not installed",
            hint="Run: pip install 'fluxflex[cli]'",
        )
        sys.stderr.write(f"fluxflex: {error}\n")
        sys.exit(1)
    app(prog_name="fluxflex")
