"""What a user asks for: the provider's table, every fault at once, to a dict and back."""

from __future__ import annotations

import pickle
import types
from decimal import Decimal

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxflex._core.request import (
    ASPECT_RATIOS,
    PRICES,
    QUALITIES,
    RULES,
    GenerateRequest,
    as_request,
    faults_of,
    known_price,
    price_of,
)
from fluxflex.errors import ConfigurationError, Fault, InvalidRequestError

URL = "https://files.example/ref.png"

ALLOWED: dict[str, list[object]] = {
    "prompt": ["a", " a lighthouse ", "ein Leuchtturm, 灯台 🗼", "x" * 100_000, "\x00"],
    "image_urls": [(), [], (URL,), [URL] * 10, ("http://localhost:8000/a",)],
    "aspect_ratio": [
        "auto",
        *("1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16", "21:9", "9:21"),
    ],
    "quality": ["1K", "2K"],
    "steps": [None, 1, 2, 49, 50],
    "cfg": [None, 1.5, 10, 10.0, 2, 4.5, 1.5000000000000002, 9.999999999999998],
    "callback_url": [None, URL, "http://127.0.0.1:8080/fx?x=1#y", "HTTPS://EXAMPLE.COM"],
    "metadata": [None, {}, {"row": 7, "tags": ["a", None, 1.5, True, {"b": []}]}, {"x": 2**70}],
}

REFUSED: dict[str, list[object]] = {
    "prompt": [None, "", " \n\t ", 7, b"bytes", ["a"], True, "half \ud83d a character"],
    "image_urls": [
        None,
        URL,
        {URL},
        {URL: 1},
        iter(()),
        [URL] * 11,
        (URL,) * 11,
        [URL, 7],
        [None],
        [[URL]],
        [b"https://files.example/ref.png"],
        [""],
        ["ftp://files.example/a"],
        ["files.example/a"],
        ["https://"],
        ["https://a b/"],
        ["https://files.example/\n"],
        ["https://files.example/\u202e"],
        ["https://files.example/\ud800"],
        ["http://[::1"],
        ["file:///etc/passwd"],
        ["data:image/png;base64,AAAA"],
    ],
    "aspect_ratio": [None, "", "AUTO", "16x9", "16:9 ", 1, ("16:9",), ["16:9"], "5:4", True],
    "quality": [None, "", "1k", "2k", "4K", 1, b"1K", ["1K"], 10**5000],
    "steps": [0, 51, -1, True, False, 30.0, "30", Decimal(30), 10**30, 10**5000, float("nan")],
    "cfg": [
        *(1.4999999999999998, 10.000000000000002, 0, 1, 11, -4.5, 10**400, -(10**5000)),
        *(float("nan"), float("inf"), float("-inf"), True, False, "4.5", Decimal("4.5"), 4.5j),
    ],
    "callback_url": ["", "nowhere", 7, b"https://x.example", "ftp://x.example", "https://"],
    "metadata": [
        "text",
        ["a"],
        7,
        {"when": object()},
        {"x": float("nan")},
        {"x": {"y": float("inf")}},
        {"half": "\ud800"},
        {("a", "b"): 1},
    ],
}


def rows(table: dict[str, list[object]]) -> list[object]:
    """Return a test row for each value of each field."""
    return [
        pytest.param(name, value, id=f"{name}-{place}")
        for name, values in table.items()
        for place, value in enumerate(values)
    ]


def nested(depth: int) -> dict[str, object]:
    """Return a mapping that is nested so deep."""
    inner: dict[str, object] = {}
    for _ in range(depth):
        inner = {"deeper": inner}
    return inner


def test_the_tables_cover_every_field() -> None:
    """Each field of a request has a rule, and each rule has rows here."""
    fields = [field.name for field in attrs.fields(GenerateRequest)]
    assert fields == list(RULES) == list(ALLOWED) == list(REFUSED)
    assert set(ASPECT_RATIOS) == set(ALLOWED["aspect_ratio"])
    assert list(QUALITIES) == ALLOWED["quality"] == list(PRICES)


@pytest.mark.parametrize(("name", "value"), rows(ALLOWED))
def test_takes_what_the_provider_takes(name: str, value: object) -> None:
    """Every allowed value is taken by both doors and kept as it is, boundaries included."""
    values = {"prompt": "a", name: value}
    request = GenerateRequest.from_dict(values)
    kept = getattr(request, name)
    assert kept == (tuple(value) if isinstance(value, list) else value)
    assert as_request(values, {}) == request


