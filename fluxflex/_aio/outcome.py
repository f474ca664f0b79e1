"""What goes into a batch and comes out: items, an outcome for each, and where it stands."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from pathlib import Path

import attrs

from fluxflex._aio.entry import JournalEntry
from fluxflex._aio.handle import TaskHandle
from fluxflex._aio.images import Downloads, GeneratedImage
from fluxflex._core.lifecycle import Key, TaskState
from fluxflex._core.request import RULES, GenerateRequest, faults_of
from fluxflex.errors import (
    STOPPING,
    ConfigurationError,
    DownloadError,
    Fault,
    FluxFlexError,
    InvalidRequestError,
    SessionClosedError,
)

SaveTo = Path | Callable[[int, GenerateRequest], Path]


@attrs.frozen(kw_only=True)
class Outcome:
    """How one item of a batch ended.

    Attributes:
        index: its place in the source, from 0.
        number: its number, from 1. In a named run it is given once, when the item is first read,
            and kept whatever happens to the source; elsewhere it is `index + 1`.
        item: as it was given.
        request: what was made of it; `None` where it was no valid request.
        state: where its task stands; `QUEUED` where nothing was bought.
        error: why it did not end well; `None` where it did.
        task_id: the provider's id, where it was accepted.
        path: where the picture was saved, where it was.
        replayed: whether it was told from the journal and not bought now.
    """

    index: int
    item: object
    request: GenerateRequest | None = None
    state: TaskState = TaskState.QUEUED
    error: FluxFlexError | None = None
    task_id: str | None = None
    path: Path | None = None
    replayed: bool = False
    number: int = attrs.field(
        default=attrs.Factory(lambda outcome: outcome.index + 1, takes_self=True)
    )
    _image: GeneratedImage | None = attrs.field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the picture was made, and saved where it was to be."""
        return self.error is None

    @property
    def image(self) -> GeneratedImage:
        """The picture.

        Raises:
            FluxFlexError: there is none; why is `error`.
        """
        if self._image is not None:
            return self._image
        error = self.error or SessionClosedError("There is no picture", task_id=self.task_id)
        raise error.fresh()


@attrs.frozen(kw_only=True)
class BatchProgress:
    """Where a batch stands.

    Attributes:
        read: items taken from the source.
        exhausted: whether the source has ended, so that `read` is the total.
        running: items sent or about to be.
        saving: pictures on their way to disk, or waiting for that.
        unread: outcomes that wait for the reader.
        ok, failed: outcomes so far.
    """

    read: int
    exhausted: bool
    running: int
    saving: int
    unread: int
    ok: int
    failed: int


@attrs.define(eq=False)
class Item:
    """One item of the source, and what was made of it so far.

    Attributes:
        index: its place in the source. item: as it was given.
        number: as its outcome has it, 0 while it has none. request: what was made of it.
        place: where its picture is to go.
        key: what the journal knows it by, where it is to be bought.
        known: what the journal has of it, where it is not.
    """

    index: int
    item: object
    number: int = 0
    request: GenerateRequest | None = None
    place: Path | None = None
    key: Key | None = None
    known: JournalEntry | None = None

    @property
    def asked(self) -> GenerateRequest:
        """The request of an item that was found valid."""
        assert self.request is not None  # noqa: S101 - an invalid item goes no further
        return self.request


async def items_of(
    source: Iterable[object] | AsyncIterable[object],
) -> AsyncGenerator[object, None]:
    """Read a source of either kind."""
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item


def outcome_of(entry: Item, handle: TaskHandle) -> Outcome:
    """Return the outcome of an item whose task is over."""
    image, error = None, None
    try:
        image = handle.result()
    except FluxFlexError as ended:
        error = ended
    return Outcome(
        index=entry.index,
        item=entry.item,
        request=entry.request,
        state=handle.state,
        error=error,
        task_id=handle.task_id,
        number=entry.number,
        image=image,
    )


