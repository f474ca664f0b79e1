"""What a user asks for: `GenerateRequest`, the rules it obeys and what it costs.

The rules are the provider's published table, for both generations of its API. All faults of a
request are found at once, each with its field, before anything is sent.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Self
from urllib.parse import urlsplit

import attrs

from fluxflex._core import jsonlib
from fluxflex.errors import ConfigurationError, Fault, InvalidRequestError

MAX_IMAGE_URLS = 10
ASPECT_RATIOS = (
    "auto",
    "1:1",
    "4:3",
    "3:4",
    "3:2",
    "2:3",
    "16:9",
    "9:16",
    "21:9",
    "9:21",
)
QUALITIES = ("1K", "2K")
PRICES: Mapping[str, Decimal] = {"1K": Decimal("0.04"), "2K": Decimal("0.06")}

Metadata = Mapping[str, object]

# What a request says about itself; the picture does not follow from it.
_ABOUT = frozenset({"metadata", "callback_url"})


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of thousands of digits has no decimal text
        return f"a huge {type(value).__name__}"


def _prompt(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be text, not {type(value).__name__}"
    if not value.strip():
        return "must not be blank"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate), which cannot be sent"
    return None


def _url(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be text, not {type(value).__name__}"
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable or any(char.isspace() or not char.isprintable() for char in value):
        return "must be a public http(s) URL"
    return None


def _image_urls(value: object) -> str | None:
    if not isinstance(value, tuple):
        return f"must be a list of URLs, not {type(value).__name__}"
    if len(value) > MAX_IMAGE_URLS:
        return f"holds {len(value)} URLs; the provider takes at most {MAX_IMAGE_URLS}"
    faults = ((place, _url(url)) for place, url in enumerate(value))
    return next((f"[{place}] {fault}" for place, fault in faults if fault), None)


def _one_of(allowed: tuple[str, ...]) -> Callable[[object], str | None]:
    def rule(value: object) -> str | None:
        known = isinstance(value, str) and value in allowed
        return None if known else f"must be one of {', '.join(allowed)}, not {_shown(value)}"

    return rule


def _steps(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        return f"must be a whole number from 1 to 50, not {_shown(value)}"
    return None if 1 <= value <= 50 else f"must be from 1 to 50, not {_shown(value)}"  # noqa: PLR2004 - the rule itself


def _cfg(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return f"must be a number from 1.5 to 10, not {_shown(value)}"
    return None if 1.5 <= value <= 10 else f"must be from 1.5 to 10, not {_shown(value)}"  # noqa: PLR2004 - as above


def _callback_url(value: object) -> str | None:
    return None if value is None else _url(value)


def _metadata(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return f"must be a mapping, not {type(value).__name__}"
    try:
        json.dumps(dict(value), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return f"must be JSON: {error}"
    return None


RULES: Mapping[str, Callable[[object], str | None]] = {
    "prompt": _prompt,
    "image_urls": _image_urls,
    "aspect_ratio": _one_of(ASPECT_RATIOS),
    "quality": _one_of(QUALITIES),
    "steps": _steps,
    "cfg": _cfg,
    "callback_url": _callback_url,
    "metadata": _metadata,
}


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _as_dict(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value


def faults_of(values: Mapping[str, object]) -> tuple[Fault, ...]:
    """Return every fault of the values of a request, in the order of its fields."""
    found = ((name, rule(values[name])) for name, rule in RULES.items() if name in values)
    return tuple(Fault(name, message) for name, message in found if message)


@attrs.frozen
class GenerateRequest:
    """One picture to generate.

    Args:
        prompt: what to draw; not blank.
        image_urls: up to 10 public URLs of reference pictures.
        aspect_ratio: `"auto"` or one of the provider's ratios, such as `"16:9"`.
        quality: `"1K"` or `"2K"`. It sets the price, so it is always sent.
        steps: 1 to 50; more is better and slower. Unset: the provider's default.
        cfg: 1.5 to 10; higher follows the prompt more strictly. Unset: the provider's default.
        callback_url: where the provider reports the end of the task.
        metadata: yours (JSON); kept beside the task, never sent.

    Raises:
        InvalidRequestError: with every fault at once.

    The rules come from the provider's public documentation.
    """

    prompt: str
    image_urls: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_as_tuple)
    aspect_ratio: str = attrs.field(default="auto", kw_only=True)
    quality: str = attrs.field(default="1K", kw_only=True)
    steps: int | None = attrs.field(default=None, kw_only=True)
    cfg: float | None = attrs.field(default=None, kw_only=True)
    callback_url: str | None = attrs.field(default=None, kw_only=True)
    metadata: Metadata | None = attrs.field(
        default=None, kw_only=True, hash=False, converter=_as_dict
    )

    def __attrs_post_init__(self) -> None:
        # What was left as it is needs no check: most requests are a prompt.
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value is not default and RULES[name](value):
                raise InvalidRequestError(faults_of(self._set()))

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Build a request from a mapping, as `to_dict` gives it.

        Raises:
            InvalidRequestError: also for names that are no field, and for a missing prompt.
        """
        faults = [
            Fault(str(name), f"is no parameter; there are {', '.join(RULES)}")
            for name in values
            if name not in RULES
        ]
        if "prompt" not in values:
            faults.append(Fault("prompt", "is missing"))
        if faults:
            known = {name: value for name, value in values.items() if name in RULES}
            if "image_urls" in known:
                known["image_urls"] = _as_tuple(known["image_urls"])
            raise InvalidRequestError([*faults, *faults_of(known)])
        return cls(**values)  # type: ignore[arg-type]  # each is checked as it is made

    @property
    def digest(self) -> str:
        """The same for requests that ask for the same picture.

        `metadata` and `callback_url` do not count: they change nothing about it.
        """
        values = self._set()
        if self.cfg is not None:
            values["cfg"] = float(self.cfg)  # 4 and 4.0 are equal
        content = {name: values[name] for name in _CONTENT if name in values}
        return hashlib.sha256(jsonlib.dumps(content)).hexdigest()[:32]

    def to_dict(self) -> dict[str, object]:
        """Return what is set, as plain JSON values."""
        values = self._set()
        if self.image_urls:
            values["image_urls"] = list(self.image_urls)
        return values

    def _set(self) -> dict[str, object]:
        """Return the fields that differ from their defaults."""
        return {
            name: value
            for name, default in _DEFAULTS.items()
            if (value := getattr(self, name)) != default
        }


