"""The registry against a simple model: what is live, what has ended, and whose id is whose."""

from __future__ import annotations

from decimal import Decimal

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from fluxflex._core.lifecycle import (
    Abandoned,
    Accepted,
    Attached,
    Completed,
    Failed,
    Key,
    LeftUncertain,
    Running,
    Sent,
    TaskEvent,
    TaskRecord,
    TaskState,
    TimedOut,
    TurnedAway,
    advance,
)
from fluxflex._core.registry import KEEP_ENDED, Registry
from fluxflex._core.request import GenerateRequest
from fluxflex.errors import (
    GenerationError,
    SessionClosedError,
    SubmitUncertainError,
    TaskTimeoutError,
)

KEEP = 3
REQUEST = GenerateRequest("a")
IDS = [f"t-{number}" for number in range(6)]


def event_of(kind: type[TaskEvent], task_id: str) -> TaskEvent:
    """Return an event of a kind, about a task id where it names one."""
    made: dict[type[TaskEvent], TaskEvent] = {
        Sent: Sent(),
        TurnedAway: TurnedAway(),
        Accepted: Accepted(task_id),
        Attached: Attached(task_id),
        Running: Running(task_id, "processing"),
        Completed: Completed(task_id, ("https://files.example/a.png",), Decimal("0.04")),
        Failed: Failed(GenerationError(task_id=task_id)),
        LeftUncertain: LeftUncertain(SubmitUncertainError("x", phase="sent")),
        TimedOut: TimedOut(TaskTimeoutError(task_id=task_id, seconds=1)),
        Abandoned: Abandoned(SessionClosedError("x", task_id=task_id)),
    }
    return made[kind]


KINDS = [
    *(Sent, TurnedAway, Accepted, Attached, Running, Completed, Failed),
    *(LeftUncertain, TimedOut, Abandoned),
]


class RegistryMachine(RuleBasedStateMachine):
    """Drive a registry and a plain model of it side by side."""

    keys = Bundle[Key]("keys")

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry(keep_ended=KEEP)
        self.now = 0.0
        self.opened = 0
        self.live: dict[Key, TaskRecord] = {}
        self.ended: dict[Key, TaskRecord] = {}
        self.holder: dict[str, Key] = {}

    @rule(target=keys)
    def open(self) -> Key:
        """Enter a task: it gets the next key and is followed."""
        self.now += 1
        self.opened += 1
        record = self.registry.open(REQUEST, self.now)
        assert record == TaskRecord(key=self.opened, request=REQUEST, created=self.now)
        self.live[record.key] = record
        return record.key

    @rule(key=keys, kind=st.sampled_from(KINDS), task_id=st.sampled_from(IDS))
    def apply(self, key: Key, kind: type[TaskEvent], task_id: str) -> None:
        """Learn something: the record advances by the law and is placed where it belongs."""
        self.now += 1
        before = self.live.get(key) or self.ended.get(key)
        event = event_of(kind, before.task_id if before and before.task_id else task_id)
        change = self.registry.apply(key, event, self.now)
        after = advance(before, event, self.now) if before else None
        if before is None or after is None or after is before:
            assert change is None
            return
        assert change is not None
        assert (change.before, change.after, change.event) == (before, after, event)
        # The one that is followed under an id keeps it.
        if after.task_id and self.holder.get(after.task_id) not in self.live:
            self.holder[after.task_id] = key
        self.live.pop(key, None)
        self.ended.pop(key, None)
        (self.ended if after.state.over else self.live)[key] = after
        if len(self.ended) > KEEP:
            oldest = next(iter(self.ended))
            forgotten = self.ended.pop(oldest)
            if forgotten.task_id and self.holder.get(forgotten.task_id) == oldest:
                del self.holder[forgotten.task_id]

    @rule(target=keys, key=consumes(keys))
    def withdraw(self, key: Key) -> Key | MultipleResults[Key]:
        """Only what was never sent, or definitely refused, can be withdrawn."""
        record = self.live.get(key)
        unsent = record is not None and record.state is TaskState.QUEUED
        assert self.registry.withdraw(key) == (record if unsent else None)
        if unsent:
            del self.live[key]
            return multiple()
        return key

    @invariant()
    def agrees_with_the_model(self) -> None:
        """Registry and model know the same tasks, by key and by id."""
        assert {record.key: record for record in self.registry} == self.live
        assert len(self.registry) == len(self.live)
        for key in range(self.opened + 2):
            assert self.registry.get(key) == (self.live.get(key) or self.ended.get(key))
        for task_id in IDS:
            assert self.registry.find(task_id) == self.holder.get(task_id)
        assert repr(self.registry) == f"<Registry: {len(self.live)} live, {len(self.ended)} ended>"

    @invariant()
    def memory_is_bounded(self) -> None:
        """What is kept follows what is in flight, not what has passed."""
        known = {*self.registry._live, *self.registry._ended}
        assert len(self.registry._ended) <= KEEP
        assert set(self.registry._by_id.values()) <= known
        assert not {*self.registry._live} & {*self.registry._ended}


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_thousand_tasks_leave_only_the_last_few() -> None:
    """However many tasks pass, only the last that ended are kept, with their ids."""
    registry = Registry()
    for number in range(KEEP_ENDED + 500):
        key = registry.open(REQUEST, 0.0).key
        registry.apply(key, Accepted(f"t-{number}"), 1.0)
        registry.apply(key, event_of(Completed, f"t-{number}"), 2.0)
    assert len(registry) == 0
    assert len(registry._ended) == len(registry._by_id) == KEEP_ENDED
    assert registry.get(1) is None
    assert registry.find("t-0") is None
    assert registry.find(f"t-{KEEP_ENDED + 499}") == KEEP_ENDED + 500


