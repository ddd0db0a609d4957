"""Connections: kept-alive HTTP to one store, which another thread may cut at any instant.

`http.client` speaks the protocol; this module adds what it lacks: sockets that are known from the moment they are
made (so that a connect or a TLS handshake can be cut as well), and a pool that never hands out one that is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import io
import math
import select
import socket
import ssl
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from dmedia_transfer.errors import ConnectionLost, Stalled

CONNECT_TIMEOUT_S: Final = 10.0  # Linux has asked four times by then
MOMENT_S: Final = 0.1  # how long `receive` waits for more than it has
UNSENT_BYTES: Final = 512 * 1024
MIN_AHEAD_BYTES: Final = 64 * 1024  # of a limited reader: what is on its way while it waits
_ANY_WINDOW: Final = 2**30  # TCP's largest
TLS_SLICE_BYTES: Final = 128 * 1024  # sent in one call: its timeout is for all of it, and a slow line is no stalled one
MAX_IDLE_S: Final = 30.0  # a router may forget a connection that rests longer, and then swallow what is sent


class Origin(NamedTuple):
    """Where a connection leads."""

    scheme: str  # http or https
    host: str  # without brackets
    port: int


class _Head(io.RawIOBase):
    """What `http.client` reads the head of an answer from: not for ever, however busily it drips."""

    def __init__(self, raw: io.RawIOBase, until_s: float) -> None:
        self._raw = raw
        self.until_s = until_s

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int | None:
        if time.monotonic() > self.until_s:
            raise TimeoutError
        return self._raw.readinto(into)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose head has to be there in time."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._head = _Head(self.fp.detach(), time.monotonic() + (sock.gettimeout() or CONNECT_TIMEOUT_S))
        self.fp = io.BufferedReader(self._head)

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        self._head.until_s = math.inf


class Connection(http.client.HTTPConnection):
    """One connection; used by one thread at a time, severed by any."""

    response_class = _Response

    def __init__(self, origin: Origin, context: ssl.SSLContext | None, stall_s: float) -> None:
        super().__init__(origin.host, origin.port, timeout=stall_s)
        self.origin = origin
        self.severed = False  # cut on purpose: it is never reconnected in silence
        self.reused = False
        self.spent = False  # a request was not sent to its end: no other can follow
        self.idle_since = 0.0
        self._context = context
        self._stall_s = stall_s
        self._guard = threading.Lock()
        self._open: socket.socket | None = None  # what `sever` shuts down
        self._held_back = False  # the window is clamped

    def connect(self) -> None:
        """Connect, with TLS where the origin wants it. Raises OSError; also when severed meanwhile."""
        problem: OSError = OSError(f"{self.host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(self.host, self.port, 0, socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                self.adopt(sock)
                sock.settimeout(min(CONNECT_TIMEOUT_S, self._stall_s))
                sock.connect(address)
                self.settle(sock, self._context, name=self.host)
            except OSError as error:
                sock.close()
                problem = error
                if self.severed:
                    break
            else:
                return
        raise problem

    def settle(self, sock: socket.socket, context: ssl.SSLContext | None, *, name: str | None) -> None:
        """Use this socket, which is connected: TLS first, if there is a context. On an error it is closed."""
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The kernel would take megabytes on a slow line, and progress and limits would be counted too early.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
            if context is not None:
                sock = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
                self.adopt(sock)
                sock.do_handshake()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(min(MOMENT_S, self._stall_s)))
            sock.settimeout(self._stall_s)
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    def send_piece(self, piece: memoryview) -> bool:
        """Send all of it, or return False where the server speaks (or hangs up) before it has everything.

        Not `sendall`: its timeout is for all of it, and a slow line is not a stalled one. Under TLS one cannot tell
        an answer from a message of TLS itself, so there only a hang-up is seen.
        """
        if self.encrypted:
            try:
                while piece:
                    piece = piece[self.sock.send(piece[:TLS_SLICE_BYTES]) :]
            except ConnectionError:
                if self.reused or self.severed:
                    raise
                return False  # it may have said why before it hung up
            return True
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLOUT)
        while piece:
            events = poll.poll(self._stall_s * 1000)
            if not events:
                raise TimeoutError
            if events[0][1] & ~select.POLLOUT:
                return False
            piece = piece[self.sock.send(piece) :]
        return True

    def wait_for_answer(self) -> None:
        """Wait until something arrives; what still leaves our own buffers is not a stall.

        Raises:
            TimeoutError: Nothing moved in either direction for `stall_s`.
        """
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        unsent, moved_at = self._unsent_bytes(), time.monotonic()
        while not poll.poll(min(MOMENT_S, self._stall_s) * 1000):
            before, unsent = unsent, self._unsent_bytes()
            if unsent != before:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at >= self._stall_s:
                raise TimeoutError

    def _unsent_bytes(self) -> int:
        """Bytes that the kernel holds because the other side has not confirmed them."""
        answer = fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(answer, sys.byteorder)

    def receive(self, into: memoryview) -> int:
        """Fill `into`, or as much of it as arrives in a moment; 0 at the end of the connection.

        Raises:
            TimeoutError: Not a byte for `stall_s`.
        """
        sock = self._open  # not `self.sock`: `http.client` lets go of it when the answer will be the last one
        if sock is None:
            raise ConnectionAbortedError("is not connected")
        if self.encrypted:
            return _receive_records(sock, into)
        # Servers write in small pieces, and to wake up for each of them costs several times what the copying does,
        # with the GIL changing hands every time. The kernel can wait for all of them: for a moment, so that a slow line
        # still gets its progress counted.
        began = time.monotonic()
        sock.settimeout(None)
        try:
            while True:
                try:
                    return sock.recv_into(into, len(into), socket.MSG_WAITALL)
                except BlockingIOError:
                    if time.monotonic() - began >= self._stall_s:
                        raise TimeoutError from None
        finally:
            sock.settimeout(self._stall_s)

    def take_ahead(self, count: int | None) -> None:
        """Let the kernel take at most about twice `count` bytes that nobody has asked for; None: as it likes."""
        sock = self._open
        if sock is None or (count is None and not self._held_back):
            return
        # Each time: what the kernel thinks of the line may have raised it again. A window that was offered is not taken
        # back, it fills up first.
        window = _ANY_WINDOW if count is None else max(MIN_AHEAD_BYTES, 2 * count)
        with contextlib.suppress(OSError):  # it is closed already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, window)
        self._held_back = count is not None

    def sever(self) -> None:
        """End the connection from another thread: whoever uses it sees its end at once."""
        with self._guard:
            self.severed = True
            if self._open is not None:
                # Not SSLSocket.shutdown: it first drops TLS, and a thread that is sending would go on in the clear.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._open, socket.SHUT_RDWR)

    @property
    def where(self) -> str:
        """Where it leads, for messages."""
        return f"{self.host}:{self.port}"

    @property
    def said_something(self) -> bool:
        """Whether bytes (or the end) have arrived that nobody has read."""
        if self.sock is None:
            return True
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self._context is not None

    def adopt(self, sock: socket.socket) -> None:
        """This is what a cut ends from now on. Raises OSError if there was one already."""
        with self._guard:
            if self.severed:
                raise ConnectionAbortedError("was cut while connecting")
            self._open = sock


def _receive_records(sock: socket.socket, into: memoryview) -> int:
    """As `Connection.receive`, of TLS: a record has 16 KiB, and there is no asking for more than one at once."""
    done, began = 0, time.monotonic()
    while done < len(into):
        try:
            count = sock.recv_into(into[done:])
        except TimeoutError:
            if done:
                break
            raise
        if not count:
            break
        done += count
        if time.monotonic() - began >= MOMENT_S:
            break
    return done


def _timeval(seconds: float) -> bytes:
    """A C `struct timeval`."""
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))


class ConnectionPool:
    """Connections in use and at rest. Any thread may call."""

    def __init__(self, *, stall_s: float, max_idle: int, make: Callable[[Origin], Connection] | None = None) -> None:
        """No connection yet; `make` makes them, where they are not what an `Origin` says."""
        self.generation = 0  # how often all was cut
        self.context: ssl.SSLContext | None = None  # for https origins
        self._make = make or self._plain
        self._stall_s = stall_s
        self._max_idle = max_idle
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()

    def take(self, origin: Origin) -> Connection:
        """A connection that rested and is alive, the one used last first; else a new one, not connected yet."""
        with self._lock:
            now = time.monotonic()
            for connection in reversed(self._idle):
                if connection.origin != origin:
                    continue
                self._idle.remove(connection)
                if now - connection.idle_since > MAX_IDLE_S or connection.said_something:
                    connection.close()
                    continue
                connection.reused = True
                break
            else:
                connection = self._make(origin)
            self._used.add(connection)
            return connection

    def give_back(self, connection: Connection) -> None:
        """Its answer was read to the end and the server keeps it open."""
        with self._lock:
            self._used.discard(connection)
            if not connection.severed and len(self._idle) < self._max_idle:
                connection.idle_since = time.monotonic()
                self._idle.append(connection)
                return
        connection.close()

    def discard(self, connection: Connection) -> None:
        """It is of no use any more."""
        with self._lock:
            self._used.discard(connection)
        connection.close()

    def cut(self) -> None:
        """Sever what is in use and let go of what rests."""
        with self._lock:
            self.generation += 1
            for connection in self._used:
                connection.sever()
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @property
    def open_connections(self) -> int:
        """How many connections are in use or at rest."""
        with self._lock:
            return len(self._idle) + len(self._used)

    def _plain(self, origin: Origin) -> Connection:
        if origin.scheme == "https" and self.context is None:
            raise ConnectionLost(f"TLS was not set up for {origin.host}")
        return Connection(origin, self.context if origin.scheme == "https" else None, self._stall_s)


@contextlib.contextmanager
def faults(connection: Connection, doing: str) -> Iterator[None]:
    """Translate what sockets, TLS and `http.client` raise."""
    where = connection.where
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        if connection.severed:
            raise ConnectionLost(f"the connection to {where} was cut") from error
        if isinstance(error, TimeoutError) and doing != "connecting":
            raise Stalled(f"no byte for {connection.timeout:g} s while {doing} ({where})") from error
        raise ConnectionLost(_sentence(error, doing, where)) from error


def _sentence(error: Exception, doing: str, where: str) -> str:
    match error:
        case TimeoutError():
            return f"{where} does not answer"
        case ssl.SSLCertVerificationError():
            return f"the certificate of {where} is not trusted: {error.verify_message}"
        case socket.gaierror():
            return f"the name of {where} was not found: {error.strerror}"
        case ConnectionRefusedError():
            return f"{where} refuses connections"
        case http.client.RemoteDisconnected():
            return f"{where} hung up without an answer"
        case http.client.HTTPException() | ValueError():
            return f"{where} does not speak HTTP as it should ({type(error).__name__})"
        case _:
            return f"the connection to {where} was lost while {doing}: {error}"
