"""NetworkManager: how far the connection reaches, whether it costs by the byte, and whether it is another one.

Numbers are those of https://networkmanager.dev/docs/api/latest/nm-dbus-types.html. Only signals of the manager itself
and about addresses are heard: what its devices say of their signal strength would wake us all the time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dmedia_transfer.bus.others import Service
from dmedia_transfer.busnames import PROPERTIES
from dmedia_transfer.reach import Distance

log = logging.getLogger(__name__)

NAME: Final = "org.freedesktop.NetworkManager"
PATH: Final = "/org/freedesktop/NetworkManager"
ACTIVE: Final = f"{NAME}.Connection.Active"
ADDRESSES: Final = {"Ip4Config": f"{NAME}.IP4Config", "Ip6Config": f"{NAME}.IP6Config"}

STATE_UNKNOWN, STATE_LOCAL, STATE_SITE, STATE_GLOBAL = 0, 50, 60, 70
CONNECTIVITY_UNKNOWN, CONNECTIVITY_FULL = 0, 4
METERED_YES, METERED_GUESS_YES = 1, 3


@dataclass(frozen=True, slots=True)
class Connection:
    """What NetworkManager says of the connection; without it there is one that costs nothing."""

    reach: Distance = Distance.FAR
    metered: bool = False
    identity: str = ""  # changes when connections that were made before are of no use any more; empty without one


class Network:
    """Follows NetworkManager."""

    def __init__(self, bus: Any, on_change: Callable[[Connection], None]) -> None:
        """`on_change` is told of the first state as well."""
        self._on_change = on_change
        self._service = Service(bus, NAME)
        self._told: Connection | None = None
        self._looking = False
        self._again = False  # something changed while it was looked at
        for about, path in ((NAME, PATH), *((about, None) for about in ADDRESSES.values())):
            self._service.hear(PROPERTIES, "PropertiesChanged", self._look, path=path, about=about)
        self._service.hear(NAME, "StateChanged", self._look, path=PATH)
        self._service.watch(self._there)

    def close(self) -> None:
        """Follow it no more."""
        self._service.close()

    def _there(self, there: bool) -> None:
        self._looking = self._again = False
        if there:
            self._look()
        else:
            self._tell(Connection())

    def _look(self, *_: object) -> None:
        if self._looking:
            self._again = True
            return
        self._looking = True
        self._service.properties(PATH, NAME, self._manager, lambda _: self._looked(None))

    def _manager(self, said: Mapping[str, Any]) -> None:
        reach = _reach(int(said.get("State", STATE_UNKNOWN)), int(said.get("Connectivity", CONNECTIVITY_UNKNOWN)))
        metered = int(said.get("Metered", 0)) in (METERED_YES, METERED_GUESS_YES)
        primary = str(said.get("PrimaryConnection", "/"))
        if reach is Distance.HERE:
            self._looked(Connection(reach))
        elif primary == "/":
            self._looked(Connection(reach, metered, "unknown"))
        else:
            found = Connection(reach, metered, primary)
            self._service.properties(
                primary, ACTIVE, lambda active: self._active(found, active), lambda _: self._looked(found)
            )

    def _active(self, found: Connection, active: Mapping[str, Any]) -> None:
        """The addresses of the primary connection, one family after the other."""
        paths = [(str(active.get(key, "/")), interface) for key, interface in ADDRESSES.items()]
        self._addresses(found, [(path, interface) for path, interface in paths if path != "/"])

    def _addresses(self, found: Connection, rest: list[tuple[str, str]]) -> None:
        if not rest:
            self._looked(found)
            return
        path, interface = rest[0]

        def took(said: Mapping[str, Any]) -> None:
            identity = f"{found.identity} {_addressing(interface, said)}"
            self._addresses(Connection(found.reach, found.metered, identity), rest[1:])

        self._service.properties(path, interface, took, lambda _: self._addresses(found, rest[1:]))

    def _looked(self, found: Connection | None) -> None:
        self._looking = False
        if self._again:
            self._again = False
            self._look()
        elif found is not None:
            self._tell(found)

    def _tell(self, found: Connection) -> None:
        if found != self._told:
            self._told = found
            log.info("the connection reaches %s%s", found.reach.words, ", and costs by the byte" * found.metered)
            self._on_change(found)


def _reach(state: int, connectivity: int) -> Distance:
    """How far a connection reaches. One that NetworkManager does not know of yet is taken for granted."""
    if state == STATE_UNKNOWN:
        return Distance.FAR
    if state >= STATE_GLOBAL:
        # It is global as well where it was not checked; a portal, or no answer to the check, is not the Internet.
        return Distance.FAR if connectivity in (CONNECTIVITY_UNKNOWN, CONNECTIVITY_FULL) else Distance.NEAR
    return Distance.NEAR if state in (STATE_LOCAL, STATE_SITE) else Distance.HERE


def _addressing(interface: str, said: Mapping[str, Any]) -> str:
    """What of a connection's addresses matters: of IPv6 the router only, as addresses come and go for privacy."""
    router = str(said.get("Gateway", ""))
    if interface.endswith("IP6Config"):
        return router
    addresses = sorted(str(each.get("address", "")) for each in said.get("AddressData", []))
    return " ".join([*addresses, router])
