"""`dmedia_transfer.MultipartUpload`: an upload to S3 as an object, for programs that have a boto3 client.

    upload = MultipartUpload(boto3.client("s3"), "my-bucket", "film.mkv", "/home/me/film.mkv")
    upload.on("part", lambda event: print(event.bytes_sent))
    upload.on("paused", lambda event: Path("upload.json").write_text(json.dumps(event.session)))
    upload.start()
    ...
    upload.pause()  # True; `pausing` comes at once, `paused` when the parts in flight are there
    ...
    session = json.loads(Path("upload.json").read_text())  # maybe in another process, days later
    MultipartUpload(client, "my-bucket", "film.mkv", "/home/me/film.mkv", session=session).start()

All events are in `multipart.events`. No daemon, no database, and no retries but those of the client: after an `error`,
`resume()` tries again from what has arrived.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

from dmedia_transfer import multipart
from dmedia_transfer.backends.s3 import MIN_PART_BYTES, S3Backend
from dmedia_transfer.crew import Crew
from dmedia_transfer.errors import CorruptLeaf, FileMissing, InvalidInput, SourceChanged, Transient
from dmedia_transfer.leaves import Span
from dmedia_transfer.model import FileSpec, StoreSpec
from dmedia_transfer.multipart.bodies import composite_etag, composite_sha256
from dmedia_transfer.multipart.parts import Stream
from dmedia_transfer.multipart.session import Session
from dmedia_transfer.ports import Body, Capabilities, Meter, Part

PART_BYTES: Final = 8 * 1024 * 1024
STALL_S: Final = 60.0
SENDS_PER_PART: Final = 3  # of one that is damaged on the way


class MultipartUpload(multipart.MultipartUpload):
    """An upload to S3 that pauses, resumes and exports its session."""

    def __init__(
        self,
        client: Any,
        bucket: str,
        key: str,
        source: str | os.PathLike[str] | BinaryIO | Stream,
        *,
        part_bytes: int = PART_BYTES,
        connections: int = 4,
        grace_s: float | None = None,
        session: Mapping[str, Any] | None = None,
        extra_args: Mapping[str, Any] | None = None,
    ) -> None:
        """An upload that is not begun yet; `start()` begins it.

        Args:
            client: boto3's S3 client, used as it is.
            bucket: The bucket's name.
            key: The object's key.
            source: A path; a binary file, which is sent from where it stands to its end; or anything else with `read`,
                which is read to its end, once. To go on with a session that began with a path or a seekable file, give
                the same again; with one that began with a stream, give a stream that goes on at `bytes_sent` (where the
                session has something in `unsent`: after that).
            part_bytes: The size of a part, at least 5 MiB; it grows where the file has more than 10,000 of them.
            connections: Parts that are sent at once; so many are in memory where `source` is a stream.
            grace_s: Seconds that parts in flight may take at a pause before they are cut and sent again later; None
                lets them finish.
            session: What `paused` told, or `session()` gave, in an earlier process.
            extra_args: For `create_multipart_upload`: ContentType, Metadata, StorageClass, ...

        Raises:
            InvalidInput: The session is of another object, or of another file; the source cannot be read as bytes.
            FileMissing: There is no such file.
        """
        old = Session.read(session) if session is not None else None
        if session is not None and (session.get("bucket"), session.get("key")) != (bucket, key):
            raise InvalidInput(f"the session is of {session.get('bucket')}/{session.get('key')}, not of {bucket}/{key}")
        if part_bytes < MIN_PART_BYTES:
            raise InvalidInput(f"S3 takes parts of {MIN_PART_BYTES} bytes and more, not of {part_bytes}")
        crew = Crew(connections)
        self._bucket = bucket
        self._key = key
        target = _Target(client, bucket, key, connections=connections, extra_args=dict(extra_args or {}))
        super().__init__(
            target,
            _parts(source, old, part_bytes, target.capabilities.max_parts, interrupted=lambda: self.interrupting),
            crew=crew,
            connections=connections,
            grace_s=grace_s,
            upload_id=old.upload_id if old is not None else "",
            known=old.parts if old is not None else (),
        )

    def session(self) -> dict[str, Any]:
        """The upload as plain JSON, for a later process; see `multipart.MultipartUpload.session`."""
        return {"bucket": self._bucket, "key": self._key, **super().session()}


class _Backend(S3Backend):
    """One object, by its own key."""

    def __init__(self, client: Any, bucket: str, key: str, *, connections: int, extra_args: dict[str, Any]) -> None:
        spec = StoreSpec(bucket, "s3", {"bucket": bucket})
        super().__init__(spec, stall_s=STALL_S, connections=connections, client=client)
        self._object_key = key
        self._extra_args = extra_args

    def _key(self, file: FileSpec) -> str:
        return self._object_key

    def _kind(self, file: FileSpec) -> dict[str, Any]:
        return self._extra_args


class _Target:
    """The object to be: a `multipart.Target`."""

    parallel_parts = True

    def __init__(self, client: Any, bucket: str, key: str, *, connections: int, extra_args: dict[str, Any]) -> None:
        self._backend = _Backend(client, bucket, key, connections=connections, extra_args=extra_args)
        self._file = FileSpec(key, 0, b"")  # names the object in messages; nothing is known of its content
        self._name = f"{bucket}/{key}"

    @property
    def capabilities(self) -> Capabilities:
        return self._backend.capabilities

    def begin(self) -> str:
        return self._backend.begin(self._file)

    def put_part(self, upload_id: str, number: int, body: Body, meter: Meter) -> Part:
        for _ in range(SENDS_PER_PART):
            try:
                return self._backend.put_part(self._file, upload_id, number, body, meter)
            except CorruptLeaf as error:
                damage = error.detail
        raise Transient(f"part {number} of {self._name} is damaged on the way every time: {damage}")

    def list_parts(self, upload_id: str) -> list[Part]:
        return self._backend.list_parts(self._file, upload_id)

    def finish(self, upload_id: str, parts: Sequence[Part]) -> None:
        self._backend.finish(self._file, upload_id, parts)

    def is_finished(self, parts: Sequence[Part]) -> bool:
        info = self._backend.stat(self._file)
        if info is None or info.size != sum(part.size for part in parts):
            return False
        if info.composite_sha256 is not None:
            return info.composite_sha256 == composite_sha256(parts)
        return info.etag == composite_etag(parts)

    def abort(self, upload_id: str) -> None:
        self._backend.abort(self._file, upload_id)

    def cut(self) -> None:
        self._backend.cut()


class _Reads(Protocol):
    """Random access to what is sent."""

    size: int

    def read(self, start: int, into: memoryview) -> None: ...

    def rest(self) -> None: ...


class _PathReader:
    """A file by its path; open only while it is sent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._fd: int | None = None
        try:
            self.size = path.stat().st_size
        except OSError as error:
            raise FileMissing(f"{path} cannot be read: {error.strerror}") from None
        if not path.is_file():
            raise InvalidInput(f"{path} is not a file")

    def read(self, start: int, into: memoryview) -> None:
        with self._lock:
            if self._fd is None:
                try:
                    self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                except OSError as error:
                    raise FileMissing(f"{self._path} cannot be read: {error.strerror}") from None
            fd = self._fd
        done = 0
        while done < len(into):
            count = os.preadv(fd, [into[done:]], start + done)
            if not count:
                raise SourceChanged(f"{self._path} has become shorter")
            done += count

    def rest(self) -> None:
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None


