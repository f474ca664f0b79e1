"""What a newcomer tries first: the simulator's example, its knobs one by one, an outage."""

import ast
import asyncio
import inspect
import textwrap
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import pytest

import fluxflex
import fluxflex.simulator
from fluxflex import GenerationError, TaskState
from fluxflex.errors import (
    AuthenticationError,
    ContentPolicyError,
    InsufficientBalanceError,
    RequestRejectedError,
)
from fluxflex.simulator import (
    Durations,
    Faults,
    Manual,
    Shapes,
    Simulator,
    faults,
    fingerprint,
    replies,
)
from tests.stories.stage import KEY, NOTHING, finish, session_at, until


def _example(text: str | None) -> str:
    """Return the indented part of a docstring."""
    lines = (text or "").splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ")))


async def test_the_example_of_the_simulator_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The first lines anybody reads about it work as they stand."""
    code = compile(
        _example(fluxflex.simulator.__doc__),
        "the example",
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )
    names = {"Simulator": Simulator, "fluxflex": fluxflex}
    done = eval(code, names)  # noqa: S307 - the project's own example
    assert inspect.iscoroutine(done)
    await done
    assert capsys.readouterr().out == "0.04\n"


async def test_the_example_of_the_faults_runs() -> None:
    """The scripts in the docstring of `faults` are scripts."""
    script = eval(_example(faults.__doc__).strip().rstrip(","), vars(faults))  # noqa: S307 - as above
    assert isinstance(script, Faults)
    async with Simulator(durations=0.0, faults=script) as sim, session_at(sim.url) as session:
        await session.generate("first")
        with pytest.raises(fluxflex.SubmitUncertainError):
            await session.submit("second")


async def test_a_picture_from_prompt_to_file(tmp_path: Path) -> None:
    """A real PNG lands where it should."""
    async with Simulator(durations=0.0) as sim, session_at(sim.url) as session:
        image = await session.generate("a lighthouse in fog", aspect_ratio="16:9", quality="2K")
        path = await image.save(tmp_path / "lighthouse.png")
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    [entry] = sim.ledger.entries
    assert entry.payload == {
        "prompt": "a lighthouse in fog",
        "aspect_ratio": "16:9",
        "quality": "2K",
    }
    assert image.cost == entry.price == Decimal("0.06")
    assert f'src="{image.url}"' in image._repr_html_()


async def test_any_key_will_do_unless_some_are_good() -> None:
    """No key is checked by default; with `api_keys` another is refused with 401."""
    async with Simulator(durations=0.0, api_keys=["good", KEY]) as sim:
        async with fluxflex.Session("bad", base_url=sim.url) as session:
            with pytest.raises(AuthenticationError) as caught:
                await session.submit("a lighthouse")
            with pytest.raises(AuthenticationError):
                await session.account()
        async with session_at(sim.url) as session:
            await session.generate("a lighthouse")
    assert caught.value.status == 401
    assert sim.ledger.keys_at(sim.url.removeprefix("http://")) == {
        fingerprint("bad"),
        fingerprint(KEY),
    }


async def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As does the address, where neither is given."""
    async with Simulator(durations=0.0, api_keys=[KEY]) as sim:
        monkeypatch.setenv("UNIFICALLY_API_KEY", "another")
        monkeypatch.setenv("FLUXFLEX_API_KEY", KEY)
        monkeypatch.setenv("FLUXFLEX_BASE_URL", sim.url + "/")
        async with fluxflex.Session(poll=fluxflex.FixedPolling(0.001)) as session:
            await session.generate("a lighthouse")
    assert len(sim.ledger) == 1


async def test_an_empty_account_is_told() -> None:
    """When the balance does not reach, nothing more is bought."""
    async with (
        Simulator(durations=0.0, balance_usd=Decimal("0.05")) as sim,
        session_at(sim.url) as session,
    ):
        await session.generate("the only one")
        with pytest.raises(InsufficientBalanceError):
            await session.submit("another")
        assert (await session.account()).balance_usd == Decimal("0.01")
        assert session.statistics().spent == sim.ledger.billed_usd == Decimal("0.04")


