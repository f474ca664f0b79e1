"""What `fluxflex bench` says, gives to programs and writes down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import attrs

import fluxflex
from fluxflex.bench import Advice, Bench, Level, advise, plot, table
from fluxflex.cli.exits import Code
from fluxflex.cli.results import as_line
from fluxflex.cli.talk import Talk, counted, dollars

JSON, SVG, PNG = "bench.json", "bench.svg", "bench.png"
FILES = (JSON, SVG, PNG)
_REAL_LATENCY = 16


@attrs.define(kw_only=True)
class Report:
    """Takes the levels as they come.

    Attributes:
        talk: where to speak.
        simulated: whether it is a rehearsal. latency: the median seconds of its tasks.
        fields: of every request.
        out: the folder for the files. as_json: whether stdout gets objects.
        levels: those that were measured. codes: the exit codes that fit.
    """

    talk: Talk
    simulated: bool
    latency: float | None
    fields: Mapping[str, object]
    out: Path | None
    as_json: bool
    levels: list[Level] = attrs.field(factory=list)
    codes: set[int] = attrs.field(factory=set)

    @property
    def spent(self) -> Decimal:
        """USD that the levels so far have spent."""
        return sum((level.spent for level in self.levels), Decimal(0))

    def begin(self, bench: Bench, estimate: Decimal, budget: Decimal | None) -> None:
        """Say what will be done."""
        if self.latency is not None:
            self.talk.say(
                "Simulated: nothing is bought, and money is play money. A task takes about "
                f"{self.latency:g} s here (the provider's about {_REAL_LATENCY} s): this measures "
                "fluxflex, this machine and the limits you set, not the provider."
            )
        tasks = counted(bench.tasks, "task")
        self.talk.say(
            f"{tasks} for about {dollars(estimate)}: with {_in_words(bench.levels)} at once."
        )
        if budget is not None and budget < estimate:
            self.talk.say(
                f"The budget of {dollars(budget)} is less: levels that it cannot pay for are "
                "left out, the highest first.",
                style="yellow",
            )

    def add(self, level: Level) -> None:
        """Take a level."""
        self.levels.append(level)
        self.talk.say(f"{level}.")
        if self.as_json:
            self.talk.out(as_line({"kind": "level", **level.to_dict()}))
        self._write([], None)

    def conclude(self, bench: Bench) -> None:
        """Say and write down what was found."""
        advice = advise(self.levels)
        if bench.skipped:
            self.codes.add(Code.MONEY)
            left = Decimal(0) if bench.left is None else bench.left
            self.talk.say(
                f"Not measured, since {dollars(left)} of the budget is left, which is less than "
                f"the next level may cost: {_in_words(bench.skipped)}.",
                style="yellow",
            )
        files = self._write(bench.skipped, advice, drawn=True)
        if self.levels:
            for line in table(self.levels):
                self.talk.say(line)
            self.talk.say(self._sum())
        word = "No level was measured to its end: there is no advice."
        self.talk.say(word if advice is None else str(advice), style="bold")
        if self.as_json:
            row = {"concurrency": None, "reason": word} if advice is None else attrs.asdict(advice)
            named = {"skipped": bench.skipped, "files": [str(path) for path in files]}
            self.talk.out(as_line({"kind": "advice", **row, **named}))
        else:
            for path in files:
                self.talk.out(str(path))

    def _sum(self) -> str:
        made = sum(level.completed for level in self.levels)
        reserved = sum((level.reserved for level in self.levels), Decimal(0))
        parts = [f"{counted(made, 'picture')}, none downloaded", f"{dollars(self.spent)} spent"]
        if self.simulated:
            parts[-1] += " (simulated: nothing was bought)"
        elif reserved:
            parts.append(f"{dollars(reserved)} may still be billed")
        return f"{', '.join(parts)}."

    def _write(
        self, skipped: Sequence[int], advice: Advice | None, *, drawn: bool = False
    ) -> list[Path]:
        """Write the files, and return their paths; what cannot be written is told."""
        if self.out is None or not self.levels:
            return []
        paths = [self.out / name for name in FILES]
        document = {
            "fluxflex": fluxflex.__version__,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "simulated": self.simulated,
            "task_seconds": self.latency,
            "fields": dict(self.fields),
            "levels": [level.to_dict() for level in self.levels],
            "skipped": list(skipped),
            "advice": None if advice is None else attrs.asdict(advice),
        }
        try:
            _replace(paths[0], json.dumps(document, indent=2) + "\n")
            if drawn:
                plot(self.levels, paths[1:], advice=advice, title=self._title())
        except OSError as error:
            self.codes.add(Code.OTHER)
            self.talk.complain(f"{self.out} cannot be completed: {error.strerror or error}.")
            return [path for path in paths if path.exists()]
        return paths

    def _title(self) -> str:
        if self.latency is None:
            return f"fluxflex {fluxflex.__version__}: {datetime.now(UTC):%Y-%m-%d}"
        return (
            f"fluxflex {fluxflex.__version__} against its simulator, "
            f"tasks of about {self.latency:g} s"
        )


def _replace(path: Path, text: str) -> None:
    """Write a file in one step."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _in_words(numbers: Sequence[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}" if most else last
