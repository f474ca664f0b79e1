"""Callbacks after a restart: with the same secret and journal they find their tasks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import fluxflex
from fluxflex import JournalEntry, TaskState, Timeouts
from fluxflex.errors import SubmitUncertainError
from tests.aio.fakes import BASE, SENT, FakeTransport, accepted, completed, settle
from tests.stories.caller import JSON, URL, Stage, done


async def entries(journal: Path) -> list[JournalEntry]:
    """Return what stands in a journal."""
    return [entry async for entry in fluxflex.read_journal(journal)]


async def opened(stage: Stage) -> Stage:
    """Open the session of a stage."""
    await stage.session.open()
    return stage


@pytest.mark.parametrize("resumed", [False, True])
async def test_late_after_a_restart(tmp_path: Path, *, resumed: bool) -> None:
    """With the same secret and journal the task is found by the id in the body."""
    journal = tmp_path / "journal.db"
    first = await opened(Stage(journal=journal))
    await first.session.submit("a")
    await first.session.aclose(drain=0)
    path = first.path()
    text = "".join(str(entry) for entry in await entries(journal))
    assert path.rpartition("/")[2] not in text + repr(journal.read_bytes())

    second = await opened(Stage(journal=journal))
    handles = await second.session.resume() if resumed else []
    raw = json.dumps(done("t1")).encode()
    assert await second.receiver.receive("POST", path, JSON, raw) == 200
    await settle()
    [handle] = handles or await second.session.resume()
    assert (await handle).url.endswith("right.png")
    assert second.counts() == {"received": 1, "late": 1}
    await second.session.aclose()
    [entry] = await entries(journal)
    assert entry.state is TaskState.COMPLETED
    assert entry.result is not None
    assert entry.result.by_callback


async def test_an_uncertain_one_of_an_earlier_process_is_adopted(tmp_path: Path) -> None:
    """The token names the journal's entry, which is all there is of a submit without a reply."""
    journal = tmp_path / "journal.db"
    fake = FakeTransport().script("submit", SENT)
    first = await opened(Stage(fake, journal=journal, timeout=Timeouts(adopt=0.001)))
    with pytest.raises(SubmitUncertainError):
        await first.session.submit("a")
    await first.session.aclose()

    second = await opened(Stage(journal=journal))
    assert len(second.session.uncertain()) == 1
    raw = json.dumps(done("lost")).encode()
    await second.receiver.receive("POST", first.path(), JSON, raw)
    await settle()
    assert second.session.uncertain() == []
    assert second.session.statistics().uncertain == 0
    await second.receiver.receive("POST", first.path(), JSON, raw)
    await second.receiver.receive("POST", first.path(), JSON, json.dumps(done("x")).encode())
    await settle()
    assert second.counts() == {"received": 3, "late": 1, "duplicate": 1, "unknown": 1}
    [handle] = await second.session.resume()
    assert (await handle).task_id == "lost"
    await second.session.aclose()
    [entry] = await entries(journal)
    assert (entry.state, entry.task_id) == (TaskState.COMPLETED, "lost")


async def test_a_token_of_an_earlier_session_is_not_repeated_either(tmp_path: Path) -> None:
    """A reply about a task that was sent before the restart shows the URL that it was sent with."""
    journal = tmp_path / "journal.db"
    first = await opened(Stage(journal=journal))
    await first.session.submit("a")
    await first.session.aclose(drain=0)
    token = first.path().rpartition("/")[2]

    fake = FakeTransport().rule("status", lambda _: completed("t1", callback_url=f"{URL}/{token}"))
    second = await opened(Stage(fake, journal=journal, poll=fluxflex.FixedPolling(1)))
    [handle] = await second.session.resume()
    image = await handle
    assert image.raw["callback_url"] == f"{URL}/***"
    await second.session.aclose()
    text = "".join(str(entry) for entry in await entries(journal))
    assert token not in text + repr(journal.read_bytes())


