"""A store in memory, or in a folder that several processes share; for tests, and for trying things.

It behaves as S3 does: parts may come in any order and replace each other, an upload that was finished or aborted is
gone, an answer tells checksums. Settings make it a poorer or slower store:

| setting | default | |
| --- | --- | --- |
| `folder` | none | a folder's name below `$DMEDIA_MEMORY_ROOT`; without it things are in this process's memory |
| `verifies_sha256` | true | whether it refuses what does not match its SHA-256 |
| `tells_sha256` | true | whether it tells SHA-256s |
| `parallel_parts` | true | as `Capabilities` |
| `max_parts` | 10000 | as `Capabilities` |
| `put_max_bytes` | 8 MiB | as `Capabilities` |
| `rate_bps` | none | bytes per second of each connection |

The folder is a plain name, and its place is said by the environment: a document that comes from another device names
no path of this machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dmedia_transfer.errors import (
    ConnectionLost,
    CorruptLeaf,
    InvalidDocument,
    ObjectMissing,
    SizeDisputed,
    UploadGone,
)
from dmedia_transfer.leaves import LEAF_BYTES
from dmedia_transfer.model import FileSpec, StoreSpec
from dmedia_transfer.ports import Body, Capabilities, Meter, ObjectInfo, Part

PIECE_BYTES: Final = 1024 * 1024


class _Blobs(Protocol):
    """Named bytes."""

    def write(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Keep bytes under a name, all at once at the end."""

    def read(self, name: str, start: int, into: memoryview) -> int:
        """Read from an offset; how many bytes there were. Raises KeyError."""

    def names(self, folder: str) -> list[str]:
        """The names in a folder, without it."""

    def remove(self, folder: str) -> None:
        """Remove a name, or a folder with all that is in it."""


