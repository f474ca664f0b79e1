"""The limiters: a window learnt from refusals, the gate, the pauses, and that nothing hangs."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxflex._core.window import Pausing, ProbeWindow

NEVER = math.inf


class Highest(random.Random):
    """Chance that always comes out highest."""

    def random(self) -> float:
        """Return one."""
        return 1.0


def window(ceiling: int = 100) -> ProbeWindow:
    """Return a limiter whose jitter is always the longest."""
    return ProbeWindow(ceiling, Highest())


def opened(ceiling: int = 100) -> ProbeWindow:
    """Return a limiter whose gate is as open as it gets."""
    limiter = window(ceiling)
    for running in range(1, 70):
        limiter.accepted(0.0, running)
    return limiter


# -- the ceiling and the gate --------------------------------------------------------------------


def test_the_ceiling_rules_while_nothing_is_learnt() -> None:
    """What runs and what is in the air count together; at the ceiling only an event helps."""
    limiter = window(10)
    assert limiter.window is None
    assert limiter.ready(5.0, 9, 0) == 5.0
    assert limiter.ready(5.0, 7, 3) == NEVER
    assert limiter.ready(5.0, 12, 0) == NEVER


@pytest.mark.parametrize(("ceiling", "widest"), [(4, 8), (100, 8), (200, 13), (100_000, 64)])
def test_the_gate_opens_with_each_accept(ceiling: int, widest: int) -> None:
    """Four POSTs without an answer at first; one more with each accept, up to its widest."""
    limiter = window(ceiling)
    widths = []
    for _ in range(70):
        widths.append(next(n for n in range(100) if limiter._gate <= n))
        limiter.accepted(0.0, 1)
    assert widths[:3] == [4, 5, 6]
    assert widths[-1] == widest


def test_a_refusal_closes_the_gate_to_one() -> None:
    """After it one POST at a time, and four at most from then on."""
    limiter = opened(60)
    assert limiter.ready(0.0, 20, 7) == 0.0
    limiter.refused(1.0, 50, 0.9, None)
    assert limiter.ready(10.0, 5, 0) == 10.0
    assert limiter.ready(10.0, 5, 1) == NEVER
    for _ in range(10):
        limiter.accepted(10.0, 6)
    assert limiter.ready(10.0, 5, 3) == 10.0
    assert limiter.ready(10.0, 5, 4) == NEVER


# -- pauses --------------------------------------------------------------------------------------


def test_a_pause_lasts_as_long_as_was_asked() -> None:
    """Retry-After and a little more, whoever wants to send; a longer one of the burst counts."""
    limiter = opened()
    assert limiter.refused(10.0, 20, 9.9, 5.0) == 15.5
    assert limiter.ready(11.0, 10, 0) == 15.5
    assert limiter.refused(10.1, 20, 9.9, 7.0) == 17.6
    assert limiter.refused(10.2, 20, 9.9, 1.0) == 17.6
    assert limiter.ready(17.6, 10, 0) == 17.6


def test_a_short_pause_is_hardly_longer() -> None:
    """Nobody waits more than twice what was asked."""
    limiter = opened()
    assert limiter.refused(10.0, 20, 9.9, 0.25) == 10.5
    assert limiter.refused(11.0, 20, 10.9, 0.0) == 11.0


def test_pauses_double_without_a_word() -> None:
    """From a second to half a minute; an accept begins again."""
    limiter, now, pauses = opened(), 0.0, []
    for _ in range(7):
        now = limiter.refused(now, 20, now, None)
        pauses.append(now)
    assert [late - early for early, late in zip([0.0, *pauses], pauses, strict=False)] == [
        *(1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0)
    ]
    limiter.accepted(now, 20)
    assert limiter.refused(now, 20, now, None) == now + 1.0


def test_strikes_never_overflow() -> None:
    """Ten thousand refusals in a row still make a pause."""
    limiter, now = opened(), 0.0
    for _ in range(10_000):
        now = limiter.refused(now, 1, now, None)
    assert limiter.ready(now, 0, 0) == now


# -- the window ----------------------------------------------------------------------------------


def test_the_first_refusal_teaches_the_limit() -> None:
    """As many as run are what the provider takes."""
    limiter = opened()
    limiter.refused(0.0, 20, 0.0, None)
    assert limiter.window == 20
    assert limiter.ready(2.0, 19, 0) == 2.0
    assert limiter.ready(2.0, 20, 0) == 24.0, "the next chance is the probe, 1.2 x 20 s later"
    assert repr(limiter) == "<ProbeWindow: 20 of 100, gate 1>"


def test_a_burst_cuts_once() -> None:
    """What was sent before the cut brings no news, even when it is answered after the pause."""
    limiter = opened()
    limiter.refused(10.0, 40, 9.8, None)
    for late in (10.1, 10.5, 14.0):
        limiter.refused(late, 10, 9.9, None)
    assert limiter.window == 40
    limiter.refused(14.0, 30, 13.9, None)
    assert limiter.window == 30


def test_a_cut_goes_no_further_than_three_quarters() -> None:
    """A refusal far below the window is a rate, met perhaps by chance."""
    limiter = opened()
    limiter.refused(0.0, 40, 0.0, None)
    limiter.refused(5.0, 10, 5.0, None)
    assert limiter.window == 30


def test_a_little_more_than_was_known_is_half_believed() -> None:
    """Tasks that finished unseen let a few more in; much more says that the limit was raised."""
    limiter = opened()
    limiter.refused(0.0, 30, 0.0, None)
    limiter.refused(10.0, 34, 10.0, None)
    assert limiter.window == 32
    limiter.refused(20.0, 41, 20.0, None)
    assert limiter.window == 41


def test_there_is_always_room_for_one() -> None:
    """A refusal while nothing runs teaches a window of one, not of none."""
    limiter = opened()
    limiter.refused(0.0, 0, 0.0, 60.0)
    assert limiter.window == 1
    assert limiter.ready(0.0, 0, 0) == 60.5


def test_a_window_expires_and_the_gate_probes() -> None:
    """One POST tries; turned away where the limit was, the next probe comes later."""
    limiter = opened()
    limiter.refused(0.0, 20, 0.0, None)
    gaps, now = [], 0.0
    for _ in range(4):
        probe = limiter.ready(now + 2.0, 20, 0)
        gaps.append(probe - now)
        now = probe
        assert limiter.ready(now, 20, 0) == now
        assert limiter.window is None
        assert limiter.ready(now, 20, 1) == NEVER
        limiter.accepted(now, 20)
        limiter.refused(now, 20, now, None)
        assert limiter.window == 20
    assert gaps == pytest.approx([24.0, 48.0, 54.0, 54.0])


def test_a_raised_limit_is_probed_often() -> None:
    """Far above what was known, the probes begin anew."""
    limiter, now = opened(), 0.0
    for _ in range(5):
        now = limiter.refused(now, 20, now, None)
    limiter.accepted(now, 26)
    assert limiter._probe == 45.0
    limiter.accepted(now, 27)
    assert limiter._probe == 10.0


def test_a_refusal_below_the_limit_leaves_the_probes() -> None:
    """Only finding the same limit again makes them rarer."""
    limiter = opened()
    limiter.refused(0.0, 20, 0.0, None)
    limiter.refused(5.0, 17, 5.0, None)
    assert limiter._probe == 20.0


def test_a_dear_refusal_is_seldom_risked() -> None:
    """With long pauses the window stays below the limit, and a probe waits for its price."""
    limiter = opened()
    limiter.refused(0.0, 40, 0.0, 20.0)
    assert limiter.window == 38
    # Half of 15 s runs out in the pause, so 12.5 s of work are lost: twenty times that.
    assert limiter.ready(100.0, 38, 0) == pytest.approx(1.2 * 20 * 12.5)


def test_a_loss_is_reckoned_in_what_a_task_takes() -> None:
    """Tasks of five minutes hardly notice a pause of ten seconds."""
    limiter = opened()
    limiter.finished(0.0, 40, 300.0)
    limiter.finished(0.0, 40, 310.0)
    assert limiter._seconds == 301.0
    limiter.refused(0.0, 40, 0.0, 10.0)
    assert limiter.window == 40


# -- whatever happens ----------------------------------------------------------------------------

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 8), st.none()),
        st.tuples(st.just("accept"), st.just(0), st.none()),
        st.tuples(st.just("refuse"), st.just(0), st.none() | st.floats(0, 90)),
        st.tuples(st.just("finish"), st.integers(1, 300), st.none()),
        st.tuples(st.just("wait"), st.integers(0, 100), st.none()),
    ),
    max_size=200,
)


@given(EVENTS, st.integers(1, 50), st.integers(0, 10))
def test_nothing_is_ever_over_the_ceiling_and_nothing_hangs(
    events: list[tuple[str, int, float | None]], ceiling: int, attached: int
) -> None:
    """Never ready at the ceiling; never without an end while nothing is under way."""
    limiter = ProbeWindow(ceiling, random.Random(1))  # noqa: S311 - jitter
    now, running, sent = 0.0, attached, list[float]()
    for event, number, retry_after in events:
        if event == "wait":
            now += number
        elif event == "finish" and running:
            running -= 1
            limiter.finished(now, running, float(number))
        elif event == "accept" and sent:
            sent.pop(0)
            running += 1
            limiter.accepted(now, running)
        elif event == "refuse" and sent:
            before, cut = limiter.window, limiter._cut_at
            began = sent.pop(0)
            until = limiter.refused(now, running, began, retry_after)
            assert until >= now
            assert began > cut or limiter.window == before, "one cut for each burst"
        elif event == "send":
            while limiter.ready(now, running, len(sent)) <= now and number:
                assert running + len(sent) < ceiling
                sent.append(now)
                number -= 1  # noqa: PLW2901 - counted down
        if running + len(sent) >= ceiling:
            assert limiter.ready(now, running, len(sent)) == NEVER
        if not sent and running < ceiling:
            when = limiter.ready(now, running, 0)
            assert now <= when < NEVER
            assert limiter.window is None or limiter.window >= 1
        assert limiter.window is None or limiter.window <= max(ceiling, running)


@given(st.integers(0, 99), st.floats(0, 1000))
def test_waiting_as_long_as_it_says_is_enough(running: int, now: float) -> None:
    """At the time that was named it is ready, unless something happened in between."""
    limiter = opened()
    limiter.refused(0.0, 30, 0.0, 3.0)
    when = limiter.ready(now, running, 0)
    assert limiter.ready(when, running, 0) == when


# -- a semaphore's pauses ------------------------------------------------------------------------


def test_a_semaphore_only_pauses() -> None:
    """It limits nothing by itself, and pauses where it is asked to."""
    limiter = Pausing(Highest())
    assert limiter.window is None
    assert limiter.ready(3.0, 1000, 1000) == 3.0
    limiter.accepted(3.0, 1)
    limiter.finished(3.0, 1, 5.0)
    assert limiter.refused(3.0, 1, 2.9, None) is None
    assert limiter.ready(3.0, 0, 0) == 3.0
    assert limiter.refused(3.0, 1, 2.9, 4.0) == 7.5
    assert limiter.refused(3.1, 1, 2.9, 1.0) == 7.5
    assert limiter.ready(4.0, 0, 0) == 7.5
