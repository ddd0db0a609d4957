"""The peer backend: a FileStore of another machine of the library, over HTTPS with pinned certificates.

A `StoreSpec` of it has these settings, which the daemon knows from the machine's document and from the LAN:

| setting | |
| --- | --- |
| `machine_id` | the machine that has the FileStore |
| `addresses` | where it may be, best first: `host:port` |
| `certificates` | those that it may show, as in its document |
| `near` | whether it is on a network that this machine is connected to directly; for `reach` |
| `near_addresses` | those of the addresses that are; where others cost by the byte, only these are left |
| `identity_dir` | the state folder of this machine, with its own key |

The peer verifies each leaf against the file document as it arrives and publishes a file with its last byte; what it
says to have under a file's ID was verified. Of a file that it does not have in full its verified leaves can be had.
Uploads are tus 1.0: what is confirmed is durable, and goes in from the first part to the last.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ssl
from collections.abc import Iterable, Iterator, Sequence
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, Final

from dmedia_transfer import leaves
from dmedia_transfer.backends import answers, peer_answers
from dmedia_transfer.backends.bodies import Payload
from dmedia_transfer.backends.connections import ConnectionPool, Origin
from dmedia_transfer.backends.exchange import Exchanges, Request
from dmedia_transfer.backends.peer_dial import PeerConnection, Route
from dmedia_transfer.errors import (
    ConnectionLost,
    CorruptLeaf,
    InvalidDocument,
    InvalidInput,
    LeafMissing,
    ObjectMissing,
    Permanent,
    SizeDisputed,
    Transient,
    UploadGone,
    shown,
)
from dmedia_transfer.model import FileSpec, StoreSpec
from dmedia_transfer.peers import tls, wire
from dmedia_transfer.peers.certificates import Certificate
from dmedia_transfer.peers.section import PeerAddress
from dmedia_transfer.ports import Body, Capabilities, Meter, ObjectInfo, Part
from dmedia_transfer.serving import tuswords

_TUS: Final = (tuswords.TUS_RESUMABLE, tuswords.TUS_VERSION)
_CAPABILITIES: Final = Capabilities(
    max_part_bytes=leaves.LEAF_BYTES,
    max_parts=2**31,  # a part is a leaf, in files of any size
    parallel_parts=False,
    verifies_sha256=True,
    put_max_bytes=leaves.LEAF_BYTES,
)


class PeerBackend:
    """One FileStore of one other machine."""

    def __init__(
        self, spec: StoreSpec, *, stall_s: float, connections: int, part_bytes: int = leaves.LEAF_BYTES
    ) -> None:
        """`part_bytes` is the size of all parts but the last; other ones than leaves are for tests.

        Raises:
            InvalidDocument: A setting cannot be used.
        """
        self._store_id = spec.store_id
        self._part_bytes = part_bytes
        self._route = _route(spec)
        self._machine = f"machine {self._route.machine_id}"
        self._origin = Origin("https", self._route.machine_id, 0)
        self._host = f"{self._route.machine_id.lower()}.dmedia.invalid"  # as in its certificate
        pool = ConnectionPool(
            stall_s=stall_s,
            max_idle=connections + 1,
            make=lambda origin: PeerConnection(origin, self._route, stall_s),
        )
        self._exchanges = Exchanges(pool)

    @property
    def capabilities(self) -> Capabilities:
        """Parts are leaves and go one after another; the peer verifies each."""
        return _CAPABILITIES

    def object_name(self, file: FileSpec) -> str:
        """Machine, FileStore and file."""
        return f"{self._route.machine_id}/{self._store_id}/{file.file_id}"

    def stat(self, file: FileSpec) -> ObjectInfo | None:
        """What the machine has of the file, if it has all of it."""
        doing = f"asking {self._machine} for file {file.file_id}"
        one_leaf = file.size <= leaves.LEAF_BYTES
        wants = [("Want-Repr-Digest", "sha-256=10")] if one_leaf else []
        with self._attempt(doing):
            response, _ = self._ask("HEAD", self._path(file), wants)
            if response.status == 404 or wire.LEAVES in response.headers:  # maybe all leaves, but not published
                return None
            if response.status != 200:
                raise self._refusal(response, b"", doing)
            size = peer_answers.size(response.headers)
        etag = response.headers.get("ETag", "").strip('"')
        # The file's ID is the digest of its leaves' digests, and the peer holds a file against it before it has it
        # under that name: what S3 calls the composite.
        digests = file.leaf_digests
        is_named = etag == file.file_id and size == file.size and len(digests) > leaves.DIGEST_BYTES
        return ObjectInfo(
            size=size,
            sha256=peer_answers.sha256(response.headers, "Repr-Digest") if one_leaf else None,
            composite_sha256=leaves.file_digest(digests) if is_named else None,
            etag=etag,
        )

    def fetch(self, file: FileSpec, start: int, into: memoryview, meter: Meter) -> None:
        """Fill `into` from offset `start`, received straight into it."""
        end = start + len(into)
        leaf = start // leaves.LEAF_BYTES
        doing = f"reading leaf {leaf} of file {file.file_id} from {self._machine}"
        with self._attempt(doing):
            response, body = self._ask("GET", self._path(file), [("Range", f"bytes={start}-{end - 1}")])
            with contextlib.closing(body):
                if response.status not in {200, 206}:
                    raise self._not_had(response, body, file, leaf, doing)
                length = response.length
                answers.check_range(
                    response.status,
                    response.headers.get("Content-Range"),
                    length,
                    file=file,
                    start=start,
                    end=end,
                    doing=doing,
                )
                self._exchanges.receive(body, into, meter)

    def put(self, file: FileSpec, body: Body, meter: Meter) -> None:
        """Send a small file with one request, an upload that is begun with its bytes; the peer looks what they are."""
        doing = f"sending file {file.file_id} to {self._machine}"
        payload = Payload(body, meter)
        checksum = self._checksum(body.sha256 or _sha256_of(payload))
        headers = [*self._wish(file), ("Content-Type", tuswords.UPLOAD_CONTENT_TYPE), checksum]
        with self._attempt(doing):
            response, text = self._say("POST", wire.UPLOADS, headers, payload, repeatable=True)
            if response.status == 409 and "Content-Location" in response.headers:
                return  # it has it already
            if response.status != 201:
                raise self._refused_bytes(response, text, file, 0, doing)
            if peer_answers.offset(response.headers, file.size) != file.size:
                raise ConnectionLost("it did not take all of it")

    def begin(self, file: FileSpec) -> str:
        """Begin an upload."""
        doing = f"beginning to send file {file.file_id} to {self._machine}"
        with self._attempt(doing):
            response, text = self._say("POST", wire.UPLOADS, [*self._wish(file), ("Content-Length", "0")])
            if response.status == 409:
                raise Transient(f"{doing}: it has the file by now")
            if response.status != 201:
                raise self._refusal(response, text, doing)
            return peer_answers.upload_id(response.headers)

    def put_part(self, file: FileSpec, upload_id: str, number: int, body: Body, meter: Meter) -> Part:
        """Send one part, or what is missing of it; one that is there already is not sent again."""
        start = (number - 1) * self._part_bytes
        leaf = start // leaves.LEAF_BYTES
        doing = f"sending leaf {leaf} of file {file.file_id} to {self._machine}"
        payload = Payload(body, meter)
        digest = body.sha256 or _sha256_of(payload)
        with self._attempt(doing):
            at = self._patch(file, upload_id, start, payload, digest, leaf, doing)
            if start < at < start + body.size:  # the rest of a part that was cut
                at = self._patch(file, upload_id, at, Payload(_Rest(body, at - start), meter), None, leaf, doing)
            if at < start + body.size:
                raise Transient(f"{doing}: it is at byte {at} of the upload, and not at {start}")
        return Part(number, body.size, sha256=digest)

    def list_parts(self, file: FileSpec, upload_id: str) -> list[Part]:
        """All parts that are there in full."""
        doing = f"asking {self._machine} how far the upload of file {file.file_id} is"
        with self._attempt(doing):
            offset = self._offset(upload_id, file.size, doing)
        starts = range(0, file.size, self._part_bytes)
        sizes = [min(self._part_bytes, file.size - start) for start in starts]
        return [
            Part(index + 1, size, sha256=self._digest(file, index))
            for index, (start, size) in enumerate(zip(starts, sizes, strict=True))
            if start + size <= offset
        ]

    def finish(self, file: FileSpec, upload_id: str, parts: Sequence[Part]) -> None:
        """See that the file is published, as it is with its last byte, and let the peer forget the upload."""
        doing = f"finishing the upload of file {file.file_id} to {self._machine}"
        with self._attempt(doing):
            offset = self._offset(upload_id, file.size, doing)
            if offset != file.size:
                raise Transient(f"{doing}: it has {offset} of {file.size} bytes")
            self._delete(upload_id, doing)

    def abort(self, file: FileSpec, upload_id: str) -> None:
        """Forget an upload."""
        self.abandon(self.object_name(file), upload_id)

    def abandon(self, object_name: str, upload_id: str) -> bool:
        """Forget an upload; nothing of it is left then, as a newer request ends an older one."""
        doing = f"ending the upload to {object_name}"
        if not wire.is_upload_id(upload_id):
            return True  # no peer ever gave it
        with self._attempt(doing):
            self._delete(upload_id, doing)
        return True

    def delete(self, file: FileSpec) -> None:
        """Files of another machine are not ours to remove.

        Raises:
            Permanent: Always.
        """
        raise Permanent(f"file {file.file_id} on {self._machine} is removed there, and not from here")

    def cut(self) -> None:
        """Cut all connections; calls in flight raise ConnectionLost."""
        self._exchanges.pool.cut()

    def close(self) -> None:
        """Let go of connections."""
        self._exchanges.pool.cut()

    # Requests

    @contextlib.contextmanager
    def _attempt(self, doing: str) -> Iterator[None]:
        """One attempt at something; lets only errors of ours out."""
        try:
            with self._exchanges.call():
                yield
        except ConnectionLost as error:
            if isinstance(error.__cause__, ssl.SSLError):  # in TLS 1.3 it refuses our certificate after the handshake
                raise tls.explained(error.__cause__, who=self._machine) from error
            raise type(error)(f"{doing}: {error}") from error
        except ValueError as error:
            raise ConnectionLost(f"{doing}: the answer is not one of a peer") from error

    def _ask(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: Payload | None = None,
        *,
        repeatable: bool = True,
    ) -> tuple[HTTPResponse, Any]:
        every = [("Host", self._host), *headers]
        return self._exchanges.ask(self._origin, Request(method, target, every, body, repeatable))

    def _say(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        body: Payload | None = None,
        *,
        repeatable: bool = False,
    ) -> tuple[HTTPResponse, bytes]:
        """A request of tus, and the beginning of what is said to it."""
        sent = [_TUS, *headers]
        if body is not None:
            sent.append(("Content-Length", str(len(body))))
        response, answer = self._ask(method, target, sent, body, repeatable=repeatable)
        with contextlib.closing(answer):
            return response, _beginning(answer)

    def _patch(
        self,
        file: FileSpec,
        upload_id: str,
        start: int,
        payload: Payload,
        digest: bytes | None,
        leaf: int,
        doing: str,
    ) -> int:
        """Send bytes from offset `start`; how far the upload is then."""
        headers = [("Content-Type", tuswords.UPLOAD_CONTENT_TYPE), (tuswords.UPLOAD_OFFSET, str(start))]
        if digest is not None:
            headers.append(self._checksum(digest))
        # Repeatable: what was taken before the connection broke is not taken twice, as the offset is held against it.
        response, text = self._say("PATCH", self._upload_path(upload_id), headers, payload, repeatable=True)
        match response.status:
            case 204 | 409:
                return peer_answers.offset(response.headers, file.size)
            case 404 | 410:
                raise self._gone(doing)
        raise self._refused_bytes(response, text, file, leaf, doing)

    def _offset(self, upload_id: str, size: int, doing: str) -> int:
        response, _ = self._say("HEAD", self._upload_path(upload_id), [], repeatable=True)
        if response.status in {404, 410}:
            raise self._gone(doing)
        if response.status != 200:
            raise self._refusal(response, b"", doing)
        return peer_answers.offset(response.headers, size)

    def _delete(self, upload_id: str, doing: str) -> None:
        response, text = self._say("DELETE", self._upload_path(upload_id), [], repeatable=True)
        if response.status not in {204, 404, 410}:
            raise self._refusal(response, text, doing)

    # What they say

    def _not_had(self, response: HTTPResponse, body: Any, file: FileSpec, leaf: int, doing: str) -> Exception:
        """Why a range cannot be had."""
        headers, status = response.headers, response.status
        if status in {404, 416} and (said := headers.get(wire.LEAVES)) is not None:
            try:
                there = wire.read_leaves(said, leaves.leaf_count(file.size))
            except InvalidInput:
                there = frozenset()
            return LeafMissing(file.file_id, leaf, self._store_id, there)
        if status == 416:
            return SizeDisputed(f"{doing}: the file is shorter there than the document says")
        text = _beginning(body)
        if status in {404, 410}:
            return ObjectMissing(str(self._refusal(response, text, doing)))
        return self._refusal(response, text, doing)

    def _refused_bytes(self, response: HTTPResponse, text: bytes, file: FileSpec, leaf: int, doing: str) -> Exception:
        error = self._refusal(response, text, doing)
        if response.status != tuswords.CHECKSUM_MISMATCH:
            return error
        said = response.headers.get(wire.LEAF, "")
        if said.isascii() and said.isdecimal() and len(said) < 10:
            leaf = int(said)
        return CorruptLeaf(file.file_id, leaf, self._store_id, str(error))

    def _refusal(self, response: HTTPResponse, text: bytes, doing: str) -> Exception:
        return peer_answers.refusal(response.status, response.headers, text, doing)

    def _gone(self, doing: str) -> UploadGone:
        return UploadGone(f"{doing}: it does not know the upload: it has ended, or has expired")

    # Words

    def _path(self, file: FileSpec) -> str:
        return wire.file_path(file.file_id, self._store_id)

    def _upload_path(self, upload_id: str) -> str:
        if not wire.is_upload_id(upload_id):
            raise UploadGone(f"{shown(upload_id)} is no upload at {self._machine}")
        return wire.upload_path(upload_id)

    def _wish(self, file: FileSpec) -> list[tuple[str, str]]:
        metadata = f"{wire.META_FILE_ID} {_base64(file.file_id)},{wire.META_STORE_ID} {_base64(self._store_id)}"
        return [(tuswords.UPLOAD_LENGTH, str(file.size)), (tuswords.UPLOAD_METADATA, metadata)]

    def _checksum(self, digest: bytes) -> tuple[str, str]:
        return tuswords.UPLOAD_CHECKSUM, f"sha256 {_base64(digest)}"

    def _digest(self, file: FileSpec, index: int) -> bytes | None:
        """The peer has verified what it counts."""
        if self._part_bytes != leaves.LEAF_BYTES or not file.leaf_digests:
            return None
        return leaves.digest_of_leaf(file.leaf_digests, index)


class _Rest:
    """A body without its beginning."""

    sha256 = None

    def __init__(self, body: Body, skip: int) -> None:
        self._body = body
        self._skip = skip
        self.size = body.size - skip

    def pieces(self) -> Iterator[memoryview]:
        """The bytes from where it begins."""
        left = self._skip
        for piece in self._body.pieces():
            if left < len(piece):
                yield piece[left:]
            left = max(0, left - len(piece))


def _route(spec: StoreSpec) -> Route:
    """Read the settings.

    Raises:
        InvalidDocument: One cannot be used.
    """
    settings = spec.settings
    machine_id = settings.get("machine_id")
    if not leaves.is_random_id(machine_id):
        raise InvalidDocument(spec.store_id, "machine_id", f"{shown(machine_id)} is no ID of a machine")
    found: dict[str, list[Any]] = {"addresses": [], "certificates": []}
    for key, parse in (("addresses", PeerAddress.parse), ("certificates", Certificate.parse)):
        for value in settings.get(key, ()):
            try:
                found[key].append(parse(value))
            except InvalidInput as error:
                raise InvalidDocument(spec.store_id, key, str(error)) from None
    return Route(
        str(machine_id), found["addresses"], found["certificates"], Path(str(settings.get("identity_dir", "")))
    )


def _beginning(answer: Any) -> bytes:
    """What is said first; an answer that goes on is not waited for."""
    text: bytes = answer.read(peer_answers.MAX_TEXT_BYTES)
    return text


def _sha256_of(payload: Payload) -> bytes:
    found = hashlib.sha256()
    for piece in payload.pieces():
        found.update(piece)
    return found.digest()


def _base64(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode("ascii")
