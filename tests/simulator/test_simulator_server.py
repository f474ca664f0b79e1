"""The simulator on its socket: routes, keys, money, limits, starting and stopping."""

import asyncio
import io
import json
import socket
from collections.abc import Callable
from decimal import Decimal

import aiohttp
import pytest

from fluxflex.simulator import Durations, Ledger, Manual, Simulator, faults
from fluxflex.simulator.contract import Order
from fluxflex.simulator.faults import Faults
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

POLICY = "Generation failed. Please rephrase your prompt to comply with content policies."


async def test_a_task_runs_by_the_clock(client: Client, clock: Clock) -> None:
    """A task is pending, processing, then completed with an image URL on this server."""
    async with Simulator(durations=10, clock=clock) as sim:
        task_id = await client.accepted(sim)
        words = []
        for clock.now in (0.0, 5.0, 9.99):
            words.append(await client.state(sim, task_id))
        clock.now = 10.0
        answer = await client.look(sim, task_id)
        assert words == ["pending", "processing", "processing"]
        assert answer.json["data"]["output"] == {"image_url": f"{sim.url}/files/{task_id}.png"}


async def test_simulated_time_runs_faster(client: Client, clock: Clock) -> None:
    """At speed 60 a minute's task is finished after a second."""
    async with Simulator(durations=60, speed=60, clock=clock) as sim:
        task_id = await client.accepted(sim)
        clock.now = 0.99
        assert await client.state(sim, task_id) == "processing"
        clock.now = 1.0
        assert await client.state(sim, task_id) == "completed"


async def test_the_same_seed_gives_the_same_fates(client: Client, clock: Clock) -> None:
    """Durations and failures follow from seed and task number."""

    async def fates(seed: int) -> list[tuple[float, bool]]:
        async with Simulator(seed=seed, failure_rate=0.5, clock=clock) as sim:
            for _ in range(12):
                await client.accepted(sim)
        return [(entry.due, entry.failure is not None) for entry in sim.ledger.entries]

    first, again, other = await fates(1), await fates(1), await fates(2)
    assert first == again != other
    assert {failed for _, failed in first} == {True, False}


async def test_ids_are_new_even_for_the_same_seed(client: Client) -> None:
    """Two simulators never give the same task id: a journal may outlive one."""
    async with Simulator(durations=0.0) as one, Simulator(durations=0.0) as other:
        assert await client.accepted(one) != await client.accepted(other)


async def test_all_tasks_fail_at_a_failure_rate_of_one(client: Client) -> None:
    """A failed task says so with an error, and was billed."""
    async with Simulator(durations=0.0, failure_rate=1.0) as sim:
        answer = await client.look(sim, await client.accepted(sim))
    assert answer.json["data"]["status"] == "failed"
    assert answer.json["data"]["error"] == {
        "code": "generation_failed",
        "message": "Generation failed",
    }
    assert sim.ledger.billed_usd == Decimal("0.04")


@pytest.mark.parametrize(("prompt", "refused"), [("a Gun fight", True), ("a fox", False)])
async def test_forbidden_words_fail_with_a_content_policy_message(
    client: Client, *, prompt: str, refused: bool
) -> None:
    """The prompt is accepted, billed, and fails in words only."""
    async with Simulator(durations=0.0, forbidden_words=["gun"]) as sim:
        answer = await client.look(sim, await client.accepted(sim, prompt))
    assert (answer.json["data"].get("error", {}).get("message") == POLICY) is refused


async def test_a_task_is_finished_and_failed_by_hand(client: Client) -> None:
    """Manual tasks wait for the test's word, which is final."""
    async with Simulator(durations=Manual()) as sim:
        first, second = await client.accepted(sim, "a"), await client.accepted(sim, "b")
        assert await client.state(sim, first) == "processing"
        sim.finish(first)
        sim.fail(second, code="E1", message="out of paint")
        assert await client.state(sim, first) == "completed"
        error = (await client.look(sim, second)).json["data"]["error"]
        assert error == {"code": "E1", "message": "out of paint"}
        with pytest.raises(ValueError, match="finished already"):
            sim.finish(first)
        with pytest.raises(ValueError, match="no task 'x'"):
            sim.fail("x")


