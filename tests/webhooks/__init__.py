"""The receiver of callbacks, by itself and in the servers that take it in."""
