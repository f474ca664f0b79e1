"""`Books`: what the callbacks of a session need of its tasks."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Protocol

from fluxflex._aio.handle import TaskHandle
from fluxflex._aio.slots import Slots
from fluxflex._aio.tally import Tally
from fluxflex._aio.watch import Watch
from fluxflex._core.lifecycle import Change, Key, TaskEvent, TaskRecord
from fluxflex._core.limits import Timeouts
from fluxflex._core.registry import Registry
from fluxflex._core.request import GenerateRequest


class Books(Protocol):
    """The tasks, as callbacks see them: `Tasks` says what each is."""

    registry: Registry
    tally: Tally
    stopping: asyncio.Event
    slots: Slots
    uncertain: dict[Key, TaskRecord]
    remembered: dict[str, tuple[Key, int, Decimal]]
    watch: Watch

    def tell(self, key: Key, event: TaskEvent) -> Change | None:
        """Enter what was learnt about a task."""
        ...

    def from_journal(
        self, task_id: str, request: GenerateRequest | None, timeouts: Timeouts
    ) -> TaskHandle:
        """Follow a task under the key that the journal knows it by."""
        ...

    def handle(self, key: Key) -> TaskHandle | None:
        """Return the handle of a task, where somebody may still have it."""
        ...
