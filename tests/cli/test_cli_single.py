"""`fluxflex generate`, `status` and `wait`."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fluxflex import TaskState
from fluxflex.cli import single
from fluxflex.cli.exits import SignalledError
from fluxflex.cli.interrupts import stoppable
from fluxflex.cli.talk import Talk
from fluxflex.cli.target import Target
from fluxflex.simulator import Faults, Manual, Shapes, Simulator, faults
from tests.cli import cli_helpers as shared
from tests.cli.cli_helpers import PNG, Provider, Said

Run = Callable[..., Said]
Provide = Callable[..., Provider]

room, run, provide = shared.room, shared.run, shared.provide


def test_one_image_is_named_and_saved(room: Path, run: Run, provide: Provide) -> None:
    """Without `-o` the name tells prompt and task, and stdout has the path only."""
    provider = provide()
    options = ("--aspect-ratio", "16:9", "--quality", "2K", "--steps", 30, "--cfg", 4.5)
    urls = ("--image-url", "https://example.com/a.png", "--image-url", "https://example.com/b.png")
    said = run("generate", "A sea, calm", *options, *urls, "--base-url", provider.url)
    assert said.code == 0
    (entry,) = provider.ledger.entries
    assert said.lines == [f"a-sea-calm-{entry.task_id[:8]}.png"]
    assert (room / said.lines[0]).read_bytes() == PNG
    assert entry.payload == {
        "prompt": "A sea, calm",
        "aspect_ratio": "16:9",
        "quality": "2K",
        "steps": 30,
        "cfg": 4.5,
        "image_urls": ["https://example.com/a.png", "https://example.com/b.png"],
    }
    assert f"Accepted as task {entry.task_id}." in said.err
    assert f"Saved as {said.lines[0]}, $0.06 spent" in said.err


def test_a_file_of_ones_own(room: Path, run: Run, provide: Provide) -> None:
    """`-o FILE` is where it goes; a file that exists is refused before anything is bought."""
    provider = provide()
    command = ("generate", "a sea", "-o", "deep/x.png", "--base-url", provider.url)
    assert run(*command).lines == ["deep/x.png"]
    said = run(*command)
    assert said.code == 2
    assert "deep/x.png exists and is not overwritten" in said.err
    assert provider.ledger.posts_received == 1
    assert (room / "deep" / "x.png").read_bytes() == PNG


def test_a_rehearsal_needs_no_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--simulate` brings a provider of its own and says that nothing is bought."""
    monkeypatch.delenv("FLUXFLEX_API_KEY")
    said = run("generate", "a sea", "--simulate", "--speed", 1000, "--json")
    assert said.code == 0
    row = json.loads(said.out)
    assert (row["state"], row["simulated"], row["cost_usd"]) == ("COMPLETED", True, 0.04)
    assert Path(row["path"]).read_bytes().startswith(PNG[:8])
    assert "Simulated: nothing is bought" in said.err
    assert "(simulated: nothing was bought)" in said.err


def test_a_rehearsal_passes_by_a_proxy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded provider is in this very process: no proxy can reach it."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.org")
    assert run("generate", "a sea", "--simulate", "--speed", 1000).code == 0


def test_every_fault_of_a_request_is_told(run: Run) -> None:
    """An invalid request names all its faults and ends with 8."""
    said = run("generate", " ", "--steps", 99, "--cfg", 99, "--quality", "8K")
    assert said.code == 8
    for field in ("prompt", "steps", "cfg", "quality"):
        assert f"{field} must" in said.err


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (faults.error(401, code="authentication_failed"), 3, "Check the API key"),
        (faults.error(402), 6, "Top up the account"),
        (faults.error(422, message="cfg is odd"), 8, "cfg is odd"),
        (faults.accept_then_drop(), 10, "It may have been billed."),
    ],
)
def test_what_the_provider_says_no_to(
    run: Run, provide: Provide, fault: faults.Fault, code: int, words: str
) -> None:
    """A refusal ends with its code, in words that say whether it cost money; one POST each."""
    provider = provide(faults=Faults(submit=[fault]))
    said = run("generate", "a sea", "--base-url", provider.url, "--json")
    assert said.code == code
    assert words in said.err
    assert provider.ledger.posts_received == 1
    row = json.loads(said.out)
    assert row["error"]["charged"] == ("unknown" if code == 10 else "no")
    assert row["state"] == ("UNCERTAIN" if code == 10 else "QUEUED")


def test_a_task_that_fails_or_takes_too_long(run: Run, provide: Provide) -> None:
    """A failed task ends with 9; one that takes too long with 7, and the way to carry on."""
    assert run("generate", "nsfw", "--base-url", provide().url).code == 9
    provider = provide(durations=1e6)
    said = run("generate", "a sea", "--timeout", 0.01, "--base-url", provider.url)
    assert said.code == 7
    assert f"fluxflex wait {provider.ledger.entries[0].task_id}" in said.err


