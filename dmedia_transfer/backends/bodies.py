"""Bodies on their way: a part going out, and an answer coming in, without a copy in between."""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import Iterator
from typing import Final

from dmedia_transfer.backends.connections import Connection, ConnectionPool, faults
from dmedia_transfer.errors import ConnectionLost, SourceChanged
from dmedia_transfer.ports import Body, Meter

LATE_S: Final = 0.02  # a reader who comes back for more later than this is being limited ...
PROMPT_S: Final = 0.005  # ... and one who comes back sooner than this is not
LEAST_BYTES: Final = 4096  # in the time in which a connection stalls: who sends less than that only seems to be alive
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024  # of what is not an object: a listing of 1,000 parts has 300 KiB


class Payload:
    """A part's bytes on their way out: a file for botocore, pieces for the transport."""

    def __init__(self, body: Body, meter: Meter) -> None:
        self._body = body
        self._meter = meter
        self._pieces: Iterator[memoryview] | None = None
        self._rest = memoryview(b"")
        self._position = 0

    def __len__(self) -> int:
        return self._body.size

    @property
    def sha256(self) -> bytes | None:
        """Its SHA-256, where that is known without reading it."""
        return self._body.sha256

    def pieces(self) -> Iterator[memoryview]:
        """The bytes from the start, exactly as many as were promised.

        Raises:
            SourceChanged: The body is shorter or longer than its size.
        """
        left = self._body.size
        for piece in self._body.pieces():
            left -= len(piece)
            if left < 0:
                break
            yield piece
        if left:
            raise SourceChanged(f"a body of {self._body.size} bytes turned out {'longer' if left < 0 else 'shorter'}")

    def moved(self, count: int) -> None:
        """Tell the meter of bytes that were sent."""
        self._meter(count)

    # What botocore needs of a file, where it signs the body or sends it through a proxy.

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes from where the last read ended."""
        if self._pieces is None:
            self._pieces = self.pieces()
        found = bytearray()
        while size < 0 or len(found) < size:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = piece
            wanted = len(self._rest) if size < 0 else size - len(found)
            found += self._rest[:wanted]
            self._rest = self._rest[wanted:]
        self._position += len(found)
        return bytes(found)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Back to the start; nothing else is ever asked for."""
        if offset or whence:
            raise OSError("a payload can only be read from its start")
        self._pieces, self._rest, self._position = None, memoryview(b""), 0
        return 0

    def tell(self) -> int:
        """How much was read."""
        return self._position


class Answer:
    """The body of an answer, with the few methods that botocore wants of it; gives its connection back at the end."""

    def __init__(self, pool: ConnectionPool, connection: Connection, response: http.client.HTTPResponse) -> None:
        self._pool = pool
        self._connection: Connection | None = connection
        self._response = response
        self._left: int | None = response.length  # None: chunked, or until the connection ends
        self._returned_s: float | None = None  # when the reader was given bytes last
        self._lately = 0  # bytes in ...
        self._waited_s = 0.0  # ... these seconds of waiting for them
        self._buffered = True  # `http.client` may have read a little of the body together with the headers
        if self._left == 0:
            self._let_go(whole=True)

    def readinto(self, into: memoryview) -> int:
        """Fill `into`, or as much of it as arrives in a moment; 0 at the end.

        Raises:
            ConnectionLost: The connection ended.
            Stalled: Nothing came for too long, or mere drops.
        """
        if self._connection is None or not into:
            return 0
        self._look_ahead(self._connection, len(into))
        began_s = time.monotonic()
        try:
            with faults(self._connection, "receiving"):
                if self._left is None:
                    count = self._response.readinto(into)
                elif self._buffered:
                    # Takes all that is buffered, or fills the buffer once and takes all that.
                    count = self._response.fp.readinto1(into[: min(self._left, io.DEFAULT_BUFFER_SIZE)])
                    self._buffered = False
                else:
                    count = self._connection.receive(into[: self._left])
                self._watch(count, time.monotonic() - began_s, self._connection.timeout or 0.0)
        except ConnectionLost:
            self.close()
            raise
        if self._left is None:
            if not count:
                self._let_go(whole=True)
            return count
        if not count:
            left = self._left
            self.close()
            raise ConnectionLost(f"the connection ended {left} bytes before the answer did")
        self._left -= count
        if not self._left:
            self._let_go(whole=True)
        self._returned_s = time.monotonic()
        return count

    def _watch(self, count: int, waited_s: float, stall_s: float) -> None:
        """Raise TimeoutError where bytes come, but too few."""
        self._lately, self._waited_s = self._lately + count, self._waited_s + waited_s
        if self._lately >= LEAST_BYTES:
            self._lately, self._waited_s = 0, 0.0
        elif self._waited_s >= stall_s and self._lately < (self._left or LEAST_BYTES):
            raise TimeoutError

    def _look_ahead(self, connection: Connection, wanted: int) -> None:
        """Let the server send ahead no more than a reader who is limited will soon take.

        Else the kernel takes tens of megabytes at full speed for each connection, and then nothing for a while: the
        limit would hold for us, but not for the line.
        """
        if self._returned_s is not None:
            away_s = time.monotonic() - self._returned_s
            if away_s > LATE_S:
                connection.take_ahead(wanted)
            elif away_s < PROMPT_S:
                connection.take_ahead(None)

    def stream(self, _amount: int = 0, decode_content: bool | None = None) -> Iterator[bytes]:
        """The whole rest in one piece: what is not an object is small."""
        rest = self.read()
        if rest:
            yield rest

    def read(self, amount: int | None = None) -> bytes:
        """The next `amount` bytes, or the whole rest.

        Raises:
            ConnectionLost: It ends early, or is far too long for what it should be.
        """
        if amount is None and (self._left or 0) > MAX_ANSWER_BYTES:
            self.close()
            raise ConnectionLost(f"an answer of more than {MAX_ANSWER_BYTES} bytes where a short one was due")
        limit = MAX_ANSWER_BYTES if amount is None else amount
        found = bytearray()
        buffer = memoryview(bytearray(min(limit, 64 * 1024)))
        while len(found) < limit and (count := self.readinto(buffer[: limit - len(found)])):
            found += buffer[:count]
        if amount is None and self._connection is not None and len(found) >= limit:
            self.close()
            raise ConnectionLost(f"an answer of more than {MAX_ANSWER_BYTES} bytes where a short one was due")
        return bytes(found)

    def close(self) -> None:
        """Nobody wants the rest: the connection is of no use any more."""
        self._let_go(whole=False)

    def _let_go(self, *, whole: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        keep = whole and not self._response.will_close and not connection.spent
        self._response.close()
        if keep:
            self._pool.give_back(connection)
        else:
            self._pool.discard(connection)