@pytest.mark.parametrize(("name", "value"), rows(REFUSED))
def test_refuses_what_the_provider_refuses(name: str, value: object) -> None:
    """Every bad value is one fault with its field, by both doors, whatever its type is."""
    with pytest.raises(InvalidRequestError) as by_dict:
        GenerateRequest.from_dict({"prompt": "a", name: value})
    assert [fault.field for fault in by_dict.value.faults] == [name]
    with pytest.raises(InvalidRequestError) as by_name:
        as_request(GenerateRequest("a"), {name: value})
    assert by_name.value.faults == by_dict.value.faults
    assert len(str(by_dict.value)) < 400


def test_metadata_nested_too_deep_is_a_fault() -> None:
    """Metadata that cannot be written as JSON is refused, not met by a `RecursionError`."""
    with pytest.raises(InvalidRequestError, match="metadata must be JSON"):
        GenerateRequest("a", metadata=nested(100_000))


def test_the_constructor_refuses_too() -> None:
    """There is no way to a request that breaks a rule, and the faults are all of them."""
    with pytest.raises(InvalidRequestError) as caught:
        GenerateRequest("", steps=True, cfg=float("nan"), image_urls=URL)
    assert [fault.field for fault in caught.value.faults] == [
        "prompt",
        "image_urls",
        "steps",
        "cfg",
    ]


def test_all_faults_at_once_in_words() -> None:
    """Every fault is reported in one go: unknown names, what is missing, then the fields."""
    with pytest.raises(InvalidRequestError) as caught:
        GenerateRequest.from_dict(
            {
                "promt": "a",
                "image_urls": [URL, "nowhere", "nowhere either"],
                "aspect_ratio": "5:4",
                "quality": "4K",
                "steps": 0,
                "cfg": float("inf"),
                "callback_url": 7,
                "metadata": [],
            }
        )
    names = "prompt, image_urls, aspect_ratio, quality, steps, cfg, callback_url, metadata"
    ratios = "auto, 1:1, 4:3, 3:4, 3:2, 2:3, 16:9, 9:16, 21:9, 9:21"
    assert list(map(str, caught.value.faults)) == [
        f"promt is no parameter; there are {names}",
        "prompt is missing",
        "image_urls [1] must be a public http(s) URL",
        f"aspect_ratio must be one of {ratios}, not '5:4'",
        "quality must be one of 1K, 2K, not '4K'",
        "steps must be from 1 to 50, not 0",
        "cfg must be from 1.5 to 10, not inf",
        "callback_url must be text, not int",
        "metadata must be a mapping, not list",
    ]


def test_eleven_urls_are_one_too_many() -> None:
    """The provider takes ten reference pictures; the fault says how many there were."""
    assert faults_of({"image_urls": (URL,) * 11}) == (
        Fault("image_urls", "holds 11 URLs; the provider takes at most 10"),
    )


def test_names_that_are_no_text_are_faults_too() -> None:
    """A mapping with keys that are no text is refused like any unknown name."""
    values: dict[object, object] = {"prompt": "a", 7: "x", None: "y", ("a",): "z"}
    with pytest.raises(InvalidRequestError) as caught:
        as_request(values, {})
    assert [fault.field for fault in caught.value.faults] == ["7", "None", "('a',)"]


ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.text(), max_size=3),
    st.dictionaries(st.text(), st.integers(), max_size=3),
)


@given(st.dictionaries(st.one_of(st.sampled_from(list(RULES)), st.text()), ANY))
def test_whatever_is_given_there_is_a_request_or_faults(values: dict[str, object]) -> None:
    """Any mapping gives a request or an `InvalidRequestError`, and never another error."""
    try:
        request = GenerateRequest.from_dict(values)
    except InvalidRequestError as error:
        assert error.faults  # noqa: PT017 - both ends are right, each with its own promise
    else:
        assert not faults_of(attrs.asdict(request, recurse=False))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)
REQUESTS = st.builds(
    GenerateRequest,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
    image_urls=st.lists(st.just(URL), max_size=10),
    aspect_ratio=st.sampled_from(ASPECT_RATIOS),
    quality=st.sampled_from(QUALITIES),
    steps=st.none() | st.integers(1, 50),
    cfg=st.none() | st.floats(1.5, 10) | st.integers(2, 10),
    callback_url=st.none() | st.just(URL),
    metadata=st.none()
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=3),
)


