"""The in-memory registry: which tasks a session knows, by our key and by the provider's id.

It forgets. A task that is over keeps its record only among the last few that ended, so that a
late last word is recognised; memory follows what is in flight, not what has passed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from fluxflex._core.lifecycle import Change, Key, TaskEvent, TaskRecord, TaskState, advance
from fluxflex._core.request import GenerateRequest

KEEP_ENDED = 1024


class Registry:
    """Records by key and by task id.

    Args:
        keep_ended: how many records of tasks that are over are kept for late last words.

    Attributes:
        last_key: the highest key that was given; a journal's are not given again.
    """

    def __init__(self, *, keep_ended: int = KEEP_ENDED) -> None:
        self._live: dict[Key, TaskRecord] = {}
        self._ended: OrderedDict[Key, TaskRecord] = OrderedDict()
        self._by_id: dict[str, Key] = {}
        self._keep_ended = keep_ended
        self.last_key: Key = 0

    def __len__(self) -> int:
        """Return how many tasks are followed."""
        return len(self._live)

    def __iter__(self) -> Iterator[TaskRecord]:
        """Iterate over the records of the tasks that are followed."""
        return iter(tuple(self._live.values()))

    def __repr__(self) -> str:
        return f"<Registry: {len(self._live)} live, {len(self._ended)} ended>"

    def new_key(self) -> Key:
        """Return a key that no task has."""
        self.last_key += 1
        return self.last_key

    def open(
        self, request: GenerateRequest | None, now: float, key: Key | None = None
    ) -> TaskRecord:
        """Enter a new task, under a key that was given to it or a new one."""
        key = self.new_key() if key is None else key
        return self.restore(TaskRecord(key=key, request=request, created=now))

    def restore(self, record: TaskRecord) -> TaskRecord:
        """Enter a task that is followed, as it was known before, and return its record."""
        self._ended.pop(record.key, None)
        self._live[record.key] = record
        if record.task_id is not None:
            self._by_id[record.task_id] = record.key
        return record

    def keep(self, record: TaskRecord) -> None:
        """Enter a task that is over, as it was known before, for a late last word."""
        self._place(record)

    def get(self, key: Key) -> TaskRecord | None:
        """Return the record of a task, or `None` where it is forgotten."""
        return self._live.get(key) or self._ended.get(key)

    def find(self, task_id: str) -> Key | None:
        """Return the key of the task with this id."""
        return self._by_id.get(task_id)

    def apply(self, key: Key, event: TaskEvent, now: float) -> Change | None:
        """Advance a record; `None` when the event is absorbed or the task is forgotten."""
        before = self.get(key)
        if before is None:
            return None
        after = advance(before, event, now)
        if after is before:
            return None
        # Two submits with one id would be the provider's fault: the one followed keeps it.
        if after.task_id is not None and self._by_id.get(after.task_id) not in self._live:
            self._by_id[after.task_id] = key
        if before.state.over or after.state.over:
            self._place(after)
        else:
            self._live[key] = after
        return Change(before, after, event)

    def withdraw(self, key: Key) -> TaskRecord | None:
        """Forget a task that was never sent, or definitely refused; `None` for any other."""
        record = self._live.get(key)
        if record is None or record.task_id is not None or record.state is not TaskState.QUEUED:
            return None
        return self._live.pop(key)

    def _place(self, record: TaskRecord) -> None:
        if not record.state.over:
            self._ended.pop(record.key, None)
            self._live[record.key] = record
            return
        self._live.pop(record.key, None)
        self._ended[record.key] = record
        self._ended.move_to_end(record.key)
        while len(self._ended) > self._keep_ended:
            _, forgotten = self._ended.popitem(last=False)
            if forgotten.task_id and self._by_id.get(forgotten.task_id) == forgotten.key:
                del self._by_id[forgotten.task_id]
