"""What becomes of callbacks, and what they look like: chance and shapes, without a socket."""

import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from fluxflex.simulator import Callbacks, Entry, Failure
from fluxflex.simulator.callbacks import FORGERIES, Fates, Parcel
from fluxflex.simulator.contract import FLEX

SAMPLES = Path(__file__).parent.parent / "samples"
TASK = "dd55ae25-adff-47a0-9194-6a37845b58e4"
PICTURE = "https://files.example/dd55.png"
URL = "http://localhost:8080/hooks/t0ken?a=b#c"
WORDS = "Description of what went wrong"

Shape = Literal["documented", "flat", "enveloped", "mixed"]


def entry(number: int = 1, failure: Failure | None = None) -> Entry:
    """Make a task that has ended."""
    return Entry(
        number=number,
        task_id=TASK,
        prompt="p",
        body=b'{"prompt": "p"}',
        price=Decimal("0.04"),
        accepted_at=0.0,
        due=10.0,
        failure=failure,
        generation=FLEX,
    )


def sent(
    how: Callbacks, task: Entry, *, seed: int = 0, early: bool = False
) -> list[tuple[float, Parcel]]:
    """Return the POSTs of a callback."""
    return [*Fates(seed).sent(how, task, URL, PICTURE, early=early)]


def forged(how: Callbacks, *, url: str = URL, seed: int = 0, tasks: int = 1) -> Iterator[Parcel]:
    """Yield what forgers send with the ends of the first tasks."""
    for number in range(1, tasks + 1):
        yield from Fates(seed).forged(how, entry(number), url)


def sample(name: str) -> Any:
    """Return the body of a sample of a callback."""
    return json.loads((SAMPLES / f"callback-{name}.json").read_text(encoding="utf-8"))["body"]


@pytest.mark.parametrize(
    ("shape", "failure", "name"),
    [
        ("documented", None, "completed"),
        ("flat", None, "flat"),
        ("enveloped", None, "enveloped"),
        ("documented", Failure("E1", WORDS), "failed"),
        ("flat", Failure("E1", WORDS), "failed"),
    ],
)
def test_each_shape_is_its_sample(shape: Shape, failure: Failure | None, name: str) -> None:
    """The bodies are those of the samples, with the task's own id and URL."""
    ((delay, parcel),) = sent(Callbacks(shape=shape), entry(failure=failure))
    assert (delay, json.loads(parcel.body)) == (0.0, sample(name))
    assert (parcel.kind, parcel.url, parcel.content_type) == ("plain", URL, "application/json")


def test_an_enveloped_failure_is_the_documented_one_in_an_envelope() -> None:
    """No sample has it; its code is that of a failed task."""
    ((_, parcel),) = sent(Callbacks(shape="enveloped"), entry(failure=Failure("E1", WORDS)))
    assert json.loads(parcel.body) == {"code": 400, "data": sample("failed")}


def test_mixed_shapes_are_all_three() -> None:
    """Each task has its own, and a double that of the first."""
    how = Callbacks(shape="mixed", doubled=1)
    names = ("completed", "flat", "enveloped")
    shapes: Counter[str] = Counter()
    for number in range(1, 301):
        (_, first), (_, second) = sent(how, entry(number))
        assert first.body == second.body
        body = json.loads(first.body)
        shapes.update(name for name in names if sample(name) == body)
    assert shapes.total() == 300
    assert min(shapes[name] for name in names) > 80


def test_the_same_seed_gives_the_same_fates() -> None:
    """What becomes of task number n follows from the seed, and from no other option."""

    def lost(seed: int, how: Callbacks) -> list[int]:
        return [number for number in range(1, 1001) if Fates(seed).is_lost(how, number)]

    plain, more = Callbacks(lost=0.1), Callbacks(lost=0.1, early=0.5, doubled=0.5, forged=3)
    assert lost(0, plain) == lost(0, more) != lost(1, plain)
    assert 80 < len(lost(0, plain)) < 120


def test_shares_of_none_and_all() -> None:
    """A share of 0 hits nobody, one of 1 everybody."""
    none, every = Callbacks(), Callbacks(lost=1, early=1)
    fates = Fates(0)
    assert not any(fates.is_lost(none, n) or fates.is_early(none, n) for n in range(100))
    assert all(fates.is_lost(every, n) for n in range(100))
    assert not any(fates.is_early(every, n) for n in range(100)), "what is lost is nothing else"
    assert all(fates.is_early(attrs.evolve(every, lost=0), n) for n in range(100))