@given(REQUESTS)
def test_to_dict_and_back(request: GenerateRequest) -> None:
    """`from_dict` of `to_dict` is the same request, and so is its pickle; equal ones hash alike."""
    values = request.to_dict()
    again = GenerateRequest.from_dict(values)
    assert again == request
    assert hash(again) == hash(request)
    assert pickle.loads(pickle.dumps(request)) == request  # noqa: S301 - our own bytes
    assert None not in values.values()


def test_to_dict_leaves_out_what_is_unset() -> None:
    """`to_dict` holds what is set, as plain JSON values."""
    assert GenerateRequest("a").to_dict() == {"prompt": "a"}
    full = GenerateRequest(
        "a",
        image_urls=(URL,),
        aspect_ratio="16:9",
        quality="2K",
        steps=30,
        cfg=4.5,
        callback_url=URL,
        metadata={"row": 7},
    )
    assert full.to_dict() == {
        "prompt": "a",
        "image_urls": [URL],
        "aspect_ratio": "16:9",
        "quality": "2K",
        "steps": 30,
        "cfg": 4.5,
        "callback_url": URL,
        "metadata": {"row": 7},
    }


def test_metadata_is_a_dict_of_the_request_s_own() -> None:
    """Any mapping is taken, copied, and pickles: a read-only view does not."""
    given_metadata = {"row": 7}
    request = GenerateRequest("a", metadata=types.MappingProxyType(given_metadata))
    given_metadata["row"] = 8
    assert request.metadata == {"row": 7}
    assert pickle.loads(pickle.dumps(request)) == request  # noqa: S301 - our own bytes


def test_metadata_does_not_unhash_a_request() -> None:
    """A request is hashable with metadata too, which count for equality only."""
    one, two = (GenerateRequest("a", metadata={"row": row}) for row in (1, 2))
    assert hash(one) == hash(two)
    assert one != two


def test_a_request_is_frozen() -> None:
    """Nothing about a request can be changed."""
    request = GenerateRequest("a")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.prompt = "b"  # type: ignore[misc]  # the test


DEFAULTS = {"quality": "2K", "steps": 10, "cfg": 2.0}


@pytest.mark.parametrize(
    ("given_", "overrides", "defaults", "expected"),
    [
        ("a", {}, None, GenerateRequest("a")),
        ("a", {"steps": 5}, None, GenerateRequest("a", steps=5)),
        ("a", {}, DEFAULTS, GenerateRequest("a", quality="2K", steps=10, cfg=2.0)),
        ("a", {"steps": 5}, DEFAULTS, GenerateRequest("a", quality="2K", steps=5, cfg=2.0)),
        ("a", {"prompt": "b"}, {"prompt": "c"}, GenerateRequest("b")),
        ({"prompt": "a", "steps": 7}, {}, None, GenerateRequest("a", steps=7)),
        (
            {"prompt": "a", "steps": 7},
            {"cfg": 3.0},
            DEFAULTS,
            GenerateRequest("a", quality="2K", steps=7, cfg=3.0),
        ),
        ({"steps": 7}, {"prompt": "a"}, None, GenerateRequest("a", steps=7)),
        ({"steps": 7}, {}, {"prompt": "a"}, GenerateRequest("a", steps=7)),
        (GenerateRequest("a", steps=7), {"steps": None}, None, GenerateRequest("a")),
        (GenerateRequest("a", steps=7), {"steps": 8}, None, GenerateRequest("a", steps=8)),
        (
            GenerateRequest("a", steps=7),
            {"cfg": 3.0},
            DEFAULTS,
            GenerateRequest("a", quality="2K", steps=7, cfg=3.0),
        ),
        (
            GenerateRequest("a", image_urls=(URL,), metadata={"row": 7}),
            {},
            DEFAULTS,
            GenerateRequest(
                "a", image_urls=(URL,), metadata={"row": 7}, quality="2K", steps=10, cfg=2.0
            ),
        ),
    ],
)
def test_overrides_beat_what_is_given_beats_defaults(
    given_: object,
    overrides: dict[str, object],
    defaults: dict[str, object] | None,
    expected: GenerateRequest,
) -> None:
    """What is said nearest to the call wins, for prompts, mappings and requests alike."""
    assert as_request(given_, overrides, defaults) == expected


