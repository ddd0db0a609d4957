"""Discovery: says on the local network where this machine is, and hears where others are (mDNS, DNS-SD).

Said is the service `_dmedia._tcp`, with the machine ID for a name: no name of a person, a host or a file. Heard is what
anybody on the network may say, and is no more than a hint of where to try: who is there has to show its certificate.

The daemon's thread calls, and nothing blocks it: zeroconf is spoken to on a thread of our own, and tells us on one of
its. What it heard is handed to `call_soon`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from zeroconf import Error, IPVersion, ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

from dmedia_transfer import leaves
from dmedia_transfer.peers.section import PeerAddress

SERVICE: Final = "_dmedia._tcp.local."
PROPERTIES: Final = {"v": "1"}  # of the protocol between peers
MAX_HEARD: Final = 1000  # machines: anybody can say anything on a network
MAX_ADDRESSES: Final = 8  # of one
ANSWER_MS: Final = 3000  # until who was heard has said where it is

log = logging.getLogger(__name__)


class Discovery:
    """Machines on the local network."""

    def __init__(self, machine_id: str, *, call_soon: Callable[..., object], on_heard: Callable[[str], object]) -> None:
        """Nothing is said or heard before `announce`.

        Args:
            machine_id: Who we are.
            call_soon: Has the daemon's thread call something.
            on_heard: Called with the ID of a machine of which something else is heard than before.
        """
        self._machine_id = machine_id
        self._call_soon = call_soon
        self._on_heard = on_heard
        self._lock = threading.Lock()
        self._heard: dict[str, tuple[PeerAddress, ...]] = {}
        self._orders: queue.SimpleQueue[tuple[PeerAddress, ...] | None] = queue.SimpleQueue()
        self._said: tuple[PeerAddress, ...] | None = None
        self._thread = threading.Thread(target=self._run, name="discovery", daemon=True)

    def announce(self, addresses: Iterable[PeerAddress]) -> None:
        """We are there from now on; also to be called when the network has changed. Returns at once.

        Those that are names, or only for this machine, are not told. Without any left, we only listen.
        """
        told = tuple(each for each in addresses if _can_be_told(each))
        if told == self._said:
            return
        if self._said is None:
            self._thread.start()
        self._said = told
        self._orders.put(told)

    def heard(self, machine_id: str) -> Sequence[PeerAddress]:
        """Where a machine says that it is."""
        with self._lock:
            return self._heard.get(machine_id, ())

    def close(self, timeout_s: float = 1.0) -> None:
        """Say goodbye, and hear no more."""
        if self._said is not None:
            self._orders.put(None)
            self._thread.join(timeout_s)

    # Our thread.

    def _run(self) -> None:
        zeroconf: Zeroconf | None = None
        order = self._orders.get()
        while order is not None:
            if zeroconf is not None:
                zeroconf.close()  # says goodbye, and is bound to interfaces that may be gone
            self._forget_all()
            zeroconf = self._open()
            if zeroconf is not None:
                self._say(zeroconf, order)
            order = self._orders.get()
        if zeroconf is not None:
            zeroconf.close()

    def _open(self) -> Zeroconf | None:
        logging.getLogger("zeroconf").setLevel(logging.ERROR)  # it warns of every interface that leads nowhere
        for version in (IPVersion.All, IPVersion.V4Only):  # a kernel may be without IPv6
            with contextlib.suppress(OSError):
                zeroconf = Zeroconf(ip_version=version)
                ServiceBrowser(zeroconf, SERVICE, listener=_Ear(self._take))
                return zeroconf
        log.warning("other machines are not looked for on the local network: there is none")
        return None

    def _say(self, zeroconf: Zeroconf, addresses: Sequence[PeerAddress]) -> None:
        if not addresses:
            return
        info = ServiceInfo(
            SERVICE,
            f"{self._machine_id}.{SERVICE}",
            port=addresses[0].port,
            parsed_addresses=[each.host for each in addresses],
            properties=PROPERTIES,
            server=f"{self._machine_id.lower()}.local.",
        )
        try:
            zeroconf.register_service(info)
        except (Error, OSError) as error:
            log.warning("the local network is not told where this machine is: %s", error or type(error).__name__)

    def _forget_all(self) -> None:
        with self._lock:
            gone = list(self._heard)
            self._heard.clear()
        for machine_id in gone:
            self._call_soon(self._on_heard, machine_id)

    # zeroconf's thread.

    def _take(self, machine_id: str, addresses: tuple[PeerAddress, ...]) -> None:
        if machine_id == self._machine_id or not leaves.is_random_id(machine_id):
            return
        with self._lock:
            if self._heard.get(machine_id, ()) == addresses:
                return
            if not addresses:
                del self._heard[machine_id]
            elif machine_id in self._heard or len(self._heard) < MAX_HEARD:
                self._heard[machine_id] = addresses
        log.debug("machine %s: says that it is at %s", machine_id, ", ".join(map(str, addresses)) or "no place")
        self._call_soon(self._on_heard, machine_id)


class _Ear(ServiceListener):
    """What zeroconf tells."""

    def __init__(self, take: Callable[[str, tuple[PeerAddress, ...]], None]) -> None:
        self._take = take

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Somebody is there."""
        info = zc.get_service_info(type_, name, timeout=ANSWER_MS)
        if info is not None and info.port:
            hosts = [host for host in info.parsed_addresses(IPVersion.All) if _is_usable(host)]
            self._take(_machine_of(name), tuple(PeerAddress(host, info.port) for host in hosts[:MAX_ADDRESSES]))

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Somebody is elsewhere."""
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Somebody has gone, or was not heard for long."""
        self._take(_machine_of(name), ())


def _machine_of(name: str) -> str:
    return name.removesuffix(f".{SERVICE}").upper()


def _can_be_told(address: PeerAddress) -> bool:
    try:
        return not ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False


def _is_usable(host: str) -> bool:
    ip = ipaddress.ip_address(host)
    return not (ip.is_loopback or ip.is_unspecified or ip.is_multicast or (ip.version == 6 and ip.is_link_local))
