"""`fluxflex generate`, `status` and `wait`: one task at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from fluxflex import (
    AdaptivePolling,
    Change,
    GeneratedImage,
    GenerateRequest,
    PollPolicy,
    Session,
    TaskHandle,
    TaskState,
    Timeouts,
)
from fluxflex.cli import hints, results
from fluxflex.cli.exits import Code, SignalledError
from fluxflex.cli.interrupts import stoppable
from fluxflex.cli.talk import Talk, dollars, hushed
from fluxflex.cli.target import Target
from fluxflex.errors import FluxFlexError, GenerationError

# How long `status` waits for one answer, in seconds: longer than an unknown id takes to be sure.
_ONE_LOOK = 8.0
_QUICK = Timeouts(connect=3.0, request=5.0)


@attrs.define
class Seen:
    """The latest that is known of a task: what a session's observer hears."""

    talk: Talk
    state: TaskState = TaskState.QUEUED
    task_id: str | None = None
    word: str | None = None
    heard: asyncio.Event = attrs.field(factory=asyncio.Event)

    def __call__(self, change: Change) -> None:
        """Take note of a step of the task."""
        self.state, self.word = change.after.state, change.after.word
        if change.before.attempts and self.task_id is None and change.after.task_id is not None:
            self.talk.say(f"Accepted as task {change.after.task_id}.")
        self.task_id = change.after.task_id
        if self.word is not None:
            self.heard.set()


@attrs.frozen
class LookAtOnce:
    """A poll policy that looks at once, and then every few seconds."""

    soon: float = 0.01
    later: float = 2.0

    def gap(self, age: float) -> float:
        """Return the seconds to the next look."""
        return self.soon if age < self.soon else self.later


@attrs.frozen(kw_only=True)
class Single:
    """What the three commands share.

    Attributes:
        target: where requests go.
        place: where the picture goes, by prompt and task id; `None` saves none.
        timeout: seconds the task may take, or all of a session's.
        as_json: whether stdout gets an object.
        attached: the id of the task, where it was submitted elsewhere.
    """

    target: Target
    place: Callable[[str, str], Path] | None = None
    timeout: float | Timeouts | None = None
    as_json: bool = False
    attached: str | None = None

    @property
    def timeouts(self) -> Timeouts | float:
        """What the session is opened with."""
        return Timeouts() if self.timeout is None else self.timeout


@asynccontextmanager
async def _opened(how: Single, seen: Seen, poll: PollPolicy) -> AsyncIterator[Session]:
    """Give an open session; whatever still runs at its end is let go without a word."""
    async with how.target.access() as access:
        session = Session(
            access.api_key,
            base_url=access.base_url,
            timeout=how.timeouts,
            poll=poll,
            on_event=seen,
        )
        await session.open()
        try:
            yield session
        finally:
            with hushed():
                await session.aclose(drain=0)


async def generate(fields: Mapping[str, object], how: Single, talk: Talk) -> int:
    """Generate one picture, save it, and return the exit code."""
    request = GenerateRequest.from_dict(fields)
    if how.target.simulate:
        talk.say("Simulated: nothing is bought, and money is play money.")
    return await _follow(how, talk, request, lambda session: session.generate(request))


async def wait(task_id: str, how: Single, talk: Talk) -> int:
    """Follow a task to its end, save its picture, and return the exit code."""

    async def picture(session: Session) -> GeneratedImage:
        return await session.attach(task_id)

    return await _follow(attrs.evolve(how, attached=task_id), talk, None, picture)


async def _follow(
    how: Single,
    talk: Talk,
    request: GenerateRequest | None,
    begin: Callable[[Session], Coroutine[Any, Any, GeneratedImage]],
) -> int:
    """Wait for a picture, save it, and tell how it went."""
    seen = Seen(talk)
    image: GeneratedImage | None = None
    try:
        with talk.busy("Waiting for the picture"):
            async with _opened(how, seen, AdaptivePolling()) as session:
                image = await stoppable(begin(session))
                path = await stoppable(_save(image, request, how))
    except FluxFlexError as error:
        _report(how, talk, request, seen, image=image, error=error)
        raise
    except SignalledError:
        _report(how, talk, request, seen, image=image)
        talk.say(_where_it_stands(seen, how), style="yellow")
        raise
    _report(how, talk, request, seen, image=image, path=path)
    talk.say(_sum(image, path, how))
    return Code.DONE