async def test_a_law_of_ones_own(client: Client, clock: Clock) -> None:
    """Anything with `seconds` is a law of durations."""

    class ByLength:
        def seconds(self, order: Order, _drawn: float, /) -> float:
            return float(len(order.prompt))

    async with Simulator(durations=ByLength(), clock=clock) as sim:
        await client.accepted(sim, "four")
    assert sim.ledger.entries[0].due == 4.0


async def test_unknown_tasks_and_paths_are_not_found(client: Client) -> None:
    """404 comes in the provider's JSON envelope."""
    async with Simulator() as sim:
        task = await client.look(sim, "dd55")
        path = await client.ask("PUT", f"{sim.url}/anything/else")
        method = await client.ask("GET", sim.url + SUBMIT)
        root = await client.ask("GET", sim.url)
    assert task.json == {"code": 404, "data": {"code": "not_found", "message": "Task not found"}}
    assert {answer.status for answer in (task, path, method, root)} == {404}
    assert path.json["data"]["code"] == method.json["data"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer  {KEY} ", 200),
        ("Bearer any other", 200),
        ("Bearer ", 401),
        ("Bearer", 401),
        (f"Basic {KEY}", 401),
        (KEY, 401),
        ("", 401),
    ],
)
async def test_any_key_that_is_not_empty_is_good_by_default(
    client: Client, header: str, status: int
) -> None:
    """Without a list of keys a bearer's token only has to be there."""
    async with Simulator() as sim:
        answer = await client.ask(
            "GET", f"{sim.url}/account", key=None, headers={"Authorization": header}
        )
    assert answer.status == status


async def test_only_listed_keys_are_good(client: Client) -> None:
    """With a list every API route wants one of its keys."""
    async with Simulator(api_keys=["one", "two"], durations=0.0) as sim:
        routes: list[tuple[str, str, object]] = [
            ("POST", SUBMIT, {"prompt": "p"}),
            ("GET", "/flux.2-flex/status/x", None),
            ("GET", "/account", None),
        ]
        for method, path, body in routes:
            good = await client.ask(method, sim.url + path, key="two", json=body)
            assert good.status in {200, 404}
            for key in ("three", None):
                bad = await client.ask(method, sim.url + path, key=key, json=body)
                assert (bad.status, bad.json["data"]["code"]) == (401, "authentication_failed")
    assert len(sim.ledger) == 1


async def test_the_account_tells_the_balance(client: Client) -> None:
    """Both paths answer; the balance falls by what is accepted and keeps its digits."""
    async with Simulator(balance_usd=Decimal("0.30"), durations=0.0) as sim:
        await client.accepted(sim, quality="2K")
        answers = [await client.ask("GET", sim.url + path) for path in ("/account", "/v1/account")]
    for answer in answers:
        assert answer.status == 200
        assert answer.json["success"] is True
        assert set(answer.json["data"]) == {
            "user_id",
            "balance_usd",
            "email",
            "created_at",
            "updated_at",
        }
        assert json.loads(answer.body, parse_float=Decimal)["data"]["balance_usd"] == Decimal(
            "0.24"
        )
    assert sim.balance_usd == Decimal("0.24")


async def test_the_account_is_the_users(client: Client) -> None:
    """The account's number is the one that was set: a journal is bound to it."""
    async with Simulator(user_id=777) as sim, Simulator() as other:
        numbers = [
            (await client.ask("GET", f"{each.url}/account")).json["data"]["user_id"]
            for each in (sim, other)
        ]
    assert numbers == [777, 12345]


async def test_money_runs_out_exactly(client: Client) -> None:
    """A task that costs what is left is accepted, the next one is not, and is not billed."""
    async with Simulator(balance_usd=Decimal("0.10"), durations=0.0) as sim:
        statuses = [
            (await client.submit(sim, quality=quality)).status for quality in ("2K", "2K", "1K")
        ]
        last = await client.submit(sim)
    assert statuses == [200, 402, 200]
    assert last.json["data"]["code"] == "insufficient_balance"
    assert sim.ledger.billed_usd == Decimal("0.10")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"prompt=p", b'{"prompt": "p", "steps": NaN}', b'["p"]', b'{"prompt": true}'],
)
async def test_a_payload_that_breaks_the_contract_is_422(client: Client, body: bytes) -> None:
    """It is refused in the provider's envelope and leaves nothing in the ledger."""
    async with Simulator() as sim:
        headers = {"Content-Type": "application/json"}
        answer = await client.ask("POST", sim.url + SUBMIT, data=body, headers=headers)
    assert answer.status == answer.json["code"] == 422
    assert answer.json["data"]["code"] == "validation_error"
    assert len(sim.ledger) == 0


