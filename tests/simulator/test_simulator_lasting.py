"""Task ids that outlive their simulator: what a later one still says and shows."""

import re
from decimal import Decimal
from typing import Any

import pytest

from fluxflex.simulator import Durations, Failure, Manual, Shapes, Simulator
from fluxflex.simulator.contract import FLEX, V1, Order
from fluxflex.simulator.lasting import Carried, Payload, read, write
from fluxflex.simulator.painting.scenery import imagine
from fluxflex.simulator.replies import CONTENT_POLICY
from tests.simulator.simulator_client import Client, Clock, plain_client, standing_clock

client = plain_client
clock = standing_clock

NOON = 1_750_000_000.0
URLS = [f"https://example.com/{'long/' * 40}{number}.png" for number in range(10)]
UNIFIED: Payload = {"model": "black-forest-labs/flux.2-flex", "input": {"prompt": "p"}}
HALF_A_CHARACTER = "\ud83d"


@pytest.fixture
def wall() -> Clock:
    """Give a wall clock that stands still."""
    return Clock(NOON)


def lasting(clock: Clock, wall: Clock, **more: Any) -> Simulator:
    """Make a simulator as each run of a command makes one."""
    return Simulator(lasting_ids=True, clock=clock, wall_clock=wall, **more)


def carried(
    payload: Payload | None = None, *, due: float = NOON + 16, failure: Failure | None = None
) -> Carried:
    """Make a task for an id to carry."""
    payload = payload or {"prompt": "a fox"}
    generation = V1 if "model" in payload else FLEX
    return Carried(NOON, due, Decimal("0.04"), failure, generation, payload)


@pytest.mark.parametrize(
    "task",
    [
        carried(),
        carried({"prompt": "füchse 🦊\n\x00", "steps": 20.0, "cfg": 1.7, "quality": "2K"}),
        carried({"prompt": HALF_A_CHARACTER}),
        carried({"prompt": "p", "image_urls": ["https://example.com/a.png"]}),
        carried(UNIFIED),
        carried(due=float("inf")),
        carried(due=NOON + 0.1 + 0.2),
        carried(failure=Failure()),
        carried(failure=CONTENT_POLICY),
    ],
    ids=str,
)
def test_an_id_says_all_of_its_task(task: Carried) -> None:
    """What fits into an id comes out of it exactly, to the last bit of a time."""
    assert read(write(task)) == task


@pytest.mark.parametrize(
    "payload",
    [
        {"prompt": "a fox"},
        {"prompt": "\U0001f98a" * 5000},
        {"prompt": "".join(map(chr, range(0x4E00, 0x5E00)))},
        {"prompt": "".join(map(chr, range(0x4E00, 0x4E80))), "image_urls": URLS},
        {**UNIFIED, "input": {"prompt": "".join(map(chr, range(0x4E00, 0x5E00)))}},
    ],
    ids=lambda payload: str(payload)[:30],
)
def test_an_id_is_short_and_safe_in_a_url(payload: Payload) -> None:
    """However long a prompt is, its id has at most 600 characters, none of which needs quoting."""
    task_id = write(carried(payload))
    assert re.fullmatch(r"[0-9a-f]{16}-[A-Za-z0-9_-]+", task_id)
    assert len(task_id) <= 600


def test_the_id_of_a_common_task_is_a_line() -> None:
    """An ordinary prompt makes an id that still fits on a screen."""
    assert len(write(carried({"prompt": "a lighthouse in fog", "quality": "2K"}))) <= 120


def test_what_does_not_fit_is_shortened_and_still_differs() -> None:
    """Ratio, quality and the beginning of the prompt stay; other ends still make other pictures."""
    long = "".join(map(chr, range(0x4E00, 0x5E00)))
    orders = []
    for end in ("one", "two"):
        wish = {"prompt": long + end, "aspect_ratio": "16:9", "quality": "2K", "steps": 3}
        task = read(write(carried({**wish, "image_urls": URLS})))
        assert task is not None
        orders.append(task.order)
    one, two = orders
    assert one.prompt.startswith(long[:50])
    assert one.prompt != two.prompt
    assert (one.aspect_ratio, one.quality, one.steps) == ("16:9", "2K", 3)
    assert len(set(one.image_urls)) == 10
    assert imagine(one).seed != imagine(two).seed