async def test_failures_come_as_errors() -> None:
    """A failed task raises where it is awaited, and a forbidden word is a matter of policy."""
    async with (
        Simulator(durations=0.0, failure_rate=1.0, forbidden_words=["gun"]) as sim,
        session_at(sim.url) as session,
    ):
        with pytest.raises(GenerationError, match="Generation failed") as failed:
            await session.generate("a lighthouse")
        with pytest.raises(ContentPolicyError, match="rephrase") as refused:
            await session.generate("a GUN")
    assert type(failed.value) is GenerationError
    assert [failed.value.task_id, refused.value.task_id] == [
        entry.task_id for entry in sim.ledger.entries
    ]


async def test_the_providers_limits_are_kept_by_waiting() -> None:
    """Where the provider takes fewer at once than there are slots, the rest waits its turn."""
    async with (
        Simulator(durations=0.002, max_in_flight=3, limit_retry_after=0.001) as sim,
        session_at(sim.url, concurrency=10) as session,
    ):
        outcomes = await session.map(f"study {n}" for n in range(30)).collect()
    assert all(outcome.ok for outcome in outcomes)
    assert sim.ledger.max_in_flight <= 3
    assert sim.ledger.duplicates() == {}
    assert len(sim.ledger) == 30


async def test_time_can_be_pressed() -> None:
    """At speed, minutes of tasks take milliseconds, in the order of their lengths."""
    async with (
        Simulator(durations=Durations(), speed=5000, seed=1) as sim,
        session_at(sim.url) as session,
    ):
        outcomes = await session.map(f"study {n}" for n in range(20)).collect()
    assert all(outcome.ok for outcome in outcomes)
    lengths = [entry.due - entry.accepted_at for entry in sim.ledger.entries]
    assert min(lengths) > 5
    assert len(set(lengths)) == 20


async def test_tasks_are_finished_and_failed_by_hand() -> None:
    """With `Manual` nothing happens before the test says so."""
    async with Simulator(durations=Manual()) as sim, session_at(sim.url) as session:
        first, second = await session.submit("a"), await session.submit("b")
        assert await first.wait(timeout=0.002) is TaskState.RUNNING
        finish(sim, first)
        sim.fail(str(second.task_id), code="E1", message="out of paint")
        assert (await first).task_id == first.task_id
        with pytest.raises(GenerationError, match="out of paint") as caught:
            await second
    assert caught.value.code == "e1"


async def test_an_outage_loses_nothing() -> None:
    """While the provider is away tasks are followed on, and new submits are tried again."""
    async with Simulator(durations=Manual()) as sim:
        policy = fluxflex.RetryPolicy(attempts=1000, initial=0.001, maximum=0.001)
        async with session_at(sim.url, retry=policy) as session:
            running = await session.submit("before the outage")
            await sim.stop()
            during = asyncio.create_task(session.submit("during the outage"))
            await until(lambda: session.statistics().retries >= 2)
            looks = session.statistics().polls
            await until(lambda: session.statistics().polls >= looks + 2)
            await sim.start()
            after = await during
            finish(sim, running, after)
            images = [await running, await after]
            assert session.statistics().reserved == NOTHING
    assert [image.task_id for image in images] == [entry.task_id for entry in sim.ledger.entries]
    assert sim.ledger.duplicates() == {}


async def test_a_request_that_the_provider_refuses() -> None:
    """What our own rules let through and the provider does not costs nothing."""
    async with Simulator(durations=0.0) as sim:
        sim.faults = Faults(
            submit=faults.when(
                lambda arrival: "dragon" in str(arrival.payload.get("prompt")),
                faults.error(422, code="validation_error", message="No dragons"),
            )
        )
        async with session_at(sim.url) as session:
            with pytest.raises(RequestRejectedError, match="No dragons"):
                await session.submit("a dragon")
            await session.generate("a lighthouse")
    assert set(sim.ledger.by_prompt()) == {"a lighthouse"}


SHAPES = (
    [Shapes(accepted=name) for name in [*replies.ACCEPTED, replies.ALREADY_COMPLETED]]
    + [Shapes(running=name) for name in replies.RUNNING]
    + [Shapes(completed=name) for name in replies.COMPLETED if "without-image" not in name]
)


