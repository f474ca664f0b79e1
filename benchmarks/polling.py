"""What learned polling saves: looks against lag, beside a fixed interval, in a simulation.

Virtual time, no network: tasks with log-normal durations arrive one a second. Each policy is run
at several settings; the plot has the looks a task takes against the mean lag. At equal mean lag the
learned policy needs at most 0.8 times the looks of a fixed interval where durations spread by 0.35,
0.5 times where they spread by 0.15. With `--svg FILE` the plot is written; `--quick` runs less.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
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


@attrs.frozen
class Point:
    """What a policy cost: mean lag in seconds, looks per task."""

    lag: float
    looks: float


def tasks(count: int, spread: float, seed: int) -> list[tuple[float, float]]:
    """Return when tasks are accepted and when they end."""
    rng, now, found = Random(seed), 0.0, []  # noqa: S311 - seeded, and guards nothing
    for _ in range(count):
        now += rng.expovariate(1.0)
        found.append((now, now + MEDIAN * math.exp(rng.gauss(0, spread))))
    return found


def simulate(policy: PollPolicy, lives: Sequence[tuple[float, float]]) -> Point:
    """Follow all tasks to their ends; a reply comes at once."""
    scheduler = Scheduler(policy, None, Random(1))  # noqa: S311 - as above
    coming = [(accepted, key) for key, (accepted, _) in enumerate(lives)]
    heapq.heapify(coming)
    lag, looks = 0.0, 0
    while coming or len(scheduler):
        now = scheduler.next_due()
        if coming and coming[0][0] <= now:
            accepted, new = heapq.heappop(coming)
            scheduler.add(new, KIND, accepted, math.inf)
        elif (key := scheduler.take(now)) is not None:
            looks += 1
            if lives[key][1] <= now:
                lag += now - lives[key][1]
                scheduler.done(key, now, now)
            else:
                scheduler.pending(key, now, now)
    return Point(lag / len(lives), looks / len(lives))


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


def main() -> None:
    """Run, print and perhaps draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer tasks")
    parser.add_argument("--svg", type=Path, help="where to write the plot")
    arguments = parser.parse_args()
    count = 150 if arguments.quick else 1500
    panels, good = {}, True
    for spread, most in MOST.items():
        lives = tasks(count, spread, seed=5)
        learned = [simulate(AdaptivePolling(lag_cost=cost), lives) for cost in COSTS]
        fixed = [simulate(FixedPolling(seconds), lives) for seconds in INTERVALS]
        panels[f"durations spread by {spread:g}"] = {"fixed interval": fixed, "learned": learned}
        for cost, point in zip(COSTS, learned, strict=True):
            ratio = point.looks / at_lag(fixed, point.lag)
            print(
                f"spread {spread:g}, lag_cost {cost:g}: mean lag {point.lag:.2f} s, "
                f"{point.looks:.1f} looks a task, {ratio:.2f} times those of a fixed interval"
            )
        point = simulate(AdaptivePolling(), lives)
        ratio = point.looks / at_lag(fixed, point.lag)
        good = good and (arguments.quick or ratio <= most)
        print(
            f"spread {spread:g}, default: mean lag {point.lag:.2f} s, {point.looks:.1f} looks "
            f"a task, {ratio:.2f} times those of a fixed interval (at most {most})"
        )
    if arguments.svg:
        arguments.svg.write_text(draw(panels))
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
