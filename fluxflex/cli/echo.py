"""What goes wrong with many items in the same way is said of the first few, and counted."""

from __future__ import annotations

import re

import attrs

from fluxflex.cli.talk import Talk, counted
from fluxflex.errors import APIConnectionError, FluxFlexError

_SAID = 3
_NAMED = 5
# Where a picture was to go is another place for each, and so is how long one waited.
_OWN = re.compile(r"'[^']*'|[0-9.]+ seconds")


@attrs.define
class _Kind:
    """What went wrong in one way: the first item, and those that were not told."""

    first: int
    said: int = 0
    rest: int = 0
    named: list[int] = attrs.field(factory=list)


@attrs.define
class Echo:
    """Tells what became of items, and does not tell the same for ever."""

    _talk: Talk
    _kinds: dict[tuple[str, str], _Kind] = attrs.field(factory=dict)

    def tell(self, number: int, error: FluxFlexError, words: str) -> None:
        """Say what went wrong with an item, unless that was said of enough others."""
        key = type(error).__name__, _OWN.sub("", error.message)
        kind = self._kinds.setdefault(key, _Kind(number))
        # Without the provider all items end alike.
        enough = 1 if isinstance(error, APIConnectionError) else _SAID
        if kind.said < enough:
            kind.said += 1
            self._talk.say(f"{number:,}: {words}", style="red")
            return
        kind.rest += 1
        if len(kind.named) < _NAMED:
            kind.named.append(number)

    def finish(self) -> None:
        """Say how many more there were of each."""
        for kind in self._kinds.values():
            if kind.rest:
                named = ", ".join(f"{number:,}" for number in sorted(kind.named))
                more = " …" if kind.rest > len(kind.named) else ""
                items = counted(kind.rest, "more item")
                self._talk.say(f"{items} as item {kind.first:,}: {named}{more}", style="red")
        self._kinds.clear()
