"""The unified API: POST /v1/tasks and GET /v1/tasks/{id}, dry runs and all."""

import json
import re
from decimal import Decimal
from typing import Any

import pytest

from fluxflex.simulator import Entry, Manual, Shapes, Simulator, faults
from fluxflex.simulator.contract import FLEX, V1, Order, RefusedError
from fluxflex.simulator.faults import Faults
from fluxflex.simulator.replies import CONTENT_POLICY
from tests.simulator.simulator_client import (
    Answer,
    Client,
    Clock,
    plain_client,
    standing_clock,
)

client = plain_client
clock = standing_clock

TASKS = "/v1/tasks"
MODEL = "black-forest-labs/flux.2-flex"
URL = "https://example.com/a.png"


def body(prompt: object = "p", /, **fields: object) -> dict[str, Any]:
    """Make a body whose input has these fields."""
    return {"model": MODEL, "input": {"prompt": prompt, **fields}}


async def create(client: Client, sim: Simulator, payload: object) -> Answer:
    """Submit a task to the unified API."""
    return await client.ask("POST", sim.url + TASKS, json=payload)


async def created(client: Client, sim: Simulator, payload: object) -> str:
    """Submit a task that is accepted and return its id."""
    answer = await create(client, sim, payload)
    assert answer.status == 200, answer
    task_id: str = answer.json["data"]["task_id"]
    return task_id


async def look(client: Client, sim: Simulator, task_id: str) -> Answer:
    """Ask the unified API for a task."""
    return await client.ask("GET", f"{sim.url}{TASKS}/{task_id}")


GOOD: list[tuple[dict[str, Any], Order]] = [
    (body(), Order("p")),
    (body(image_urls=[URL] * 10), Order("p", image_urls=[URL] * 10)),
    (body(resolution="1k"), Order("p", quality="1K")),
    (body(resolution="2k"), Order("p", quality="2K")),
    (body(steps=50), Order("p", steps=50)),
    (body(guidance=1.5), Order("p", cfg=1.5)),
    ({**body(), "callback_url": URL}, Order("p", callback_url=URL)),
    ({**body(), "dry_run": False}, Order("p")),
    ({**body(), "dry_run": True}, Order("p")),
    *(
        (body(aspect_ratio=ratio), Order("p", aspect_ratio=ratio))
        for ratio in ("auto", "21:9", "16:9", "4:3", "1:1", "3:4", "9:16", "9:21")
    ),
]

BAD: list[tuple[object, str]] = [
    ([], "The request body must be a JSON object"),
    ({}, "Missing required parameter: model"),
    ({"model": MODEL}, "Missing required parameter: input"),
    ({"input": {"prompt": "p"}}, "Missing required parameter: model"),
    ({"prompt": "p"}, "Missing required parameter: model"),
    ({**body(), "model": "flux.2-flex"}, "model must be one of black-forest-labs/flux.2-flex"),
    ({**body(), "model": None}, "model must be one of"),
    ({**body(), "prompt": "p"}, "prompt: Extra inputs are not permitted"),
    ({**body(), "steps": 3}, "steps: Extra inputs are not permitted"),
    ({**body(), "dry_run": 1}, "dry_run must be a boolean"),
    ({**body(), "dry_run": None}, "dry_run must be a boolean"),
    ({**body(), "callback_url": "example.com"}, "callback_url must be a URL"),
    ({"model": MODEL, "input": "p"}, "input must be a JSON object"),
    ({"model": MODEL, "input": None}, "input must be a JSON object"),
    ({"model": MODEL, "input": {}}, "Missing required parameter: prompt"),
    (body(""), "prompt must be a non-empty string"),
    (body(callback_url=URL), "callback_url: Extra inputs are not permitted"),
    (body(dry_run=True), "dry_run: Extra inputs are not permitted"),
    (body(quality="1K"), "quality: Extra inputs are not permitted"),
    (body(cfg=3), "cfg: Extra inputs are not permitted"),
    (body(seed=3), "seed: Extra inputs are not permitted"),
    (body(resolution="1K"), "resolution must be one of 1k, 2k"),
    (body(resolution="1mp"), "resolution must be one of 1k, 2k"),
    (body(aspect_ratio="3:2"), "aspect_ratio must be one of auto, 21:9"),
    (body(aspect_ratio=None), "aspect_ratio must be one of"),
    (body(image_urls=[URL] * 11), "image_urls must have at most 10 items"),
    (body(steps=51), "steps must be between 1 and 50"),
    (body(guidance=10.1), "guidance must be between 1.5 and 10"),
]


