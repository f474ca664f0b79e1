"""The retry law: every cell, every sample, every form of Retry-After, and bounded pauses."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxflex._core import decode
from fluxflex._core.exchange import Answer, Intent, Phase, Reply, Unanswered
from fluxflex._core.lifecycle import Accepted, Running
from fluxflex._core.retry import (
    LAW,
    Again,
    Reach,
    RetryPolicy,
    Rule,
    Verdict,
    decide,
    parse_retry_after,
    reach,
)

SUBMIT, READ = Intent.SUBMIT, Intent.READ
NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
POLICY = RetryPolicy(attempts=5, initial=0.5, maximum=10.0)


def reply(status: int, body: bytes = b"{}", **headers: str) -> Reply:
    """Return a reply, `retry_after="1"` being its header."""
    return Reply(
        status=status,
        body=body,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def lost(phase: Phase, *, hopeless: bool = False) -> Unanswered:
    """Return an exchange that was not answered."""
    return Unanswered(phase=phase, reason="x", hopeless=hopeless)


PAGE = {"content_type": "text/html"}
HTML = b"<html>Welcome</html>"
ID = b'{"code":%d,"data":{"task_id":"t-1"}}'

# Section 4 of the design, row by row: what stands for the row, then POST generate, then GET.
FEW, LONG, NO, NEVER = Rule.AGAIN_FEW, Rule.AGAIN_LONG, Rule.REFUSE, Rule.UNCERTAIN
SECTION_4: dict[str, tuple[list[Reply | Unanswered], Rule, Rule]] = {
    "never sent: DNS, connect, TLS, pool wait": ([lost(Phase.NEVER_SENT)], FEW, FEW),
    "429; 503 with Retry-After": (
        [
            reply(429),
            reply(429, retry_after="3"),
            reply(429, retry_after="soon"),
            reply(429, HTML, **PAGE),
            reply(503, retry_after="3"),
            reply(503, HTML, retry_after="0", **PAGE),
            reply(200, b'{"code":429,"data":{}}'),
            reply(200, b'{"success":false,"data":{"code":"rate_limit_exceeded"}}'),
            reply(200, b'{"code":503,"data":{}}', retry_after="3"),
        ],
        LONG,
        FEW,
    ),
    "any other 4xx": (
        [
            *(reply(status) for status in range(400, 500) if status not in {408, 429}),
            reply(401, HTML, **PAGE),
        ],
        NO,
        NO,
    ),
    "any other 4xx as a page of a gateway's": (
        [reply(403, HTML, **PAGE), reply(404, HTML, **PAGE), reply(413, HTML)],
        NO,
        FEW,
    ),
    "an error code in a 200, as that HTTP status": (
        [
            reply(200, b'{"code":400,"data":{"message":"no"}}'),
            reply(200, b'{"code":401,"data":{}}'),
            reply(200, b'{"code":402,"data":{}}'),
            reply(200, b'{"code":404,"data":{}}'),
            reply(200, b'{"code":422,"data":{"code":"validation_error"}}'),
            reply(200, b'{"success":false,"data":{"code":"validation_error"}}'),
            reply(200, b'{"code":"authentication_failed"}'),
            reply(200, b'{"code":200,"success":false,"data":{"code":"insufficient_balance"}}'),
        ],
        NO,
        NO,
    ),
    "an error code in a 200 that is unknown, or a server's": (
        [
            reply(200, b'{"code":500,"data":{}}'),
            reply(200, b'{"code":503,"data":{}}'),
            reply(200, b'{"code":408,"data":{}}'),
            reply(200, b'{"code":0,"data":{}}'),
            reply(200, b'{"code":-1,"data":{}}'),
            reply(200, b'{"code":302,"data":{}}'),
            reply(200, b'{"code":99999,"data":{}}'),
            reply(200, b'{"code":"teapot","data":{}}'),
            reply(200, b'{"code":[],"data":{}}'),
            reply(200, b'{"code":{"a":1},"data":{}}'),
            reply(200, b'{"code":true,"data":{}}'),
            reply(200, b'{"success":false}'),
            reply(200, b'{"success":false,"data":{"code":"internal_error"}}'),
        ],
        NEVER,
        FEW,
    ),
    "500, 502, 504, 408, 503 without Retry-After": (
        [
            *(reply(status) for status in (408, 500, 501, 502, 503, 504, 520, 524, 599)),
            reply(502, HTML, **PAGE),
            reply(408, HTML, **PAGE),
            reply(503, retry_after="soon"),
            reply(500, retry_after="3"),
        ],
        NEVER,
        FEW,
    ),
    "HTML, truncated or unreadable 200": (
        [
            reply(200, HTML, **PAGE),
            reply(200, b""),
            reply(200, b'{"code":200,"data":{"task_id":"dd55'),
            reply(200, b"[]"),
            reply(200, b"null"),
            reply(200, b"\xff\xfe\x00"),
            reply(100),
        ],
        NEVER,
        FEW,
    ),
    "200 without a task id": (
        [
            reply(200),
            reply(200, b'{"code":200,"data":{"status":"processing"}}'),
            reply(200, b'{"code":200,"data":{"task_id":null}}'),
            reply(201),
            reply(202, b'{"data":{"task_id":""}}'),
        ],
        NEVER,
        Rule.READ,
    ),
    "sent, no answer: reset, disconnect, timeout": (
        [lost(Phase.SENT), lost(Phase.WRITING), lost(Phase.SENT, hopeless=True)],
        NEVER,
        FEW,
    ),
    "3xx": (
        [reply(status) for status in (301, 302, 303, 307, 308)],
        Rule.MISCONFIGURED,
        Rule.MISCONFIGURED,
    ),
    "a certificate that does not fit": (
        [lost(Phase.NEVER_SENT, hopeless=True)],
        Rule.UNREACHABLE,
        Rule.UNREACHABLE,
    ),
}


def cells() -> list[object]:
    """Return a test row for each thing that stands for a row, and each intent."""
    return [
        pytest.param(got, intent, rule, id=f"{row} {place} {intent.value}")
        for row, (gots, submit, read) in SECTION_4.items()
        for place, got in enumerate(gots)
        for intent, rule in ((SUBMIT, submit), (READ, read))
    ]


def read_as(intent: Intent, got: Reply | Unanswered) -> Answer | Unanswered:
    """Return what the reader of that intent makes of what came back."""
    if isinstance(got, Unanswered):
        return got
    reader = decode.read_submit if intent is SUBMIT else decode.read_plain
    return reader(got, wall=NOW)


@pytest.mark.parametrize(("got", "intent", "rule"), cells())
def test_the_law_is_the_one_that_is_written(
    got: Reply | Unanswered, intent: Intent, rule: Rule
) -> None:
    """Each row of the design's table holds, from the bytes of a reply to the rule."""
    assert LAW[reach(read_as(intent, got))][intent] is rule


