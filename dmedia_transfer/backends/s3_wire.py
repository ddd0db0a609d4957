"""How S3 writes ranges, digests and lists of parts."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

from dmedia_transfer.backends.s3_bodies import Payload
from dmedia_transfer.errors import ConnectionLost, Permanent, SizeDisputed
from dmedia_transfer.leaves import DIGEST_BYTES
from dmedia_transfer.model import FileSpec
from dmedia_transfer.ports import Part

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z")


def check_range(reply: dict[str, Any], file: FileSpec, start: int, end: int, doing: str) -> None:
    """Whether this answer is what was asked for; rclone answers 200 with a Content-Range."""
    length = reply.get("ContentLength")
    stated = _CONTENT_RANGE.match(reply.get("ContentRange", ""))
    if stated is None:
        if "ContentRange" in reply or length is None or reply["ResponseMetadata"]["HTTPStatusCode"] == 206:
            raise ConnectionLost("the answer does not say which bytes it has")
        first, last, total = 0, length - 1, length  # the whole object
    else:
        first, last = int(stated[1]), int(stated[2])
        total = file.size if stated[3] == "*" else int(stated[3])
    if total != file.size:
        raise SizeDisputed(f"{doing}: the object has {total} bytes, but the document says {file.size}")
    if stated is None and (start, end) != (0, total):
        raise Permanent(f"{doing}: the server cannot send parts of an object")
    if (first, last + 1) != (start, end) or length not in {None, end - start}:
        raise ConnectionLost(f"the answer has {length} bytes, {first} to {last}")


def completed_part(part: Part) -> dict[str, Any]:
    """A part as `complete_multipart_upload` wants it."""
    raw: dict[str, Any] = {"PartNumber": part.number, "ETag": f'"{part.etag}"'}
    if part.sha256 is not None:
        raw["ChecksumSHA256"] = encoded(part.sha256)
    return raw


def hash_of(payload: Payload, hasher: Any) -> bytes:
    """The digest of all its pieces; the payload can be read again afterwards."""
    for piece in payload.pieces():
        hasher.update(piece)
    digest: bytes = hasher.digest()
    return digest


def encoded(digest: bytes) -> str:
    """A digest as S3 writes it."""
    return base64.b64encode(digest).decode("ascii")


def decoded(text: str | None) -> bytes | None:
    """A SHA-256 as S3 writes it; None for anything else."""
    try:
        digest = base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == DIGEST_BYTES else None


def bare_etag(etag: str | None) -> str:
    """An ETag without its quotes."""
    return (etag or "").strip('"')
