"""Requests out: strict against the provider's contract, and nothing that is unset."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxflex._core.encode import ACCOUNT_PATHS, APIS, FLUX_2_FLEX, account
from fluxflex._core.exchange import Intent, Redirects
from fluxflex._core.request import ASPECT_RATIOS, GenerateRequest
from fluxflex.errors import InvalidRequestError

pytestmark = pytest.mark.usefixtures("json_variant")

BASE = "https://api.example"
URL = "https://files.example/ref.png"
FLAT_RATIOS = ["auto", "1:1", "4:3", "16:9", "3:2", "2:3", "9:16", "3:4"]


def is_uri(value: object) -> bool:
    """Say whether a value is an absolute URL."""
    return isinstance(value, str) and bool(urlsplit(value).scheme and urlsplit(value).netloc)


# `components.schemas.GenerateRequest` of the provider's contract, property by property;
# nothing else is allowed, and only `prompt` is required.
CONTRACT: dict[str, Callable[[Any], bool]] = {
    "prompt": lambda value: isinstance(value, str) and len(value) >= 1,
    "image_urls": lambda value: (
        isinstance(value, list) and len(value) <= 10 and all(map(is_uri, value))
    ),
    "aspect_ratio": lambda value: value in FLAT_RATIOS,
    "quality": lambda value: value in ["1K", "2K"],
    "callback_url": is_uri,
    "steps": lambda value: type(value) is int and 1 <= value <= 50,
    "cfg": lambda value: type(value) in {int, float} and 1.5 <= value <= 10,
}


def sent(request: GenerateRequest) -> dict[str, object]:
    """Return the JSON object that goes on the wire."""
    body = FLUX_2_FLEX.submit(BASE, request).body
    assert body is not None
    payload: dict[str, object] = json.loads(body)
    return payload


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(
    st.builds(
        GenerateRequest,
        TEXT,
        image_urls=st.lists(st.just(URL), max_size=10),
        aspect_ratio=st.sampled_from(FLAT_RATIOS),
        quality=st.sampled_from(["1K", "2K"]),
        steps=st.none() | st.integers(1, 50),
        cfg=st.none() | st.floats(1.5, 10) | st.integers(2, 10),
        callback_url=st.none() | st.just(URL),
        metadata=st.none() | st.dictionaries(TEXT, TEXT),
    )
)
def test_every_payload_keeps_the_contract(request: GenerateRequest) -> None:
    """Whatever is asked for, the body has only what the contract knows, each as it allows."""
    payload = sent(request)
    assert set(payload) <= set(CONTRACT)
    assert payload["prompt"] == request.prompt
    for name, value in payload.items():
        assert CONTRACT[name](value), name
        assert value == (list(kept) if isinstance(kept := getattr(request, name), tuple) else kept)


def test_what_is_unset_is_left_out() -> None:
    """Only the prompt and the quality, which is the price, are always sent; null never is."""
    assert sent(GenerateRequest("a")) == {"prompt": "a", "quality": "1K"}
    assert sent(GenerateRequest("a", aspect_ratio="auto", metadata={"row": 7})) == {
        "prompt": "a",
        "quality": "1K",
    }


def test_everything_that_is_set_is_sent_but_metadata() -> None:
    """Each field has its wire name; metadata are the user's and stay here."""
    request = GenerateRequest(
        "ein Leuchtturm 灯台",
        image_urls=(URL, URL + "?2"),
        aspect_ratio="16:9",
        quality="2K",
        steps=30,
        cfg=4.5,
        callback_url="https://hooks.example/x",
        metadata={"row": 7},
    )
    assert sent(request) == {
        "prompt": "ein Leuchtturm 灯台",
        "image_urls": [URL, URL + "?2"],
        "aspect_ratio": "16:9",
        "quality": "2K",
        "steps": 30,
        "cfg": 4.5,
        "callback_url": "https://hooks.example/x",
    }


def test_kinds_of_text_and_number_are_written_plain() -> None:
    """Subclasses of `str`, `int` and `float`, as numpy's floats are, go out as JSON values."""
    text, whole, number = (type("Own", (kind,), {}) for kind in (str, int, float))
    request = GenerateRequest(text("a"), steps=whole(30), cfg=number(4.5))
    assert sent(request) == {"prompt": "a", "quality": "1K", "steps": 30, "cfg": 4.5}


