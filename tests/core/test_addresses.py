"""Public addresses, in every form in which another may hide."""

from __future__ import annotations

import pytest

from fluxflex._core.addresses import is_public, parsed


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("[2606:4700::1111]", True),
        ("64:ff9b::808:808", True),
        ("2002:808:808::", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - nothing listens here
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b:1::7f00:1", False),
        ("fec0::1", False),
        ("5f00::1", False),
        ("100::1", False),
        ("2001:db8::1", False),
    ],
)
def test_public_or_not(text: str, *, public: bool) -> None:
    """Only what can be reached over the internet is public."""
    address = parsed(text)
    assert address is not None
    assert is_public(address) is public


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "2130706433", "files.example"])
def test_a_name_is_no_address(text: str) -> None:
    """What is to be looked up is judged by what it leads to; so are old ways to write numbers."""
    assert parsed(text) is None
