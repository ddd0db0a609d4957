"""Addresses: where this machine can be reached, by its network interfaces, and what is near it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import ifaddr

from dmedia_transfer.peers.section import MAX_ADDRESSES, PeerAddress

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Interfaces = Callable[[], Sequence[Interface]]

_ANY: Final = {"": (4, 6), "::": (4, 6), "0.0.0.0": (4,)}  # noqa: S104 - hosts that mean all interfaces


def interfaces() -> tuple[Interface, ...]:
    """The addresses of all network interfaces as they are now, with their networks.

    Link-local addresses of IPv6 are left out: they mean nothing without the name of an interface, and that is another
    one on each machine.
    """
    found: dict[Interface, None] = {}
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            address = each.ip if isinstance(each.ip, str) else each.ip[0]
            interface = ipaddress.ip_interface(f"{address.partition('%')[0]}/{each.network_prefix}")
            if not (interface.version == 6 and interface.is_link_local):
                found[interface] = None
    return tuple(found)


def to_publish(
    found: Iterable[Interface], *, host: str, port: int, more: Iterable[PeerAddress] = ()
) -> tuple[PeerAddress, ...]:
    """What goes into our machine document.

    Args:
        found: The interfaces.
        host: What the server listens on; where that is one address or name, no other is published.
        port: On which it listens.
        more: What the configuration names: they come first.
    """
    if host in _ANY:
        usable = [each.ip for each in found if each.version in _ANY[host] and not each.ip.is_unspecified]
        real = [each for each in usable if not each.is_loopback]
        # A machine without any network can still have another user's daemon beside it.
        chosen = [str(each) for each in sorted(real or usable, key=lambda each: each.version)]
    else:
        chosen = [host]
    return tuple(dict.fromkeys([*more, *(PeerAddress(each, port) for each in chosen)]))[:MAX_ADDRESSES]


def is_near(address: PeerAddress, found: Iterable[Interface]) -> bool:
    """Whether an address is on a network that this machine is connected to directly: no router is between.

    A name is near only if it is one of mDNS: where others lead cannot be said without asking somebody.
    """
    try:
        ip = ipaddress.ip_address(address.host)
    except ValueError:
        return address.host.rstrip(".").lower().endswith(".local")
    return any(ip in each.network for each in found if each.version == ip.version)
