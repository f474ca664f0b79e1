"""What a session is opened with: checked once, before anything is sent."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal, InvalidOperation
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
import attrs

from fluxflex._core import encode
from fluxflex._core.encode import Api
from fluxflex._core.lifecycle import Change, TaskState
from fluxflex._core.limits import AdaptiveConcurrency, ConcurrencyPolicy, Timeouts
from fluxflex._core.request import PRICES, QUALITIES
from fluxflex._core.retry import RetryPolicy
from fluxflex._core.schedule import PollPolicy
from fluxflex.errors import ConfigurationError
from fluxflex.webhooks.receiver import WebhookReceiver

BASE_URL = "https://api.unifically.com"
BASE_URL_VARIABLE = "FLUXFLEX_BASE_URL"
KEY_VARIABLES = ("FLUXFLEX_API_KEY", "UNIFICALLY_API_KEY")

Money = Decimal | int | float | str
Observer = Callable[[Change], object]
T = TypeVar("T")


# A hundred connections are as fast as a thousand, and far easier on both sides.
_MOST_POSTS = 64
_MOST_LOOKS = 32


@attrs.frozen(kw_only=True)
class Lanes:
    """How many exchanges of each kind may be in the air at once.

    Together they never want more than the pool has, so that it is never a hidden queue.
    """

    posts: int
    looks: int
    downloads: int

    @property
    def connections(self) -> int:
        """How many connections they need."""
        return self.posts + self.looks + self.downloads

    def within(self, limit: int) -> Lanes:
        """Return lanes for a pool of so many connections; 0 stands for no limit."""
        if limit <= 0 or limit >= self.connections:
            return self
        quarter = max(1, limit // 4)
        return Lanes(
            posts=min(self.posts, max(1, limit // 2)),
            looks=min(self.looks, quarter),
            downloads=min(self.downloads, quarter),
        )


@attrs.frozen(kw_only=True)
class Settings:
    """What a session was opened with, checked and complete."""

    api: Api
    base_url: str
    concurrency: ConcurrencyPolicy
    poll_rate: float | None
    poll: PollPolicy
    retry: RetryPolicy
    timeouts: Timeouts
    budget: Decimal | None
    prices: Mapping[str, Decimal]
    journal: str | None
    keep: float | None
    lanes: Lanes
    on_event: Observer | None
    webhooks: WebhookReceiver | None = None


def key(given: str | None) -> str:
    """Return the API key, from the argument or the environment, without echoing it."""
    found = given or next(filter(None, map(os.environ.get, KEY_VARIABLES)), None)
    if found is None:
        names = " or ".join(KEY_VARIABLES)
        raise ConfigurationError("There is no API key", hint=f"Set {names}, or pass `api_key`.")
    found = found.strip() if isinstance(found, str) else ""
    if not found or not found.isascii() or any(c.isspace() or not c.isprintable() for c in found):
        raise ConfigurationError(
            "The API key is not one: it must be printable ASCII without blanks",
            hint="Copy the key again; it is not shown here.",
        )
    return found


def base_url(given: str | None) -> str:
    """Return the API's address without a slash at its end."""
    found = given or os.environ.get(BASE_URL_VARIABLE) or BASE_URL
    url = found.strip() if isinstance(found, str) else ""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        usable = usable and not any(char.isspace() or not char.isprintable() for char in url)
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(
            "The base URL must be an http(s) address without a query or a login",
            hint=f"The provider's is {BASE_URL}.",
        )
    return url.rstrip("/")


def api(name: str) -> Api:
    """Return the generation of the provider's API by its name."""
    found = encode.APIS.get(name) if isinstance(name, str) else None
    if found is None:
        raise ConfigurationError(f"api must be one of {', '.join(encode.APIS)}, not {name!r}")
    return found


def concurrency(given: int | ConcurrencyPolicy) -> ConcurrencyPolicy:
    """Return a concurrency policy; a number is the ceiling of the default one."""
    if isinstance(given, type) or not isinstance(given, ConcurrencyPolicy):
        return AdaptiveConcurrency(count("concurrency", given))
    count("concurrency: its ceiling", given.ceiling)
    return given


