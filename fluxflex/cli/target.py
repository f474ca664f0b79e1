"""Where a command sends its requests: the provider, or a simulator in the same event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import attrs

from fluxflex.cli.exits import UsageError

if TYPE_CHECKING:
    from fluxflex.simulator import Simulator

T = TypeVar("T")

_BASE_URL_VARIABLE = "FLUXFLEX_BASE_URL"
# More than any rehearsal asks for.
PLAY_MONEY = Decimal(1_000_000)
SIMULATED_KEY = "simulated"
# The account of every embedded simulator, and of no other: a folder that was begun with one is
# carried on with the next.
_SIMULATED_USER = 20_262_026
_SPEED = 4.0


@attrs.frozen
class Access:
    """What a session needs to reach it; `None` leaves it to the environment."""

    api_key: str | None
    base_url: str | None


@attrs.frozen(kw_only=True)
class Target:
    """Where requests go.

    Attributes:
        base_url: the API's address, where it is given.
        simulate: whether an embedded simulator stands in for the provider.
        speed: how many times faster than the clock its time runs.

    Raises:
        UsageError: both stand for different places.
    """

    base_url: str | None = None
    simulate: bool = False
    speed: float = _SPEED

    def __attrs_post_init__(self) -> None:
        if self.simulate and self.base_url is not None:
            raise UsageError("--simulate and --base-url exclude each other.")

    @property
    def costs_money(self) -> bool:
        """Whether what is submitted there is paid for."""
        url = self.base_url or os.environ.get(_BASE_URL_VARIABLE) or ""
        return not (self.simulate or is_loopback(url))

    @property
    def words(self) -> list[str]:
        """The options that name it."""
        if self.base_url is not None:
            return ["--base-url", self.base_url]
        faster = ["--speed", f"{self.speed:g}"] if self.speed != _SPEED else []
        return ["--simulate", *faster] if self.simulate else []

    @asynccontextmanager
    async def access(self) -> AsyncIterator[Access]:
        """Give the address and the key, with the simulator behind them where that is asked for."""
        if not self.simulate:
            yield Access(None, self.base_url)
            return
        from fluxflex.simulator import Simulator

        # What it accepted outlives it: its ids say when each task is due, and what it draws.
        simulator = Simulator(
            speed=self.speed,
            balance_usd=PLAY_MONEY,
            user_id=_SIMULATED_USER,
            lasting_ids=True,
        )
        async with embedded(simulator) as access:
            yield access


@asynccontextmanager
async def embedded(simulator: Simulator) -> AsyncIterator[Access]:
    """Run a simulator in this process, and give its address and a key."""
    async with simulator:
        _reach_directly("127.0.0.1")
        yield Access(SIMULATED_KEY, simulator.url)


def is_loopback(url: str) -> bool:
    """Say whether an address is on this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reach_directly(host: str) -> None:
    """Keep a proxy out of the way of a simulator in this very process."""
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [*filter(None, os.environ.get(name, "").split(","))]
        os.environ[name] = ",".join([*hosts, *({host} - set(hosts))])


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop of its own: uvloop's where there is one."""
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        return runner.run(work)
