"""The commands and their options. Everything else is imported when a command runs."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

import fluxflex

app = typer.Typer(
    help="Generate images with Flux.2 Flex on Unifically, one or thousands at a time. "
    "The API key is read from FLUXFLEX_API_KEY or UNIFICALLY_API_KEY.",
    epilog="Exit codes, the first that fits: 130/143 interrupted, 2 usage, 8 invalid input, "
    "3 key or account, 6 money, 4 rate limit, 5 not found, 7 timeout, 10 some uncertain, "
    "9 some failed, 1 any other error, 0 done.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _dollars(text: str) -> Decimal:
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise typer.BadParameter(f"{text!r} is no amount in USD, such as 2.50")
    return amount


_USD = {"parser": _dollars, "metavar": "USD"}

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
AsJson = Annotated[
    bool, typer.Option("--json", help="Write JSON to stdout, an object a line, not paths.")
]
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


def _fields(**values: object) -> dict[str, object]:
    """Return the options that were given, as fields of a request."""
    return {name: value for name, value in values.items() if value not in (None, [])}


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="File for the picture; without it, a name from the prompt in the current folder.",
        ),
    ] = None,
    aspect_ratio: AspectRatio = None,
    quality: Quality = None,
    steps: Steps = None,
    cfg: Cfg = None,
    image_url: Annotated[
        list[str] | None,
        typer.Option("--image-url", metavar="URL", help="A reference picture; up to 10 times."),
    ] = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
    simulate: Simulate = False,
    speed: Speed = 4.0,
    base_url: BaseUrl = None,
) -> None:
    """Generate one image, and print its path."""
    from fluxflex.cli import places, single
    from fluxflex.cli.talk import Talk, guarded
    from fluxflex.cli.target import Target, run

    fields = _fields(
        prompt=prompt,
        aspect_ratio=aspect_ratio,
        quality=quality,
        steps=steps,
        cfg=cfg,
        image_urls=image_url,
    )
    talk = Talk(simulated=simulate)

    def work() -> int:
        how = single.Single(
            target=Target(base_url=base_url, simulate=simulate, speed=speed),
            place=places.single(out),
            timeout=timeout,
            as_json=as_json,
        )
        return run(single.generate(fields, how, talk))

    raise typer.Exit(guarded(talk, work))


@app.command()
def batch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="prompts.txt (a prompt a line; blank lines and lines that begin with # are "
            "skipped), prompts.jsonl (an object a line), or - for stdin (a line that begins with "
            '{ or " is JSON, any other a prompt; lines are bought as they come).',
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="A new or empty folder for everything."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Tasks at once.")
    ] = 32,
    budget: Annotated[
        Decimal | None, typer.Option(help="The most to spend; stands for --yes.", **_USD)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Buy without being asked.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check, count and estimate.")
    ] = False,
    no_download: Annotated[
        bool, typer.Option("--no-download", help="Save no pictures; stdout gets their URLs.")
    ] = False,
    aspect_ratio: AspectRatio = None,
    quality: Quality = None,
    steps: Steps = None,
    cfg: Cfg = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
    simulate: Simulate = False,
    speed: Speed = 4.0,
    base_url: BaseUrl = None,
) -> None:
    """Generate an image for each line of SOURCE: pictures, results.jsonl and index.html in DIR."""
    from fluxflex.cli import batch as batches
    from fluxflex.cli.talk import Talk, guarded
    from fluxflex.cli.target import Target

    talk = Talk(simulated=simulate)

    def work() -> int:
        order = batches.Order(
            source=source,
            out=out,
            target=Target(base_url=base_url, simulate=simulate, speed=speed),
            defaults=_fields(aspect_ratio=aspect_ratio, quality=quality, steps=steps, cfg=cfg),
            concurrency=concurrency,
            timeout=timeout,
            budget=budget,
            agreed=yes,
            dry_run=dry_run,
            download=not no_download,
            as_json=as_json,
        )
        return batches.batch(order, talk)

    raise typer.Exit(guarded(talk, work))


@app.command()
def status(task_id: TaskId, *, as_json: AsJson = False, base_url: BaseUrl = None) -> None:
    """Look at a task once: its state, and its URLs where it is completed."""
    from fluxflex.cli import single
    from fluxflex.cli.talk import Talk, guarded
    from fluxflex.cli.target import Target, run

    talk = Talk()
    how = single.Single(target=Target(base_url=base_url), as_json=as_json)
    raise typer.Exit(guarded(talk, lambda: run(single.status(task_id, how, talk))))


@app.command()
def wait(
    task_id: TaskId,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="File for the picture; without it, a name from the task id in the current folder.",
        ),
    ] = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> None:
    """Follow a task to its end, at no further cost, and print its picture's path."""
    from fluxflex.cli import places, single
    from fluxflex.cli.talk import Talk, guarded
    from fluxflex.cli.target import Target, run

    talk = Talk()

    def work() -> int:
        how = single.Single(
            target=Target(base_url=base_url),
            place=places.single(out),
            timeout=timeout,
            as_json=as_json,
        )
        return run(single.wait(task_id, how, talk))

    raise typer.Exit(guarded(talk, work))


@app.command()
def simulate(
    *,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    seed: Annotated[int, typer.Option(help="All chance follows from it.")] = 0,
    speed: Annotated[
        float, typer.Option(min=0.001, help="How many times faster than the clock.")
    ] = 1.0,
    latency: Annotated[float, typer.Option(min=0, help="Median seconds of a task.")] = 16.0,
    failure_rate: Annotated[
        float, typer.Option(min=0, max=1, help="The share of tasks that fail.")
    ] = 0.0,
    balance: Annotated[Decimal, typer.Option(help="The account's balance.", **_USD)] = "100",  # type: ignore[assignment]  # typer runs the default through the parser
    max_in_flight: Annotated[
        int | None, typer.Option(min=1, help="Tasks at once; one more is answered 429.")
    ] = None,
    submits_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Tasks a minute; one more is answered 429.")
    ] = None,
    retry_after: Annotated[
        float | None, typer.Option(min=0, help="The Retry-After of those 429s, in seconds.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SHARE",
            help="What goes wrong, and how often: busy, drop, reset, gateway, unreadable, "
            "poll-gateway, poll-busy, poll-reset, file-expired or file-cut. Repeatable.",
        ),
    ] = None,
) -> None:
    """Run the provider's API on this machine, to rehearse with."""
    from fluxflex.cli import serve
    from fluxflex.cli.talk import Talk, guarded
    from fluxflex.cli.target import run

    talk = Talk()
    setting = serve.Setting(
        host=host,
        port=port,
        seed=seed,
        speed=speed,
        latency=latency,
        failure_rate=failure_rate,
        balance=balance,
        max_in_flight=max_in_flight,
        submits_per_minute=submits_per_minute,
        retry_after=retry_after,
        faults=tuple(fault or ()),
    )
    raise typer.Exit(guarded(talk, lambda: run(serve.serve(setting, talk))))


def _version(asked: bool) -> None:  # noqa: FBT001 - as typer calls it
    if asked:
        typer.echo(fluxflex.__version__)
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options of no command."""
