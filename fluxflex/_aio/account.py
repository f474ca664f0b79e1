"""Whose money it is: the account behind the key, and how a journal knows it again."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
from decimal import Decimal
from urllib.parse import urlsplit

from fluxflex._aio.reports import Account, account_of
from fluxflex._aio.sender import Sender
from fluxflex._core import decode, encode
from fluxflex._core.encode import Api
from fluxflex._core.exchange import Answer
from fluxflex._core.request import GenerateRequest
from fluxflex.errors import (
    ConfigurationError,
    FluxFlexError,
    ServerError,
    TaskNotFoundError,
)

log = logging.getLogger("fluxflex")


async def account(sender: Sender, base_url: str) -> Account:
    """Ask for the account behind the key.

    Raises:
        APIError, APIConnectionError: there is no answer, or one without a balance.
    """
    first, second = (encode.account(base_url, path) for path in encode.ACCOUNT_PATHS)
    try:
        answer = await sender.read(first, decode.read_plain)
    except TaskNotFoundError:
        answer = await sender.read(second, decode.read_plain)
    return account_of(answer)


async def user(sender: Sender, base_url: str) -> str | None:
    """Ask once, without patience, who the user is; `None` where that cannot be read."""
    for path in encode.ACCOUNT_PATHS:
        got = await sender.once(encode.account(base_url, path), decode.read_plain)
        try:
            found = account_of(got).user_id if isinstance(got, Answer) else None
        except FluxFlexError:
            found = None
        if found is not None:
            return f"user {found}"
    return None


async def quote(sender: Sender, api: Api, base_url: str, request: GenerateRequest) -> Decimal:
    """Ask what a request would cost in USD, by a dry run.

    Raises:
        ConfigurationError: this generation of the API has none, or the provider ignores it.
        APIError, APIConnectionError: there is no answer, or one without a price.
    """
    call = api.quote(base_url, request)
    if call is None:
        raise ConfigurationError(
            f"api={api.name!r} has no dry run", hint='Open the session with api="v1".'
        )
    answer = await sender.read(call, decode.read_quote)
    if answer.task_id is not None:  # even with a cost beside it: the task is there, and billed
        log.error("the provider created task %s in place of a dry run", answer.task_id)
        raise ConfigurationError(
            "The provider created a task in place of a dry run",
            task_id=answer.task_id,
            hint="Follow it with `attach(task_id)`; name all prices in `prices`, or use no budget.",
        )
    cost = decode.cost_of(answer)
    if cost is None:
        raise ServerError("The provider's dry run names no cost", status=answer.status)
    return cost


async def patient_user(sender: Sender, base_url: str) -> str:
    """Ask who the user is until there is an answer.

    Raises:
        APIError, APIConnectionError: there is none, or one that does not say.
    """
    found = (await account(sender, base_url)).user_id
    if found is None:
        raise ServerError("The provider's account does not say whose it is", status=_OK)
    return f"user {found}"


def stand_in(key: str) -> str:
    """Return what stands for an account that cannot be read: a hash of the key."""
    return f"key {hashlib.sha256(b'fluxflex' + key.encode()).hexdigest()[:16]}"


def origin(base_url: str) -> str:
    """Return where a journal belongs to.

    On loopback the port does not count: a simulator gets a new one at each start.
    """
    parts = urlsplit(base_url)
    host = (parts.hostname or "").lower()
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if local:
        return "this machine"
    shown = f"[{host}]" if ":" in host else host
    port = "" if parts.port in {None, _PORTS[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{shown}{port}"


_OK = 200
_PORTS = {"http": 80, "https": 443}
