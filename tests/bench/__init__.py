"""The bench, from the outside in."""
