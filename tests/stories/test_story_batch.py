"""Batches: lazy, bounded, one outcome for each item, and an end for every way of ending."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from fluxflex import (
    Batch,
    BudgetExceededError,
    FluxFlexError,
    GenerateRequest,
    GenerationError,
    InvalidRequestError,
    Outcome,
    TaskState,
)
from fluxflex.errors import (
    AuthenticationError,
    ConfigurationError,
    InsufficientBalanceError,
    SessionClosedError,
)
from fluxflex.simulator import Faults, Manual, Simulator, faults
from tests.stories.stage import (
    NOTHING,
    Scene,
    Wire,
    files_in,
    finish,
    finish_prompt,
    http,
    session_at,
    settled,
    until,
)

PNG = b"\x89PNG\r\n\x1a\n"


def studies(count: int) -> list[str]:
    """Return so many different prompts."""
    return [f"study {number}" for number in range(count)]


class Source:
    """A source that knows how far it was read."""

    def __init__(self, items: Iterable[object]) -> None:
        self._items = items
        self.read = 0
        self.closed = False

    def __iter__(self) -> Iterator[object]:
        try:
            for item in self._items:
                self.read += 1
                yield item
        finally:
            self.closed = True


class Crash(Exception):  # noqa: N818 - the user's own, named as users name them
    """An exception of the user's own."""


async def test_breaking_out_leaves_the_session_usable() -> None:
    """What was not sent when the reader left is never sent; the session goes on."""
    source = Source(studies(1000))
    async with Simulator(durations=Manual()) as sim, session_at(sim.url, concurrency=4) as session:
        async with session.map(source) as outcomes:
            await sim.wait_for(lambda ledger: len(ledger) == 4)
            sim.finish(sim.ledger.entries[0].task_id)
            async for outcome in outcomes:
                assert outcome.ok
                break
        await settled(session)
        bought = {entry.task_id for entry in sim.ledger.entries[1:]}
        assert {handle.task_id for handle in session.handles()} == bought
        finish(sim, *session.handles())
        more = asyncio.create_task(session.generate("one more"))
        await finish_prompt(sim, "one more")
        image = await more
    assert image.task_id == sim.ledger.by_prompt()["one more"][0].task_id
    assert sim.ledger.posts_received == len(sim.ledger) <= 6
    assert source.read <= 6


@pytest.mark.parametrize("turns", range(8))
async def test_leaving_at_any_moment_keeps_the_books(turns: int) -> None:
    """Whenever the reader leaves: what was sent is followed and paid, the rest is never sent."""
    async with Simulator(durations=0.0) as sim:
        async with session_at(sim.url, concurrency=4) as session:
            async with session.map(studies(50)):
                for _ in range(turns):
                    await asyncio.sleep(0)
            left = session.statistics()
        after = session.statistics()
    assert left.accepted <= after.posts <= 4
    assert sim.ledger.posts_received == len(sim.ledger) == after.posts == after.completed
    assert (after.spent, after.reserved) == (sim.ledger.billed_usd, NOTHING)
    assert after.in_flight == 0


async def test_a_source_that_raises_comes_out_after_the_drain() -> None:
    """What was read gets its outcome; then the source's own exception comes out as itself."""

    def source() -> Iterator[str]:
        yield from studies(5)
        raise Crash("the file ended in the middle")

    got: list[Outcome] = []

    async def read(outcomes: Batch) -> None:
        async for outcome in outcomes:
            got.append(outcome)  # noqa: PERF401 - it ends by raising

    async with Simulator(durations=0.0) as sim, session_at(sim.url, concurrency=2) as session:
        async with session.map(source()) as outcomes:
            with pytest.raises(Crash, match="in the middle"):
                await read(outcomes)
        await session.generate("the session goes on")
    assert [outcome.ok for outcome in got] == [True] * 5
    assert sim.ledger.posts_received == 6


async def test_an_async_source_is_read_as_lazily() -> None:
    """An async iterable is a source too, read no further than a sync one, and closed at the end."""
    read = given = ahead = 0
    closed = False

    async def source() -> AsyncIterator[str]:
        nonlocal read, ahead, closed
        try:
            for prompt in studies(40):
                read += 1
                ahead = max(ahead, read - given)
                yield prompt
        finally:
            closed = True

    async with (
        Simulator(durations=0.0) as sim,
        session_at(sim.url, concurrency=3) as session,
        session.map(source()) as outcomes,
    ):
        async for outcome in outcomes:
            given += outcome.ok
    assert (given, closed) == (40, True)
    assert ahead <= 4


