"""The contract for payloads: what openapi.yaml allows and refuses, row by row."""

import re
from decimal import Decimal
from typing import Any

import pytest

from fluxflex.simulator.contract import FLEX, Order, RefusedError, decode

URL = "https://example.com/a.png"

GOOD: list[dict[str, Any]] = [
    {"prompt": "p"},
    {"prompt": " "},
    {"prompt": "p", "image_urls": []},
    {"prompt": "p", "image_urls": [URL] * 10},
    {"prompt": "p", "quality": "1K"},
    {"prompt": "p", "quality": "2K"},
    {"prompt": "p", "steps": 1},
    {"prompt": "p", "steps": 50},
    {"prompt": "p", "steps": 20.0},
    {"prompt": "p", "cfg": 1.5},
    {"prompt": "p", "cfg": 10},
    {"prompt": "p", "callback_url": "https://example.com/hook?a=b"},
    *(
        {"prompt": "p", "aspect_ratio": ratio}
        for ratio in ("auto", "1:1", "4:3", "16:9", "3:2", "2:3", "9:16", "3:4")
    ),
]

BAD: list[tuple[object, str]] = [
    ([], "The request body must be a JSON object"),
    ("p", "The request body must be a JSON object"),
    ({}, "Missing required parameter: prompt"),
    ({"steps": 3}, "Missing required parameter: prompt"),
    ({"prompt": ""}, "prompt must be a non-empty string"),
    ({"prompt": None}, "prompt must be a non-empty string"),
    ({"prompt": 7}, "prompt must be a non-empty string"),
    ({"prompt": "p", "seed": 1}, "seed: Extra inputs are not permitted"),
    ({"prompt": "p", "guidance": 3}, "guidance: Extra inputs are not permitted"),
    ({"prompt": "p", "image_urls": URL}, "image_urls must be an array of URLs"),
    ({"prompt": "p", "image_urls": [{}]}, "image_urls must be an array of URLs"),
    ({"prompt": "p", "image_urls": ["a.png"]}, "image_urls must be an array of URLs"),
    ({"prompt": "p", "image_urls": None}, "image_urls must be an array of URLs"),
    ({"prompt": "p", "image_urls": [URL] * 11}, "image_urls must have at most 10 items"),
    ({"prompt": "p", "quality": "4K"}, "quality must be one of 1K, 2K"),
    ({"prompt": "p", "quality": "1k"}, "quality must be one of 1K, 2K"),
    ({"prompt": "p", "quality": ["1K"]}, "quality must be one of 1K, 2K"),
    ({"prompt": "p", "quality": None}, "quality must be one of 1K, 2K"),
    ({"prompt": "p", "steps": 0}, "steps must be between 1 and 50"),
    ({"prompt": "p", "steps": 51}, "steps must be between 1 and 50"),
    ({"prompt": "p", "steps": True}, "steps must be an integer"),
    ({"prompt": "p", "steps": 2.5}, "steps must be an integer"),
    ({"prompt": "p", "steps": "20"}, "steps must be an integer"),
    ({"prompt": "p", "cfg": 1.49}, "cfg must be between 1.5 and 10"),
    ({"prompt": "p", "cfg": 10.01}, "cfg must be between 1.5 and 10"),
    ({"prompt": "p", "cfg": True}, "cfg must be a number"),
    ({"prompt": "p", "cfg": "3"}, "cfg must be a number"),
    ({"prompt": "p", "callback_url": "example.com"}, "callback_url must be a URL"),
    ({"prompt": "p", "callback_url": "https://exa mple"}, "callback_url must be a URL"),
    ({"prompt": "p", "callback_url": 1}, "callback_url must be a URL"),
]


@pytest.mark.parametrize("payload", GOOD, ids=repr)
def test_what_the_contract_allows_is_read(payload: dict[str, Any]) -> None:
    """Every value the contract allows comes out as it went in."""
    order = FLEX.read(payload)
    for name, value in payload.items():
        assert getattr(order, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(("payload", "message"), BAD, ids=repr)
def test_what_the_contract_forbids_is_refused(payload: object, message: str) -> None:
    """Missing, unknown, ill-typed and out-of-range fields are refused, and the field is named."""
    with pytest.raises(RefusedError, match=re.escape(message)):
        FLEX.read(payload)


@pytest.mark.parametrize("word", ["auto", "1:1", "21:9", "5:4", ""])
def test_the_aspect_ratios_are_those_of_this_generation(word: str) -> None:
    """Ratios of the other generation are refused."""
    payload = {"prompt": "p", "aspect_ratio": word}
    if word in {"auto", "1:1"}:
        assert FLEX.read(payload).aspect_ratio == word
    else:
        with pytest.raises(RefusedError, match="aspect_ratio must be one of auto, 1:1"):
            FLEX.read(payload)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"prompt": NaN}', b"[" * 100_000, b'{"a": Infinity}']
)
def test_only_strict_json_is_json(body: bytes) -> None:
    """A body that is not JSON, or only JSON by Python's leave, is refused."""
    with pytest.raises(RefusedError, match="not valid JSON"):
        decode(body)


@pytest.mark.parametrize("word", ["1e400", "-1e400"])
def test_a_number_beyond_all_bounds_is_out_of_range(word: str) -> None:
    """A literal that becomes infinite is refused, not an accident inside the simulator."""
    payload = decode(b'{"prompt": "p", "steps": %s}' % word.encode())
    with pytest.raises(RefusedError, match="steps must be"):
        FLEX.read(payload)


def test_the_quality_is_the_price() -> None:
    """1K costs 0.04 USD, 2K 0.06 USD, and 1K is the default (seed)."""
    assert Order("p").price == Decimal("0.04")
    assert Order("p", quality="2K").price == Decimal("0.06")
