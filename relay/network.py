"""The addresses of this machine, as a relay needs them: which one others reach, and whether it is still there.

Not here: which of them a relay takes (`place`). Invariant: nothing is sent. The route that a packet would take is asked
of the kernel, for an address that nobody has.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

HERE: Final = "127.0.0.1"
"""The address at which a machine reaches itself."""
NOWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses for documentation, beyond every local network: the way to them is the default route. Sources: RFC 5737,
RFC 3849."""


class Reached(NamedTuple):
    """An address of this machine, and the interface that has it."""

    interface: str
    address: str


class Network(Protocol):
    """The network as this machine sees it. `SystemNetwork` is the real one."""

    def default(self) -> str | None:
        """The address of this machine on its default route; None without one."""
        ...

    def interfaces(self) -> Mapping[str, Sequence[str]]:
        """The addresses of every interface, IPv4 first."""
        ...


class SystemNetwork:
    """What the kernel says."""

    def default(self) -> str | None:
        for family, address in NOWHERE:
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
                # To connect a datagram socket sends nothing, and gives it the address that packets would carry.
                probe.connect((address, 9))
                return str(probe.getsockname()[0])
        return None

    def interfaces(self) -> Mapping[str, Sequence[str]]:
        import psutil

        families = (socket.AF_INET, socket.AF_INET6)
        return {
            name: [
                each.address.partition("%")[0]
                for family in families
                for each in addresses
                if each.family == family and not _is_link_local(each.address)
            ]
            for name, addresses in psutil.net_if_addrs().items()
        }


def holder(network: Network, address: str) -> str | None:
    """The interface that has this address now; None where none has."""
    for name, addresses in network.interfaces().items():
        if address in addresses:
            return name
    return None


def default_route(network: Network) -> Reached | None:
    """The address that others in the network reach this machine by, and its interface; None without a route."""
    address = network.default()
    if address is None or ipaddress.ip_address(address).is_loopback:
        return None
    interface = holder(network, address)
    return None if interface is None else Reached(interface, address)


def is_literal(text: str) -> bool:
    """Whether `text` is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_everywhere(text: str) -> bool:
    """Whether an address stands for all addresses of a machine."""
    return is_literal(text) and ipaddress.ip_address(text).is_unspecified


def spelled(address: str, port: int) -> str:
    """An address and a port as a URL has them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _is_link_local(address: str) -> bool:
    plain = address.partition("%")[0]
    return is_literal(plain) and ipaddress.ip_address(plain).is_link_local
