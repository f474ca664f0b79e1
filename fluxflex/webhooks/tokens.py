"""The tokens in callback URLs: whose callback it is, in a form that nobody can guess.

A token names a task without any table: it holds where the task was sent from and its key there,
and an HMAC-SHA256 over both. So it is made before the POST, costs no memory, and one of an earlier
process is known again by whoever has the same secret.
"""

from __future__ import annotations

import base64
import hmac
import re

import attrs

from fluxflex.errors import WebhookError

# Bytes of each part. The first is 8 whole letters of a token, so it can be found in any text.
NAME = 6
_KEY = 6
_MAC = 18
_SIZE = 2 * NAME + _KEY + _MAC
_LETTERS = _SIZE * 4 // 3
_SHAPE = re.compile(rf"[A-Za-z0-9_-]{{{_LETTERS}}}")
_PURPOSE = b"fluxflex callback 1\0"


@attrs.frozen
class Ticket:
    """Which task a callback is for.

    Attributes:
        home: what outlives a session: its journal, where it has one.
        session: the session that sent it.
        key: that session's key of the task.
    """

    home: bytes
    session: bytes
    key: int


class Tokens:
    """Makes and checks tokens under one secret.

    Args:
        secret: never shown.

    Raises:
        WebhookError: the secret is none.
    """

    def __init__(self, secret: str | bytes) -> None:
        raw = secret.encode() if isinstance(secret, str) else secret
        if not isinstance(raw, bytes) or not raw.strip():
            raise WebhookError(
                "The receiver's secret must be text or bytes, and not blank",
                hint="Make one with `secrets.token_urlsafe(32)` and keep it; it is not shown here.",
            )
        self._secret = raw

    def __repr__(self) -> str:
        return "<Tokens>"

    def make(self, ticket: Ticket) -> str:
        """Return the token of a task."""
        named = ticket.home + ticket.session + ticket.key.to_bytes(_KEY, "big")
        return base64.urlsafe_b64encode(named + self._mac(named)).decode()

    def read(self, token: str) -> Ticket | None:
        """Return what a token names; `None` for one that is not ours."""
        if not looks_like_token(token):
            return None
        raw = base64.urlsafe_b64decode(token)
        named = raw[:-_MAC]
        if not hmac.compare_digest(raw[-_MAC:], self._mac(named)):
            return None
        key = int.from_bytes(named[2 * NAME :], "big")
        return Ticket(named[:NAME], named[NAME : 2 * NAME], key)

    def _mac(self, named: bytes) -> bytes:
        return hmac.digest(self._secret, _PURPOSE + named, "sha256")[:_MAC]


def looks_like_token(text: str) -> bool:
    """Say whether a text has the shape of a token."""
    return _SHAPE.fullmatch(text) is not None


def pattern(home: bytes, *others: bytes) -> tuple[bytes, re.Pattern[bytes]]:
    """Return how all tokens of a home begin, and what finds them, and others', in a body."""
    starts = [base64.urlsafe_b64encode(each) for each in (home, *others)]
    rest = rb"[A-Za-z0-9_-]{%d}" % (_LETTERS - len(starts[0]))
    return starts[0], re.compile(rb"(?:%s)%s" % (b"|".join(starts), rest))
