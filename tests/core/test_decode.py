"""Replies and callbacks in: every sample a row, and no bytes that make the reader stumble."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fluxflex._core import decode
from fluxflex._core.exchange import Answer, Intent, Reply
from fluxflex._core.lifecycle import Accepted, Completed, Failed, Running, TaskEvent
from fluxflex._core.refusals import refusal, uncertain
from fluxflex._core.retry import Reach, RetryPolicy, Verdict, decide, reach
from fluxflex.errors import ContentPolicyError, FluxFlexError, GenerationError

pytestmark = pytest.mark.usefixtures("json_variant")

SAMPLES = Path(__file__).parents[1] / "samples"
NAMES = sorted(path.stem for path in SAMPLES.glob("*.json"))
QUOTES = sorted(path.stem for path in (SAMPLES / "quote").glob("*.json"))
ID = "dd55ae25-adff-47a0-9194-6a37845b58e4"
PICTURE = "https://files.example/dd55.png"
REFERENCE = "https://elsewhere.example/reference.png"
NOW = 784_111_777.0


def replied(body: object, status: int = 200, **headers: str) -> Reply:
    """Return a reply whose body is a JSON value, or bytes as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(
        status=status,
        body=raw,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def submitted(body: object, status: int = 200) -> Answer:
    """Read a body as the reply to a submit."""
    return decode.read_submit(replied(body, status), wall=NOW)


def looked(body: object, status: int = 200) -> Answer:
    """Read a body as the reply to a look."""
    return decode.read_status(replied(body, status), wall=NOW)


# -- the samples -----------------------------------------------------------------------------


def read(name: str, reply: Reply) -> tuple[TaskEvent | None, FluxFlexError | None]:
    """Return what a sample says of a task, and the error it leads to where it says no."""
    policy = RetryPolicy()
    if name.startswith("callback-"):
        return decode.read_callback(reply.body), None
    if name.startswith("create-"):
        answer = decode.read_submit(reply, wall=NOW)
        step = decide(Intent.SUBMIT, answer, 1, policy, 0.5)
        if step is Verdict.UNCERTAIN:
            return answer.event, uncertain(answer, sent_at=NOW, payload_sha256="")
    else:
        answer = decode.read_status(reply, wall=NOW)
        step = decide(Intent.READ, answer, 1, policy, 0.5)
    return answer.event, refusal(answer) if step is Verdict.REFUSED else None


def seen(event: TaskEvent | None, error: FluxFlexError | None) -> dict[str, object]:
    """Return what was read in the words that the samples use."""
    match event:
        case Completed():
            return {
                "state": "completed",
                "task_id": event.task_id,
                "image_urls": list(event.urls),
            }
        case Failed():
            return {
                "state": "failed",
                "task_id": event.task_id,
                "error_code": event.error.code,
                "message": event.error.detail,
                "content_policy": isinstance(event.error, ContentPolicyError),
            }
        case Running():
            return {"state": "running", "task_id": event.task_id}
        case Accepted():
            return {"state": "accepted", "task_id": event.task_id}
    if error is None:
        return {"state": "no news: ask again"}
    state = "uncertain" if error.charged == "unknown" else "refused"
    return {
        "state": state,
        "error": type(error).__name__,
        "error_code": getattr(error, "code", None),
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_sample_means_what_it_says(name: str, reply_of: Callable[[str], Reply]) -> None:
    """Each reply of the provider's leads to what its sample expects."""
    expected = json.loads((SAMPLES / f"{name}.json").read_text())["expect"]
    found = seen(*read(name, reply_of(name)))
    assert {key: found[key] for key in expected} == expected


def priced(reply: Reply) -> dict[str, object]:
    """Return what the reply to a dry run says, in the words that the samples use."""
    answer = decode.read_quote(reply, wall=NOW)
    step = decide(Intent.READ, answer, 1, RetryPolicy(), 0.5)
    if step is Verdict.TASK:
        return {"state": "accepted", "task_id": answer.task_id}
    if step is Verdict.REFUSED:
        return seen(None, refusal(answer, submit=True))
    assert step is Verdict.READ
    return {"state": "priced", "cost": str(decode.cost_of(answer))}


@pytest.mark.parametrize("name", QUOTES)
def test_every_sample_of_a_quote_means_what_it_says(
    name: str, reply_of: Callable[[str], Reply]
) -> None:
    """Each reply to a dry run is a price, a refusal, or a task that nobody asked for."""
    expected = json.loads((SAMPLES / "quote" / f"{name}.json").read_text())["expect"]
    assert priced(reply_of(f"quote/{name}")) == expected


def test_there_are_samples() -> None:
    """The folders were found: empty ones would make the tests above pass."""
    assert len(NAMES) > 30
    assert len(QUOTES) > 3


# -- hostile bodies --------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WORDS = st.sampled_from(
    [
        *("pending", "processing", "completed", "failed", "COMPLETED", " failed ", "upscaling"),
        *(ID, PICTURE, REFERENCE, "ftp://x", "", " ", "0.04", "1e999999999", "NaN", "sNaN", "-1"),
        *("validation_error", "rate_limit_exceeded", "content policy", "200", "\x00"),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([200, 400, 401, 404, 422, 429, 500, 302, 0, -1, 2**64, 10**40])
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | TEXT
)
FIELDS = st.sampled_from(
    [
        *("code", "success", "data", "status", "task_id", "output", "image_url", "image_urls"),
        *("error", "message", "error_message", "detail", "msg", "cost", "input"),
    ]
)
BODIES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(FIELDS, inner, max_size=6)
        | st.dictionaries(TEXT, inner, max_size=2)
    ),
    max_leaves=25,
)
OBJECTS = st.dictionaries(FIELDS, BODIES, max_size=8)
STATUSES = st.sampled_from([100, 200, 201, 204, 301, 400, 401, 404, 408, 422, 429, 500, 502, 503])
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "x-request-id", "cf-ray", "content-type"]), TEXT
)


