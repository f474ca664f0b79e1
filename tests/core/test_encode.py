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

from fluxflex._core.encode import ACCOUNT_PATHS, APIS, FLUX_2_FLEX, V1, Api, account
from fluxflex._core.exchange import Answer, Intent, Phase, Redirects, Unanswered
from fluxflex._core.request import ASPECT_RATIOS, RULES, GenerateRequest
from fluxflex._core.retry import Again, RetryPolicy, Verdict, decide
from fluxflex.errors import InvalidRequestError

pytestmark = pytest.mark.usefixtures("json_variant")

BASE = "https://api.example"
CALLBACK = "https://callbacks.example/token"
URL = "https://files.example/ref.png"
RATIOS = {
    FLUX_2_FLEX: ["auto", "1:1", "4:3", "16:9", "3:2", "2:3", "9:16", "3:4"],
    V1: ["auto", "21:9", "16:9", "4:3", "1:1", "3:4", "9:16", "9:21"],
}
# Where the wire names of the generations differ.
SPELT = {FLUX_2_FLEX: {}, V1: {"quality": "resolution", "cfg": "guidance"}}
BOTH = pytest.mark.parametrize("api", [FLUX_2_FLEX, V1], ids=lambda api: api.name)


def is_uri(value: object) -> bool:
    """Say whether a value is an absolute URL."""
    return isinstance(value, str) and bool(urlsplit(value).scheme and urlsplit(value).netloc)


Rules = dict[str, Callable[[Any], bool]]

# `components.schemas.GenerateRequest` of the provider's contract, property by property;
# nothing else is allowed, and only `prompt` is required.
FLAT: Rules = {
    "prompt": lambda value: isinstance(value, str) and len(value) >= 1,
    "image_urls": lambda value: (
        isinstance(value, list) and len(value) <= 10 and all(map(is_uri, value))
    ),
    "aspect_ratio": lambda value: value in RATIOS[FLUX_2_FLEX],
    "quality": lambda value: value in ["1K", "2K"],
    "callback_url": is_uri,
    "steps": lambda value: type(value) is int and 1 <= value <= 50,
    "cfg": lambda value: type(value) in {int, float} and 1.5 <= value <= 10,
}
# The same of `UnifiedRequest`: its `input`, and what stands around it.
INPUT: Rules = {
    "prompt": FLAT["prompt"],
    "image_urls": FLAT["image_urls"],
    "aspect_ratio": lambda value: value in RATIOS[V1],
    "resolution": lambda value: value in ["1k", "2k"],
    "steps": FLAT["steps"],
    "guidance": FLAT["cfg"],
}
UNIFIED: Rules = {
    "model": lambda value: value == "black-forest-labs/flux.2-flex",
    "input": lambda value: keeps(value, INPUT, {"prompt"}),
    "callback_url": is_uri,
    "dry_run": lambda value: isinstance(value, bool),
}
CONTRACT = {FLUX_2_FLEX: (FLAT, {"prompt"}), V1: (UNIFIED, {"model", "input"})}


def keeps(payload: dict[str, object], rules: Rules, required: set[str]) -> bool:
    """Say whether an object has what is required, and nothing but what the rules allow."""
    known = required <= set(payload) <= set(rules)
    return known and all(rules[name](value) for name, value in payload.items())


def content(body: bytes | None) -> dict[str, Any]:
    """Return the JSON object that goes on the wire."""
    assert body is not None
    payload: dict[str, Any] = json.loads(body)
    return payload


def sent(request: GenerateRequest, api: Api = FLUX_2_FLEX) -> dict[str, Any]:
    """Return the JSON object of a submit."""
    return content(api.submit(BASE, request).body)


def asked(payload: dict[str, Any], api: Api) -> GenerateRequest:
    """Read a payload as the provider does, and return the request that it is."""
    fields = {name: value for name, value in payload.items() if name not in {"model", "input"}}
    fields |= payload.get("input", {})
    values = {name: fields[wire] for name, wire in SPELT[api].items() if wire in fields}
    values |= {name: fields[name] for name in fields if name not in SPELT[api].values()}
    return GenerateRequest.from_dict(values | {"quality": values["quality"].upper()})


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


REQUESTS = {
    api: st.builds(
        GenerateRequest,
        TEXT,
        image_urls=st.lists(st.just(URL), max_size=10),
        aspect_ratio=st.sampled_from(ratios),
        quality=st.sampled_from(["1K", "2K"]),
        steps=st.none() | st.integers(1, 50),
        cfg=st.none() | st.floats(1.5, 10) | st.integers(2, 10),
        callback_url=st.none() | st.just(URL),
        metadata=st.none() | st.dictionaries(TEXT, TEXT),
    )
    for api, ratios in RATIOS.items()
}


