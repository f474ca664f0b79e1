"""The head of a request: what is read of it, and how strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

_MOST_HEADERS = 100

START = re.compile(rb"([A-Za-z]{1,20}) ([\x21-\x7e]{1,4096}) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(r"[0-9]{1,18}")


class Nonsense(Exception):  # noqa: N818 - no error: an answer
    """A request that is answered with a status and the end of the connection."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@attrs.frozen
class Usual:
    """How a request came that was not turned away: the sender's next is likely to be alike.

    Attributes:
        block: its head, from the end of the first line to the body.
        headers: what that says.
        rest: how many bytes follow the first line, with those of the body.
    """

    block: bytes
    headers: Mapping[str, str]
    rest: int


def headers_of(lines: list[bytes]) -> dict[str, str]:
    """Return headers by lower-case names; of one that stands there twice the first counts."""
    if len(lines) > _MOST_HEADERS:
        raise Nonsense(431)
    headers: dict[str, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise Nonsense(400)
        name = found[1].decode("ascii").lower()
        if name in headers and name in {"content-length", "transfer-encoding", "host"}:
            raise Nonsense(400)
        headers.setdefault(name, found[2].rstrip(b" \t").decode("latin-1"))
    return headers


def length_of(headers: Mapping[str, str]) -> int | None:
    """Return the length of the body; `None` where it comes in chunks."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None:
            raise Nonsense(400)
        if coding.lower() != "chunked":
            raise Nonsense(501)
        return None
    if length is None:
        return 0
    if _LENGTH.fullmatch(length) is None:
        raise Nonsense(400)
    return int(length)
