"""The S3 backend: any endpoint that speaks S3.

boto3 builds and signs the requests, `s3_transport` moves the bytes, and where the same is asked for again and again,
`s3_shortcut` leaves boto3 out. What is sent, `s3_sending` guards with checksums. Made in the worker process; any
thread may call.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from dmedia_transfer import documents
from dmedia_transfer.backends import s3_errors, s3_wire
from dmedia_transfer.backends.bodies import Payload
from dmedia_transfer.backends.s3_access import Access
from dmedia_transfer.backends.s3_sending import Sender, Way
from dmedia_transfer.credentials import SessionSource, load_models, session_source
from dmedia_transfer.errors import (
    CorruptLeaf,
    ObjectMissing,
    Permanent,
    Transient,
    UploadGone,
)
from dmedia_transfer.model import FileSpec, StoreSpec
from dmedia_transfer.ports import Body, Capabilities, Meter, ObjectInfo, Part

MIN_PART_BYTES: Final = 5 * 1024 * 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html


def preload() -> None:
    """Read what every client needs; see `backends.table`."""
    load_models()


class Unfinished(NamedTuple):
    """A multipart upload that was begun and is neither complete nor aborted."""

    object_name: str  # bucket/key, as `S3Backend.abandon` takes it
    upload_id: str
    initiated: datetime.datetime


class _Refused(Permanent):
    """The server refused bytes that do not match their checksum."""


class S3Backend:
    """One bucket, or one prefix in it."""

    def __init__(
        self,
        spec: StoreSpec,
        *,
        stall_s: float,
        connections: int,
        client: Any = None,  # a boto3 client of the caller's, used as it is
        sessions: SessionSource | None = None,
    ) -> None:
        self._store_id = spec.store_id
        raw = {**spec.settings, "_id": spec.store_id, "type": documents.STORE}
        self._settings = documents.read_s3_settings(raw)
        self._access = Access(
            self._settings,
            sessions or session_source(spec),
            stall_s=stall_s,
            connections=connections,
            client=client,
        )
        self._verifies_sha256 = not self._settings.endpoint_url and client is None  # AWS does; others have to show it
        self._sender = Sender(spec.store_id, self._access, keeps_sha256=self._verifies_sha256)

    @property
    def capabilities(self) -> Capabilities:
        """What S3 can do, and what this server was seen to do."""
        return Capabilities(min_part_bytes=MIN_PART_BYTES, verifies_sha256=self._verifies_sha256)

    def object_name(self, file: FileSpec) -> str:
        """`bucket/key` of a file."""
        return f"{self._settings.bucket}/{self._key(file)}"

    def stat(self, file: FileSpec) -> ObjectInfo | None:
        """What the bucket has under the file's name, with its checksum where the server keeps one."""
        with self._access.attempt(f"asking for {self.object_name(file)}") as client:
            shortcut, key = self._access.shortcut, self._key(file)
            try:
                if shortcut is not None and (said := shortcut.head(key)) is not None:
                    return s3_wire.object_said(said)
                reply = client.head_object(**self._names(file), ChecksumMode="ENABLED")
            except ClientError as error:
                if isinstance(s3_errors.translate(error, ""), ObjectMissing):
                    self._access.learn(key)  # it was looked for, so the signature was good
                    return None
                raise
            self._access.learn(key)
            return s3_wire.object_told(reply)

    def fetch(self, file: FileSpec, start: int, into: memoryview, meter: Meter) -> None:
        """Fill `into` from offset `start`, received straight into it."""
        end = start + len(into)
        doing = f"reading bytes {start} to {end - 1} of {self.object_name(file)}"
        with self._access.attempt(doing) as client:
            shortcut, key = self._access.shortcut, self._key(file)
            if shortcut is not None and (asked := shortcut.get(key, start, end)) is not None:
                said, body = asked
                with contextlib.closing(body):
                    s3_wire.check_said(said, file, start, end, doing)
                    self._access.receive(body, into, meter)
                return
            reply = client.get_object(**self._names(file), Range=f"bytes={start}-{end - 1}")
            self._access.learn(key)
            with contextlib.closing(reply["Body"]) as body:
                s3_wire.check_range(reply, file, start, end, doing)
                self._access.receive(body, into, meter)

    def put(self, file: FileSpec, body: Body, meter: Meter) -> bytes | None:
        """Store a whole small file with one request."""
        doing = f"sending {self.object_name(file)}"
        damaged = functools.partial(CorruptLeaf, file.file_id, 0, self._store_id)
        return self._sender.put_object(doing, {**self._names(file), **self._kind(file)}, Payload(body, meter), damaged)

    def begin(self, file: FileSpec) -> str:
        """Begin a multipart upload. The object will be private: no ACL is given."""
        return self._begin(f"beginning an upload to {self.object_name(file)}", **self._names(file), **self._kind(file))

    def put_part(self, file: FileSpec, upload_id: str, number: int, body: Body, meter: Meter) -> Part:
        """Send one part."""
        doing = f"sending part {number} of {self.object_name(file)}"
        upload = {**self._names(file), "UploadId": upload_id, "PartNumber": number}
        damaged = functools.partial(CorruptLeaf, file.file_id, number - 1, self._store_id)
        etag, sha256 = self._sender.put_part(doing, upload, Payload(body, meter), damaged)
        return Part(number, body.size, etag=etag, sha256=sha256)

    def list_parts(self, file: FileSpec, upload_id: str) -> list[Part]:
        """All parts that the server has, with their checksums where it keeps them."""
        return self._parts(self.object_name(file), upload_id)

    def finish(self, file: FileSpec, upload_id: str, parts: Sequence[Part]) -> None:
        """Make the parts one object."""
        doing = f"completing the upload to {self.object_name(file)}"
        listed = [s3_wire.completed_part(part) for part in sorted(parts, key=lambda part: part.number)]
        with self._access.attempt(doing, upload=True) as client:
            reply = client.complete_multipart_upload(
                **self._names(file), UploadId=upload_id, MultipartUpload={"Parts": listed}
            )
        # The status is sent before the work is done, and an error can follow in the body; botocore sees that one. An
        # answer that was cut short by a proxy says neither.
        if not reply.get("ETag"):
            raise Transient(f"{doing}: the server did not confirm it")

    def abort(self, file: FileSpec, upload_id: str) -> None:
        """Forget an upload."""
        self._abort(self.object_name(file), upload_id)

    def abandon(self, object_name: str, upload_id: str) -> bool:
        """Forget an upload by name; True when nothing of it is left."""
        self._abort(object_name, upload_id)
        try:
            return not self._parts(object_name, upload_id)
        except UploadGone:
            return True

    def delete(self, file: FileSpec) -> None:
        """Remove the object."""
        with (
            contextlib.suppress(ObjectMissing),
            self._access.attempt(f"removing {self.object_name(file)}") as client,
        ):
            client.delete_object(**self._names(file))

    def cut(self) -> None:
        """Cut all connections; calls in flight raise ConnectionLost."""
        self._access.cut()

    def close(self) -> None:
        """Let go of connections."""
        self._access.close()

    def unfinished(self) -> list[Unfinished]:
        """Multipart uploads under our prefix that are neither complete nor aborted; maybe another device's."""
        bucket, prefix = self._settings.bucket, self._settings.prefix
        with self._access.attempt(f"listing unfinished uploads in {bucket}/{prefix}") as client:
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
            return [
                Unfinished(f"{bucket}/{upload['Key']}", upload["UploadId"], upload["Initiated"])
                for page in pages
                for upload in page.get("Uploads", [])
            ]

    def unstarted(self, object_name: str, since: float) -> list[str]:
        """The IDs of uploads to exactly this name that were begun after `since` and of which no part is there."""
        bucket, _, key = object_name.partition("/")
        begun: list[str] = []
        with (
            contextlib.suppress(UploadGone),  # rclone says so where there is none
            self._access.attempt(f"listing unfinished uploads to {object_name}", upload=True) as client,
        ):
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key)
            begun += [
                str(upload["UploadId"])
                for page in pages
                for upload in page.get("Uploads", [])
                if upload["Key"] == key and upload["Initiated"].timestamp() >= since
            ]
        return [upload_id for upload_id in begun if not self._has_parts(object_name, upload_id)]

    def probe(self) -> str:
        """Try whether the bucket can be reached and written, leaving nothing behind; says so in a sentence.

        Begins an upload, sends a byte with a wrong SHA-256 (a server that verifies refuses it), and aborts.

        Raises:
            TransferError: It cannot, and why.
        """
        self.reach()
        bucket, key = self._settings.bucket, f"{self._settings.prefix}dmedia-transfer-probe"
        upload: dict[str, Any] = {"Bucket": bucket, "Key": key}
        upload["UploadId"] = self._begin(f"writing to {bucket}/{self._settings.prefix}", **upload)
        wrong = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": s3_wire.encoded(bytes(32))}
        takes_sha256 = self._sender.takes_sha256(Way.PARTS)
        try:
            with self._access.attempt(f"writing to {bucket}/{key}", upload=True, damaged=_Refused) as client:
                client.upload_part(**upload, **(wrong if takes_sha256 else {}), PartNumber=1, Body=b"x")
        except _Refused:
            self._verifies_sha256 = True
        finally:
            self._abort(f"{bucket}/{key}", upload["UploadId"])
        verb = "refuses" if self._verifies_sha256 else "does not refuse"
        return f"bucket {bucket} can be reached and written; the server {verb} parts with a wrong SHA-256"

    def reach(self) -> None:
        """Try whether the credentials reach the bucket.

        Raises:
            TransferError: They do not, and why.
        """
        bucket = self._settings.bucket
        try:
            with self._access.attempt(f"reaching bucket {bucket}") as client:
                client.head_bucket(Bucket=bucket)
        except ObjectMissing:  # the answer to a HEAD does not say what is missing
            raise Permanent(f"reaching bucket {bucket}: there is no such bucket") from None

    def _names(self, file: FileSpec) -> dict[str, Any]:
        return {"Bucket": self._settings.bucket, "Key": self._key(file)}

    def _key(self, file: FileSpec) -> str:
        folder = f"{file.file_id[:2]}/" if self._settings.use_subdir else ""
        suffix = f".{file.ext}" if self._settings.use_ext and file.ext else ""
        return f"{self._settings.prefix}{folder}{file.file_id}{suffix}"

    def _kind(self, file: FileSpec) -> dict[str, Any]:
        kind = {"ContentType": file.mime, "StorageClass": self._settings.storage_class}
        return {name: value for name, value in kind.items() if value}

    def _begin(self, doing: str, **names: Any) -> str:
        reply = self._sender.begin(doing, names)
        if not reply.get("UploadId"):
            raise Transient(f"{doing}: the server gave no upload ID")
        return str(reply["UploadId"])

    def _parts(self, object_name: str, upload_id: str) -> list[Part]:
        doing = f"listing the parts of the upload to {object_name}"
        bucket, _, key = object_name.partition("/")
        with self._access.attempt(doing, upload=True) as client:
            pages = client.get_paginator("list_parts").paginate(Bucket=bucket, Key=key, UploadId=upload_id)
            parts = {
                raw["PartNumber"]: Part(
                    raw["PartNumber"],
                    raw["Size"],
                    s3_wire.bare_etag(raw.get("ETag")),
                    s3_wire.decoded(raw.get("ChecksumSHA256")),
                )
                for page in pages
                for raw in page.get("Parts", [])
            }
        return [parts[number] for number in sorted(parts)]

    def _has_parts(self, object_name: str, upload_id: str) -> bool:
        try:
            return bool(self._parts(object_name, upload_id))
        except UploadGone:  # rclone says so of an upload that has no part yet
            return False

    def _abort(self, object_name: str, upload_id: str) -> None:
        bucket, _, key = object_name.partition("/")
        with (
            contextlib.suppress(UploadGone),
            self._access.attempt(f"aborting the upload to {object_name}", upload=True) as client,
        ):
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
