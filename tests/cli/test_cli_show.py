"""What people see: progress, the gallery, and words on stderr."""

from __future__ import annotations

import io
import logging
import os
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import attrs
import pytest
from rich.console import Console

from fluxflex import Outcome, TaskState, errors
from fluxflex.cli import gallery, progress, summary, target
from fluxflex.cli.progress import Lines, Screen, Snapshot, duration, speed
from fluxflex.cli.talk import Talk, counted, dollars, guarded, hushed
from tests.cli import cli_helpers as shared

room = shared.room

AT = Snapshot(
    done=3,
    made=3,
    total=12,
    running=4,
    failed=1,
    elapsed=6.0,
    spent=Decimal("0.28"),
    reserved=Decimal("0.06"),
    estimate=Decimal("0.5"),
)
PACE = "4 running, 1 failed, 30.0 pictures/min, 0:18 left"
MONEY = "$0.28 spent, $0.06 reserved of about $0.50"


@attrs.define
class Clock:
    """A clock that a test moves."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.mark.parametrize(
    ("seconds", "clock"), [(0.4, "0:00"), (67, "1:07"), (3599, "59:59"), (11100, "3:05:00")]
)
def test_durations_are_clock_times(seconds: float, clock: str) -> None:
    """Minutes and seconds, with hours where there are any."""
    assert duration(seconds) == clock


def test_numbers_as_people_read_them() -> None:
    """Rates have the unit in which they are easy, money has cents and what more it needs."""
    assert speed(0.5) == "30.0 pictures/min"
    assert speed(2.25) == "2.2 pictures/s"
    assert dollars(Decimal("0.0450")) == "$0.045"
    assert dollars(Decimal(1200)) == "$1,200.00"
    assert counted(1, "task") == "1 task"
    assert counted(1000, "task") == "1,000 tasks"
    assert attrs.evolve(AT, done=12).left is None
    assert attrs.evolve(AT, stopping=True).left is None
    assert attrs.evolve(AT, total=None).left is None
    assert attrs.evolve(AT, elapsed=0.0).left is None


def test_without_a_terminal_lines_come_at_tenths_and_after_silence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line for each tenth, and one when nothing was said for ten seconds."""
    clock = Clock()
    with Lines(Talk(), clock) as lines:
        lines.show(attrs.evolve(AT, done=1, total=20))
        assert capsys.readouterr().err == ""
        lines.show(AT)
        assert capsys.readouterr().err == f"3/12 done, {PACE}, {MONEY}\n"
        lines.show(AT)
        clock.now = 9.9
        lines.show(AT)
        assert capsys.readouterr().err == ""
        clock.now = 10.0
        lines.show(attrs.evolve(AT, done=0, made=0, total=None, estimate=None, simulated=True))
        said = "0 done, 4 running, 1 failed, simulated: $0.28 spent, $0.06 reserved\n"
        assert capsys.readouterr().err == said


def test_what_was_not_sent_did_not_fail() -> None:
    """Items that were never sent have a word of their own."""
    assert progress.pace(attrs.evolve(AT, unsent=2))[:3] == ["4 running", "1 failed", "2 not sent"]
    assert "slowed down by the provider (429): 3" in progress.pace(attrs.evolve(AT, throttled=3))
    unsent = Outcome(index=0, item=None, state=TaskState.QUEUED)
    tally = summary.Tally()
    tally.count(unsent, errors.SessionClosedError("closed"))
    assert (tally.told, tally.done, tally.states[TaskState.QUEUED]) == (1, 0, 1)


def terminal(monkeypatch: pytest.MonkeyPatch) -> tuple[Talk, io.StringIO]:
    """Return a talk that takes a string for its terminal."""
    monkeypatch.setattr(Talk, "on_terminal", True)
    talk, screen = Talk(), io.StringIO()
    talk.console = Console(file=screen, force_terminal=True, width=100, no_color=True)
    return talk, screen


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts, a bar, the share, and everything else on a line of its own."""
    talk, screen = terminal(monkeypatch)
    view = progress.view(talk)
    assert isinstance(view, Screen)
    with view:
        view.show(AT)
        assert talk.live
        shown = screen.getvalue()
        view.show(attrs.evolve(AT, total=None))
    assert not talk.live
    assert "3/12" in shown
    assert "━" in shown
    assert "25 %" in shown
    assert PACE.replace(", ", " · ") in shown
    assert MONEY in shown
    assert "3 pictures" in screen.getvalue()


def test_no_terminal_means_lines() -> None:
    """Where stderr is no terminal nothing is redrawn."""
    assert isinstance(progress.view(Talk()), Lines)


def test_a_path_goes_above_the_display(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On one screen the line and the display do not run into one another."""
    talk, screen = terminal(monkeypatch)
    with Screen(talk):
        talk.out("to a file")
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        talk.out("to the screen")
    assert capsys.readouterr().out == "to a file\n"
    assert "to the screen" in screen.getvalue()
    with talk.busy("Waiting"):
        pass


def test_a_reader_who_went_away_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever pays for pictures wants them, even if nobody reads their names any more."""
    reading, writing = os.pipe()
    os.close(reading)
    talk = Talk()
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        talk.out("one")
        talk.out("two")
    said = capsys.readouterr().err
    assert said == "stdout takes no more lines: nobody reads it.\n"


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What others wrote is shown, not obeyed, and markup is plain text."""
    Talk().say("[red]\x1b[31mred\x07")
    assert capsys.readouterr().err == "[red]\ufffd[31mred\ufffd\n"


