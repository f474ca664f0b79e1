"""Whole tales, end to end."""
