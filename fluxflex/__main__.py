"""`python -m fluxflex` is the command line."""

from fluxflex.cli import main

if __name__ == "__main__":
    main()