def replayed_of(entry: Item, known: JournalEntry, downloads: Downloads) -> Outcome:
    """Return the outcome of an item as the journal has it.

    Raises:
        JournalError: the entry cannot be read.
    """
    result, image, path = known.result, None, None
    if result is not None:
        image = GeneratedImage(
            url=result.urls[0],
            urls=result.urls,
            task_id=known.task_id or "",
            request=entry.request,
            cost=known.cost,
            elapsed=known.elapsed,
            raw=result.raw,
            guarded_by=downloads.base_url if result.by_callback else None,
            downloads=downloads,
            key=known.id,
        )
        path = known.path if known.saved else None
    if path is not None and not path.is_file():
        path, entry.place = None, path  # where it is saved again
    return Outcome(
        index=entry.index,
        item=entry.item,
        request=entry.request,
        state=known.state,
        error=known.error,
        task_id=known.task_id,
        path=path,
        replayed=True,
        number=entry.number,
        image=image,
    )


def refused_of(entry: Item, error: FluxFlexError) -> Outcome:
    """Return the outcome of an item that was not bought."""
    return Outcome(
        index=entry.index,
        number=entry.number,
        item=entry.item,
        request=entry.request,
        error=error,
    )


async def saved_or_why(image: GeneratedImage, place: Path | None) -> Path | FluxFlexError:
    """Save a picture; what went wrong is the item's, so it is returned."""
    try:
        return await image.save(place or ".")
    except FluxFlexError as error:
        return error


def stops(error: FluxFlexError) -> bool:
    """Say whether the next item would meet this error too, so that a batch ends with it."""
    full_disk = isinstance(error, DownloadError) and error.local
    return full_disk or isinstance(error, STOPPING)


def closed_early(task_id: str | None = None) -> SessionClosedError:
    """Return the error of an item that the session's end cut off."""
    return SessionClosedError("The session closed before the batch had ended", task_id=task_id)


def stopped_early() -> SessionClosedError:
    """Return the error of an item that was dropped because its batch was stopped."""
    return SessionClosedError(
        "The batch was stopped before the request was sent", hint="Submit it again."
    )


def check_batch(requests: object, defaults: Mapping[str, object]) -> None:
    """Refuse what is no source of requests, and what is no default of theirs.

    Raises:
        InvalidRequestError: with every fault at once.
    """
    single = isinstance(requests, str | bytes | Mapping | GenerateRequest)
    if single or not isinstance(requests, Iterable | AsyncIterable):
        kind = type(requests).__name__
        fault = f"must be an iterable of requests, not one {kind}; `submit` takes one"
        raise InvalidRequestError([Fault("requests", fault)])
    allowed = [name for name in RULES if name != "prompt"]
    faults = [
        Fault(name, f"is no default; there are {', '.join(allowed)}")
        for name in defaults
        if name not in allowed
    ]
    if faults := [*faults, *faults_of(defaults)]:
        raise InvalidRequestError(faults)


def checked_place(save_to: SaveTo | str | None) -> SaveTo | None:
    """Return where a batch saves to, checked before anything is sent.

    Raises:
        ConfigurationError: it is neither a folder nor a callable of two.
    """
    place = Path(save_to) if isinstance(save_to, str) else save_to
    if place is None or (isinstance(place, Path) and (place.is_dir() or not place.exists())):
        return place
    if callable(place):
        try:
            inspect.signature(place).bind(0, None)
        except TypeError:
            raise ConfigurationError(
                "save_to does not take what it is called with",
                hint="Give a callable `(index, request) -> Path`.",
            ) from None
        except ValueError:
            pass  # built in C without a signature
        return place
    raise ConfigurationError(
        f"save_to is no folder: {place!r}", hint="Name a folder, new or old, or give a callable."
    )


def place_of(save_to: SaveTo, number: int, request: GenerateRequest) -> Path:
    """Return where a picture will go: asked before anything is bought.

    Raises:
        ConfigurationError: the folder cannot be made, or the callable gave no path.
    """
    if isinstance(save_to, Path):
        try:
            save_to.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"save_to cannot be made: {error}") from None
        return save_to
    given = save_to(number - 1, request)
    if not isinstance(given, str | os.PathLike):
        raise ConfigurationError(
            f"save_to(index, request) returned {given!r}, not a path",
            hint="Return a path for each picture.",
        )
    return Path(given)
