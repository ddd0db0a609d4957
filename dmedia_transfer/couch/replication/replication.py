"""All databases that the local one is kept equal with, as the daemon has them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dmedia_transfer.config import Config
from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.pause import pause_s
from dmedia_transfer.couch.replication.pair import Pair
from dmedia_transfer.couch.replication.scheduled import Scheduled, may_schedule
from dmedia_transfer.errors import TransferError

log = logging.getLogger(__name__)

LOOK_S: Final = 15.0  # between two looks at what CouchDB does for us
STOP_S: Final = 0.9  # what an end may take

CallSoon = Callable[..., object]
"""`call_soon(callback, *args)`: has the manager's thread call it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A database elsewhere."""

    url: str  # as the configuration has it, and as problems name it
    address: Address  # the server
    database: str


def targets_of(config: Config) -> tuple[Target, ...]:
    """The databases that the configuration names."""
    return tuple(
        Target(
            each.url,
            Address.parse(each.server_url, user=each.user, password=each.password, ca_file=each.ca_file),
            each.database,
        )
        for each in config.sync_targets
    )


class Replication:
    """Keeps the local database equal with others. Any thread may call."""

    def __init__(
        self,
        local: Address,
        database: str,
        targets: Sequence[Target],
        *,
        machine_id: str,
        call_soon: CallSoon,
        on_state: Callable[[str, str | None], object],
    ) -> None:
        """Nothing is sent before `start`.

        Args:
            local: The local server.
            database: The local database.
            targets: With which others; may be none, so that what was asked of CouchDB before is taken back.
            machine_id: Of this machine.
            call_soon: Hands calls to the manager's thread.
            on_state: Called with a target's URL, and None when it is replicated, or a sentence when it is not.
        """
        self._local, self._database, self._targets = local, database, targets
        self._machine_id = machine_id
        self._call_soon, self._on_state = call_soon, on_state
        self._thread = threading.Thread(target=self._run, name="couch-replication", daemon=True)
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()  # guards the three below
        self._pairs: list[Pair] = []
        self._scheduled: Scheduled | None = None
        self._said: dict[str, str | None] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def reconnect(self) -> None:
        """Connect anew, now: the network changed, or the machine slept."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.renew()
        self._wake.set()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """End it, whatever the servers do; nothing is told after this. Does nothing if it was not started."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is None:
            return
        deadline = time.monotonic() + timeout_s
        with self._lock:
            pairs, scheduled = list(self._pairs), self._scheduled
        for pair in pairs:
            pair.stop()
        if scheduled is not None:
            scheduled.close()
        ended = [pair.join(deadline) for pair in pairs]
        self._thread.join(max(0.05, deadline - time.monotonic()))
        if self._thread.is_alive() or not all(ended):
            log.warning("sync: did not end in %s s, left alone", timeout_s)

    # The thread.

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            try:
                able = may_schedule(self._local)
                delegated = [each for each in self._targets if able and self._can_reach(each)]
                own = [each for each in self._targets if each not in delegated]
                for each in own:
                    log.info("sync with %s: by this program's own replicator", each.url)
                self._replicate(own)
                if able:
                    self._schedule(delegated)
            except TransferError as problem:
                attempt += 1
                self._tell_all(str(problem))
                self._pause(pause_s(problem, attempt))
            except Exception as error:
                attempt += 1
                log.exception("sync: a fault of this program")
                self._tell_all(f"the sync failed: {error!r}")
                self._pause(pause_s(None, attempt))
            else:
                return

    def _can_reach(self, target: Target) -> bool:
        """Whether the local CouchDB reaches both databases as we do: what trusts it, and what is loopback for it?"""
        ours = self._local.ca_file or target.address.ca_file
        return not ours and (self._local.loopback or not target.address.loopback)

    def _replicate(self, targets: Sequence[Target]) -> None:
        """Have replicators of our own do it."""
        if self._pairs:
            return  # they are at work, and it is CouchDB that had to be asked again
        for target in targets:
            pair = Pair(
                self._local,
                self._database,
                target.address,
                target.database,
                machine_id=self._machine_id,
                on_state=lambda problem, url=target.url: self._tell(url, problem),  # type: ignore[misc]
            )
            with self._lock:
                if self._stopping.is_set():
                    return
                self._pairs.append(pair)
                pair.start()

    def _schedule(self, targets: Sequence[Target]) -> None:
        """Have CouchDB do it, and look now and then whether it does."""
        with self._lock:
            if self._stopping.is_set():
                return
            self._scheduled = Scheduled(self._local, self._database, machine_id=self._machine_id)
        try:
            self._scheduled.arrange((each.url, each.address, each.database) for each in targets)
            while targets and not self._stopping.is_set():
                woken = self._pause(LOOK_S if self._said else 1.0)
                for target in targets:
                    self._tell(target.url, self._scheduled.problem(target.url, hurry=woken))
        finally:
            self._scheduled.close()

    def _pause(self, seconds: float) -> bool:
        """Wait; True if somebody wants no more of it."""
        woken = self._wake.wait(seconds)
        if not self._stopping.is_set():
            self._wake.clear()
        return woken

    def _tell_all(self, problem: str | None) -> None:
        for target in self._targets:
            self._tell(target.url, problem)

    def _tell(self, url: str, problem: str | None) -> None:
        with self._lock:
            if self._stopping.is_set() or self._said.get(url, "") == problem:
                return
            self._said[url] = problem
        log.info("sync with %s: %s", url, problem or "at work")
        self._call_soon(self._on_state, url, f"sync with {url}: {problem}" if problem else None)
