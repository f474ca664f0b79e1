"""How long `import fluxflex` takes, as a ratio to `import aiohttp` in the same run.

Each import is timed in a fresh interpreter, in turn with a bare one that imports nothing, which is
subtracted. Medians over the rounds; the ratio is what to read. Target: at most 0.35.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time

TARGET = 0.35
STATEMENTS = {
    "nothing": "pass",
    "import aiohttp": "import aiohttp",
    "import fluxflex": "import fluxflex",
    "from fluxflex import Session": "from fluxflex import Session",
}


def seconds(statement: str) -> float:
    """Return the seconds that a fresh interpreter takes for a statement."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: S603 - our own words
    return time.perf_counter() - begun


def measure(rounds: int) -> dict[str, float]:
    """Return the median seconds of each import, what an empty interpreter takes subtracted."""
    for statement in STATEMENTS.values():
        seconds(statement)  # compiled and in the file cache from here on
    taken: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(rounds):
        for name, statement in STATEMENTS.items():
            taken[name].append(seconds(statement))
    bare = statistics.median(taken.pop("nothing"))
    return {name: max(0.0, statistics.median(times) - bare) for name, times in taken.items()}


def main() -> int:
    """Print the table; exit with 1 where the target is missed in a full run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds, no verdict")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    medians = measure(3 if options.quick else 25)
    ratio = medians["import fluxflex"] / medians["import aiohttp"]
    if options.json:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        print(json.dumps({"seconds": medians, "ratio": ratio, "target": TARGET, **machine}))
    else:
        for name, median in medians.items():
            print(f"{name:<30} {median * 1000:7.1f} ms")
        print(f"import fluxflex / import aiohttp: {ratio:.3f} (target: at most {TARGET})")
    return int(not options.quick and ratio > TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
