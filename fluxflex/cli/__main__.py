"""Run the command line as `python -m fluxflex.cli`."""

from fluxflex.cli import main

main()
