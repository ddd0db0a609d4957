"""Where the parts of an upload come from: a file that is read anywhere, or a stream that cannot go back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Container, Sequence
from typing import Protocol

from dmedia_transfer.errors import Interrupted, InvalidInput, UploadGone
from dmedia_transfer.leaves import Span
from dmedia_transfer.multipart.bodies import MD5, PIECE_BYTES, BufferBody, FileBody, Read, digest
from dmedia_transfer.multipart.roles import Piece
from dmedia_transfer.ports import Body, Part


def _nothing() -> None:
    pass


def _never() -> bool:
    return False


class FileParts:
    """Slices of a file, in order; what is there already is proven by checksum, whatever was written down."""

    def __init__(
        self,
        read: Read,
        spans: Sequence[Span],
        *,
        body: Callable[[Span], Body] | None = None,
        sha256: Callable[[Span], bytes | None] | None = None,
        check: Callable[[], None] = _nothing,
        rest: Callable[[], None] = _nothing,
    ) -> None:
        """The parts `spans` of the file that `read` reads.

        Args:
            read: Reads the file, from several threads at once.
            spans: All parts, in order.
            body: Makes the body of a part; without it, the file is read as it is.
            sha256: The SHA-256 of a part, where it is known without reading.
            check: Is called before each part that has to be read for a comparison; may raise.
            rest: Is called when nothing is read for a while.
        """
        self._read = read
        self._spans = {span.index + 1: span for span in spans or [Span(0, 0, 0)]}  # nothing is one empty part
        self._body = body or (lambda span: FileBody(read, span))
        self._sha256 = sha256 or (lambda span: None)
        self._check = check
        self._rest = rest
        self._todo: deque[int] = deque()

    @property
    def total_bytes(self) -> int | None:
        """The size of the file."""
        return sum(span.size for span in self._spans.values())

    @property
    def part_bytes(self) -> int:
        """The size of all parts but the last."""
        return self._spans[1].size

    def keep(self, listed: Sequence[Part], known: Sequence[Part]) -> list[Part]:
        """The listed parts that equal the file's, by size and SHA-256, else by MD5, else by what was written down."""
        written = {(part.number, part.size, part.etag): part for part in known}
        kept = [part for part in listed if self._is_right(part, written)]
        there = {part.number for part in kept}
        self._todo = deque(number for number in self._spans if number not in there)
        # Some servers confirm a SHA-256 and do not list it.
        return [written.get((part.number, part.size, part.etag), part) if not part.sha256 else part for part in kept]

    def take(self) -> Piece | None:
        """The next part."""
        try:
            number = self._todo.popleft()
        except IndexError:
            return None
        return Piece(number, self._body(self._spans[number]))

    def give_back(self, piece: Piece) -> None:
        """The part was not confirmed."""
        self._todo.appendleft(piece.number)

    def rest(self) -> None:
        """Nothing is read until the next `keep`."""
        self._rest()

    def unsent(self) -> list[tuple[int, bytes]]:
        """None: the file can be read again."""
        return []

    def _is_right(self, part: Part, written: Container[tuple[int, int, str]]) -> bool:
        span = self._spans.get(part.number)
        if span is None or part.size != span.size:
            return False
        if part.sha256 is not None:
            return part.sha256 == (self._sha256(span) or self._digest(span, "sha256"))
        # S3's ETag of a part is its MD5, but for encrypted parts: then it is not equal, and the part is sent again.
        if MD5.match(part.etag):
            return part.etag == self._digest(span, "md5").hex()
        return (part.number, part.size, part.etag) in written

    def _digest(self, span: Span, algorithm: str) -> bytes:
        self._check()
        return digest(self._read, span, algorithm)


class Stream(Protocol):
    """Anything with `read`: a pipe, a socket's file, a response."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; empty at the end."""


class StreamParts:
    """Parts cut from a stream as it comes. A part stays in memory until the server has confirmed it."""

    def __init__(
        self,
        stream: Stream,
        part_bytes: int,
        *,
        max_parts: int = 10_000,
        unsent: Sequence[tuple[int, bytes]] = (),
        interrupted: Callable[[], bool] = _never,
    ) -> None:
        """Parts of `part_bytes` from a stream.

        Args:
            stream: Starts where the session left off: at the first byte that was never read.
            part_bytes: The size of all parts but the last.
            max_parts: How many parts the store takes.
            unsent: What an earlier session had read but not sent, by part number.
            interrupted: Whether to stop reading in the middle of a part; it is gone on with at the next `take`.
        """
        self._stream = stream
        self._part_bytes = part_bytes
        self._max_parts = max_parts
        self._interrupted = interrupted
        self._lock = threading.Lock()
        self._returned: deque[Piece] = deque()
        self._next = 1
        self._partial = bytearray()
        self._ended = False
        for number, data in sorted(unsent):
            if number == max(unsent)[0] and len(data) < part_bytes:
                self._next, self._partial = number, bytearray(data)  # the stream goes on in the middle of it
            else:
                self._next = number + 1
                self._returned.append(Piece(number, BufferBody(data)))

    @property
    def total_bytes(self) -> int | None:
        """Not known before the stream ends."""
        return None

    @property
    def part_bytes(self) -> int:
        """The size of all parts but the last."""
        return self._part_bytes

    def keep(self, listed: Sequence[Part], known: Sequence[Part]) -> list[Part]:
        """All parts that were confirmed; they cannot be read again, so the server has to have each.

        Raises:
            UploadGone: It has not.
        """
        there = {part.number: part for part in listed}
        for part in known:
            found = there.get(part.number)
            if found is None or (found.size, found.etag) != (part.size, part.etag):
                raise UploadGone(f"the server does not have part {part.number} any more, and the stream cannot go back")
            self._next = max(self._next, part.number + 1)
        return list(known)

    def take(self) -> Piece | None:
        """The next part: one that was given back, else read from the stream.

        Raises:
            Interrupted: While reading; what was read is kept.
        """
        with self._lock:
            if self._returned:
                return self._returned.popleft()
        if self._ended:
            return None
        while len(self._partial) < self._part_bytes:
            data = self._stream.read(min(PIECE_BYTES, self._part_bytes - len(self._partial)))
            if not data:
                self._ended = True
                break
            self._partial += data
            if self._interrupted():
                raise Interrupted("stopped reading in the middle of a part")
        if not self._partial and self._next > 1:
            return None
        if self._next > self._max_parts:
            raise InvalidInput(
                f"the stream is longer than {self._max_parts} parts of {self._part_bytes} bytes: it needs larger ones"
            )
        with self._lock:
            piece = Piece(self._next, BufferBody(bytes(self._partial)))  # an empty stream is one empty part
            self._next += 1
            self._partial = bytearray()
            return piece

    def give_back(self, piece: Piece) -> None:
        """The part was not confirmed."""
        with self._lock:
            self._returned.appendleft(piece)

    def rest(self) -> None:
        """Nothing is read until the next `keep`; the stream is the caller's."""

    def unsent(self) -> list[tuple[int, bytes]]:
        """What was read and is not confirmed."""
        with self._lock:
            waiting = [(piece.number, b"".join(piece.body.pieces())) for piece in self._returned]
            if self._partial:
                waiting.append((self._next, bytes(self._partial)))
            return sorted(waiting)