def count(name: str, value: object) -> int:
    """Return a whole number from 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number from 1, not {value!r}")
    return value


def lanes(ceiling: int, downloads: int, limit: int) -> Lanes:
    """Return the lanes of a session; `limit` is that of the user's own connector."""
    wanted = Lanes(
        posts=min(ceiling, _MOST_POSTS), looks=_MOST_LOOKS, downloads=count("downloads", downloads)
    )
    return wanted.within(limit)


def rate(name: str, value: float | None) -> float | None:
    """Return a number above 0 (requests a second, days), or `None` for no limit."""
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise ConfigurationError(f"{name} must be a number above 0, not {value!r}")
    return value


def path(name: str, value: str | os.PathLike[str] | None) -> str | None:
    """Return a path as text; a slash at its end is kept."""
    if value is None:
        return None
    found = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(found, str) or not found:
        raise ConfigurationError(f"{name} must be a path, not {value!r}")
    return found


def keep(days: float | None, journal: object) -> float | None:
    """Return after how many days a journal forgets."""
    found = rate("keep", days)
    if found is not None and journal is None:
        raise ConfigurationError("keep needs a journal", hint="Open it with `journal=path`.")
    return found


def again(
    states: Collection[TaskState], run: str | None, *, uncertain: bool
) -> frozenset[TaskState]:
    """Return how items of a run may have ended that are bought once more."""
    if run is None and states:
        raise ConfigurationError("again needs a named run", hint="Give the map a `run`.")
    allowed = {TaskState.FAILED, TaskState.UNCERTAIN}
    if isinstance(states, str) or not isinstance(states, Collection) or not allowed >= set(states):
        raise ConfigurationError(
            f"again must hold TaskState.FAILED, TaskState.UNCERTAIN or both, not {states!r}"
        )
    return frozenset({*states, *([TaskState.UNCERTAIN] if uncertain else [])})


def poll(policy: PollPolicy) -> PollPolicy:
    """Return a poll policy: a value, not its class."""
    if not isinstance(policy, PollPolicy) or isinstance(policy, type):
        raise ConfigurationError(
            f"poll must be a policy with a `gap`, not {policy!r}",
            hint="Pass `AdaptivePolling()` or `FixedPolling(seconds)`.",
        )
    return policy


def observer(function: Observer | None) -> Observer | None:
    """Return what is called with each change: a plain function."""
    if function is not None and (not callable(function) or inspect.iscoroutinefunction(function)):
        raise ConfigurationError(f"on_event must be a plain function, not {function!r}")
    return function


def receiver(given: WebhookReceiver | None) -> WebhookReceiver | None:
    """Return what receives callbacks."""
    return None if given is None else instance(WebhookReceiver, "webhooks", given)


def timeouts(given: Timeouts | float | None, usual: Timeouts) -> Timeouts:
    """Return the timeouts that hold; a number stands for those of the task."""
    if given is None:
        return usual
    if isinstance(given, Timeouts):
        return given
    try:
        return attrs.evolve(usual, task=given)
    except ValueError as error:
        raise ConfigurationError(f"timeout: {error}") from None


def money(name: str, value: Money) -> Decimal:
    """Return an amount in USD, exactly as it is written."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        raise ConfigurationError(f"{name} must be an amount in USD, not {value!r}")
    return amount


def prices(given: Mapping[str, Money] | None) -> Mapping[str, Decimal]:
    """Return the price table: the user's in place of the published one."""
    if given is None:
        return PRICES
    if not isinstance(given, Mapping) or not set(given) <= set(QUALITIES):
        known = " or ".join(QUALITIES)
        raise ConfigurationError(f"prices must be a mapping from {known} to USD, not {given!r}")
    return {name: money(f"prices[{name!r}]", price) for name, price in given.items()}


def instance(kind: type[T], name: str, value: object) -> T:
    """Return a value of this kind."""
    if not isinstance(value, kind):
        raise ConfigurationError(f"{name} must be a {kind.__name__}, not {value!r}")
    return value


def limit(connector: aiohttp.BaseConnector | None) -> int:
    """Return how many connections a user's connector gives; 0 stands for no limit."""
    if connector is None:
        return 0
    instance(aiohttp.BaseConnector, "connector", connector)
    return min(filter(None, (connector.limit, connector.limit_per_host)), default=0)
