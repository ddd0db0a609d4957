"""Uploads: those that were begun here, kept in a folder each, so that a restart takes them up.

    UPLOAD_ID/upload.json    what is uploaded, by whom, and how far it is
    UPLOAD_ID/tail           which leaf is not complete yet, and its bytes

An offset that was told to anybody is on the disk before. It is never more than whole leaves, which are in
the partial file, and the tail.

An upload is for one thread at a time.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dmedia_transfer import leaves
from dmedia_transfer.errors import InvalidConfig

_RECORD, _TAIL = "upload.json", "tail"
_ID: Final = re.compile(r"[0-9a-f]{32}\Z")

log = logging.getLogger(__name__)


class Kept(BaseModel):
    """What is kept of one upload, at least."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    size: int = Field(ge=1)
    offset: int = Field(default=0, ge=0)  # bytes that are here
    finished: bool = False  # the file is published
    time: float  # Unix seconds when something last came in


U = TypeVar("U", bound=Kept)


class Uploads(Generic[U]):
    """All uploads that were begun here and are not gone."""

    def __init__(self, folder: Path, kind: type[U]) -> None:
        """Take up what is in the folder; what cannot be understood is removed.

        Raises:
            InvalidConfig: The folder cannot be used.
        """
        self._folder = folder
        self._kind = kind
        self._uploads: dict[str, U] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            names = sorted(path.name for path in folder.iterdir())
        except OSError as error:
            raise InvalidConfig(f"{folder}: uploads cannot be kept: {error.strerror}") from error
        for name in names:
            self._take_up(name)

    def __iter__(self) -> Iterator[U]:
        return iter(list(self._uploads.values()))

    def __len__(self) -> int:
        return len(self._uploads)

    def get(self, upload_id: str) -> U | None:
        """An upload by its ID."""
        return self._uploads.get(upload_id)

    def new_id(self) -> str:
        """An ID that nobody can guess."""
        return secrets.token_hex(16)

    def save(self, upload: U, *, tail: bytes | memoryview | None = None, durable: bool = True) -> None:
        """Keep an upload as it is now, and the bytes of its incomplete leaf if they changed.

        Raises:
            OSError: It could not be written.
        """
        folder = self._folder / upload.id
        folder.mkdir(mode=0o700, exist_ok=True)
        if tail is not None:
            _write(folder / _TAIL, _leaf_of(upload), tail, durable=durable)
        _write(folder / _RECORD, upload.model_dump_json().encode(), durable=durable)
        self._uploads[upload.id] = upload

    def tail(self, upload: U) -> bytes:
        """The bytes of its incomplete leaf, as they were kept last."""
        try:
            kept = (self._folder / upload.id / _TAIL).read_bytes()
        except FileNotFoundError:
            return b""
        leaf = _leaf_of(upload)
        return kept[len(leaf) :] if kept.startswith(leaf) else b""  # killed after the one was written, not the other

    def folder(self, upload_id: str) -> Path:
        """Where what belongs to an upload is kept."""
        return self._folder / upload_id

    def remove(self, upload: U) -> None:
        """Forget an upload; nothing of it stays here."""
        self._uploads.pop(upload.id, None)
        shutil.rmtree(self._folder / upload.id, ignore_errors=True)

    def _take_up(self, name: str) -> None:
        path = self._folder / name
        try:
            upload = self._kind.model_validate_json((path / _RECORD).read_bytes())
            if upload.id == name and _ID.match(name):
                self._uploads[name] = upload
                return
        except (OSError, ValidationError) as error:
            log.warning("an upload cannot be taken up, its sender begins anew: %s", type(error).__name__)
        if _ID.match(name):
            shutil.rmtree(path, ignore_errors=True)


def _leaf_of(upload: Kept) -> bytes:
    """The leaf that its offset is in, as it is written before the tail."""
    return (upload.offset // leaves.LEAF_BYTES).to_bytes(8, "big")


def _write(path: Path, *data: bytes | memoryview, durable: bool) -> None:
    """Replace a file; whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        for piece in data:
            file.write(piece)
        file.flush()
        if durable:
            os.fdatasync(file.fileno())
    temporary.replace(path)