@BOTH
@given(st.data())
def test_every_payload_keeps_the_contract(api: Api, data: st.DataObject) -> None:
    """The body has only what the contract knows, each as it allows, and is the whole request."""
    request = data.draw(REQUESTS[api])
    payload = sent(request, api)
    assert keeps(payload, *CONTRACT[api])
    assert asked(payload, api) == attrs.evolve(request, metadata=None)
    call = api.quote(BASE, request)
    assert call is None or keeps(content(call.body), *CONTRACT[api])


MODEL = "black-forest-labs/flux.2-flex"


def test_what_is_unset_is_left_out() -> None:
    """Only the prompt and the quality, which is the price, are always sent; null never is."""
    for request in (
        GenerateRequest("a"),
        GenerateRequest("a", aspect_ratio="auto", metadata={"row": 7}),
    ):
        assert sent(request) == {"prompt": "a", "quality": "1K"}
        assert sent(request, V1) == {"model": MODEL, "input": {"prompt": "a", "resolution": "1k"}}


def test_everything_that_is_set_is_sent_but_metadata() -> None:
    """Each field has its wire name in each generation; metadata are the user's and stay here."""
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
    same = {
        "prompt": "ein Leuchtturm 灯台",
        "image_urls": [URL, URL + "?2"],
        "aspect_ratio": "16:9",
        "steps": 30,
    }
    assert sent(request) == {
        **same,
        "quality": "2K",
        "cfg": 4.5,
        "callback_url": "https://hooks.example/x",
    }
    assert sent(request, V1) == {
        "model": MODEL,
        "input": {**same, "resolution": "2k", "guidance": 4.5},
        "callback_url": "https://hooks.example/x",
    }


def test_kinds_of_text_and_number_are_written_plain() -> None:
    """Subclasses of `str`, `int` and `float`, as numpy's floats are, go out as JSON values."""
    text, whole, number = (type("Own", (kind,), {}) for kind in (str, int, float))
    request = GenerateRequest(text("a"), quality=text("2K"), steps=whole(30), cfg=number(4.5))
    assert sent(request) == {"prompt": "a", "quality": "2K", "steps": 30, "cfg": 4.5}
    assert sent(request, V1)["input"] == {
        "prompt": "a",
        "resolution": "2k",
        "steps": 30,
        "guidance": 4.5,
    }


@pytest.mark.parametrize(
    ("api", "path"), [(FLUX_2_FLEX, "/flux.2-flex/generate"), (V1, "/v1/tasks")]
)
def test_the_submit_call(api: Api, path: str) -> None:
    """A submit is a POST of JSON that follows no redirect and holds no key."""
    call = api.submit(BASE, GenerateRequest("a"))
    assert (call.method, call.url) == ("POST", BASE + path)
    assert (call.intent, call.redirects) == (Intent.SUBMIT, Redirects.NONE)
    assert call.keyed


@BOTH
def test_equal_requests_are_sent_as_equal_bytes(api: Api) -> None:
    """The payload of a request is always the same bytes, so that its hash names it."""
    one, two = (GenerateRequest("a", steps=7, metadata={"row": row}) for row in (1, 2))
    assert api.submit(BASE, one).body == api.submit(BASE, two).body


# -- what it costs ---------------------------------------------------------------------------


def test_a_dry_run_is_a_submit_that_says_so() -> None:
    """It goes where the submit goes and asks for the same, with `dry_run`; nothing is reported."""
    request = GenerateRequest("a", quality="2K", steps=30, callback_url=URL)
    submit, quote = V1.submit(BASE, request), V1.quote(BASE, request)
    assert quote is not None
    assert content(quote.body) == {
        "model": MODEL,
        "input": {"prompt": "a", "resolution": "2k", "steps": 30},
        "dry_run": True,
    }
    assert attrs.evolve(quote, intent=submit.intent, body=submit.body) == submit


def test_a_dry_run_may_be_repeated_and_is_not_redirected() -> None:
    """It costs nothing, so its intent is to read; a POST follows no redirect all the same."""
    call = V1.quote(BASE, GenerateRequest("a"))
    assert call is not None
    assert (call.method, call.intent, call.redirects) == ("POST", Intent.READ, Redirects.NONE)
    for lost in (Phase.NEVER_SENT, Phase.WRITING, Phase.SENT):
        step = decide(call.intent, Unanswered(phase=lost, reason="x"), 1, RetryPolicy(), 0.0)
        assert step == Again(delay=0.0)
    assert decide(call.intent, Answer(status=307, readable=False), 1, RetryPolicy(), 0.0) is (
        Verdict.MISCONFIGURED
    )


def test_a_generation_without_a_dry_run_has_no_such_call() -> None:
    """The flat generation knows no `dry_run`, and would bill what it does not know."""
    assert FLUX_2_FLEX.quote(BASE, GenerateRequest("a")) is None


