"""Reach: how another machine of the library is reached from here, or why it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dmedia_transfer.errors import StoreMissing
from dmedia_transfer.peers.addresses import Interfaces, interfaces, is_near
from dmedia_transfer.peers.section import PeerAddress
from dmedia_transfer.peers.trust import Trust


class Reach:
    """Whom we may speak to, and where. For the thread that has the `Trust`."""

    def __init__(
        self,
        trust: Trust,
        *,
        state_dir: Path,
        off_lan: bool = True,
        discovered: Callable[[str], Iterable[PeerAddress]] = lambda machine_id: (),
        found: Interfaces = interfaces,
    ) -> None:
        """Nothing is asked yet.

        Args:
            trust: Whom we trust.
            state_dir: Where our own key is.
            off_lan: Whether peers are spoken to beyond the networks that we are connected to directly.
            discovered: Where a machine says that it is, on the local network.
            found: Our network interfaces.
        """
        self._trust = trust
        self._state_dir = state_dir
        self._off_lan = off_lan
        self._discovered = discovered
        self._found = found

    def addresses(self, machine_id: str) -> list[PeerAddress]:
        """Where a machine may be, best first: what is near, and of that what it says on the local network just now."""
        peer = self._trust.peer(machine_id)
        known = list(dict.fromkeys([*self._discovered(machine_id), *(peer.addresses if peer else ())]))
        ours = self._found()
        near = [each for each in known if is_near(each, ours)]
        return [*near, *(each for each in known if each not in near)] if self._off_lan else near

    def settings(self, machine_id: str) -> Mapping[str, Any]:
        """What the backend of peers has to know.

        Raises:
            StoreMissing: The machine cannot be spoken to; the message says why.
        """
        peer = self._trust.peer(machine_id)
        if peer is None:
            raise StoreMissing(
                f"machine {machine_id} is not trusted: it has published no certificate, or it was forgotten"
            )
        addresses, ours = self.addresses(machine_id), self._found()
        near = [str(each) for each in addresses if is_near(each, ours)]
        if not addresses and peer.addresses:
            raise StoreMissing(f"machine {machine_id} is not on this network, and `peer.off_lan` is false here")
        if not addresses:
            raise StoreMissing(f"machine {machine_id} has published no address at which it can be reached")
        return {
            "machine_id": machine_id,
            "addresses": [str(each) for each in addresses],
            "certificates": [each.text for each in peer.certificates],
            "identity_dir": str(self._state_dir),
            "near": bool(near),
            "near_addresses": near,  # they come first
        }
