"""What the lean S3 endpoint knows: its tables of objects and uploads, and the files that their bytes lie in."""

from __future__ import annotations

import base64
import hashlib
import itertools
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Piece(NamedTuple):
    """A body that arrived: a part, or a whole object."""

    path: Path | None  # None: it was thrown away
    size: int
    md5: bytes  # empty unless real ETags are asked for
    sha256: str  # as the client said it, base64; empty if it did not


@dataclass(frozen=True, slots=True)
class Object:
    """A finished object: pieces that are sent one after the other."""

    pieces: tuple[Piece, ...]
    etag: str
    sha256: str  # base64, composite with `-N`; empty if not known
    mime: str
    time: float

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)


@dataclass(slots=True)
class Upload:
    """An upload in parts that is not finished."""

    name: str
    mime: str
    parts: dict[int, Piece] = field(default_factory=dict)


class Objects:
    """The tables. All of it may be used from every connection's thread."""

    def __init__(self, folder: Path, *, md5: bool, discard: bool) -> None:
        self.folder = folder
        self.md5 = md5
        self.discard = discard
        self.objects: dict[str, Object] = {}
        self.uploads: dict[str, Upload] = {}
        self.stats = {"requests": 0, "received": 0, "sent": 0}  # bytes of payload, also of bodies that were cut
        self.lock = threading.Lock()
        self.serial = itertools.count(1)
        folder.mkdir(parents=True, exist_ok=True)

    def count(self, **amounts: int) -> None:
        with self.lock:
            for name, amount in amounts.items():
                self.stats[name] += amount

    def etag(self, pieces: list[Piece], *, composite: bool) -> str:
        """A real MD5 where asked for, else something that no client takes for one."""
        if not self.md5:
            return f"{next(self.serial):x}-lean"
        if not composite:
            return pieces[0].md5.hex()
        return f"{hashlib.md5(b''.join(piece.md5 for piece in pieces)).hexdigest()}-{len(pieces)}"

    def publish(self, name: str, pieces: list[Piece], mime: str, *, composite: bool) -> Object:
        sha256 = pieces[0].sha256
        if composite:
            digests = b"".join(base64.b64decode(piece.sha256) for piece in pieces)
            known = all(piece.sha256 for piece in pieces)
            digest = base64.b64encode(hashlib.sha256(digests).digest()).decode()
            sha256 = f"{digest}-{len(pieces)}" if known else ""
        made = Object(tuple(pieces), self.etag(pieces, composite=composite), sha256, mime, time.time())
        with self.lock:
            before = self.objects.get(name)
            self.objects[name] = made
        self.drop(before.pieces if before else ())
        return made

    def drop(self, pieces: tuple[Piece, ...] | list[Piece]) -> None:
        for piece in pieces:
            if piece.path:
                piece.path.unlink(missing_ok=True)
