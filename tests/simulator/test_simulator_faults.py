"""Every fault as a plain client sees it, and who is hit by it."""

import asyncio
import contextlib
import json
from decimal import Decimal
from itertools import cycle

import aiohttp
import pytest

from fluxflex.simulator import Fault, Faults, Manual, SeenRequest, Simulator, faults
from fluxflex.simulator.faults import Arrival, pick, share, when
from tests.simulator.simulator_client import SUBMIT, Client, plain_client

client = plain_client

PICTURE = bytes(range(100))


def arrival(number: int = 1, body: bytes = b"{}") -> Arrival:
    """Make a request for a script to look at."""
    return Arrival(number, SeenRequest("POST", SUBMIT, "h", None), body)


def submitting(*script: Fault | None) -> Simulator:
    """Make a simulator whose next POSTs meet these faults."""
    return Simulator(durations=0.0, faults=Faults(submit=script), pictures=lambda _: PICTURE)


async def test_reset_bills_nothing(client: Client) -> None:
    """The connection is reset, and the provider never acted."""
    async with submitting(faults.reset()) as sim:
        with pytest.raises(aiohttp.ClientOSError, match="reset"):
            await client.submit(sim)
        assert (sim.ledger.posts_received, len(sim.ledger)) == (1, 0)
        await client.accepted(sim)


@pytest.mark.parametrize(
    ("reset", "error"), [(False, aiohttp.ServerDisconnectedError), (True, aiohttp.ClientOSError)]
)
async def test_accept_then_drop_bills(
    client: Client, *, reset: bool, error: type[Exception]
) -> None:
    """The task is accepted and billed, and the client hears nothing."""
    async with submitting(faults.accept_then_drop(reset=reset)) as sim:
        with pytest.raises(error):
            await client.submit(sim)
    assert sim.ledger.billed_usd == Decimal("0.04")


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [
        (None, None),
        (2, "2"),
        (0.25, "0.25"),
        ("Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:59 GMT"),
        ("soon", "soon"),
    ],
)
async def test_rate_limited(
    client: Client, retry_after: float | str | None, header: str | None
) -> None:
    """429 with any Retry-After, and nothing is accepted."""
    async with submitting(faults.rate_limited(retry_after)) as sim:
        answer = await client.submit(sim)
    assert answer.status == answer.json["code"] == 429
    assert answer.headers.get("Retry-After") == header
    assert len(sim.ledger) == 0


@pytest.mark.parametrize("accepts", [False, True])
async def test_error_is_an_envelope(client: Client, *, accepts: bool) -> None:
    """A JSON error may hide that the task was accepted."""
    fault = faults.error(500, accepts=accepts, retry_after=3)
    async with submitting(fault) as sim:
        answer = await client.submit(sim)
    assert answer.status == 500
    assert answer.json == {
        "code": 500,
        "data": {"code": "internal_error", "message": "Internal server error"},
    }
    assert answer.headers["Retry-After"] == "3"
    assert len(sim.ledger) == int(accepts)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_gateway_is_a_page(client: Client, status: int) -> None:
    """A gateway answers in HTML, with Retry-After or without."""
    script = [faults.gateway(status), faults.gateway(status, retry_after=1, accepts=True)]
    async with submitting(*script) as sim:
        first, second = await client.submit(sim), await client.submit(sim)
    assert {first.status, second.status} == {status}
    assert first.headers["Content-Type"] == "text/html"
    assert f"<title>{status} " in first.body.decode()
    assert "Retry-After" not in first.headers
    assert second.headers["Retry-After"] == "1"
    assert len(sim.ledger) == 1


async def read_until_it_breaks(client: Client, method: str, url: str, body: object) -> bytes:
    """Return what arrived of a reply whose announced length does not come."""
    arrived = b""
    headers = {"Authorization": "Bearer k"}
    async with client.http.request(method, url, json=body, headers=headers) as reply:
        assert reply.status == 200
        announced = int(reply.headers["Content-Length"])
        with contextlib.suppress(aiohttp.ClientPayloadError):
            async for chunk in reply.content.iter_any():
                arrived += chunk
    assert len(arrived) < announced
    return arrived