async def test_a_source_that_waits_for_ever_does_not_keep_the_session_open() -> None:
    """Leaving cancels the reading of a source, and does not wait for its next item."""
    never = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "the only one"
        await never.wait()

    async with (
        Simulator(durations=0.0) as sim,
        session_at(sim.url) as session,
        session.map(source()) as outcomes,
    ):
        assert (await anext(aiter(outcomes))).ok


class Broken(Mapping[str, object]):
    """A mapping that cannot be read."""

    def __getitem__(self, name: str) -> object:
        raise Crash("torn page")

    def __iter__(self) -> Iterator[str]:
        raise Crash("torn page")

    def __len__(self) -> int:
        return 1


async def test_an_item_that_cannot_be_read_ends_the_batch_with_its_own_error() -> None:
    """What reading an item raises is the source's: it comes out after the drain, nothing hangs."""
    async with (
        Simulator(durations=0.0) as sim,
        session_at(sim.url) as session,
        session.map(["a", Broken(), "b"]) as outcomes,
    ):
        got = [await anext(aiter(outcomes))]
        with pytest.raises(Crash, match="torn page"):
            await anext(aiter(outcomes))
    assert [outcome.ok for outcome in got] == [True]
    assert set(sim.ledger.by_prompt()) == {"a"}


async def test_one_bad_item_is_its_own_outcome() -> None:
    """Items that are no requests, and tasks that fail, are outcomes; the others go on."""
    items: list[object] = ["a", 5, {"prompt": "b", "steps": 99}, "nsfw", {"prompt": "c"}, ""]
    async with Simulator(durations=0.0) as sim, session_at(sim.url) as session:
        outcomes = await session.map(items, quality="2K").collect()
    assert [outcome.index for outcome in outcomes] == list(range(6))
    assert [outcome.item for outcome in outcomes] == items
    assert [outcome.ok for outcome in outcomes] == [True, False, False, False, True, False]
    kinds = [type(outcome.error) for outcome in outcomes if not outcome.ok]
    bad = InvalidRequestError
    assert [issubclass(kind, bad) for kind in kinds] == [True, True, False, True]
    assert isinstance(outcomes[3].error, GenerationError)
    assert {entry.order.quality for entry in sim.ledger.entries} == {"2K"}
    assert sim.ledger.posts_received == 3


STOPS: dict[str, tuple[int, type[FluxFlexError]]] = {
    "401": (401, AuthenticationError),
    "402": (402, InsufficientBalanceError),
}


@pytest.mark.parametrize(("status", "kind"), STOPS.values(), ids=STOPS)
async def test_a_refusal_that_all_would_meet_stops_the_reading(
    status: int, kind: type[FluxFlexError]
) -> None:
    """Key and balance: what was read gets an outcome, then the error itself, with `outcomes`."""
    source = Source(studies(1000))
    script = Faults(submit=[None, None, *[faults.error(status, code="no")] * 1000])
    async with (
        Simulator(durations=0.0, faults=script) as sim,
        session_at(sim.url, concurrency=2) as session,
    ):
        with pytest.raises(kind) as caught:
            await session.map(source).collect()
        after = session.statistics()
    outcomes = caught.value.outcomes
    assert [outcome.index for outcome in outcomes] == list(range(source.read))
    assert source.closed
    assert source.read <= 6
    good = [outcome for outcome in outcomes if outcome.ok]
    assert len(good) == len(sim.ledger) == 2
    assert all(isinstance(outcome.error, kind) for outcome in outcomes if not outcome.ok)
    assert sim.ledger.posts_received <= 4
    assert (after.spent, after.reserved, after.in_flight) == (sim.ledger.billed_usd, NOTHING, 0)


@pytest.mark.parametrize("concurrency", [1, 2, 3, 8])
@pytest.mark.parametrize("affordable", [0, 1, 2, 5])
async def test_a_budget_stops_a_batch(concurrency: int, affordable: int) -> None:
    """Exactly what fits is bought; outcomes tell what was bought from what was not."""
    source = Source(studies(50))
    budget = affordable * Decimal("0.04") + Decimal("0.01")
    async with (
        Simulator(durations=0.0) as sim,
        session_at(sim.url, concurrency=concurrency, budget=budget) as session,
    ):
        with pytest.raises(BudgetExceededError) as caught:
            await session.map(source).collect()
        after = session.statistics()
    outcomes = caught.value.outcomes
    assert [outcome.index for outcome in outcomes] == list(range(source.read))
    assert [outcome.index for outcome in outcomes if outcome.ok] == list(range(affordable))
    assert {type(outcome.error) for outcome in outcomes if not outcome.ok} == {BudgetExceededError}
    assert sim.ledger.posts_received == len(sim.ledger) == affordable
    assert after.spent == sim.ledger.billed_usd <= budget
    assert (after.reserved, after.in_flight) == (NOTHING, 0)