def documented(body: Any) -> set[str]:
    """Return the URLs in the documented places of a body, callbacks' included."""
    found: set[object] = set()
    data = body.get("data") if isinstance(body.get("data"), dict) else body
    for place in (data.get("output"), data):
        if isinstance(place, dict):
            many = place.get("image_urls")
            some = [place.get("image_url"), *(many if isinstance(many, list) else [])]
            found.update(url for url in some if isinstance(url, str))
    return {str(url) for url in found}


def check(event: TaskEvent | None, body: object) -> None:
    """Assert what holds of everything that is ever read."""
    if isinstance(event, Completed):
        assert isinstance(body, dict)
        assert set(event.urls) <= documented(body)
        assert len(set(event.urls)) == len(event.urls) > 0
        assert all(url.startswith(("http://", "https://")) for url in event.urls)
        assert event.cost is None or 0 <= event.cost <= 1_000_000
        assert event.cost is None or Decimal(1) - event.cost < 2
    if isinstance(event, Failed):
        assert len(str(event.error)) < 2000
        str(event.error).encode()
    if isinstance(event, Running):
        assert 0 < len(event.word) <= 1000
    task_id = None if event is None else event.task_id  # type: ignore[union-attr]  # all of these have one
    assert task_id is None or 0 < len(task_id.encode()) <= 4 * 512


def check_all(reply: Reply, body: object) -> None:
    """Assert it of every reader, and that every answer can be judged."""
    readers = (decode.read_submit, decode.read_status, decode.read_plain, decode.read_quote)
    for reader in readers:
        answer = reader(reply, wall=NOW)
        check(answer.event, body)
        assert reach(answer) in Reach
        assert len(answer.excerpt) <= 4096
        assert len(answer.message or "") <= 1000
        assert len(answer.code or "") <= 1000
        repr(answer)
        for intent in Intent:
            decide(intent, answer, 1, RetryPolicy(), 0.5)
        if reader is decode.read_submit:
            assert (answer.event is None) is (answer.task_id is None)
            assert not isinstance(answer.event, Running)
        elif reader is decode.read_quote:
            assert answer.event is None
            assert answer.task_id == decode.read_submit(reply, wall=NOW).task_id
            cost = decode.cost_of(answer)
            assert cost is None or 0 <= cost <= 1_000_000
        else:
            assert answer.task_id is None
    event = decode.read_callback(reply.body)
    check(event, body)
    assert event is None or event.task_id


