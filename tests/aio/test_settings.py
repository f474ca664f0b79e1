"""What a session is opened with: where it comes from, and what is made of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fluxflex import AdaptiveConcurrency, FixedConcurrency, RetryPolicy, Timeouts
from fluxflex._aio import settings
from fluxflex._aio.settings import Lanes
from fluxflex._core.encode import APIS
from fluxflex.errors import ConfigurationError


def test_the_key_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument, then our variable, then the provider's."""
    monkeypatch.setenv("UNIFICALLY_API_KEY", "sk-theirs")
    assert settings.key(None) == "sk-theirs"
    monkeypatch.setenv("FLUXFLEX_API_KEY", " sk-ours\n")
    assert settings.key(None) == "sk-ours"
    assert settings.key("sk-given") == "sk-given"
    monkeypatch.setenv("FLUXFLEX_API_KEY", "")
    assert settings.key("") == "sk-theirs"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://api.test", "http://api.test"),
        ("https://api.test/", "https://api.test"),
        ("https://api.test:8443/gate//", "https://api.test:8443/gate"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        (" https://api.test\n", "https://api.test"),
        (None, "https://api.unifically.com"),
        ("", "https://api.unifically.com"),
    ],
)
def test_the_address(given: str | None, url: str) -> None:
    """Without a slash or blanks at its ends; the provider's where none is given."""
    assert settings.base_url(given) == url


@pytest.mark.parametrize("url", ["http://a b.test", "http://api.test/a b", "http://api.test/\x00"])
def test_an_address_with_blanks_in_it(url: str) -> None:
    """It could not be sent as it is."""
    with pytest.raises(ConfigurationError):
        settings.base_url(url)


def test_the_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument wins over it."""
    monkeypatch.setenv("FLUXFLEX_BASE_URL", "http://env.test/")
    assert settings.base_url(None) == "http://env.test"
    assert settings.base_url("http://given.test") == "http://given.test"


@pytest.mark.parametrize("name", APIS)
def test_the_generations(name: str) -> None:
    """By the names that users write."""
    assert settings.api(name).name == name


def test_the_ceiling() -> None:
    """A number, or a plain semaphore of that size."""
    assert settings.concurrency(7) == AdaptiveConcurrency(7)
    assert settings.concurrency(FixedConcurrency(7)) == FixedConcurrency(7)


@pytest.mark.parametrize("value", [None, 0.5, 1, 1000])
def test_the_poll_rate(value: float | None) -> None:
    """Any number above nought, or no limit."""
    assert settings.rate("poll_rate", value) == value


def test_timeouts() -> None:
    """Seconds stand for those of the task; the others stay."""
    usual = Timeouts(submit=5)
    assert settings.timeouts(None, usual) is usual
    assert settings.timeouts(Timeouts(task=7), usual) == Timeouts(task=7)
    assert settings.timeouts(7, usual) == Timeouts(submit=5, task=7)
    assert settings.timeouts(0.5, usual).task == 0.5


@pytest.mark.parametrize("value", [5, "5", "5.00", 5.0, Decimal(5)])
def test_money(value: settings.Money) -> None:
    """Exactly as it is written."""
    assert settings.money("budget", value) == Decimal(5)
    assert settings.money("budget", 0.1) == Decimal("0.1")
    assert settings.money("budget", 0) == 0


def test_prices() -> None:
    """The user's table stands in place of the published one, as a whole."""
    assert settings.prices(None) == {"1K": Decimal("0.04"), "2K": Decimal("0.06")}
    assert settings.prices({"2K": 1}) == {"2K": Decimal(1)}
    assert settings.prices({}) == {}


@pytest.mark.parametrize("prices", [5, "1K", ["1K"], {1: 1}, {"8K": 1}])
def test_prices_that_are_none(prices: Any) -> None:
    """Only a mapping from the qualities there are."""
    with pytest.raises(ConfigurationError, match="prices must be a mapping from 1K or 2K to USD"):
        settings.prices(prices)


def test_instances() -> None:
    """A value of the right kind comes through."""
    policy = RetryPolicy()
    assert settings.instance(RetryPolicy, "retry", policy) is policy


@pytest.mark.parametrize(
    ("ceiling", "limit", "lanes"),
    [
        (4, 0, (4, 32, 8)),
        (32, 0, (32, 32, 8)),
        (1000, 0, (64, 32, 8)),
        (32, 72, (32, 32, 8)),
        (32, 71, (32, 17, 8)),
        (32, 20, (10, 5, 5)),
        (2, 20, (2, 5, 5)),
        (32, 4, (2, 1, 1)),
        (32, 3, (1, 1, 1)),
        (32, 1, (1, 1, 1)),
    ],
)
def test_lanes(ceiling: int, limit: int, lanes: tuple[int, int, int]) -> None:
    """Together they never want more than the pool has, from three connections on."""
    found = settings.lanes(ceiling, 8, limit)
    assert (found.posts, found.looks, found.downloads) == lanes
    assert isinstance(found, Lanes)
    assert limit in {0, 1} or found.connections <= limit
