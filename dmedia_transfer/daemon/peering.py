"""Peering: the other machines of the library, joined to the daemon; on its thread.

What comes in from the changes feed decides whom we trust; the server for peers is told at once, and so is the manager,
which then plans anew. What goes out is `peer` of our machine document: our certificates, and where we can be reached,
written anew when our key or our network changes.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from gi.repository import Gio, GLib

from dmedia_transfer.bus import mainloop
from dmedia_transfer.config import Config
from dmedia_transfer.couch.address import Address
from dmedia_transfer.errors import TransferError
from dmedia_transfer.model import RecordStored
from dmedia_transfer.peers import addresses, identity, trust
from dmedia_transfer.peers.addresses import Interface
from dmedia_transfer.peers.discovery import Discovery
from dmedia_transfer.peers.identity import Identity
from dmedia_transfer.peers.netwatch import NetWatch
from dmedia_transfer.peers.reach import Reach
from dmedia_transfer.peers.section import PeerAddress, write_section
from dmedia_transfer.peers.server.launch import PeerServer, setup_of
from dmedia_transfer.peers.server.messages import Moved, Stored
from dmedia_transfer.peers.trust import Trust
from dmedia_transfer.ports import Outbox

KEEP_S: Final = 24 * 3600.0  # how often it is seen whether the key is to be replaced
SETTLE_S: Final = 1.0  # addresses that come and go together are published together

log = logging.getLogger(__name__)


class PeerLibrary(Protocol):
    """What of the library this needs."""

    def say_of_peer(self, section: Mapping[str, Any]) -> None: ...

    def look_at_machine(self, machine_id: str) -> None: ...

    def flush(self) -> None: ...


class Peering:
    """Whom we trust, who may reach us, and where."""

    def __init__(self, config: Config, machine_id: str) -> None:
        """Nothing runs yet.

        Raises:
            InvalidConfig: Whom we trust cannot be read.
        """
        self._config = config
        self._machine_id = machine_id
        self._trust = Trust(config.state_dir / trust.FILE_NAME)
        self._interfaces: tuple[Interface, ...] = ()
        self._port = 0  # 0: the server does not listen
        self._identity: Identity | None = None
        self._cleanup = contextlib.ExitStack()
        self._settling: mainloop.Cancel | None = None
        self._keeping: mainloop.Cancel | None = None
        self._hearing: mainloop.Cancel | None = None
        self._heard_of: dict[str, None] = {}  # machines, since `_hearing` began
        self._discovery: Discovery | None = None
        self.reach = Reach(
            self._trust,
            state_dir=config.state_dir,
            off_lan=config.peer.off_lan,
            discovered=self._discovered,
            found=lambda: self._interfaces,
        )

    def start(
        self,
        address: Address,
        *,
        library: PeerLibrary,
        outbox: Outbox,
        on_changed: Callable[[], object],
        on_back: Callable[[str], object],
        on_stored: Callable[[str], object],
        on_problem: Callable[[str, str | None], object],
        on_moved: Callable[[int, int], object],
        call_soon: Callable[..., object],
    ) -> None:
        """Serve peers, and be found by them.

        Args:
            address: Of the database server, which the server for peers reads file documents from.
            library: Writes our machine document.
            outbox: Keeps what peers have sent until the database knows of it.
            on_changed: Called when other machines can be reached, or cannot any more.
            on_back: Called then with the ID of each machine that says where it is.
            on_stored: Called with the ID of a file that a peer has sent.
            on_problem: Called with where it is and a sentence when something is wrong, with None when it is right.
            on_moved: Called with the bytes that were sent and received since the last call, while any move.
            call_soon: Calls something on the daemon's thread.

        Raises:
            InvalidConfig: Our key cannot be made or read.
        """
        self._library, self._outbox = library, outbox
        self._on_changed, self._on_stored, self._on_problem = on_changed, on_stored, on_problem
        self._on_back, self._on_moved = on_back, on_moved
        self._identity = identity.keep(self._config.state_dir, self._machine_id)
        self._interfaces = addresses.interfaces()
        self._server = PeerServer(
            setup_of(self._config, address),
            call_soon=call_soon,
            on_listening=self._listening,
            on_stored=self._stored,
            on_moved=self._moved,
            on_problem=self._server_problem,
        )
        self._server.trust(self._trust.peers())
        self._server.start()
        self._cleanup.callback(self._server.stop)
        if self._config.peer.discovery:
            self._discovery = Discovery(self._machine_id, call_soon=call_soon, on_heard=self._heard)
            self._cleanup.callback(self._discovery.close)
        self._watch_network()
        self._watch_key()
        self._keep_later()

    def stop(self) -> None:
        """Serve nobody any more. Harmless if it was not started."""
        for timer in (self._settling, self._keeping, self._hearing):
            if timer is not None:
                timer()
        self._cleanup.close()

    def known_count(self) -> int:
        """How many other machines can be spoken to, as far as trust goes."""
        return sum(peer.machine_id != self._machine_id for peer in self._trust.peers())

    def limit(self, *, send_bps: float | None, receive_bps: float | None, stopped: bool) -> None:
        """So fast may peers be served, in bytes per second; None is no limit. `stopped` is not at all."""
        self._server.limit(send_bps=send_bps, receive_bps=receive_bps, stopped=stopped)

    # What the feed and the library bring.

    def machines_loaded(self, raws: Iterable[Mapping[str, Any]]) -> None:
        """These are the documents of all machines."""
        if self._trust.on_machines(raws):
            self._trust_changed()

    def machine_changed(self, raw: Mapping[str, Any]) -> None:
        """A machine document came in or has changed, ours or another one's."""
        if raw.get("_conflicts") and raw.get("_id") != self._machine_id:
            # That it was forgotten may stand in a revision that lost. Its own machine merges them, if it ever does.
            self._library.look_at_machine(str(raw["_id"]))
        if self._trust.on_machine(raw):
            self._trust_changed()
            self._is_back(str(raw["_id"]))

    def machine_gone(self, machine_id: str) -> None:
        """A machine document was deleted."""
        if self._trust.on_machine_gone(machine_id):
            self._trust_changed()

    def _trust_changed(self) -> None:
        self._server.trust(self._trust.peers())
        self._on_changed()

    def _discovered(self, machine_id: str) -> Iterable[PeerAddress]:
        return self._discovery.heard(machine_id) if self._discovery is not None else ()

    def _heard(self, machine_id: str) -> None:
        if self._trust.peer(machine_id) is None:
            return
        self._heard_of[machine_id] = None
        if self._hearing is None:
            self._hearing = mainloop.call_later(SETTLE_S, self._heard_all)

    def _heard_all(self) -> None:
        heard, self._heard_of = self._heard_of, {}
        self._hearing = None
        self._on_changed()
        for machine_id in heard:
            if self._discovered(machine_id):  # else it said goodbye
                self._is_back(machine_id)

    def _is_back(self, machine_id: str) -> None:
        if self._trust.peer(machine_id) is not None:
            self._on_back(machine_id)

    # What the server says.

    def _listening(self, port: int) -> None:
        self._port = port
        log.info("the server for peers listens on port %s", port)
        self._publish()

    def _server_problem(self, problem: str | None) -> None:
        self._on_problem("server for peers", problem)
        if problem is not None and not self._port:
            self._publish()  # nobody can reach us, but we can reach others once they know our certificate

    def _stored(self, stored: Stored) -> None:
        record = RecordStored(stored.file_id, stored.store_id, 1, round(time.time(), 3))
        self._outbox.add([record])
        self._server.confirm(stored)
        self._library.flush()
        log.info("file %s: came from machine %s into store %s", stored.file_id, stored.machine_id, stored.store_id)
        self._on_stored(stored.file_id)

    def _moved(self, moved: Moved) -> None:
        self._on_moved(moved.sent_bytes, moved.received_bytes)

    # What we say of ourselves.

    def _publish(self) -> None:
        if self._identity is None:
            return
        peer = self._config.peer
        listed: tuple[PeerAddress, ...] = ()
        if self._port:
            listed = addresses.to_publish(
                self._interfaces, host=peer.host, port=self._port, more=map(PeerAddress.parse, peer.addresses)
            )
        self._library.say_of_peer(write_section(None, self._identity.published, listed))
        if self._discovery is not None:
            self._discovery.announce(each for each in listed if each.port == self._port)

    def _watch_network(self) -> None:
        try:
            watch = NetWatch()
        except OSError as error:
            log.warning("changes of the network are not seen: %s", error.strerror)
            return
        self._cleanup.callback(watch.close)

        def changed(*_: object) -> bool:
            watch.drain()
            if self._settling is None:
                self._settling = mainloop.call_later(SETTLE_S, self._network_settled)
            return bool(GLib.SOURCE_CONTINUE)

        source = GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, watch.fileno(), GLib.IOCondition.IN, changed)
        self._cleanup.callback(GLib.source_remove, source)

    def _network_settled(self) -> None:
        self._settling = None
        found = addresses.interfaces()
        if found == self._interfaces:
            return
        self._interfaces = found
        log.info("the network has changed: %s", ", ".join(str(each.ip) for each in found if not each.is_loopback))
        self._publish()
        self._on_changed()

    # Our key.

    def _watch_key(self) -> None:
        for name in (identity.CURRENT, identity.NEXT):  # the command line rotates them
            file = Gio.File.new_for_path(str(self._config.state_dir / identity.FOLDER / name))
            watch = file.monitor_file(Gio.FileMonitorFlags.NONE, None)
            watch.connect("changed", lambda *_: self._keep_key())
            self._cleanup.callback(watch.cancel)

    def _keep_later(self) -> None:
        self._keeping = mainloop.call_later(KEEP_S, self._keep_daily)

    def _keep_daily(self) -> None:
        self._keep_later()
        self._keep_key()

    def _keep_key(self) -> None:
        try:
            kept = identity.keep(self._config.state_dir, self._machine_id)
        except TransferError as error:
            self._on_problem("key for peers", str(error))
            return
        self._on_problem("key for peers", None)
        if kept != self._identity:
            self._identity = kept
            self._server.trust(self._trust.peers())  # it reads our key anew with this
            self._publish()
