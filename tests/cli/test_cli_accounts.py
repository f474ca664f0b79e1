"""`fluxflex account` and `price`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fluxflex import Account
from fluxflex.cli import accounts
from tests.cli import cli_helpers as shared
from tests.cli.cli_helpers import KEY, Provider, Said

Run = Callable[..., Said]
Provide = Callable[..., Provider]

room, run, provide, spawn = shared.room, shared.run, shared.provide, shared.spawn


@pytest.fixture
def keyless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the key away."""
    monkeypatch.delenv("FLUXFLEX_API_KEY")


# -- account ----------------------------------------------------------------------------------


def test_the_account_in_words(run: Run, provide: Provide) -> None:
    """The balance and what it is enough for go to stdout, since they are what was asked for."""
    said = run("account", "--base-url", provide(balance_usd=Decimal("12.34")).url)
    assert said == Said(
        0,
        "Balance: $12.34, enough for pictures: 308 at 1K or 205 at 2K\n"
        "User: 12345\nEmail: a@example.com\n",
        "",
    )


def test_the_account_for_programs(run: Run, provide: Provide) -> None:
    """The balance is a number, and everything else that is known stands beside it."""
    said = run("account", "--json", "--base-url", provide(balance_usd=Decimal("12.34")).url)
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert found == {
        "balance_usd": 12.34,
        "user_id": "12345",
        "email": "a@example.com",
        "restricted_until": None,
    }


def test_an_account_that_may_not_generate() -> None:
    """A restriction is told with its end; a debt buys nothing, and is shown as it is."""
    found = Account(balance_usd=Decimal("-0.5"), restricted_until=1_800_000_000.0)
    assert list(accounts._words(found)) == [
        "Balance: $-0.50, enough for pictures: 0 at 1K or 0 at 2K",
        "Restricted: it may not generate until 2027-01-15 08:00 UTC",
    ]
    odd = Account(balance_usd=Decimal(1), restricted_until=1e30)
    assert list(accounts._words(odd))[-1] == "Restricted: it may not generate until 1e+30"


@pytest.mark.usefixtures("keyless")
def test_the_account_of_a_rehearsal(run: Run) -> None:
    """`--simulate` needs no key, and says that the money is play money."""
    said = run("account", "--simulate", "--json")
    assert (said.code, said.err) == (0, "Simulated: play money.\n")
    found = json.loads(said.out)
    assert (found["balance_usd"], found["simulated"]) == (1_000_000, True)


@pytest.mark.usefixtures("keyless")
def test_an_account_without_a_key(run: Run) -> None:
    """Without a key it ends with 3 and says where to put one."""
    said = run("account")
    assert (said.code, said.out) == (3, "")
    assert "Set FLUXFLEX_API_KEY or UNIFICALLY_API_KEY" in said.err


def test_an_account_behind_a_refused_key(run: Run, provide: Provide) -> None:
    """A key that is not accepted ends with 3; nothing goes to stdout."""
    said = run("account", "--json", "--base-url", provide(api_keys=["other"]).url)
    assert (said.code, said.out) == (3, "")


def test_an_account_has_one_address(run: Run) -> None:
    """`--simulate` and `--base-url` name two places."""
    assert run("account", "--simulate", "--base-url", "http://127.0.0.1:9").code == 2


# -- price ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("keyless")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "1 picture at 1K: $0.04"),
        (["--quality", "2K"], "1 picture at 2K: $0.06"),
        (["--prompt", "a sea", "-a", "16:9", "--steps", 50, "--cfg", 9], "1 picture at 1K: $0.04"),
    ],
)
def test_the_price_of_one_request(run: Run, options: list[object], words: str) -> None:
    """It needs no key, and only the quality counts."""
    assert run("price", *options) == Said(0, f"{words}\n", "")


@pytest.mark.parametrize(
    "options", [["-q", "4K"], ["--prompt", " "], ["--steps", 99], ["-a", "21:9"]]
)
def test_what_is_no_request_has_no_price(run: Run, options: list[object]) -> None:
    """Options that would be refused end with 8."""
    said = run("price", *options)
    assert (said.code, said.out) == (8, "")
    assert " must " in said.err or "21:9" in said.err


@pytest.mark.usefixtures("keyless")
def test_the_price_of_a_source(run: Run) -> None:
    """Items are counted by quality; the options count where an item is silent."""
    Path("p.csv").write_text("prompt,quality,author\na,1K,x\nb,,y\nc,2K,z\n")
    said = run("price", "p.csv", "--quality", "2K")
    assert said.code == 0
    assert said.lines == [
        "1 picture at 1K: $0.04",
        "2 pictures at 2K: $0.12",
        "3 pictures in all: $0.16",
    ]
    assert said.err == "p.csv: kept as metadata, not sent: author.\n"
    assert json.loads(run("price", "p.csv", "--json").out) == {
        "count": 3,
        "estimate_usd": 0.14,
        "by_quality": {
            "1K": {"count": 2, "estimate_usd": 0.08},
            "2K": {"count": 1, "estimate_usd": 0.06},
        },
    }


def test_the_price_of_nothing(run: Run) -> None:
    """A source without prompts costs nothing."""
    Path("p.txt").write_text("# later\n")
    assert run("price", "p.txt") == Said(
        0, "0 pictures in all: $0.00\n", "p.txt holds no prompts.\n"
    )


def test_a_source_with_bad_lines_has_no_price(run: Run) -> None:
    """Each bad line is named, and it ends with 8."""
    Path("p.csv").write_text("prompt,steps\na,3\nb,many\nc,99\n")
    said = run("price", "p.csv", "--json")
    assert (said.code, said.out) == (8, "")
    assert said.err.splitlines() == [
        "p.csv, line 3: steps must be a whole number from 1 to 50, not 'many'",
        "p.csv, line 4: steps must be from 1 to 50, not 99",
        "fluxflex: 2 lines of 3 cannot be used.",
    ]


def test_options_that_no_item_may_have(run: Run) -> None:
    """Bad options are told once, not for each line."""
    Path("p.txt").write_text("a\nb\n")
    said = run("price", "p.txt", "--quality", "4K")
    assert said.code == 8
    assert said.err.count("quality must be") == 1


@pytest.mark.parametrize("words", [["missing.csv"], ["p.txt", "--prompt", "a sea"]])
def test_what_cannot_be_priced(run: Run, words: list[str]) -> None:
    """No such file, or two things at once, is a usage error."""
    Path("p.txt").write_text("a\n")
    assert run("price", *words).code == 2


@pytest.mark.usefixtures("keyless")
def test_a_rehearsed_price(run: Run) -> None:
    """A rehearsal asks for the same, and programs can tell."""
    said = run("price", "--simulate", "--json")
    assert json.loads(said.out)["simulated"] is True
    assert "play money" in said.err


def test_the_price_of_stdin(spawn: Callable[..., Any]) -> None:
    """`-` reads the lines of a pipe to its end."""
    reading, writing = os.pipe()
    os.write(writing, b'one\n{"prompt": "two", "quality": "2K"}\n')
    os.close(writing)
    process = spawn("price", "-", stdin=reading)
    os.close(reading)
    assert process.communicate(timeout=30)[0].splitlines()[-1] == "2 pictures in all: $0.10"


@pytest.mark.parametrize("command", ["account", "price", "journal"])
def test_each_command_shows_an_example(run: Run, command: str) -> None:
    """`--help` says what it is for and how it is typed, and never the key."""
    said = run(command, "--help")
    assert said.code == 0
    assert f"fluxflex {command} " in said.out
    assert "Example" in said.out
    assert KEY not in said.out
