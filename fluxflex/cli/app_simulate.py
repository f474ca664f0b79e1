"""The command `simulate` and its options; see `app` for the others."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import typer

from fluxflex.cli.options import (
    USD,
    CallbackOptions,
    FailureRate,
    FaultShares,
    Host,
    Latency,
    MaxInFlight,
    Pace,
    Port,
    RetryAfter,
    Seed,
    SubmitsPerMinute,
)

EXAMPLES = (
    "Examples: fluxflex simulate --port 8080 --fault busy=0.1, "
    "fluxflex simulate --callbacks lost=0.1,doubled=0.1,late=0.05,late-by=30"
)


def simulate(
    *,
    host: Host = "127.0.0.1",
    port: Port = 0,
    seed: Seed = 0,
    speed: Pace = 1.0,
    latency: Latency = 16.0,
    failure_rate: FailureRate = 0.0,
    balance: Annotated[Decimal, typer.Option(help="The account's balance.", **USD)] = "100",  # type: ignore[assignment]  # typer runs the default through the parser
    max_in_flight: MaxInFlight = None,
    submits_per_minute: SubmitsPerMinute = None,
    retry_after: RetryAfter = None,
    fault: FaultShares = None,
    callbacks: CallbackOptions = None,
) -> None:
    """Run the provider's API on this machine, to rehearse with.

    Tasks with a callback_url are told to it when they end, if it is on this machine.
    """
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
        callbacks=tuple(callbacks or ()),
    )
    raise typer.Exit(guarded(talk, lambda: run(serve.serve(setting, talk))))