OTHERS: dict[str, object] = {
    "aspect_ratio": "16:9",
    "quality": "2K",
    "steps": 30,
    "cfg": 4.5,
    "image_urls": [URL],
}
SAME: dict[str, object] = {
    "prompt": "b",
    "callback_url": URL,
    "metadata": {"row": 7, "tags": ["a"]},
}


@BOTH
@pytest.mark.parametrize("name", RULES)
def test_each_field_is_part_of_the_setting_or_is_not(api: Api, name: str) -> None:
    """All but the prompt, the callback and the metadata may change what a request costs."""
    one = GenerateRequest("a")
    two = GenerateRequest.from_dict({"prompt": "a", name: {**OTHERS, **SAME}[name]})
    assert one != two
    assert (api.setting(one) == api.setting(two)) is (name in SAME)


@BOTH
def test_settings_are_keys(api: Api) -> None:
    """References count by their number, equal settings hash alike, and 4 is 4.0."""
    one = GenerateRequest("a", image_urls=[URL, URL], cfg=4, metadata={"row": {}})
    two = GenerateRequest("b", image_urls=[URL + "?1", URL + "?2"], cfg=4.0, callback_url=URL)
    assert api.setting(one) == api.setting(two)
    assert len({api.setting(one), api.setting(two)}) == 1
    assert api.setting(one) != api.setting(attrs.evolve(one, image_urls=[URL]))


def test_settings_of_the_generations_are_apart() -> None:
    """What one generation charges says nothing of the other."""
    request = GenerateRequest("a")
    assert V1.setting(request) != FLUX_2_FLEX.setting(request)


# -- asking ----------------------------------------------------------------------------------

STATUS = {FLUX_2_FLEX: f"{BASE}/flux.2-flex/status/", V1: f"{BASE}/v1/tasks/"}


@BOTH
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
def test_task_ids_are_quoted_in_paths(api: Api, task_id: str, quoted: str) -> None:
    """A task id is opaque: whatever it holds, it stays one segment of the path."""
    assert api.status(BASE, task_id).url == STATUS[api] + quoted


@BOTH
@given(task_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_quoted_task_id_comes_back_whole(api: Api, task_id: str) -> None:
    """What the server reads from the path is the id, and nothing of it leaves the path."""
    path = api.status(BASE, task_id).url.removeprefix(STATUS[api])
    assert re.fullmatch(r"[\w.~%-]+", path, re.ASCII)
    assert unquote(path) == task_id


def test_the_reading_calls() -> None:
    """Asking costs nothing, has no body, and follows redirects on its own origin only."""
    accounts = [account(BASE, path) for path in ACCOUNT_PATHS]
    for call in (*(api.status(BASE, "t-1") for api in APIS.values()), *accounts):
        assert (call.method, call.body, call.intent) == ("GET", None, Intent.READ)
        assert call.redirects is Redirects.SAME_ORIGIN
    assert [call.url for call in accounts] == [f"{BASE}/account", f"{BASE}/v1/account"]


# -- the generations -------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
def test_a_generation_refuses_what_it_does_not_know(api: Api, ratio: str) -> None:
    """A request takes the union of both generations; each refuses before sending what it lacks."""
    request = GenerateRequest("a", aspect_ratio=ratio)
    if ratio in RATIOS[api]:
        api.check(request)
        return
    with pytest.raises(InvalidRequestError) as caught:
        api.check(request)
    assert [fault.field for fault in caught.value.faults] == ["aspect_ratio"]
    assert f"is not known to api='{api.name}'" in str(caught.value)


def test_generations_are_found_by_name() -> None:
    """`Session(api=…)` names a generation; their ratios are the contract's, and together all."""
    assert {"flux.2-flex": FLUX_2_FLEX, "v1": V1} == APIS
    for name, api in APIS.items():
        assert api.name == name
        assert api.aspect_ratios == set(RATIOS[api])
    assert set().union(*RATIOS.values()) == set(ASPECT_RATIOS)


def test_reprs_are_redacted() -> None:
    """The repr of a call shows the length of its body, never the prompt."""
    call = FLUX_2_FLEX.submit(BASE, GenerateRequest("a secret prompt"))
    assert "secret" not in repr(call)
    assert f"{len(call.body or b'')} bytes" in repr(call)
    assert "body=none" in repr(attrs.evolve(call, body=None))


@BOTH
def test_a_callback_url_of_the_session(api: Api) -> None:
    """It stands where the request's own would stand, and the request is as it was."""
    request = GenerateRequest("a", callback_url=CALLBACK)
    assert api.submit(BASE, GenerateRequest("a"), CALLBACK) == api.submit(BASE, request)
