"""Machines of a library for tests: keys, certificates and documents."""

from __future__ import annotations

import socket
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dmedia_transfer import documents
from dmedia_transfer.model import random_id
from dmedia_transfer.peers import identity
from dmedia_transfer.peers.certificates import Certificate
from dmedia_transfer.peers.identity import Identity
from dmedia_transfer.peers.section import write_section

NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Machine:
    """A machine with a key of its own."""

    id: str
    state_dir: Path
    identity: Identity

    @property
    def certificate(self) -> Certificate:
        return self.identity.certificate

    def document(self, **changes: Any) -> dict[str, Any]:
        """Its machine document, with its certificates in it."""
        peer = write_section(None, self.identity.published, ())
        return {**documents.new_machine(self.id, "host", time=1.0), "peer": peer, **changes}


def make_machine(state_dir: Path, *, now: datetime | None = None) -> Machine:
    """A new machine whose key was made at `now`."""
    machine_id = random_id()
    return Machine(machine_id, state_dir, identity.keep(state_dir, machine_id, now=now))


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, *, timeout_s: float = 10.0
) -> tuple[bytes | OSError | None, bytes | OSError | None]:
    """A handshake over a real socket: what the server and what the client got, a certificate or an error."""
    ours, theirs = socket.socketpair()
    ours.settimeout(timeout_s)
    theirs.settimeout(timeout_s)
    seen: list[bytes | OSError | None] = []

    def serve() -> None:
        try:
            with server.wrap_socket(ours, server_side=True) as tls:
                seen.append(tls.getpeercert(binary_form=True))
                tls.sendall(b"x")
        except OSError as error:
            seen.append(error)
            ours.close()

    thread = threading.Thread(target=serve)
    thread.start()
    got: bytes | OSError | None
    try:
        with client.wrap_socket(theirs) as tls:
            got = tls.getpeercert(binary_form=True)
            tls.recv(1)
    except OSError as error:
        got = error
    theirs.close()
    thread.join(timeout_s)
    return seen[0], got
