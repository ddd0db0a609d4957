"""Reach: how far away a store is, and whether bytes may go there with the connection that there is.

Bytes cost nothing and need no Internet where they stay on this machine or in the local network. So a lost connection,
or one that costs by the byte, holds back only what it is needed for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from dmedia_transfer.errors import Metered, Offline, Waiting
from dmedia_transfer.model import PRIORITY_NOW, StoreSpec, Transfer

# Names that are given away inside a network only: RFC 6762, RFC 8375, and what routers and companies use.
_NEAR_SUFFIXES: Final = (".local", ".home.arpa", ".internal", ".lan", ".localdomain", ".fritz.box")


class Distance(IntEnum):
    """How far bytes go, or can go."""

    HERE = 0  # this machine: its disks, loopback
    NEAR = 1  # the local network
    FAR = 2  # the Internet

    @property
    def words(self) -> str:
        """As people say it."""
        return ("no farther than this machine", "the local network", "the Internet")[self]


class OverMetered(StrEnum):
    """What may go over a connection that costs by the byte."""

    NEVER = "never"  # nothing but what was allowed by itself
    ASK_NO = "ask-no"  # what is urgent or small, and nobody is asked about the rest
    ALWAYS = "always"  # everything


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around this machine; where nobody says, all is well."""

    reach: Distance = Distance.FAR  # how far it reaches
    metered: bool = False  # the way to the Internet costs by the byte
    battery_low: bool = False  # it runs on a battery that is nearly empty
    asleep: bool = False  # it sleeps, or is about to


@dataclass(frozen=True, slots=True)
class MeteredRule:
    """The settings for a connection that costs by the byte."""

    policy: OverMetered = OverMetered.ASK_NO
    max_bytes: int = 10_000_000  # a file of at most so many is small

    def allows(self, transfer: Transfer, file_bytes: int) -> bool:
        """Whether a transfer may go over such a connection."""
        if transfer.metered or self.policy is OverMetered.ALWAYS:
            return True
        worth_it = transfer.priority >= PRIORITY_NOW or file_bytes <= self.max_bytes
        return self.policy is OverMetered.ASK_NO and worth_it


def refusal(
    store: StoreSpec, transfer: Transfer, file_bytes: int, around: Surroundings, rule: MeteredRule
) -> Waiting | None:
    """Why bytes of this transfer may not go to or come from this store now; None if they may."""
    far = distance(store)
    if far > around.reach:
        what = "the local network" if far is Distance.NEAR else "the Internet"
        return Offline(f"store {store.store_id} is behind {what}, and there is no connection to it")
    if far is Distance.FAR and around.metered and not rule.allows(transfer, file_bytes):
        return Metered(f"the connection to store {store.store_id} costs by the byte")
    return None


def within(store: StoreSpec, transfer: Transfer, file_bytes: int, around: Surroundings, rule: MeteredRule) -> StoreSpec:
    """A store that may be used, with only those of its addresses to which bytes of this transfer may go now.

    A peer is near if one of its addresses is; if that one fails, the others must not be tried at any price.
    """
    near = store.settings.get("near_addresses")
    free = around.reach is Distance.FAR and (not around.metered or rule.allows(transfer, file_bytes))
    if free or not near or near == store.settings.get("addresses"):
        return store
    return replace(store, settings={**store.settings, "addresses": near})


def distance(store: StoreSpec) -> Distance:
    """How far away a store is, by its nearest address; one that names no address is on the Internet.

    A peer publishes its private addresses wherever it is, so for peers somebody has looked whether one of them is on a
    network that we are connected to directly (`near`).
    """
    if store.local:
        return Distance.HERE
    near = store.settings.get("near")
    if near is False:
        return Distance.FAR
    found = min((_of_host(host) for host in _hosts(store.settings)), default=Distance.FAR)
    return min(found, Distance.NEAR) if near is True else found


def _hosts(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        if isinstance(value, str) and "://" in value:
            yield _host_of(value)
        elif key == "addresses" and isinstance(value, list | tuple):
            yield from (_host_of(f"//{address}") for address in value if isinstance(address, str))


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _of_host(host: str) -> Distance:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        name = host.lower().rstrip(".")
        if name == "localhost" or name.endswith(".localhost"):
            return Distance.HERE
        return Distance.NEAR if name and ("." not in name or name.endswith(_NEAR_SUFFIXES)) else Distance.FAR
    if address.is_loopback:
        return Distance.HERE
    return Distance.NEAR if address.is_private or address.is_link_local else Distance.FAR
