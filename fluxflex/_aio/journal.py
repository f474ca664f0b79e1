"""The journal of a session: what is noted reaches the disk in groups, by one writer.

`enter`, `note` and `collected` are plain functions that only put a row aside; the writer takes all
rows that are there, writes them as one group, and then tells who waited. `written` is how the
engine waits until a task's row is on disk: before the bytes of an attempt, and before an id is
handed out.

After the first failure nothing new may be sent. What was paid for is still written as long as there
is any way: the room that was put aside is given back for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path

import attrs

from fluxflex._aio import room
from fluxflex._aio.entry import Row, path_text, request_text, row_of
from fluxflex._aio.store import Store
from fluxflex._core.lifecycle import Abandoned, Change, Key, Running, Sent, TaskState
from fluxflex._core.request import GenerateRequest
from fluxflex.errors import JournalError, SessionClosedError

log = logging.getLogger("fluxflex")


@attrs.frozen
class Membership:
    """Which item of which named run a task is.

    Attributes:
        run: its name.
        number: the item's, from 1.
        digest: that of its request.
        place: where its picture is to go, where it is to be saved.
        again: the entry that this one stands for from now on.
    """

    run: str
    number: int
    digest: str
    place: Path | None = None
    again: Key | None = None


@attrs.define(eq=False)
class _Group:
    """Rows that go to disk together, and who wants to know."""

    rows: dict[Key, Row] = attrs.field(factory=dict)
    done: asyncio.Event = attrs.field(factory=asyncio.Event)
    after: list[Callable[[], None]] = attrs.field(factory=list)

    def tell(self) -> None:
        """Tell who waited that it is written, or cannot be."""
        self.done.set()
        for call in self.after:
            call()


class Journal:
    """Durable memory of one session.

    Args:
        store: the open file.
        wall: seconds since the epoch.
        passing: whether the file goes when nothing stands in it, as one of many in a folder.

    Attributes:
        error: why nothing new may be sent; `None` while all is well.
    """

    def __init__(
        self, store: Store, *, wall: Callable[[], float] = time.time, passing: bool = False
    ) -> None:
        self.store = store
        self._passing = passing
        self.error: JournalError | None = None
        self._wall = wall
        self._next = _Group()
        self._now = _Group()
        self._entered: set[Key] = set()
        # Of an item that was bought again one entry counts: the new one from being sent on,
        # the old one again when that is refused.
        self._again: dict[Key, tuple[Row, Key]] = {}
        # Rows that could not be written; they are tried again with each group.
        self._unwritten: dict[Key, Row] = {}
        self._closing = False
        self._wake = asyncio.Event()
        self._writer = asyncio.create_task(self._write(), name="fluxflex journal")
        self._writer.add_done_callback(self._cut_off)

    def __repr__(self) -> str:
        return f"<Journal: {self.store.path}, {len(self._next.rows)} rows waiting>"

    @property
    def waiting(self) -> frozenset[Key]:
        """The tasks whose ids are not on disk yet."""
        groups = (self._now.rows, self._next.rows)
        return frozenset(key for rows in groups for key, row in rows.items() if "task_id" in row)

    # -- what is noted -----------------------------------------------------------------------

    def enter(self, key: Key, request: GenerateRequest, item: Membership) -> None:
        """Note that an item of a run was read: it has a number from now on."""
        folder = self.store.path.parent
        row: Row = {
            "id": key,
            "state": TaskState.QUEUED.name,
            "run": item.run,
            "number": item.number,
            "digest": item.digest,
            "request": request_text(request),
        }
        if item.place is not None:
            row["path"] = path_text(item.place, folder)
        self._entered.add(key)
        if item.again is None:
            self._put(row)
        else:
            self._again[key] = row, item.again

    def note(self, change: Change, *, spent: Decimal | None, reserved: Decimal) -> Key | None:
        """Note one step of a task that was sent by us.

        Returns the key of the entry that it stands for from now on, if there is one.
        """
        after = change.after
        if not after.attempts or isinstance(change.event, Running) or _left_alone(change):
            return None
        row = row_of(change, spent=spent, reserved=reserved, wall=self._wall())
        if isinstance(change.event, Sent) and after.key not in self._entered:
            assert after.request is not None  # noqa: S101 - what is sent has one
            row["request"] = request_text(after.request)
            self._entered.add(after.key)
        self._put(row)
        return self._stand_in(change) if after.key in self._again else None

    def _stand_in(self, change: Change) -> Key | None:
        """Let one of two entries of an item count; return the old one when that is settled."""
        key, state = change.after.key, change.after.state
        entry, again = self._again[key]
        if isinstance(change.event, Sent):
            self._put({**entry, "state": state.name, "replaced": 0})
        elif state is TaskState.QUEUED:
            self._put({"id": key, "replaced": 1})
        else:
            del self._again[key]
            return again
        self._put({"id": again, "replaced": int(state is not TaskState.QUEUED), "for": key})
        return None

    def forget(self, key: Key) -> None:
        """Note no more of a task that is over or was withdrawn."""
        self._entered.discard(key)
        self._again.pop(key, None)

    def collected(self, key: Key, path: Path | None) -> None:
        """Note that somebody has the picture of a task."""
        row: Row = {"id": key, "collected": 1}
        if path is not None:
            row["path"] = path_text(path, self.store.path.parent)
        self._put(row)

    def lacks_id(self, key: Key) -> bool:
        """Say whether the id of a task is not on disk yet."""
        return any("task_id" in rows.get(key, ()) for rows in (self._now.rows, self._next.rows))

    def after(self, call: Callable[[], None]) -> None:
        """Call back when everything that was noted before is on disk; now where it is."""
        if self._next.rows:
            self._next.after.append(call)
        elif self._now.rows:
            self._now.after.append(call)
        else:
            call()

    async def written(self, key: Key) -> None:
        """Wait until the row of a task is on disk.

        Raises:
            JournalError: it cannot be written.
        """
        for group in (self._now, self._next):
            if key in group.rows:
                await group.done.wait()
        if key in self._unwritten or self._writer.done():
            self.check()

    async def flush(self) -> None:
        """Wait until everything that was noted is on disk, or cannot be."""
        for group in (self._now, self._next):
            if group.rows and not self._writer.done():
                await group.done.wait()

    def check(self) -> None:
        """Refuse to go on with what is new.

        Raises:
            JournalError: the journal cannot be written any more.
        """
        if self.error is not None:
            raise self.error.fresh()

    # -- the writer --------------------------------------------------------------------------

    def _put(self, row: Row) -> None:
        key = row["id"]
        assert isinstance(key, int)  # noqa: S101 - as it was made above
        row["noted_at"] = self._wall()
        _merge(self._next.rows, key, row)
        self._wake.set()

    async def _write(self) -> None:
        while not (self._closing and not self._next.rows):
            if not self._next.rows:
                self._wake.clear()
                await self._wake.wait()
                continue
            group = self._now = self._next
            self._next = _Group()
            await self._commit(group.rows)
            self._now = _Group()
            group.tell()

    async def _commit(self, rows: dict[Key, Row]) -> None:
        for key, row in rows.items():
            _merge(self._unwritten, key, row)
        try:
            await self._save(self._unwritten.values())
        except JournalError as error:
            self._failed(error)
            await self.store.shrink()
            # An intent that cannot be written is never sent, so the room is for the others.
            paid = [row for row in self._unwritten.values() if not self._is_unsent(row)]
            try:
                await self._save(paid)
            except JournalError:
                return
            for row in paid:
                del self._unwritten[row["id"]]  # type: ignore[arg-type]  # it is the key
        else:
            self._unwritten.clear()

    async def _save(self, rows: Iterable[Row]) -> None:
        rows = list(rows)
        if not rows:
            return
        try:
            await self.store.write(rows)
        except JournalError:
            raise
        except Exception as error:
            # Whatever it is, nothing may be sent whose intent is not on disk.
            raise JournalError(f"The journal cannot be written: {error}") from error

    def _is_unsent(self, row: Row) -> bool:
        """Say whether a row is of an attempt that was never made, or of the entry it is for."""
        other = row.get("for")
        sender = self._unwritten.get(other) if isinstance(other, int) else None
        return (sender or row).get("state") in _UNSENT

    def _failed(self, error: JournalError) -> None:
        if self.error is None:
            self.error = error
            log.error("%s: nothing new is sent, and what runs is followed", error.message)

    def _cut_off(self, _: asyncio.Task[None]) -> None:
        """Let nobody wait for a writer that the event loop's end has cancelled."""
        if not self._closing:
            self.error = JournalError("The journal's writer was cancelled")
            for group in (self._now, self._next):
                group.done.set()

    async def close(self) -> None:
        """Write what is left and give the file free."""
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._writer])
        last = self._next
        if last.rows or self._unwritten:  # the writer was cut off, or could not write them
            await self._commit(last.rows)
        for group in (self._now, last):
            group.tell()
        lost = [row["task_id"] for row in self._unwritten.values() if row.get("task_id")]
        if lost:
            log.error("not in the journal: %s", ", ".join(map(str, lost)))
        if not self._unwritten:
            self.store.free()
        passes = False
        try:
            passes = self._passing and not self._unwritten and await self.store.is_empty()
        finally:
            await self.store.close()
        if passes:
            room.remove(self.store.path)


def _merge(rows: dict[Key, Row], key: Key, row: Row) -> None:
    """Put a row among others; what it says counts over what is there of its task."""
    known = rows.setdefault(key, row)
    if known is not row:
        known.update(row)


def _left_alone(change: Change) -> bool:
    """Say whether a task only lost its follower: for the journal it goes on."""
    return isinstance(change.event, Abandoned) and isinstance(
        change.event.error, SessionClosedError
    )


_UNSENT = frozenset({TaskState.QUEUED.name, TaskState.SENDING.name})
