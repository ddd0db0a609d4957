"""Sending: bodies on their way to S3, each guarded by the best checksum that the server knows.

With part = leaf, the leaf digest is the part's `ChecksumSHA256`, so that S3 itself refuses a part that was damaged on
the way. Servers differ in what they know of checksums; what one lacks is learned from its answers and said once in
the log, and then Content-MD5 takes the place (over TLS nothing has to: it lets no damage through on the way).

What is hashed, and where: the SHA-256 of a part is on record, and nothing here computes it again; not for the
signature either, where plain HTTP makes the body a part of it. That the local disk still has those bytes, somebody has
to see before they count as stored. AWS does: it refuses a part whose SHA-256 is another one, so its parts are sent as
they are read. Of any other server we cannot know whether it looks (of four that we tried one does), so `upload` hashes
each leaf in memory and sends it from there. That is also why nothing goes out by `sendfile`: it would send what is in
the file by then, and not what was verified; and AWS, where that would do no harm, is spoken to by TLS.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Mapping
from enum import Enum, StrEnum, auto
from typing import Any, Final

from botocore.exceptions import ClientError

from dmedia_transfer.backends import s3_errors, s3_wire
from dmedia_transfer.backends.bodies import Payload
from dmedia_transfer.backends.s3_access import Access
from dmedia_transfer.errors import TransferError

log = logging.getLogger(__name__)

Damaged = Callable[[str], TransferError]  # makes the error for "the server saw other bytes"

_HEADERS: Final = {  # of boto3's parameters
    "ContentType": "content-type",
    "StorageClass": "x-amz-storage-class",
    "ChecksumAlgorithm": "x-amz-sdk-checksum-algorithm",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ContentMD5": "content-md5",
}


class Keeps(Enum):
    """Whether a server keeps the SHA-256 that is sent along."""

    UNKNOWN = auto()
    YES = auto()  # it confirms it
    UNSURE = auto()  # it does not mind it and does not confirm it; it may still tell it later
    NO = auto()  # it refuses requests that have one


class Way(StrEnum):
    """How an object gets there; servers know checksums for one and not for the other."""

    PUT = "single requests"
    PARTS = "parts"


class Sender:
    """Sends to one bucket. Any thread may call."""

    def __init__(self, store_id: str, access: Access, *, keeps_sha256: bool) -> None:
        """`keeps_sha256` says that the server is known to keep what is sent along."""
        self._store_id = store_id
        self._access = access
        self._keeps = dict.fromkeys(Way, Keeps.YES if keeps_sha256 else Keeps.UNKNOWN)

    def takes_sha256(self, way: Way) -> bool:
        """Whether nothing says that the server refuses requests with a SHA-256."""
        return self._keeps[way] is not Keeps.NO

    def begin(self, doing: str, names: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a multipart upload; the answer, as boto3 has it."""
        with self._access.attempt(doing) as client:
            try:
                wanted = {"ChecksumAlgorithm": "SHA256"} if self.takes_sha256(Way.PARTS) else {}
                reply: dict[str, Any] = client.create_multipart_upload(**names, **wanted)
            except ClientError as error:
                if not self.takes_sha256(Way.PARTS) or not s3_errors.without_checksums(error):
                    raise
                self._learn(Way.PARTS, Keeps.NO)
                reply = client.create_multipart_upload(**names)
        if reply.get("ChecksumAlgorithm") == "SHA256":  # where it is not said, the answer to the first part tells
            self._learn(Way.PARTS, Keeps.YES)
        return reply

    def put_object(self, doing: str, names: Mapping[str, Any], payload: Payload, damaged: Damaged) -> bytes | None:
        """Send a whole object; its SHA-256 if the server tells it."""
        with self._access.attempt(doing, damaged=damaged) as client:

            def send(checksums: dict[str, str], digest: bytes) -> tuple[str, bytes | None]:
                shortcut = self._access.shortcut
                if shortcut is not None:
                    said = shortcut.put_object(names["Key"], _headers({**names, **checksums}), payload, digest)
                    if said is not None:
                        return s3_wire.sent_said(said)
                reply = client.put_object(**names, **checksums, Body=payload)
                self._access.learn(names["Key"])
                return s3_wire.sent_told(reply)

            return self._guarded(doing, Way.PUT, payload, damaged, send)[1]

    def put_part(
        self, doing: str, names: Mapping[str, Any], payload: Payload, damaged: Damaged
    ) -> tuple[str, bytes | None]:
        """Send a part; its ETag, and its SHA-256 if the server tells it."""
        with self._access.attempt(doing, upload=True, damaged=damaged) as client:

            def send(checksums: dict[str, str], digest: bytes) -> tuple[str, bytes | None]:
                shortcut = self._access.shortcut
                if shortcut is not None:
                    to = names["Key"], names["UploadId"], names["PartNumber"]
                    said = shortcut.put_part(*to, _headers(checksums), payload, digest)
                    if said is not None:
                        return s3_wire.sent_said(said)
                reply = client.upload_part(**names, **checksums, Body=payload)
                self._access.learn(names["Key"])
                return s3_wire.sent_told(reply)

            return self._guarded(doing, Way.PARTS, payload, damaged, send)

    def _guarded(
        self,
        doing: str,
        way: Way,
        payload: Payload,
        damaged: Damaged,
        send: Callable[[dict[str, str], bytes], tuple[str, bytes | None]],
    ) -> tuple[str, bytes | None]:
        digest = payload.sha256 or s3_wire.hash_of(payload, hashlib.sha256())
        try:
            etag, confirmed = send(self._checksums(way, digest, payload), digest)
        except ClientError as error:
            if not self.takes_sha256(way) or not s3_errors.without_checksums(error):
                raise
            self._learn(way, Keeps.NO)  # no second attempt, but the same one in words that the server knows
            etag, confirmed = send(self._checksums(way, digest, payload), digest)
        if confirmed not in {None, digest}:
            raise damaged(f"{doing}: the server confirmed another checksum")
        self._learn(way, Keeps.UNSURE if confirmed is None else Keeps.YES)
        return etag, confirmed

    def _checksums(self, way: Way, digest: bytes, payload: Payload) -> dict[str, str]:
        checksums = {}
        if self.takes_sha256(way):
            checksums["ChecksumAlgorithm"] = "SHA256"  # not needed by AWS; other servers do not look without it
            checksums["ChecksumSHA256"] = s3_wire.encoded(digest)
        if self._keeps[way] is not Keeps.YES and not self._access.encrypted:  # MD5 costs as much as the rest
            checksums["ContentMD5"] = s3_wire.encoded(s3_wire.hash_of(payload, hashlib.md5(usedforsecurity=False)))
        return checksums

    def _learn(self, way: Way, keeps: Keeps) -> None:
        if self._keeps[way] is Keeps.UNKNOWN or keeps is Keeps.NO:
            self._keeps[way] = keeps
            if keeps is not Keeps.YES:
                _say_once(self._store_id, way, "TLS" if self._access.encrypted else "Content-MD5")


def _headers(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Those of boto3's parameters that are sent as headers."""
    return {header: parameters[name] for name, header in _HEADERS.items() if name in parameters}


@functools.cache
def _say_once(store_id: str, way: Way, instead: str) -> None:
    """Once in a process and not once in a transfer."""
    log.warning(
        "store %s: the server does not confirm the SHA-256 of %s; %s guards them instead", store_id, way, instead
    )
