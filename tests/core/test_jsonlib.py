"""JSON in and out: the same with the extra `speed` and without it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxflex._core import jsonlib

pytestmark = pytest.mark.usefixtures("json_variant")

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=12,
)


def nested(depth: int) -> object:
    """Return a list that is nested so deep."""
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def test_each_variant_is_really_tried(json_variant: str) -> None:
    """The fixture blocks the import of orjson, or leaves it."""
    assert hasattr(jsonlib, "orjson") or json_variant == "json"
    assert (jsonlib.dumps is jsonlib._plain) is (json_variant == "json")


@given(VALUES)
def test_what_is_written_is_read(value: object) -> None:
    """Every JSON value comes back as it was, and any other reader agrees."""
    body = jsonlib.dumps(value)
    assert jsonlib.loads(body) == value
    assert json.loads(body) == value


def test_it_is_written_compact_and_as_utf8() -> None:
    """No blanks, no escapes for what UTF-8 can say, the order as it was given."""
    value = {"b": [1, 2.5, None, True], "a": "Übergröße 灯台 🗼"}
    assert jsonlib.dumps(value).decode() == '{"b":[1,2.5,null,true],"a":"Übergröße 灯台 🗼"}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**70, str(2**70)),
        ({1: "a"}, '{"1":"a"}'),
        ((1, 2), "[1,2]"),
        (type("Own", (float,), {})(1.5), "1.5"),
        (nested(600), "[" * 600 + "1" + "]" * 600),
    ],
    ids=["huge", "keys", "tuple", "float", "deep"],
)
def test_both_variants_write_the_same(value: object, text: str) -> None:
    """What one of the two would refuse and the other write is written by both."""
    assert jsonlib.dumps(value).decode() == text


@pytest.mark.parametrize(
    ("value", "error"), [(object(), TypeError), ({"a": {1}}, TypeError), ("\ud800", ValueError)]
)
def test_what_is_no_json_is_not_written(value: object, error: type[Exception]) -> None:
    """A value that JSON does not have is an error in both variants, and the same one."""
    with pytest.raises(error):
        jsonlib.dumps(value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html>",
        b"{",
        b"[1,]",
        b"{'a':1}",
        b'{"a":1}x',
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'{"a":NaN}',
        b"1e400",
        b"01",
        b"'a'",
        b'"a\nb"',
        b'"\\ud800"',
        b'{"\\ud800":1}',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-32-le"),
        b"9" * 5000 + b"x",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=lambda body: repr(body[:16]),
)
def test_what_is_no_json_is_a_value_error(body: bytes) -> None:
    """Anything that cannot be read, however deep, is a `ValueError` in both variants."""
    with pytest.raises(ValueError):  # noqa: PT011 - there is no message to hold on to
        jsonlib.loads(body)


@given(st.binary())
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    """Any bytes are a JSON value that can be written again, or a `ValueError`."""
    try:
        value = jsonlib.loads(body)
    except ValueError:
        return
    assert jsonlib.loads(jsonlib.dumps(value)) == value
