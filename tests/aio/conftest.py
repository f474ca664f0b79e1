"""Fixtures of the floor with the loop: a disk under the test's hands."""

from __future__ import annotations

import pytest

from fluxflex._aio import store
from tests.aio.disk import Disk


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Let all journals of a test lie on a disk without a thread."""
    found = Disk()
    monkeypatch.setattr(store, "_connect", lambda: found.connect)
    return found