_DEFAULTS: Mapping[str, object] = {
    field.name: field.default for field in attrs.fields(GenerateRequest)
}
# In one order for ever: a field that comes later must not change the digests of today.
_CONTENT = sorted(name for name in _DEFAULTS if name not in _ABOUT)


def as_request(
    given: object,
    overrides: Mapping[str, object],
    defaults: Mapping[str, object] | None = None,
) -> GenerateRequest:
    """Make a request of what `submit` takes: a prompt, a mapping or a request.

    `overrides` win over what is given, and what is given wins over `defaults`.

    Raises:
        InvalidRequestError: with every fault at once.
    """
    plain = not overrides and not defaults
    if isinstance(given, GenerateRequest):
        if plain:
            return given
        values = attrs.asdict(given, recurse=False) if not defaults else given.to_dict()
    elif isinstance(given, Mapping):
        values = dict(given)
    elif isinstance(given, str):
        if plain:
            return GenerateRequest(given)
        values = {"prompt": given}
    else:
        fault = f"must be a prompt, a mapping or a GenerateRequest, not {type(given).__name__}"
        raise InvalidRequestError([Fault("request", fault)])
    return GenerateRequest.from_dict({**(defaults or {}), **values, **overrides})


def price_of(request: GenerateRequest, prices: Mapping[str, Decimal]) -> Decimal | None:
    """Return what a request costs in USD, from a table by quality; `None` where none is known."""
    return prices.get(request.quality)


def known_price(request: GenerateRequest, prices: Mapping[str, Decimal]) -> Decimal:
    """Return what a request costs in USD, from a table by quality.

    Raises:
        ConfigurationError: the table does not name its quality.
    """
    price = price_of(request, prices)
    if price is None:
        raise ConfigurationError(
            f"No price is known for quality {request.quality}", hint="Name it in `prices`."
        )
    return price
