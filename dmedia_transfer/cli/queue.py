"""A machine's queue, as commands change and show it: through the daemon, or, without one, in the machine's document.

What is in the queue is what somebody wants; a daemon that is not running, or a machine that is off, finds it there
later. So another machine's queue is edited in the same way as that of this one without a daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, assert_never

from dmedia_transfer.cli.device import Device
from dmedia_transfer.client.state import TransferState
from dmedia_transfer.config import EMBEDDED, PER_USER
from dmedia_transfer.couch.machinequeue import MachineQueue
from dmedia_transfer.model import Direction, Entry, Failure, Transfer, TransferKey, Verb

MOST_AT_ONCE: Final = 10_000  # files in one call, each of which is one write of the document
OWN_SERVERS: Final = (EMBEDDED, PER_USER)  # what is written there goes to others only while the daemon runs

if TYPE_CHECKING:
    from dmedia_transfer.client import Client
    from dmedia_transfer.couch.database import Database


class Queue(Protocol):
    """What commands ask for."""

    running: bool  # whether the daemon is
    note: str  # what somebody should know who changes or looks at it; empty if there is nothing

    def ask(self, entries: Sequence[Entry]) -> None:
        """Ask for transfers."""

    def transfers(self) -> list[TransferState]:
        """All that are wanted, also those that ended a moment ago; in no order."""

    def held(self) -> bool:
        """Whether the whole queue is paused."""

    def problems(self) -> Sequence[str]:
        """What a person should look at."""

    def steer(self, command: Verb, keys: Sequence[TransferKey], *, priority: int = 0) -> set[TransferKey]:
        """Say something to transfers; returns those for which it changed something."""

    def put_before(self, keys: Sequence[TransferKey], before: TransferKey | None) -> bool:
        """Give transfers another place: just before another one, with its priority, or after all others."""

    def hold(self, held: bool) -> bool:
        """Pause the whole queue, or let it go on; says whether that changed anything."""


@contextmanager
def opened(device: Device, machine: str = "") -> Iterator[Queue]:
    """The queue of this machine, through the daemon if it is there, or of the machine that `machine` means.

    Raises:
        Unknown, Ambiguous: No machine is meant, or several are.
    """
    client = device.client
    if machine:
        with device.database() as database:
            raw = device.machine(database, machine)
            if raw["_id"] != device.machine_id:
                from dmedia_transfer.cli.remote import remote_queue

                yield remote_queue(database, raw, synced=client is not None or device.config.couchdb not in OWN_SERVERS)
                return
    if client is not None:
        yield BusQueue(client)
        return
    with device.database() as database:
        yield DocumentQueue(
            database,
            device.machine_id,
            base=device.new_machine(),
            failures=device.failures,
            note=f"the daemon is not running ({device.no_daemon}); it will see this when it is started",
        )


class BusQueue:
    """The queue through the daemon: what is asked for takes effect at once."""

    running = True
    note = ""

    def __init__(self, client: Client) -> None:
        self._client = client

    def ask(self, entries: Sequence[Entry]) -> None:
        alike = {
            (one.direction, one.store_id, one.only, one.paused, one.metered, one.priority, one.requested_by)
            for one in entries
        }
        if len(entries) > 1 and len(alike) == 1:
            first = entries[0]
            if first.direction is Direction.DOWNLOAD and not (first.store_id or first.only or first.paused):
                for start in range(0, len(entries), MOST_AT_ONCE):
                    file_ids = [entry.file_id for entry in entries[start : start + MOST_AT_ONCE]]
                    self._client.queue_downloads(
                        file_ids, priority=first.priority, metered=first.metered, requested_by=first.requested_by
                    )
                return
        for entry in entries:
            who = entry.requested_by
            if entry.direction is Direction.UPLOAD:
                self._client.queue_upload(
                    entry.file_id, entry.store_id, priority=entry.priority, metered=entry.metered, requested_by=who
                )
            else:
                self._client.queue_download(
                    entry.file_id,
                    entry.store_id,
                    priority=entry.priority,
                    only=entry.only,
                    metered=entry.metered,
                    requested_by=who,
                )

    def transfers(self) -> list[TransferState]:
        return self._client.transfers()

    def held(self) -> bool:
        return self._client.state().queue_paused

    def problems(self) -> Sequence[str]:
        return self._client.state().problems

    def steer(self, command: Verb, keys: Sequence[TransferKey], *, priority: int = 0) -> set[TransferKey]:
        return {key for key in keys if self._steer(command, key, priority)}

    def put_before(self, keys: Sequence[TransferKey], before: TransferKey | None) -> bool:
        target = None if before is None else self._client.transfer(before)
        return self._client.put_before([self._client.transfer(key) for key in keys], target)

    def hold(self, held: bool) -> bool:
        return self._client.pause_all() if held else self._client.resume_all()

    def _steer(self, command: Verb, key: TransferKey, priority: int) -> bool:
        transfer = self._client.transfer(key)
        match command:
            case Verb.PAUSE:
                return transfer.pause()
            case Verb.RESUME:
                return transfer.resume()
            case Verb.CANCEL:
                return transfer.cancel()
            case Verb.RETRY:
                return transfer.retry()
            case Verb.PRIORITIZE:
                return transfer.set_priority(priority)
            case Verb.SPEND | Verb.SPARE:
                return transfer.set_metered(command is Verb.SPEND)
            case _:
                assert_never(command)


class DocumentQueue:
    """The queue in a machine's document: what is asked for takes effect when that machine's daemon sees it."""

    running = False

    def __init__(
        self,
        database: Database,
        machine_id: str,
        *,
        base: Mapping[str, Any] | None = None,
        failures: Callable[[], Mapping[str, Failure]] = dict,
        note: str = "",
    ) -> None:
        """Nothing is read yet; `note` is what somebody should know, the rest is as for a `MachineQueue`."""
        self._queue = MachineQueue(database, machine_id, base=base, failures=failures)
        self.note = note

    def ask(self, entries: Sequence[Entry]) -> None:
        self._queue.ask(entries)

    def transfers(self) -> list[TransferState]:
        return [_state(transfer) for transfer in self._queue.transfers()]

    def held(self) -> bool:
        return self._queue.held()

    def problems(self) -> Sequence[str]:
        return self._queue.problems()

    def steer(self, command: Verb, keys: Sequence[TransferKey], *, priority: int = 0) -> set[TransferKey]:
        return self._queue.steer(command, keys, priority=priority)

    def put_before(self, keys: Sequence[TransferKey], before: TransferKey | None) -> bool:
        return self._queue.put_before(keys, before)

    def hold(self, held: bool) -> bool:
        return self._queue.hold(held)


def _state(transfer: Transfer) -> TransferState:
    """A transfer as the client tells of those of the daemon."""
    return TransferState(
        key=transfer.key,
        status=transfer.status,
        reason=transfer.reason,
        progress=transfer.progress,
        priority=transfer.priority,
        store_id=transfer.key.store_id or transfer.preferred_store,
        error=str(transfer.failure or ""),
        requested_by=transfer.requested_by,
        sources=transfer.sources,
        metered=transfer.metered,
        order=transfer.order,
    )