def test_a_request_is_passed_on_as_it_is() -> None:
    """A request without overrides or defaults is not built again."""
    request = GenerateRequest("a")
    assert as_request(request, {}) is request
    assert as_request(request, {}, {}) is request


@pytest.mark.parametrize("given_", [None, 7, b"a prompt", ["a prompt"], ("a",), object])
def test_what_is_no_request_is_refused(given_: object) -> None:
    """Anything but a prompt, a mapping or a request is one fault of the whole."""
    with pytest.raises(InvalidRequestError) as caught:
        as_request(given_, {"steps": 0})
    assert [fault.field for fault in caught.value.faults] == ["request"]


@pytest.mark.parametrize(("quality", "usd"), [("1K", "0.04"), ("2K", "0.06")])
def test_the_price_is_the_published_one(quality: str, usd: str) -> None:
    """The quality sets the price, by the published table or by the user's own."""
    request = GenerateRequest("a", quality=quality)
    assert price_of(request, PRICES) == Decimal(usd)
    assert price_of(request, {"1K": Decimal(1), "2K": Decimal(2)}) == int(quality[0])


def test_a_price_that_no_table_has() -> None:
    """It is `None` to who can ask elsewhere, and an error that names the quality to who cannot."""
    request = GenerateRequest("a")
    assert price_of(request, {"2K": Decimal(1)}) is None
    assert known_price(request, {"1K": Decimal(0)}) == 0
    with pytest.raises(ConfigurationError, match="No price is known for quality 1K"):
        known_price(request, {"2K": Decimal(1)})


# -- digests ----------------------------------------------------------------------------------

FULL_DIGEST = "940f76cdea264ff95e3981c147bcbb97"


@pytest.mark.parametrize(
    ("values", "others"),
    [
        ({}, {"metadata": {"n": 1}}),
        ({"metadata": {"n": 1}}, {"metadata": {"n": 2}, "callback_url": URL}),
        ({}, {"aspect_ratio": "auto", "quality": "1K", "steps": None, "image_urls": []}),
        ({"cfg": 4}, {"cfg": 4.0}),
        ({"image_urls": [URL]}, {"image_urls": (URL,)}),
    ],
)
def test_what_asks_for_the_same_picture_has_one_digest(
    values: dict[str, object], others: dict[str, object]
) -> None:
    """What a request says about itself does not count, nor how a value was written."""
    one = GenerateRequest.from_dict({"prompt": "a", **values})
    two = GenerateRequest.from_dict({"prompt": "a", **others})
    assert one.digest == two.digest
    assert GenerateRequest.from_dict(one.to_dict()).digest == one.digest


def test_what_asks_for_another_picture_has_another_digest() -> None:
    """Each field that goes to the provider counts, and the order of reference pictures."""
    asked: list[dict[str, object]] = [
        {},
        {"prompt": "b"},
        {"prompt": "a "},
        {"quality": "2K"},
        {"aspect_ratio": "1:1"},
        {"steps": 4},
        {"cfg": 4},
        {"cfg": 4.5},
        {"image_urls": [URL, URL + "2"]},
        {"image_urls": [URL + "2", URL]},
    ]
    digests = {GenerateRequest.from_dict({"prompt": "a", **values}).digest for values in asked}
    assert len(digests) == len(asked)


def test_a_digest_is_the_same_for_ever() -> None:
    """Journals of earlier versions hold it: were it another, everything would be bought again."""
    assert GenerateRequest("a").digest == "732acbb3e402e912437dbe53442ca543"
    full = GenerateRequest(
        *("ein Leuchtturm 灯台 🗼\x00",),
        image_urls=(URL,),
        aspect_ratio="16:9",
        quality="2K",
        steps=30,
        cfg=4,
    )
    assert full.digest == FULL_DIGEST


@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip))
@settings(deadline=None)
def test_a_digest_tells_prompts_apart(one: str, two: str) -> None:
    """32 hex digits, equal for equal prompts only."""
    try:
        first, second = GenerateRequest(one).digest, GenerateRequest(two).digest
    except InvalidRequestError:  # half a character
        return
    assert (first == second) is (one == two)
    assert len(first) == 32
    assert int(first, 16) >= 0
