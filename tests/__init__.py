"""The tests of fluxflex."""
