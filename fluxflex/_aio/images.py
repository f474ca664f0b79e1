"""Finished pictures: `GeneratedImage`, and how its bytes are fetched and saved.

Downloads never carry the key, survive broken transfers by asking for the rest (`Range`), are
checked to be pictures by their first bytes, and appear under their name only when whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path

import anyio.to_thread
import attrs

from fluxflex._aio.pictures import suffix_of, write
from fluxflex._aio.transport import AiohttpTransport, Transport
from fluxflex._core.exchange import Call, Intent, Phase, Redirects, Reply, Unanswered
from fluxflex._core.lifecycle import Key
from fluxflex._core.request import GenerateRequest
from fluxflex._core.retry import RetryPolicy, parse_retry_after
from fluxflex.errors import DownloadError

LARGEST = 64 * 1024 * 1024
_SECONDS = 60.0
_LONGEST_PAUSE = 60.0
_MOST_TRIES = 50
_EXPIRED = frozenset({403, 404, 410})
_OK, _PARTIAL, _UNSATISFIABLE, _TOO_MANY, _SERVER_ERRORS = 200, 206, 416, 429, 500
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
Refresh = Callable[[str], Awaitable[tuple[str, ...]]]
Collected = Callable[[Key, Path | None], None]


class Downloads:
    """Fetches pictures, at most so many at once.

    Args:
        transport: what carries the requests.
        at_once: how many downloads may run at the same time.
        policy: how often and how soon a failed one is repeated.
        refresh: asks the provider once more where a task's pictures lie.
        collected: notes that somebody has the picture of a task, and in which file.
        base_url: the API's address; a URL that came by callback may lead to private addresses
            only where the API is on one.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        at_once: int = 1,
        policy: RetryPolicy | None = None,
        refresh: Refresh | None = None,
        collected: Collected | None = None,
        base_url: str = "",
    ) -> None:
        self.base_url = base_url
        self._transport = transport
        self._lane = asyncio.Semaphore(at_once)
        self._policy = policy or RetryPolicy()
        self._refresh = refresh
        self._collected = collected
        self._rng = random.Random()  # noqa: S311 - jitter
        self._loop = asyncio.get_running_loop()
        self.closed = False

    @property
    def here(self) -> bool:
        """Whether it can be used: it is open, and belongs to the running event loop."""
        return not self.closed and asyncio.get_running_loop() is self._loop

    async def fetch(self, url: str, task_id: str, *, public: bool = False) -> bytes:
        """Return the bytes of a picture; `public` keeps it to public addresses.

        Raises:
            DownloadError: it cannot be had, is too large or is no picture.
        """
        async with self._lane:
            transfer = _Transfer(url, task_id, public)
            for attempt in range(1, _MOST_TRIES + 1):
                got = await self._transport.send(transfer.call(), timeout=_SECONDS)
                if transfer.fresh and _stale(got) and await self._moved(transfer, got):
                    continue
                if transfer.take(got):
                    return transfer.content
                if transfer.failures >= self._policy.attempts or self.closed:
                    break
                pause = self._policy.pause(attempt, self._rng.random())
                await asyncio.sleep(min(transfer.retry_after or pause, _LONGEST_PAUSE))
            raise transfer.error(transfer.problem)

    def note(self, key: Key | None, path: Path | None = None) -> None:
        """Note that somebody has a picture."""
        if self._collected is not None and key is not None and self.here:
            self._collected(key, path)

    async def _moved(self, transfer: _Transfer, got: Reply | Unanswered) -> bool:
        """Ask the provider once more where a picture lies; true where that is news.

        Raises:
            DownloadError: the URL has expired, and there is no other.
        """
        transfer.fresh = False
        urls = await self._refresh(transfer.task_id) if self._refresh else ()
        if isinstance(got, Reply) and not urls:
            raise transfer.error("its URL has expired")
        same = not urls or (urls[0] == transfer.url and not transfer.public)
        if isinstance(got, Unanswered) and same:
            return False  # only the network, perhaps
        transfer.start_over(urls[0])
        transfer.public = False  # it is the API's own word now
        return True


def _stale(got: Reply | Unanswered) -> bool:
    """Say whether a picture may lie elsewhere by now: its URL has expired, or its host is gone."""
    return got.status in _EXPIRED if isinstance(got, Reply) else got.phase is Phase.NEVER_SENT