async def test_the_closing_of_the_session_ends_a_batch() -> None:
    """A batch that is cut short by `aclose` says of each item what became of it."""
    async with Simulator(durations=Manual()) as sim:
        session = session_at(sim.url, concurrency=2)
        await session.open()
        reading = asyncio.create_task(session.map(studies(9)).collect())
        await sim.wait_for(lambda ledger: len(ledger) == 2)
        await until(lambda: session.statistics().accepted == 2)
        await session.aclose(drain=0)
        with pytest.raises(SessionClosedError) as caught:
            await reading
    outcomes = caught.value.outcomes
    bought = {entry.task_id for entry in sim.ledger.entries}
    assert {outcome.task_id for outcome in outcomes} == bought
    assert [outcome.error.charged for outcome in outcomes if outcome.error] == ["yes", "yes"]
    assert sim.ledger.posts_received == 2


# -- order ---------------------------------------------------------------------------------------


async def test_ordered_keeps_the_order_and_looks_ahead_twice_the_ceiling() -> None:
    """The first is held: the others go on, no further than twice the ceiling."""
    source = Source(studies(60))
    async with Simulator(durations=Manual()) as sim, session_at(sim.url, concurrency=4) as session:
        async with session.map(source, ordered=True) as outcomes:
            for number in range(1, 8):
                await finish_prompt(sim, f"study {number}")
            await until(lambda: outcomes.progress.unread == 7)
            assert source.read == 8
            await finish_prompt(sim, "study 0")
            got = [await anext(aiter(outcomes)) for _ in range(8)]
        await settled(session)
        finish(sim, *session.handles())
    assert [outcome.index for outcome in got] == list(range(8))
    assert sim.ledger.max_in_flight <= 4


async def test_ordered_gives_all_in_input_order() -> None:
    """However they end, the outcomes come in the order of the source."""
    script = Faults(submit=lambda arrival: faults.error(422) if arrival.number % 3 == 0 else None)
    async with (
        Simulator(durations=0.0, failure_rate=0.2, seed=3, faults=script) as sim,
        session_at(sim.url, concurrency=7) as session,
        session.map(studies(60), ordered=True) as outcomes,
    ):
        indexes = [outcome.index async for outcome in outcomes]
    assert indexes == list(range(60))


async def test_ordered_saving_waits_for_no_one_behind(tmp_path: Path) -> None:
    """A first task that ends last is saved although the outcomes of all behind it wait unread."""
    source = Source(studies(20))
    async with (
        Simulator(durations=Manual(), pictures=lambda _: PNG) as sim,
        session_at(sim.url, concurrency=2) as session,
    ):
        async with session.map(source, ordered=True, save_to=tmp_path) as outcomes:
            for number in (1, 2, 3):
                await finish_prompt(sim, f"study {number}")
            await until(lambda: outcomes.progress.unread == 3)
            assert source.read == 4
            await finish_prompt(sim, "study 0")
            got = [await anext(aiter(outcomes)) for _ in range(4)]
            for number in (4, 5):
                await finish_prompt(sim, f"study {number}")
            got += [await anext(aiter(outcomes)) for _ in range(2)]
        for number in (6, 7):
            await finish_prompt(sim, f"study {number}")
    assert [outcome.index for outcome in got] == list(range(6))
    assert all(outcome.path is not None and outcome.path.is_file() for outcome in got)
    assert len(sim.ledger) == 8


# -- saving --------------------------------------------------------------------------------------


async def test_pictures_are_saved_in_a_folder(tmp_path: Path) -> None:
    """A folder, made on the way, gets one file a task, named by its id."""
    folder = tmp_path / "new" / "out"
    async with (
        Simulator(durations=0.0, pictures=lambda order: PNG + order.prompt.encode()) as sim,
        session_at(sim.url) as session,
    ):
        outcomes = await session.map(studies(5), save_to=str(folder)).collect()
    for outcome in outcomes:
        assert outcome.path == folder / f"{outcome.task_id}.png"
        assert outcome.path.read_bytes() == PNG + f"study {outcome.index}".encode()
    assert len(files_in(folder)) == 5


