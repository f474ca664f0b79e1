"""Keeps URLs that came by callback away from private addresses.

A callback comes from the network: its URL may name a machine that only we can reach. Names are
checked where they are resolved for the connection itself, so that no second answer of a name
server comes between; addresses that stand in the URL are never resolved, and checked before.
"""

from __future__ import annotations

import asyncio
import socket

from aiohttp import DefaultResolver
from aiohttp.abc import AbstractResolver, ResolveResult

from fluxflex._core.addresses import is_public, parsed


class NotPublicError(OSError):
    """A URL that came by callback leads to an address that is not public."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.strerror = message  # where aiohttp, which wraps it, looks for words


class PublicResolver(AbstractResolver):
    """Resolves names, and refuses those that lead to an address that is not public.

    Args:
        home: the API's host; where it is on such an address itself, nothing is refused.
        resolver: what asks the name servers; aiohttp's default.
    """

    def __init__(self, home: str | None, resolver: AbstractResolver | None = None) -> None:
        self._home = home
        self._resolver = DefaultResolver() if resolver is None else resolver
        self._at_home: bool | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            NotPublicError: one of them is not public.
            OSError: there are none.
        """
        found = await self._resolver.resolve(host, port, family)
        if not all(_public(each["host"]) for each in found):
            await self._refuse(host)
        return found

    async def check(self, host: str, *, names: bool) -> None:
        """Refuse a host that is written as an address; names too where we do not resolve them.

        Raises:
            NotPublicError: it is not public.
        """
        if parsed(host) is not None:
            if not _public(host):
                await self._refuse(host)
        elif names:
            try:
                await self.resolve(host, 0, socket.AF_UNSPEC)
            except NotPublicError:
                raise
            except OSError:
                return  # a name that only the proxy knows

    async def close(self) -> None:
        """Close what asks the name servers."""
        await self._resolver.close()

    async def _refuse(self, host: str) -> None:
        if self._at_home is None:
            self._at_home = await self._is_home_private()
        if not self._at_home:
            raise NotPublicError(f"{host} came by callback and is not at a public address")

    async def _is_home_private(self) -> bool:
        if self._home is None:
            return False
        if parsed(self._home) is not None:
            return not _public(self._home)
        try:
            async with asyncio.timeout(10):
                found = await self._resolver.resolve(self._home, 0, socket.AF_UNSPEC)
        except (OSError, TimeoutError):
            return False
        return not all(_public(each["host"]) for each in found)


def _public(text: str) -> bool:
    address = parsed(text)
    return address is not None and is_public(address)
