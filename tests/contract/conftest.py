"""The backends that the contract is held against, each over a real store."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from dmedia_transfer.backends.memory import MemoryBackend
from dmedia_transfer.model import FileSpec, StoreSpec
from dmedia_transfer.ports import Backend
from tests import factories
from tests.s3 import EXTERNAL_URL, Abilities, S3Server, external_s3, moto_s3, rclone_s3

__all__ = ["external_s3", "moto_s3", "rclone_s3"]  # fixtures


@dataclass(frozen=True)
class Subject:
    """A store, and how to make a backend for it."""

    make: Callable[[], Backend]  # as another worker would: it knows nothing of the others
    abilities: Abilities
    part_bytes: int = 64 * 1024  # of a test's parts; as small as the store takes them

    def content(self, parts: float) -> bytes:
        """New bytes, enough for so many parts; no other test has the same."""
        return factories.content(int(parts * self.part_bytes), seed=secrets.randbits(64))

    def file(self, parts: float = 1, *, ext: str = "", mime: str = "") -> tuple[bytes, FileSpec]:
        """A new file and its content."""
        data = self.content(parts)
        return data, factories.file_spec(data, ext=ext, mime=mime)

    def slices(self, data: bytes) -> list[bytes]:
        """The content of each part."""
        return [data[start : start + self.part_bytes] for start in range(0, len(data), self.part_bytes)]


def _of_server(server: S3Server, *, part_bytes: int = 64 * 1024) -> Subject:
    return Subject(lambda: server.backend(prefix="contract/"), server.abilities, part_bytes)


def _memory(**settings: object) -> Subject:
    spec = StoreSpec(secrets.token_hex(12), "memory", settings)
    return Subject(lambda: MemoryBackend(spec, stall_s=10.0, connections=4), Abilities())


@pytest.fixture(params=["memory", "moto", "rclone", *(["external"] if EXTERNAL_URL else [])])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each store in turn."""
    match request.param:
        case "memory":
            return _memory()
        case "external":  # real ones take no smaller part than 5 MiB, but for the last
            return _of_server(request.getfixturevalue("external_s3"), part_bytes=5 * 1024 * 1024)
        case name:
            return _of_server(request.getfixturevalue(f"{name}_s3"))


@pytest.fixture
def backend(subject: Subject) -> Iterator[Backend]:
    """A backend for it."""
    backend = subject.make()
    yield backend
    backend.close()
