"""An HTTP server on loopback that answers exactly what a test tells it to, however wrong."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Final, Self

HANG_UP: Final = "hang up"  # close the connection
WAIT: Final = "wait"  # say nothing until the server is closed
DRIP: Final = "drip"  # send one byte after another until nobody takes them any more
EARLY: Final = "early"  # first in an answer: send it before the request's body has been read

DRIP_S: Final = 0.05

Step = bytes | str


@dataclass(frozen=True)
class Asked:
    """A request that arrived."""

    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body_bytes: int  # of its body that were read


def answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    """A well-formed answer; `retry_after="3"` is the header `retry-after: 3`."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def s3_error(status: str, code: str, message: str = "", **headers: str) -> bytes:
    """An error as S3 says it."""
    text = f"<Error><Code>{code}</Code><Message>{message or code}</Message></Error>"
    return answer(status, text.encode(), content_type="application/xml", **headers)


class RogueServer:
    """Gives its answers in order, whatever is asked and on whichever connection; without one left it hangs up."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        """Listen; with a context, for TLS."""
        self._context = context
        self.asked: list[Asked] = []
        self.connections = 0
        self._answers: deque[tuple[Step, ...]] = deque()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: Final[tuple[str, int]] = self._listener.getsockname()[:2]
        self._threads: list[threading.Thread] = []
        self._start(threading.Thread(target=self._accept, name="rogue-server", daemon=True))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.address[0]}:{self.address[1]}"

    def will_answer(self, *steps: Step) -> None:
        """The answer to a request to come: bytes to send, and what else to do, in order."""
        self._answers.append(steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=10)

    def _start(self, thread: threading.Thread) -> None:
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            self._start(threading.Thread(target=self._serve, args=(connection,), name="rogue-server", daemon=True))

    def _serve(self, connection: socket.socket) -> None:
        plain = connection
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            stack.enter_context(plain)
            if self._context is not None:
                connection = stack.enter_context(self._context.wrap_socket(plain.dup(), server_side=True))
            incoming = stack.enter_context(connection.makefile("rb"))
            while (first := incoming.readline()) and self._one(connection, incoming, first):
                pass
        with self._lock:
            self._open.discard(plain)

    def _one(self, connection: socket.socket, incoming: BinaryIO, first: bytes) -> bool:
        method, target, _ = first.decode().split(" ", 2)
        headers: dict[str, str] = {}
        while line := incoming.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        steps = self._answers.popleft() if self._answers else (HANG_UP,)
        body_bytes = 0
        if steps[0] != EARLY:
            body_bytes = len(incoming.read(int(headers.get("content-length", 0))))
        self.asked.append(Asked(method, target, headers, body_bytes))
        for step in steps:
            if isinstance(step, bytes):
                connection.sendall(step)
            elif step == WAIT:
                self._closing.wait()
                return False
            elif step == DRIP:
                while not self._closing.wait(DRIP_S):
                    connection.sendall(b"a")
            elif step == HANG_UP:
                return False
        return True
