"""The pure floors: no event loop at all."""
