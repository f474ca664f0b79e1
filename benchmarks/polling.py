"""What learned polling saves: looks against lag, beside a fixed interval, in a simulation.

Virtual time, no network: tasks with log-normal durations arrive one a second. Each policy is run
at several settings; the plot has the looks a task takes against the mean lag. At equal mean lag the
learned policy needs at most 0.8 times the looks of a fixed interval where durations spread by 0.35,
0.5 times where they spread by 0.15. Then with callbacks of which a tenth is lost, a twentieth is a
minute late and a tenth comes twice: 99 in 100 ends are to be known within 2.7 seconds, by at most
4.1 looks a task. With `--svg FILE` the plot is written; `--quick` runs less, without a verdict.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from random import Random

import attrs

from fluxflex import AdaptivePolling, FixedPolling, PollPolicy
from fluxflex._core.durations import kind_of
from fluxflex._core.scheduler import Scheduler

KIND = kind_of("1K", None, 0)
MEDIAN = 18.0
MOST = {0.35: 0.8, 0.15: 0.5}
COSTS = (0.02, 0.05, 0.1, 0.25, 0.6, 1.5)
INTERVALS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# With callbacks: their wait is half a second on average, a reply takes a tenth.
LOST, LATE, DOUBLED = 0.1, 0.05, 0.1
WAIT, LATER, AGAIN = 0.5, 60.0, 5.0
ROUND_TRIP = 0.1
SAFETY = 30.0
SESSIONS = (1, 2, 3, 4, 5)
MOST_P99, MOST_LOOKS = 2.7, 4.1


@attrs.frozen
class Point:
    """What a policy cost: mean lag and its 99th percentile in seconds, looks per task."""

    lag: float
    p99: float
    looks: float


@attrs.frozen
class Life:
    """A task: when it is accepted and ends, and when its callbacks come; `None` without a URL."""

    accepted: float
    ends: float
    callbacks: tuple[float, ...] | None = None


def tasks(count: int, spread: float, seed: int) -> list[Life]:
    """Return tasks without callbacks."""
    rng, now, found = Random(seed), 0.0, []  # noqa: S311 - seeded, and guards nothing
    for _ in range(count):
        now += rng.expovariate(1.0)
        found.append(Life(now, now + MEDIAN * math.exp(rng.gauss(0, spread))))
    return found


def with_callbacks(lives: Sequence[Life], seed: int) -> list[Life]:
    """Return the tasks with callbacks, some of which are lost, late or doubled."""
    rng, found = Random(seed), []  # noqa: S311 - as above
    for life in lives:
        comes = life.ends + rng.expovariate(1 / WAIT)
        if rng.random() < LATE:
            comes += LATER
        again = comes + rng.expovariate(1 / AGAIN)
        callbacks = (comes, again) if rng.random() < DOUBLED else (comes,)
        found.append(attrs.evolve(life, callbacks=() if rng.random() < LOST else callbacks))
    return found


ACCEPTED, CALLBACK, REPLY = range(3)


def simulate(policy: PollPolicy, *sessions: Sequence[Life], round_trip: float = 0.0) -> Point:
    """Follow all tasks of each session to their ends; the lags of all are taken together."""
    lags: list[float] = []
    looks = 0
    for lives in sessions:
        found, looked = follow(policy, lives, round_trip)
        lags += found
        looks += looked
    p99 = sorted(lags)[len(lags) * 99 // 100]
    return Point(math.fsum(lags) / len(lags), p99, looks / len(lags))


def follow(policy: PollPolicy, lives: Sequence[Life], round_trip: float) -> tuple[list[float], int]:
    """Return the lags of a session, and its looks. A look is answered half a round trip on."""
    scheduler = Scheduler(policy, None, Random(1))  # noqa: S311 - as above
    coming = [(life.accepted, ACCEPTED, key) for key, life in enumerate(lives)]
    for key, life in enumerate(lives):
        coming += [(comes, CALLBACK, key) for comes in life.callbacks or ()]
    heapq.heapify(coming)
    lags: dict[int, float] = {}
    looks = 0
    while len(lags) < len(lives):
        due = scheduler.next_due()
        if not coming or coming[0][0] > due:
            if (taken := scheduler.take(due)) is not None:
                looks += 1
                heapq.heappush(coming, (due + round_trip, REPLY, taken))
            continue
        now, what, key = heapq.heappop(coming)
        life = lives[key]
        sent = now - round_trip if what == REPLY else None
        if what == ACCEPTED:
            webhook = life.callbacks is not None
            scheduler.add(key, KIND, now, math.inf, webhook=webhook)
        elif sent is not None and now - round_trip / 2 < life.ends:
            scheduler.pending(key, now, sent)
        else:
            scheduler.done(key, now, sent)
            lags.setdefault(key, now - life.ends)
    return list(lags.values()), looks


def at_lag(curve: Sequence[Point], lag: float) -> float:
    """Return the looks of a curve at a lag, between its points by straight lines in logarithms."""
    points = sorted(curve, key=lambda point: point.lag)
    for left, right in itertools.pairwise(points):
        if left.lag <= lag <= right.lag:
            share = math.log(lag / left.lag) / math.log(right.lag / left.lag)
            return left.looks * math.pow(right.looks / left.looks, share)
    return math.nan


# -- the plot --------------------------------------------------------------------------------

WIDTH, HEIGHT, TOP, BOTTOM = 760, 330, 40, 50
PANEL, GAP = 300, 70
LAGS, LOOKS = (0.125, 8.0), (1.0, 128.0)
COLOURS = {"learned": "#1a7f6b", "fixed interval": "#b3541e"}


def share(value: float, bounds: tuple[float, float]) -> float:
    """Return where a value lies between bounds, 0 to 1, in logarithms."""
    return math.log(value / bounds[0]) / math.log(bounds[1] / bounds[0])


def panel(x: int, title: str, curves: dict[str, list[Point]]) -> list[str]:
    """Return the drawing of one spread."""
    wide, high = PANEL, HEIGHT - TOP - BOTTOM

    def at(lag: float, looks: float) -> tuple[float, float]:
        return x + wide * share(lag, LAGS), TOP + high * (1 - share(looks, LOOKS))

    lines = [f'<text x="{x}" y="{TOP - 14}" class="title">{title}</text>']
    for looks in (1, 2, 4, 8, 16, 32, 64, 128):
        y = at(1, looks)[1]
        lines.append(f'<path d="M{x:.0f} {y:.1f}h{wide:.0f}" class="grid"/>')
        lines.append(f'<text x="{x - 8:.0f}" y="{y + 4:.1f}" class="end">{looks}</text>')
    for lag in (0.125, 0.25, 0.5, 1, 2, 4, 8):
        across = at(lag, 1)[0]
        lines.append(f'<path d="M{across:.1f} {TOP}v{high}" class="grid"/>')
        lines.append(f'<text x="{across:.1f}" y="{TOP + high + 18}" class="mid">{lag:g}</text>')
    for row, (name, curve) in enumerate(curves.items()):
        places = [at(point.lag, point.looks) for point in curve]
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py in places)
        colour = COLOURS[name]
        lines.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        lines += [
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}"/>' for px, py in places
        ]
        where = f'x="{x + wide - 8:.0f}" y="{TOP + 20 + 18 * row}"'
        lines.append(f'<text {where} class="end" style="fill:{colour}">{name}</text>')
    return lines


def draw(panels: dict[str, dict[str, list[Point]]]) -> str:
    """Return the plot as SVG."""
    style = (
        "text{font:13px sans-serif;fill:#333}.title{font-weight:bold}.end{text-anchor:end}"
        ".mid{text-anchor:middle}.grid{stroke:#ddd;stroke-width:1}"
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<style>{style}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    turned = f'transform="translate(18 {middle:.0f}) rotate(-90)"'
    lines.append(f'<text class="mid" {turned}>looks per task</text>')
    lines.append(f'<text class="mid" x="{WIDTH / 2}" y="{HEIGHT - 10}">mean lag, seconds</text>')
    for number, (title, curves) in enumerate(panels.items()):
        lines += panel(GAP + number * (PANEL + GAP), title, curves)
    return "\n".join([*lines, "</svg>", ""])


# -- the measures ----------------------------------------------------------------------------


@attrs.frozen
class Row:
    """One line of the output."""

    name: str
    point: Point
    of_fixed: float | None = None
    wanted: str = ""
    good: bool = True

    def __str__(self) -> str:
        """Return it in words."""
        words = f"{self.name}: mean lag {self.point.lag:.2f} s, p99 {self.point.p99:.2f} s, "
        words += f"{self.point.looks:.1f} looks a task"
        if self.of_fixed is not None:
            words += f", {self.of_fixed:.2f} times those of a fixed interval"
        return words + self.wanted


def beside_fixed(
    spread: float, most: float, count: int
) -> tuple[list[Row], dict[str, list[Point]]]:
    """Return the learned policy beside a fixed interval, without callbacks, and both curves."""
    lives = tasks(count, spread, seed=5)
    fixed = [simulate(FixedPolling(seconds), lives) for seconds in INTERVALS]
    learned, rows = [], []
    for cost in COSTS:
        point = simulate(AdaptivePolling(lag_cost=cost), lives)
        learned.append(point)
        name = f"spread {spread:g}, lag_cost {cost:g}"
        rows.append(Row(name, point, point.looks / at_lag(fixed, point.lag)))
    point = simulate(AdaptivePolling(), lives)
    ratio = point.looks / at_lag(fixed, point.lag)
    wanted = f" (at most {most})"
    rows.append(Row(f"spread {spread:g}, default", point, ratio, wanted, ratio <= most))
    return rows, {"fixed interval": fixed, "learned": learned}


def beside_safety(count: int) -> list[Row]:
    """Return the default with callbacks, beside a look each 30 seconds and no callbacks at all."""
    alone = [tasks(count, max(MOST), seed) for seed in SESSIONS]
    called = [
        with_callbacks(lives, seed + 100) for seed, lives in zip(SESSIONS, alone, strict=True)
    ]
    here = simulate(AdaptivePolling(), *called, round_trip=ROUND_TRIP)
    safety = simulate(FixedPolling(SAFETY), *called, round_trip=ROUND_TRIP)
    without = simulate(AdaptivePolling(), *alone, round_trip=ROUND_TRIP)
    good = here.p99 <= MOST_P99 and here.looks <= MOST_LOOKS
    wanted = f" (at most {MOST_P99} s and {MOST_LOOKS})"
    return [
        Row("callbacks, default", here, wanted=wanted, good=good),
        Row(f"callbacks, a look each {SAFETY:g} s", safety),
        Row("no callbacks, default", without),
    ]


def main() -> None:
    """Run, print and perhaps draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer tasks")
    parser.add_argument("--svg", type=Path, help="where to write the plot")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    panels, rows = {}, []
    for spread, most in MOST.items():
        found, curves = beside_fixed(spread, most, 150 if arguments.quick else 1500)
        panels[f"durations spread by {spread:g}"] = curves
        rows += found
    rows += beside_safety(100 if arguments.quick else 2000)
    if arguments.json:
        # No JSON has a NaN: a ratio beyond the curve of the fixed interval is none.
        print(json.dumps([plain(row) for row in rows], indent=1))
    else:
        print(*rows, sep="\n")
    if arguments.svg:
        arguments.svg.write_text(draw(panels))
    if not (arguments.quick or all(row.good for row in rows)):
        raise SystemExit(1)


def plain(row: Row) -> dict[str, object]:
    """Return a row for JSON."""
    ratio = row.of_fixed
    if ratio is not None and math.isnan(ratio):
        ratio = None
    return {"name": row.name, **attrs.asdict(row.point), "of_fixed": ratio, "good": row.good}


if __name__ == "__main__":
    main()