def test_references_go_before_words_do() -> None:
    """Long reference URLs become digests while the prompt stays whole."""
    urls = ["https://example.com/" + "".join(map(chr, range(0x4E00, 0x4F00)))]
    task = read(write(carried({"prompt": "a fox", "image_urls": urls})))
    assert task is not None
    assert task.order.prompt == "a fox"
    assert re.fullmatch(r"ref:[0-9a-f]{16}", task.order.image_urls[0])


def test_what_is_no_matter_of_the_picture_is_left_out() -> None:
    """The address of a callback makes no id longer."""
    payload = {**UNIFIED, "callback_url": "https://example.com/hook", "dry_run": False}
    task = read(write(carried(payload)))
    assert task is not None
    assert task.payload == UNIFIED


def test_two_ids_of_one_task_differ() -> None:
    """Chance is in each id: equal prompts accepted at the same moment are two tasks."""
    assert len({write(carried()) for _ in range(50)}) == 50


def test_a_changed_id_is_none() -> None:
    """No character of an id can be changed, left out or added."""
    task_id = write(carried())
    for at, character in enumerate(task_id):
        other = "A" if character != "A" else "B"
        assert read(task_id[:at] + other + task_id[at + 1 :]) is None
        assert read(task_id[:at] + task_id[at + 1 :]) is None
    for more in ("A", "AA", "=", " ", "-"):
        assert read(task_id + more) is None
        assert read(more + task_id) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "dd55",
        "dd55ae25-adff-47a0-9194-6a37845b58e4",
        "0123456789abcdef-",
        "a-ü",
        "-AAAA",
        HALF_A_CHARACTER,
    ],
)
def test_any_other_text_is_no_id(text: str) -> None:
    """What was never an id is unknown, whatever it looks like."""
    assert read(text) is None


async def test_a_later_simulator_follows_a_task_to_its_end(
    client: Client, clock: Clock, wall: Clock
) -> None:
    """It is processing until due, then completed, with the image at the later one's own address."""
    async with lasting(clock, wall, durations=10) as first:
        task_id, gone = await client.accepted(first), first.url
    wall.now += 6.0
    async with lasting(Clock(), wall, durations=99) as sim:
        assert sim.url != gone
        assert await client.state(sim, task_id) == "processing"
    wall.now += 4.0
    async with lasting(Clock(), wall) as sim:
        data = (await client.look(sim, task_id)).json["data"]
        assert data["status"] == "completed"
        assert data["task_id"] == task_id
        assert data["output"] == {"image_url": f"{sim.url}/files/{task_id}.png"}


async def test_a_recalled_task_goes_on_by_the_clock(
    client: Client, clock: Clock, wall: Clock
) -> None:
    """Once recalled it lives in simulated time, and the wall clock may do what it wants."""
    async with lasting(clock, wall, durations=100, speed=10) as first:
        task_id = await client.accepted(first)
    wall.now += 0.25
    later = Clock()
    async with lasting(later, wall, speed=2) as sim:
        words = [await client.state(sim, task_id)]
        wall.now = 0.0
        for later.now in (9.5, 9.75):
            words.append(await client.state(sim, task_id))
    assert words == ["pending", "processing", "completed"]
    (entry,) = sim.ledger.recalled
    assert (entry.number, entry.accepted_at, entry.due) == (0, -0.5, 19.5)


@pytest.mark.parametrize("back", [1.0, 86_400.0, NOON])
async def test_a_task_of_the_future_is_finished(
    client: Client, clock: Clock, wall: Clock, back: float
) -> None:
    """A clock that was set back lets no task run for days."""
    async with lasting(clock, wall, durations=10) as first:
        task_id = await client.accepted(first)
    wall.now -= back
    async with lasting(clock, wall) as sim:
        assert await client.state(sim, task_id) == "completed"