@given(st.binary(), STATUSES, HEADERS)
@example(b"\xef\xbb\xbf", 200, {})
@example(b'{"code":[]}', 200, {})
@example(b'{"data":{"task_id":' + b"9" * 5000 + b"}}", 200, {})
@example(b"[" * 100_000, 200, {})
@example(b'{"data":' * 100_000, 200, {})
@example(b'"task_id":' * 10_000, 200, {})
@example(b'"task_id":"\\' * 10_000, 200, {})
@example(b'"task_id"' + b" " * 100_000, 200, {})
@example(b'"task_id":' + b"1" * 100_000, 200, {})
@example(b'"task_id":"' + b"\\" * 100_001 + b'"', 200, {})
def test_no_bytes_make_it_raise(body: bytes, status: int, headers: dict[str, str]) -> None:
    """Whatever the bytes are, every reader gives an answer that can be judged."""
    check_all(Reply(status=status, headers=headers, body=body), None)


@given(OBJECTS, STATUSES, HEADERS)
def test_no_object_makes_it_raise(
    body: dict[str, object], status: int, headers: dict[str, str]
) -> None:
    """Whatever stands in the fields it knows, every reader gives an answer that can be judged."""
    check_all(replied(body, status, **headers), body)


@given(BODIES)
def test_no_json_makes_it_raise(body: object) -> None:
    """Bodies that are lists, numbers or text are borne like any other."""
    check_all(replied(body), body)


@pytest.mark.parametrize("depth", [100, 300, 900, 5000, 200_000])
def test_depth_is_no_danger(depth: int) -> None:
    """However deep a body is nested, a task id in it is found."""
    deep = b'{"data":{"task_id":"t-1","status":"processing","x":%s1%s}}' % (
        b"[" * depth,
        b"]" * depth,
    )
    assert submitted(deep).event == Accepted("t-1")


# -- salvage ---------------------------------------------------------------------------------

ACCEPTED = [
    (b'{"code":200,"data":{"status":"processing","task_id":"dd55-ae25"}}', "dd55-ae25"),
    (b'{"code":200,"data":{"task_id" : "dd55-ae25" ,"status":"processing"}}\n', "dd55-ae25"),
    (b'{"task_id":123456,"code":200}', "123456"),
    (b'{"code":200,"data":{"task_id": 123456 }}', "123456"),
    (b'{"data":{"task_id":123456789012345678901234567890}}', "1234567890" * 3),
    (b'{"data":{"task_id":"a\\"b\\\\c\\u00e4\\/"}}', 'a"b\\cä/'),
    ('{"data":{"task_id":"ä灯🗼"}}'.encode(), "ä灯🗼"),
]


@pytest.mark.parametrize(("body", "task_id"), ACCEPTED)
@pytest.mark.parametrize("status", [200, 502])
@pytest.mark.parametrize("tail", [b"", b"\x00", b"<html>"])
def test_an_id_is_whole_or_not_found(body: bytes, task_id: str, status: int, tail: bytes) -> None:
    """From every truncation of an accepted body comes the whole id or none, never a part of it."""
    found = [submitted(body[:end] + tail, status).task_id for end in range(len(body) + 1)]
    assert set(found) == {None, task_id}
    first = found.index(task_id)
    assert found[first:] == [task_id] * (len(found) - first)
    assert first <= body.index(b"}") + 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":{"task_id":""',
        b'{"data":{"task_id":"   "',
        b'{"data":{"task_id":null',
        b'{"data":{"task_id":true,',
        b'{"data":{"task_id":1.5,',
        b'{"data":{"task_id":1e5,',
        b'{"data":{"task_id":-',
        b'{"data":{"task_id":["a"],',
        b'{"data":{"task_id":"\\ud800",',
        b'{"data":{"task_id":"\\x",',
        b'{"data":{"task_id":"a\nb",',
        b'{"data":{"task_id":"\xff",',
        b'{"data":{"task_id":"%s",' % (b"x" * 513),
        b'{"data":{"task_id":%s,' % (b"9" * 513),
        b'{"data":{"my_task_id":"x",',
        b'{"error":"no such field: \\"task_id\\": \\"x\\"",',
    ],
)
def test_what_is_no_id_is_not_salvaged(body: bytes) -> None:
    """Only a whole JSON string or integer of a sensible length is taken for an id."""
    assert submitted(body).task_id is None
    assert decide(Intent.SUBMIT, submitted(body), 1, RetryPolicy(), 0.5) is Verdict.UNCERTAIN


