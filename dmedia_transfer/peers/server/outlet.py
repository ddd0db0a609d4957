"""Outlet: bytes of a file on their way out, past asyncio's own buffers.

asyncio copies what it sends over TLS four times, 64 KiB at a time; here it is read into one buffer, encrypted, and
handed to the kernel by a thread. When the kernel takes no more, a few of these threads wait for a moment, as on a fast
line it soon takes more, and to go through the event loop each time costs more than the sending; then the loop waits.

While an outlet is open nothing else may use the connection: reading is paused, and nothing is left in asyncio's
buffers. Where that cannot be seen to, there is none, and the bytes go through asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from aiohttp import web

from dmedia_transfer.peers.server.handshake import OUTGOING

BUFFER_BYTES: Final = 256 * 1024  # stays in a processor's cache from the disk to the kernel
LOOK_S: Final = 0.5  # after which a connection that was cut meanwhile is noticed
MOMENT_S: Final = 0.02  # that a thread waits for the kernel
WAITING: Final = 4  # threads at once: the others have disks to read

_waiting: Final = threading.BoundedSemaphore(WAITING)

Read = Callable[[int, memoryview], None]  # fills memory with the bytes from an offset


class Outlet:
    """The way out of one connection. `push` is for threads, one at a time; all else is for the event loop."""

    def __init__(self, transport: asyncio.Transport, tls: ssl.SSLObject, outgoing: ssl.MemoryBIO, size: int) -> None:
        """For an answer of `size` bytes."""
        self._transport = transport
        self._tls = tls
        self._outgoing = outgoing
        self._socket: socket.socket = transport.get_extra_info("socket").dup()
        self._buffer = memoryview(bytearray(min(BUFFER_BYTES, size)))
        self._rest = memoryview(b"")  # encrypted, not sent yet
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLOUT)

    @property
    def is_full(self) -> bool:
        """Whether the kernel takes no more for now."""
        return bool(self._rest)

    def push(self, read: Read, start: int, end: int) -> int:
        """Send the bytes from `start` on until `end`, or until the kernel takes no more; says how far it came.

        Raises:
            ConnectionResetError: The connection has ended.
            TransferError: What `read` raised.
        """
        while True:
            try:
                while self._rest:
                    self._rest = self._rest[self._socket.send(self._rest) :]
            except BlockingIOError:
                if not self._soon_takes_more():
                    return start
                continue
            except OSError as error:  # a broken pipe as well: the other side has gone, and that is no fault of ours
                raise ConnectionResetError(str(error)) from error
            if start >= end:
                return start
            piece = self._buffer[: end - start]
            read(start, piece)
            self._tls.write(piece)
            self._rest = memoryview(self._outgoing.read())
            start += len(piece)

    def _soon_takes_more(self) -> bool:
        """Wait a moment for the kernel, unless too many threads do."""
        if not _waiting.acquire(blocking=False):
            return False
        try:
            return bool(self._poll.poll(MOMENT_S * 1000)) and not self._transport.is_closing()
        finally:
            _waiting.release()

    async def drain(self) -> None:
        """Wait until the kernel takes more.

        Raises:
            ConnectionResetError: The connection was cut meanwhile.
        """
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._socket.fileno(), ready.set)
        try:
            while not ready.is_set():
                self.check()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ready.wait(), LOOK_S)
        finally:
            loop.remove_writer(self._socket.fileno())

    def check(self) -> None:
        """Raise ConnectionResetError if the connection was cut."""
        if self._transport.is_closing():
            raise ConnectionResetError("the connection was cut")

    def close(self) -> None:
        """Let go."""
        self._socket.close()


@contextlib.contextmanager
def opened(request: web.BaseRequest, size: int) -> Iterator[Outlet | None]:
    """The way out for the rest of an answer, of `size` bytes, whose head was sent; None if there is none."""
    transport: Any = request.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    outgoing = getattr(tls, OUTGOING, None)
    if (
        tls is None
        or outgoing is None
        or request.body_exists
        or not transport.is_reading()
        or not _is_quiet(transport, outgoing)
    ):
        yield None
        return
    transport.pause_reading()
    outlet = Outlet(transport, tls, outgoing, size)
    try:
        yield outlet
    finally:
        outlet.close()
        if not transport.is_closing():
            transport.resume_reading()


def _is_quiet(transport: Any, outgoing: ssl.MemoryBIO) -> bool:
    """Whether asyncio has handed all that was written to the kernel. What it keeps below TLS it tells nobody."""
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    if below is None or not hasattr(below, "get_write_buffer_size"):
        return False
    return not (transport.get_write_buffer_size() or outgoing.pending or below.get_write_buffer_size())
