"""What an upload in parts works with: where it goes, where its parts come from, and who keeps its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dmedia_transfer.ports import Body, Meter, Part


class Target(Protocol):
    """The object to be, at its place in a store. Errors are `TransferError`s; no call retries."""

    @property
    def parallel_parts(self) -> bool:
        """Whether parts may be sent in any order and at the same time."""

    def begin(self) -> str:
        """Begin an upload and return its ID."""

    def put_part(self, upload_id: str, number: int, body: Body, meter: Meter) -> Part:
        """Send a part; sending it again replaces it."""

    def list_parts(self, upload_id: str) -> list[Part]:
        """All parts that the server has."""

    def finish(self, upload_id: str, parts: Sequence[Part]) -> None:
        """Make the parts one object."""

    def is_finished(self, parts: Sequence[Part]) -> bool:
        """Whether the object is there and made of exactly these parts: an answer to `finish` can get lost.

        Called with nothing in flight, so that it may use the crew to read the object.
        """

    def abort(self, upload_id: str) -> None:
        """Forget the upload; one that is gone already is no error."""

    def cut(self) -> None:
        """Cut all connections: calls in flight raise ConnectionLost."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part that is to be sent."""

    number: int  # counted from 1
    body: Body


class PartSource(Protocol):
    """Where the parts come from."""

    @property
    def total_bytes(self) -> int | None:
        """The size of the object; None while it is not known."""

    @property
    def part_bytes(self) -> int:
        """The size of all parts but the last."""

    def keep(self, listed: Sequence[Part], known: Sequence[Part]) -> list[Part]:
        """Which of the parts that the server has are right; these are not taken.

        Args:
            listed: What the server said just now.
            known: What it confirmed earlier, as far as that was written down.
        """

    def take(self) -> Piece | None:
        """The next part; None when all were taken. By one thread at a time; may block."""

    def give_back(self, piece: Piece) -> None:
        """The part was not confirmed and is to be taken again. From any thread."""

    def rest(self) -> None:
        """Nothing is taken any more until the next `keep`: let go of what is open."""

    def unsent(self) -> list[tuple[int, bytes]]:
        """Parts, by number, whose bytes were read and cannot be read again, and which no server has confirmed."""


class Diary(Protocol):
    """Is told of each step and keeps it before the next one is taken."""

    def intend(self) -> None:
        """An upload is about to be begun."""

    def begun(self, upload_id: str) -> None:
        """The server gave it this ID."""

    def confirmed(self, part: Part) -> None:
        """The server has confirmed a part. From any thread."""