class _InMemory:
    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def write(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        data = b"".join(bytes(piece) for piece in pieces)
        with self._lock:
            self._blobs[name] = data

    def read(self, name: str, start: int, into: memoryview) -> int:
        data = self._blobs[name][start : start + len(into)]
        into[: len(data)] = data
        return len(data)

    def names(self, folder: str) -> list[str]:
        with self._lock:
            return [name.removeprefix(f"{folder}/") for name in self._blobs if name.startswith(f"{folder}/")]

    def remove(self, folder: str) -> None:
        with self._lock:
            for name in [name for name in self._blobs if name == folder or name.startswith(f"{folder}/")]:
                del self._blobs[name]


class _InFolder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with unfinished.open("wb", buffering=0) as file:
                for piece in pieces:
                    file.write(piece)
            unfinished.rename(path)
        except FileNotFoundError:  # the upload was aborted meanwhile
            raise KeyError(name) from None
        finally:
            unfinished.unlink(missing_ok=True)

    def read(self, name: str, start: int, into: memoryview) -> int:
        try:
            with (self._root / name).open("rb", buffering=0) as file:
                file.seek(start)
                return file.readinto(into)
        except FileNotFoundError:
            raise KeyError(name) from None

    def names(self, folder: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [path.name for path in (self._root / folder).iterdir() if not path.name.startswith(".")]
        return []

    def remove(self, folder: str) -> None:
        path = self._root / folder
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


_shared: dict[str, _InMemory] = {}  # by store ID: what is in the memory of this process


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    folder: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    verifies_sha256: bool = True
    tells_sha256: bool = True
    parallel_parts: bool = True
    max_parts: int = Field(10_000, ge=1)
    put_max_bytes: int = Field(LEAF_BYTES, ge=0)
    rate_bps: float = Field(0.0, ge=0)


class MemoryBackend:
    """A store in memory, as one worker sees it; all of one store ID in a process show the same things."""

    def __init__(self, spec: StoreSpec, *, stall_s: float = 60.0, connections: int = 4) -> None:
        """A store with the settings of `spec`; it never stalls and takes any number of connections.

        Raises:
            InvalidDocument: A setting that cannot be used.
        """
        self._store_id = spec.store_id
        try:
            self._settings = _Settings.model_validate(dict(spec.settings))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InvalidDocument(spec.store_id, ".".join(map(str, first["loc"])), first["msg"]) from None
        self._blobs: _Blobs
        if self._settings.folder:
            root = os.environ.get("DMEDIA_MEMORY_ROOT")
            if not root:
                raise InvalidDocument(spec.store_id, "folder", "is given, but DMEDIA_MEMORY_ROOT is not set here")
            self._blobs = _InFolder(Path(root) / self._settings.folder)
        else:
            self._blobs = _shared.setdefault(spec.store_id, _InMemory())
        self._cut = threading.Condition()
        self._cuts = 0

    @property
    def capabilities(self) -> Capabilities:
        """As the settings say."""
        return Capabilities(
            max_parts=self._settings.max_parts,
            parallel_parts=self._settings.parallel_parts,
            verifies_sha256=self._settings.verifies_sha256,
            put_max_bytes=self._settings.put_max_bytes,
        )

    def object_name(self, file: FileSpec) -> str:
        """Where the file goes."""
        return f"{self._store_id}/{file.file_id}"

    def stat(self, file: FileSpec) -> ObjectInfo | None:
        """What is under the file's name, or None."""
        info = self._load(f"info/{file.file_id}")
        if info is None:
            return None
        tells = self._settings.tells_sha256
        return ObjectInfo(
            size=info["size"],
            sha256=_unhex(info["sha256"]) if tells else None,
            composite_sha256=_unhex(info["composite_sha256"]) if tells else None,
            etag=info["etag"],
        )

    def fetch(self, file: FileSpec, start: int, into: memoryview, meter: Meter) -> None:
        """Fill `into` with the object's bytes from offset `start`."""
        cuts = self._cuts
        for offset in range(0, len(into), PIECE_BYTES):
            piece = into[offset : offset + PIECE_BYTES]
            try:
                count = self._blobs.read(f"objects/{file.file_id}", start + offset, piece)
            except KeyError:
                raise ObjectMissing(f"store {self._store_id} has no object {file.file_id}") from None
            self._move(cuts, count)
            meter(count)
            if count < len(piece):
                raise SizeDisputed(f"object {file.file_id} in store {self._store_id} ends at {start + offset + count}")

    def put(self, file: FileSpec, body: Body, meter: Meter) -> bytes | None:
        """Store a whole small file."""
        received = _Received(self._receive(body, meter))
        data = b"".join(bytes(piece) for piece in received)
        self._refuse_damaged(file, 0, body, received)
        self._publish(file, [data], received.md5, sha256=received.sha256)
        return received.sha256 if self._settings.tells_sha256 else None

    def begin(self, file: FileSpec) -> str:
        """Begin an upload in parts."""
        upload_id = secrets.token_hex(16)
        self._save(f"uploads/{upload_id}/target", {"name": self.object_name(file), "time": time.time()})
        return upload_id

    def put_part(self, file: FileSpec, upload_id: str, number: int, body: Body, meter: Meter) -> Part:
        """Receive a part."""
        folder = self._folder(upload_id, self.object_name(file))
        received = _Received(self._receive(body, meter))
        temporary = f"{folder}/data-{number}-{secrets.token_hex(4)}"
        self._blobs.write(temporary, received)
        try:
            self._refuse_damaged(file, number - 1, body, received)
        except CorruptLeaf:
            self._blobs.remove(temporary)
            raise
        self._folder(upload_id, self.object_name(file))  # it may have been aborted meanwhile
        part = {"size": received.size, "md5": received.md5.hex(), "sha256": received.sha256.hex(), "data": temporary}
        self._save(f"{folder}/part-{number}", part)
        return self._part(number, part)

    def list_parts(self, file: FileSpec, upload_id: str) -> list[Part]:
        """All parts of an upload, in order."""
        return [self._part(number, info) for number, info in self._parts(upload_id, self.object_name(file))]

    def finish(self, file: FileSpec, upload_id: str, parts: Sequence[Part]) -> None:
        """Make the parts one object."""
        folder = self._folder(upload_id, self.object_name(file))
        there = dict(self._parts(upload_id, self.object_name(file)))
        wanted = [there.get(part.number) for part in parts]
        if not wanted or any(
            info is None or info["md5"] != part.etag for part, info in zip(parts, wanted, strict=True)
        ):
            raise UploadGone(f"upload {upload_id} does not have these parts")
        infos = [info for info in wanted if info is not None]
        md5 = hashlib.md5(b"".join(bytes.fromhex(info["md5"]) for info in infos), usedforsecurity=False).digest()
        composite = hashlib.sha256(b"".join(bytes.fromhex(info["sha256"]) for info in infos)).digest()
        self._publish(file, self._joined(infos), md5, composite=composite, count=len(infos))
        self._blobs.remove(folder)

    def abort(self, file: FileSpec, upload_id: str) -> None:
        """Forget an upload."""
        self.abandon(self.object_name(file), upload_id)

    def abandon(self, object_name: str, upload_id: str) -> bool:
        """Forget an upload by the object's name; nothing is left of it."""
        with contextlib.suppress(UploadGone):
            self._blobs.remove(self._folder(upload_id, object_name))
        return True

    def unstarted(self, object_name: str, since: float) -> list[str]:
        """The IDs of uploads to this name that were begun after `since` and of which no part is there."""
        found = []
        for upload_id in sorted({name.partition("/")[0] for name in self._blobs.names("uploads")}):
            target = self._load(f"uploads/{upload_id}/target")
            if target is None or target["name"] != object_name or target["time"] < since:
                continue
            if not self._parts(upload_id, object_name):
                found.append(upload_id)
        return found

    def delete(self, file: FileSpec) -> None:
        """Remove the object."""
        self._blobs.remove(f"info/{file.file_id}")
        self._blobs.remove(f"objects/{file.file_id}")

    def cut(self) -> None:
        """Calls in flight raise ConnectionLost."""
        with self._cut:
            self._cuts += 1
            self._cut.notify_all()

    def close(self) -> None:
        """Nothing is held."""

    def _receive(self, body: Body, meter: Meter) -> Iterator[bytes | memoryview]:
        cuts = self._cuts
        for piece in body.pieces():
            self._move(cuts, len(piece))
            meter(len(piece))
            yield piece

    def _move(self, cuts: int, count: int) -> None:
        """Take the time that the bytes need."""
        rate_bps = self._settings.rate_bps
        with self._cut:
            if rate_bps:
                self._cut.wait_for(lambda: self._cuts != cuts, timeout=count / rate_bps)
            if self._cuts != cuts:
                raise ConnectionLost(f"the connection to store {self._store_id} was cut")

    def _refuse_damaged(self, file: FileSpec, leaf: int, body: Body, received: _Received) -> None:
        if self._settings.verifies_sha256 and body.sha256 is not None and body.sha256 != received.sha256:
            raise CorruptLeaf(file.file_id, leaf, self._store_id, "the store refused it")

    def _publish(
        self,
        file: FileSpec,
        pieces: Iterable[bytes | memoryview],
        md5: bytes,
        *,
        sha256: bytes | None = None,
        composite: bytes | None = None,
        count: int = 0,
    ) -> None:
        counted = _Received(pieces)
        self._blobs.write(f"objects/{file.file_id}", counted)
        info = {
            "size": counted.size,
            "sha256": sha256.hex() if sha256 else None,
            "composite_sha256": composite.hex() if composite else None,
            "etag": md5.hex() + (f"-{count}" if count else ""),
        }
        self._save(f"info/{file.file_id}", info)

    def _joined(self, infos: Iterable[Mapping[str, Any]]) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(PIECE_BYTES))
        for info in infos:
            for start in range(0, info["size"], PIECE_BYTES):
                yield buffer[: self._blobs.read(info["data"], start, buffer)]

    def _folder(self, upload_id: str, object_name: str) -> str:
        target = self._load(f"uploads/{upload_id}/target") if upload_id.isalnum() else None
        if target is None or target["name"] != object_name:
            raise UploadGone(f"store {self._store_id} knows no upload {upload_id} to {object_name}")
        return f"uploads/{upload_id}"

    def _parts(self, upload_id: str, object_name: str) -> list[tuple[int, dict[str, Any]]]:
        folder = self._folder(upload_id, object_name)
        numbers = sorted(
            int(name.removeprefix("part-")) for name in self._blobs.names(folder) if name.startswith("part-")
        )
        loaded = [(number, self._load(f"{folder}/part-{number}")) for number in numbers]
        return [(number, info) for number, info in loaded if info is not None]

    def _part(self, number: int, info: Mapping[str, Any]) -> Part:
        sha256 = bytes.fromhex(info["sha256"]) if self._settings.tells_sha256 else None
        return Part(number, info["size"], info["md5"], sha256)

    def _save(self, name: str, value: Mapping[str, Any]) -> None:
        self._blobs.write(name, [json.dumps(value).encode()])

    def _load(self, name: str) -> dict[str, Any] | None:
        data = memoryview(bytearray(4096))
        try:
            loaded: dict[str, Any] = json.loads(bytes(data[: self._blobs.read(name, 0, data)]))
        except KeyError:
            return None
        return loaded


class _Received:
    """Hashes and counts pieces on their way."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = pieces
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes | memoryview]:
        for piece in self._pieces:
            self._md5.update(piece)
            self._sha256.update(piece)
            self.size += len(piece)
            yield piece

    @property
    def md5(self) -> bytes:
        return self._md5.digest()

    @property
    def sha256(self) -> bytes:
        return self._sha256.digest()


def _unhex(text: str | None) -> bytes | None:
    return bytes.fromhex(text) if text else None
