"""Named runs: which item is which, what is bought, and what is told from the journal."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxflex import GenerateRequest, Outcome, RetryPolicy, TaskState
from fluxflex._aio import runs
from fluxflex._aio.reading import read_journal
from fluxflex._aio.runs import Run
from fluxflex._aio.store import Store
from fluxflex._core.exchange import Call
from fluxflex.errors import (
    BudgetExceededError,
    ConfigurationError,
    GenerationError,
    InvalidRequestError,
    JournalError,
    RequestRejectedError,
    SessionClosedError,
    SubmitUncertainError,
)
from tests.aio.disk import Disk, money, quick, rows
from tests.aio.fakes import (
    PNG,
    SENT,
    FakeSession,
    FakeTransport,
    Got,
    Late,
    Step,
    accepted,
    failed,
    page,
    picture,
    refused,
)

pytestmark = [pytest.mark.looptime(start=0), pytest.mark.usefixtures("disk")]

PRICE = Decimal("0.04")
ABC = ["a", "b", "c"]


def unlike(prefix: str, fake: FakeTransport) -> FakeTransport:
    """Let the tasks of another provider's day have ids of their own."""
    ids = iter(range(1, 10_000))

    def submit(_: Call) -> Step:
        task_id = f"{prefix}{next(ids)}"
        fake.due[task_id] = asyncio.get_running_loop().time() + fake.seconds
        return accepted(task_id)

    return fake.rule("submit", submit)


async def passed(path: Path, items: Any, *script: Step, **options: Any) -> list[Outcome]:
    """Do one pass over a run in a session of its own, and return the outcomes."""
    outcomes, _ = await watched(path, items, *script, **options)
    return outcomes


async def watched(
    path: Path, items: Any, *script: Step, **options: Any
) -> tuple[list[Outcome], FakeTransport]:
    """Do the same, and return what was sent as well."""
    of_map = {n: options.pop(n) for n in ("again", "save_to", "ordered") if n in options}
    fake = unlike(f"{len(list(path.parent.iterdir()))}-", FakeTransport())
    fake.script("submit", *script)
    async with quick(fake, journal=path, **options) as session:
        return await session.map(items, run="r", **of_map).collect(), fake


def numbers(outcomes: list[Outcome]) -> list[int]:
    """Return the numbers of outcomes, in the order of the source."""
    return [outcome.number for outcome in outcomes]


# -- matching ---------------------------------------------------------------------------------


