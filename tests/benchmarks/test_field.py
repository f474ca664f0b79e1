"""The pure parts of the side-by-side benchmark: its arithmetic, its tables, its provider."""

from __future__ import annotations

import array
import json
import math
import re
from pathlib import Path

import fast_server
import pytest
from side_by_side import report
from side_by_side.entrants import DEFAULT, ENTRANTS, FAL, FLUXFLEX, PLAIN, REPLICATE
from side_by_side.figures import Spread, Target, clean, percentile, ratios
from side_by_side.measures import FULL, MEASURES, QUICK, Row, in_turn

BENCHMARKS = Path(fast_server.__file__).parent


def test_a_spread_is_the_median_between_the_extremes() -> None:
    """One slow round moves the most, not the median."""
    assert Spread.of([3.0, 1.0, 100.0]) == Spread(3.0, 1.0, 100.0)


def test_ratios_are_taken_round_by_round() -> None:
    """A round that is slow for both leaves the ratio as it is."""
    assert ratios([2.0, 20.0, 4.0], [1.0, 10.0, 2.0]) == Spread(2.0, 2.0, 2.0)


def test_a_round_without_a_figure_is_left_out_of_the_ratios() -> None:
    """Nothing is divided by nought, and nothing measured is no number."""
    assert ratios([2.0, 3.0], [0.0, 1.0]) == Spread(3.0, 3.0, 3.0)
    assert math.isnan(ratios([1.0], [math.nan]).median)


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0), (0.001, 1.0)]
)
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    """It is the smallest that the share of all does not exceed."""
    assert percentile([float(number) for number in range(100, 0, -1)], share) == value


def test_the_percentile_of_nothing_is_no_number() -> None:
    """A client that learnt of nothing has no lag, rather than none."""
    assert math.isnan(percentile([], 0.99))


def test_a_row_becomes_strict_json() -> None:
    """What was not measured is null, which every reader of JSON knows."""
    row = clean({"client": "a", "told": 3, "lag": math.nan, "ratio": math.inf, "cpu": 1.5})
    assert json.loads(json.dumps(row, allow_nan=False)) == {
        "client": "a",
        "told": 3,
        "lag": None,
        "ratio": None,
        "cpu": 1.5,
    }


@pytest.mark.parametrize(
    ("value", "least", "met"),
    [(1.1, True, True), (1.0, True, False), (1.1, False, True), (1.2, False, False)],
)
def test_a_target_bounds_from_one_side(value: float, least: bool, met: bool) -> None:  # noqa: FBT001 - a row of the table
    """The limit itself is good enough."""
    assert Target("x", value, 1.1, least=least).met is met


def test_a_target_without_a_figure_is_neither_met_nor_missed() -> None:
    """A peer that is not installed is no failure."""
    assert Target("x", None, 1.1).met is None


def test_each_round_begins_with_another_client() -> None:
    """Whoever is first meets the coldest machine, so that is nobody's lasting lot."""
    assert list(in_turn(["a", "b", "c"], 3)) == [*"abc", *"bca", *"cab"]


def test_the_fullest_second_may_begin_anywhere() -> None:
    """A second that begins on the hour would hide a burst across it."""
    times = array.array("d", [0.0, 0.9, 1.0, 1.1, 1.2, 1.95, 5.0])
    assert fast_server.most_in_a_second(times) == 4
    assert fast_server.most_in_a_second(array.array("d")) == 0


def test_a_picture_says_when_it_was_due() -> None:
    """So every client can tell its lag, whatever it makes of the reply."""
    assert fast_server.due_of("http://127.0.0.1/task-12-345.678901.png") == 345.678901


def test_a_table_is_aligned_markdown() -> None:
    """It reads as well in a terminal as on a page."""
    columns = report.COLUMNS["imports"]
    rows: list[Row] = [
        {"client": "import aiohttp", "ratio": 3.5, "ratio_low": 3, "ratio_high": 4, "ms": 200},
        {"client": "pass", "ratio": None, "ms": 0.04},
    ]
    lines = report.table(rows, columns)
    assert lines[0].startswith("| statement      | x fluxflex |")
    assert lines[2].startswith("| import aiohttp | 3.50       |")
    assert lines[3].startswith("| pass           | -          |")
    assert len({len(line) for line in lines}) == 1