def test_iterating_bears_changes() -> None:
    """The registry may change while its records are iterated over."""
    registry = Registry()
    for _ in range(3):
        registry.open(REQUEST, 0.0)
    for record in registry:
        assert registry.withdraw(record.key) is record
    assert len(registry) == 0


def test_a_refused_task_can_be_withdrawn_a_sent_one_cannot() -> None:
    """What is in the air, accepted or over stays; what was turned away can go."""
    registry = Registry()
    key = registry.open(REQUEST, 0.0).key
    registry.apply(key, Sent(), 1.0)
    assert registry.withdraw(key) is None
    registry.apply(key, TurnedAway(), 2.0)
    assert registry.withdraw(key) is not None
    assert registry.withdraw(key) is None
    assert registry.apply(key, Accepted("t-1"), 3.0) is None
    assert registry.find("t-1") is None


def test_of_two_tasks_with_one_id_the_followed_one_keeps_it() -> None:
    """An id that the provider gave twice stays with the task that holds it when the other goes."""
    registry = Registry(keep_ended=0)
    first, second = (registry.open(REQUEST, 0.0).key for _ in range(2))
    registry.apply(first, Accepted("t-1"), 1.0)
    registry.apply(second, Accepted("t-1"), 1.0)
    assert registry.find("t-1") == first
    registry.apply(second, event_of(Completed, "t-1"), 2.0)
    assert registry.get(second) is None
    assert registry.find("t-1") == first
    registry.apply(first, event_of(Completed, "t-1"), 3.0)
    assert registry.find("t-1") is None


def test_what_ended_without_an_id_is_forgotten_too() -> None:
    """An uncertain submit that nobody rescued leaves nothing behind."""
    registry = Registry(keep_ended=0)
    key = registry.open(REQUEST, 0.0).key
    registry.apply(key, Sent(), 1.0)
    registry.apply(key, event_of(LeftUncertain, ""), 2.0)
    assert registry.get(key) is None
    assert repr(registry) == "<Registry: 0 live, 0 ended>"


def test_what_is_absorbed_is_no_change() -> None:
    """An event that brings nothing new gives no change and leaves the record as it is."""
    registry = Registry()
    record = registry.open(REQUEST, 0.0)
    assert registry.apply(record.key, TurnedAway(), 1.0) is None
    assert registry.get(record.key) is record


def test_keys_go_on_where_a_journal_ended() -> None:
    """A journal's keys are not given again, whether a key is asked for or a task opened."""
    registry = Registry()
    registry.last_key = 41
    assert registry.new_key() == 42
    assert registry.open(REQUEST, 0.0).key == 43
    assert registry.last_key == 43


def test_a_task_is_opened_under_the_key_that_it_has() -> None:
    """A key that was given before is used, and none is spent on it."""
    registry = Registry()
    key = registry.new_key()
    assert registry.open(REQUEST, 0.0, key).key == key
    assert registry.new_key() == key + 1


def test_a_task_is_taken_up_as_it_was_known() -> None:
    """It is followed, found by its id, and its last word ends it."""
    registry = Registry()
    record = TaskRecord(
        key=7, request=REQUEST, created=0.0, state=TaskState.RUNNING, task_id="t-7", attempts=1
    )
    assert registry.restore(record) is record
    assert (registry.get(7), registry.find("t-7"), len(registry)) == (record, 7, 1)
    assert registry.withdraw(7) is None
    change = registry.apply(7, event_of(Completed, "t-7"), 1.0)
    assert change is not None
    assert (change.names, change.ends, len(registry)) == (False, True, 0)


def test_a_task_that_was_given_up_is_taken_up_once() -> None:
    """It is followed or over, never both: what ended later does not push it out."""
    registry = Registry(keep_ended=1)
    key = registry.open(REQUEST, 0.0).key
    for event in (Sent(), Accepted("t-1"), event_of(TimedOut, "t-1")):
        registry.apply(key, event, 1.0)
    ended = registry.get(key)
    assert ended is not None
    registry.restore(attrs.evolve(ended, state=TaskState.RUNNING, ended=None, error=None))
    assert repr(registry) == "<Registry: 1 live, 0 ended>"
    for _ in range(3):
        other = registry.open(REQUEST, 0.0).key
        registry.apply(other, event_of(Completed, f"t-{other}"), 2.0)
    assert registry.find("t-1") == key


def test_an_ended_task_of_an_earlier_session_is_kept_for_its_last_word() -> None:
    """It is not followed, and a last word that comes still counts."""
    registry = Registry()
    error = SubmitUncertainError("x", phase="sent")
    left = TaskRecord(key=7, request=REQUEST, created=0, state=TaskState.UNCERTAIN, error=error)
    registry.keep(left)
    assert len(registry) == 0
    change = registry.apply(7, Completed("t-7", ("https://files.example/a.png",)), 1.0)
    assert change is not None
    assert change.after.state is TaskState.COMPLETED
    assert registry.find("t-7") == 7