def test_the_submit_call() -> None:
    """A submit is a POST of JSON that follows no redirect and holds no key."""
    call = FLUX_2_FLEX.submit(BASE, GenerateRequest("a"))
    assert (call.method, call.url) == ("POST", f"{BASE}/flux.2-flex/generate")
    assert (call.intent, call.redirects) == (Intent.SUBMIT, Redirects.NONE)
    assert dict(call.headers) == {"content-type": "application/json"}
    assert call.keyed


def test_equal_requests_are_sent_as_equal_bytes() -> None:
    """The payload of a request is always the same bytes, so that its hash names it."""
    one, two = (GenerateRequest("a", steps=7, metadata={"row": row}) for row in (1, 2))
    assert FLUX_2_FLEX.submit(BASE, one).body == FLUX_2_FLEX.submit(BASE, two).body


@pytest.mark.parametrize(
    ("task_id", "quoted"),
    [
        ("dd55ae25-adff-47a0-9194-6a37845b58e4", "dd55ae25-adff-47a0-9194-6a37845b58e4"),
        ("a/b", "a%2Fb"),
        ("../account", "..%2Faccount"),
        ("a?b=c#d", "a%3Fb%3Dc%23d"),
        ("a b%20c", "a%20b%2520c"),
        ("ä\r\n\x00", "%C3%A4%0D%0A%00"),
    ],
)
def test_task_ids_are_quoted_in_paths(task_id: str, quoted: str) -> None:
    """A task id is opaque: whatever it holds, it stays one segment of the path."""
    call = FLUX_2_FLEX.status(BASE, task_id)
    assert call.url == f"{BASE}/flux.2-flex/status/{quoted}"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_quoted_task_id_comes_back_whole(task_id: str) -> None:
    """What the server reads from the path is the id, and nothing of it leaves the path."""
    path = FLUX_2_FLEX.status(BASE, task_id).url.removeprefix(f"{BASE}/flux.2-flex/status/")
    assert re.fullmatch(r"[\w.~%-]+", path, re.ASCII)
    assert unquote(path) == task_id


def test_the_reading_calls() -> None:
    """Asking costs nothing, has no body, and follows redirects on its own origin only."""
    for call in (FLUX_2_FLEX.status(BASE, "t-1"), *(account(BASE, path) for path in ACCOUNT_PATHS)):
        assert (call.method, call.body, call.intent) == ("GET", None, Intent.READ)
        assert call.redirects is Redirects.SAME_ORIGIN
    assert [account(BASE, path).url for path in ACCOUNT_PATHS] == [
        f"{BASE}/account",
        f"{BASE}/v1/account",
    ]


@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
def test_a_generation_refuses_what_it_does_not_know(ratio: str) -> None:
    """A request takes the union of both generations; each refuses before sending what it lacks."""
    request = GenerateRequest("a", aspect_ratio=ratio)
    if ratio in FLAT_RATIOS:
        FLUX_2_FLEX.check(request)
        return
    with pytest.raises(InvalidRequestError) as caught:
        FLUX_2_FLEX.check(request)
    assert [fault.field for fault in caught.value.faults] == ["aspect_ratio"]
    assert "is not known to api='flux.2-flex'" in str(caught.value)


def test_generations_are_found_by_name() -> None:
    """`Session(api=…)` names a generation, and every one knows ratios of the union only."""
    assert APIS["flux.2-flex"] is FLUX_2_FLEX
    for name, api in APIS.items():
        assert api.name == name
        assert api.aspect_ratios <= set(ASPECT_RATIOS)


def test_reprs_are_redacted() -> None:
    """The repr of a call shows the length of its body, never the prompt."""
    call = FLUX_2_FLEX.submit(BASE, GenerateRequest("a secret prompt"))
    assert "secret" not in repr(call)
    assert f"{len(call.body or b'')} bytes" in repr(call)
    assert "body=none" in repr(attrs.evolve(call, body=None))
