"""Callbacks on the wire: when they are sent, tried again, given up, held and kept."""

import asyncio
import hmac
import socket
import warnings
from decimal import Decimal
from hashlib import sha256

import aiohttp
import pytest

from fluxflex.simulator import Callbacks, Manual, Simulator, faults
from fluxflex.simulator.faults import Faults
from tests.simulator.callback_receiver import Receiver, plain_receiver
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
receiver = plain_receiver


async def sent(sim: Simulator, count: int) -> list[tuple[str, int, float, int | None]]:
    """Wait for so many answers and return each callback's kind, attempt, time and status."""
    await sim.wait_for(lambda ledger: len(ledger.callbacks) >= count)
    return [(each.kind, each.attempt, each.at, each.status) for each in sim.ledger.callbacks]


def is_quiet(sim: Simulator) -> bool:
    """Say whether nothing is being sent, and nothing will be."""
    courier = sim._courier
    return not courier._later and not courier._ready and all(t.done() for t in courier._in_air)


async def post(http: aiohttp.ClientSession, sim: Simulator, callback_url: str) -> bytes:
    """Submit a task and read the reply."""
    body = {"prompt": "p", "callback_url": callback_url}
    headers = {"Authorization": f"Bearer {KEY}"}
    async with http.post(sim.url + SUBMIT, json=body, headers=headers) as reply:
        return await reply.read()


async def test_a_finished_task_is_told(client: Client, receiver: Receiver) -> None:
    """The documented JSON comes once, with the image URL that the status route tells too."""
    async with Simulator(durations=Manual()) as sim:
        task_id = await client.accepted(sim, callback_url=receiver.url())
        assert not receiver.deliveries
        sim.finish(task_id)
        await sent(sim, 1)
        output = (await client.look(sim, task_id)).json["data"]["output"]
    (delivery,) = receiver.deliveries
    assert delivery.path == "/hooks/t0ken"
    assert delivery.json == {"task_id": task_id, "status": "completed", "data": output}
    assert delivery.headers["Content-Type"] == "application/json"
    assert not {"Authorization", "X-Webhook-Signature"} & set(delivery.headers)


async def test_a_failed_task_is_told(client: Client, receiver: Receiver) -> None:
    """The callback has the words of the failure."""
    async with Simulator(durations=Manual()) as sim:
        task_id = await client.accepted(sim, callback_url=receiver.url())
        sim.fail(task_id, message="out of paint")
        await sent(sim, 1)
    assert receiver.deliveries[0].json == {
        "task_id": task_id,
        "status": "failed",
        "error_message": "out of paint",
    }


async def test_the_unified_api_calls_back_too(client: Client, receiver: Receiver) -> None:
    """There the URL stands beside the input."""
    async with Simulator(durations=0.0) as sim:
        body = {
            "model": "black-forest-labs/flux.2-flex",
            "input": {"prompt": "a sea"},
            "callback_url": receiver.url(),
        }
        answer = await client.ask("POST", f"{sim.url}/v1/tasks", json=body)
        await sent(sim, 1)
    assert receiver.deliveries[0].json["task_id"] == answer.json["data"]["task_id"]


async def test_no_callback_without_a_url(client: Client) -> None:
    """A task that names no callback URL is told to nobody, and nothing is counted."""
    async with Simulator(durations=0.0, callbacks=Callbacks(early=1, forged=2)) as sim:
        await client.accepted(sim)
    assert not sim.ledger.callbacks
    assert not sim.ledger.callbacks_by_kind


async def test_a_dry_run_and_a_refusal_have_no_end(client: Client, receiver: Receiver) -> None:
    """Only an accepted task is ever told."""
    async with Simulator(durations=0.0, balance_usd=Decimal(0)) as sim:
        answer = await client.submit(sim, callback_url=receiver.url())
        assert answer.status == 402
    assert not receiver.deliveries


async def test_callbacks_go_by_the_clock(client: Client, receiver: Receiver, clock: Clock) -> None:
    """A callback is due with its task, not a moment earlier."""
    async with Simulator(durations=10, clock=clock) as sim:
        await client.accepted(sim, callback_url=receiver.url())
        for clock.now in (0.0, 9.99, 10.0):
            assert not sim.ledger.callbacks
            sim.tick()
        assert await sent(sim, 1) == [("plain", 1, 10.0, 200)]


