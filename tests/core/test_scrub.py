"""The API key goes no further than where it came back."""

from __future__ import annotations

import pytest

from fluxflex._core.scrub import Scrubber

KEY = "sk-0123/abcdef"


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        KEY.replace("/", "\\/"),
        KEY.replace("/", "%2F"),
        KEY.replace("/", "%2f"),
        KEY.replace("s", "\\u0073"),
        "".join(f"\\u00{ord(char):02x}" for char in KEY),
        "".join(f"%{ord(char):02X}" for char in KEY),
    ],
)
def test_however_it_is_written(written: str) -> None:
    """In plain letters, and as JSON and addresses write them."""
    scrubber = Scrubber(KEY)
    assert scrubber.text(f"bad {written}!") == "bad ***!"
    assert scrubber.body(f"bad {written}!".encode()) == b"bad ***!"
    assert scrubber.texts({"a": "fine", "b": written}) == {"a": "fine", "b": "***"}


@pytest.mark.parametrize("text", ["", "fine", "50 % of C:\\temp", "sk-0123", "sk-0123/abcdeF"])
def test_what_is_not_the_key_stays(text: str) -> None:
    """The very same object comes back, since most replies are such."""
    scrubber = Scrubber(KEY)
    assert scrubber.text(text) is text
    assert scrubber.body(body := text.encode()) is body
    assert scrubber.texts(texts := {"a": text}) is texts


@pytest.mark.parametrize("key", [None, "", "a", "a" * 7])
def test_no_key_and_one_of_a_few_letters(key: str | None) -> None:
    """Such a key is made up, and stands in the words of any reply."""
    assert Scrubber(key).text("aaaaaaaaa") == "aaaaaaaaa"


def test_bytes_that_are_no_text_stay() -> None:
    """Around the key every byte is as it was."""
    body = bytes(range(256))
    assert Scrubber(KEY).body(body + KEY.encode() + body) == body + b"***" + body
