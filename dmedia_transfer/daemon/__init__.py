"""The daemon: one process for each state folder. `joined` has all parts of it.

The document server is told to start before the rest is imported: each takes a third of a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dmedia_transfer import coredumps
from dmedia_transfer.config import Config
from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.servers import DocumentServer
from dmedia_transfer.errors import TransferError

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of glibc's malloc.h


class AlreadyRunning(TransferError):
    """Another daemon has this state folder."""


def run(config: Config, *, reread: Callable[[], Config] | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. `reread` reads the configuration anew, for a SIGHUP.

    Raises:
        TransferError: It cannot start; the message says why.
    """
    _keep_memory_small()
    coredumps.forbid()
    with _only_one(config.state_dir), _documents(config) as address:
        gc.disable()  # what is loaded is no garbage, and to look for some again and again takes a tenth of the start
        from dmedia_transfer.daemon.joined import Daemon

        gc.freeze()  # nor is it ever looked at later
        gc.enable()
        daemon = Daemon(config, address=address, reread=reread)
        try:
            daemon.start()
            daemon.loop()
        finally:
            daemon.stop()
    return 0


@contextlib.contextmanager
def _documents(config: Config) -> Iterator[Callable[[], Address]]:
    """A document server that starts meanwhile, if it is ours; its address can be waited for."""
    server = DocumentServer(config)
    with ThreadPoolExecutor(1, "couch-start") as thread:
        address = thread.submit(server.start)
        thread.shutdown(wait=False)  # and no thread rests
        try:
            yield address.result
        finally:
            with contextlib.suppress(TransferError):
                address.result()
            server.stop()


def _keep_memory_small() -> None:
    """Give the memory of large documents back to the system when they are done with.

    A queue of ten thousand entries is a text of two megabytes, read and written by several threads. glibc would keep a
    heap for each of them, and after the first large text that is freed take the next ones out of those heaps, where
    they leave holes (mallopt(3)): 113 MiB instead of 94. Another libc has its own ways.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_ARENA_MAX, 2)
        mallopt(M_MMAP_THRESHOLD, 256 * 1024)


@contextlib.contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state folder for this process alone."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(state_dir / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"dmedia-transfer is already running with the state folder {state_dir}") from None
        yield
    finally:
        os.close(fd)
