"""Which bytes a request is for: Range, If-Range and preconditions, as RFC 9110 (sections 13 and 14) has them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_RANGE: Final = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)", re.ASCII | re.IGNORECASE)
_MAX_DIGITS: Final = 19
_TAG: Final = re.compile(r'\s*(W/)?"([^"]*)"\s*(?:,|\Z)')


class Unsatisfiable(Exception):
    """The range begins beyond the end of the file: 416."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes of a file: from `start` up to and without `end`."""

    start: int
    end: int

    def content_range(self, size: int) -> str:
        """As `Content-Range` says it."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


def wanted(headers: Mapping[str, str], size: int, etag: str) -> Slice | None:
    """The range that a GET asks for; None where it is to be answered as a whole.

    What is not understood is ignored, as section 14.2 says: another unit, several ranges (nobody of ours asks for
    them, and they cost a server dearly), nonsense. So is a range of which `If-Range` says that it is of another file.

    Raises:
        Unsatisfiable: There is no such byte.
    """
    text = headers.get("Range")
    if text is None or headers.get("If-Range", etag).strip() != etag:  # a date never matches: we tell none
        return None
    match = _RANGE.fullmatch(text.strip())
    if match is None or len(match[1]) > _MAX_DIGITS or len(match[2]) > _MAX_DIGITS:
        return None
    first, last = match[1], match[2]
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    elif last:
        start, end = max(0, size - int(last)), size
    else:
        return None
    if start >= size or start >= end:
        raise Unsatisfiable
    return Slice(start, end)


def not_modified(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the other side has the file already: 304."""
    return _names(headers.get("If-None-Match"), etag, weak=True)


def precondition_failed(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the other side wants another file than this one: 412."""
    return "If-Match" in headers and not _names(headers.get("If-Match"), etag, weak=False)


def _names(text: str | None, etag: str, *, weak: bool) -> bool:
    if text is None:
        return False
    if text.strip() == "*":
        return True
    return any(f'"{match[2]}"' == etag and (weak or not match[1]) for match in _TAG.finditer(text))


def wants_sha256(text: str | None) -> bool:
    """Whether a `Want-Content-Digest` or `Want-Repr-Digest` (RFC 9530) asks for SHA-256."""
    for part in (text or "").split(","):
        name, _, weight = part.partition("=")
        if name.strip() == "sha-256":
            return weight.strip() != "0"
    return False