async def test_a_form_is_no_json(client: Client) -> None:
    """A POST without a JSON content type is refused."""
    async with Simulator() as sim:
        answer = await client.ask("POST", sim.url + SUBMIT, data={"prompt": "p"})
    assert answer.status == 422
    assert "application/json" in answer.json["data"]["message"]


async def test_a_body_beyond_all_measure_is_refused(client: Client) -> None:
    """Five megabytes are answered with 413, not read into memory."""
    async with Simulator() as sim:
        data = io.BytesIO(b"p" * 5_000_000)
        headers = {"Content-Type": "application/json"}
        answer = await client.ask("POST", sim.url + SUBMIT, data=data, headers=headers)
    assert answer.status == 413
    assert len(sim.ledger) == 0


async def test_a_body_in_broken_coding_is_a_bad_request(client: Client) -> None:
    """A body that claims to be compressed and is not is answered with 400."""
    async with Simulator() as sim:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = await client.ask("POST", sim.url + SUBMIT, data=b"plain", headers=headers)
    assert answer.status == 400
    assert len(sim.ledger) == 0


async def test_a_post_that_breaks_off_is_counted_and_not_accepted(client: Client) -> None:
    """A client that goes away in the middle of its body has bought nothing."""
    async with Simulator() as sim:
        host, port = sim.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {SUBMIT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        writer.write(head.encode() + b'{"prompt"')
        await sim.wait_for_posts(1)
        writer.close()
        await writer.wait_closed()
        await client.accepted(sim, "another")
    assert sim.ledger.posts_received == 2
    assert len(sim.ledger) == 1


async def test_tasks_in_flight_can_be_limited(client: Client, clock: Clock) -> None:
    """A POST beyond `max_in_flight` is answered 429 until a task is finished."""
    async with Simulator(durations=10, max_in_flight=2, clock=clock) as sim:
        statuses = [(await client.submit(sim)).status for _ in range(3)]
        clock.now = 10.0
        statuses.append((await client.submit(sim)).status)
    assert statuses == [200, 200, 429, 200]
    assert sim.ledger.max_in_flight == 2


async def test_limits_can_be_raised_and_lowered(client: Client, clock: Clock) -> None:
    """A new limit holds for the POSTs to come; what runs goes on."""
    async with Simulator(durations=10, max_in_flight=2, clock=clock) as sim:
        statuses = [(await client.submit(sim)).status for _ in range(3)]
        sim.max_in_flight = 3
        statuses += [(await client.submit(sim)).status for _ in range(2)]
        sim.max_in_flight = None
        statuses.append((await client.submit(sim)).status)
        sim.submits_per_minute = 4
        statuses.append((await client.submit(sim)).status)
        assert (sim.max_in_flight, sim.submits_per_minute) == (None, 4)
    assert statuses == [200, 200, 429, 200, 429, 200, 429]


async def test_submits_a_minute_can_be_limited(client: Client, clock: Clock) -> None:
    """No more than so many tasks are accepted in any sixty simulated seconds."""
    async with Simulator(
        durations=0.0, submits_per_minute=2, limit_retry_after=1.5, clock=clock, speed=2
    ) as sim:
        statuses = []
        for clock.now in (0.0, 10.0, 29.9, 30.0, 39.9, 40.0):
            answer = await client.submit(sim)
            statuses.append(answer.status)
            if answer.status == 429:
                assert answer.headers["Retry-After"] == "1.5"
                assert answer.json["data"]["code"] == "rate_limit_exceeded"
    assert statuses == [200, 200, 429, 200, 429, 200]


async def test_a_limit_need_not_say_when_to_come_back(client: Client) -> None:
    """Without `limit_retry_after` the 429 has no Retry-After."""
    async with Simulator(max_in_flight=0) as sim:
        answer = await client.submit(sim)
    assert answer.status == 429
    assert "Retry-After" not in answer.headers


async def test_posts_at_the_same_time_are_counted(client: Client) -> None:
    """The peak is of POSTs being answered at once, accepted or not."""
    async with Simulator(faults=Faults(submit=[faults.hang()] * 3)) as sim:
        asked = [asyncio.create_task(client.submit(sim)) for _ in range(3)]
        await sim.wait_for_posts(3)
    await asyncio.wait(asked)
    assert all(ask.exception() for ask in asked)
    assert sim.ledger.peak_posts == 3


async def test_waiting_for_a_condition(client: Client) -> None:
    """A condition that holds already does not wait; another wakes when the ledger changes."""
    async with Simulator(durations=0.0) as sim:
        await sim.wait_for(lambda ledger: len(ledger) == 0)
        both = asyncio.gather(
            sim.wait_for(lambda ledger: ledger.billed_usd >= Decimal("0.08")),
            sim.wait_for_posts(2),
        )
        await client.accepted(sim)
        assert not both.done()
        await client.accepted(sim)
        await both


async def test_an_error_of_a_condition_is_its_askers(client: Client) -> None:
    """A condition that raises does not disturb the server."""

    def broken(ledger: Ledger) -> bool:
        return bool(1 // len(ledger))

    async with Simulator(durations=0.0) as sim:
        with pytest.raises(ZeroDivisionError):
            await sim.wait_for(broken)
        await client.accepted(sim)


async def test_it_stops_while_requests_hang(client: Client) -> None:
    """Stopping answers nobody who hangs and waits for nobody."""
    script = Faults(submit=[faults.hang(), faults.slow(before=1e6), faults.slow(after=1e6)])
    sim = Simulator(faults=script, durations=0.0)
    await sim.start()
    asked = [asyncio.create_task(client.submit(sim)) for _ in range(3)]
    await sim.wait_for(lambda ledger: ledger.posts_received == 3 and len(ledger) == 1)
    await sim.stop()
    gone = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(error, aiohttp.ClientConnectionError) for error in gone)
    assert len(sim.ledger) == 1


async def test_it_starts_again_where_it_was(client: Client) -> None:
    """After an outage the address is the same and the tasks are known."""
    sim = Simulator(durations=0.0)
    async with sim:
        url, task_id = sim.url, await client.accepted(sim)
    assert repr(sim).startswith("<Simulator stopped <Ledger: 1 POSTs")
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.look(sim, task_id)
    async with sim:
        assert sim.url == url
        assert await client.state(sim, task_id) == "completed"
        assert repr(sim).startswith(f"<Simulator {url} <Ledger")


async def test_starting_twice_is_an_error_and_stopping_twice_is_none() -> None:
    """One simulator listens once."""
    async with Simulator() as sim:
        with pytest.raises(RuntimeError, match="started already"):
            await sim.start()
    await sim.stop()


async def test_an_address_in_use_is_an_error() -> None:
    """The error of the system comes out, and the simulator can be started once it is free."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        sim = Simulator(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            await sim.start()
    async with sim:
        assert sim.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://127.0.0.1:"),  # noqa: S104 - only named, never listened on
        ("::", "http://[::1]:"),
    ],
)
def test_the_origin_is_one_that_a_client_can_use(host: str, origin: str) -> None:
    """An address that means all interfaces is named by its loopback, and IPv6 gets brackets."""
    assert Simulator(host=host, port=8000).url == f"{origin}8000"


def test_there_is_no_origin_before_the_start() -> None:
    """A free port is only known once it is taken."""
    with pytest.raises(RuntimeError, match="start it first"):
        _ = Simulator().url


@pytest.mark.parametrize("make", [lambda: Simulator(speed=0), lambda: Simulator(speed=-1)])
def test_time_does_not_stand_still(make: Callable[[], Simulator]) -> None:
    """A speed of zero or less is refused."""
    with pytest.raises(ValueError, match="speed"):
        make()


async def test_the_defaults_are_those_of_the_provider(client: Client) -> None:
    """By default a task takes its time, no task fails and 100 USD are there."""
    async with Simulator() as sim:
        task_id = await client.accepted(sim)
        assert await client.state(sim, task_id) in {"pending", "processing"}
        assert sim.balance_usd == Decimal("99.96")
        entry = sim.ledger.entries[0]
        assert entry.due - entry.accepted_at > Durations().seconds(entry.order, 0.0001)
