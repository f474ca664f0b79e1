"""The plot: that it is drawn, marked and repeatable; how it looks is for eyes."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import pytest

from fluxflex.bench import Advice, check_plot, plot
from fluxflex.errors import ConfigurationError
from tests.bench.test_bench_levels import LEVEL

LEVELS = [attrs.evolve(LEVEL, concurrency=number, throughput=number / 1.2) for number in (1, 4, 16)]


def test_an_svg_and_a_png(tmp_path: Path) -> None:
    """Each path is drawn in the format of its suffix; the same levels make the same SVG."""
    paths = [tmp_path / "a.svg", tmp_path / "b.svg", tmp_path / "c.png"]
    plot(LEVELS, paths, advice=Advice(4, "because"), title="A bench")
    plot(LEVELS, paths[1:2], advice=Advice(4, "because"), title="A bench")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"<svg" in paths[0].read_bytes()
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_levels_without_a_lag_or_a_picture(tmp_path: Path) -> None:
    """What was not measured is left out; without a lag the time to the picture is shown."""
    nothing = attrs.evolve(LEVELS[2], throughput=0.0, submit=None, picture=None)
    bare = [attrs.evolve(level, lag=None, turned_away=0) for level in (*LEVELS[:2], nothing)]
    plot(bare, [tmp_path / "a.svg"])
    plot([attrs.evolve(nothing, lag=None)], [tmp_path / "b.svg"])
    assert (tmp_path / "b.svg").exists()


def test_without_the_extra_its_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'fluxflex\[plot\]'"):
        check_plot()
    with pytest.raises(ConfigurationError):
        plot(LEVELS, [tmp_path / "a.svg"])