async def test_a_request_is_a_look_at_the_clock(
    client: Client, receiver: Receiver, clock: Clock
) -> None:
    """Who moves the clock and asks for anything need not call `tick`."""
    async with Simulator(durations=10, clock=clock) as sim:
        task_id = await client.accepted(sim, callback_url=receiver.url())
        clock.now = 12.0
        await client.look(sim, task_id)
        assert await sent(sim, 1) == [("plain", 1, 12.0, 200)]


async def test_a_running_clock_needs_no_tick(client: Client, receiver: Receiver) -> None:
    """A timer watches it, at the simulator's speed: in the order in which tasks end."""
    async with Simulator(durations=Manual(), speed=1e6) as sim:
        task_id = await client.accepted(sim, callback_url=receiver.url("first"))
        sim.callbacks = Callbacks(late=1, late_by=5000)
        sim.finish(task_id)
        ((kind, _, at, _),) = await sent(sim, 1)
        assert kind == "late"
        assert at >= sim.ledger.entries[0].due + 5000


async def test_the_double_of_an_early_one_needs_no_tick(client: Client, receiver: Receiver) -> None:
    """It is timed as all others are, though the first was not."""
    how = Callbacks(early=1, doubled=1, doubled_by=5000)
    async with Simulator(speed=1e6, callbacks=how) as sim:
        await client.accepted(sim, callback_url=receiver.url())
        (early, _, _, _), (double, _, at, _) = await sent(sim, 2)
    assert (early, double) == ("early", "double")
    assert at >= sim.ledger.entries[0].due + 5000


async def test_the_timer_asks_a_clock_that_stands_again(
    client: Client, receiver: Receiver, clock: Clock
) -> None:
    """A clock that is a hair before the time is asked until it is there."""
    async with Simulator(durations=10, clock=clock) as sim:
        await client.accepted(sim, callback_url=receiver.url())
        clock.now = 10 - 1e-9
        sim._courier._ring()
        sim._courier._ring()
        assert not sim.ledger.callbacks
        clock.now = 10.0
        # Nobody ticks: the timer that was set a hair before does.
        assert await sent(sim, 1) == [("plain", 1, 10.0, 200)]


async def test_a_task_that_is_finished_by_hand_is_told_once(
    client: Client, receiver: Receiver, clock: Clock
) -> None:
    """The time at which it would have ended passes without a word."""
    async with Simulator(durations=10, clock=clock) as sim:
        task_id = await client.accepted(sim, callback_url=receiver.url())
        clock.now = 4.0
        sim.finish(task_id)
        await sent(sim, 1)
        clock.now = 10.0
        sim.tick()
        await client.accepted(sim, callback_url=receiver.url("second"))
        clock.now = 20.0
        sim.tick()
        assert await sent(sim, 2) == [("plain", 1, 4.0, 200), ("plain", 1, 20.0, 200)]
    assert [each.path for each in receiver.deliveries] == ["/hooks/t0ken", "/hooks/second"]


async def test_a_late_callback_is_late(client: Client, receiver: Receiver, clock: Clock) -> None:
    """It comes so many seconds after the end of its task, and its double after it."""
    how = Callbacks(late=1, late_by=60, doubled=1, doubled_by=5)
    async with Simulator(durations=10, clock=clock, callbacks=how) as sim:
        await client.accepted(sim, callback_url=receiver.url())
        for clock.now in (10.0, 69.0, 70.0):
            assert not sim.ledger.callbacks
            sim.tick()
        await sent(sim, 1)
        clock.now = 75.0
        sim.tick()
        assert await sent(sim, 2) == [("late", 1, 70.0, 200), ("double", 1, 75.0, 200)]
    first, second = receiver.deliveries
    assert first.body == second.body


async def test_an_early_callback_comes_before_the_reply(
    client: Client, receiver: Receiver, clock: Clock
) -> None:
    """The task is finished, its callback sent and answered, and only then the POST is."""
    receiver.open.clear()
    async with Simulator(durations=10, clock=clock, callbacks=Callbacks(early=1)) as sim:
        reply = asyncio.ensure_future(post(client.http, sim, receiver.url()))
        await receiver.wait_for(1)
        task_id: str = receiver.deliveries[0].json["task_id"]
        assert await client.state(sim, task_id) == "completed"
        assert not reply.done()
        receiver.open.set()
        assert task_id.encode() in await reply
        assert await sent(sim, 1) == [("early", 1, 0.0, 200)]