def test_a_picture_that_cannot_be_written(
    run: Run, provide: Provide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place that turns out bad ends with 1: the picture is paid for and can still be had."""
    monkeypatch.setattr("os.access", lambda *_: True)
    provider = provide()
    said = run("generate", "a sea", "-o", "/proc/none/x.png", "--base-url", provider.url)
    assert said.code == 1
    assert "could not be written" in said.err
    assert f"fluxflex wait {provider.ledger.entries[0].task_id}" in said.err


# -- wait and status --------------------------------------------------------------------------


@pytest.fixture
def task(provide: Provide, run: Run) -> tuple[Provider, str]:
    """Give a provider that has one running task, which its buyer gave up."""
    provider = provide(durations=Manual())
    assert run("generate", "x", "--timeout", 0.01, "--base-url", provider.url).code == 7
    return provider, provider.ledger.entries[0].task_id


def test_wait_follows_a_task_to_its_end(run: Run, task: tuple[Provider, str]) -> None:
    """The picture of a task that was given up is saved, and nothing new is bought."""
    provider, task_id = task
    provider.finish_all()
    said = run("wait", task_id, "--base-url", provider.url)
    assert said.code == 0
    assert said.lines == [f"image-{task_id[:8]}.png"]
    again = run("wait", task_id, "--base-url", provider.url, "-o", "y", "--json")
    row = json.loads(again.out)
    assert (row["path"], row["task_id"], row["prompt"]) == ("y.png", task_id, None)
    assert provider.ledger.posts_received == 1


def test_wait_ends_with_its_patience(run: Run, task: tuple[Provider, str]) -> None:
    """`--timeout` gives up on a task that still runs."""
    provider, task_id = task
    said = run("wait", task_id, "--timeout", 0.01, "--base-url", provider.url)
    assert said.code == 7


def test_status_looks_once(
    run: Run, task: tuple[Provider, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running task is told after one look; a completed one with its URL."""
    provider, task_id = task
    monkeypatch.setenv("FLUXFLEX_BASE_URL", provider.url)
    before = provider.ledger.status_requests
    assert run("status", task_id) == Said(0, "RUNNING\n", "")
    assert provider.ledger.status_requests == before + 1
    row = json.loads(run("status", task_id, "--json").out)
    assert row == {
        "task_id": task_id,
        "state": "RUNNING",
        "word": "processing",
        "urls": [],
        "error": None,
    }
    provider.finish_all()
    url = f"{provider.url}/files/{task_id}.png"
    assert run("status", task_id).lines == ["COMPLETED", url]


def test_status_tells_why_a_task_failed(run: Run, provide: Provide) -> None:
    """A failed task ends with 9, its state on stdout and its reason on stderr."""
    provider = provide()
    assert run("generate", "nsfw", "--base-url", provider.url).code == 9
    task_id = provider.ledger.entries[0].task_id
    said = run("status", task_id, "--base-url", provider.url)
    assert (said.code, said.out) == (9, "FAILED\n")
    assert "content policies" in said.err
    row = json.loads(run("status", task_id, "--json", "--base-url", provider.url).out)
    assert row["error"]["type"] == "ContentPolicyError"


def test_status_with_a_bad_key(run: Run, provide: Provide) -> None:
    """A refusal is no state of the task: nothing goes to stdout."""
    said = run("status", "some-id", "--base-url", provide(api_keys=["other"]).url)
    assert (said.code, said.out) == (3, "")


async def test_status_of_a_provider_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an answer the look is given up, and nothing is claimed about task or money."""
    monkeypatch.setattr(single, "_ONE_LOOK", 0.05)
    async with Simulator(faults=Faults(status=lambda _: faults.gateway(502))) as simulator:
        how = single.Single(target=Target(base_url=simulator.url))
        assert await single.status("some-id", how, Talk()) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "fluxflex: The provider says nothing about task some-id within 0.05 seconds: "
        "look at the network and the base URL. Looking costs nothing.\n"
    )


def test_one_look_is_short() -> None:
    """A dead provider is told within ten seconds."""
    assert single._ONE_LOOK < 10
    assert single._QUICK.request < single._ONE_LOOK


def test_wait_for_a_provider_that_says_nothing(run: Run) -> None:
    """Nobody said that there is such a task: it is not claimed to be billed."""
    said = run("wait", "abc", "--timeout", 0.01, "--base-url", "http://127.0.0.1:9")
    assert said.code == 7
    assert "is billed" not in said.err
    assert "To go on, at no further cost: fluxflex wait abc" in said.err
    assert "attach" not in said.err


def test_a_rehearsal_that_takes_too_long_leaves_nothing(run: Run) -> None:
    """What the simulator ran ended with it: nothing was paid for, nothing can be fetched."""
    said = run("generate", "x", "--simulate", "--timeout", 0.001)
    assert said.code == 7
    assert "The simulated task ended with the simulator; nothing was bought." in said.err
    assert "billed" not in said.err
    assert "fluxflex wait" not in said.err


@pytest.mark.parametrize("command", [("generate", "x"), ("batch", "p.txt", "-o", "out")])
def test_a_rehearsal_has_no_address(run: Run, command: tuple[str, ...]) -> None:
    """`--simulate` and `--base-url` name two places."""
    said = run(*command, "--simulate", "--base-url", "http://127.0.0.1:9")
    assert said.code == 2
    assert "--simulate and --base-url exclude each other." in said.err


# -- signals ----------------------------------------------------------------------------------


def how_to(simulator: Simulator) -> single.Single:
    """Return what the commands share, for a simulator in this loop."""
    return single.Single(
        target=Target(base_url=simulator.url),
        place=lambda _prompt, task_id: Path(task_id),
        as_json=True,
    )


async def test_a_signal_while_the_task_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C lets go of the task and says which command fetches its picture."""
    async with Simulator(durations=Manual()) as simulator:
        work = asyncio.ensure_future(single.generate({"prompt": "x"}, how_to(simulator), Talk()))
        await simulator.wait_for(lambda ledger: len(ledger) == 1)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(SignalledError) as caught:
            await work
    assert caught.value.number == signal.SIGINT
    (entry,) = simulator.ledger.entries
    said = capsys.readouterr()
    assert f"fluxflex wait {entry.task_id}" in said.err
    assert json.loads(said.out)["task_id"] == entry.task_id


async def test_impatience_loses_no_task_id(capsys: pytest.CaptureFixture[str]) -> None:
    """More signals while the id of a sent request is awaited change nothing."""
    slow = Faults(submit=lambda _: faults.slow(after=0.1))
    async with Simulator(durations=Manual(), faults=slow) as simulator:
        work = asyncio.ensure_future(single.generate({"prompt": "x"}, how_to(simulator), Talk()))
        await simulator.wait_for(lambda ledger: len(ledger) == 1)
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)
        with pytest.raises(SignalledError):
            await work
    (entry,) = simulator.ledger.entries
    assert f"fluxflex wait {entry.task_id}" in capsys.readouterr().err