async def test_the_same_source_again_buys_nothing(tmp_path: Path) -> None:
    """Everything is told from the journal: ids, pictures, numbers; nothing is sent."""
    path = tmp_path / "j.db"
    first, fake = await watched(path, ABC)
    second, other = await watched(path, iter(ABC))
    assert (fake.posts, other.posts) == (3, 0)
    assert [outcome.replayed for outcome in first + second] == [False] * 3 + [True] * 3
    assert numbers(first) == numbers(second) == [1, 2, 3]
    for before, after in zip(first, second, strict=True):
        assert (after.task_id, after.state, after.ok) == (before.task_id, before.state, True)
        assert after.request == before.request
        assert (after.index, after.item) == (before.index, before.item)
        assert after.image == before.image
        assert after.image.cost == PRICE


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"n": 1}},
        {"callback_url": "https://me.example/hook"},
        {"quality": "1K"},
        {"aspect_ratio": "auto"},
        {"image_urls": []},
        {"steps": None},
    ],
)
async def test_what_asks_for_the_same_picture_is_the_same_item(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """Metadata, callbacks and values that are the defaults change nothing about a picture."""
    path = tmp_path / "j.db"
    await passed(path, ["a"])
    [outcome], fake = await watched(path, [{"prompt": "a", **change}])
    assert (outcome.replayed, fake.posts) == (True, 0)
    assert outcome.request == GenerateRequest.from_dict({"prompt": "a", **change})


@pytest.mark.parametrize(
    "change", [{"prompt": "a "}, {"quality": "2K"}, {"steps": 5}, {"aspect_ratio": "1:1"}]
)
async def test_what_asks_for_another_picture_is_another_item(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """It gets a number of its own and is bought."""
    path = tmp_path / "j.db"
    await passed(path, ["a"])
    [outcome], fake = await watched(path, [{"prompt": "a", **change}])
    assert (outcome.replayed, outcome.number, fake.posts) == (False, 2, 1)


async def test_equal_items_are_told_apart_by_their_occurrence(tmp_path: Path) -> None:
    """The second of two equal items is the second that the journal has; a third is new."""
    path = tmp_path / "j.db"
    first = await passed(path, ["a", "b", "a"])
    assert len({outcome.task_id for outcome in first}) == 3
    second, fake = await watched(path, ["a", "a", "b", "a"])
    assert numbers(second) == [1, 3, 2, 4]
    assert [outcome.replayed for outcome in second] == [True, True, True, False]
    assert [second[at].task_id for at in (0, 1, 2)] == [first[at].task_id for at in (0, 2, 1)]
    assert fake.posts == 1


async def test_runs_are_apart(tmp_path: Path) -> None:
    """An item of another run, or of none, is another item."""
    async with quick(journal=tmp_path / "j.db") as session:
        await session.generate("a")
        for run, expected in (("r", 1), ("s", 1), ("r ", 1), (None, 1)):
            [outcome] = await session.map(["a"], run=run).collect()
            assert (outcome.replayed, outcome.number) == (False, expected)
        assert session.fake.posts == 5


sources = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=8)


class Model:
    """What a run is: numbers by content and occurrence, given once."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int], int] = {}

    def read(self, source: list[str]) -> tuple[list[int], int]:
        """Return the numbers of a pass, and how many of its items are new."""
        seen: Counter[str] = Counter()
        found, before = [], len(self.known)
        for item in source:
            key = item, seen[item]
            seen[item] += 1
            found.append(self.known.setdefault(key, len(self.known) + 1))
        return found, len(self.known) - before


@given(st.lists(sources, min_size=1, max_size=4))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_however_a_source_is_edited(
    tmp_path_factory: pytest.TempPathFactory, passes: list[list[str]]
) -> None:
    """Shuffled, shortened, doubled: numbers stay, and exactly what is new is bought."""
    path = tmp_path_factory.mktemp("run") / "j.db"
    model = Model()

    async def play() -> None:
        store = await Store.open(path, create=True)
        for source in passes:
            expected, new = model.read(source)
            run, found, bought = Run(store, "r"), [], 0
            await run.open()
            for prompt in source:
                request = GenerateRequest(prompt)
                match = await run.match(request.digest)
                found.append(match.number)
                if match.entry is None:
                    bought += 1
                    row = {"id": len(model.known) * 100 + match.number, "state": "COMPLETED"}
                    row |= {"run": "r", "number": match.number, "digest": request.digest}
                    await store.write([row])
                else:
                    assert match.entry.number == match.number
            assert (found, bought) == (expected, new)
        await store.close()

    asyncio.run(play())


async def test_a_long_run_is_read_a_stretch_at_a_time(tmp_path: Path) -> None:
    """In order the file is asked once for many items; only so many are held at once."""
    count = 3000
    store = await Store.open(tmp_path / "j.db", create=True)
    digests = [GenerateRequest(str(n)).digest for n in range(count)]
    await store.write(
        [
            {"id": n + 1, "state": "COMPLETED", "run": "r", "number": n + 1, "digest": digests[n]}
            for n in range(count)
        ],
    )
    asked: list[int] = []

    class Counting(Store):
        async def stretch(self, most: int, where: str, *values: object) -> Any:
            asked.append(most)
            return await super().stretch(most, where, *values)

    run = Run(Counting(store._connection, store.path, store._identity), "r")
    await run.open()
    assert repr(run) == f"<Run 'r': {count} items in the journal>"
    for n, digest in enumerate(digests):
        assert (await run.match(digest)).number == n + 1
        assert len(run._ahead) <= runs._LONGEST
    assert len(asked) < 30
    assert max(asked) == runs._LONGEST
    assert run.new_number() == count + 1
    await store.close()


async def test_digests_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    """What is held in memory is a part of the digest; the file has the whole."""
    store = await Store.open(tmp_path / "j.db", create=True)
    one, two = "0" * 16 + "a" * 16, "0" * 16 + "b" * 16
    row = {"id": 1, "state": "COMPLETED", "run": "r", "number": 1, "digest": one}
    await store.write([row])
    run = Run(store, "r")
    await run.open()
    assert (await run.match(two)).entry is None
    await store.close()


# -- numbers and places -----------------------------------------------------------------------


async def test_numbers_and_paths_are_given_once(tmp_path: Path) -> None:
    """`save_to` is asked once for an item; lines that are gone keep theirs, new ones come after."""
    path, asked = tmp_path / "j.db", []

    def place(index: int, request: GenerateRequest) -> Path:
        asked.append((index, request.prompt))
        return tmp_path / "out" / f"{index:03}-{request.prompt}"

    first = await passed(path, ABC, save_to=place)
    assert [outcome.path for outcome in first] == [
        tmp_path / "out" / f"00{n}-{item}.png" for n, item in enumerate(ABC)
    ]
    second = await passed(path, ["c", "d", "a"], save_to=place)
    assert numbers(second) == [3, 4, 1]
    assert [outcome.path and outcome.path.name for outcome in second] == [
        *("002-c.png", "003-d.png", "000-a.png")
    ]
    assert asked == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]


async def test_a_path_is_kept_from_the_moment_it_is_given(tmp_path: Path) -> None:
    """An item that was read and not bought keeps its number and its place."""
    path = tmp_path / "j.db"
    with pytest.raises(BudgetExceededError):
        await passed(path, ["a"], budget=0, save_to=lambda n, _: tmp_path / f"first-{n}")
    new, old = await passed(path, ["b", "a"], save_to=lambda n, _: tmp_path / f"late-{n}")
    assert (old.number, old.path) == (1, tmp_path / "first-0.png")
    assert (new.number, new.path) == (2, tmp_path / "late-1.png")


async def test_numbers_are_not_given_again_after_items_were_forgotten(tmp_path: Path) -> None:
    """A new item never gets the number, and so the file, of one that was removed."""
    path = tmp_path / "j.db"
    await passed(path, ABC, save_to=tmp_path / "out")
    store = await Store.open(path, create=True)
    await store.forget("number > 1", 0.0)
    await store.close()
    outcomes, fake = await watched(path, ["d", "a", "b"])
    assert numbers(outcomes) == [4, 1, 5]
    assert fake.posts == 2


async def test_invalid_items_have_numbers_and_take_nobody_s(tmp_path: Path) -> None:
    """The outcome is there; no item's number depends on it, whatever pass it is."""
    path = tmp_path / "j.db"
    first = await passed(path, ["a", "", "b"])
    second, fake = await watched(path, ["a", "", "b", "c"])
    assert isinstance(first[1].error, InvalidRequestError)
    assert isinstance(second[1].error, InvalidRequestError)
    valid = [outcome for outcome in first + second if outcome.ok]
    given = {(outcome.number, outcome.item) for outcome in valid}
    assert len({number for number, _ in given}) == len(given) == 3
    assert numbers(first)[0::2] == numbers(second)[0:3:2]
    bad = {first[1].number, second[1].number}
    assert not bad & {number for number, _ in given}
    assert fake.posts == 1
    assert len(rows(path)) == 3


# -- the ends that items had ------------------------------------------------------------------


def mixed() -> FakeTransport:
    """Return a provider that makes the first picture, fails the second, and loses the third."""
    fake = FakeTransport().script("submit", None, None, SENT)
    return fake.rule("status", lambda call: failed("t2") if call.url.endswith("t2") else None)


async def test_each_item_is_given_as_it_ended(tmp_path: Path) -> None:
    """Finished, failed, uncertain: told again with the same error, and nothing is sent."""
    path = tmp_path / "j.db"
    async with quick(mixed(), journal=path, concurrency=1) as session:
        first = await session.map(ABC, run="r").collect()
    assert [outcome.state for outcome in first] == [
        *(TaskState.COMPLETED, TaskState.FAILED, TaskState.UNCERTAIN)
    ]
    async with quick(journal=path) as session:
        second = await session.map(ABC, run="r").collect()
        assert session.fake.posts == 0
        assert [
            str(record.request and record.request.prompt) for record in session.uncertain()
        ] == ["c"]
        assert session.statistics().earlier == 3 * PRICE
    for before, after in zip(first, second, strict=True):
        assert after.replayed
        assert (after.state, after.task_id, after.number) == (
            *(before.state, before.task_id, before.number),
        )
        assert (type(after.error), str(after.error)) == (type(before.error), str(before.error))
    with pytest.raises(GenerationError):
        _ = second[1].image
    with pytest.raises(SubmitUncertainError):
        _ = second[2].image


@pytest.mark.parametrize(
    ("again", "bought"),
    [
        ([TaskState.FAILED], ["b"]),
        ([TaskState.UNCERTAIN], ["c"]),
        ({TaskState.FAILED, TaskState.UNCERTAIN}, ["b", "c"]),
        ((), []),
    ],
)
async def test_again(tmp_path: Path, again: Any, bought: list[str]) -> None:
    """Items are bought once more in entries of their own; the old ones keep id and money."""
    path = tmp_path / "j.db"
    async with quick(mixed(), journal=path, concurrency=1) as session:
        await session.map(ABC, run="r").collect()
    outcomes, other = await watched(path, ABC, again=again, concurrency=1)
    assert other.prompts() == bought
    assert numbers(outcomes) == [1, 2, 3]
    assert [outcome.item for outcome in outcomes if not outcome.replayed] == bought
    entries = [entry async for entry in read_journal(path)]
    old = {entry.request and entry.request.prompt: entry for entry in entries[:3]}
    assert [old[item].replaced for item in ABC] == [item in bought for item in ABC]
    assert (old["b"].task_id, old["b"].spent, old["c"].reserved) == ("t2", PRICE, PRICE)
    assert [(entry.number, entry.run) for entry in entries[3:]] == [
        (ABC.index(item) + 1, "r") for item in bought
    ]
    third, last = await watched(path, ABC, again=[TaskState.FAILED] if "b" in bought else [])
    assert last.posts == 0
    assert {outcome.item for outcome in third if outcome.ok} == {"a", *bought}
    async with quick(journal=path) as session:
        assert session.statistics().earlier == (3 + len(bought)) * PRICE
        assert len(session.uncertain()) == ("c" not in bought)


async def test_a_policy_that_resubmits_buys_what_was_uncertain(tmp_path: Path) -> None:
    """Opted in for attempts, it counts for what the journal has of them too."""
    path = tmp_path / "j.db"
    await passed(path, ["a"], SENT)
    [outcome], fake = await watched(path, ["a"], retry=RetryPolicy(resubmit_uncertain=True))
    assert (outcome.ok, outcome.replayed, fake.posts) == (True, False, 1)


async def test_what_was_not_sent_again_stays_as_it_was(tmp_path: Path) -> None:
    """Asked for again and dropped before that, it is uncertain as before."""
    path = tmp_path / "j.db"
    await passed(path, ["a"], SENT)
    with pytest.raises(BudgetExceededError):
        await passed(path, ["a"], again=[TaskState.UNCERTAIN], budget="0.05")
    async with quick(journal=path) as session:
        assert len(session.uncertain()) == 1
    [outcome], fake = await watched(path, ["a"])
    assert isinstance(outcome.error, SubmitUncertainError)
    assert fake.posts == 0


async def test_what_was_refused_again_stays_as_it_was(tmp_path: Path) -> None:
    """Sent once more and definitely refused, the attempt before it is still uncertain."""
    path = tmp_path / "j.db"
    await passed(path, ["a"], SENT)
    [outcome] = await passed(path, ["a"], refused(422), again=[TaskState.UNCERTAIN])
    assert isinstance(outcome.error, RequestRejectedError)
    async with quick(journal=path) as session:
        assert len(session.uncertain()) == 1
        assert session.statistics().earlier == PRICE
    [outcome], fake = await watched(path, ["a"])
    assert isinstance(outcome.error, SubmitUncertainError)
    assert fake.posts == 0


@pytest.mark.parametrize("again", [[TaskState.COMPLETED], "FAILED", [TaskState.QUEUED], 5, ["b"]])
async def test_again_takes_two_states_only(tmp_path: Path, again: Any) -> None:
    """Anything else is found before anything is sent."""
    async with quick(journal=tmp_path / "j.db") as session:
        with pytest.raises(ConfigurationError, match="again must hold"):
            session.map(ABC, run="r", again=again)


async def test_a_refused_item_is_sent_again(tmp_path: Path) -> None:
    """It was definitely not bought, so the next pass may buy it, in the same entry."""
    path = tmp_path / "j.db"
    [first] = await passed(path, ["a"], refused(422))
    assert isinstance(first.error, RequestRejectedError)
    [second], fake = await watched(path, ["a"])
    assert (second.ok, second.replayed, second.number, fake.posts) == (True, False, 1, 1)
    [row] = rows(path)
    assert (row["attempts"], row["state"], row["error"]) == (1, "COMPLETED", "")
    assert money(row["spent"]) == PRICE


# -- what is still under way ------------------------------------------------------------------


async def test_what_was_accepted_is_followed_and_not_bought_again(tmp_path: Path) -> None:
    """A session that was left leaves tasks behind: the next pass waits for them."""
    path = tmp_path / "j.db"
    session = quick(FakeTransport(seconds=50), journal=path)
    await session.open()
    async with session.map(ABC, run="r"):
        await asyncio.sleep(5)
    await session.aclose(drain=0)
    fake = FakeTransport(seconds=3)
    async with quick(fake, journal=path, concurrency=1) as session:
        outcomes = await session.map(ABC, run="r").collect()
        assert session.statistics().in_flight == 0
    assert fake.posts == 0
    assert [outcome.task_id for outcome in outcomes] == ["t1", "t2", "t3"]
    assert [outcome.ok for outcome in outcomes] == [True] * 3
    assert [row["state"] for row in rows(path)] == ["COMPLETED"] * 3


async def test_followed_by_resume_and_by_a_run_at_once(tmp_path: Path) -> None:
    """Both share the one task; the run's outcome and the handle are the same picture."""
    path = tmp_path / "j.db"
    session = quick(FakeTransport(seconds=50), journal=path)
    await session.open()
    async with session.map(["a"], run="r"):
        await asyncio.sleep(5)
    await session.aclose(drain=0)
    async with quick(FakeTransport(seconds=9), journal=path) as session:
        [handle] = await session.resume()
        [outcome] = await session.map(["a"], run="r").collect()
        assert (await handle) == outcome.image
        assert session.statistics().attached == 1
    assert session.fake.posts == 0


async def test_the_same_run_twice_at_once_is_refused(tmp_path: Path) -> None:
    """Two passes would buy the same items; after the first has ended another may begin."""
    async with quick(journal=tmp_path / "j.db") as session:
        async with session.map(ABC, run="r") as outcomes:
            with pytest.raises(ConfigurationError, match="'r' is under way already"):
                await session.map(ABC, run="r").collect()
            await session.map(["x"], run="other").collect()
            got = [outcome async for outcome in outcomes]
            assert len(got) == 3
        again = await session.map(ABC, run="r").collect()
        assert all(outcome.replayed for outcome in again)
        assert session.fake.posts == 4


async def test_a_run_that_could_not_begin_may_begin_later(tmp_path: Path) -> None:
    """An error at its beginning does not leave the name taken."""
    async with quick(journal=tmp_path / "j.db") as session:
        store = session._remembered._store
        await store.fetch("ALTER TABLE items RENAME TO gone")
        with pytest.raises(JournalError):
            await session.map(ABC, run="r").collect()
        await store.fetch("ALTER TABLE gone RENAME TO items")
        assert len(await session.map(ABC, run="r").collect()) == 3


@pytest.mark.parametrize("answer", [refused(422), SENT, None])
async def test_left_early_a_run_ends_with_its_last_submit(
    tmp_path: Path, answer: Got | None
) -> None:
    """While one of its submits is in the air it is under way; then a next pass ends as usual."""
    fake = FakeTransport(latency=5).script("submit", None if answer is None else Late(answer, 5))
    async with quick(fake, journal=tmp_path / "j.db") as session:
        async with session.map(["a"], run="r"):
            await asyncio.sleep(2)
        with pytest.raises(ConfigurationError, match="under way"):
            await session.map(["a"], run="r").collect()
        await asyncio.sleep(4)
        [outcome] = await session.map(["a"], run="r").collect()
        if answer is SENT:
            assert isinstance(outcome.error, SubmitUncertainError)
        else:
            assert outcome.ok
        bought = fake.posts - (answer is not None)
        assert bought == (answer is not SENT)
        after = session.statistics()
    assert (after.in_flight, after.spent) == (0, bought * PRICE)
    assert after.reserved == (PRICE if answer is SENT else 0)


# -- where it cannot be -----------------------------------------------------------------------


async def test_a_run_needs_a_journal_in_one_file(tmp_path: Path) -> None:
    """Without one, or with a folder of them, it is refused before anything is read."""
    async with FakeSession() as session:
        with pytest.raises(ConfigurationError, match="no journal"):
            session.map(ABC, run="r")
    (tmp_path / "d").mkdir()
    async with quick(journal=tmp_path / "d") as session:
        with pytest.raises(ConfigurationError, match="one file, not a folder"):
            session.map(ABC, run="r")
        assert len(await session.map(ABC).collect()) == 3


@pytest.mark.parametrize("name", ["", "  ", 5, b"r", "r\0x", "r\n"])
async def test_a_run_has_a_name(tmp_path: Path, name: Any) -> None:
    """Text that can be read; anything else is refused."""
    async with quick(journal=tmp_path / "j.db") as session:
        with pytest.raises(ConfigurationError, match="must be a name"):
            session.map(ABC, run=name)


# -- pictures ---------------------------------------------------------------------------------


async def test_a_replayed_picture_can_be_read_and_saved(tmp_path: Path) -> None:
    """It is fetched from where it lies, and then it is collected."""
    path = tmp_path / "j.db"
    await passed(path, ["a", "b"])
    async with quick(journal=path) as session:
        first, second = await session.map(["a", "b"], run="r").collect()
        assert await first.image.read() == PNG
        assert await second.image.save(tmp_path / "b") == tmp_path / "b.png"
        assert await session.resume() == []
    assert [(row["collected"], row["path"]) for row in rows(path)] == [(1, None), (1, "b.png")]


async def test_what_is_saved_is_not_fetched_again(tmp_path: Path) -> None:
    """The outcome says where it lies; a file that is gone is fetched again, to the same place."""
    path, out = tmp_path / "j.db", tmp_path / "out"
    first, fake = await watched(path, ABC, save_to=out)
    assert fake.count("file") == 3
    second, fake = await watched(path, ABC, save_to=out)
    assert fake.count("file") == 0
    assert [outcome.path for outcome in second] == [outcome.path for outcome in first]
    gone = first[1].path
    assert gone is not None
    gone.unlink()
    third, fake = await watched(path, ABC, save_to=tmp_path / "elsewhere")
    assert fake.count("file") == 1
    assert [outcome.path for outcome in third] == [outcome.path for outcome in first]
    assert gone.read_bytes() == PNG
    assert [outcome.replayed for outcome in third] == [True] * 3
    assert fake.posts == 0


async def test_what_was_never_saved_is_saved_by_a_later_pass(tmp_path: Path) -> None:
    """Bought without `save_to`, or with a download that failed: a later pass fetches it."""
    path = tmp_path / "j.db"
    await passed(path, ["a"])
    fake = unlike("x", FakeTransport()).rule("file", lambda _: page(404))
    async with quick(fake, journal=path) as session:
        [lost] = await session.map(["a"], run="r", save_to=tmp_path / "out").collect()
        assert (lost.ok, lost.state) == (False, TaskState.COMPLETED)
        assert len(await session.resume()) == 1  # still not collected
    [outcome], other = await watched(path, ["a"], save_to=tmp_path / "out")
    assert outcome.path is not None
    assert outcome.path.read_bytes() == PNG
    assert other.posts == 0


async def test_a_file_that_was_moved_with_its_journal_is_found(tmp_path: Path) -> None:
    """The folder of a batch may move: its pictures are known by where they lie in it."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    await passed(old / "j.db", ["a"], save_to=old / "out")
    old.rename(new)
    [outcome], fake = await watched(new / "j.db", ["a"], save_to=new / "out")
    assert outcome.path is not None
    assert outcome.path.parent == new / "out"
    assert fake.count("file") == 0


# -- stops, laziness, order -------------------------------------------------------------------


async def test_a_higher_budget_goes_on(tmp_path: Path) -> None:
    """A budget stops the run; what it bought counts the next time, and nothing is bought twice."""
    path = tmp_path / "j.db"
    items = [str(n) for n in range(6)]
    sent: list[str] = []
    for budget, fits in (("0.08", 2), ("0.08", 0), ("0.17", 2), ("0.24", 2), ("0.24", 0)):
        fake = unlike(f"{len(sent)}-", FakeTransport())
        async with quick(fake, journal=path, budget=budget, concurrency=2) as session:
            batch = session.map(items, run="r")
            if len(sent) + fits < 6:
                with pytest.raises(BudgetExceededError) as caught:
                    await batch.collect()
                replayed = [outcome for outcome in caught.value.outcomes if outcome.replayed]
                assert len(replayed) == len(sent)
            else:
                assert all(outcome.ok for outcome in await batch.collect())
            statistics = session.statistics()
            assert statistics.earlier == len(sent) * PRICE
            assert statistics.earlier + statistics.spent + statistics.reserved <= Decimal(budget)
        assert len(fake.prompts()) == fits
        sent += fake.prompts()
    assert sorted(sent) == items


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_replay_is_as_lazy_as_a_purchase(tmp_path: Path, *, ordered: bool) -> None:
    """No more of the source is read than there is room for unread outcomes."""
    path, read = tmp_path / "j.db", []

    def source() -> Iterator[str]:
        for n in range(60):
            read.append(n)
            yield str(n)

    await passed(path, [str(n) for n in range(60)])
    async with (
        quick(journal=path, concurrency=4) as session,
        session.map(source(), run="r", ordered=ordered) as outcomes,
    ):
        ahead = 8 if ordered else 4
        taken = 0
        async for outcome in outcomes:
            assert outcome.index == taken
            taken += 1
            await asyncio.sleep(1)
            assert len(read) <= min(60, taken + ahead)
            assert len(session.handles()) == 0
        assert taken == 60


async def test_in_order_replayed_and_bought_items_are_mixed(tmp_path: Path) -> None:
    """`ordered=True` keeps the order of the source, whatever is known already."""
    path = tmp_path / "j.db"
    await passed(path, ["b", "d", "f"])
    async with (
        quick(FakeTransport(seconds=9), journal=path, concurrency=2) as session,
        session.map(list("abcdefg"), run="r", ordered=True) as batch,
    ):
        got = [outcome async for outcome in batch]
    assert [outcome.item for outcome in got] == list("abcdefg")
    assert [outcome.item for outcome in got if outcome.replayed] == ["b", "d", "f"]
    assert numbers(got) == [4, 1, 5, 2, 6, 3, 7]


@pytest.mark.parametrize("how", ["stop", "leave", "close"])
async def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, how: str) -> None:
    """Stopped, left or closed early, each item is bought once in the end."""
    path, items = tmp_path / "j.db", [str(n) for n in range(12)]
    sent: list[str] = []
    for round_ in range(12):
        fake = unlike(f"{round_}-", FakeTransport(seconds=3, latency=1))
        session = quick(fake, journal=path, concurrency=3)
        await session.open()
        async with session.map(items, run="r") as batch:
            await asyncio.sleep(1.5)
            if how == "stop":
                batch.stop()
                given = [outcome async for outcome in batch]
                dropped = [o for o in given if isinstance(o.error, SessionClosedError)]
                assert {o.state for o in dropped} <= {TaskState.QUEUED}
        await session.aclose(drain=0 if how == "close" else None)
        sent += fake.prompts()
    outcomes, fake = await watched(path, items)
    sent += fake.prompts()
    assert Counter(sent) == Counter(items)
    assert numbers(outcomes) == list(range(1, 13))
    assert all(outcome.ok for outcome in outcomes)


async def test_an_async_source_and_its_error(tmp_path: Path) -> None:
    """The error comes out as itself; what was bought before it is replayed the next time."""

    async def source(*, broken: bool) -> AsyncIterator[str]:
        for item in ABC:
            yield item
        if broken:
            raise ZeroDivisionError

    path = tmp_path / "j.db"
    with pytest.raises(ZeroDivisionError):
        await passed(path, source(broken=True))
    outcomes, fake = await watched(path, source(broken=False))
    assert [outcome.replayed for outcome in outcomes] == [True] * 3
    assert fake.posts == 0


async def test_what_save_to_raises_comes_out_and_leaves_no_trace(tmp_path: Path) -> None:
    """The item was not entered; the next pass gives it its number."""
    path = tmp_path / "j.db"

    def place(_: int, request: GenerateRequest) -> Path:
        if request.prompt == "b":
            raise LookupError
        return tmp_path / request.prompt

    with pytest.raises(LookupError):
        await passed(path, ABC, save_to=place)
    outcomes = await passed(path, ABC, save_to=lambda _, request: tmp_path / request.prompt)
    assert numbers(outcomes) == [1, 2, 3]
    assert len(rows(path)) == 3


async def test_pictures_that_come_slowly_hold_the_run_back(tmp_path: Path, disk: Disk) -> None:
    """With `save_to` never more than `concurrency` pictures are on their way or unread."""
    path = tmp_path / "j.db"
    await passed(path, [str(n) for n in range(20)])
    fake = FakeTransport().rule("file", lambda _: Late(picture(), 5))
    async with quick(fake, journal=path, concurrency=3, downloads=8) as session:
        outcomes = await session.map(
            [str(n) for n in range(20)], run="r", save_to=tmp_path / "out"
        ).collect()
    assert fake.most["file"] <= 3
    assert len({outcome.path for outcome in outcomes}) == 20
    assert fake.posts == 0
    assert disk.groups