@pytest.mark.parametrize("keep", [0, 1, 60])
@pytest.mark.parametrize("path", ["submit", "status", "files"])
async def test_truncated_sends_a_part_of_what_it_announced(
    client: Client, path: str, keep: int
) -> None:
    """So many bytes arrive under the full Content-Length; a submit is accepted all the same."""
    fault = faults.truncated(keep)
    async with Simulator(durations=0.0, pictures=lambda _: PICTURE) as sim:
        task_id = await client.accepted(sim)
        sim.faults = Faults(submit=[fault], status=[fault], files=[fault])
        method, where = {
            "submit": ("POST", SUBMIT),
            "status": ("GET", f"/flux.2-flex/status/{task_id}"),
            "files": ("GET", f"/files/{task_id}.png"),
        }[path]
        json_body = {"prompt": "p"} if path == "submit" else None
        arrived = await read_until_it_breaks(client, method, sim.url + where, json_body)
        assert len(arrived) == keep
        assert len(sim.ledger) == (2 if path == "submit" else 1)


async def test_truncated_by_a_reset(client: Client) -> None:
    """The end may also be a reset."""
    async with submitting(faults.truncated(5, reset=True)) as sim:
        with pytest.raises(aiohttp.ClientError):
            await client.submit(sim)
    assert len(sim.ledger) == 1


@pytest.mark.parametrize("accepts", [False, True])
async def test_unreadable(client: Client, *, accepts: bool) -> None:
    """200 and HTML; what became of the task cannot be known."""
    async with submitting(faults.unreadable(accepts=accepts)) as sim:
        answer = await client.submit(sim)
    assert (answer.status, answer.body) == (200, b"<html>Welcome</html>")
    assert len(sim.ledger) == int(accepts)


async def test_no_task_id_bills(client: Client) -> None:
    """The reply is fine but for the id, and the task was accepted."""
    async with submitting(faults.no_task_id()) as sim:
        answer = await client.submit(sim)
    assert answer.json == {"code": 200, "data": {"status": "processing"}}
    assert len(sim.ledger) == 1


async def test_slow_before_and_after(client: Client) -> None:
    """A slow reply still comes; delays are simulated seconds."""
    script = [faults.slow(before=5), faults.slow(after=5)]
    async with Simulator(durations=0.0, speed=1000, faults=Faults(submit=script)) as sim:
        assert (await client.submit(sim)).status == 200
        assert (await client.submit(sim)).status == 200
        assert len(sim.ledger) == 2


@pytest.mark.parametrize(
    ("fault", "accepted"),
    [
        (faults.slow(before=1e6), 0),
        (faults.slow(after=1e6), 1),
        (faults.hang(), 0),
        (faults.hang(accepts=True), 1),
    ],
)
async def test_who_gives_up_does_not_know(client: Client, fault: Fault, accepted: int) -> None:
    """Whether a task was accepted before the silence depends on where the delay was."""
    async with submitting(fault) as sim:
        asking = asyncio.create_task(client.submit(sim))
        await sim.wait_for(lambda ledger: ledger.posts_received == 1 and len(ledger) >= accepted)
        asking.cancel()
        await asyncio.wait([asking])
    assert len(sim.ledger) == accepted


async def test_a_slow_submit_is_accepted_after_its_client_left(client: Client) -> None:
    """A client that gives up does not stop the provider."""
    script = Faults(submit=[faults.slow(before=5)])
    async with Simulator(durations=0.0, speed=100, faults=script) as sim:
        asking = asyncio.create_task(client.submit(sim))
        await sim.wait_for_posts(1)
        asking.cancel()
        await asyncio.wait([asking])
        await sim.wait_for(lambda ledger: len(ledger) == 1)
    assert sim.ledger.billed_usd == Decimal("0.04")


@pytest.mark.parametrize("status", [307, 302])
async def test_redirect(client: Client, status: int) -> None:
    """The client is sent elsewhere and nothing is accepted."""
    async with submitting(faults.redirect("https://elsewhere.example/x", status=status)) as sim:
        answer = await client.submit(sim)
    assert (answer.status, answer.headers["Location"]) == (status, "https://elsewhere.example/x")
    assert len(sim.ledger) == 0


@pytest.mark.parametrize("status", [403, 404])
async def test_expired(client: Client, status: int) -> None:
    """A file's URL may have lived too long."""
    async with submitting() as sim:
        task_id = await client.accepted(sim)
        sim.faults = Faults(files=[faults.expired(status)])
        url = f"{sim.url}/files/{task_id}.png"
        first, second = await client.ask("GET", url), await client.ask("GET", url)
    assert (first.status, first.headers["Content-Type"]) == (status, "text/html")
    assert second.status == 200