async def test_a_signal_before_anything_was_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    """SIGTERM while the provider turns requests away buys nothing, and says so."""
    busy = Faults(submit=lambda _: faults.rate_limited(retry_after=60))
    async with Simulator(faults=busy) as simulator:
        work = asyncio.ensure_future(single.generate({"prompt": "x"}, how_to(simulator), Talk()))
        await simulator.wait_for_posts(1)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(SignalledError) as caught:
            await work
    assert caught.value.number == signal.SIGTERM
    assert not simulator.ledger.entries
    assert "Interrupted: nothing was bought." in capsys.readouterr().err


def test_where_an_unanswered_request_stands() -> None:
    """Interrupted while nobody knows whether it was accepted: the money may be gone."""
    seen = single.Seen(Talk(), state=TaskState.UNCERTAIN)
    how = single.Single(target=Target())
    assert single._where_it_stands(seen, how).endswith("it may have been billed.")


def test_where_a_task_of_others_stands() -> None:
    """Interrupted while waiting: whether the task was paid for is not ours to say."""
    how = single.Single(target=Target(), attached="t1")
    words = single._where_it_stands(single.Seen(Talk(), task_id="t1"), how)
    assert words == "Interrupted. To go on, at no further cost: fluxflex wait t1"


def test_where_a_rehearsed_task_stands() -> None:
    """An interrupted rehearsal leaves nothing behind."""
    how = single.Single(target=Target(simulate=True))
    words = single._where_it_stands(single.Seen(Talk(), task_id="t1"), how)
    assert words.endswith("The simulated task ended with the simulator; nothing was bought.")


async def test_work_that_is_cancelled_from_outside_stays_cancelled() -> None:
    """Only a signal becomes a `SignalledError`."""
    work = asyncio.ensure_future(stoppable(asyncio.Event().wait()))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


def test_a_reply_that_is_completed_at_once(run: Run, provide: Provide) -> None:
    """A submit may be answered with the finished picture."""
    provider = provide(shapes=Shapes(accepted="already-completed"))
    assert run("generate", "a sea", "--base-url", provider.url).code == 0
