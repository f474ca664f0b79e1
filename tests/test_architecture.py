"""The floors of the house: a module imports only from floors below its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fluxflex

ROOT = Path(__file__).parents[1] / "fluxflex"

# From the ground up. What stands on one floor does not know its neighbours.
FLOORS: list[set[str]] = [
    {"_core", "_aio", "errors", "_core.jsonlib", "_core.window", "_core.scrub"},
    {"_core.request", "_core.durations", "_core.order", "_core.gate", "_core.limits"},
    {"_core.lifecycle", "_core.schedule"},
    {"_core.exchange", "_core.budget", "_core.plan", "_core.addresses"},
    {"_core.retry", "_core.refusals", "_core.registry", "_core.till", "_core.scheduler"},
    {"_core.encode", "_core.decode"},
    # Pure below: no loop, no clock, no I/O, no logging.
    {"_aio.guard", "_aio.ways"},
    {"_aio.deadlines", "_aio.limiter", "_aio.reports", "_aio.tally", "_aio.crew"},
    {"_aio.transport"},
    {"webhooks.tokens", "webhooks.signatures", "webhooks.reach"},
    {"webhooks.heads"},
    {"webhooks.connection"},
    {"webhooks.server"},
    {"webhooks.receiver"},
    {"webhooks.asgi", "webhooks.web"},
    {"webhooks"},
    {
        "_aio.watch",
        "_aio.discreet",
        "_aio.slots",
        "_aio.entry",
        "_aio.pictures",
        "_aio.room",
        "_aio.trouble",
    },
    {"_aio.sender", "_aio.images", "_aio.settings", "_aio.schema"},
    {"_aio.poller", "_aio.handle", "_aio.account", "_aio.store"},
    {"_aio.journal", "_aio.runs", "_aio.adoption", "_aio.outcome", "_aio.reading"} | {"_aio.books"},
    {"_aio.callbacks"},
    {"_aio.tasks", "_aio.outbox"},
    {"_aio.engine"},
    {"_aio.memory"},
    {"_aio.pages", "_aio.lifetime"},
    {"_aio.batch"},
    {"_aio.session"},
    {""},
]
# These stand beside the floors, each with a rule of its own.
APART = {"simulator"}
ON_TOP = {"__main__", "cli", "bench", "report", "testing"}
# What those on top may import, besides their own package.
PUBLIC = {"fluxflex"} | {
    f"fluxflex.{name}" for name in ("bench", "cli", "errors", "simulator", "webhooks")
}

IMPURE = {"asyncio", "anyio", "aiohttp", "time", "random", "os", "pathlib", "logging"}
LONGEST = 350
TYPES_ONLY = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}

FLOOR_OF = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
FILES = sorted(ROOT.rglob("*.py"))


def module_of(path: Path) -> str:
    """Return a file's module, by its dotted name below `fluxflex`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def head(module: str) -> str:
    """Return the first part of a dotted name."""
    return module.partition(".")[0]


def run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a module that run: all but those that only the type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in TYPES_ONLY:
            for other in node.orelse:
                yield other
                yield from run_time(other)
        else:
            yield node
            yield from run_time(node)


def imports(source: str, module: str, *, package: bool = False) -> set[tuple[str, str]]:
    """Return what a module imports when it runs, deferred imports included.

    Each is the full name of a module, and the name that is taken from it or `""`.
    """
    home = ["fluxflex", *filter(None, module.split("."))]
    found = set()
    for node in run_time(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = node.level - package
            base = home[: len(home) - up] if node.level else []
            whole = ".".join([*base, *filter(None, [node.module])])
            found |= {(whole, alias.name) for alias in node.names}
    return found


def imports_of(module: str) -> set[tuple[str, str]]:
    """Return what a module of the package imports when it runs."""
    path = MODULES[module]
    return imports(path.read_text(), module, package=path.name == "__init__.py")


def ours(whole: str, name: str) -> str | None:
    """Return the module of `fluxflex` that an import is of; `None` for anything else."""
    if head(whole) != "fluxflex":
        return None
    below = whole.removeprefix("fluxflex").removeprefix(".")
    deeper = ".".join(filter(None, [below, name]))
    return deeper if deeper in MODULES else below


HOUSE = sorted(module for module in MODULES if head(module) not in APART | ON_TOP)
PURE = [module for module in HOUSE if head(module) in {"_core", "errors"}]


def test_every_module_has_its_floor() -> None:
    """The drawing above names every module there is, and no other."""
    assert sorted(FLOOR_OF) == HOUSE
    assert len(FLOOR_OF) == sum(map(len, FLOORS))


@pytest.mark.parametrize("module", HOUSE)
def test_imports_only_from_floors_below(module: str) -> None:
    """No module knows another on its own floor, or above it."""
    known = {ours(*each) for each in imports_of(module)} - {None}
    too_high = {name for name in known if name and FLOOR_OF[name] >= FLOOR_OF[module]}
    assert not too_high
    assert "" not in known, "what stands below the front door does not go through it"


@pytest.mark.parametrize("module", PURE)
def test_the_pure_floors_have_no_loop_clock_or_disk(module: str) -> None:
    """Time and randomness are arguments down there; nothing is read, written or logged."""
    assert not {head(whole) for whole, _ in imports_of(module)} & IMPURE


def test_the_simulator_stands_apart() -> None:
    """The simulator is a second reading of the contract: it shares no code with the client."""
    for module in MODULES:
        if head(module) == "simulator":
            known = {ours(*each) for each in imports_of(module)} - {None}
            assert {head(name) for name in known if name is not None} <= {"simulator"}, module


def test_what_stands_on_top_uses_public_names_only() -> None:
    """The command line and its like need nothing that users do not have."""
    for module in MODULES:
        if head(module) not in ON_TOP:
            continue
        for whole, name in imports_of(module):
            if head(whole) != "fluxflex" or f"{whole}.".startswith(f"fluxflex.{head(module)}."):
                continue
            assert whole in PUBLIC, (module, whole)
            assert not name.startswith("_"), (module, whole, name)
            if whole == "fluxflex" and name:
                assert name in fluxflex.__all__ or f"fluxflex.{name}" in PUBLIC, (module, name)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_is_longer_than_one_sitting(module: str) -> None:
    """A module of more than 350 lines wants a split at a natural seam."""
    lines = MODULES[module].read_text().count("\n")
    assert lines <= LONGEST


def test_imports_are_seen_wherever_they_stand() -> None:
    """Deferred and relative imports count, those of the type checker do not."""
    source = """
import os.path, json
from typing import TYPE_CHECKING
from . import sender as other
from ..errors import Fault

if TYPE_CHECKING:
    import asyncio
    if True:
        import anyio
else:
    import time

def later():
    try:
        from fluxflex._core import decode
    except ImportError:
        import random
"""
    assert imports(source, "_aio.poller") == {
        ("os.path", ""),
        ("json", ""),
        ("typing", "TYPE_CHECKING"),
        ("fluxflex._aio", "sender"),
        ("fluxflex.errors", "Fault"),
        ("time", ""),
        ("fluxflex._core", "decode"),
        ("random", ""),
    }
    assert imports("from . import errors", "", package=True) == {("fluxflex", "errors")}
    assert ours("fluxflex._core", "decode") == "_core.decode"
    assert ours("fluxflex._core.decode", "read_plain") == "_core.decode"
    assert ours("fluxflex", "Session") == ""
    assert ours("json", "") is None
