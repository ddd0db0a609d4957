"""What an upload in parts tells of itself.

| event | value | when |
| --- | --- | --- |
| `ready` | `Ready` | the server gave the upload its ID, or has it still; before the first part |
| `part` | `PartSent` | the server confirmed a part |
| `pausing` | `Pausing` | nothing new is sent; so many parts are in flight |
| `paused` | `Paused` | nothing is in flight any more; with the session, to go on in a later process |
| `resumed` | `Resumed` | it goes on; if `paused` was not told until now, it is not told at all |
| `uploaded` | `Uploaded` | the object is there |
| `error` | `Failed` | it ended; `resume()` tries again from what has arrived |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dmedia_transfer.ports import Part


@dataclass(frozen=True, slots=True)
class Ready:
    """The server knows the upload."""

    upload_id: str


@dataclass(frozen=True, slots=True)
class PartSent:
    """The server has confirmed a part."""

    part: Part
    bytes_sent: int  # of the whole upload, confirmed so far, earlier sessions included


@dataclass(frozen=True, slots=True)
class Pausing:
    """Nothing new is sent."""

    in_flight: int  # parts that are being read or sent


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing is in flight any more."""

    upload_id: str
    parts: tuple[Part, ...]
    bytes_sent: int
    session: dict[str, Any] = field(repr=False)  # as `MultipartUpload.session()`


@dataclass(frozen=True, slots=True)
class Resumed:
    """It goes on."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The object is there."""

    parts: tuple[Part, ...]
    bytes_sent: int


@dataclass(frozen=True, slots=True)
class Failed:
    """It ended with an error."""

    error: Exception


Event = Ready | PartSent | Pausing | Paused | Resumed | Uploaded | Failed
NAMES: Final[Mapping[type[Any], str]] = {
    Ready: "ready", PartSent: "part", Pausing: "pausing", Paused: "paused", Resumed: "resumed", Uploaded: "uploaded",
    Failed: "error",
}  # fmt: skip
