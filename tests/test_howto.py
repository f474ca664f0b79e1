"""The how-to pages: every sample runs as it is written, against the simulator."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import textwrap
from pathlib import Path

import pytest

from fluxflex.simulator import Simulator

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "howto").glob("*.md"))
IN_A_SESSION = """
import asyncio
from pathlib import Path

import fluxflex


async def main() -> None:
    prompts = ["a sea", "a lake"]
    async with fluxflex.Session() as session:
{}

asyncio.run(main())
"""

TOKEN = re.compile(r"[A-Za-z0-9_-]{48}")


def samples(page: Path) -> list[str]:
    """Return the fenced Python of a page."""
    blocks = page.read_text(encoding="utf-8").split("```")[1::2]
    return [block.removeprefix("python") for block in blocks if block.startswith("python")]


async def run(code: str, folder: Path, sim: Simulator) -> str:
    """Run a program against the simulator; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        cwd=folder,
        env={**os.environ, "FLUXFLEX_API_KEY": "sk-test", "FLUXFLEX_BASE_URL": sim.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


# An application that serves for ever is served until it has made one picture.
ONE_PICTURE = """
import asyncio, logging, sys, urllib.request

import uvicorn
from aiohttp import web


async def ask(host, port):
    url = f"http://{host}:{port}/pictures?prompt=a+lighthouse"
    request = urllib.request.Request(url, method="POST")
    with await asyncio.to_thread(urllib.request.urlopen, request) as reply:
        print(reply.read().decode())


def with_uvicorn(app, host, port, **options):
    async def serve():
        server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, **options))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0)
        await ask(host, port)
        server.should_exit = True
        await serving

    asyncio.run(serve())


def with_aiohttp(app, host, port, **options):
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)

    async def serve():
        runner = web.AppRunner(app, **options)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        await ask(host, port)
        await runner.cleanup()

    asyncio.run(serve())


uvicorn.run, web.run_app = with_uvicorn, with_aiohttp
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_every_sample_runs(page: Path, tmp_path: Path) -> None:
    """Word for word, but for the port, in the order of the page, in one folder."""
    async with Simulator(durations=0.0) as sim:
        for sample in samples(page):
            serves = "run(app" in sample or "run_app(" in sample
            program = (ONE_PICTURE if serves else "") + sample.replace("8000", str(free_port()))
            said = await run(program, tmp_path, sim)
            assert "http" in said or not serves
            assert TOKEN.search(said) is None


async def test_a_second_run_buys_nothing(tmp_path: Path) -> None:
    """The page on carrying on says: the first time six pictures, the second time none."""
    sample = samples(ROOT / "docs" / "howto" / "carry-on.md")[0]
    async with Simulator(durations=0.0) as sim:
        first = await run(sample, tmp_path, sim)
        second = await run(sample, tmp_path, sim)
        assert len(sim.ledger.entries) == 6
    assert first.count("False pictures/") == second.count("True pictures/") == 6
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 6


@pytest.mark.parametrize("sample", samples(ROOT / "README.md")[1:])
async def test_the_readmes_later_samples_run_in_a_session(sample: str, tmp_path: Path) -> None:
    """They begin where the first one left off: with a session and prompts."""
    async with Simulator(durations=0.0) as sim:
        await run(IN_A_SESSION.format(textwrap.indent(sample, " " * 8)), tmp_path, sim)