async def test_a_token_opens_its_own_task_alone(tmp_path: Path) -> None:
    """That of one task, leaked, says nothing about another, after a restart as before it."""
    journal = tmp_path / "journal.db"
    first = await opened(Stage(journal=journal))
    for name in ("a", "b"):
        await first.session.submit(name)
    await first.session.aclose(drain=0)

    second = await opened(Stage(journal=journal))
    handles = await second.session.resume()
    raw = json.dumps(done("t2", "forged")).encode()
    assert await second.receiver.receive("POST", first.path(0), JSON, raw) == 200
    await settle()
    assert [handle.state for handle in handles] == [TaskState.RUNNING, TaskState.RUNNING]
    assert second.counts() == {"received": 1, "unknown": 1}
    await second.session.aclose(drain=0)


@pytest.mark.parametrize("kept", [False, True])
async def test_a_token_of_elsewhere_ends_no_task_of_this_session(
    tmp_path: Path, *, kept: bool
) -> None:
    """What a session sent itself is told by a token of its own, whatever secret is shared."""
    other = await opened(Stage(journal=tmp_path / "other.db" if kept else None))
    await other.session.submit("a")
    await other.session.aclose(drain=0)

    stage = await opened(Stage(journal=tmp_path / "journal.db" if kept else None))
    handle = await stage.session.submit("b")
    raw = json.dumps(done(str(handle.task_id), "forged")).encode()
    assert await stage.receiver.receive("POST", other.path(), JSON, raw) == 200
    await settle()
    assert handle.state is TaskState.RUNNING
    assert stage.counts() == {"received": 1, "unknown": 1}
    await stage.session.aclose(drain=0)


async def test_a_folder_of_journals_is_as_good_as_a_file(tmp_path: Path) -> None:
    """What earlier processes left there is known by its tokens, however often it was taken over."""
    folder = tmp_path / "journals"
    folder.mkdir()
    fake = FakeTransport().script("submit", SENT, accepted("t1"), accepted("t2"))
    first = await opened(Stage(fake, journal=folder, timeout=Timeouts(adopt=0.001)))
    with pytest.raises(SubmitUncertainError):
        await first.session.submit("a")
    for name in ("b", "c"):
        await first.session.submit(name)
    await first.session.aclose(drain=0)
    paths = [first.path(number) for number in range(3)]

    between = await opened(Stage(journal=folder))
    await between.session.resume()
    await between.session.aclose(drain=0)

    token = paths[1].rpartition("/")[2]
    repeats = FakeTransport().rule(
        "status", lambda _: completed("t1", callback_url=f"{URL}/{token}")
    )
    last = await opened(Stage(repeats, journal=folder, poll=fluxflex.FixedPolling(1)))
    handles = await last.session.resume()
    for path, body in (
        (paths[0], done("lost")),
        (paths[1], done("t2", "forged")),
        (paths[2], done("t2")),
    ):
        await last.receiver.receive("POST", path, JSON, json.dumps(body).encode())
    await settle()
    assert last.session.uncertain() == []
    assert last.counts() == {"received": 3, "late": 2, "unknown": 1}
    images = {image.task_id: image for image in await asyncio.gather(*handles)}
    assert images["t2"].url.endswith("right.png")
    assert images["t1"].raw["callback_url"] == f"{URL}/***"
    await last.session.aclose()
    [journal] = folder.glob("*.db")
    ends = {entry.task_id: entry.state for entry in await entries(journal)}
    assert ends == dict.fromkeys(["lost", "t1", "t2"], TaskState.COMPLETED)


async def test_a_replayed_picture_is_guarded_too(tmp_path: Path) -> None:
    """That its URL came by callback is kept in the journal, and told with the picture again."""
    journal = tmp_path / "journal.db"
    guards = []
    for first in (True, False):
        stage = await opened(Stage(journal=journal))
        async with stage.session.map(["a"], run="catalogue") as batch:
            while first and stage.session.statistics().accepted == 0:  # noqa: ASYNC110 - the disk is asked
                await asyncio.sleep(0)
            if first:
                await stage.call(done("t1"))
            [outcome] = [outcome async for outcome in batch]
        guards.append((outcome.replayed, outcome.image.guarded_by))
        await stage.session.aclose()
    assert guards == [(False, BASE), (True, BASE)]
