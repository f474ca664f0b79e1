"""The provider's contract for what comes in: paths, parameters, prices. Strict, as openapi.yaml.

This is a second reading of the contract, made without a look at the client's. Where the two differ
one of them is wrong, and an end-to-end test shows it.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import attrs

PRICES: Mapping[str, Decimal] = {"1K": Decimal("0.04"), "2K": Decimal("0.06")}
"""USD a task costs, by quality (seed). That the unified API asks the same is a guess."""

# Any absolute URI, as `format: uri` says: the contract does not ask for http.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[^\s<>\"{}|\\^`]+")
_MOST_URLS = 10

Check = Callable[[object], str | None]
"""Say what is wrong with a field's value ("must be …"), or None."""


class RefusedError(ValueError):
    """The payload breaks the contract; the message is what the provider answers."""


def _as_tuple(urls: Iterable[str]) -> tuple[str, ...]:
    return tuple(urls)


@attrs.frozen
class Order:
    """Hold what one accepted payload asks for, with the contract's defaults filled in.

    The words are those of the seed document; every generation is read into them.
    """

    prompt: str
    image_urls: tuple[str, ...] = attrs.field(default=(), converter=_as_tuple)
    aspect_ratio: str = "auto"
    quality: str = "1K"
    steps: int | None = None
    cfg: float | None = None
    callback_url: str | None = None

    @property
    def price(self) -> Decimal:
        """Return what the task costs in USD."""
        return PRICES[self.quality]


def _never(_payload: object) -> bool:
    return False


@attrs.frozen
class Generation:
    """Describe one generation of the API: where it listens and how it reads a payload.

    `only_prices` says of a payload that was read whether it asks for the price and no more.
    `is_unified` says whether its replies usually carry `success` beside `code`.
    """

    name: str
    submit: str
    status: str
    read: Callable[[object], Order]
    only_prices: Callable[[object], bool] = _never
    is_unified: bool = False


def decode(body: bytes) -> object:
    """Read JSON strictly: no NaN, no Infinity.

    Raises:
        RefusedError: The body is not JSON.
    """
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise RefusedError("The request body is not valid JSON") from None


def _no_constant(word: str) -> object:
    raise ValueError(word)


def text(value: object) -> str | None:
    """Accept a non-empty string."""
    return None if isinstance(value, str) and value else "must be a non-empty string"


def uri(value: object) -> str | None:
    """Accept an absolute URI."""
    return None if isinstance(value, str) and _URI.fullmatch(value) else "must be a URL"


def uris(value: object) -> str | None:
    """Accept a list of at most ten URIs."""
    if not isinstance(value, list):
        return "must be an array of URLs"
    if len(value) > _MOST_URLS:
        return f"must have at most {_MOST_URLS} items"
    return "must be an array of URLs" if any(map(uri, value)) else None


def one_of(*words: str) -> Check:
    """Accept one of these words."""

    def check(value: object) -> str | None:
        known = isinstance(value, str) and value in words
        return None if known else f"must be one of {', '.join(words)}"

    return check


def integer(low: int, high: int) -> Check:
    """Accept an integer in this range; 20.0 is one in JSON Schema, true is none."""

    def check(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            return "must be an integer"
        return None if low <= value <= high else f"must be between {low} and {high}"

    return check


def number(low: float, high: float) -> Check:
    """Accept a number in this range; true is none."""

    def check(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        return None if low <= value <= high else f"must be between {low:g} and {high:g}"

    return check


def boolean(value: object) -> str | None:
    """Accept true and false."""
    return None if isinstance(value, bool) else "must be a boolean"


def anything(_value: object) -> str | None:
    """Accept what is checked elsewhere."""
    return None


def checked(
    payload: object,
    fields: Mapping[str, Check],
    *required: str,
    called: str = "The request body",
) -> dict[str, object]:
    """Return the payload as a mapping in which every field keeps the contract.

    Raises:
        RefusedError: A field is missing, unknown or wrong. The first fault found is named.
    """
    if not isinstance(payload, dict):
        raise RefusedError(f"{called} must be a JSON object")
    for name in required:
        if name not in payload:
            raise RefusedError(f"Missing required parameter: {name}")
    for name, value in payload.items():
        if name not in fields:
            raise RefusedError(f"{name}: Extra inputs are not permitted")
        if fault := fields[name](value):
            raise RefusedError(f"{name} {fault}")
    return payload


_FLEX_FIELDS: Mapping[str, Check] = {
    "prompt": text,
    "image_urls": uris,
    "aspect_ratio": one_of("auto", "1:1", "4:3", "16:9", "3:2", "2:3", "9:16", "3:4"),
    "quality": one_of(*PRICES),
    "callback_url": uri,
    "steps": integer(1, 50),
    "cfg": number(1.5, 10),
}


def _read_flex(payload: object) -> Order:
    # The checks have just established the type of every field.
    known: dict[str, Any] = checked(payload, _FLEX_FIELDS, "prompt")
    return Order(**known)


FLEX = Generation(
    name="flux.2-flex",
    submit="/flux.2-flex/generate",
    status="/flux.2-flex/status/{task_id}",
    read=_read_flex,
)
"""The generation of the seed document: a flat body, POST /flux.2-flex/generate."""

_MODEL = "black-forest-labs/flux.2-flex"
_UNIFIED_FIELDS: Mapping[str, Check] = {
    "model": one_of(_MODEL),
    "input": anything,
    "callback_url": uri,
    "dry_run": boolean,
}
_INPUT_FIELDS: Mapping[str, Check] = {
    "prompt": text,
    "image_urls": uris,
    "aspect_ratio": one_of("auto", "21:9", "16:9", "4:3", "1:1", "3:4", "9:16", "9:21"),
    "resolution": one_of(*(quality.lower() for quality in PRICES)),
    "steps": integer(1, 50),
    "guidance": number(1.5, 10),
}


def _read_unified(payload: object) -> Order:
    outer = checked(payload, _UNIFIED_FIELDS, "model", "input")
    # The checks have just established the type of every field.
    known: dict[str, Any] = {**checked(outer["input"], _INPUT_FIELDS, "prompt", called="input")}
    if "resolution" in known:
        known["quality"] = known.pop("resolution").upper()
    if "guidance" in known:
        known["cfg"] = known.pop("guidance")
    callback_url: Any = outer.get("callback_url")
    return Order(**known, callback_url=callback_url)


def _is_dry_run(payload: object) -> bool:
    return isinstance(payload, dict) and payload.get("dry_run") is True


V1 = Generation(
    name="v1",
    submit="/v1/tasks",
    status="/v1/tasks/{task_id}",
    read=_read_unified,
    only_prices=_is_dry_run,
    is_unified=True,
)
"""The unified API: a model and its `input`, POST /v1/tasks (docs).

Guesses: without `aspect_ratio` and `resolution` a task is what it is in the other generation, auto
and 1k; other resolutions that were heard of (1mp, 2mp, 4 megapixels) are refused, as openapi.yaml
lists 1k and 2k only; a fault inside `input` is named without the word `input`.
"""

GENERATIONS: Mapping[str, Generation] = {each.name: each for each in (FLEX, V1)}
"""The generations of the API that are served, by name."""
