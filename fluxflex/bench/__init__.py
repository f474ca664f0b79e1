"""Throughput and latency against concurrency, and the concurrency to use.

    async with Simulator(durations=1.0, max_in_flight=20) as sim:
        conditions = bench.Conditions(api_key="any-key", base_url=sim.url, simulator=sim)
        levels = [level async for level in bench.Bench(conditions, [1, 4, 16])]
    for line in [*bench.table(levels), bench.advise(levels)]:
        print(line)

Against the provider it buys what it measures: give the `Bench` a budget.
"""

from fluxflex.bench.advice import Advice, advise
from fluxflex.bench.levels import Level, Spread
from fluxflex.bench.measure import Bench, Conditions
from fluxflex.bench.plot import check_plot, plot
from fluxflex.bench.table import table

__all__ = [
    "Advice",
    "Bench",
    "Conditions",
    "Level",
    "Spread",
    "advise",
    "check_plot",
    "plot",
    "table",
]
