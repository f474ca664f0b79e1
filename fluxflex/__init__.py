"""Asyncio-native SDK for Flux.2 Flex image generation on Unifically, with batch fan-out.

Importing it creates nothing, reads no environment and opens no file; what a name needs (aiohttp
above all) is imported when the name is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluxflex import errors as errors
    from fluxflex import simulator as simulator
    from fluxflex import webhooks as webhooks
    from fluxflex._aio.batch import Batch
    from fluxflex._aio.entry import JournalEntry
    from fluxflex._aio.handle import TaskHandle
    from fluxflex._aio.images import GeneratedImage
    from fluxflex._aio.outcome import BatchProgress, Outcome
    from fluxflex._aio.reading import read_journal
    from fluxflex._aio.reports import Account, Statistics
    from fluxflex._aio.session import Session
    from fluxflex._core.lifecycle import Change, TaskRecord, TaskState
    from fluxflex._core.limits import (
        AdaptiveConcurrency,
        ConcurrencyPolicy,
        FixedConcurrency,
        Limiter,
        Timeouts,
    )
    from fluxflex._core.request import GenerateRequest
    from fluxflex._core.retry import RetryPolicy
    from fluxflex._core.schedule import AdaptivePolling, FixedPolling, PollPolicy
    from fluxflex.errors import (
        APIError,
        BudgetExceededError,
        FluxFlexError,
        GenerationError,
        InvalidRequestError,
        RateLimitError,
        SubmitUncertainError,
        TaskTimeoutError,
    )

__version__ = "0.1.0"

__all__ = [
    "APIError",
    "Account",
    "AdaptiveConcurrency",
    "AdaptivePolling",
    "Batch",
    "BatchProgress",
    "BudgetExceededError",
    "Change",
    "ConcurrencyPolicy",
    "FixedConcurrency",
    "FixedPolling",
    "FluxFlexError",
    "GenerateRequest",
    "GeneratedImage",
    "GenerationError",
    "InvalidRequestError",
    "JournalEntry",
    "Limiter",
    "Outcome",
    "PollPolicy",
    "RateLimitError",
    "RetryPolicy",
    "Session",
    "Statistics",
    "SubmitUncertainError",
    "TaskHandle",
    "TaskRecord",
    "TaskState",
    "TaskTimeoutError",
    "Timeouts",
    "__version__",
    "read_journal",
]

_HOMES = {
    "_aio.batch": ("Batch",),
    "_aio.entry": ("JournalEntry",),
    "_aio.handle": ("TaskHandle",),
    "_aio.images": ("GeneratedImage",),
    "_aio.outcome": ("BatchProgress", "Outcome"),
    "_aio.reports": ("Account", "Statistics"),
    "_aio.session": ("Session",),
    "_aio.reading": ("read_journal",),
    "_core.lifecycle": ("Change", "TaskRecord", "TaskState"),
    "_core.limits": (
        "AdaptiveConcurrency",
        "ConcurrencyPolicy",
        "FixedConcurrency",
        "Limiter",
        "Timeouts",
    ),
    "_core.request": ("GenerateRequest",),
    "_core.retry": ("RetryPolicy",),
    "_core.schedule": ("AdaptivePolling", "FixedPolling", "PollPolicy"),
    "errors": (
        "APIError",
        "BudgetExceededError",
        "FluxFlexError",
        "GenerationError",
        "InvalidRequestError",
        "RateLimitError",
        "SubmitUncertainError",
        "TaskTimeoutError",
    ),
}
_MODULES = ("errors", "simulator", "webhooks")
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import what a public name needs when it is first used."""
    if name in _MODULES:
        return importlib.import_module(f"fluxflex.{name}")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'fluxflex' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"fluxflex.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*__all__, *_MODULES])
