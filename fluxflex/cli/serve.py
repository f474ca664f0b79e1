"""`fluxflex simulate`: the provider on this machine, in the foreground."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import attrs

from fluxflex.cli.exits import Code, SignalledError, UsageError
from fluxflex.cli.interrupts import stoppable
from fluxflex.cli.talk import Talk, counted, dollars
from fluxflex.cli.target import SIMULATED_KEY
from fluxflex.simulator import Callbacks, Durations, Fault, Faults, Ledger, Simulator, faults

# What goes wrong, by name: with which kind of request, and how.
FAULTS: Mapping[str, tuple[str, Callable[[], Fault]]] = {
    "busy": ("submit", faults.rate_limited),
    "drop": ("submit", faults.accept_then_drop),
    "reset": ("submit", faults.reset),
    "gateway": ("submit", lambda: faults.gateway(502)),
    "unreadable": ("submit", lambda: faults.unreadable(accepts=True)),
    "poll-gateway": ("status", lambda: faults.gateway(502)),
    "poll-busy": ("status", faults.rate_limited),
    "poll-reset": ("status", faults.reset),
    "file-expired": ("files", faults.expired),
    "file-cut": ("files", lambda: faults.truncated(2000)),
}


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{value!r} is no number") from None


def _yes(value: str) -> bool:
    if value != "yes":
        raise ValueError("it takes no value")
    return True


# What becomes of callbacks, by name: the field, how its value is read, and what the bare name
# means; where that is None there must be a value.
CALLBACKS: Mapping[str, tuple[str, Callable[[str], object], str | None]] = {
    "lost": ("lost", _number, "1"),
    "doubled": ("doubled", _number, "1"),
    "doubled-by": ("doubled_by", _number, None),
    "late": ("late", _number, "1"),
    "late-by": ("late_by", _number, None),
    "early": ("early", _number, "1"),
    "forged": ("forged", _number, "1"),
    "shape": ("shape", str, None),
    "secret": ("signature_secret", str, None),
    "anywhere": ("anywhere", _yes, "yes"),
}


@attrs.frozen(kw_only=True)
class Setting:
    """What the simulator is like; see `fluxflex.simulator.Simulator`."""

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    speed: float = 1.0
    latency: float = 16.0
    failure_rate: float = 0.0
    balance: Decimal = Decimal(100)
    max_in_flight: int | None = None
    submits_per_minute: int | None = None
    retry_after: float | None = None
    faults: Sequence[str] = ()
    callbacks: Sequence[str] = ()


def scripts(named: Sequence[str], seed: int = 0) -> Faults:
    """Return the faults of `NAME=SHARE` words: each hits that share of its kind of request.

    Raises:
        UsageError: a word is not of that form.
    """
    chosen: dict[str, list[Callable[..., Fault | None]]] = {}
    for word in named:
        name, _, share = word.partition("=")
        if name not in FAULTS:
            raise UsageError(f"There is no fault {name!r}. There are {', '.join(FAULTS)}.")
        try:
            fraction = float(share or 1)
        except ValueError:
            fraction = -1.0
        if not 0 <= fraction <= 1:
            raise UsageError(f"--fault {word}: the share must be a number from 0 to 1.")
        kind, make = FAULTS[name]
        chosen.setdefault(kind, []).append(faults.share(fraction, make(), seed=seed))
    return Faults(**{kind: _any(picks) for kind, picks in chosen.items()})


def _any(picks: Sequence[Callable[..., Fault | None]]) -> Callable[..., Fault | None]:
    return lambda arrival: next(filter(None, (pick(arrival) for pick in picks)), None)


def callbacks(named: Sequence[str]) -> Callbacks:
    """Return the callbacks of words such as `lost=0.1,late=0.05`; of two alike the last holds.

    Raises:
        UsageError: a word is not of that form.
    """
    chosen: dict[str, Any] = {}
    for word in filter(None, ",".join(named).split(",")):
        name, equals, text = word.partition("=")
        if name not in CALLBACKS:
            raise UsageError(
                f"There is nothing about callbacks called {name!r}. There are "
                f"{', '.join(CALLBACKS)}."
            )
        field, read, bare = CALLBACKS[name]
        value = text if equals else bare
        if not value:
            raise UsageError(f"--callbacks {word}: it needs a value, as in {name}=VALUE.")
        try:
            chosen[field] = read(value)
            Callbacks(**chosen)
        except ValueError as fault:
            raise UsageError(f"--callbacks {word}: {fault}.") from None
    return Callbacks(**chosen)


def simulator(setting: Setting) -> Simulator:
    """Make the simulator of these settings."""
    return Simulator(
        host=setting.host,
        port=setting.port,
        seed=setting.seed,
        speed=setting.speed,
        durations=Durations(median=setting.latency) if setting.latency else 0.0,
        failure_rate=setting.failure_rate,
        balance_usd=setting.balance,
        max_in_flight=setting.max_in_flight,
        submits_per_minute=setting.submits_per_minute,
        limit_retry_after=setting.retry_after,
        faults=scripts(setting.faults, setting.seed),
        callbacks=callbacks(setting.callbacks),
    )


async def serve(setting: Setting, talk: Talk) -> int:
    """Run until a signal comes, then tell what happened.

    Raises:
        UsageError: a fault, or something about callbacks, is not known.
        OSError: the address cannot be had.
    """
    async with AsyncExitStack() as stack:
        try:
            running = await stack.enter_async_context(simulator(setting))
        except OSError as error:
            raise OSError(
                f"The simulator cannot listen at {setting.host}:{setting.port}: "
                f"{error.strerror or error}. Without --port it takes a port that is free."
            ) from error
        talk.say("The provider is simulated at this address; nothing it does costs money. Use it:")
        talk.say(f"  export FLUXFLEX_BASE_URL={running.url} FLUXFLEX_API_KEY={SIMULATED_KEY}")
        talk.say("Ctrl-C ends it.")
        talk.out(running.url)
        try:
            await stoppable(asyncio.Event().wait())
        except SignalledError:
            talk.say(_summary(running))
            if running.ledger.callbacks_by_kind:
                talk.say(_told(running.ledger))
    return Code.DONE


def _summary(running: Simulator) -> str:
    ledger = running.ledger
    states = [entry.state(running.now()) for entry in ledger.entries]
    ended = ", ".join(
        f"{states.count(state)} {state}" for state in ("completed", "failed") if state in states
    )
    return (
        f"Ended: {counted(len(ledger), 'task')} accepted{f' ({ended})' if ended else ''}, "
        f"{dollars(ledger.billed_usd)} billed, {counted(ledger.posts_received, 'POST')}, "
        f"{counted(ledger.status_requests, 'look')}, "
        f"{counted(ledger.file_requests, 'download')}, "
        f"at most {ledger.max_in_flight} in flight."
    )


def _told(ledger: Ledger) -> str:
    kinds = ledger.callbacks_by_kind
    answers = Counter(str(sent.status or "none") for sent in ledger.callbacks)
    lines = [f"Callbacks: {_listed(kinds)}."]
    if answers:
        lines.append(f"Answers to them: {_listed(answers)}.")
    if kinds["elsewhere"]:
        lines.append(
            "Those elsewhere were not sent: their URLs are not on this machine, or not HTTP; "
            "--callbacks anywhere sends to other machines too."
        )
    return "\n".join(lines)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count)