async def test_a_clock_that_is_set_does_not_touch_a_simulators_own_tasks(
    client: Client, clock: Clock, wall: Clock
) -> None:
    """The wall clock matters to recalled tasks only."""
    async with lasting(clock, wall, durations=10) as sim:
        task_id = await client.accepted(sim)
        wall.now = 0.0
        clock.now = 9.0
        assert await client.state(sim, task_id) == "processing"
        wall.now = NOON * 2
        assert await client.state(sim, task_id) == "processing"
        clock.now = 10.0
        assert await client.state(sim, task_id) == "completed"


async def test_a_fate_is_kept(client: Client, clock: Clock, wall: Clock) -> None:
    """A task fails in a later simulator as it would have in its own, whatever that one's terms."""
    async with lasting(clock, wall, durations=0.0, failure_rate=1.0) as unlucky:
        failing = await client.accepted(unlucky)
        refused = await client.accepted(unlucky, "nsfw")
        errors = [(await client.look(unlucky, each)).json["data"] for each in (failing, refused)]
    async with lasting(clock, wall, forbidden_words=()) as sim:
        again = [(await client.look(sim, each)).json["data"] for each in (failing, refused)]
        picture = await client.ask("GET", f"{sim.url}/files/{failing}.png")
    assert again == errors
    assert [data["error"]["message"] for data in again] == [
        "Generation failed",
        CONTENT_POLICY.message,
    ]
    assert picture.status == 404
    async with lasting(clock, wall, durations=0.0) as lucky:
        task_id = await client.accepted(lucky)
    async with lasting(clock, wall, failure_rate=1.0, forbidden_words=["lighthouse"]) as sim:
        assert await client.state(sim, task_id) == "completed"


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a lighthouse in fog", "aspect_ratio": "16:9", "steps": 20},
        {"prompt": "füchse " * 500, "quality": "2K", "image_urls": URLS},
        {"prompt": "".join(map(chr, range(0x4E00, 0x5E00))), "aspect_ratio": "9:16"},
    ],
    ids=lambda fields: str(fields)[:40],
)
async def test_a_picture_stays_the_same(
    client: Client, clock: Clock, wall: Clock, fields: dict[str, Any]
) -> None:
    """One id, one picture: every simulator shows the same bytes, in the ratio asked for."""
    pictures, sizes = [], []
    task_id = ""
    for _ in range(2):
        async with lasting(clock, wall, durations=0.0) as sim:
            task_id = task_id or await client.accepted(sim, **fields)
            answer = await client.ask("GET", f"{sim.url}/files/{task_id}.png", key=None)
        pictures.append(answer.body)
        sizes.append((answer.body[16:20], answer.body[20:24]))
    asked = imagine(FLEX.read(fields))
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"\x89PNG")
    assert sizes[0] == (asked.width.to_bytes(4), asked.height.to_bytes(4))


async def test_a_painter_of_ones_own_gets_what_the_id_says(
    client: Client, clock: Clock, wall: Clock
) -> None:
    """The maker of pictures sees the same order in every simulator."""
    seen: list[Order] = []

    def paint(order: Order) -> bytes:
        seen.append(order)
        return b"png"

    prompt = "".join(map(chr, range(0x4E00, 0x5E00)))
    async with lasting(clock, wall, durations=0.0, pictures=paint) as first:
        task_id = await client.accepted(first, prompt)
        await client.ask("GET", f"{first.url}/files/{task_id}.png")
        assert first.ledger.entries[0].prompt == prompt
    async with lasting(clock, wall, pictures=paint) as sim:
        await client.ask("GET", f"{sim.url}/files/{task_id}.png")
    assert len(seen) == 2
    assert seen[0] == seen[1] != Order(prompt)


async def test_a_recalled_task_is_not_billed_again(
    client: Client, clock: Clock, wall: Clock
) -> None:
    """It costs nothing here, takes no place in flight, and the ledger lists it apart."""
    async with lasting(clock, wall, durations=10) as first:
        task_id = await client.accepted(first, "a fox", quality="2K")
    async with lasting(clock, wall, max_in_flight=1, balance_usd=Decimal("0.04")) as sim:
        for _ in range(3):
            await client.look(sim, task_id)
        assert (len(sim.ledger), sim.ledger.billed_usd) == (0, Decimal(0))
        assert sim.ledger.max_in_flight == 0
        await client.accepted(sim, "another")
    assert sim.balance_usd == 0
    assert sim.ledger.duplicates() == {}
    assert [entry.prompt for entry in sim.ledger.entries] == ["another"]
    (entry,) = sim.ledger.recalled
    assert (entry.task_id, entry.prompt, entry.price) == (task_id, "a fox", Decimal("0.06"))
    assert sim.ledger.entry(task_id) is entry


