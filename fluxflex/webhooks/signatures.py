"""Signatures of callbacks: an optional check beside the token.

The provider signs nothing today (its documentation: "if supported in the future"). One user of it
checks the form that `HmacSignature` does; anything else is a function of your own.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from fluxflex.errors import WebhookError

Headers = Mapping[str, str]
# A timestamp above this is in milliseconds: in seconds it would be the year 5138.
_MILLISECONDS = 1e11


class Verify(Protocol):
    """What `WebhookReceiver(verify=…)` takes: a plain function, called once for each callback."""

    def __call__(self, headers: Headers, body: bytes, /) -> bool:
        """Say whether a callback is signed by whom it should be; `True` and nothing else counts."""
        ...


def header(headers: Headers, name: str) -> str:
    """Return a header by its lower-case name, however it is written; empty where it is absent."""
    found: object = headers.get(name)
    if found is None:
        for key, text in headers.items():
            if _text(key).lower() == name:
                return _text(text)
        return ""
    return _text(found)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


class HmacSignature:
    """Checks the hex HMAC-SHA256 of `"{timestamp}.{raw body}"`.

    Args:
        secret: shared with the sender; never shown.
        signature: the header with the signature; `sha256=` before it is allowed.
        timestamp: the header with the time of sending: seconds since the epoch, or milliseconds.
        tolerance: seconds by which that time may be off, so that a callback that somebody
            recorded is of no use later.
        now: seconds since the epoch.

    Raises:
        WebhookError: the secret or the tolerance is none.
    """

    def __init__(
        self,
        secret: str | bytes,
        *,
        signature: str = "X-Webhook-Signature",
        timestamp: str = "X-Webhook-Timestamp",
        tolerance: float = 300.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        raw = secret.encode() if isinstance(secret, str) else secret
        if not isinstance(raw, bytes) or not raw.strip():
            raise WebhookError(
                "The secret of the signature must be text or bytes, and not blank",
                hint="It is the one that the sender signs with; it is not shown here.",
            )
        if not isinstance(tolerance, (int, float)) or not tolerance >= 0:
            raise WebhookError(
                f"tolerance must be seconds from 0, not {tolerance!r}",
                hint="300 is the default: five minutes either way.",
            )
        self._secret = raw
        self._signature = signature.lower()
        self._timestamp = timestamp.lower()
        self._tolerance = tolerance
        self._now = now

    def __repr__(self) -> str:
        return f"<HmacSignature in {self._signature}>"

    def __call__(self, headers: Headers, body: bytes, /) -> bool:
        """Say whether the signature fits, and the timestamp is of now."""
        stamp = header(headers, self._timestamp).strip()
        try:
            sent = float(stamp)
        except ValueError:
            return False
        if sent > _MILLISECONDS:
            sent /= 1000
        if not abs(self._now() - sent) <= self._tolerance:  # so that NaN is refused too
            return False
        signed = stamp.encode("utf-8", "replace") + b"." + body
        ours = hmac.new(self._secret, signed, hashlib.sha256).hexdigest()
        given = header(headers, self._signature).strip().lower().removeprefix("sha256=")
        return hmac.compare_digest(ours.encode(), given.encode("utf-8", "replace"))