@pytest.mark.parametrize(
    "value", [None, True, False, 1.5, 1e30, "", "  ", [], {}, ["t-1"], {"id": "t-1"}, "x" * 513]
)
def test_an_id_that_is_neither_text_nor_a_whole_number_is_none(value: object) -> None:
    """Such a reply to a submit is uncertain: the task exists, and nobody knows its name."""
    answer = submitted({"code": 200, "data": {"task_id": value, "status": "processing"}})
    assert (answer.task_id, answer.event) == (None, None)
    assert decide(Intent.SUBMIT, answer, 1, RetryPolicy(), 0.5) is Verdict.UNCERTAIN


@pytest.mark.parametrize(
    ("value", "task_id"),
    [(7, "7"), (0, "0"), (-5, "-5"), (2**63, str(2**63)), (2**64, str(2**64)), (" t ", "t")],
)
def test_an_integer_is_its_decimal_text(value: object, task_id: str) -> None:
    """An id that is an integer of any size is taken digit by digit."""
    assert submitted({"data": {"task_id": value}}).event == Accepted(task_id)
    assert submitted({"task_id": value}).event == Accepted(task_id)


def test_ids_elsewhere_in_a_readable_body_are_not_ours() -> None:
    """In a body that can be read only its own `task_id` counts, not that of some other object."""
    body = {"code": 429, "data": {"running": [{"task_id": "t-9"}], "message": "too many"}}
    assert submitted(body).task_id is None


# -- where pictures stand --------------------------------------------------------------------


def test_references_are_never_taken_for_pictures() -> None:
    """The request's own pictures, wherever a reply repeats them, are not what was made."""
    for data in (
        {"image_urls": [REFERENCE]},
        {"input": {"image_url": REFERENCE, "image_urls": [REFERENCE]}},
        {"request": {"output": {"image_url": REFERENCE}}},
        {"output": {"input": {"image_url": REFERENCE}}},
        {"output": [REFERENCE]},
        {"output": REFERENCE},
        {"url": REFERENCE, "images": [REFERENCE]},
        {"error": {"image_url": REFERENCE}},
    ):
        for body in ({"task_id": ID, **data}, {"code": 200, "data": {"task_id": ID, **data}}):
            assert submitted(body).event == Accepted(ID)
            assert looked(body).event is None
        done = {"task_id": ID, "status": "completed", **data}
        failed = looked({"data": done}).event
        assert isinstance(failed, Failed)
        assert failed.error.code == "no_image"


def test_a_completed_body_that_repeats_the_request_has_one_picture() -> None:
    """A flat `image_urls` beside the output is the request's; in a callback it is the result."""
    data = {
        "task_id": ID,
        "status": "completed",
        "image_urls": [REFERENCE],
        "output": {"image_url": PICTURE},
    }
    event = looked({"code": 200, "data": data}).event
    assert isinstance(event, Completed)
    assert event.urls == (PICTURE,)
    called = decode.read_callback(
        json.dumps(
            {"task_id": ID, "status": "completed", "data": {"image_urls": [PICTURE, PICTURE]}}
        ).encode()
    )
    assert isinstance(called, Completed)
    assert called.urls == (PICTURE,)


def test_pictures_come_in_order_and_once() -> None:
    """`image_url`, then `image_urls`, then the flat one; what is no http URL is left out."""
    many = [PICTURE, "ftp://x", None, 7, "", "/relative", "data:image/png;base64,A", PICTURE + "?3"]
    data = {
        "status": "completed",
        "task_id": ID,
        "output": {"image_url": PICTURE + "?1", "image_urls": many},
        "image_url": PICTURE + "?4",
    }
    event = looked({"data": data}).event
    assert isinstance(event, Completed)
    assert event.urls == (PICTURE + "?1", PICTURE, PICTURE + "?3", PICTURE + "?4")
    assert event.raw == data


# -- whose word it is ------------------------------------------------------------------------

