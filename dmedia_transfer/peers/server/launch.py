"""PeerServer: starts, watches and ends the server for peers. Imports none of it; the daemon's thread calls.

The server's stdin is a pipe for what we tell it, secrets included; when that is closed, also because we died, it ends.
Its stdout is a pipe for what it tells us. A server that dies is started again, later each time, and told all that it
has to know; no call blocks but `stop`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from dmedia_transfer.config import Config
from dmedia_transfer.peers.server import messages
from dmedia_transfer.peers.server.messages import (
    Confirm,
    DatabaseAt,
    Event,
    Failed,
    Limits,
    Listening,
    Moved,
    Setup,
    Stored,
    Trusted,
)
from dmedia_transfer.peers.trust import Peer

if TYPE_CHECKING:
    from dmedia_transfer.couch.address import Address

AGAIN_S: Final = (1.0, 2.0, 5.0, 15.0, 60.0)  # until a server that ended is started again
STEADY_S: Final = 60.0  # one that ran so long did not die of its start
_PACKAGE_ROOT: Final = Path(__file__).resolve().parents[3]

log = logging.getLogger(__name__)

CallSoon = Callable[..., object]


def trusted(peers: Iterable[Peer]) -> Trusted:
    """Whom to let in, as the server is told."""
    return Trusted(machines={peer.machine_id: [each.text for each in peer.certificates] for peer in peers})


def setup_of(config: Config, address: Address) -> Setup:
    """How the server begins, by the configuration; nobody is trusted yet, and nothing is limited."""
    return Setup(
        state_dir=config.state_dir,
        host=config.peer.host,
        port=config.peer.port,
        floor_bytes=config.floor_bytes,
        floor_percent=config.floor_percent,
        stall_s=config.stall_s,
        expire_s=config.peer.upload_expire_s,
        log_level=config.log_level,
        database=DatabaseAt(
            url=address.url,
            user=address.user,
            password=address.password,
            ca_file=address.ca_file,
            name=config.database,
        ),
        trusted=trusted(()),
        limits=Limits(),
    )


class PeerServer:
    """The server for peers, for as long as the daemon lives."""

    def __init__(
        self,
        setup: Setup,
        *,
        call_soon: CallSoon,
        on_listening: Callable[[int], object],
        on_stored: Callable[[Stored], object],
        on_moved: Callable[[Moved], object] = lambda moved: None,
        on_problem: Callable[[str | None], object],
    ) -> None:
        """Nothing is started yet.

        Args:
            setup: How it begins; what is told later replaces what is in it.
            call_soon: Calls the others on the daemon's thread.
            on_listening: With the port, when it can be reached.
            on_stored: With a file that a peer has sent. `confirm` it once that is durable; until then it comes again.
            on_moved: With the bytes that moved, once a second while any do.
            on_problem: With a sentence when it does not run, with None when it does.
        """
        self._setup = setup
        self._call_soon = call_soon
        self._on_listening = on_listening
        self._on_stored = on_stored
        self._on_moved = on_moved
        self._on_problem = on_problem
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: queue.SimpleQueue[Setup | Trusted | Limits | Confirm | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peer-server", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start it; `on_listening` says when it is there."""
        self._thread.start()

    def trust(self, peers: Iterable[Peer]) -> None:
        """These are let in from now on, and nobody else. Also to be called when our own key was replaced."""
        order = trusted(peers)
        with self._lock:
            self._setup = self._setup.model_copy(update={"trusted": order})
            self._tell(order)

    def limit(self, *, send_bps: float | None, receive_bps: float | None, stopped: bool = False) -> None:
        """So fast, in bytes per second, from now on; None is no limit. `stopped` is no transfers at all."""
        order = Limits(send_bps=send_bps, receive_bps=receive_bps, stopped=stopped)
        with self._lock:
            self._setup = self._setup.model_copy(update={"limits": order})
            self._tell(order)

    def confirm(self, stored: Stored) -> None:
        """What it said of a file is durable here."""
        with self._lock:
            self._tell(Confirm(upload_id=stored.upload_id))

    def stop(self, timeout_s: float = 2.0) -> None:
        """End it. Harmless when it does not run."""
        self._ending.set()
        with self._lock:
            process = self._process
            self._tell(None)
        if process is not None:
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # The thread.

    def _run(self) -> None:
        failures = 0
        while not self._ending.is_set():
            began = time.monotonic()
            problem = self._run_once()
            if self._ending.is_set():
                return
            failures = 0 if time.monotonic() - began > STEADY_S else failures + 1
            log.warning("the server for peers ended: %s", problem)
            self._call_soon(self._on_problem, f"the server for peers does not run: {problem}")
            self._ending.wait(AGAIN_S[min(failures, len(AGAIN_S) - 1)])

    def _run_once(self) -> str:
        """Run one process to its end, and say why it ended."""
        command = [sys.executable, "-P", "-m", "dmedia_transfer.peers.server"]
        with self._lock:
            if self._ending.is_set():
                return ""
            try:
                self._process = process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=_environment(),
                    start_new_session=True,  # a Ctrl-C is for us; the server ends after us
                )
            except OSError as error:
                return f"it cannot be started: {error.strerror}"
            self._orders = queue.SimpleQueue()
            writer = threading.Thread(target=_write, args=(process, self._orders), name="peer-orders", daemon=True)
            writer.start()
            self._tell(self._setup)
        problem = "it ended without a word"
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        with process.stdout:
            for line in process.stdout:
                try:
                    event: Event = messages.events.validate_json(line)
                except ValidationError:
                    log.error("the server for peers said what cannot be understood")  # noqa: TRY400 - its line may be long
                    continue
                if isinstance(event, Failed):
                    problem = event.problem
                else:
                    self._deliver(event)
        status = process.wait()
        with self._lock:
            self._process = None
            self._tell(None)
        writer.join()
        return f"signal {-status}" if status < 0 else problem

    def _deliver(self, event: Event) -> None:
        match event:
            case Listening(port=port):
                self._call_soon(self._on_problem, None)
                self._call_soon(self._on_listening, port)
            case Stored():
                self._call_soon(self._on_stored, event)
            case Moved():
                self._call_soon(self._on_moved, event)

    def _tell(self, message: Setup | Trusted | Limits | Confirm | None) -> None:
        self._orders.put(message)


def _write(
    process: subprocess.Popen[bytes], orders: queue.SimpleQueue[Setup | Trusted | Limits | Confirm | None]
) -> None:
    """Tell one process what it is told, on a thread of its own: one that hangs must not make the daemon wait."""
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    with contextlib.suppress(OSError):  # it has just died, and is told again when it is back
        while (message := orders.get()) is not None:
            process.stdin.write(message.model_dump_json().encode() + b"\n")
            process.stdin.flush()
    with contextlib.suppress(OSError):
        process.stdin.close()


def _environment() -> dict[str, str]:
    """Ours, so that the server is of the same package as we are, also when that is not installed."""
    environment = dict(os.environ)
    if _PACKAGE_ROOT.name not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(_PACKAGE_ROOT), environment.get("PYTHONPATH", "")])
        )
    return environment