async def test_an_early_callback_that_nobody_takes_holds_nobody(
    client: Client, receiver: Receiver, clock: Clock
) -> None:
    """After the first try the POST is answered; the callback is tried again later."""
    receiver.statuses = [500]
    async with Simulator(durations=10, clock=clock, callbacks=Callbacks(early=1)) as sim:
        await client.accepted(sim, callback_url=receiver.url())
        clock.now = 1.0
        sim.tick()
        assert await sent(sim, 2) == [("early", 1, 0.0, 500), ("early", 2, 1.0, 200)]


async def test_an_error_of_the_receiver_is_tried_again(
    client: Client, receiver: Receiver, clock: Clock
) -> None:
    """5xx is tried again after each pause, and after the last it is given up."""
    receiver.statuses = [500, 503, 502, 599]
    async with Simulator(durations=10, clock=clock) as sim:
        await client.accepted(sim, callback_url=receiver.url())
        for tries, clock.now in enumerate((10.0, 11.0, 16.0, 46.0), start=1):
            sim.tick()
            await sent(sim, tries)
        assert is_quiet(sim)
        assert [each.at for each in sim.ledger.callbacks] == [10.0, 11.0, 16.0, 46.0]
    assert [each.status for each in sim.ledger.callbacks] == [500, 503, 502, 599]
    assert [each.attempt for each in sim.ledger.callbacks] == [1, 2, 3, 4]
    assert sim.ledger.callbacks_by_kind == {"plain": 1, "again": 3}
    assert len(receiver.deliveries) == 4


@pytest.mark.parametrize("status", [204, 307, 404, 413, 429])
async def test_any_other_answer_is_final(
    client: Client, receiver: Receiver, clock: Clock, status: int
) -> None:
    """What is no 5xx is not tried again, and a redirect is not followed."""
    receiver.statuses = [status]
    async with Simulator(durations=0.0, clock=clock) as sim:
        await client.accepted(sim, callback_url=receiver.url())
        assert await sent(sim, 1) == [("plain", 1, 0.0, status)]
        assert is_quiet(sim)
    assert len(receiver.deliveries) == 1


async def test_a_receiver_that_says_nothing_is_given_up(client: Client, receiver: Receiver) -> None:
    """After the timeout, in real seconds, the try counts as unanswered."""
    receiver.open.clear()
    how = Callbacks(timeout=0.01, again_after=())
    async with Simulator(durations=0.0, callbacks=how) as sim:
        await client.accepted(sim, callback_url=receiver.url())
        ((kind, attempt, _, status),) = await sent(sim, 1)
    assert (kind, attempt, status) == ("plain", 1, None)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/h/t", "http://127.0.0.1:99999/h/t"])
