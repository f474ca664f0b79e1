"""The replies against the sample files: the same bodies, with the task's own id and URL."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fluxflex.simulator import Manual, Shapes, Simulator, faults
from fluxflex.simulator.faults import Fault, Faults
from fluxflex.simulator.replies import COMPLETED, FAILED, RUNNING
from tests.simulator.simulator_client import SUBMIT, Client, plain_client

client = plain_client

SAMPLES = Path(__file__).parent.parent / "samples"
SAMPLE_ID = "dd55ae25-adff-47a0-9194-6a37845b58e4"
SAMPLE_URL = "https://files.example/dd55.png"


def sample(name: str) -> tuple[int, Any]:
    """Return the HTTP status and the body of a sample file."""
    content = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return content["http_status"], content["body"]


def as_sample(body: bytes, sim: Simulator, task_id: str) -> Any:
    """Return a reply with the samples' id and URL in the place of its own."""
    text = body.decode().replace(f"{sim.url}/files/{task_id}.png", SAMPLE_URL)
    return json.loads(text.replace(task_id, SAMPLE_ID))


def words(sample_name: str) -> tuple[str, str]:
    """Return the code and the message with which a sample's task failed."""
    data = sample(sample_name)[1]["data"]
    error = data.get("error", data)
    return error.get("code", "any"), error.get("message", data.get("error_message"))


@pytest.mark.parametrize("shape", ["accepted", "accepted-unified", "already-completed"])
async def test_an_accepted_post_is_answered_as_the_sample(client: Client, shape: str) -> None:
    """Each shape of an acceptance is the sample of its name."""
    async with Simulator(durations=0.0, shapes=Shapes(accepted=shape)) as sim:
        answer = await client.submit(sim)
        task_id = sim.ledger.entries[0].task_id
        seen = (answer.status, as_sample(answer.body, sim, task_id))
    assert seen == sample(f"create-{shape}")


@pytest.mark.parametrize("shape", [shape for shape in RUNNING if shape != "pending-unified"])
async def test_a_running_task_is_answered_as_the_sample(client: Client, shape: str) -> None:
    """Each shape of a running task is the sample of its name."""
    async with Simulator(durations=Manual(), shapes=Shapes(running=shape)) as sim:
        task_id = await client.accepted(sim)
        answer = await client.look(sim, task_id)
        seen = (answer.status, as_sample(answer.body, sim, task_id))
    assert seen == sample(f"status-{shape}")


async def test_a_pending_task_is_answered_as_the_sample(client: Client) -> None:
    """The unified shape carries the word of the first moments."""
    shapes = Shapes(running="pending-unified")
    async with Simulator(durations=10, clock=lambda: 0.0, shapes=shapes) as sim:
        task_id = await client.accepted(sim)
        answer = await client.look(sim, task_id)
        seen = (answer.status, as_sample(answer.body, sim, task_id))
    assert seen == sample("status-pending-unified")


@pytest.mark.parametrize(
    "shape", [shape for shape in COMPLETED if (SAMPLES / f"status-{shape}.json").exists()]
)
async def test_a_completed_task_is_answered_as_the_sample(client: Client, shape: str) -> None:
    """Each shape of a completed task is the sample of its name."""
    async with Simulator(durations=0.0, shapes=Shapes(completed=shape)) as sim:
        task_id = await client.accepted(sim)
        answer = await client.look(sim, task_id)
        seen = (answer.status, as_sample(answer.body, sim, task_id))
    assert seen == sample(f"status-{shape}")


@pytest.mark.parametrize(
    "shape", [shape for shape in FAILED if (SAMPLES / f"status-{shape}.json").exists()]
)
async def test_a_failed_task_is_answered_as_the_sample(client: Client, shape: str) -> None:
    """Each shape of a failed task is the sample of its name, HTTP status included."""
    code, message = words(f"status-{shape}")
    async with Simulator(durations=Manual(), shapes=Shapes(failed=shape)) as sim:
        task_id = await client.accepted(sim)
        sim.fail(task_id, code=code, message=message)
        answer = await client.look(sim, task_id)
        seen = (answer.status, as_sample(answer.body, sim, task_id))
    assert seen == sample(f"status-{shape}")


@pytest.mark.parametrize(
    ("shape", "where"), [("failed-error-text", "data"), ("failed-top-level-message", "top")]
)
async def test_two_more_ways_to_say_why(client: Client, shape: str, where: str) -> None:
    """An error as plain text, and a message beside the data, are known from the field."""
    async with Simulator(durations=Manual(), shapes=Shapes(failed=shape)) as sim:
        task_id = await client.accepted(sim)
        sim.fail(task_id, message="Upstream error")
        body = (await client.look(sim, task_id)).json
    found = body["data"]["error"] if where == "data" else body["message"]
    assert (found, body["data"]["status"]) == ("Upstream error", "failed")


def test_an_unknown_shape_is_refused() -> None:
    """A shape is one of those that are known."""
    with pytest.raises(ValueError, match="failed"):
        Shapes(failed="loudly")


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (faults.gateway(502), "status-gateway-html-502"),
        (faults.rate_limited(1), "status-rate-limited"),
    ],
)
async def test_a_fault_of_a_look_is_the_sample(client: Client, fault: Fault, name: str) -> None:
    """Faults that have a sample look like it."""
    status, body = sample(name)
    async with Simulator(faults=Faults(status=[fault])) as sim:
        answer = await client.look(sim, "any")
    assert answer.status == status
    assert (answer.json or answer.body.decode()) == body


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (faults.unreadable(), "create-unreadable-200"),
        (faults.no_task_id(), "create-200-without-task-id"),
        (
            faults.error(
                422,
                code="validation_error",
                message="steps must be between 1 and 50",
                http_status=200,
            ),
            "create-refused-inside-200",
        ),
    ],
)
async def test_a_fault_of_a_post_is_the_sample(client: Client, fault: Fault, name: str) -> None:
    """Faults that have a sample look like it."""
    status, body = sample(name)
    async with Simulator(faults=Faults(submit=[fault])) as sim:
        answer = await client.submit(sim)
    assert answer.status == status
    assert (answer.json or answer.body.decode()) == body


async def test_refusals_are_the_samples(client: Client) -> None:
    """A bad key, a missing prompt and an empty balance are answered as the samples say."""
    async with Simulator(balance_usd=Decimal("0.03"), api_keys=["good"]) as sim:
        url = sim.url + SUBMIT
        bad_key = await client.ask("POST", url, json={"prompt": "p"})
        no_prompt = await client.ask("POST", url, json={}, key="good")
        no_money = await client.ask("POST", url, json={"prompt": "p"}, key="good")
        look = await client.look(sim, "any")
    assert (bad_key.status, bad_key.json) == sample("create-unauthorized")
    assert (look.status, look.json) == sample("status-unauthorized")
    assert (no_prompt.status, no_prompt.json) == sample("create-validation-error")
    assert (no_money.status, no_money.json) == sample("create-no-balance")
