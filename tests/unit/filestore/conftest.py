"""FileStores in temporary folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dmedia_transfer.filestore import FileStore
from dmedia_transfer.model import FileSpec
from tests import factories
from tests.drives import Drive

MIB = 1024 * 1024


def make_store(root: Path, store_id: str = factories.STORE_ID, *, floor_bytes: int = 0) -> FileStore:
    """A new FileStore; without a floor unless said."""
    FileStore.create(root, store_id)
    return FileStore(store_id, root, floor_bytes=floor_bytes)


def fill(store: FileStore, data: bytes) -> FileSpec:
    """Put a file into a store, as a download does."""
    file = factories.file_spec(data)
    with store.partial(file.file_id, file.size) as partial:
        for start in range(0, len(data), 8 * MIB):
            partial.write_leaf(start // (8 * MIB), memoryview(data[start : start + 8 * MIB]))
        partial.publish()
    return file


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """An empty FileStore without a floor."""
    return make_store(tmp_path / "store")


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """A removable drive of 20 MiB."""
    drive = Drive(tmp_path / "usb", 20 * MIB)
    yield drive
    drive.remove()