STATUS_ROWS: list[tuple[int, object, type[TaskEvent] | None]] = [
    (200, {"data": {"status": "failed"}}, Failed),
    (400, {"data": {"status": "failed"}}, Failed),
    (500, {"data": {"status": "failed", "task_id": ID}}, Failed),
    (500, {"status": "failed", "message": "internal"}, None),
    (429, {"status": "failed", "message": "too many"}, None),
    (401, {"status": "failed", "message": "no key"}, None),
    (404, {"status": "failed", "message": "no such task"}, None),
    (503, {"status": "completed"}, None),
    (500, {"status": "error"}, None),
    (400, {"status": "error"}, None),
    (200, {"status": "error"}, Running),
    (202, {"data": {"status": "upscaling"}}, Running),
    (500, {"data": {"status": "processing"}}, Running),
    (429, {"data": {"status": "completed", "image_url": PICTURE}}, Completed),
    (200, {"data": {"status": " Completed ", "image_url": PICTURE}}, Completed),
    (200, {"data": {"status": "FAILED"}}, Failed),
    (200, {"data": {"status": 5}}, None),
    (200, {"data": {"status": ""}}, None),
    (200, {"status": "processing", "data": {"task_id": ID}}, Running),
    (200, {"status": "processing", "data": [1]}, Running),
    (200, {"status": "processing", "data": None}, Running),
    (200, [], None),
    (200, "completed", None),
]


@pytest.mark.parametrize(("status", "body", "kind"), STATUS_ROWS)
def test_a_look_fails_no_task_by_accident(
    status: int, body: object, kind: type[TaskEvent] | None
) -> None:
    """A refusal or a gateway's error is no task's end, even where it says `failed`."""
    event = looked(body, status).event
    assert (None if event is None else type(event)) is kind


def test_an_unknown_word_is_kept_as_it_is_said() -> None:
    """A word that is not known means running, in lower case and of bounded length."""
    assert looked({"data": {"status": "Upscaling"}}).event == Running(None, "upscaling")
    event = looked({"data": {"status": "x" * 5000}}).event
    assert event == Running(None, "x" * 1000)


def test_a_submit_that_failed_at_once_is_that_task_s_end() -> None:
    """A reply to the POST may already bring the last word, and a running one is an acceptance."""
    failed = submitted({"code": 400, "data": {"task_id": ID, "status": "failed"}}, 400).event
    assert isinstance(failed, Failed)
    assert failed.task_id == ID
    assert submitted({"data": {"task_id": ID, "status": "upscaling"}}).event == Accepted(ID)
    assert submitted({"data": {"status": "failed", "message": "no"}}, 400).event is None


