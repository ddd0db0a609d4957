"""Unpeered: a machine that has nothing to do with others, as `Peering` is for one that has.

It is told the same, and does nothing, but that it takes back what was published while it was different.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dmedia_transfer.config import Config

if TYPE_CHECKING:
    from dmedia_transfer.couch.address import Address
    from dmedia_transfer.daemon.peering import Peering, PeerLibrary
    from dmedia_transfer.peers.reach import Reach


def peering_of(config: Config, machine_id: str) -> Peering | Unpeered:
    """What the configuration wants.

    Raises:
        InvalidConfig: Whom we trust cannot be read.
    """
    if not config.peer.enabled:
        return Unpeered()
    # Here, because X.509 and mDNS are 12 MB of memory, which a machine without peers does not need.
    from dmedia_transfer.daemon.peering import Peering

    return Peering(config, machine_id)


class Unpeered:
    """Speaks to no other machine."""

    reach: Reach | None = None

    def start(self, address: Address, *, library: PeerLibrary, **_: object) -> None:
        """Take back what was published."""
        library.say_of_peer({"certificates": [], "addresses": []})

    def stop(self) -> None:
        """There is nothing to stop."""

    def known_count(self) -> int:
        """Nobody is known."""
        return 0

    def limit(self, *, send_bps: float | None, receive_bps: float | None, stopped: bool) -> None:
        """Nobody is served."""

    def machines_loaded(self, raws: object) -> None:
        """Nobody is trusted."""

    def machine_changed(self, raw: Mapping[str, Any]) -> None:
        """Nobody is trusted."""

    def machine_gone(self, machine_id: str) -> None:
        """Nobody is trusted."""