def measured(**cost: float) -> dict[str, list[Row]]:
    """Return the rows of a run with these ratios of CPU."""
    rows: list[Row] = [
        {"client": name, "ratio": ratio, "over_transport_us": 10.0} for name, ratio in cost.items()
    ]
    return {"cost": rows}


def test_only_what_was_measured_is_judged() -> None:
    """A run without a peer has no verdict on it."""
    found = report.targets(measured(**{PLAIN: 1.2, REPLICATE: 14.0, FLUXFLEX: 1.0}))
    judged = {target.name: target.met for target in found if target.met is not None}
    assert judged == {
        "CPU of aiohttp loops, x fluxflex": True,
        "CPU of replicate, x fluxflex": False,
        "µs of our own per request": True,
    }


def test_the_lag_is_judged_by_fal_clients_and_the_crowd_by_the_largest() -> None:
    """A ratio that says how much later they are is turned round; smaller crowds are for reading."""
    crowd: list[Row] = [
        {"client": DEFAULT, "count": count, "accepted": count, "kib": kib, "most_looks": 119}
        | {"loop_p99_ms": 5.0}
        for count, kib in ((1_000, 9.0), (100_000, 2.5))
    ]
    crowd.append({"client": PLAIN, "count": 100_000, "loop_p99_ms": 4.0})
    found = report.targets({"burst": [{"client": FAL, "ratio": 100.0}], "crowd": crowd})
    judged = {target.name: (target.value, target.met) for target in found if target.value}
    assert judged == {
        "burst: lag p99, of fal-client's": (0.01, True),
        "100,000: accepted": (100_000, True),
        "100,000: KiB a task": (2.5, True),
        "100,000: looks in the fullest second": (119, True),
        "100,000: loop lag p99 in ms, at most aiohttp loops'": (5.0, False),
    }


def test_the_document_has_a_table_for_each_measure() -> None:
    """What is said first comes first, the verdict last."""
    rows = measured(**{PLAIN: 1.2})
    text = report.document(["a machine."], rows, [Target("speed", 1.2, 1.1, least=True)])
    assert text.startswith("a machine.\n\n### A task that is done at the first look")
    assert "| speed  | 1.2      | at least 1.1 | met |" in text


def test_the_wire_of_a_submit_is_told_in_words() -> None:
    """How often it was sent and bought, and what the caller got of it."""
    twice = {"posts": 2, "bought": 2, "over": True, "ok": 1, "errors": []}
    never = {"posts": 3, "bought": 0, "over": False, "ok": 0, "errors": []}
    refused = {"posts": 1, "bought": 0, "over": True, "ok": 0, "errors": ["ServerError"]}
    row: Row = {"client": "a", "drop": twice, "429": never, "500": refused, "503": refused}
    line = report.table([row], report.COLUMNS["trouble"])[2]
    assert "2 sent, 2 bought: picture" in line
    assert "3+ sent, 0 bought: still trying" in line
    assert "1 sent, 0 bought: ServerError" in line


def test_the_page_keeps_all_but_the_table() -> None:
    """Writing twice is as writing once."""
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.put_into(page, "new")
    assert once == f"before\n{report.BEGIN}\n\nnew\n{report.END}\nafter\n"
    assert report.put_into(once, "new") == once
    with pytest.raises(ValueError, match="needs the lines"):
        report.put_into("no marks", "new")


def test_the_readme_has_a_place_for_the_tables() -> None:
    """`--write` must not find out at the end of a long run that there is none."""
    page = (BENCHMARKS / "README.md").read_text()
    assert "new" in report.put_into(page, "new")


def test_every_measure_has_a_title_and_columns() -> None:
    """What is measured can be reported."""
    assert set(MEASURES) == set(report.TITLES) == set(report.COLUMNS)


def test_a_quick_run_is_a_small_full_one() -> None:
    """It asks for nothing that the full one does not."""
    assert QUICK.tasks < FULL.tasks
    assert max(QUICK.crowds) < min(FULL.crowds)


def test_every_client_says_what_it_needs() -> None:
    """Who is not installed is left out by name, not by an ImportError."""
    peers = {entrant.needs[0] for entrant in ENTRANTS.values()} - {"aiohttp"}
    text = (BENCHMARKS.parent / "pyproject.toml").read_text()
    extra = text.partition("\npeers = [")[2].partition("\n]")[0]
    assert peers == set(re.findall(r'"([a-z-]+)>=', extra))
