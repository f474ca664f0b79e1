"""The front door: what `fluxflex` shows, and what importing it does not do."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fluxflex
from fluxflex import errors


def run(program: str) -> str:
    """Run a program in a fresh interpreter and return what it prints."""
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()


def test_the_names_fit_on_a_page() -> None:
    """At most forty, each once, in order."""
    assert len(fluxflex.__all__) <= 40
    assert len(set(fluxflex.__all__)) == len(fluxflex.__all__)
    assert dir(fluxflex) == sorted([*fluxflex.__all__, "errors", "simulator", "webhooks"])


@pytest.mark.parametrize("name", fluxflex.__all__)
def test_every_name_resolves(name: str) -> None:
    """And is the same thing each time."""
    assert getattr(fluxflex, name) is getattr(fluxflex, name)


def test_every_name_is_known_to_the_lazy_import() -> None:
    """What `__all__` promises and what is imported on demand are the same names."""
    assert set(fluxflex._HOME) | {"__version__"} == set(fluxflex.__all__)


def test_a_name_that_is_none() -> None:
    """The usual error, so that `hasattr` works."""
    assert not hasattr(fluxflex, "nonsense")
    with pytest.raises(AttributeError, match="nonsense"):
        fluxflex.nonsense  # noqa: B018 - looking it up is the test


def test_importing_it_is_light() -> None:
    """Neither aiohttp (a fifth of a second) nor anything else is imported before it is used."""
    heavy = "{'aiohttp', 'anyio', 'attrs', 'attr', 'cattrs', 'asyncio', 'rich', 'typer'}"
    assert run(f"import sys, fluxflex; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_importing_it_reads_nothing() -> None:
    """No environment, no file of ours but the package itself, no thread, no loop."""
    program = """
import os, sys, threading
seen = []
class Watched(dict):
    def get(self, key, default=None): seen.append(key); return default
    def __getitem__(self, key): seen.append(key); raise KeyError(key)
    def __contains__(self, key): seen.append(key); return False
os.environ = Watched()
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import fluxflex
others = [name for name in opened if not name.endswith((".py", ".pyc"))]
print(seen, others, threading.active_count())
"""
    assert run(program) == "[] [] 1"


def _is_public(name: str, thing: object) -> bool:
    return inspect.isclass(thing) and thing.__module__ == errors.__name__ and name[0] != "_"


def public() -> dict[str, Any]:
    """Return everything public, by its dotted name."""
    found: dict[str, Any] = {"fluxflex": fluxflex, "fluxflex.errors": errors}
    ours = [name for name, thing in vars(errors).items() if _is_public(name, thing)]
    for module, names in ((fluxflex, fluxflex.__all__), (errors, ours)):
        for name in names:
            thing = getattr(module, name)
            if not inspect.isclass(thing) and not inspect.isroutine(thing):
                continue
            found[f"{module.__name__}.{name}"] = thing
            for member, value in vars(thing).items():
                if not member.startswith("_") and (
                    inspect.isroutine(value) or isinstance(value, property)
                ):
                    found[f"{module.__name__}.{name}.{member}"] = value
    return found


@pytest.mark.parametrize("name", public())
def test_everything_public_is_documented(name: str) -> None:
    """One sentence at least, that ends as one."""
    text = inspect.getdoc(public()[name])
    assert text
    assert text.split("\n\n")[0].rstrip().endswith((".", ":"))


def test_the_errors_that_users_catch_are_at_the_front_door() -> None:
    """The same classes as in `fluxflex.errors`."""
    for name in (
        "FluxFlexError",
        "InvalidRequestError",
        "APIError",
        "RateLimitError",
        "SubmitUncertainError",
        "GenerationError",
        "TaskTimeoutError",
        "BudgetExceededError",
    ):
        assert getattr(fluxflex, name) is getattr(errors, name)


def test_the_types_are_shipped() -> None:
    """Users' type checkers see ours."""
    root = inspect.getsourcefile(fluxflex)
    assert root is not None
    assert Path(root).with_name("py.typed").exists()
