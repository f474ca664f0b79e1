"""The commands and their options. Everything else is imported when a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fluxflex
from fluxflex.cli.app_bench import EXAMPLES as BENCH_EXAMPLES
from fluxflex.cli.app_bench import bench
from fluxflex.cli.app_simulate import EXAMPLES as SIMULATE_EXAMPLES
from fluxflex.cli.app_simulate import simulate
from fluxflex.cli.options import (
    SOURCE,
    AsJson,
    AspectRatio,
    BaseUrl,
    BatchFolder,
    Budget,
    Cfg,
    Concurrency,
    DryRun,
    ImageUrls,
    NoDownload,
    PictureFile,
    Quality,
    ResubmitUncertain,
    RetryFailed,
    Simulate,
    Speed,
    Steps,
    TaskId,
    Timeout,
    Yes,
    fields,
)

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


@app.command(epilog="Example: fluxflex generate 'a lighthouse in fog' -a 16:9 -o sea.png")
def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw.")],
    *,
    out: PictureFile = None,
    aspect_ratio: AspectRatio = None,
    quality: Quality = None,
    steps: Steps = None,
    cfg: Cfg = None,
    image_url: ImageUrls = None,
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

    asked = fields(
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
        return run(single.generate(asked, how, talk))

    raise typer.Exit(guarded(talk, work))


@app.command(epilog="Example: fluxflex batch prompts.csv -o out --budget 5")
def batch(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE)],
    *,
    out: BatchFolder = None,
    concurrency: Concurrency = 32,
    budget: Budget = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    no_download: NoDownload = False,
    retry_failed: RetryFailed = False,
    resubmit_uncertain: ResubmitUncertain = False,
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
    """Generate an image for each line of SOURCE: pictures, results.jsonl and index.html in DIR.

    The same command again carries on: what is done is not bought again.
    """
    from fluxflex.cli import batch as batches
    from fluxflex.cli.order import Order
    from fluxflex.cli.talk import Talk, guarded
    from fluxflex.cli.target import Target

    talk = Talk(simulated=simulate)

    def work() -> int:
        order = Order(
            source=source,
            out=out,
            target=Target(base_url=base_url, simulate=simulate, speed=speed),
            defaults=fields(aspect_ratio=aspect_ratio, quality=quality, steps=steps, cfg=cfg),
            concurrency=concurrency,
            timeout=timeout,
            budget=budget,
            agreed=yes,
            dry_run=dry_run,
            download=not no_download,
            as_json=as_json,
            retry_failed=retry_failed,
            resubmit_uncertain=resubmit_uncertain,
        )
        return batches.batch(order, talk)

    raise typer.Exit(guarded(talk, work))


@app.command(epilog="Example: fluxflex resume out")
def resume(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of a batch: its -o DIR.")
    ],
    *,
    timeout: Timeout = None,
    as_json: AsJson = False,
    simulate: Simulate = False,
    speed: Speed = 4.0,
    base_url: BaseUrl = None,
) -> None:
    """Follow and fetch what a batch left, and list what is uncertain; nothing is bought."""
    from fluxflex.cli import resume as resumes
    from fluxflex.cli.talk import Talk, guarded
    from fluxflex.cli.target import Target

    talk = Talk(simulated=simulate)

    def work() -> int:
        target = Target(base_url=base_url, simulate=simulate, speed=speed)
        how = resumes.How(folder=folder, target=target, timeout=timeout, as_json=as_json)
        return resumes.resume(how, talk)

    raise typer.Exit(guarded(talk, work))


@app.command(epilog="Example: fluxflex status TASK_ID --json")
def status(task_id: TaskId, *, as_json: AsJson = False, base_url: BaseUrl = None) -> None:
    """Look at a task once: its state, and its URLs where it is completed."""
    from fluxflex.cli import single
    from fluxflex.cli.talk import Talk, guarded
    from fluxflex.cli.target import Target, run

    talk = Talk()
    how = single.Single(target=Target(base_url=base_url), as_json=as_json)
    raise typer.Exit(guarded(talk, lambda: run(single.status(task_id, how, talk))))


@app.command(epilog="Example: fluxflex wait TASK_ID -o sea.png")
def wait(
    task_id: TaskId,
    *,
    out: PictureFile = None,
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


@app.command(epilog="Example: fluxflex account --json")
def account(
    *,
    as_json: AsJson = False,
    simulate: Simulate = False,
    base_url: BaseUrl = None,
) -> None:
    """Tell the account's balance. Costs nothing."""
    from fluxflex.cli import accounts
    from fluxflex.cli.talk import Talk, guarded
    from fluxflex.cli.target import Target, run

    talk = Talk(simulated=simulate)

    def work() -> int:
        target = Target(base_url=base_url, simulate=simulate)
        return run(accounts.account(target, talk, as_json=as_json))

    raise typer.Exit(guarded(talk, work))


@app.command(epilog="Examples: fluxflex price -q 2K, fluxflex price prompts.csv --json")
def price(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="As batch takes it: .txt, .csv, .jsonl, or -."),
    ] = None,
    *,
    prompt: Annotated[
        str | None, typer.Option(help="One request, in place of SOURCE; it may be left out.")
    ] = None,
    aspect_ratio: AspectRatio = None,
    quality: Quality = None,
    steps: Steps = None,
    cfg: Cfg = None,
    as_json: AsJson = False,
    simulate: Simulate = False,
) -> None:
    """Tell what one request, or all of SOURCE, would cost. Needs no key and buys nothing."""
    from fluxflex.cli import accounts
    from fluxflex.cli.talk import Talk, guarded

    talk = Talk(simulated=simulate)
    question = accounts.Question(
        source=source,
        fields=fields(
            prompt=prompt, aspect_ratio=aspect_ratio, quality=quality, steps=steps, cfg=cfg
        ),
        simulate=simulate,
        as_json=as_json,
    )
    raise typer.Exit(guarded(talk, lambda: accounts.price(question, talk)))


@app.command(epilog="Examples: fluxflex journal out, fluxflex journal out --json | jq .state")
def journal(
    place: Annotated[
        Path, typer.Argument(metavar="DIR_OR_FILE", help="A batch's folder, or a journal's file.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Show what a journal knows: items by state, their money, each item, and the problems."""
    from fluxflex.cli import journal as journals
    from fluxflex.cli.talk import Talk, guarded
    from fluxflex.cli.target import run

    talk = Talk()
    raise typer.Exit(guarded(talk, lambda: run(journals.show(place, talk, as_json=as_json))))


app.command(epilog=SIMULATE_EXAMPLES)(simulate)
app.command(epilog=BENCH_EXAMPLES)(bench)


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
