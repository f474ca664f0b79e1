"""What is said when a session opens of where its callbacks are to arrive."""

from __future__ import annotations

import pytest

import fluxflex
from fluxflex.webhooks import WebhookReceiver
from fluxflex.webhooks.reach import doubt

API = "https://api.unifically.com"


@pytest.mark.parametrize(
    "public_url",
    [
        "http://127.0.0.1:8000/callbacks",
        "http://localhost:8000/callbacks",
        "http://0.0.0.0:8000/callbacks",
        "https://10.1.2.3/callbacks",
        "https://[::1]/callbacks",
        "https://app.internal/callbacks",
    ],
)
def test_an_address_of_this_network_is_not_reached_from_the_internet(public_url: str) -> None:
    """The address is named, and what comes of it; a simulator beside it may well reach it."""
    said = doubt(public_url, API)
    assert said is not None
    assert f"cannot reach {public_url}" in said
    assert doubt(public_url, "http://127.0.0.1:8080") is None


def test_plain_http_over_the_internet_shows_tokens() -> None:
    """Https is what keeps them."""
    assert "https" in (doubt("http://example.org/callbacks", API) or "")
    assert doubt("https://example.org/callbacks", API) is None
    assert doubt("https://1.1.1.1/callbacks", API) is None


async def test_a_session_says_it_once_when_it_opens(caplog: pytest.LogCaptureFixture) -> None:
    """It works without callbacks too, so that it is a warning and no error."""
    receiver = WebhookReceiver("http://127.0.0.1:8000/callbacks")
    async with fluxflex.Session("key", webhooks=receiver):
        [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "cannot reach" in record.getMessage()
