"""The ledger: what was billed, asked and in flight."""

import math
from decimal import Decimal

import pytest

from fluxflex.simulator import Entry, Failure, Ledger, Manual, SeenRequest, Simulator, fingerprint
from fluxflex.simulator.contract import FLEX
from tests.simulator.simulator_client import (
    KEY,
    SUBMIT,
    Client,
    Clock,
    plain_client,
    standing_clock,
)

client = plain_client
clock = standing_clock


def entry(number: int = 1, *, at: float = 0.0, due: float = 10.0, prompt: str = "p") -> Entry:
    """Make an accepted task."""
    return Entry(
        number=number,
        task_id=f"task-{number}",
        prompt=prompt,
        body=b'{"prompt": "%s", "quality": "2K"}' % prompt.encode(),
        price=Decimal("0.06"),
        accepted_at=at,
        due=due,
        failure=None,
        generation=FLEX,
    )


@pytest.mark.parametrize(
    ("now", "word"),
    [(0, "pending"), (0.4, "pending"), (0.5, "processing"), (9.9, "processing"), (10, "completed")],
)
def test_a_task_is_pending_then_processing_then_completed(now: float, word: str) -> None:
    """The clock alone moves a task on; its first twentieth is pending."""
    assert entry().state(now) == word


def test_a_task_without_end_is_processing() -> None:
    """A task that is finished by hand is processing from the first moment on."""
    assert entry(due=math.inf).state(0) == "processing"
    assert entry(due=math.inf).state(1e12) == "processing"


def test_an_entry_keeps_the_payload_as_it_came() -> None:
    """The payload has what was sent and nothing else; the order has the defaults too."""
    assert entry().payload == {"prompt": "p", "quality": "2K"}
    assert entry().order.aspect_ratio == "auto"


def test_in_flight_goes_by_the_clock() -> None:
    """A task counts from its acceptance to its due time, and the maximum stays known."""
    ledger = Ledger()
    ledger.record_task(entry(1, at=0, due=10))
    ledger.record_task(entry(2, at=5, due=8))
    ledger.record_task(entry(3, at=9, due=math.inf))
    assert ledger.max_in_flight == 2
    assert ledger.in_flight(9) == 2
    assert ledger.in_flight(10) == 1
    ledger.record_end("task-3", 11, Failure())
    assert ledger.in_flight(11) == 0


def test_a_task_that_takes_no_time_is_never_in_flight() -> None:
    """With a duration of zero the task is finished when it is accepted."""
    ledger = Ledger()
    ledger.record_task(entry(1, at=3, due=3))
    assert (ledger.max_in_flight, ledger.in_flight(3)) == (0, 0)


def test_a_task_finished_by_hand_before_its_time_is_no_longer_in_flight() -> None:
    """Its old due time coming later changes nothing."""
    ledger = Ledger()
    ledger.record_task(entry(1, at=0, due=10))
    ledger.record_end("task-1", 2, None)
    assert ledger.in_flight(2) == 0
    assert ledger.in_flight(10) == 0


def test_what_was_bought_twice_is_found_by_its_prompt() -> None:
    """Duplicates are prompts with more than one accepted task, oldest first."""
    ledger = Ledger()
    for number, prompt in enumerate(["a", "b", "a"], start=1):
        ledger.record_task(entry(number, prompt=prompt))
    assert {prompt: len(found) for prompt, found in ledger.by_prompt().items()} == {"a": 2, "b": 1}
    assert [found.number for found in ledger.duplicates()["a"]] == [1, 3]
    assert ledger.billed_usd == Decimal("0.18")
    assert len(ledger) == 3
    assert ledger.entry("task-2") is ledger.entries[1]
    assert ledger.entry("task-9") is None


def test_a_recalled_task_is_not_accepted_again() -> None:
    """What an earlier simulator accepted can be found and ended, and counts nowhere."""
    ledger = Ledger()
    ledger.record_recalled(entry(0, at=-5, due=math.inf))
    ledger.record_end("task-0", 3, Failure())
    (found,) = ledger.recalled
    assert found is ledger.entry("task-0")
    assert found.state(3) == "failed"
    assert (len(ledger), len(ledger.entries), ledger.billed_usd) == (0, 0, Decimal(0))
    assert (ledger.max_in_flight, ledger.in_flight(0)) == (0, 0)