async def test_a_dead_receiver_costs_nothing(
    client: Client, clock: Clock, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    """Nobody hears of it but the ledger: no log, no warning, and all else goes on."""
    with socket.socket() as unused:
        # Bound and not listening: what connects is refused.
        unused.bind(("127.0.0.1", 0))
        url = url.format(port=unused.getsockname()[1])
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            async with Simulator(durations=0.0, clock=clock) as sim:
                task_id = await client.accepted(sim, callback_url=url)
                for tries, clock.now in enumerate((0.0, 1.0, 6.0, 36.0), start=1):
                    sim.tick()
                    await sent(sim, tries)
                assert await client.state(sim, task_id) == "completed"
    assert [each.status for each in sim.ledger.callbacks] == [None] * 4
    assert not caplog.records
    assert not warned


@pytest.mark.parametrize(
    "url", ["https://example.com/hook", "ftp://localhost/hook", "http://[oops/hook", "http:hook"]
)
async def test_no_other_machine_is_called(client: Client, url: str) -> None:
    """A URL that is not on this machine, or not HTTP, is accepted, counted and left alone."""
    async with Simulator(durations=0.0, callbacks=Callbacks(early=1, forged=1)) as sim:
        await client.accepted(sim, callback_url=url)
        assert is_quiet(sim)
    assert sim.ledger.callbacks_by_kind == {"elsewhere": 1}


async def test_lost_callbacks_are_counted(client: Client, receiver: Receiver) -> None:
    """A lost one is counted when it is due and never sent."""
    how = Callbacks(lost=1, doubled=1, early=1, late=1)
    async with Simulator(durations=0.0, callbacks=how) as sim:
        await client.accepted(sim, callback_url=receiver.url())
        assert sim.ledger.callbacks_by_kind == {"lost": 1}
        sim.callbacks = Callbacks()
        await client.accepted(sim, callback_url=receiver.url())
        await sent(sim, 1)
    assert sim.callbacks == Callbacks()
    assert sim.ledger.callbacks_by_kind == {"lost": 1, "plain": 1}


COUNTS = {
    0: {
        "plain": 169,
        "late": 6,
        "early": 6,
        "double": 11,
        "lost": 19,
        "wrong-token": 2,
        "wrong-task": 4,
        "broken": 4,
        "giant": 7,
        "wrong-type": 1,
    },
    1: {
        "plain": 171,
        "late": 3,
        "early": 6,
        "double": 16,
        "lost": 20,
        "wrong-token": 4,
        "wrong-task": 2,
        "broken": 7,
        "giant": 2,
        "wrong-type": 3,
    },
}


@pytest.mark.parametrize("seed", COUNTS)
async def test_every_option_is_counted_exactly(
    client: Client, receiver: Receiver, seed: int
) -> None:
    """Under a seed 200 tasks have the same fates every time, and the receiver sees just those."""
    how = Callbacks(lost=0.1, doubled=0.1, late=0.05, early=0.05, forged=0.1, late_by=1)
    counts = COUNTS[seed]
    async with Simulator(durations=0.0, seed=seed, speed=1e4, callbacks=how) as sim:
        for number in range(200):
            await client.accepted(sim, callback_url=receiver.url(f"true-{number}"))
        await sent(sim, sum(counts.values()) - counts["lost"])
        assert is_quiet(sim)
    assert sim.ledger.callbacks_by_kind == counts
    true = sum(counts[kind] for kind in ("plain", "late", "early", "double"))
    assert len([each for each in receiver.deliveries if "/true-" in each.path]) == true
    assert len(receiver.deliveries) == len(sim.ledger.callbacks)


async def test_a_lost_reply_does_not_lose_the_callback(client: Client, receiver: Receiver) -> None:
    """A task that was accepted is told, whatever became of the reply to its POST."""
    script = Faults(submit=[faults.accept_then_drop()])
    async with Simulator(durations=0.0, faults=script) as sim:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.submit(sim, callback_url=receiver.url())
        await sent(sim, 1)
    assert receiver.deliveries[0].json["task_id"] == sim.ledger.entries[0].task_id


async def test_callbacks_are_signed_on_request(
    client: Client, receiver: Receiver, clock: Clock
) -> None:
    """With a secret every callback has a time and an HMAC; a forged one has another's."""
    how = Callbacks(signature_secret="s3cret", forged=1, forgeries=("wrong-token",))
    async with Simulator(
        durations=0.0, callbacks=how, clock=clock, wall_clock=lambda: 1750920400.7
    ) as sim:
        await client.accepted(sim, callback_url=receiver.url())
        await sent(sim, 2)
    for delivery in receiver.deliveries:
        text = b"1750920400." + delivery.body
        good = hmac.new(b"s3cret", text, sha256).hexdigest()
        assert delivery.headers["X-Webhook-Timestamp"] == "1750920400"
        is_true = delivery.path == "/hooks/t0ken"
        assert (delivery.headers["X-Webhook-Signature"] == good) is is_true
    assert "s3cret" not in repr(how)


async def test_forged_callbacks_are_hurled_at_the_base(
    client: Client, receiver: Receiver, clock: Clock
) -> None:
    """They come with the end of a task, to made-up tokens, and are not tried again."""
    receiver.statuses = [500] * 20
    how = Callbacks(forged=20, lost=1)
    async with Simulator(durations=0.0, callbacks=how, clock=clock) as sim:
        await client.accepted(sim, callback_url=receiver.url("f" * 40))
        await sent(sim, 20)
        assert is_quiet(sim)
    counts = sim.ledger.callbacks_by_kind
    assert counts.pop("lost") == 1
    assert counts.total() == 20
    paths = {each.path for each in receiver.deliveries}
    assert len(paths) == 20
    assert all(path.startswith("/hooks/") and len(path) == 47 for path in paths)
    assert receiver.url("f" * 40) not in paths


async def test_a_hundred_callbacks_at_once_are_the_most(
    client: Client, receiver: Receiver, clock: Clock
) -> None:
    """The others wait their turn, and the provider answers all the while."""
    receiver.open.clear()
    async with Simulator(durations=10, clock=clock) as sim:
        for number in range(130):
            await client.accepted(sim, callback_url=receiver.url(number))
        clock.now = 10.0
        sim.tick()
        await receiver.wait_for(100)
        assert await client.state(sim, sim.ledger.entries[-1].task_id) == "completed"
        assert (len(receiver.deliveries), len(sim._courier._in_air)) == (100, 100)
        receiver.open.set()
        await sent(sim, 130)
    assert receiver.peak == 100
    assert len({each.path for each in receiver.deliveries}) == 130


async def test_a_stop_breaks_off_and_a_start_carries_on(
    client: Client, receiver: Receiver, clock: Clock
) -> None:
    """What is in the air, in the queue and not due yet is sent once the provider is back."""
    receiver.open.clear()
    how = Callbacks(late=1, late_by=30)
    async with Simulator(durations=0.0, clock=clock) as sim:
        for number in range(120):
            await client.accepted(sim, callback_url=receiver.url(number))
        sim.callbacks = how
        await client.accepted(sim, callback_url=receiver.url("late"))
        await receiver.wait_for(100)
    assert not sim.ledger.callbacks
    assert not sim._courier._in_air
    await sim.stop()
    receiver.open.set()
    receiver.deliveries.clear()
    clock.now = 30.0
    async with sim:
        await sent(sim, 121)
    assert len({each.path for each in receiver.deliveries}) == 121
    assert {each.at for each in sim.ledger.callbacks} == {30.0}


async def test_a_task_that_ends_during_an_outage_is_told_after_it(
    client: Client, receiver: Receiver
) -> None:
    """While the simulator is stopped nothing is sent, and nothing is forgotten."""
    async with Simulator(durations=Manual()) as sim:
        task_id = await client.accepted(sim, callback_url=receiver.url())
    sim.finish(task_id)
    sim.tick()
    assert not receiver.deliveries
    async with sim:
        await sent(sim, 1)
    assert receiver.deliveries[0].json["task_id"] == task_id


async def test_a_stop_lets_a_held_reply_go(client: Client, receiver: Receiver) -> None:
    """A reply that waits for an early callback does not keep the simulator from stopping."""
    receiver.open.clear()
    async with Simulator(callbacks=Callbacks(early=1)) as sim:
        posting = asyncio.ensure_future(post(client.http, sim, receiver.url()))
        await receiver.wait_for(1)
    assert sim.ledger.entries[0].task_id.encode() in await posting


async def test_a_recalled_task_is_told_to_nobody(client: Client, receiver: Receiver) -> None:
    """An id outlives its simulator, the callback URL does not."""
    async with Simulator(durations=Manual(), lasting_ids=True) as first:
        task_id = await client.accepted(first, callback_url=receiver.url())
    async with Simulator(lasting_ids=True) as second:
        assert await client.state(second, task_id) == "processing"
        second.finish(task_id)
        assert await client.state(second, task_id) == "completed"
        assert is_quiet(second)
    assert not second.ledger.callbacks_by_kind
    assert not receiver.deliveries


async def test_tokens_stay_out_of_reprs(client: Client, receiver: Receiver) -> None:
    """What is printed of a callback names where it went, not the token that opens it."""
    url = receiver.url("t0ken?key=t0ken2").replace("http://", "http://me:t0ken3@")
    async with Simulator(durations=0.0) as sim:
        await client.accepted(sim, callback_url=url)
        await sent(sim, 1)
    (note,) = sim.ledger.callbacks
    assert note.url == url
    assert "t0ken" not in repr(note)
    assert f"url='{receiver.base}/hooks/…'" in repr(note)