@pytest.mark.parametrize(
    ("early", "expected"),
    [(False, [(60.0, "late"), (62.0, "double")]), (True, [(0.0, "early"), (2.0, "double")])],
)
def test_an_early_callback_is_not_late(*, early: bool, expected: list[tuple[float, str]]) -> None:
    """Delays count from the end of the task; the double follows the first."""
    how = Callbacks(late=1, doubled=1, doubled_by=2)
    parcels = sent(how, entry(), early=early)
    assert [(delay, parcel.kind) for delay, parcel in parcels] == expected


@pytest.mark.parametrize(("forgeries", "counts"), [(0.0, {0}), (3.0, {3}), (1.2, {1, 2})])
def test_forgeries_come_in_the_number_that_was_asked_for(
    forgeries: float, counts: set[int]
) -> None:
    """Whole ones with each task, the fraction is drawn."""
    how = Callbacks(forged=forgeries)
    found = [len([*Fates(0).forged(how, entry(n), URL)]) for n in range(1, 1001)]
    assert set(found) == counts
    assert abs(sum(found) - 1000 * forgeries) < 30


def test_each_forgery_is_what_it_says() -> None:
    """All five kinds come; none has the true token, and none says anything true of the picture."""
    found = {each.kind: each for each in forged(Callbacks(forged=1), tasks=200)}
    assert set(found) == set(FORGERIES)
    assert all(each.is_forged and each.task_id == TASK for each in found.values())
    assert all(PICTURE.encode() not in each.body for each in found.values())
    assert json.loads(found["wrong-token"].body)["task_id"] == TASK
    assert json.loads(found["wrong-task"].body)["task_id"] != TASK
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(found["broken"].body)
    assert len(found["giant"].body) > 4_000_000
    types = {each.kind for each in found.values() if each.content_type != "application/json"}
    assert types == {"wrong-type"}


def test_a_chosen_forgery_is_the_only_one() -> None:
    """`forgeries` narrows them down."""
    how = Callbacks(forged=5, forgeries=("broken",))
    assert {each.kind for each in forged(how, tasks=20)} == {"broken"}


@pytest.mark.parametrize(
    ("url", "base", "length"),
    [
        (URL, "http://localhost:8080/hooks/", 16),
        (f"https://me@localhost/a/b/{'t' * 43}", "https://me@localhost/a/b/", 43),
        ("http://localhost", "http://localhost/", 16),
        ("http://localhost/", "http://localhost/", 16),
        ("http://localhost/hook?token=1", "http://localhost/", 16),
    ],
)
def test_a_forger_makes_up_the_last_segment(url: str, base: str, length: int) -> None:
    """The made-up token is as long as the true one, and another each time."""
    parcels = [*forged(Callbacks(forged=3), url=url, tasks=10)]
    tokens = {each.url.removeprefix(base) for each in parcels}
    assert len(tokens) == 30
    assert {len(token) for token in tokens} == {length}
    assert all(set(token) <= set("0123456789abcdef") for token in tokens)


@pytest.mark.parametrize(
    ("url", "here", "anywhere"),
    [
        ("http://127.0.0.1:1/x", True, True),
        ("HTTP://127.9.9.9/x", True, True),
        ("https://[::1]/x", True, True),
        ("http://0.0.0.0/x", True, True),
        ("http://localhost/x", True, True),
        ("http://app.localhost/x", True, True),
        ("https://example.com/x", False, True),
        ("http://192.168.1.7/x", False, True),
        ("http://localhost.example.com/x", False, True),
        ("ftp://localhost/x", False, False),
        ("mailto:me@localhost", False, False),
        ("http:x", False, False),
        ("http://[oops/x", False, False),
    ],
)
def test_only_this_machine_is_called_unless_told_otherwise(
    url: str, *, here: bool, anywhere: bool
) -> None:
    """A rehearsal does not call production's server, and what is no HTTP is never called."""
    assert Callbacks().reaches(url) is here
    assert Callbacks(anywhere=True).reaches(url) is anywhere


@pytest.mark.parametrize(
    "options",
    [
        {"lost": 1.1},
        {"doubled": -0.1},
        {"late": float("nan")},
        {"late_by": float("inf")},
        {"doubled_by": -1},
        {"forged": 1001},
        {"forgeries": ()},
        {"forgeries": ("odd",)},
        {"shape": "round"},
        {"again_after": (1.0, -1.0)},
        {"timeout": 0},
        {"signature_secret": ""},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    """Each option says at once what it cannot be."""
    with pytest.raises(ValueError, match=next(iter(options))):
        Callbacks(**options)


def test_secrets_stay_out_of_reprs() -> None:
    """Neither the options nor a POST show the secret or the token."""
    how = Callbacks(signature_secret="s3cret", forged=1)
    shown = f"{how!r} {sent(how, entry())!r} {[*forged(how)]!r}"
    assert "s3cret" not in shown
    assert "t0ken" not in shown
