"""The API key in what comes back: providers repeat it in their messages, and it goes no further."""

from __future__ import annotations

import re

# A shorter key is made up, as for the simulator, and would be found in the words of any reply.
_SHORTEST = 8


class Scrubber:
    """Replaces a key by `***`, in each way in which JSON or an address may write its letters.

    Args:
        key: what is secret; `None` for nothing.
    """

    def __init__(self, key: str | None) -> None:
        self._key = key or ""
        self._pattern = _pattern(key) if key and len(key) >= _SHORTEST else None

    def text(self, text: str) -> str:
        """Return a text without the key; the same object where it had none."""
        # Written in other letters it has one of these two.
        if self._pattern is None or not (self._key in text or "\\" in text or "%" in text):
            return text
        return self._pattern.sub("***", text)

    def texts(self, texts: dict[str, str]) -> dict[str, str]:
        """Return named texts without the key."""
        whole = "\n".join(texts.values())
        if self.text(whole) is whole:
            return texts
        return {name: self.text(text) for name, text in texts.items()}

    def body(self, body: bytes) -> bytes:
        """Return bytes without the key; the same object where they had none."""
        text = body.decode("latin-1")
        scrubbed = self.text(text)
        return body if scrubbed is text else scrubbed.encode("latin-1")


def _pattern(key: str) -> re.Pattern[str]:
    def letter(char: str) -> str:
        code = f"(?i:{ord(char):02x})"
        slashes = r"\\{0,3}" if char in '"/\\' else ""
        return rf"(?:{slashes}{re.escape(char)}|\\{{1,3}}u00{code}|%{code})"

    return re.compile("".join(map(letter, key)))
