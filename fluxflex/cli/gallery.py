"""`index.html`: one page with all pictures of a batch, complete in itself."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import attrs

from fluxflex.cli.talk import counted, dollars

Row = Mapping[str, object]

WORDS = {
    "COMPLETED": "completed",
    "FAILED": "failed",
    "TIMED_OUT": "timed out",
    "ABANDONED": "still running",
    "UNCERTAIN": "uncertain",
    "QUEUED": "not sent",
    "RUNNING": "still running",
    "SENDING": "being sent",
}
UNSAVED = "made, not saved"
_ENDS = (".", "!", "?")
# A stop after a command would be copied with it.
_COMMAND = ": fluxflex "
_SETTINGS = {"quality": "", "aspect_ratio": "", "steps": "steps", "cfg": "cfg"}

_STYLE = """
:root { color-scheme: light dark; --page: #f6f5f2; --card: #fff; --ink: #1c1b19; --soft: #6b6862;
  --line: #e2dfd8; --bad: #b3261e; --bad-page: #fbeceb; --good: #2e7d4f; --wait: #8a6100;
  --row: 17rem; --gap: 1rem; }
@media (prefers-color-scheme: dark) { :root { --page: #141413; --card: #1f1e1c; --ink: #eceae5;
  --soft: #9d9a93; --line: #34322e; --bad: #ff8f86; --bad-page: #2f1f1d; --good: #7fce9c;
  --wait: #e3b859; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 0.9375rem/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header, main { max-width: 96rem; margin: 0 auto; padding: 0 clamp(1rem, 3vw, 2.5rem); }
header { padding-block: clamp(1.5rem, 4vw, 3rem) 1.25rem; }
h1 { margin: 0 0 0.75rem; font-size: clamp(1.5rem, 4vw, 2.25rem); line-height: 1.15;
  letter-spacing: -0.02em; overflow-wrap: anywhere; }
.totals { display: flex; flex-wrap: wrap; gap: 0.375rem 1.75rem; margin: 0; padding: 0;
  list-style: none; color: var(--soft); font-variant-numeric: tabular-nums; }
.totals b { color: var(--ink); font-weight: 600; }
main { display: flex; flex-wrap: wrap; gap: var(--gap); padding-bottom: 4rem; }
/* The last row keeps its height instead of growing to the full width. */
main::after { content: ""; flex: 1000 1 0; }
figure { margin: 0; flex: var(--ratio) 1 calc(var(--ratio) * var(--row)); min-width: 9.5rem;
  max-width: calc(var(--ratio) * var(--row) * 1.7); display: flex; flex-direction: column;
  overflow: hidden; background: var(--card); border: 1px solid var(--line); border-radius: 0.75rem;
  content-visibility: auto; contain-intrinsic-size: auto 16rem auto 22rem; }
figure > a, .blank { display: block; aspect-ratio: var(--ratio); background: var(--line); }
figure > a:focus-visible { outline: 3px solid var(--good); outline-offset: -3px; }
img { display: block; width: 100%; height: 100%; object-fit: cover; }
img.whole { object-fit: contain; }
.blank { display: grid; place-content: center; padding: 1.25rem; text-align: center;
  overflow: auto; overflow-wrap: anywhere; color: var(--soft); background: var(--page); }
.bad .blank { color: var(--bad); background: var(--bad-page); }
figcaption { padding: 0.625rem 0.875rem 0.75rem; }
figcaption p { margin: 0 0 0.5rem; display: -webkit-box; -webkit-line-clamp: 3;
  -webkit-box-orient: vertical; overflow: hidden; overflow-wrap: anywhere; }
.meta { display: flex; flex-wrap: wrap; gap: 0.125rem 0.75rem; color: var(--soft);
  font-size: 0.8125rem; font-variant-numeric: tabular-nums; }
.meta b { color: var(--ink); font-weight: 600; }
.good .state { color: var(--good); } .bad .state { color: var(--bad); }
.wait .state { color: var(--wait); }
@media (max-width: 40rem) { :root { --row: 11rem; --gap: 0.75rem; }
  figure { min-width: min(100%, 9.5rem); max-width: 100%; } }
@media print { figure { break-inside: avoid; } }
"""


@attrs.frozen(kw_only=True)
class Totals:
    """What stands above the pictures.

    Attributes:
        title: the name of the batch.
        states: how many items ended how, in words.
        spent, reserved: USD; reserved may still be billed.
        simulated: whether the money is play money.
    """

    title: str
    states: Mapping[str, int]
    spent: Decimal
    reserved: Decimal = Decimal(0)
    simulated: bool = False


def page(totals: Totals, rows: Iterable[Row]) -> Iterator[str]:
    """Give the page, piece by piece; every text in it is escaped."""
    title = html.escape(totals.title)
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    )
    yield f"<header>\n<h1>{title}</h1>\n<ul class=totals>{_totals(totals)}</ul>\n</header>\n"
    yield "<main>\n"
    for row in rows:
        yield _figure(row)
    yield "</main>\n</body>\n</html>\n"


def _totals(totals: Totals) -> str:
    parts = [f"<b>{counted(sum(totals.states.values()), 'item')}</b>"]
    parts += [f"<b>{number:,}</b> {html.escape(word)}" for word, number in totals.states.items()]
    spent = f"<b>{dollars(totals.spent)}</b> spent"
    parts.append(f"{spent} (simulated: nothing was bought)" if totals.simulated else spent)
    if totals.reserved:
        parts.append(f"<b>{dollars(totals.reserved)}</b> may still be billed")
    return "".join(f"<li>{part}</li>" for part in parts)


def state_of(row: Row) -> str:
    """Return how an item ended, in words."""
    state = str(row["state"])
    if state == "COMPLETED" and row.get("error"):
        return UNSAVED
    return WORDS.get(state, state.lower())


def _kind(row: Row) -> str:
    if row["state"] == "COMPLETED" and not row.get("error"):
        return "good"
    waits = {"ABANDONED", "TIMED_OUT", "UNCERTAIN", "RUNNING", "SENDING"}
    if row["state"] in waits:
        return "wait"
    return "bad" if row.get("error") else "idle"


def _ratio(row: Row) -> float:
    """Return width by height as it was asked for; 1 where that was left to the provider."""
    across, colon, down = str(row.get("aspect_ratio", "")).partition(":")
    if not (colon and across.isdecimal() and down.isdecimal() and int(down)):
        return 1.0
    return int(across) / int(down) or 1.0


def _figure(row: Row) -> str:
    prompt = html.escape(str(row.get("prompt") or ""), quote=True)
    number = int(str(row["index"])) + 1
    settings = "".join(f"<span>{html.escape(setting)}</span>" for setting in _settings(row))
    return (
        f'<figure class={_kind(row)} style="--ratio:{_ratio(row):.4g}">{_picture(row, prompt)}'
        f'<figcaption><p title="{prompt}">{prompt}</p><div class=meta><b>{number}</b>{settings}'
        f"<span class=state>{html.escape(state_of(row))}</span></div></figcaption></figure>\n"
    )


def _picture(row: Row, prompt: str) -> str:
    path, url, error = row.get("path"), row.get("url"), row.get("error")
    if isinstance(path, str):
        source = html.escape(quote(path), quote=True)
        # A ratio that the provider chose is not known: nothing of the picture is cut off.
        whole = "" if ":" in str(row.get("aspect_ratio", "")) else " class=whole"
        return f'<a href="{source}"><img src="{source}" alt="{prompt}" loading=lazy{whole}></a>'
    if isinstance(error, Mapping):
        texts = (str(error.get(name) or "").strip() for name in ("message", "hint"))
        text = " ".join(
            text if text.endswith(_ENDS) or _COMMAND in text else f"{text}."
            for text in texts
            if text
        )
        return f"<div class=blank>{html.escape(text)}</div>"
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        link = html.escape(url, quote=True)
        return f'<div class=blank><a href="{link}" rel=noreferrer>at the provider</a></div>'
    return f"<div class=blank>{html.escape(state_of(row))}</div>"


def _settings(row: Row) -> Iterator[str]:
    for name, label in _SETTINGS.items():
        if row.get(name) is not None:
            yield f"{label} {row[name]}".strip()
    references = row.get("image_urls")
    if isinstance(references, list) and references:
        yield counted(len(references), "reference")


def write(path: Path, totals: Totals, rows: Iterable[Row]) -> None:
    """Write the page in one step.

    Raises:
        OSError: it cannot be written; an older one stays.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(page(totals, rows))
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
