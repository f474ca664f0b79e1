"""fluxflex beside the field: plain aiohttp, httpx, fal-client, replicate and openai.

The same work for each, in the same run, against a provider in a process of its own that is faster
than any of them; each client in a fresh process, in turn, medians over the rounds. Ratios are what
to read. Prints the tables and writes `field.json` and `field.svg`. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from side_by_side import report
from side_by_side.entrants import ENTRANTS
from side_by_side.figures import clean
from side_by_side.measures import FULL, MEASURES, QUICK, Row, cpus

HERE = Path(__file__).parent
_ALSO = ("orjson", "uvloop", "httpcore", "httpx2")


def machine() -> dict[str, str]:
    """Return where and when this is measured, and with what."""
    versions = {entrant.version for entrant in ENTRANTS.values() if entrant.installed}
    for name in _ALSO:
        try:
            versions.add(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    pinned = "" if cpus()[0] is None else ", the provider and the client on one each"
    words = [
        f"{os.cpu_count()} x {model or platform.machine()}{pinned}",
        platform.system(),
        f"{platform.python_implementation()} {platform.python_version()}",
        ", ".join(sorted(versions)),
    ]
    return {
        "when": dt.datetime.now(dt.UTC).date().isoformat(),
        "what": "; ".join(words),
    }


def skipped() -> str:
    """Return what is not installed."""
    return ", ".join(sorted({e.needs[0] for e in ENTRANTS.values() if not e.installed}))


def write(
    folder: Path, result: Mapping[str, object], measured: Mapping[str, Sequence[Row]]
) -> None:
    """Write the JSON and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "field.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    try:
        from side_by_side import plot

        plot.draw(measured, folder / "field.svg")
    except ImportError:
        print("matplotlib is not installed (the extra `plot`): no picture.")


def main() -> int:
    """Measure, print and write; exit with 1 where a target is missed in a full run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a little of each, no verdict")
    parser.add_argument("--only", nargs="+", choices=MEASURES, help="these measures only")
    parser.add_argument("--to", type=Path, help="the folder for field.json and field.svg")
    parser.add_argument(
        "--write", action="store_true", help="also put the tables into benchmarks/README.md"
    )
    options = parser.parse_args()
    whole = not (options.quick or options.only)
    if options.write and not whole:
        parser.error("--write takes a whole run: without --quick and --only")
    plan = QUICK if options.quick else FULL
    measured: dict[str, list[Row]] = {}
    for name in options.only or MEASURES:
        measured[name] = [clean(row) for row in MEASURES[name](plan)]
        print("\n".join(report.section(name, measured[name])), flush=True)
    # A quick run is too short to judge by.
    judged = [] if options.quick else report.targets(measured)
    found = [target for target in judged if target.met is not None]
    where, missing = machine(), skipped()
    result = {
        "machine": where,
        "skipped": missing,
        "plan": attrs.asdict(plan),
        "targets": [attrs.asdict(target) | {"met": target.met} for target in found],
        **measured,
    }
    head = [f"{where['when']}: {where['what']}."]
    head += ["", f"Not installed, and left out: {missing}."] if missing else []
    text = report.document(head, measured, found)
    print("\n".join([*head, *report.verdict(found)]))
    with tempfile.TemporaryDirectory() as nowhere:
        usual = HERE / "results" if whole else Path(nowhere)
        write(options.to or usual, result, measured)
    if options.write:
        page = HERE / "README.md"
        page.write_text(report.put_into(page.read_text(), text))
    return int(not all(target.met for target in found))


if __name__ == "__main__":
    raise SystemExit(main())