# -- explanations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"data": {"code": "A_B", "message": " m "}}, "a_b", "m"),
        ({"data": {"error": {"code": "c", "message": "m"}}}, "c", "m"),
        ({"data": {"error": "m"}}, None, "m"),
        ({"data": {"error_message": "m"}}, None, "m"),
        ({"data": {}, "message": "m"}, None, "m"),
        ({"data": {}, "error": {"code": "c", "message": "m"}}, "c", "m"),
        ({"error": "m"}, None, "m"),
        ({"message": "m", "code": "c"}, "c", "m"),
        ({"detail": "m"}, None, "m"),
        ({"detail": [{"msg": "m"}, {"loc": []}, 7, {"msg": "n"}]}, None, "m; n"),
        ({"detail": [{"loc": []}]}, None, None),
        ({"data": {"error": {}}, "error": {}}, None, None),
        ({"data": {"message": "", "error": "m"}}, None, "m"),
        ({"data": {"code": 7, "message": 8}}, None, None),
        ({"data": {"code": "c" * 5000, "message": "m" * 5000}}, "c" * 1000, "m" * 1000),
        ({"detail": [{"msg": "m" * 900}, {"msg": "n" * 900}]}, None, "m" * 900 + "; " + "n" * 98),
    ],
)
def test_explanations_are_found_wherever_they_stand(
    body: object, code: str | None, message: str | None
) -> None:
    """The provider's code and message are read from every place where they occur, and bounded."""
    answer = decode.read_plain(replied(body, 422), wall=NOW)
    assert (answer.code, answer.message) == (code, message)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("Please comply with content policies", True),
        ("content_policy_violation", True),
        ("Content-Policy", True),
        ("Request moderated", True),
        ("failed moderation", True),
        ("NSFW content", True),
        ("blocked by the safety system", True),
        ("safety filter", True),
        ("Upstream error", False),
        ("the content is fine", False),
        ("for your safety, try again", False),
    ],
)
def test_a_policy_refusal_shows_in_its_words(text: str, policy: bool) -> None:  # noqa: FBT001 - a row
    """A content-policy failure is told from any other by code or message."""
    kind = ContentPolicyError if policy else GenerationError
    for why in ({"message": text}, {"code": text}):
        event = looked({"data": {"status": "failed", **why}}).event
        assert isinstance(event, Failed)
        assert type(event.error) is kind


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (0.06, Decimal("0.06")),
        ("0.06", Decimal("0.06")),
        (0, Decimal(0)),
        (1, Decimal(1)),
        (1_000_000, Decimal(1_000_000)),
        *((value, None) for value in (None, True, "", "free", -0.01, "-1", "$0.06")),
        ([], None),
        ({}, None),
        *((value, None) for value in ("NaN", "sNaN", "Infinity", "-Infinity", "1e999999999")),
        *((value, None) for value in (1_000_001, 10**40, "9" * 900)),
    ],
)
def test_a_cost_is_a_sensible_sum_or_none(cost: object, expected: Decimal | None) -> None:
    """What the provider says a task cost is taken where it is a sum, exactly as it is written."""
    event = looked({"data": {"status": "completed", "image_url": PICTURE, "cost": cost}}).event
    assert isinstance(event, Completed)
    assert event.cost == expected


# -- quotes ----------------------------------------------------------------------------------


def quoted(body: object, status: int = 200) -> Answer:
    """Read a body as the reply to a dry run."""
    return decode.read_quote(replied(body, status), wall=NOW)


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (b"0.04", "0.04"),
        (b'"0.04"', "0.04"),
        (b'" 0.060 "', "0.060"),
        (b"0.060", "0.060"),
        (b"4e-2", "0.04"),
        (b"0", "0"),
        (b"1000000", "1000000"),
        (b"0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        (b"0.30000000000000004", "0.30000000000000004"),
        *((value, None) for value in (b"null", b"true", b'""', b'"free"', b'"$0.04"', b"[0.04]")),
        *((value, None) for value in (b"-0.04", b'"-0.04"', b"1000001", b'"NaN"', b'"Infinity"')),
        *((value, None) for value in (b'{"usd":0.04}', b"1e-99999999999999999999", b"9" * 5000)),
    ],
)
@pytest.mark.parametrize(
    "envelope", [b'{"code":200,"success":true,"data":{"cost":%s}}', b'{"cost":%s}']
)
def test_a_quote_is_the_sum_that_is_written(
    cost: bytes, expected: str | None, envelope: bytes
) -> None:
    """Number or text, wrapped or not: a sensible sum keeps every digit, anything else is none."""
    found = decode.cost_of(quoted(envelope % cost))
    assert (None if found is None else str(found)) == expected


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"code": 200, "success": True, "data": {}},
        {"code": 200, "data": {"price": 0.04, "output": {"cost": 0.04}}},
        {"code": 200, "data": {"status": "completed", "image_url": PICTURE}},
        {"code": 200, "data": [0.04]},
        {"code": 200, "data": 0.04},
    ],
)
def test_a_reply_without_a_cost_is_read_and_has_none(body: object) -> None:
    """A reply that names no sum is an answer like any other: it is not asked for again."""
    answer = quoted(body)
    assert decode.cost_of(answer) is None
    assert answer.event is None
    assert decide(Intent.READ, answer, 1, RetryPolicy(), 0.5) is Verdict.READ


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"code": 400, "data": {"status": "failed", "message": "no"}}, 400, "RequestRejectedError"),
        ({"code": 200, "success": False, "data": {"cost": 0.04}}, 200, "ServerError"),
        ({"code": 401, "data": {"code": "authentication_failed"}}, 401, "AuthenticationError"),
        ({"code": 402, "data": {"cost": 0.04}}, 402, "InsufficientBalanceError"),
        ({"detail": "Not Found"}, 404, "RequestRejectedError"),
        ({"code": 429, "data": {"code": "rate_limit_exceeded"}}, 429, "RateLimitError"),
        (b"<html>502 Bad Gateway</html>", 502, "ServerError"),
        (b'{"code":200,"data":{"cost":0.0', 200, "ServerError"),
    ],
)
def test_a_quote_that_is_refused_is_no_price(body: object, status: int, kind: str) -> None:
    """Whatever else stands in a refusal or a broken reply, its last attempt is an error."""
    answer = quoted(body, status)
    assert decide(Intent.READ, answer, RetryPolicy().attempts, RetryPolicy(), 0.5) is (
        Verdict.REFUSED
    )
    assert type(refusal(answer, submit=True)).__name__ == kind


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"code": 200, "data": {"task_id": ID, "status": "pending", "cost": 0.04}}, 200),
        ({"task_id": ID}, 500),
        ({"code": 429, "data": {"task_id": ID}}, 429),
        (b'{"code":200,"data":{"task_id":"%s","sta' % ID.encode(), 200),
        (b'{"data":{"task_id":"%s"}}<html>' % ID.encode(), 502),
    ],
)
def test_a_dry_run_that_created_a_task_is_not_repeated(body: object, status: int) -> None:
    """A task id wins over any status, price and broken body: once more would be another task."""
    answer = quoted(body, status)
    assert answer.task_id == ID
    assert decide(Intent.READ, answer, 1, RetryPolicy(), 0.5) is Verdict.TASK


