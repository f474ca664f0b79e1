"""`fluxflex simulate --callbacks`: its words, its help, and what it says at the end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from fluxflex import Session
from fluxflex.cli import serve
from fluxflex.cli.exits import UsageError
from fluxflex.cli.talk import Talk
from fluxflex.simulator import Callbacks, Ledger, SentCallback
from tests.cli import cli_helpers as shared
from tests.cli.cli_helpers import Said

Run = Callable[..., Said]

room, run = shared.room, shared.run


async def address(capsys: pytest.CaptureFixture[str]) -> str:
    """Let the simulator start, and return its URL."""
    url = ""
    while not url:
        await asyncio.sleep(0)
        url = capsys.readouterr().out.strip()
    return url


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Callbacks()),
        (["lost=0.1,doubled=0.2,late=0.05"], Callbacks(lost=0.1, doubled=0.2, late=0.05)),
        (["lost=0.1", "late=0.05,"], Callbacks(lost=0.1, late=0.05)),
        (["lost=0.1,lost=0.3"], Callbacks(lost=0.3)),
        (
            ["lost", "doubled", "late", "early", "forged"],
            Callbacks(lost=1, doubled=1, late=1, early=1, forged=1),
        ),
        (["late-by=30,doubled-by=2,forged=2.5"], Callbacks(late_by=30, doubled_by=2, forged=2.5)),
        (["shape=mixed,anywhere"], Callbacks(shape="mixed", anywhere=True)),
        (["secret=s3=cret"], Callbacks(signature_secret="s3=cret")),
    ],
)
def test_callbacks_by_word(words: list[str], expected: Callbacks) -> None:
    """Each word is one option; a bare share is the share of all."""
    assert serve.callbacks(words) == expected


@pytest.mark.parametrize(
    "word",
    [
        "gone=1",
        "lost=2",
        "lost=often",
        "lost=nan",
        "lost=",
        "late-by",
        "late-by=-1",
        "shape=round",
        "secret",
        "anywhere=no",
        "lost:0.1",
    ],
)
def test_other_words_are_usage_errors(run: Run, word: str) -> None:
    """What is wrong is named, before anything listens."""
    said = run("simulate", "--callbacks", word)
    assert said.code == 2
    assert word.partition("=")[0] in said.err
    with pytest.raises(UsageError):
        serve.callbacks([word])


def test_the_help_names_every_word(run: Run) -> None:
    """Nobody has to read the source to rehearse a lost callback."""
    said = run("simulate", "--help")
    assert said.code == 0
    told = " ".join(said.out.replace("│", " ").split())
    for name in set(serve.CALLBACKS) - {"doubled-by"}:
        assert name in told, name


async def test_the_summary_tells_of_callbacks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What became of them, how they were answered, and that some stayed here."""
    running = serve.simulator(serve.Setting(latency=0, callbacks=["doubled"]))
    monkeypatch.setattr(serve, "simulator", lambda _: running)
    work = asyncio.ensure_future(serve.serve(serve.Setting(), Talk()))
    await address(capsys)
    async with Session("key", base_url=running.url) as session:
        await session.generate("a sea", callback_url="https://me.example/t0ken")
        # The provider itself is here, and has no such path.
        await session.generate("a sea", callback_url=f"{running.url}/t0ken")
        await running.wait_for(lambda ledger: len(ledger.callbacks) == 2)
    signal.raise_signal(signal.SIGTERM)
    assert await work == 0
    ended = capsys.readouterr().err
    assert "Callbacks: 1 double, 1 elsewhere, 1 plain.\nAnswers to them: 2 404.\n" in ended
    assert "--callbacks anywhere" in ended
    assert "t0ken" not in ended


async def test_without_callbacks_nothing_is_said_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The end is told as before."""
    work = asyncio.ensure_future(serve.serve(serve.Setting(), Talk()))
    await address(capsys)
    signal.raise_signal(signal.SIGTERM)
    assert await work == 0
    assert "allback" not in capsys.readouterr().err


def test_a_callback_that_nobody_answered_is_told() -> None:
    """Nothing is said of other machines where nothing stayed here."""
    ledger = Ledger()
    ledger.record_callback(
        SentCallback(task_id="t", kind="late", attempt=1, at=0, status=None, url="http://h/t")
    )
    assert serve._told(ledger) == "Callbacks: 1 late.\nAnswers to them: 1 none."