@attrs.define
class _Transfer:
    """One picture on its way: what has arrived of it, and what went wrong."""

    url: str
    task_id: str
    public: bool = False
    content: bytes = b""
    etag: str | None = None
    fresh: bool = True
    failures: int = 0
    problem: str = ""
    retry_after: float | None = None

    def start_over(self, url: str) -> None:
        self.url, self.content, self.etag = url, b"", None

    def call(self) -> Call:
        headers = {"accept-encoding": "identity"}
        if self.content:
            headers["range"] = f"bytes={len(self.content)}-"
            if self.etag:
                headers["if-range"] = self.etag
        return Call(
            method="GET",
            url=self.url,
            intent=Intent.READ,
            headers=headers,
            redirects=Redirects.ANY,
            keyed=False,
            public=self.public,
            limit=LARGEST,
        )

    def take(self, got: Reply | Unanswered) -> bool:
        """Take what arrived; true when the picture is whole.

        Raises:
            DownloadError: trying again cannot help.
        """
        self.retry_after = None
        if isinstance(got, Unanswered):
            self._failed(got.reason)
            if got.hopeless:
                raise self.error(got.reason)
            return False
        if got.oversized:
            raise self._too_large()
        if got.status in {_OK, _PARTIAL}:
            return self._append(got)
        self._failed(f"HTTP {got.status}")
        if got.status == _UNSATISFIABLE:
            self.start_over(self.url)
        elif got.status == _TOO_MANY or got.status >= _SERVER_ERRORS:
            self.retry_after = parse_retry_after(got.headers.get("retry-after"), time.time())
        else:
            raise self.error(f"HTTP {got.status}")
        return False

    def _append(self, got: Reply) -> bool:
        where = _RANGE.match(got.headers.get("content-range", ""))
        before = len(self.content)
        # A 200 to a request for the rest is the whole picture from its start.
        start = 0 if got.status == _OK else int(where[1]) if where else None
        etag = got.headers.get("etag")
        changed = start == before > 0 and None not in {etag, self.etag} and etag != self.etag
        if changed or start not in {0, before}:
            self._failed("the host sent another part than it was asked for")
            self.start_over(self.url)
            return False
        self.content = self.content[:start] + got.body
        self.etag = etag
        if len(self.content) > LARGEST:
            raise self._too_large()
        whole = got.complete and (got.status == _OK or _reaches_end(where, len(self.content)))
        if whole:
            if suffix_of(self.content) is None:
                raise self.error(f"it is no picture but {got.headers.get('content-type')}")
            return True
        if len(self.content) > before:
            self.failures, self.problem = 0, "the transfer broke off"
        else:
            self._failed("the transfer broke off")
        return False

    def _too_large(self) -> DownloadError:
        return self.error(f"it is larger than {LARGEST // 2**20} MiB")

    def _failed(self, problem: str) -> None:
        self.failures += 1
        self.problem = problem

    def error(self, problem: str) -> DownloadError:
        return DownloadError(
            f"The picture could not be fetched: {problem}", task_id=self.task_id, url=self.url
        )


def _reaches_end(where: re.Match[str] | None, size: int) -> bool:
    return where is not None and where[3] != "*" and size >= int(where[3])


@attrs.frozen(kw_only=True)
class GeneratedImage:
    """A finished picture. Save it soon: how long its URL lives is not known.

    Attributes:
        url: where the first picture lies.
        urls: where all of them lie; usually one.
        task_id: the provider's id of the task.
        request: what was asked for; `None` for a task that was submitted elsewhere.
        cost: USD: what the provider says, else the price table's; `None` where neither is known.
        elapsed: seconds from being accepted to being known as finished.
        raw: the provider's `data`, as it came.
        guarded_by: the API's address where a callback told `url`, which may then lead to a private
            address only if the API is on one; `None` where the API itself told it.
    """

    url: str
    urls: tuple[str, ...]
    task_id: str
    request: GenerateRequest | None = None
    cost: Decimal | None = None
    elapsed: float | None = None
    raw: Mapping[str, object] = attrs.field(factory=dict, repr=False)
    guarded_by: str | None = attrs.field(default=None, eq=False, repr=False)
    _downloads: Downloads | None = attrs.field(default=None, eq=False, repr=False)
    _key: Key | None = attrs.field(default=None, eq=False, repr=False)

    def __reduce__(self) -> tuple[object, tuple[dict[str, object]]]:
        names = [field.name for field in attrs.fields(GeneratedImage) if field.init]
        values = {name: getattr(self, name) for name in names if name not in _OF_THE_SESSION}
        return _revive, (values,)

    def __hash__(self) -> int:
        return hash((self.task_id, self.urls))

    async def read(self) -> bytes:
        """Fetch the picture and return its bytes, as the provider made them.

        Raises:
            DownloadError: it cannot be had, is too large or is no picture.
        """
        content = await self._fetched()
        if self._downloads is not None:
            self._downloads.note(self._key)
        return content

    async def _fetched(self) -> bytes:
        downloads, public = self._downloads, self.guarded_by is not None
        if downloads is not None and downloads.here:
            try:
                return await downloads.fetch(self.url, self.task_id, public=public)
            except DownloadError:
                if not downloads.closed:
                    raise  # else the session closed under it: the picture does not need one
        async with _own(self.guarded_by) as downloads:
            return await downloads.fetch(self.url, self.task_id, public=public)

    async def save(self, path: str | os.PathLike[str]) -> Path:
        """Fetch the picture, write it to a file and return the file's path.

        Parent folders are made, an older file is replaced, and nothing half-written is left. In a
        folder the file is named `<task_id><suffix>`; a path without a suffix gets the content's.

        Raises:
            DownloadError: it cannot be had, or cannot be written.
        """
        content = await self._fetched()
        try:
            saved = await anyio.to_thread.run_sync(write, Path(path), self.task_id, content)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise DownloadError(
                f"The picture could not be written to {str(path)!r}: {why}",
                task_id=self.task_id,
                url=self.url,
                local=True,
                hint="The picture is paid for: make room or choose another place, then save again.",
            ) from error
        if self._downloads is not None:
            self._downloads.note(self._key, saved)
        return saved

    def _repr_html_(self) -> str:
        """Return the picture for notebooks."""
        title = html.escape(self.request.prompt if self.request else self.task_id, quote=True)
        return f'<img src="{html.escape(self.url, quote=True)}" alt="{title}" title="{title}">'


_OF_THE_SESSION = frozenset({"_downloads", "_key"})


def _revive(values: dict[str, object]) -> GeneratedImage:
    return GeneratedImage(**values)  # type: ignore[arg-type]  # as `__reduce__` took them


@contextlib.asynccontextmanager
async def _own(base_url: str | None) -> AsyncIterator[Downloads]:
    """Give a connection of one's own, without the key."""
    transport = AiohttpTransport(base_url=base_url, connections=1)
    try:
        yield Downloads(transport)
    finally:
        await transport.aclose()