class _SeekableReader:
    """A file object that can seek; sent from where it stands."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._base = file.tell()
        self.size = file.seek(0, os.SEEK_END) - self._base
        file.seek(self._base)

    def read(self, start: int, into: memoryview) -> None:
        with self._lock:
            self._file.seek(self._base + start)
            done = 0
            while done < len(into):
                data = self._file.read(len(into) - done)
                if not data:
                    raise SourceChanged("the file has become shorter")
                into[done : done + len(data)] = data
                done += len(data)

    def rest(self) -> None:
        pass


def _parts(
    source: Any, old: Session | None, part_bytes: int, max_parts: int, *, interrupted: Any
) -> multipart.PartSource:
    if isinstance(source, str | os.PathLike):
        return _file_parts(_PathReader(Path(source)), old, part_bytes, max_parts)
    if not callable(getattr(source, "read", None)) or hasattr(source, "encoding"):
        raise InvalidInput("what is sent is a path, or an object whose `read` gives bytes")
    began_with_stream = old is not None and old.size is None
    if not began_with_stream and callable(getattr(source, "seekable", None)) and source.seekable():
        return _file_parts(_SeekableReader(cast(BinaryIO, source)), old, part_bytes, max_parts)
    if old is not None and old.size is not None:
        raise InvalidInput("the session began with a file, which is needed again to go on, and not a stream")
    return multipart.StreamParts(
        source,
        old.part_bytes if old is not None else part_bytes,
        max_parts=max_parts,
        unsent=old.unsent if old is not None else (),
        interrupted=interrupted,
    )


def _file_parts(reader: _Reads, old: Session | None, part_bytes: int, max_parts: int) -> multipart.PartSource:
    if old is not None:
        if old.size is None:
            raise InvalidInput("the session began with a stream, and goes on with one")
        if old.size != reader.size:
            raise InvalidInput(f"the session is of {old.size} bytes, the file has {reader.size}")
        part_bytes = old.part_bytes
    elif reader.size > part_bytes * max_parts:
        part_bytes = -(-reader.size // max_parts)
    spans = [
        Span(index, start, min(part_bytes, reader.size - start))
        for index, start in enumerate(range(0, reader.size, part_bytes))
    ]
    return multipart.FileParts(reader.read, spans, rest=reader.rest)
