"""Who takes part: each client by its name, with what must be installed for it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from typing import cast

import attrs

from side_by_side.work import Client


@attrs.frozen
class Entrant:
    """One client.

    Attributes:
        name: as the tables say it.
        where: the module and the function.
        needs: the distribution, and what it is imported as.
    """

    name: str
    where: str
    needs: tuple[str, str] = ("aiohttp", "aiohttp")

    @property
    def installed(self) -> bool:
        """Whether it can run here."""
        return importlib.util.find_spec(self.needs[1]) is not None

    @property
    def version(self) -> str:
        """What is installed of what it needs."""
        return f"{self.needs[0]} {importlib.metadata.version(self.needs[0])}"

    def load(self) -> Client:
        """Import the client, and what it is built on."""
        if self.needs[1] != "aiohttp":
            importlib.import_module(self.needs[1])
        module, _, function = self.where.partition(":")
        return cast("Client", getattr(importlib.import_module(f"side_by_side.{module}"), function))


FLUXFLEX = "fluxflex"
DEFAULT = "fluxflex, as it comes"
CALLBACKS = "fluxflex, callbacks"
GENERATE = "fluxflex, generate"
TRANSPORT = "fluxflex's transport alone"
PLAIN = "aiohttp loops"
SEMAPHORE = "aiohttp, gather + semaphore"
HTTPX = "httpx loops"
FAL = "fal-client"
REPLICATE = "replicate"
OPENAI = "openai, one request an image"

ENTRANTS = {
    entrant.name: entrant
    for entrant in (
        Entrant(FLUXFLEX, "clients:fluxflex_map"),
        Entrant(DEFAULT, "clients:fluxflex_default"),
        Entrant(CALLBACKS, "clients:fluxflex_callbacks"),
        Entrant(GENERATE, "clients:fluxflex_generate"),
        Entrant(TRANSPORT, "clients:bare_transport"),
        Entrant(PLAIN, "clients:aiohttp_loops"),
        Entrant(SEMAPHORE, "clients:aiohttp_semaphore"),
        Entrant(HTTPX, "peers:httpx_loops", ("httpx", "httpx")),
        Entrant(FAL, "peers:fal_client_subscribe", ("fal-client", "fal_client")),
        Entrant(REPLICATE, "peers:replicate_predictions", ("replicate", "replicate")),
        Entrant(OPENAI, "peers:openai_images", ("openai", "openai")),
    )
}
