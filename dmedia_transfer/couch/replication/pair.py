"""Two replicators that keep two databases equal, one for each direction."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from typing import Final

from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.replication.peer import Peer
from dmedia_transfer.couch.replication.replicator import Replicator

PULL: Final = "pull"
PUSH: Final = "push"


class Pair:
    """The local database and one elsewhere. Any thread may call."""

    def __init__(
        self,
        local: Address,
        database: str,
        remote: Address,
        remote_database: str,
        *,
        machine_id: str,
        on_state: Callable[[str | None], object],
    ) -> None:
        """Nothing is sent before `start`.

        Args:
            local: The local server.
            database: The local database's name.
            remote: The other server.
            remote_database: The database's name there.
            machine_id: Of this machine: each keeps logs of its own.
            on_state: Called on some thread with None when both directions are at work, and with a sentence when not.
        """
        self._on_state = on_state
        self._lock = threading.Lock()  # guards what follows
        self._problems: dict[str, str | None] = {}
        self._said: str | None = ""
        self._replicators: dict[str, Replicator] = {}
        for direction, other in ((PULL, PUSH), (PUSH, PULL)):
            here, there = Peer(local, database), Peer(remote, remote_database)
            source, target = (there, here) if direction == PULL else (here, there)
            self._replicators[direction] = Replicator(
                source,
                target,
                log_id=log_id(machine_id, database, there.url, direction),
                may_create=there,
                on_state=lambda problem, direction=direction: self._heard(direction, problem),  # type: ignore[misc]
                on_other=lambda other=other: self._replicators[other].renew(),  # type: ignore[misc]
            )

    def start(self) -> None:
        """Begin."""
        for replicator in self._replicators.values():
            replicator.start()

    def renew(self) -> None:
        """Connect anew, now."""
        for replicator in self._replicators.values():
            replicator.renew()

    def stop(self) -> None:
        """Ask it to end; see `join`."""
        for replicator in self._replicators.values():
            replicator.stop()

    def join(self, deadline: float) -> bool:
        """Wait until it has ended, or this time of the monotonic clock; False if it has not."""
        ended = [each.join(max(0.05, deadline - time.monotonic())) for each in self._replicators.values()]
        return all(ended)

    def _heard(self, direction: str, problem: str | None) -> None:
        with self._lock:
            self._problems[direction] = problem
            said = next(filter(None, self._problems.values()), None)
            if said is None and len(self._problems) < len(self._replicators):
                return  # the other one has not come so far
            if said == self._said:
                return
            self._said = said
            self._on_state(said)


def log_id(machine_id: str, database: str, url: str, direction: str) -> str:
    """The name of a replication's log. The local server's URL is no part of it: its port may be another tomorrow."""
    text = json.dumps([machine_id, database, url, direction])
    return "dmedia-" + hashlib.sha256(text.encode()).hexdigest()[:32]
