"""The pure parts of the benchmark of callbacks, and the callbacks of its provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import attrs
import callbacks
import fast_server
import pytest
from side_by_side import report
from side_by_side.entrants import CALLBACKS, FLUXFLEX, PLAIN
from side_by_side.measures import Row

from fluxflex.webhooks import WebhookReceiver
from tests.webhooks.helpers import joined, ticket

BOOKS = callbacks.Books(
    pictures={"a": ["http://x/1.png"], "b": ["http://x/2.png"]},
    posts=2,
    looks=1,
    sent={"plain": 1, "lost": 1, "double": 1, "wrong-token": 3, "giant": 1, "again": 9},
    taken=2,
)
SEEN = callbacks.Seen(
    pictures={"b": ["http://x/2.png"], "a": ["http://x/1.png"]},
    errors={},
    ends={1: 2},
    counted={
        "received": 2,
        "early": 0,
        "late": 0,
        "duplicate": 1,
        "unknown": 0,
        "broken": 0,
        "refused": 4,
        "missed": 1,
    },
    polls=1,
    completed=2,
    seconds=3.0,
)


def broken(seen: callbacks.Seen = SEEN, books: callbacks.Books = BOOKS) -> list[str]:
    """Return the names of the lines that do not hold."""
    return [line.name for line in callbacks.judged(2, seen, books) if not line.holds]


def test_a_storm_that_did_no_harm() -> None:
    """Every line holds where what was counted is what was sent."""
    assert broken() == []


@pytest.mark.parametrize(
    "pictures",
    [
        {"a": ["http://x/2.png"], "b": ["http://x/1.png"]},
        {"a": ["http://x/1.png"] * 2, "b": ["http://x/2.png"]},
        {"a": ["http://x/1.png"]},
    ],
)
def test_each_prompt_has_its_own_picture_once(pictures: Mapping[str, list[str]]) -> None:
    """A mix-up, a second outcome and a lost one are all seen."""
    assert len(broken(attrs.evolve(SEEN, pictures=pictures))) == 1


def test_what_is_bought_twice_is_seen() -> None:
    """Neither of two tasks of one prompt is the right one."""
    twice = {**BOOKS.pictures, "a": ["http://x/1.png", "http://x/3.png"]}
    found = broken(books=attrs.evolve(BOOKS, pictures=twice, posts=3))
    assert found == ["outcomes with the picture of their own prompt, once", "POSTs at the provider"]


def test_a_task_that_ends_twice_is_seen() -> None:
    """Even where its outcome came once."""
    found = broken(attrs.evolve(SEEN, ends={1: 1, 2: 1}))
    assert found == ["tasks that ended once", "tasks that ended more than once"]


@pytest.mark.parametrize("kind", ["received", "early", "duplicate", "refused", "missed", "unknown"])
def test_what_is_miscounted_is_seen(kind: str) -> None:
    """Each count of the session is held against what was sent."""
    counted = {**SEEN.counted, kind: SEEN.counted[kind] + 1}
    assert len(broken(attrs.evolve(SEEN, counted=counted))) == 1


def test_a_storm_is_told_in_lines() -> None:
    """What does not hold stands out."""
    seen = attrs.evolve(SEEN, errors={"TaskTimeoutError": 1})
    text = callbacks.told_of(2, seen, BOOKS, callbacks.judged(2, seen, BOOKS))
    assert text.startswith("2 tasks in 3.0 s, 0.50 looks a task\nsent:    9 again, 1 double")
    assert [line for line in text.splitlines() if line.startswith("NO")] == [
        "NO  outcomes with an error                                     1 of 0"
    ]


def test_callbacks_are_judged_by_plain_aiohttp() -> None:
    """The ratio is taken round by round, not of the medians."""
    rows: list[Row] = [
        {"client": FLUXFLEX, "ratio": 1.0, "plain_to_this": 1.0, "over_transport_us": 9.0},
        {"client": PLAIN, "ratio": 1.2, "plain_to_this": 1.0},
        {"client": CALLBACKS, "ratio": 0.8, "plain_to_this": 1.4},
    ]
    judged = {target.name: target.met for target in report.targets({"cost": rows})}
    assert judged["CPU of aiohttp loops, x fluxflex with callbacks"] is True


async def test_the_fast_provider_tells_the_end_of_a_task() -> None:
    """Whose POST names a `callback_url` has one callback, answered before it is counted."""
    receiver = WebhookReceiver("http://127.0.0.1:0/x")
    box = joined(receiver)
    with fast_server.running() as url:
        async with receiver.serve():
            reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
            for key in range(20):
                body = json.dumps({"prompt": "a", "callback_url": receiver.address(ticket(key))})
                plain = body.replace(" ", "").encode()
                head = b"POST /f HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(plain)
                writer.write(head + plain)
            async with asyncio.timeout(20):
                while (await fast_server.counts(url))["callbacks"] < 20:
                    pass
            assert await reader.read(10) == b"HTTP/1.1 2"
            writer.close()
            await writer.wait_closed()
    told = {each.key: json.loads(body) for each, body in box.taken}
    assert sorted(told) == list(range(20))
    assert len(box.taken) == len({body["task_id"] for body in told.values()}) == 20
    assert all(body["status"] == "completed" for body in told.values())
