"""`Watch`: what the tasks of a session ask of whoever looks at them."""

from __future__ import annotations

from typing import Protocol

from fluxflex._core.lifecycle import Key


class Watch(Protocol):
    """Who looks how tasks stand at the provider."""

    def follow(self, key: Key, deadline: float, *, fresh: bool, webhook: bool = False) -> None:
        """Look at a task until it is over or forgotten.

        A fresh one was accepted just now; of one with `webhook` a callback is expected.
        """
        ...

    def hasten(self, key: Key) -> None:
        """Look at a task as soon as the rate allows: a callback says that it is over."""
        ...

    def ended(self, key: Key) -> None:
        """Look no more at a task that the provider says is over."""
        ...

    def forget(self, key: Key) -> None:
        """Look at a task no more."""
        ...