async def _save(image: GeneratedImage, request: GenerateRequest | None, how: Single) -> Path:
    assert how.place is not None  # noqa: S101 - both commands that come here save
    return await image.save(how.place(request.prompt if request else "", image.task_id))


def _report(
    how: Single,
    talk: Talk,
    request: GenerateRequest | None,
    seen: Seen,
    *,
    image: GeneratedImage | None,
    path: Path | None = None,
    error: FluxFlexError | None = None,
) -> None:
    """Give programs the path, or all that is known as one object."""
    if how.as_json:
        row = results.row(
            index=0,
            request=request,
            state=seen.state,
            task_id=seen.task_id,
            path=None if path is None else str(path),
            url=None if image is None else image.url,
            error=error,
            cost=None if image is None else image.cost,
            simulated=how.target.simulate,
        )
        talk.out(results.as_line(row))
    elif path is not None:
        talk.out(str(path))


def _where_it_stands(seen: Seen, how: Single) -> str:
    if how.attached is not None:
        return f"Interrupted. To go on, at no further cost: fluxflex wait {how.attached}"
    if how.target.simulate:
        return f"Interrupted. {hints.ENDED}"
    if seen.task_id is not None:
        return (
            f"Interrupted. The task is at the provider and paid for; to fetch its picture: "
            f"fluxflex wait {seen.task_id}"
        )
    if seen.state is TaskState.UNCERTAIN:
        return "Interrupted before the provider answered: it may have been billed."
    return "Interrupted: nothing was bought."


def _sum(image: GeneratedImage, path: Path, how: Single) -> str:
    parts = [f"Saved as {path}"]
    if image.cost is not None:
        simulated = " (simulated: nothing was bought)" if how.target.simulate else ""
        parts.append(f"{dollars(image.cost)} spent{simulated}")
    if image.elapsed is not None:
        parts.append(f"{image.elapsed:.1f} s")
    return f"{', '.join(parts)}."


async def status(task_id: str, how: Single, talk: Talk) -> int:
    """Look at a task once, tell what is seen, and return the exit code.

    Raises:
        FluxFlexError: the task failed, or the provider does not let us see it.
    """
    seen = Seen(talk)
    how = attrs.evolve(how, timeout=_QUICK)
    async with _opened(how, seen, LookAtOnce()) as session:
        handle = session.attach(task_id)
        if not await stoppable(_one_look(handle, seen)):
            talk.complain(
                f"The provider says nothing about task {task_id} within {_ONE_LOOK:g} seconds: "
                "look at the network and the base URL. Looking costs nothing."
            )
            return Code.OTHER
        state = handle.state
        urls, failure = _end_of(handle)
    if how.as_json:
        row: results.Row = {"task_id": task_id, "state": state.name, "word": seen.word}
        talk.out(results.as_line(row | {"urls": urls, "error": results.describe(failure)}))
    else:
        talk.out("\n".join([state.name, *urls]))
    if failure is not None:
        raise failure
    return Code.DONE


async def _one_look(handle: TaskHandle, seen: Seen) -> bool:
    """Wait until the provider has said something about a task; false where it does not."""
    ends = {asyncio.ensure_future(handle.wait()), asyncio.ensure_future(seen.heard.wait())}
    done, waiting = await asyncio.wait(ends, timeout=_ONE_LOOK, return_when=asyncio.FIRST_COMPLETED)
    for end in waiting:
        end.cancel()
    return bool(done)


def _end_of(handle: TaskHandle) -> tuple[tuple[str, ...], GenerationError | None]:
    """Return where a task's pictures lie, or why it failed; neither while it runs."""
    if not handle.state.over:
        return (), None
    try:
        return handle.result().urls, None
    except GenerationError as error:
        return (), error
