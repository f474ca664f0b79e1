"""Fixtures of the pure core: the provider's samples, and both ways to read JSON."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluxflex._core import jsonlib
from fluxflex._core.exchange import Reply

SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture(scope="module", params=["orjson", "json"])
def json_variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Read and write JSON with the extra `speed` and without it."""
    variant: str = request.param
    with pytest.MonkeyPatch.context() as patch:
        if variant == "json":
            patch.setitem(sys.modules, "orjson", None)
        importlib.reload(jsonlib)
        yield variant
    importlib.reload(jsonlib)


@pytest.fixture
def reply_of() -> Callable[[str], Reply]:
    """Return what makes a sample, by its name, the reply that it is."""

    def make(name: str) -> Reply:
        sample = json.loads((SAMPLES / f"{name}.json").read_text())
        body = sample["body"]
        return Reply(
            status=sample.get("http_status", 200),
            headers={key.lower(): value for key, value in sample["headers"].items()},
            body=body.encode() if isinstance(body, str) else json.dumps(body).encode(),
        )

    return make
