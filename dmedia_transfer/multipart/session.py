"""An upload as plain JSON, for a later process."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from dmedia_transfer.errors import InvalidInput
from dmedia_transfer.ports import Part

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Session:
    """What a later process needs to go on with an upload."""

    upload_id: str  # empty if the server was not asked for one yet
    size: int | None  # of the whole object; None where it comes from a stream
    part_bytes: int  # the size of all parts but the last
    parts: tuple[Part, ...]  # confirmed by the server
    unsent: tuple[tuple[int, bytes], ...] = ()  # by part number: read from a stream, and not confirmed

    @property
    def bytes_sent(self) -> int:
        """Bytes that the server has confirmed."""
        return sum(part.size for part in self.parts)

    @property
    def bytes_read(self) -> int:
        """Where a stream that cannot be read again has to go on: what was sent, and what is in the session."""
        return self.bytes_sent + sum(len(data) for _, data in self.unsent)

    def write(self) -> dict[str, Any]:
        """The session as plain JSON."""
        return {
            "version": VERSION,
            "upload_id": self.upload_id,
            "size": self.size,
            "part_bytes": self.part_bytes,
            "bytes_sent": self.bytes_sent,
            "parts": [_write_part(part) for part in self.parts],
            "unsent": [
                {"number": number, "data": base64.b64encode(data).decode("ascii")} for number, data in self.unsent
            ],
        }

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self:
        """A session out of plain JSON.

        Raises:
            InvalidInput: It is not one, or one of a later version.
        """
        if raw.get("version") != VERSION:
            raise InvalidInput(f"the session of an upload has version {VERSION}, not {raw.get('version')!r:.40}")
        try:
            return cls(
                upload_id=str(raw["upload_id"]),
                size=None if raw["size"] is None else int(raw["size"]),
                part_bytes=int(raw["part_bytes"]),
                parts=tuple(_read_part(part) for part in raw["parts"]),
                unsent=tuple(
                    (int(piece["number"]), base64.b64decode(piece["data"], validate=True)) for piece in raw["unsent"]
                ),
            )
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise InvalidInput(f"this is not the session of an upload: {error!r}") from None


def _write_part(part: Part) -> dict[str, Any]:
    raw: dict[str, Any] = {"number": part.number, "size": part.size, "etag": part.etag}
    if part.sha256 is not None:
        raw["sha256"] = part.sha256.hex()
    return raw


def _read_part(raw: Mapping[str, Any]) -> Part:
    sha256 = bytes.fromhex(raw["sha256"]) if raw.get("sha256") else None
    return Part(int(raw["number"]), int(raw["size"]), str(raw["etag"]), sha256)
