"""Which addresses are public: those to which a URL that a stranger may have written may lead."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

# Here the last four bytes are an IPv4 address: translated (NAT64), or by its old name.
_TRANSLATED = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
# Nothing outside of it has been given out for the internet; `is_global` knows it in part only.
_INTERNET = ipaddress.IPv6Network("2000::/3")


def parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address; `None` for what is a name."""
    try:
        return ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Say whether an address is neither private, loopback, link-local nor otherwise reserved.

    Of an IPv6 address that stands for an IPv4 one, that one decides.
    """
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if any(address in network for network in _TRANSLATED):
            inner = IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(inner)
        if address not in _INTERNET:
            return False
    return address.is_global and not address.is_multicast