@pytest.mark.parametrize("status", [200, 201, 302, 400, 401, 404, 408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("code", [200, 400, 429, 500])
@pytest.mark.parametrize("tail", [b"", b"<"])
def test_any_status_with_a_task_id_is_accepted(status: int, code: int, tail: bytes) -> None:
    """The id wins over every status and code, and also where the body around it is broken."""
    answer = decode.read_submit(reply(status, ID % code + tail), wall=NOW)
    assert answer.task_id == "t-1"
    assert answer.event == Accepted("t-1")
    assert decide(SUBMIT, answer, 1, POLICY, 0.5) is Verdict.TASK


def test_the_law_has_every_cell() -> None:
    """Each reach has a rule for each intent, and no rule lets an uncertain submit go again."""
    assert list(LAW) == list(Reach)
    for row in LAW.values():
        assert set(row) == set(Intent)
    again = {where for where in Reach if LAW[where][SUBMIT] in {FEW, LONG}}
    assert again == {Reach.NEVER_SENT, Reach.THROTTLED}


SAMPLES: dict[str, Verdict | type[Again]] = {
    "create-200-without-task-id": Verdict.UNCERTAIN,
    "create-accepted": Verdict.TASK,
    "create-accepted-unified": Verdict.TASK,
    "create-already-completed": Verdict.TASK,
    "create-gateway-504": Verdict.UNCERTAIN,
    "create-no-balance": Verdict.REFUSED,
    "create-refused-inside-200": Verdict.REFUSED,
    "create-unauthorized": Verdict.REFUSED,
    "create-unreadable-200": Verdict.UNCERTAIN,
    "create-validation-error": Verdict.REFUSED,
    "status-code-400-still-processing": Verdict.TASK,
    "status-completed": Verdict.TASK,
    "status-completed-empty-error": Verdict.TASK,
    "status-completed-flat-output": Verdict.TASK,
    "status-completed-many-images": Verdict.TASK,
    "status-completed-without-image": Verdict.TASK,
    "status-completed-without-status": Verdict.TASK,
    "status-failed-content-policy": Verdict.TASK,
    "status-failed-error-message": Verdict.TASK,
    "status-failed-flat-error": Verdict.TASK,
    "status-failed-http-400": Verdict.TASK,
    "status-failed-nested-error": Verdict.TASK,
    "status-gateway-html-502": Again,
    "status-pending-unified": Verdict.TASK,
    "status-processing": Verdict.TASK,
    "status-rate-limited": Again,
    "status-unauthorized": Verdict.REFUSED,
    "status-unknown-word": Verdict.TASK,
}


@pytest.mark.parametrize(("name", "expected"), list(SAMPLES.items()))
def test_every_sample_is_decided(
    name: str, expected: Verdict | type[Again], reply_of: Callable[[str], Reply]
) -> None:
    """What follows from each reply of the provider's is as written out above."""
    if name.startswith("create-"):
        step = decide(SUBMIT, decode.read_submit(reply_of(name), wall=NOW), 1, POLICY, 0.5)
    else:
        step = decide(READ, decode.read_status(reply_of(name), wall=NOW), 1, POLICY, 0.5)
    assert step is expected or type(step) is expected


def test_no_sample_is_missing() -> None:
    """The table above has a row for every sample of a reply."""
    folder = Path(__file__).parents[1] / "samples"
    assert set(SAMPLES) == {
        path.stem for path in folder.glob("*.json") if not path.stem.startswith("callback-")
    }


# -- decide ----------------------------------------------------------------------------------


def answer(status: int, retry_after: float | None = None) -> Answer:
    """Return an answer that is not about a task."""
    return Answer(status=status, readable=True, retry_after=retry_after)


@pytest.mark.parametrize("attempt", [1, 2, 3, 4])
def test_never_sent_is_repeated_up_to_attempts(attempt: int) -> None:
    """What never left is sent again, for either intent, with a pause that doubles."""
    for intent in Intent:
        step = decide(intent, lost(Phase.NEVER_SENT), attempt, POLICY, 1.0)
        assert step == Again(delay=[0.5, 1.0, 2.0, 4.0][attempt - 1])
        last = decide(intent, lost(Phase.NEVER_SENT), 5, POLICY, 1.0)
        assert last is Verdict.UNREACHABLE


def test_a_submit_that_is_turned_away_is_repeated_without_a_count() -> None:
    """A 429 on a submit has no last attempt: the deadline ends it, not `attempts`."""
    for attempt in (1, 5, 1000):
        assert decide(SUBMIT, answer(429), attempt, POLICY, 0.0) == Again(delay=0.0)
    assert isinstance(decide(READ, answer(429), 4, POLICY, 0.0), Again)
    assert decide(READ, answer(429), 5, POLICY, 0.0) is Verdict.REFUSED


def test_a_reading_call_that_keeps_failing_ends() -> None:
    """A GET is given up after `attempts`: refused where it was answered, else unreachable."""
    assert decide(READ, answer(500), 5, POLICY, 0.5) is Verdict.REFUSED
    assert decide(READ, lost(Phase.SENT), 5, POLICY, 0.5) is Verdict.UNREACHABLE
    assert decide(READ, answer(200), 1, POLICY, 0.5) is Verdict.READ
    assert decide(READ, answer(302), 1, POLICY, 0.5) is Verdict.MISCONFIGURED


@pytest.mark.parametrize("got", [lost(Phase.SENT), lost(Phase.WRITING), answer(500), answer(200)])
def test_uncertain_is_never_sent_again_unless_opted_in(got: Answer | Unanswered) -> None:
    """Only `resubmit_uncertain` sends again what may have been accepted, and says so."""
    assert decide(SUBMIT, got, 1, POLICY, 0.5) is Verdict.UNCERTAIN
    daring = attrs.evolve(POLICY, resubmit_uncertain=True)
    assert decide(SUBMIT, got, 1, daring, 0.5) == Again(delay=0.25, uncertain=True)
    assert decide(SUBMIT, got, 5, daring, 0.5) is Verdict.UNCERTAIN


@pytest.mark.parametrize(("draw", "delay"), [(0.0, 7.0), (0.5, 7.25), (1.0, 7.5)])
def test_the_provider_s_time_is_kept_and_a_little_more(draw: float, delay: float) -> None:
    """After Retry-After, never before it: the jitter comes on top."""
    turned_away = answer(429, retry_after=7.0)
    assert decide(SUBMIT, turned_away, 9, POLICY, draw) == Again(delay=delay)


def test_news_of_a_task_wins_over_the_status() -> None:
    """A body that is about a task is never repeated, whatever the status beside it."""
    for status in (400, 429, 500):
        got = attrs.evolve(answer(status), event=Running("t-1", "processing"))
        assert reach(got) is Reach.TASK
        assert decide(READ, got, 1, POLICY, 0.5) is Verdict.TASK


# -- pauses ----------------------------------------------------------------------------------


@given(
    st.integers(1, 10**9),
    st.floats(0, 1),
    st.floats(0, 1e300),
    st.floats(0, 1e300),
)
def test_pauses_are_bounded(attempt: int, draw: float, initial: float, maximum: float) -> None:
    """No pause is negative or longer than the longest, at any attempt and with any policy."""
    policy = RetryPolicy(initial=initial, maximum=maximum)
    assert 0 <= policy.pause(attempt, draw) <= maximum


def test_pauses_double_up_to_the_longest() -> None:
    """With the whole draw the pauses are the first one doubled, then the longest."""
    pauses = [POLICY.pause(attempt, 1.0) for attempt in range(1, 8)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert POLICY.pause(7, 0.0) == 0.0


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("attempts", lambda: RetryPolicy(attempts=0)),
        ("attempts", lambda: RetryPolicy(attempts=-1)),
        ("initial", lambda: RetryPolicy(initial=-0.1)),
        ("initial", lambda: RetryPolicy(initial=float("nan"))),
        ("initial", lambda: RetryPolicy(initial=float("inf"))),
        ("maximum", lambda: RetryPolicy(maximum=-0.1)),
        ("maximum", lambda: RetryPolicy(maximum=float("nan"))),
        ("maximum", lambda: RetryPolicy(maximum=float("inf"))),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(name: str, make: Callable[[], object]) -> None:
    """There is one attempt at least, and pauses are finite and not negative."""
    with pytest.raises(ValueError, match=name):
        make()


# -- Retry-After -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("   ", None),
        ("0", 0.0),
        ("1", 1.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("007", 7.0),
        ("86400", 86400.0),
        ("86400.001", 86400.0),
        ("999999999999", 86400.0),
        ("9" * 5000, 86400.0),
        ("-1", None),
        ("-0", None),
        ("+5", None),
        ("1e3", None),
        ("1_0", None),
        ("0x10", None),
        ("٣", None),
        ("1,5", None),
        ("3, 5", None),
        ("1 2", None),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("Infinity", None),
        ("soon", None),
        ("1s", None),
        ("\x00", None),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10.0),
        ("Sun Nov  6 08:49:47 1994", 10.0),
        ("Sun, 06 Nov 1994 08:49:47", 10.0),
        ("Sun, 06 Nov 1994 08:49:47 -0000", 10.0),
        ("Sun, 06 Nov 1994 10:49:47 +0200", 10.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:49:27 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Mon, 07 Nov 1994 08:49:37 GMT", 86400.0),
        ("Mon, 07 Nov 1994 08:49:38 GMT", 86400.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0),
        ("Sun, 06 Nov 1994 25:61:61 GMT", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 99999 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 +99999999999", None),
        ("1994-11-06T08:49:47Z", None),
    ],
)
def test_retry_after_in_all_forms(value: str | None, seconds: float | None) -> None:
    """Seconds, fractions accepted, or an HTTP date; anything else counts as absent."""
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system cannot change its time zone")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_dates_are_the_same_in_every_time_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An HTTP date is in UTC, also in the old form without a zone, wherever this machine is."""
    try:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert parse_retry_after("Sun Nov  6 08:49:47 1994", NOW) == 10.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(
    st.text() | st.from_regex(r"[A-Z][a-z]{2},? ?\d{0,6}[ -]\w{3}[ -]\d{0,6} [\d:]{0,9} ?\S{0,9}")
)
def test_no_header_raises(value: str) -> None:
    """Whatever stands in the header, the result is a bounded number or none."""
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= 86400


@given(st.integers(0, 86400))
def test_a_date_is_worth_the_seconds_until_it(seconds: int) -> None:
    """A date and the seconds until then mean the same."""
    date = formatdate(NOW + seconds, usegmt=True)
    assert parse_retry_after(date, NOW) == parse_retry_after(str(seconds), NOW) == seconds


@pytest.mark.parametrize("value", ["no", 0, 1, None])
def test_opting_in_to_paying_twice_takes_a_plain_true(value: Any) -> None:
    """A truthy word such as "no" must not opt in."""
    with pytest.raises(TypeError, match="resubmit_uncertain must be True or False"):
        RetryPolicy(resubmit_uncertain=value)


@pytest.mark.parametrize(
    "values", [{"attempts": "3"}, {"attempts": True}, {"attempts": 1.5}, {"initial": "1"}]
)
def test_a_policy_of_wrong_types_says_so(values: Any) -> None:
    """Each names its field and what it should be."""
    with pytest.raises(ValueError, match="must be"):
        RetryPolicy(**values)