async def test_whole_ignores_a_range(client: Client) -> None:
    """A range is asked for and everything comes."""
    async with submitting() as sim:
        task_id = await client.accepted(sim)
        sim.faults = Faults(files=[faults.whole()])
        url, headers = f"{sim.url}/files/{task_id}.png", {"Range": "bytes=1-2"}
        first = await client.ask("GET", url, headers=headers)
        second = await client.ask("GET", url, headers=headers)
    assert (first.status, first.body) == (200, PICTURE)
    assert (second.status, second.body) == (206, PICTURE[1:3])


async def test_custom(client: Client) -> None:
    """Anything at all can be said."""
    fault = faults.custom(418, body=b"short", headers={"X-Tea": "yes"}, content_type="text/plain")
    async with Simulator(faults=Faults(account=[fault, faults.custom(204)])) as sim:
        first = await client.ask("GET", f"{sim.url}/account")
        second = await client.ask("GET", f"{sim.url}/account")
    assert (first.status, first.body, first.headers["X-Tea"]) == (418, b"short", "yes")
    assert second.status == 204


async def test_a_sequence_is_used_up_in_order_by_its_own_kind(client: Client) -> None:
    """None behaves, other kinds use up nothing, and after the end all is well."""
    script = Faults(submit=[None, faults.error(500)], status=[faults.gateway()])
    async with Simulator(durations=Manual(), faults=script) as sim:
        posts = [(await client.submit(sim)).status for _ in range(3)]
        task_id = sim.ledger.entries[0].task_id
        looks = [(await client.look(sim, task_id)).status for _ in range(2)]
    assert posts == [200, 500, 200]
    assert looks == [502, 200]


async def test_scripts_begin_again_when_they_are_set(client: Client) -> None:
    """Setting the faults in the middle of a run starts them at their first entry."""
    async with submitting(faults.error(500)) as sim:
        first = (await client.submit(sim)).status
        sim.faults = Faults(submit=[faults.error(503)])
        assert sim.faults.status == ()
        second, third = (await client.submit(sim)).status, (await client.submit(sim)).status
    assert [first, second, third] == [500, 503, 200]


async def test_a_predicate_sees_what_was_asked(client: Client) -> None:
    """A script may look at the payload and at the headers."""
    script = Faults(
        submit=when(lambda asked: asked.payload["prompt"] == "b", faults.error(500)),
        files=when(lambda asked: "Range" in asked.seen.headers, faults.whole()),
    )
    async with Simulator(durations=0.0, faults=script, pictures=lambda _: PICTURE) as sim:
        statuses = [(await client.submit(sim, prompt)).status for prompt in "abab"]
        url = f"{sim.url}/files/{sim.ledger.entries[0].task_id}.png"
        part = await client.ask("GET", url, headers={"Range": "bytes=0-1"})
    assert statuses == [200, 500, 200, 500]
    assert part.status == 200


def test_any_callable_is_a_script() -> None:
    """Faults may come in any order a program can think of."""
    turns = cycle([None, faults.reset()])
    script = Faults(status=lambda _: next(turns))
    names = [fault and fault.name for n in range(4) for fault in [pick(script.status, arrival(n))]]
    assert names == [None, "reset", None, "reset"]


def test_a_share_is_hit_the_same_way_every_time() -> None:
    """Half of all requests are hit, which ones follows from the seed."""

    def hits(seed: int) -> list[int]:
        script = share(0.5, faults.gateway(), seed=seed)
        return [n for n in range(1, 1001) if script(arrival(n))]

    assert hits(0) == hits(0) != hits(1)
    assert 450 < len(hits(0)) < 550
    assert not any(share(0.0, faults.reset())(arrival(n)) for n in range(100))
    assert all(share(1.0, faults.reset())(arrival(n)) for n in range(100))


@pytest.mark.parametrize(
    ("body", "payload"),
    [(b'{"a": 1}', {"a": 1}), (b"[1]", {}), (b"", {}), (b"{", {})],
)
def test_a_script_may_look_at_any_payload(body: bytes, payload: dict[str, object]) -> None:
    """What is no JSON object is an empty payload."""
    assert arrival(body=body).payload == payload


async def test_a_refused_post_is_not_accepted_by_a_fault(client: Client) -> None:
    """A fault that lets the provider act does not make it accept what is wrong."""
    async with submitting(faults.no_task_id()) as sim:
        answer = await client.submit(sim, steps=99)
    assert json.loads(answer.body)["data"] == {"status": "processing"}
    assert len(sim.ledger) == 0