# -- the answer ------------------------------------------------------------------------------


def test_an_answer_keeps_what_support_asks_for() -> None:
    """Ids of the reply, the time to wait and an excerpt of the body are kept."""
    reply = replied(b"x" * 5000, 503, x_request_id="r-1", cf_ray="ray", retry_after="3")
    answer = decode.read_submit(reply, wall=NOW)
    assert (answer.status, answer.reply_id, answer.retry_after) == (503, "r-1", 3.0)
    assert answer.excerpt == "x" * 4096
    assert not answer.readable
    assert decode.read_plain(replied({}, cf_ray="ray"), wall=NOW).reply_id == "ray"


@pytest.mark.parametrize(
    ("reply", "page"),
    [
        (replied(b"<html>"), True),
        (replied(b" \n<!doctype html>"), True),
        (replied(b"Bad Gateway", content_type="text/HTML; charset=utf-8"), True),
        (replied(b"Bad Gateway", content_type="text/plain"), False),
        (replied(b""), False),
        (replied({}, content_type="text/html"), False),
    ],
)
def test_a_page_is_told_from_json(reply: Reply, page: bool) -> None:  # noqa: FBT001 - a row
    """What looks like HTML is a gateway's page, unless it is JSON under the wrong name."""
    assert decode.read_plain(reply, wall=NOW).page is page


def test_plain_replies_give_their_data() -> None:
    """A reply that is not about a task gives its `data`, or the whole body without an envelope."""
    assert decode.read_plain(replied({"data": {"balance_usd": 1}}), wall=NOW).data == {
        "balance_usd": 1
    }
    assert decode.read_plain(replied({"file_url": "u"}), wall=NOW).data == {"file_url": "u"}
    bom = decode.read_plain(replied(b'\xef\xbb\xbf{"data":{"a":1}}'), wall=NOW)
    assert bom.data == {"a": 1}


@pytest.mark.parametrize(
    "body",
    [
        {"task_id": ID, "status": "processing"},
        {"status": "completed", "image_url": PICTURE},
        {"task_id": ID},
        {"status": "failed"},
        [],
        b"",
        b"<html>",
        b"\xff",
    ],
)
def test_a_callback_without_a_last_word_or_an_id_is_none(body: object) -> None:
    """A callback counts only where it ends a task that it names."""
    assert decode.read_callback(replied(body).body) is None


def test_reprs_are_redacted() -> None:
    """The repr of a reply or an answer shows no header, body or data."""
    reply = replied({"data": {"secret": 1}}, x_secret="secret")
    assert "secret" not in repr(reply)
    assert "secret" not in repr(decode.read_submit(reply, wall=NOW))
    assert "secret" not in repr(decode.read_quote(reply, wall=NOW))
