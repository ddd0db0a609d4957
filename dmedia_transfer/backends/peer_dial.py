"""Dial: connections to a machine of the library, at whichever of its addresses answers and proves its certificate.

Addresses are tried best first, the next one soon after if the first is silent, and the first that proves who it is is
taken and remembered in this process. A stranger at an address that was ours (a network hands addresses out anew) is
passed over like one where nobody is.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

from dmedia_transfer.backends.connections import Connection, Origin
from dmedia_transfer.errors import AccessDenied, ConnectionLost, InvalidConfig, TransferError
from dmedia_transfer.peers import identity, tls
from dmedia_transfer.peers.certificates import Certificate
from dmedia_transfer.peers.section import PeerAddress

STAGGER_S: Final = 0.3  # after which the next address is tried as well
CONNECT_S: Final = 5.0  # for all of them
HANDSHAKE_S: Final = 10.0  # as the server has it
LOOK_S: Final = 0.1  # a cut is noticed while nobody answers
SAID: Final = 4  # addresses in a message

_answered: dict[str, PeerAddress] = {}  # the address of each machine that answered last; any thread


class Route:
    """How to get to one machine. Any thread may call."""

    def __init__(
        self,
        machine_id: str,
        addresses: Sequence[PeerAddress],
        certificates: Sequence[Certificate],
        state_dir: Path,
    ) -> None:
        """A machine that shows one of `certificates`; our own key is in `state_dir`."""
        self.machine_id = machine_id
        self._addresses = list(addresses)
        self._certificates = list(certificates)
        self._fingerprints = frozenset(each.fingerprint for each in certificates)
        self._state_dir = state_dir
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._key: object = None  # which file `_context` was made from

    @property
    def addresses(self) -> list[PeerAddress]:
        """Where to try, in this order: what answered last, numbers, then names, which have to be looked up first."""
        known = _answered.get(self.machine_id)
        return sorted(self._addresses, key=lambda each: (each != known, not _is_number(each.host)))

    def context(self) -> ssl.SSLContext:
        """TLS with our own key, as it is now: it is replaced now and then.

        Raises:
            AccessDenied: We have none, or it cannot be read.
        """
        with self._lock:
            try:
                found = (self._state_dir / identity.FOLDER / identity.CURRENT).stat()
                key = (found.st_ino, found.st_mtime_ns)
                if self._context is None or key != self._key:
                    self._context = tls.client_context(identity.load(self._state_dir), self._certificates)
                    self._key = key
            except (OSError, InvalidConfig) as error:
                raise AccessDenied(f"this machine's own key cannot be used: {error}") from error
            return self._context

    def prove(self, der: bytes | None, who: str) -> None:
        """Hold what the other side has shown against the machine's certificates.

        Raises:
            AccessDenied: It is another one.
        """
        tls.pinned(der, self._fingerprints, who=who)

    def proven(self, address: PeerAddress) -> None:
        """The machine is at this address."""
        _answered[self.machine_id] = address


class PeerConnection(Connection):
    """One connection to a machine, wherever it is."""

    def __init__(self, origin: Origin, route: Route, stall_s: float) -> None:
        """`origin` names the machine, not a host."""
        super().__init__(origin, None, stall_s)
        self._route = route
        self._address: PeerAddress | None = None

    @property
    def where(self) -> str:
        """Where it leads, for messages."""
        name = f"machine {self._route.machine_id}"
        return f"{name} at {self._address}" if self._address is not None else name

    @property
    def encrypted(self) -> bool:
        """Always."""
        return True

    def connect(self) -> None:
        """Connect to the first address that proves to be the machine's.

        Raises:
            AccessDenied: It answers, but does not prove who it is, at any address.
            ConnectionLost: It answers nowhere, or was cut meanwhile.
        """
        context = self._route.context()
        problems: dict[PeerAddress, TransferError] = {}
        with contextlib.closing(self._reached(problems)) as reached:
            for sock, address in reached:
                who = f"machine {self._route.machine_id} at {address}"
                try:
                    self.adopt(sock)
                    sock.settimeout(min(HANDSHAKE_S, self._stall_s))
                    self.settle(sock, context, name=None)  # its name is nobody's business
                    assert isinstance(self.sock, ssl.SSLSocket)  # noqa: S101 - for mypy: there was a context
                    self._route.prove(self.sock.getpeercert(binary_form=True), who)
                except (OSError, AccessDenied) as error:
                    self.close()
                    if self.severed:
                        break
                    problems[address] = error if isinstance(error, AccessDenied) else tls.explained(error, who=who)
                    continue
                self._address = address
                self._route.proven(address)
                return
        if self.severed:
            raise ConnectionAbortedError("was cut while connecting")
        raise _verdict(self._route.machine_id, problems)

    def _reached(
        self, problems: dict[PeerAddress, TransferError]
    ) -> Generator[tuple[socket.socket, PeerAddress], None, None]:
        """TCP connections to the machine's addresses, as they come; why there is none goes into `problems`."""
        waiting, under_way = deque(self._route.addresses), dict[int, tuple[socket.socket, PeerAddress]]()
        poll = select.poll()
        until_s, next_s = time.monotonic() + CONNECT_S, 0.0
        try:
            while waiting or under_way:
                now_s = time.monotonic()
                if self.severed or now_s >= until_s:
                    break
                if waiting and (now_s >= next_s or not under_way):
                    address, next_s = waiting.popleft(), now_s + STAGGER_S
                    try:
                        sock = _begin(address)
                    except OSError as error:
                        problems[address] = ConnectionLost(error.strerror or str(error))
                        continue
                    under_way[sock.fileno()] = sock, address
                    poll.register(sock, select.POLLOUT)
                for fd, _ in poll.poll(min(LOOK_S, max(0.0, next_s - now_s) if waiting else LOOK_S) * 1000):
                    poll.unregister(fd)
                    sock, address = under_way.pop(fd)
                    if problem := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        sock.close()
                        problems[address] = ConnectionLost(os.strerror(problem))
                        next_s = 0.0
                        continue
                    yield sock, address
            for address in [*waiting, *(address for _, address in under_way.values())]:
                problems.setdefault(address, ConnectionLost("no answer"))
        finally:
            for sock, _ in under_way.values():
                sock.close()


def _begin(address: PeerAddress) -> socket.socket:
    """A socket that is about to be connected. Raises OSError."""
    family, kind, protocol, _, where = socket.getaddrinfo(address.host, address.port, 0, socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    sock.setblocking(False)
    try:
        with contextlib.suppress(BlockingIOError):
            sock.connect(where)
    except OSError:
        sock.close()
        raise
    return sock


def _verdict(machine_id: str, problems: dict[PeerAddress, TransferError]) -> TransferError:
    """What it means that no address is the machine's."""
    if not problems:
        return ConnectionLost(f"machine {machine_id} has no address")
    told = [
        str(error) if isinstance(error, AccessDenied) else f"{address}: {error}"
        for address, error in list(problems.items())[:SAID]
    ]
    message = f"machine {machine_id} cannot be reached: {'; '.join(told)}"
    if len(problems) > SAID:
        message += f"; and {len(problems) - SAID} more addresses"
    if all(isinstance(error, AccessDenied) for error in problems.values()):
        return AccessDenied(message)
    return ConnectionLost(message)


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
