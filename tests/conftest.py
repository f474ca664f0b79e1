"""What all tests share: a process without the settings of whoever runs it."""

from __future__ import annotations

import asyncio
import os

import pytest

_OURS = ("FLUXFLEX_API_KEY", "UNIFICALLY_API_KEY", "FLUXFLEX_BASE_URL")


def pytest_configure() -> None:
    """Say that there is no event loop, before looptime asks.

    For a test without one it asks the policy, which would make a loop that nobody closes.
    """
    asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away keys, addresses and proxies, so that tests do the same on every machine."""
    for name in list(os.environ):
        if name in _OURS or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