@pytest.mark.parametrize(("payload", "order"), GOOD, ids=repr)
def test_what_the_contract_allows_is_read(payload: dict[str, Any], order: Order) -> None:
    """The words of the unified API mean what those of the other generation mean."""
    assert V1.read(payload) == order
    assert V1.only_prices(payload) is payload.get("dry_run", False)


@pytest.mark.parametrize(("payload", "message"), BAD, ids=repr)
def test_what_the_contract_forbids_is_refused(payload: object, message: str) -> None:
    """Missing, unknown, ill-typed and misplaced fields are refused, and the field is named."""
    with pytest.raises(RefusedError, match=re.escape(message)):
        V1.read(payload)


def test_the_other_generation_has_no_dry_run() -> None:
    """A flat body with `dry_run` is refused: nothing is priced that was to be bought."""
    with pytest.raises(RefusedError, match="dry_run: Extra inputs are not permitted"):
        FLEX.read({"prompt": "p", "dry_run": True})
    assert not FLEX.only_prices({"prompt": "p", "dry_run": True})


async def test_a_task_is_accepted_and_followed(client: Client, clock: Clock) -> None:
    """Replies are those that openapi.yaml gives as examples: `success` stands beside `code`."""
    async with Simulator(durations=10, clock=clock) as sim:
        payload = body("a fox", resolution="2k", guidance=4)
        accepted = await create(client, sim, payload)
        task_id = accepted.json["data"]["task_id"]
        replies = [accepted.json]
        for clock.now in (0.0, 5.0, 10.0):
            replies.append((await look(client, sim, task_id)).json)
        image_url = f"{sim.url}/files/{task_id}.png"
        picture = await client.ask("GET", image_url, key=None)
    words = ["pending", "pending", "processing", "completed"]
    assert [(reply["code"], reply["success"]) for reply in replies] == [(200, True)] * 4
    assert [reply["data"]["status"] for reply in replies] == words
    assert {reply["data"]["task_id"] for reply in replies} == {task_id}
    assert replies[-1]["data"]["output"] == {"image_url": image_url}
    assert picture.body.startswith(b"\x89PNG")
    (entry,) = sim.ledger.entries
    assert (entry.payload, entry.prompt) == (payload, "a fox")
    assert entry.price == sim.ledger.billed_usd == Decimal("0.06")
    assert sim.ledger.posts == {TASKS: 1}
    assert sim.ledger.status_requests == 3


async def test_a_failed_task_says_why(client: Client) -> None:
    """A failure has `success: false` and its reason in `data`."""
    async with Simulator(durations=0.0) as sim:
        answer = await look(client, sim, await created(client, sim, body("nsfw")))
    assert (answer.status, answer.json["code"], answer.json["success"]) == (200, 400, False)
    assert answer.json["data"]["status"] == "failed"
    assert answer.json["data"]["message"] == CONTENT_POLICY.message


async def test_chosen_shapes_are_those_of_every_generation(client: Client) -> None:
    """Shapes that were asked for win over the usual ones, on both APIs."""
    async with Simulator(durations=0.0, shapes=Shapes(accepted="already-completed")) as sim:
        answer = await create(client, sim, body())
        flat = await client.submit(sim)
    for each in (answer, flat):
        assert "success" not in each.json
        assert each.json["data"]["status"] == "completed"


@pytest.mark.parametrize("payload", [payload for payload, _ in BAD], ids=repr)
async def test_a_payload_that_breaks_the_contract_is_422(client: Client, payload: object) -> None:
    """It is refused in the provider's envelope and leaves nothing in the ledger."""
    async with Simulator() as sim:
        answer = await create(client, sim, payload)
    assert answer.status == answer.json["code"] == 422
    assert answer.json["data"]["code"] == "validation_error"
    assert (len(sim.ledger), sim.ledger.dry_runs) == (0, 0)


@pytest.mark.parametrize(("resolution", "cost"), [("1k", "0.04"), ("2k", "0.06")])
async def test_a_dry_run_tells_the_price_and_buys_nothing(
    client: Client, resolution: str, cost: str
) -> None:
    """`data.cost` is in USD, to the digit; no task, no bill, and it is counted."""
    async with Simulator(balance_usd=Decimal(0), max_in_flight=0) as sim:
        answer = await create(client, sim, {**body(resolution=resolution), "dry_run": True})
    assert answer.status == 200
    assert json.loads(answer.body, parse_float=str) == {
        "code": 200,
        "success": True,
        "data": {"cost": cost},
    }
    assert (len(sim.ledger), sim.ledger.billed_usd, sim.balance_usd) == (0, Decimal(0), Decimal(0))
    assert (sim.ledger.dry_runs, sim.ledger.posts_received) == (1, 1)


