"""Addresses that clients give: where the service may connect to on somebody's word, and where not.

A name is resolved once, every address it has must be one of the public internet, and the connection goes to
one of those: a resolver that answers differently a moment later changes nothing. The operator may allow
further networks.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Lookup = Callable[..., Sequence[tuple[Any, ...]]]  # as socket.getaddrinfo
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
PORTS = {"http": 80, "https": 443}


class AddressRefusedError(Exception):
    """The service does not connect there; the words say why."""


class UnresolvedError(AddressRefusedError):
    """The resolver gives no address for the name: it may in a while."""


def networks(text: str) -> tuple[Network, ...]:
    """Networks from their list, comma-separated. Raises ValueError for what is none."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def parsed(url: str, *, plain: bool) -> SplitResult:
    """The parts of an address, as far as they can be judged without asking a resolver.

    Args:
        plain: whether http is accepted beside https.

    Raises:
        AddressRefusedError: it is of another scheme, has no host, or carries a password or a fragment.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as wrong:
        raise AddressRefusedError(f"it cannot be read as a URL: {wrong}") from wrong
    if parts.scheme not in PORTS or (parts.scheme == "http" and not plain):
        raise AddressRefusedError("it must begin with https://")
    if not host or port == 0 or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise AddressRefusedError("it must name a host and hold no blanks")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise AddressRefusedError("it must hold no user, password or #fragment")
    return parts


def port_of(parts: SplitResult) -> int:
    return parts.port or PORTS[parts.scheme]


def literal(host: str) -> Address | None:
    """The host as an address, where it is written as one."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def allowed(address: Address, also: Sequence[Network]) -> bool:
    """Whether the address is a public one, or in a network that the operator allows."""
    if any(address in network for network in also):
        return True
    inner = _inner(address)
    if inner is not None:  # a gateway would carry it there
        return allowed(inner, also)
    return address.is_global and not (
        address.is_multicast or (address.is_reserved and isinstance(address, ipaddress.IPv4Address))
    )


def _inner(address: Address) -> Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def resolved(
    parts: SplitResult, also: Sequence[Network], lookup: Lookup = socket.getaddrinfo
) -> list[Address]:
    """The addresses of the host, asked for once, in the resolver's order.

    Raises:
        UnresolvedError: the name has no address.
        AddressRefusedError: it has one that is neither public nor in `also`; or http is asked of an address
            that is not in `also`.
    """
    host = parts.hostname or ""
    try:
        found = lookup(host, port_of(parts), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as unknown:
        raise UnresolvedError(f"the name {host!r} cannot be resolved ({unknown})") from unknown
    addresses = list(
        dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found)
    )
    if not addresses:
        raise UnresolvedError(f"the name {host!r} has no address")
    for address in addresses:
        if not allowed(address, also):
            raise AddressRefusedError(
                f"{host!r} is at {address}, which is not an address of the public internet"
            )
        if parts.scheme == "http" and not any(address in network for network in also):
            raise AddressRefusedError(f"{host!r} is at {address}, where only https:// is used")
    return addresses
