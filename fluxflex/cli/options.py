"""The options of the commands, as typer reads them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer


def dollars(text: str) -> Decimal:
    """Read an amount in USD.

    Raises:
        BadParameter: it is none.
    """
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise typer.BadParameter(f"{text!r} is no amount in USD, such as 2.50")
    return amount


def fields(**values: object) -> dict[str, object]:
    """Return the options that were given, as fields of a request."""
    return {name: value for name, value in values.items() if value not in (None, [])}


SOURCE = (
    "prompts.txt (a prompt a line; blank lines and lines that begin with # are skipped), "
    "prompts.csv (its first line names the columns: prompt and, as you like, aspect_ratio, "
    "quality, steps, cfg, image_urls, callback_url; any other is kept as metadata), "
    "prompts.jsonl (an object a line), or - for stdin (a line that begins with "
    '{ or " is JSON, any other a prompt; lines are bought as they come).'
)
USD = {"parser": dollars, "metavar": "USD"}

Quality = Annotated[
    str | None, typer.Option("--quality", "-q", help="1K or 2K: it sets the price.")
]
AspectRatio = Annotated[
    str | None, typer.Option("--aspect-ratio", "-a", help="Such as 16:9, 1:1, 9:16.")
]
Steps = Annotated[int | None, typer.Option(help="1 to 50: more is better and slower.")]
Cfg = Annotated[
    float | None, typer.Option(help="1.5 to 10: higher follows the prompt more strictly.")
]
Timeout = Annotated[
    float | None, typer.Option(min=0.001, help="Seconds a task may take once it is accepted (600).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, an object a line.")]
Simulate = Annotated[
    bool, typer.Option("--simulate", help="Rehearse: no key, no network, nothing is bought.")
]
Speed = Annotated[
    float,
    typer.Option(min=0.001, help="With --simulate: how many times faster it runs than the clock."),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(help="The API's address; FLUXFLEX_BASE_URL, else the provider's."),
]
TaskId = Annotated[str, typer.Argument(metavar="TASK_ID", help="The provider's id of the task.")]

PictureFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="File for the picture; without it, a name of its own in the current folder.",
    ),
]
ImageUrls = Annotated[
    list[str] | None,
    typer.Option("--image-url", metavar="URL", help="A reference picture; up to 10 times."),
]

# Those of `batch` alone.
BatchFolder = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Folder for everything: new, or the batch's own."
    ),
]
Concurrency = Annotated[int, typer.Option("--concurrency", "-c", min=1, help="Tasks at once.")]
Budget = Annotated[Decimal | None, typer.Option(help="The most to spend; stands for --yes.", **USD)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Buy without being asked.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only check, count and estimate.")]
NoDownload = Annotated[
    bool, typer.Option("--no-download", help="Save no pictures; stdout gets their URLs.")
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Buy once more what failed before.")
]
ResubmitUncertain = Annotated[
    bool,
    typer.Option(
        "--resubmit-uncertain",
        help="Buy once more what was sent and never answered: it may be paid twice.",
    ),
]

# Those of `bench` alone.
Levels = Annotated[
    str,
    typer.Option(
        "--concurrency", "-c", metavar="N,N,…", help="How many tasks at once: the levels."
    ),
]
TasksEach = Annotated[
    int | None,
    typer.Option("--tasks", min=1, help="Tasks at each level; else four a slot, at least 8."),
]
BenchFolder = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Folder for bench.json, bench.svg and bench.png."
    ),
]
TaskSeconds = Annotated[
    float | None,
    typer.Option(
        "--latency", min=0, help="With --simulate: median seconds of a task (1; 16 is realistic)."
    ),
]

# Those of `simulate`, some of which `bench` has too.
Host = Annotated[str, typer.Option(help="Where to listen.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
Seed = Annotated[int, typer.Option(help="All chance follows from it.")]
Pace = Annotated[float, typer.Option(min=0.001, help="How many times faster than the clock.")]
Latency = Annotated[float, typer.Option(min=0, help="Median seconds of a task.")]
FailureRate = Annotated[float, typer.Option(min=0, max=1, help="The share of tasks that fail.")]
MaxInFlight = Annotated[
    int | None, typer.Option(min=1, help="Tasks at once; one more is answered 429.")
]
SubmitsPerMinute = Annotated[
    int | None, typer.Option(min=1, help="Tasks a minute; one more is answered 429.")
]
RetryAfter = Annotated[
    float | None, typer.Option(min=0, help="The Retry-After of those 429s, in seconds.")
]
FaultShares = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=SHARE",
        help="What goes wrong, and how often: busy, drop, reset, gateway, unreadable, "
        "poll-gateway, poll-busy, poll-reset, file-expired or file-cut. Repeatable.",
    ),
]
CallbackOptions = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE,…",
        help="What becomes of callbacks, as shares of the tasks that name a callback_url: lost, "
        "doubled, late or early (before the reply to the POST); forged=NUMBER, forged ones for "
        "each task; late-by=SECONDS (60); shape=documented, flat, enveloped or mixed; "
        "secret=WORD signs them; anywhere sends them to other machines too. Repeatable.",
    ),
]
