"""Exchange: one request out and one answer in, the hot path of all backends that speak HTTP.

An answer's body is received straight into the caller's buffer, a part is sent from the caller's pieces, and nothing is
copied in between. Redirects are not followed. A request is sent once; only where a kept-alive connection turns out to
be closed before any byte of an answer, and the request may be repeated (RFC 9110, 9.2.2), it is sent again on a fresh
one.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from dmedia_transfer.backends.bodies import Answer, Payload
from dmedia_transfer.backends.connections import Connection, ConnectionPool, Origin, faults
from dmedia_transfer.backends.pace import Pace
from dmedia_transfer.errors import ConnectionLost
from dmedia_transfer.ports import Meter


class Request(NamedTuple):
    """What is asked."""

    method: str
    target: str
    headers: Iterable[tuple[str, str]]  # with Host
    body: Payload | Any = None  # what is no payload goes through `http.client`
    repeatable: bool = False  # asking twice is the same as asking once


class _Fills(Protocol):
    """A body that is being received."""

    def readinto(self, into: memoryview, /) -> int: ...


class Exchanges:
    """Requests to one store. Any thread may call; `cut` ends what the others are doing."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool
        self._thread = threading.local()  # `generation`: of the pool when this thread's call began, or None
        self._sending = Pace()
        self._receiving = Pace()

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Requests that this thread makes within belong together; a cut from now on ends them."""
        self._thread.generation = self.pool.generation
        try:
            yield
        finally:
            self._thread.generation = None

    @property
    def calling(self) -> bool:
        """Whether this thread is within a `call`."""
        return getattr(self._thread, "generation", None) is not None

    def check(self) -> None:
        """Raise ConnectionLost if there was a cut since the call began."""
        if getattr(self._thread, "generation", None) not in {None, self.pool.generation}:
            raise ConnectionLost("the connection was cut")

    def ask(self, origin: Origin, request: Request) -> tuple[http.client.HTTPResponse, Answer]:
        """Send the request; the answer's head, and its body, which is to be read or closed.

        Raises:
            ConnectionLost: Cut, refused, reset, or not HTTP.
            Stalled: Not a byte for too long.
        """
        while True:
            self.check()
            connection = self.pool.take(origin)
            try:
                response = self._exchange(connection, request)
            except _Stale:
                self.pool.discard(connection)
                continue
            except BaseException:
                self.pool.discard(connection)
                raise
            return response, Answer(self.pool, connection, response)

    def receive(self, body: _Fills, into: memoryview, meter: Meter) -> None:
        """Fill `into` from the body of an answer.

        Raises:
            ConnectionLost: The body ends early.
            Stalled: Too few bytes for too long.
        """
        done = 0
        while done < len(into):
            self.check()
            count = body.readinto(into[done : done + self._receiving.piece_bytes])
            if not count:
                raise ConnectionLost(f"the answer ended {len(into) - done} bytes early")
            done += count
            self._receiving.moved(count, meter)

    def _exchange(self, connection: Connection, request: Request) -> http.client.HTTPResponse:
        if connection.sock is None:
            with faults(connection, "connecting"):
                connection.connect()
        self.check()
        repeatable = connection.reused and request.repeatable
        try:
            with faults(connection, "sending"):
                connection.putrequest(request.method, request.target, skip_host=True)
                for name, value in request.headers:
                    connection.putheader(name, value)
                connection.endheaders()
            self._send_body(connection, request.body)
            with faults(connection, "waiting for an answer"):
                connection.wait_for_answer()
                return connection.getresponse()
        except ConnectionLost as error:
            if repeatable and not connection.severed and isinstance(error.__cause__, ConnectionError):
                raise _Stale from error
            raise

    def _send_body(self, connection: Connection, body: Any) -> None:
        if body is None:
            return
        if not isinstance(body, Payload):
            with faults(connection, "sending"):
                connection.send(body)
            return
        for piece in body.pieces():
            rest = piece
            while rest:
                sent, rest = rest[: self._sending.piece_bytes], rest[self._sending.piece_bytes :]
                with faults(connection, "sending"):
                    whole = connection.send_piece(sent)
                if not whole:  # it refuses, or it hung up: what it says comes next, and then the connection is done
                    connection.spent = True
                    return
                self._sending.moved(len(sent), body.moved)


class _Stale(Exception):
    """A kept-alive connection was closed before any byte of an answer."""
