"""How an origin is reached: straight or through a proxy, as the environment says."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping

import aiohttp
import attrs
from multidict import CIMultiDict
from yarl import URL


@attrs.frozen
class Way:
    """How an origin is reached, as the environment says, and what every request to it says."""

    proxy: URL | None = None
    proxy_headers: Mapping[str, str] | None = None
    headers: CIMultiDict[str] = attrs.field(factory=CIMultiDict)


def way_to(url: URL) -> Way:
    """Read the proxy variables, once for each origin.

    aiohttp's own `trust_env` would read them in a thread for every request, and would refuse to
    send our key to a host that has an entry in a `.netrc` file.
    """
    given = urllib.request.getproxies().get(url.scheme)
    if not given or urllib.request.proxy_bypass(url.host or ""):
        return Way()
    proxy = URL(given if "://" in given else f"http://{given}")
    if proxy.user is None:
        return Way(proxy)
    login = {"proxy-authorization": aiohttp.encode_basic_auth(proxy.user, proxy.password or "")}
    bare = proxy.with_user(None)
    # A tunnel is asked for it by CONNECT; without one it stands beside the request's headers.
    return Way(bare, login) if url.scheme == "https" else Way(bare, None, CIMultiDict(login))
