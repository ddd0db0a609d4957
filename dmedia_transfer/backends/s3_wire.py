"""How S3 writes ranges, digests and lists of parts."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from dmedia_transfer.backends import answers
from dmedia_transfer.backends.bodies import Payload
from dmedia_transfer.backends.s3_shortcut import Said
from dmedia_transfer.leaves import DIGEST_BYTES
from dmedia_transfer.model import FileSpec
from dmedia_transfer.ports import Part


def check_range(reply: dict[str, Any], file: FileSpec, start: int, end: int, doing: str) -> None:
    """Whether this answer is what was asked for; rclone answers 200 with a Content-Range."""
    answers.check_range(
        reply["ResponseMetadata"]["HTTPStatusCode"],
        reply.get("ContentRange"),
        reply.get("ContentLength"),
        file=file,
        start=start,
        end=end,
        doing=doing,
    )


def check_said(said: Said, file: FileSpec, start: int, end: int, doing: str) -> None:
    """As `check_range`, of an answer that boto3 has not seen."""
    told, length = said.headers, said.headers.get("Content-Length")
    answers.check_range(
        said.status,
        told.get("Content-Range"),
        int(length) if length is not None else None,
        file=file,
        start=start,
        end=end,
        doing=doing,
    )


def part_told(said: Said) -> tuple[str, bytes | None]:
    """A part's ETag, and its SHA-256 if the server tells it."""
    return bare_etag(said.headers.get("ETag")), decoded(said.headers.get("x-amz-checksum-sha256"))


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
