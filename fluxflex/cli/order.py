"""What the command line asks for, as a value; and the command lines that go on with it."""

from __future__ import annotations

import shlex
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs

from fluxflex import TaskState
from fluxflex.cli.target import Target

_CONCURRENCY = 32


@attrs.frozen(kw_only=True)
class Order:
    """A batch that somebody wants.

    Attributes:
        source: a file's name, or `-`.
        out: the folder for everything; only a dry run does without.
        target: where requests go.
        defaults: fields for the items that do not set them.
        concurrency: tasks at once. timeout: seconds a task may take.
        budget: USD. agreed: whether `--yes` was given.
        dry_run: only check and count.
        download: whether pictures are saved. as_json: whether stdout gets objects.
        retry_failed, resubmit_uncertain: what is to be submitted once more.
    """

    source: str
    out: Path | None = None
    target: Target = attrs.field(factory=Target)
    defaults: dict[str, Any] = attrs.field(factory=dict)
    concurrency: int = _CONCURRENCY
    timeout: float | None = None
    budget: Decimal | None = None
    agreed: bool = False
    dry_run: bool = False
    download: bool = True
    as_json: bool = False
    retry_failed: bool = False
    resubmit_uncertain: bool = False

    @property
    def folder(self) -> Path:
        """The folder of an order that is no dry run."""
        assert self.out is not None  # noqa: S101 - checked before anything else is done
        return self.out

    @property
    def again(self) -> frozenset[TaskState]:
        """The states in which an item is submitted once more."""
        wanted = {
            TaskState.FAILED: self.retry_failed,
            TaskState.UNCERTAIN: self.resubmit_uncertain,
        }
        return frozenset(state for state, is_wanted in wanted.items() if is_wanted)

    def line(self, *more: str) -> str:
        """Return the command that carries on, as a shell takes it.

        What may pay twice (`--resubmit-uncertain`) is never in it by itself, but may be in `more`.
        """
        given = {f"--{name.replace('_', '-')}": value for name, value in self.defaults.items()}
        if self.concurrency != _CONCURRENCY:
            given["--concurrency"] = self.concurrency
        given |= {"--timeout": self.timeout, "--budget": self.budget}
        flags = {
            "--yes": self.agreed,
            "--no-download": not self.download,
            "--json": self.as_json,
            "--retry-failed": self.retry_failed and "--retry-failed" not in more,
        }
        words = ["fluxflex", "batch", self.source, "-o", str(self.folder)]
        for name, value in given.items():
            words += [] if value is None else [name, _plain(value)]
        words += [name for name, is_set in flags.items() if is_set]
        return shlex.join([*words, *self.target.words, *more])


def _plain(value: object) -> str:
    """Return a number as people give it: without an end that says nothing."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def resume_line(folder: Path, target: Target) -> str:
    """Return the command that fetches what a batch left, and buys nothing."""
    return shlex.join(["fluxflex", "resume", str(folder), *target.words])
