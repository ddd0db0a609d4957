"""What the full screen reads and says: queues of this and other machines, on threads of its own.

A device, and the D-Bus client in it, belong to one thread. So each machine that is looked at has a thread that reads,
and one more thread says what somebody wants. They end with the program, or at their next turn after `close`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from dmedia_transfer.cli import words
from dmedia_transfer.errors import ConnectionLost, TransferError

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.cli.queue import Queue
    from dmedia_transfer.client.state import TransferState
    from dmedia_transfer.model import TransferKey, Verb

LOOK_AGAIN_S: Final = 2.0  # at what another machine tells, and for a daemon that is gone
HERE: Final = ""  # this machine


@dataclass(frozen=True, slots=True)
class View:
    """A queue at one moment."""

    machine: str  # whose it is, as it was asked for
    states: Mapping[str, TransferState]  # by object path
    names: Mapping[str, str]  # what files are called, by ID; some have no name
    held: bool = False  # the whole queue is paused
    problems: tuple[str, ...] = ()
    note: str = ""  # what somebody should know who looks at it


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A machine of the library."""

    machine_id: str
    name: str
    this: bool


class Attendant(Protocol):
    """Reads and says for a screen; what comes back is called on other threads."""

    def look_at(self, machine: str) -> None:
        """Tell of this machine's queue from now on, and of no other."""

    def steer(self, machine: str, command: Verb, keys: Sequence[TransferKey], *, priority: int = 0) -> None:
        """Say something to transfers."""

    def put_before(self, machine: str, key: TransferKey, before: TransferKey | None) -> None:
        """Give a transfer another place in the queue: just before another one, or after all."""

    def hold(self, machine: str, held: bool) -> None:
        """Pause a whole queue, or let it go on."""

    def neighbours(self, answer: Callable[[list[Neighbour]], object]) -> None:
        """Ask which machines there are."""


class Threads:
    """The `Attendant` of a real device."""

    def __init__(
        self,
        opened: Callable[[], Device],
        *,
        on_view: Callable[[View], object],
        on_said: Callable[[str], object],
        on_error: Callable[[str], object],
    ) -> None:
        self._opened = opened
        self._on_view = on_view
        self._on_said = on_said
        self._on_error = on_error
        self._looked_at: str | None = None
        self._readers: dict[str, threading.Event] = {}  # set while the machine is looked at
        self._orders: queue.SimpleQueue[Callable[[Device], None] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._start(self._say, "orders")

    def close(self) -> None:
        """Look at nothing and say nothing any more; what waits for a machine to say something waits on."""
        self._closed.set()
        self._orders.put(None)
        for shown in self._readers.values():
            shown.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads to end after `close`; says whether they did."""
        until_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def look_at(self, machine: str) -> None:
        if self._looked_at is not None:
            self._readers[self._looked_at].clear()
        self._looked_at = machine
        if machine not in self._readers:
            self._readers[machine] = threading.Event()
            self._start(partial(self._read, machine), f"view {machine}")
        self._readers[machine].set()

    def steer(self, machine: str, command: Verb, keys: Sequence[TransferKey], *, priority: int = 0) -> None:
        def say(wanted: Queue) -> str:
            changed = wanted.steer(command, keys, priority=priority)
            return f"{command}: {words.counted(len(changed), 'transfer')}" if changed else f"{command}: nothing to do"

        self._order(machine, say)

    def put_before(self, machine: str, key: TransferKey, before: TransferKey | None) -> None:
        def say(wanted: Queue) -> str:
            return "it has another place" if wanted.put_before([key], before) else "it stays where it is"

        self._order(machine, say)

    def hold(self, machine: str, held: bool) -> None:
        def say(wanted: Queue) -> str:
            wanted.hold(held)
            return "the whole queue is paused" if held else "the whole queue goes on"

        self._order(machine, say)

    def neighbours(self, answer: Callable[[list[Neighbour]], object]) -> None:
        def ask(device: Device) -> None:
            from dmedia_transfer import documents

            _ = device.client  # brings the database server with it, if it is there
            with device.database() as database:
                found = [
                    Neighbour(
                        raw["_id"],
                        words.printable(str(raw.get("hostname") or words.short(raw["_id"]))),
                        raw["_id"] == device.machine_id,
                    )
                    for raw in database.find({"type": documents.MACHINE})
                    if not raw.get("forgotten")
                ]
            answer(sorted(found, key=lambda each: (not each.this, each.name)))

        self._orders.put(ask)

    def _order(self, machine: str, say: Callable[[Queue], str]) -> None:
        def order(device: Device) -> None:
            from dmedia_transfer.cli import queue as queues

            with queues.opened(device, machine) as wanted:
                said = say(wanted)
                self._on_said(f"{said} ({wanted.note})" if wanted.note else said)

        self._orders.put(order)

    def _start(self, target: Callable[[], None], name: str) -> None:
        self._threads.append(threading.Thread(target=target, name=name, daemon=True))
        self._threads[-1].start()

    def _say(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                with self._opened() as device:  # anew: a daemon may have come or gone
                    order(device)
            except TransferError as error:
                self._on_error(str(error))

    def _read(self, machine: str) -> None:
        shown = self._readers[machine]
        while shown.wait() and not self._closed.is_set():
            try:
                with self._opened() as device:
                    for view in views(device, machine):
                        if not shown.is_set() or self._closed.is_set():
                            break
                        self._on_view(view)
            except TransferError as error:
                self._on_view(View(machine, {}, {}, note=str(error)))
                self._closed.wait(LOOK_AGAIN_S)


def views(device: Device, machine: str) -> Iterator[View]:
    """A queue again and again, without end.

    Raises:
        TransferError: It cannot be read: there is no daemon, no such machine, no database.
    """
    from dmedia_transfer.cli import queue as queues
    from dmedia_transfer.cli.called import Called

    called = Called(device)
    client = device.client
    with queues.opened(device, machine) as wanted:
        if wanted.note and machine:
            while True:
                states = {state.path: state for state in wanted.transfers()}
                called.look_up(state.key.file_id for state in states.values())
                yield View(machine, states, called.names, wanted.held(), tuple(wanted.problems()), wanted.note)
                time.sleep(LOOK_AGAIN_S)
    if client is None:
        raise ConnectionLost(f"there is nothing to watch, the daemon is not running: {device.no_daemon}")
    for there in client.watch():
        called.look_up(state.key.file_id for state in there.values())
        whole = client.state()
        yield View(machine, dict(there), called.names, whole.queue_paused, whole.problems)