def test_the_log_of_requests_is_bounded_and_the_counters_are_not() -> None:
    """Only the latest requests stay, the counts are of all."""
    ledger = Ledger(keep_requests=2)
    for number in range(5):
        ledger.record_request("submit", SeenRequest("POST", f"/{number}", "h", "k"))
    assert [seen.path for seen in ledger.requests] == ["/3", "/4"]
    assert ledger.posts_received == 5
    assert ledger.posts["/0"] == 1
    assert ledger.keys_at("h") == {"k"}
    assert ledger.keys_at("elsewhere") == frozenset()


async def test_requests_are_recorded_with_the_key_as_a_fingerprint(client: Client) -> None:
    """The log says which key came to which host, and never the key."""
    async with Simulator(durations=0.0) as sim:
        await client.ask("POST", f"{sim.url}{SUBMIT}?trace=1", json={"prompt": "p"})
        await client.ask("GET", f"{sim.url}/account", key=None)
        await client.ask("GET", f"{sim.url}/account", headers={"Authorization": "Basic abc"})
        first, second, third = sim.ledger.requests
        host = sim.url.removeprefix("http://")
    assert (first.method, first.path, first.host) == ("POST", SUBMIT, host)
    assert first.key == fingerprint(KEY)
    assert first.authorized
    assert first.query == "trace=1"
    assert first.headers["Content-Type"] == "application/json"
    assert "Authorization" not in first.headers
    assert second.key is None
    assert not second.authorized
    assert third.key == fingerprint("Basic abc")
    assert sim.ledger.keys_at(host) == {fingerprint(KEY), fingerprint("Basic abc")}
    assert KEY not in repr([sim, sim.ledger, *sim.ledger.requests])
    assert KEY not in repr(first.headers)


async def test_every_request_counts_as_what_it_is(client: Client) -> None:
    """POSTs count by path, looks and files by kind, whatever became of them."""
    async with Simulator(durations=0.0, pictures=lambda _: b"png") as sim:
        task_id = await client.accepted(sim)
        await client.submit(sim, steps=99)
        await client.ask("POST", f"{sim.url}/nowhere")
        await client.look(sim, task_id)
        await client.look(sim, "unknown")
        await client.ask("GET", f"{sim.url}/files/{task_id}.png", key=None)
        await client.ask("GET", f"{sim.url}/v1/account")
    ledger = sim.ledger
    assert ledger.posts == {SUBMIT: 2, "/nowhere": 1}
    assert ledger.posts_received == 3
    assert ledger.status_requests == 2
    assert ledger.file_requests == 1
    assert ledger.arrivals["account"] == 1
    assert len(ledger) == 1


async def test_an_accepted_task_is_an_entry(client: Client, clock: Clock) -> None:
    """The ledger holds what was asked, what it cost and when, in simulated seconds."""
    async with Simulator(durations=30, speed=10, clock=clock) as sim:
        clock.now = 2.0
        task_id = await client.accepted(sim, "a fox", quality="2K", steps=20)
    (entry,) = sim.ledger.entries
    assert entry.task_id == task_id
    assert entry.payload == {"prompt": "a fox", "quality": "2K", "steps": 20}
    assert (entry.number, entry.accepted_at, entry.due) == (1, 20.0, 50.0)
    assert entry.price == sim.ledger.billed_usd == Decimal("0.06")
    assert sim.ledger.max_in_flight == 1
    assert repr(sim.ledger) == ("<Ledger: 1 POSTs, 1 tasks accepted, 0.06 USD billed, 0 looks>")


async def test_manual_tasks_are_in_flight_until_they_are_finished(client: Client) -> None:
    """Finishing and failing by hand take a task out of flight."""
    async with Simulator(durations=Manual()) as sim:
        first, second = await client.accepted(sim, "a"), await client.accepted(sim, "b")
        assert sim.ledger.in_flight(sim.now()) == 2
        sim.finish(first)
        sim.fail(second)
        assert sim.ledger.in_flight(sim.now()) == 0
        assert sim.ledger.max_in_flight == 2
