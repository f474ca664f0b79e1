"""Orders: the command lines that go on, what a run would do, and what it adds up to."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from fluxflex import GenerateRequest, TaskState
from fluxflex.cli import exits, gallery, hints, prospect
from fluxflex.cli.order import Order, resume_line
from fluxflex.cli.overview import Sum
from fluxflex.cli.prospect import Prospect
from fluxflex.cli.stock import Known, Stock, Walk
from fluxflex.cli.summary import Ending
from fluxflex.cli.target import Target
from fluxflex.errors import BudgetExceededError, JournalError, SubmitUncertainError
from tests.cli import cli_helpers as shared

room = shared.room


def test_the_line_that_carries_on_is_the_one_that_was_given() -> None:
    """Every option that changes what is bought or where is in it, quoted for a shell."""
    order = Order(source="my prompts.txt", out=Path("out's"))
    assert order.line() == """fluxflex batch 'my prompts.txt' -o 'out'"'"'s'"""
    order = Order(
        source="-",
        out=Path("out"),
        target=Target(base_url="https://example.com/?a=1&b=2"),
        defaults={"aspect_ratio": "16:9", "steps": 20},
        concurrency=4,
        timeout=60.0,
        budget=Decimal("2.50"),
        agreed=True,
        download=False,
        as_json=True,
        retry_failed=True,
        resubmit_uncertain=True,
    )
    assert shlex.split(order.line("--retry-failed")) == shlex.split(
        "fluxflex batch - -o out --aspect-ratio 16:9 --steps 20 --concurrency 4 --timeout 60 "
        "--budget 2.50 --yes --no-download --json --base-url 'https://example.com/?a=1&b=2' "
        "--retry-failed"
    )


def test_what_may_pay_twice_is_in_a_line_only_when_named() -> None:
    """Beside `nothing is paid twice` stands no command that might."""
    order = Order(source="p.txt", out=Path("out"), resubmit_uncertain=True)
    assert order.again == {TaskState.UNCERTAIN}
    assert hints.AGAIN not in order.line()
    order = Order(
        source="p.txt", out=Path("out"), timeout=300.0, defaults={"cfg": 3.5, "steps": 20}
    )
    assert order.line().endswith(" --cfg 3.5 --steps 20 --timeout 300")
    order = Order(source="p.txt", out=Path("out"))
    assert order.line(hints.AGAIN).endswith(f" {hints.AGAIN}")


def test_the_line_that_resumes_names_the_target() -> None:
    """A rehearsal is resumed as one."""
    assert resume_line(Path("a b"), Target()) == "fluxflex resume 'a b'"
    line = resume_line(Path("out"), Target(simulate=True, speed=100.0))
    assert line == "fluxflex resume out --simulate --speed 100"


# -- what a run would do ------------------------------------------------------------------------


def stock_of(**states: TaskState) -> Stock:
    """Return the stock of a folder that has these prompts, in order."""
    found = Stock()
    for number, (prompt, state) in enumerate(states.items(), 1):
        found.known.add(GenerateRequest(prompt.rstrip("_")).digest, number, state)
        found.last, found.sent = number, found.sent + (state is not TaskState.QUEUED)
    return found


def price(_: object) -> Decimal:
    """Return a price."""
    return Decimal("0.04")


FOLDER = {
    "a": TaskState.COMPLETED,
    "b": TaskState.FAILED,
    "c": TaskState.UNCERTAIN,
    "d": TaskState.RUNNING,
    "e": TaskState.TIMED_OUT,
    "f": TaskState.QUEUED,
    "a_": TaskState.UNCERTAIN,
}


@pytest.mark.parametrize(
    ("again", "buy", "twice"),
    [((), 2, 0), ({TaskState.FAILED}, 3, 0), ({TaskState.UNCERTAIN}, 4, 2)],
)
def test_only_what_is_new_or_asked_for_is_bought(
    again: tuple[TaskState, ...], buy: int, twice: int
) -> None:
    """Each item is matched by content and occurrence; what was sent is bought only on demand."""
    ahead = Prospect(stock_of(**FOLDER), price, again)
    costs = [ahead.price({"prompt": prompt}) for prompt in "aabcdefg"]
    assert ahead.counts == {"done": 1, "uncertain": 2, "failed": 1, "running": 2, "buy": 2}
    assert (ahead.buy, ahead.twice, ahead.known) == (buy, twice, 6)
    assert sum(costs) == price(None) * buy
    assert ahead.twice_usd == price(None) * twice
    assert bool(ahead.warning) is bool(twice)


def test_what_was_never_read_gets_the_next_numbers() -> None:
    """The items that the journal has are passed over, as often as it has them."""

    class Source:
        """A source of five items."""

        def again(self) -> list[Mapping[str, object]]:
            """Give all of them."""
            return [{"prompt": prompt} for prompt in ("new", "a", "b", "a", "a")]

    found = prospect.unread(Source(), {}, stock_of(**FOLDER))  # type: ignore[arg-type]  # as much of a source as it takes
    assert [(index, getattr(asked, "prompt", None)) for index, asked in found] == [
        (7, "new"),
        (8, "a"),
    ]


def test_equal_items_are_told_apart_by_their_order() -> None:
    """The second of two is the one with the second number, whenever it was entered."""
    known = Known()
    for number in (5, 2, 9):
        known.add("x", number, TaskState.COMPLETED)
    stock = Stock(known=known)
    walk = Walk(stock)
    assert [walk.find("x") for _ in range(4)] == [
        (2, TaskState.COMPLETED),
        (5, TaskState.COMPLETED),
        (9, TaskState.COMPLETED),
        None,
    ]
    assert walk.find("y") is None
    assert stock.numbers() == {2, 5, 9}


# -- what it adds up to -------------------------------------------------------------------------


def ending(room: Path, stock: Stock, **more: object) -> list[str]:
    """Return the lines of an ending."""
    words = {word: each.count for word, each in stock.states.items()}
    usual = {"folder": room, "before": Stock(), "seconds": 1.0, "resume": "fluxflex resume out"}
    return list(Ending(words=words, stock=stock, **{**usual, **more}).lines())  # type: ignore[arg-type]  # a test's options


def test_the_money_of_each_state_is_exact(room: Path) -> None:
    """Sums are decimals: nothing is rounded away, and where all is one nothing is said twice."""
    stock = Stock(
        states={
            "completed": Sum(3, Decimal("0.105")),
            "failed": Sum(1, Decimal("0.04")),
            "uncertain": Sum(1, reserved=Decimal("0.0350")),
            "still running": Sum(2, Decimal("0.08")),
            "not sent": Sum(9),
        }
    )
    how = (
        "3 completed ($0.105), 1 failed ($0.04), 2 still running ($0.08), "
        "1 uncertain ($0.035 may be billed), 9 not sent"
    )
    assert ending(room, stock, retry="fluxflex batch …") == [
        f"16 items: {how}. $0.225 spent, $0.035 may still be billed, 1.0 s.",
        "To try what failed once more:\n  fluxflex batch …",
        f"No pictures were saved. What happened to each: {room / 'index.html'}",
    ]
    stock = Stock(states={"completed": Sum(2, Decimal("0.08"))}, saved=2)
    assert ending(room, stock, page=False) == [
        "2 items: 2 completed. $0.08 spent, 1.0 s.",
        f"2 pictures in {room}.",
    ]
    assert ending(room, Stock())[0] == "0 items: nothing to do. $0.00 spent, 1.0 s."


def test_a_rehearsal_adds_up_play_money(room: Path) -> None:
    """Nothing may be billed for it."""
    sums = {"completed": Sum(1, Decimal("0.04")), "uncertain": Sum(1, reserved=Decimal("0.04"))}
    lines = ending(room, Stock(states=sums), simulated=True)
    assert lines[0] == (
        "2 items: 1 completed ($0.04), 1 uncertain ($0.00). "
        "$0.04 spent (simulated: nothing was bought), 1.0 s."
    )


def test_the_states_stand_in_one_order(room: Path) -> None:
    """The good ones first."""
    stock = Stock(states={"not sent": Sum(1), gallery.UNSAVED: Sum(1), "completed": Sum(1)})
    assert ending(room, stock)[0].startswith("3 items: 1 completed, 1 made, not saved, 1 not sent.")


# -- words and codes ------------------------------------------------------------------------------


def test_a_batch_has_words_of_its_own() -> None:
    """Inside a batch the hints name its own commands and options."""
    way = "fluxflex resume out"
    unsure = SubmitUncertainError("x", phase="sent")
    assert hints.AGAIN in hints.hint(unsure, way=way)
    assert hints.AGAIN not in hints.hint(unsure)
    full = JournalError("x", hint="Wait, or use a journal of its own.")
    assert hints.hint(full) == "Wait, or use another folder (-o)."
    zero = Decimal(0)
    money = BudgetExceededError(budget=zero, spent=zero, reserved=zero, price=zero)
    assert hints.hint(money) == "With a higher --budget the same command carries on."


def test_a_folder_of_another_account_is_a_matter_of_the_account() -> None:
    """Its journal is in order; what is wrong is the key, or the address."""
    assert exits.code_of(JournalError("The journal x belongs to another account")) == 3
    assert exits.code_of(JournalError("The journal x is in use")) == 1