def test_whatever_happens_becomes_words(capsys: pytest.CaptureFixture[str]) -> None:
    """No error leaves a traceback, and each has its code."""
    talk = Talk()

    def fails(error: BaseException) -> int:
        def work() -> int:
            raise error

        return guarded(talk, work)

    assert fails(OSError(28, "No space left on device", "out")) == 1
    assert fails(RuntimeError("odd")) == 1
    assert fails(KeyboardInterrupt()) == 130
    assert fails(errors.SessionClosedError("closed", task_id="t1")) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "fluxflex: No space left on device: out"
    assert said[1] == "fluxflex: This should not happen, please report it: RuntimeError: odd"
    assert said[2] == "Interrupted."
    assert said[-1].endswith("To go on, at no further cost: fluxflex wait t1")


def test_what_the_library_logs_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Notes come in the same voice, unless the command tells the same itself."""

    def work() -> int:
        log = logging.getLogger("fluxflex")
        log.warning("the provider says %r", "dozing")
        with hushed():
            log.warning("not this")
        return 0

    assert guarded(Talk(), work) == 0
    assert capsys.readouterr().err == "Note: the provider says 'dozing'\n"


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://127.0.0.1:80", True),
        ("http://localhost", True),
        ("http://[::1]:1", True),
        ("https://api.unifically.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_only_this_machine_is_free(url: str, near: bool) -> None:  # noqa: FBT001 - a test's row
    """A loopback address costs nothing; whatever else is taken for the provider."""
    assert target.is_loopback(url) is near
    assert target.Target(base_url=url).costs_money is not near


# -- the gallery ------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects the tags of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Take a text."""
        self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all tags of that name."""
        return [given for name, given in self.tags if name == tag]


def page(*rows: dict[str, Any], **totals: Any) -> Page:
    """Return the page of some rows."""
    head = {"title": "out", "states": {"completed": 1}, "spent": Decimal("0.04"), **totals}
    return Page("".join(gallery.page(gallery.Totals(**head), rows)))


def row(**given: Any) -> dict[str, Any]:
    """Return a row of results."""
    usual = {"index": 0, "prompt": "a sea", "state": "COMPLETED", "task_id": "t", "error": None}
    return usual | {"path": None, "url": None, "quality": "1K"} | given


def test_a_picture_has_its_number_settings_and_state() -> None:
    """Pictures lie beside the page, are loaded when they are seen, and keep their ratio."""
    found = page(
        row(index=41, path="0042-a sea#1.png", aspect_ratio="3:2", steps=20, cfg=4.5),
        row(path="x.png", image_urls=["https://example.com/a.png"]),
    )
    first, second = found.named("img")
    assert first == {"src": "0042-a%20sea%231.png", "alt": "a sea", "loading": "lazy"}
    assert second["class"] == "whole"
    assert found.named("figure")[0] == {"class": "good", "style": "--ratio:1.5"}
    for text in ("42", "3:2", "steps 20", "cfg 4.5", "completed", "1 reference", "1 item"):
        assert text in found.text


def test_nothing_is_loaded_from_elsewhere() -> None:
    """The page is complete in itself: no scripts, no fonts, no pictures of other hosts."""
    url = "https://img.example.com/x.png"
    found = page(row(url=url), row(path="a.png", url=url), row(url="javascript:alert(1)"))
    assert {tag for tag, _ in found.tags} & {"script", "link", "iframe"} == set()
    assert [image["src"] for image in found.named("img")] == ["a.png"]
    assert [link["href"] for link in found.named("a")] == [url, "a.png"]
    assert "url(" not in gallery._STYLE
    assert "@import" not in gallery._STYLE


def test_what_others_wrote_is_escaped() -> None:
    """Prompts, errors and names are text, never tags."""
    bad = '<script>alert("1")</script>'
    error = {"type": "GenerationError", "message": bad, "charged": "unknown", "hint": "Try & see."}
    found = page(
        row(prompt=bad, state="FAILED", error=error, aspect_ratio=bad, steps=bad),
        title=bad,
        states={bad: 1},
    )
    assert found.named("script") == []
    assert f"{bad}. Try & see." in found.text
    assert found.named("p")[0]["title"] == bad
    assert found.named("figure")[0]["class"] == "bad"


@pytest.mark.parametrize(
    ("state", "error", "kind", "words"),
    [
        ("QUEUED", None, "idle", "not sent"),
        ("COMPLETED", {"message": "Why?", "hint": "Go on"}, "bad", "Why? Go on."),
        ("ABANDONED", {"message": "x"}, "wait", "still running"),
        ("UNCERTAIN", {"message": "x"}, "wait", "uncertain"),
        ("COMPLETED", {"message": "x"}, "bad", "made, not saved"),
        ("DOZING", None, "idle", "dozing"),
    ],
)
def test_every_state_has_its_words(state: str, error: Any, kind: str, words: str) -> None:
    """Whatever became of an item is said in words."""
    found = page(row(state=state, error=error))
    assert found.named("figure")[0]["class"] == kind
    assert words in found.text


def test_the_money_stands_above() -> None:
    """What was spent, what may still be billed, and whether it was a rehearsal."""
    found = page(reserved=Decimal("0.06"), simulated=True)
    text = "".join(found.text)
    assert "$0.04 spent (simulated: nothing was bought)" in text
    assert "$0.06 may still be billed" in text


def test_a_page_that_cannot_be_written_leaves_nothing(room: Path) -> None:
    """The page appears whole or not at all."""
    (room / "index.html").mkdir()
    totals = gallery.Totals(title="x", states={}, spent=Decimal(0))
    with pytest.raises(OSError, match=r"index\.html"):
        gallery.write(room / "index.html", totals, [])
    assert [path.name for path in room.iterdir()] == ["index.html"]
