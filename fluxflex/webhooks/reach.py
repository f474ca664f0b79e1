"""What can be told beforehand of where callbacks are to arrive."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def doubt(public_url: str, base_url: str) -> str | None:
    """Say why callbacks will not come, or not in private; `None` where nothing is known against it.

    Args:
        public_url: where they are to arrive.
        base_url: the address of the API that sends them.
    """
    parts = urlsplit(public_url)
    if _is_near(parts.hostname or ""):
        if _is_near(urlsplit(base_url).hostname or ""):
            return None
        return (
            f"The provider cannot reach {public_url}: that is an address of this machine or its "
            "network, so no callback will come, and tasks are looked at as without a receiver. "
            "Give the receiver the address at which the internet reaches it, or a tunnel's"
        )
    if parts.scheme == "http":
        return (
            f"Callbacks come to {public_url} unencrypted: whoever is on the way can read their "
            "tokens, and forge callbacks. Use https, or `confirm=True`"
        )
    return None


def _is_near(host: str) -> bool:
    """Say whether a host is on this machine or its network; names are not asked for."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal"))
