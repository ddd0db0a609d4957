"""Reading a partial file while somebody else writes it."""

from __future__ import annotations

import stat

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.errors import FileMissing, SourceChanged
from dmedia_transfer.filestore import FileStore
from tests import factories

LEAF = leaves.LEAF_BYTES


def test_what_is_written_is_read_under_the_identity_of_who_writes(store: FileStore) -> None:
    data = factories.content(LEAF + 10)
    file = factories.file_spec(data)
    with store.partial(file.file_id, file.size) as partial, store.glimpse(file.file_id) as glimpse:
        partial.write_leaf(1, memoryview(data)[LEAF:])
        piece = bytearray(10)
        glimpse.read(LEAF, memoryview(piece))
        assert bytes(piece) == data[LEAF:]
        assert (glimpse.identity, glimpse.size) == (partial.identity, file.size)


def test_it_stays_readable_when_the_file_is_discarded(store: FileStore) -> None:
    file = factories.file_spec(factories.content(10))
    store.partial(file.file_id, file.size).close()
    with store.glimpse(file.file_id) as glimpse:
        assert store.discard(file.file_id)
        glimpse.read(0, memoryview(bytearray(10)))
        with pytest.raises(SourceChanged, match="ends at 10"):
            glimpse.read(0, memoryview(bytearray(11)))
    with pytest.raises(FileMissing):
        store.glimpse(file.file_id)


def test_a_file_that_failed_has_an_identity_that_nothing_is_on_record_under(store: FileStore) -> None:
    file = factories.file_spec(factories.content(10))
    store.partial(file.file_id, file.size).close()
    path = store.root / "partial" / file.file_id[:2] / file.file_id
    path.chmod(stat.S_ISVTX | 0o600)
    with store.glimpse(file.file_id) as one, store.glimpse(file.file_id) as other:
        assert one.identity != other.identity


def test_a_link_is_not_followed(store: FileStore) -> None:
    file = factories.file_spec(factories.content(10))
    store.partial(file.file_id, file.size).close()
    path = store.root / "partial" / file.file_id[:2] / file.file_id
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(Exception, match="opening partial file"):
        store.glimpse(file.file_id)