async def test_pictures_are_saved_where_a_callable_says(tmp_path: Path) -> None:
    """The callable gets the index and the request, and its folders are made."""

    def place(index: int, request: GenerateRequest) -> Path:
        return tmp_path / request.quality / f"{index:03}"

    async with (
        Simulator(durations=0.0, pictures=lambda _: PNG) as sim,
        session_at(sim.url) as session,
    ):
        outcomes = await session.map(studies(3), save_to=place, quality="2K").collect()
    names = [outcome.path for outcome in outcomes]
    assert names == [tmp_path / "2K" / f"{number:03}.png" for number in range(3)]


def _full(index: int, _request: GenerateRequest) -> Path:
    raise Crash(f"no place for {index}")


async def test_a_callable_that_raises_stops_the_buying() -> None:
    """It is asked before anything is bought, and what it raises comes out as itself."""
    source = Source(studies(100))
    async with Simulator(durations=0.0) as sim, session_at(sim.url, concurrency=2) as session:
        with pytest.raises(Crash, match="no place for 0"):
            await session.map(source, save_to=_full).collect()
    assert source.read == 1
    assert sim.ledger.posts_received == 0


async def test_downloads_hold_no_slots(tmp_path: Path) -> None:
    """Pictures that hang keep no task from being sent, up to as many as may wait."""
    go = asyncio.Event()

    async def slow(scene: Scene) -> None:
        await go.wait()
        await scene.say(http(PNG, kind="image/png"))

    ids = iter(range(100))

    async def accept(scene: Scene) -> None:
        body = {"code": 200, "data": {"status": "processing", "task_id": f"t-{next(ids)}"}}
        await scene.say(http(body))

    async with (
        Wire(post=accept, picture=slow) as wire,
        session_at(wire.url, concurrency=3) as session,
        session.map(studies(30), save_to=tmp_path) as outcomes,
    ):
        await until(lambda: outcomes.progress.saving == 6)
        assert session.statistics().in_flight == 0
        assert len(wire.posts) == 6
        go.set()
        got = [outcome async for outcome in outcomes]
    assert len(got) == 30
    assert all(outcome.path is not None for outcome in got)


@pytest.mark.parametrize("saving", [False, True])
async def test_at_most_as_many_outcomes_as_slots_wait_unread(
    tmp_path: Path, *, saving: bool
) -> None:
    """A reader that stops stops the buying: no more than `concurrency` outcomes pile up."""
    source = Source(studies(500))
    most = 0
    async with (
        Simulator(durations=0.0, pictures=lambda _: PNG) as sim,
        session_at(sim.url, concurrency=5) as session,
        session.map(source, save_to=tmp_path if saving else None) as outcomes,
    ):
        for _ in range(20):
            await until(lambda: outcomes.progress.unread == 5)
            most = max(most, outcomes.progress.unread)
            assert (await anext(aiter(outcomes))).ok
        await until(lambda: outcomes.progress.unread == 5)
        for _ in range(500):
            await asyncio.sleep(0)
            most = max(most, outcomes.progress.unread)
        assert source.read <= 20 + 5 * (2 if saving else 1)
    assert most == 5
    assert len(sim.ledger) <= 30


# -- misuse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "single", ["a prompt", b"a prompt", {"prompt": "a"}, GenerateRequest("a"), 5, None]
)
async def test_one_request_is_no_batch(single: object) -> None:
    """A single request handed to `map` is refused before anything is sent."""
    async with Simulator() as sim, session_at(sim.url) as session:
        with pytest.raises(InvalidRequestError):
            session.map(single)  # type: ignore[arg-type]  # the misuse under test
    assert sim.ledger.posts_received == 0


async def test_a_bare_iteration_is_refused() -> None:
    """Without `async with` nobody would stop the reading; nothing is sent."""
    async with Simulator() as sim, session_at(sim.url) as session:
        with pytest.raises(ConfigurationError, match="async with"):
            aiter(session.map(["a"]))
    assert sim.ledger.posts_received == 0


async def test_an_outcome_without_a_picture_raises_its_error() -> None:
    """`outcome.image` raises a fresh copy of the error of an item that has none."""
    async with Simulator(durations=0.0) as sim, session_at(sim.url) as session:
        outcome: Outcome = (await session.map(["nsfw"]).collect())[0]
    assert outcome.state is TaskState.FAILED
    read: Callable[[], object] = lambda: outcome.image  # noqa: E731 - raised where it is called
    for _ in range(2):
        with pytest.raises(GenerationError) as caught:
            read()
        assert caught.value is not outcome.error
        assert str(caught.value) == str(outcome.error)
