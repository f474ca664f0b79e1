"""The README's commands and its code do what it says."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from fluxflex.simulator import Simulator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fences(language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    blocks = README.split("```")[1::2]
    return [block.removeprefix(language).strip() for block in blocks if block.startswith(language)]


def command(word: str) -> str:
    """Return the first fenced line with a word in it."""
    lines = (line for block in README.split("```")[1::2] for line in block.splitlines())
    return next(line for line in lines if word in line)


@pytest.mark.parametrize("word", ["--simulate", "pytest"])
def test_each_command_is_one_line_that_sets_itself_up(word: str) -> None:
    """A fresh machine with only Python needs nothing else, and no prompt sign is in the way."""
    line = command(word)
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install --quiet ")
    assert "\n" not in line


def test_the_main_job_leaves_24_pictures(tmp_path: Path) -> None:
    """The first command ends with 24 pictures, their results and a page, inside the clone."""
    shutil.copytree(ROOT / "docs" / "examples", tmp_path / "docs" / "examples")
    job = shlex.split(command("--simulate").split("&&")[-1])
    assert job[0] == ".venv/bin/fluxflex"
    environment = {name: value for name, value in os.environ.items() if "API_KEY" not in name}

    async def run() -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "fluxflex",
            *job[1:],
            "--speed",
            "1000",
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    code, out, err = asyncio.run(run())
    assert code == 0, err
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 24
    assert len({picture.read_bytes() for picture in pictures}) == 24
    assert len(out.splitlines()) == 24
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 24
    assert (tmp_path / "out" / "index.html").exists()
    assert "$" in err


async def test_the_sample_runs_as_it_is_written(tmp_path: Path) -> None:
    """The first code block, word for word, against the simulator."""
    sample = fences("python")[0]
    async with Simulator(durations=0.0) as sim:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            sample,
            cwd=tmp_path,
            env={**os.environ, "FLUXFLEX_API_KEY": "sk-test", "FLUXFLEX_BASE_URL": sim.url},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert len(sim.ledger.entries) == 102
    lines = out.decode().splitlines()
    assert lines[0].endswith("TaskState.RUNNING")
    assert len(lines) == 101
    assert (tmp_path / "lighthouse.png").exists()
    assert len(list((tmp_path / "studies").glob("*.png"))) == 100
