"""Tokens: unguessable, known again under the same secret, and never shown."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxflex.errors import WebhookError
from fluxflex.webhooks import HmacSignature
from fluxflex.webhooks.tokens import Ticket, Tokens, looks_like_token, pattern
from tests.webhooks.helpers import SECRET

six = st.binary(min_size=6, max_size=6)
tickets = st.builds(Ticket, six, six, st.integers(0, 2**48 - 1))


@given(tickets)
def test_a_token_names_its_task(ticket: Ticket) -> None:
    """What was made under a secret is read under it, in another process too, and no other."""
    token = Tokens(SECRET).make(ticket)
    assert looks_like_token(token)
    assert Tokens(SECRET.encode()).read(token) == ticket
    assert Tokens("another").read(token) is None


@given(tickets, st.binary(min_size=1, max_size=200).filter(bytes.strip))
def test_a_token_is_an_hmac(ticket: Ticket, secret: bytes) -> None:
    """It holds the ticket and the standard's HMAC-SHA256 of it, in the alphabet of URLs."""
    named = ticket.home + ticket.session + ticket.key.to_bytes(6, "big")
    mac = hmac.new(secret, b"fluxflex callback 1\0" + named, "sha256").digest()
    token = base64.urlsafe_b64encode(named + mac[:18]).decode()
    assert Tokens(secret).make(ticket) == token
    assert Tokens(secret).read(token) == ticket


@given(tickets, tickets)
def test_no_two_tasks_share_one(one: Ticket, other: Ticket) -> None:
    """Two tickets have one token only where they are equal."""
    tokens = Tokens(SECRET)
    assert (tokens.make(one) == tokens.make(other)) is (one == other)


@given(tickets, st.integers(0, 47), st.sampled_from("AZaz09-_"))
def test_a_letter_changed_is_a_forgery(ticket: Ticket, place: int, letter: str) -> None:
    """Every letter of a token counts."""
    tokens = Tokens(SECRET)
    token = tokens.make(ticket)
    forged = token[:place] + letter + token[place + 1 :]
    assert (tokens.read(forged) is None) is (forged != token)


def test_a_forgery_is_told_apart_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long it takes says nothing of how many letters are right, in tokens and signatures."""
    compared = []

    def compare_digest(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    ticket = Ticket(b"journa", b"sessio", 1)
    token = Tokens(SECRET).make(ticket)
    forged = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert [Tokens(SECRET).read(each) for each in (token, forged)] == [ticket, None]
    check = HmacSignature(SECRET, now=lambda: 1000.0)
    assert not check({"X-Webhook-Timestamp": "1000", "X-Webhook-Signature": "0" * 64}, b"{}")
    assert [len(ours) == len(given) for ours, given in compared] == [True, True, True]


@given(st.text())
def test_whatever_else_is_no_token(text: str) -> None:
    """No text raises, and none passes."""
    assert Tokens(SECRET).read(text) is None


def test_the_tokens_of_a_home_are_found_in_a_text() -> None:
    """They begin alike, whatever session they are of, so that repeating them is made harmless."""
    token = Tokens(SECRET).make(Ticket(b"journa", b"sessio", 7)).encode()
    start, finds = pattern(b"journa")
    assert start in token
    assert finds.sub(b"***", b'"https://a.test/' + token + b'"') == b'"https://a.test/***"'


@pytest.mark.parametrize("secret", ["", " ", b"", None, 7])
def test_a_secret_must_be_one(secret: str) -> None:
    """What is blank protects nothing; it is not repeated in the error."""
    with pytest.raises(WebhookError):
        Tokens(secret)
    with pytest.raises(WebhookError):
        HmacSignature(secret)


@pytest.mark.parametrize("tolerance", ["5", -1, None, float("nan")])
def test_a_tolerance_must_be_one(tolerance: float) -> None:
    """It is refused at once, and not with the first callback."""
    with pytest.raises(WebhookError, match="tolerance"):
        HmacSignature(SECRET, tolerance=tolerance)


def test_secrets_are_not_shown() -> None:
    """Neither that of tokens nor that of signatures."""
    assert SECRET not in repr(Tokens(SECRET)) + repr(HmacSignature(SECRET))


def signed(stamp: str, body: bytes, secret: str = SECRET) -> str:
    """Return the signature of a body."""
    whole = stamp.encode() + b"." + body
    return hmac.new(secret.encode(), whole, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("stamp", "fits"),
    [
        ("1000", True),
        ("1000000000000", False),
        ("700", True),
        ("1300.0", True),
        ("699.9", False),
        ("1301", False),
        ("nan", False),
        ("inf", False),
        ("", False),
        ("soon", False),
    ],
)
def test_the_timestamp_is_of_now(stamp: str, *, fits: bool) -> None:
    """Within five minutes of this machine's clock, else a recorded callback could be replayed."""
    check = HmacSignature(SECRET, now=lambda: 1000.0)
    headers = {"X-Webhook-Timestamp": stamp, "X-Webhook-Signature": signed(stamp, b"{}")}
    assert check(headers, b"{}") is fits


def test_the_signature_fits_the_raw_body() -> None:
    """Of another body, secret or time it is refused; capitals and a prefix do not matter."""
    check = HmacSignature(SECRET, now=lambda: 1.7e9)
    right = signed("1700000000", b"{}")
    ms = signed("1700000000000", b"{}")

    def said(stamp: str, signature: str, body: bytes = b"{}") -> bool:
        return check({"x-webhook-timestamp": stamp, "x-webhook-signature": signature}, body)

    assert said("1700000000", right)
    assert said("1700000000", f"sha256={right.upper()}")
    assert said("1700000000000", ms)
    assert not said("1700000000", right, b"{} ")
    assert not said("1700000001", right)
    assert not said("1700000000", signed("1700000000", b"{}", "another"))
    assert not said("1700000000", "é")
    assert not check({}, b"{}")
