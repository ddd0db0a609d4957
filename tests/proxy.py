"""A TCP proxy on loopback that misbehaves on demand: cuts, stalls, slows, garbles, and counts.

A test puts it between a client and a real server and switches its faults while both are talking. Two threads
per connection; all methods may be called from any thread. Its socket buffers are small, so that a stall or a
limit is felt at both ends at once and the counters say what the server has really sent and received.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

_BUFFER_BYTES: Final = 64 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER with 0 seconds: close sends RST


class FaultyProxy:
    """Forwards every connection to `upstream`, which may be changed while it runs (a server that restarts)."""

    def __init__(self, upstream: tuple[str, int], listener: socket.socket | None = None) -> None:
        """`listener` is where it can be reached, if not on loopback."""
        self.upstream = upstream
        self.bytes_up = 0  # that the server was given
        self.bytes_down = 0  # that the server sent
        self.connections = 0  # accepted since the start
        self._changed = threading.Condition()  # guards all below, and the counters
        self._links: set[_Link] = set()
        self._stalled = False
        self._holds: dict[bool, int] = {}  # by direction (True: up): bytes that may pass yet
        self._refusing = False
        self._rate_bps: float | None = None
        self._due = {True: 0.0, False: 0.0}  # when the next byte may pass, by direction (True: up)
        self._skip_bytes = 0
        self._garble_bytes = 0
        self._cut_after_bytes: int | None = None
        self._unanswered: bytes | None = None  # of a request that has not come yet
        self._recorded: bytearray | None = None
        self._closing = False
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.address: Final[tuple[str, int]] = self._listener.getsockname()[:2]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        """Where clients connect instead, as an HTTP URL."""
        return f"http://{self.address[0]}:{self.address[1]}"

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        with self._changed:
            return len(self._links)

    def cut(self) -> int:
        """Reset all connections that are open now, at both ends; returns how many."""
        with self._changed:
            links = list(self._links)
        for link in links:
            self._reset(link)
        return len(links)

    def cut_after(self, response_bytes: int) -> None:
        """Reset the connection on which the so-many-th response byte from now on passes. Once."""
        with self._changed:
            self._cut_after_bytes = response_bytes

    def lose_answer(self, request: bytes) -> None:
        """Reset the connection on which the next request with these bytes was sent, as its answer comes. Once."""
        with self._changed:
            self._unanswered = request

    def stall(self, stalled: bool = True) -> None:
        """Let no byte pass in either direction until told otherwise; connections stay open."""
        with self._changed:
            self._stalled = stalled
            self._changed.notify_all()

    def hold(self, *, up: bool, after: int) -> None:
        """Let so many bytes more pass in one direction, and then none until `release`; answers, or requests, still do.

        So a test stops a transfer in the middle however quick or slow the machine is.
        """
        with self._changed:
            self._holds = {up: after}
            self._changed.notify_all()

    def release(self) -> None:
        """Hold nothing any more."""
        with self._changed:
            self._holds = {}
            self._changed.notify_all()

    @property
    def holding(self) -> bool:
        """Whether all that may pass has passed."""
        with self._changed:
            return any(left <= 0 for left in self._holds.values())

    def refuse(self, refusing: bool = True) -> None:
        """Reset new connections as soon as they are made, until told otherwise."""
        with self._changed:
            self._refusing = refusing

    def limit(self, bytes_per_s: float | None) -> None:
        """Let at most so many bytes per second pass in each direction, all connections together; None: no limit."""
        with self._changed:
            self._rate_bps = bytes_per_s
            self._due = dict.fromkeys(self._due, time.monotonic())
            self._changed.notify_all()

    def garble(self, response_bytes: int, *, after: int = 0) -> None:
        """Change the next so many response bytes, leaving `after` bytes before them as they are (headers)."""
        with self._changed:
            self._skip_bytes, self._garble_bytes = after, response_bytes

    @property
    def garble_pending(self) -> int:
        """How many bytes are still to be changed: 0 once all the damage is done."""
        with self._changed:
            return self._garble_bytes

    @contextlib.contextmanager
    def recording(self) -> Iterator[bytearray]:
        """Keep what clients send, to look at what went over the wire."""
        recorded = bytearray()
        with self._changed:
            self._recorded = recorded
        try:
            yield recorded
        finally:
            with self._changed:
                self._recorded = None

    def reset_counts(self) -> None:
        """Count from zero."""
        with self._changed:
            self.bytes_up = self.bytes_down = self.connections = 0

    def close(self) -> None:
        """Stop listening, reset what is open, and wait until all threads have ended."""
        with self._changed:
            self._closing = True
            self._stalled = False
            self._holds = {}
            self._rate_bps = None
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        while self._threads:
            self._threads.pop().join(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _reset(self, link: _Link) -> None:
        link.reset()
        with self._changed:
            self._changed.notify_all()  # its other thread may be waiting for a stall to end

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name="faulty-proxy", daemon=True)
        with self._changed:
            self._threads = [running for running in self._threads if running.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                refusing, upstream = self._refusing or self._closing, self.upstream
                self.connections += 1
            if refusing:
                _reset(client)
                continue
            self._start(self._connect, client, upstream)

    def _connect(self, client: socket.socket, upstream: tuple[str, int]) -> None:
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for end in (client, server):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            server.connect(upstream)
        except OSError:
            _reset(client)
            server.close()
            return
        link = _Link(client, server)
        with self._changed:
            if self._closing:
                link.reset()
            self._links.add(link)
        self._start(self._pump, link, client, server, True)
        self._pump(link, server, client, False)

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket, up: bool) -> None:
        buffer = bytearray(_BUFFER_BYTES)
        try:
            while count := source.recv_into(buffer):
                cut_at = self._admit(link, buffer, count, up)
                _send(sink, memoryview(buffer)[: count if cut_at is None else cut_at])
                if up:
                    with self._changed:
                        self.bytes_up += count
                if cut_at is not None:
                    self._reset(link)
                    return
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._reset(link)
        finally:
            if link.half_done():
                with self._changed:
                    self._links.discard(link)

    def _admit(self, link: _Link, buffer: bytearray, count: int, up: bool) -> int | None:
        """Wait until these bytes may pass and damage them if asked; returns where to cut, if here."""
        with self._changed:
            if not up:
                self.bytes_down += count
            if self._rate_bps:
                self._due[up] = max(self._due[up], time.monotonic()) + count / self._rate_bps
            while not link.over:
                wait_s = self._due[up] - time.monotonic() if self._rate_bps else 0.0
                still = self._stalled or self._holds.get(up, 1) <= 0
                if not still and wait_s <= 0:
                    break
                self._changed.wait(None if still else wait_s)
            if link.over:
                return 0
            if up in self._holds:
                self._holds[up] -= count
            if up:
                if self._recorded is not None:
                    self._recorded += buffer[:count]
                if self._unanswered is not None and buffer.find(self._unanswered, 0, count) >= 0:
                    self._unanswered, link.unanswered = None, True
                return None
            if link.unanswered:
                return 0
            self._damage(buffer, count)
            if self._cut_after_bytes is None:
                return None
            cut_at, self._cut_after_bytes = self._cut_after_bytes, self._cut_after_bytes - count
            if cut_at > count:
                return None
            self._cut_after_bytes = None
            return cut_at

    def _damage(self, buffer: bytearray, count: int) -> None:
        if not self._garble_bytes:
            return
        start = min(self._skip_bytes, count)
        self._skip_bytes -= start
        end = min(start + self._garble_bytes, count)
        self._garble_bytes -= end - start
        for index in range(start, end):
            buffer[index] ^= 0x5A


class _Link:
    """The two sockets of one forwarded connection."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.over = False
        self.unanswered = False  # the next byte of an answer ends it
        self._ends = (client, server)
        self._pumps = 2
        self._lock = threading.Lock()

    def reset(self) -> None:
        """End both sockets at once with RST; a pump that is blocked on one of them wakes up."""
        with self._lock:
            if self.over:
                return
            self.over = True
            for end in self._ends:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)  # wakes a thread that is in recv or send; the RST goes out at close

    def half_done(self) -> bool:
        """One pump has ended; closes the sockets and says True when it was the second."""
        with self._lock:
            self._pumps -= 1
            if self._pumps:
                return False
            self.over = True
            for end in self._ends:
                end.close()
            return True


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    end.close()


def _send(sink: socket.socket, data: memoryview) -> None:
    while data:
        data = data[sink.send(data) :]
