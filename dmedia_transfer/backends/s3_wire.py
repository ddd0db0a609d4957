"""How S3 writes ranges, digests, objects and lists of parts."""

from __future__ import annotations

import base64
import binascii
import http
import re
from collections.abc import Mapping
from typing import Any, Final

from dmedia_transfer.backends import answers
from dmedia_transfer.backends.bodies import Payload
from dmedia_transfer.backends.s3_shortcut import Said
from dmedia_transfer.leaves import DIGEST_BYTES
from dmedia_transfer.model import FileSpec
from dmedia_transfer.ports import ObjectInfo, Part

_ETAG_OF_PARTS: Final = re.compile(r"-\d+\Z")  # how many there were


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


def object_told(reply: Mapping[str, Any]) -> ObjectInfo:
    """An object, as boto3 tells of it.

    Raises:
        KeyError: The answer has no length.
    """
    size, checksum, kind = int(reply["ContentLength"]), reply.get("ChecksumSHA256"), reply.get("ChecksumType")
    return _object(size, reply.get("ETag"), checksum, kind)


def object_said(said: Said) -> ObjectInfo | None:
    """As `object_told`, of an answer that boto3 has not seen; None if there is no object.

    Raises:
        ValueError: The answer has no length.
    """
    if said.status == http.HTTPStatus.NOT_FOUND:
        return None
    told = said.headers
    checksum, kind = told.get("x-amz-checksum-sha256"), told.get("x-amz-checksum-type")
    return _object(int(told.get("Content-Length", "")), told.get("ETag"), checksum, kind)


def _object(size: int, etag: str | None, checksum: str | None, kind: str | None) -> ObjectInfo:
    digest, etag = decoded((checksum or "").partition("-")[0]), bare_etag(etag)
    # S3 makes no SHA-256 of a whole object that came in parts, and says so in up to three places.
    composite = "-" in (checksum or "") or kind == "COMPOSITE" or _ETAG_OF_PARTS.search(etag) is not None
    return ObjectInfo(
        size=size,
        sha256=None if composite else digest,
        composite_sha256=digest if composite else None,
        etag=etag,
    )


def sent_told(reply: Mapping[str, Any]) -> tuple[str, bytes | None]:
    """The ETag of what was sent, and its SHA-256 if the server tells it; as boto3 tells of it."""
    return bare_etag(reply.get("ETag")), decoded(reply.get("ChecksumSHA256"))


def sent_said(said: Said) -> tuple[str, bytes | None]:
    """As `sent_told`, of an answer that boto3 has not seen."""
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