async def test_equal_prompts_are_different_tasks(client: Client, clock: Clock, wall: Clock) -> None:
    """The same prompt at the same moment gets another id, in one simulator and in two."""
    async with lasting(clock, wall) as one, lasting(clock, wall) as other:
        ids = [await client.accepted(each) for each in (one, one, other)]
    assert len(set(ids)) == 3


async def test_a_made_up_id_is_not_found(client: Client, clock: Clock, wall: Clock) -> None:
    """A changed id and one of the ordinary kind are 404, looked at or downloaded."""
    async with lasting(clock, wall, durations=0.0) as first, Simulator(durations=0.0) as ordinary:
        task_id = await client.accepted(first)
        changed = task_id[:-1] + ("A" if task_id[-1] != "A" else "B")
        random = await client.accepted(ordinary)
        forgetful = await client.look(ordinary, task_id)
    async with lasting(clock, wall) as sim:
        for wrong in (changed, task_id.upper(), random, "%F0%9F", "x"):
            assert (await client.look(sim, wrong)).status == 404
            assert (await client.ask("GET", f"{sim.url}/files/{wrong}.png")).status == 404
        assert sim.ledger.recalled == ()
    assert forgetful.status == 404, "lasting ids are known where they are switched on"


async def test_keys_are_asked_for_as_ever(client: Client, clock: Clock, wall: Clock) -> None:
    """Knowing an id opens nothing."""
    async with lasting(clock, wall) as first:
        task_id = await client.accepted(first)
    async with lasting(clock, wall, api_keys=["good"]) as sim:
        assert (await client.look(sim, task_id)).status == 401


async def test_tasks_are_ended_by_hand(client: Client, clock: Clock, wall: Clock) -> None:
    """Finishing and failing work on a simulator's own tasks and on recalled ones.

    A later simulator does not know of it: the id was given before.
    """
    async with lasting(clock, wall, durations=Manual()) as first:
        one, two = await client.accepted(first, "a"), await client.accepted(first, "b")
        first.finish(one)
        assert await client.state(first, one) == "completed"
    wall.now -= 86_400
    async with lasting(clock, wall) as sim:
        assert await client.state(sim, one) == "processing"
        sim.finish(one)
        sim.fail(two, message="out of paint")
        assert await client.state(sim, one) == "completed"
        assert (await client.look(sim, two)).json["data"]["error"]["message"] == "out of paint"
        with pytest.raises(ValueError, match="finished already"):
            sim.finish(one)
        with pytest.raises(ValueError, match="no task 'x'"):
            sim.finish("x")


async def test_laws_and_shapes_are_as_ever(client: Client, clock: Clock, wall: Clock) -> None:
    """Seed and law decide how long a task takes, and a recalled task has any shape."""
    async with (
        lasting(clock, wall, seed=3, speed=4) as sim,
        Simulator(seed=3, clock=clock) as ordinary,
    ):
        task_id = await client.accepted(sim)
        await client.accepted(ordinary)
    assert sim.ledger.entries[0].due == ordinary.ledger.entries[0].due
    task = read(task_id)
    assert task is not None
    assert task.due == NOON + ordinary.ledger.entries[0].due / 4
    wall.now += 1000
    shapes = Shapes(completed="completed-flat-output")
    async with lasting(clock, wall, durations=Durations(), shapes=shapes) as later:
        assert "image_url" in (await client.look(later, task_id)).json["data"]


async def test_a_look_at_a_recalled_task_wakes_who_waits(
    client: Client, clock: Clock, wall: Clock
) -> None:
    """A test can wait until a client follows what it had before."""
    async with lasting(clock, wall) as first:
        task_id = await client.accepted(first)
    async with lasting(clock, wall) as sim:
        await client.look(sim, task_id)
        await sim.wait_for(lambda ledger: len(ledger.recalled) == 1)