@pytest.mark.parametrize("shapes", SHAPES, ids=lambda shapes: repr(shapes).partition("(")[2])
async def test_every_shape_of_good_news_is_understood(shapes: Shapes) -> None:
    """Whichever way the provider says it, the picture arrives."""
    seen = asyncio.Event()
    async with (
        Simulator(durations=Manual(), shapes=shapes, pictures=lambda _: b"\xff\xd8\xff") as sim,
        session_at(sim.url, on_event=lambda _: seen.set()) as session,
    ):
        handle = await session.submit("a lighthouse")
        await sim.wait_for(lambda ledger: ledger.status_requests >= 2)
        finish(sim, handle)
        image = await handle
        assert await image.read() == b"\xff\xd8\xff"
    assert seen.is_set()


async def test_a_submit_that_is_answered_with_the_picture() -> None:
    """Where the reply to the submit is already completed, nothing is asked again."""
    shapes = Shapes(accepted=replies.ALREADY_COMPLETED)
    async with Simulator(durations=0.0, shapes=shapes) as sim, session_at(sim.url) as session:
        image = await session.generate("a lighthouse")
        after = session.statistics()
    assert image.task_id == sim.ledger.entries[0].task_id
    assert sim.ledger.status_requests == 0
    assert (after.accepted, after.completed, after.in_flight) == (1, 1, 0)
    assert after.spent == sim.ledger.billed_usd


@pytest.mark.parametrize("name", replies.FAILED)
async def test_every_shape_of_bad_news_is_understood(name: str) -> None:
    """Whichever way the provider says why, the error repeats it."""
    async with (
        Simulator(durations=Manual(), shapes=Shapes(failed=name)) as sim,
        session_at(sim.url) as session,
    ):
        handle = await session.submit("a lighthouse")
        sim.fail(str(handle.task_id), message="out of paint")
        with pytest.raises(GenerationError, match="out of paint") as caught:
            await handle
    assert (caught.value.task_id, caught.value.charged) == (handle.task_id, "unknown")


async def test_completed_without_a_picture_is_a_failure() -> None:
    """Good news without a picture is bad news, and says so."""
    shapes = Shapes(completed="completed-without-image")
    async with Simulator(durations=0.0, shapes=shapes) as sim, session_at(sim.url) as session:
        with pytest.raises(GenerationError) as caught:
            await session.generate("a lighthouse")
    assert caught.value.code == "no_image"


Verb = Callable[[fluxflex.Session], Awaitable[object]]
MISTAKES: dict[str, Verb] = {
    "blank": lambda session: session.submit(" "),
    "no prompt": lambda session: session.submit({}),
    "a number": lambda session: session.submit(5),  # type: ignore[arg-type]  # the mistake
    "an unknown field": lambda session: session.submit("a", size="2K"),
    "several": lambda session: session.submit("a", steps=0, cfg=99, quality="8K"),
    "another API's": lambda session: session.submit("a", aspect_ratio="21:9"),
}


@pytest.mark.parametrize("verb", MISTAKES.values(), ids=MISTAKES)
async def test_mistakes_are_found_before_anything_is_sent(verb: Verb) -> None:
    """An invalid request costs nothing, names its fields and holds no slot."""
    async with Simulator() as sim, session_at(sim.url, concurrency=1) as session:
        with pytest.raises(fluxflex.InvalidRequestError) as caught:
            await verb(session)
        assert session.statistics().in_flight == 0
    assert caught.value.faults
    assert isinstance(caught.value, ValueError)
    assert sim.ledger.posts_received == 0


async def test_an_observer_that_raises_affects_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """`on_event` is the user's: what it raises is logged, the task goes on."""

    def broken(_: fluxflex.Change) -> None:
        raise RuntimeError("the user's dashboard is down")

    async with Simulator(durations=0.0) as sim, session_at(sim.url, on_event=broken) as session:
        image = await session.generate("a lighthouse")
    assert image.task_id == sim.ledger.entries[0].task_id
    assert "dashboard is down" in caplog.text
