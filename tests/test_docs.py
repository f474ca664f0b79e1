"""What the documentation says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from fluxflex._core.exchange import Intent
from fluxflex._core.lifecycle import TaskState
from fluxflex._core.retry import LAW
from fluxflex.webhooks.receiver import LIMIT

DOCS = Path(__file__).parents[1] / "docs"
ARCHITECTURE = DOCS / "explanation" / "architecture.md"
CALLBACKS = DOCS / "howto" / "callbacks.md"


def cells(line: str) -> list[str]:
    """Return the cells of one line of a Markdown table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_retry_law_in_the_docs_is_the_one_in_the_code() -> None:
    """The table between the markers has a line for each cell of LAW, in its words."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    table = text.split("<!-- law -->")[1].split("<!-- /law -->")[0].strip().splitlines()
    written = [cells(line) for line in table[2:]]
    law = [
        [reach.value, rules[Intent.SUBMIT].value, rules[Intent.READ].value]
        for reach, rules in LAW.items()
    ]
    assert written == law


def test_the_docs_name_every_state() -> None:
    """A state that is added is explained."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert [state.name for state in TaskState if f"`{state.name}`" not in text] == []


def test_nginx_lets_in_what_the_receiver_does() -> None:
    """The sample's limit is the receiver's own, to the byte, and its paths go into no log."""
    text = CALLBACKS.read_text(encoding="utf-8")
    [sample] = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)
    [kib] = re.findall(r"client_max_body_size (\d+)k;", sample)
    assert int(kib) * 1024 == LIMIT
    assert "access_log off;" in sample