async def test_a_dry_run_takes_no_place_of_a_task(client: Client) -> None:
    """Neither the fates, which go by accepted tasks, nor a minute's submits count it."""

    async def fates(*, priced: bool) -> list[Entry]:
        async with Simulator(seed=5, submits_per_minute=2, clock=lambda: 0.0) as sim:
            for _ in range(2):
                if priced:
                    await create(client, sim, {**body(), "dry_run": True})
                await created(client, sim, body())
        return list(sim.ledger.entries)

    plain, priced = await fates(priced=False), await fates(priced=True)
    assert [entry.due for entry in plain] == [entry.due for entry in priced]


async def test_a_dry_run_wants_a_key(client: Client) -> None:
    """Prices are told to customers."""
    async with Simulator(api_keys=["good"]) as sim:
        payload = {**body(), "dry_run": True}
        answer = await client.ask("POST", sim.url + TASKS, json=payload, key="bad")
        path = await client.ask("GET", f"{sim.url}{TASKS}/any", key=None)
    assert (answer.status, path.status) == (401, 401)


async def test_money_and_limits_are_those_of_the_account(client: Client) -> None:
    """Both generations spend from one balance and share the places in flight."""
    async with Simulator(balance_usd=Decimal("0.10"), durations=Manual(), max_in_flight=2) as sim:
        await client.accepted(sim)
        poor = await create(client, sim, body(resolution="2k"))
        broke = await create(client, sim, body())
    assert (poor.status, broke.status) == (200, 429)
    async with Simulator(balance_usd=Decimal("0.05"), durations=0.0) as sim:
        broke = await create(client, sim, body(resolution="2k"))
    assert (broke.status, broke.json["data"]["code"]) == (402, "insufficient_balance")


async def test_a_task_is_known_to_its_own_generation(client: Client) -> None:
    """Whoever looks at a task on the wrong API gets 404 here, before it happens elsewhere."""
    async with Simulator(durations=0.0) as sim:
        flat, unified = await client.accepted(sim), await created(client, sim, body())
        right = [await client.look(sim, flat), await look(client, sim, unified)]
        wrong = [await client.look(sim, unified), await look(client, sim, flat)]
        unknown = await look(client, sim, "unknown")
    assert [answer.status for answer in right] == [200, 200]
    assert [answer.status for answer in wrong] == [404, 404]
    assert unknown.json == wrong[0].json
    assert unknown.json["data"]["code"] == "not_found"


async def test_both_generations_draw_the_same_picture(client: Client) -> None:
    """What is asked for counts, not in which words."""
    seen: list[Order] = []

    def paint(order: Order) -> bytes:
        seen.append(order)
        return b"png"

    async with Simulator(durations=0.0, pictures=paint) as sim:
        flat = await client.accepted(sim, "p", quality="2K", cfg=2, aspect_ratio="16:9")
        unified = await created(client, sim, body(resolution="2k", guidance=2, aspect_ratio="16:9"))
        for task_id in (flat, unified):
            await client.ask("GET", f"{sim.url}/files/{task_id}.png", key=None)
    assert seen[0] == seen[1]


async def test_a_lasting_id_remembers_its_generation(client: Client, clock: Clock) -> None:
    """A later simulator answers on the unified API for what was submitted there, and only there."""
    long = "".join(map(chr, range(0x4E00, 0x5E00)))
    async with Simulator(lasting_ids=True, durations=0.0, clock=clock) as first:
        task_id = await created(client, first, body(long, aspect_ratio="9:21"))
    async with Simulator(lasting_ids=True, clock=clock) as sim:
        answer = await look(client, sim, task_id)
        other = await client.look(sim, task_id)
    assert answer.json["data"]["output"] == {"image_url": f"{sim.url}/files/{task_id}.png"}
    assert other.status == 404
    assert sim.ledger.recalled[0].order.aspect_ratio == "9:21"


async def test_faults_meet_the_unified_api_too(client: Client) -> None:
    """Scripts count submits and looks of both generations together."""
    script = Faults(submit=[None, faults.rate_limited(2)], status=[faults.gateway(502)])
    async with Simulator(durations=0.0, faults=script) as sim:
        await client.accepted(sim)
        limited = await create(client, sim, body())
        gateway = await look(client, sim, "any")
    assert (limited.status, limited.headers["Retry-After"]) == (429, "2")
    assert gateway.status == 502
