"""Staged: many files are copied, and published with one sync."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest

from dmedia_transfer.errors import DiskFull, Interrupted, InvalidInput, SourceChanged, StoreMissing, TransferError
from dmedia_transfer.filestore import FileStore, Imported, system
from dmedia_transfer.filestore.importing import INLINE_BYTES
from tests import factories
from tests.unit.filestore.test_importing import LEAF, left_over


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Files of all kinds of lengths."""
    paths = []
    for number, size in enumerate([1, INLINE_BYTES, INLINE_BYTES + 1, 3000, LEAF + 1, 2, 70_000, 5]):
        paths.append(tmp_path / f"{number}")
        paths[-1].write_bytes(factories.content(size, seed=number))
    return paths


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced, one after the other."""
    told: list[str] = []
    whole, one = system.sync_file_system, os.fsync

    def sync_all(fd: int) -> None:
        told.append("all")
        whole(fd)

    def sync_one(fd: int) -> None:
        told.append("one")
        one(fd)

    monkeypatch.setattr(system, "sync_file_system", sync_all)
    monkeypatch.setattr(os, "fsync", sync_one)
    return told


def published(store: FileStore, sources: list[Path], **options: object) -> dict[Path, Imported | TransferError]:
    """Stage and publish."""
    with closing(store.stage(sources, **options)) as staged:  # type: ignore[arg-type]  # as `stage` has them
        return dict(staged.publish())


def test_each_file_is_published_under_its_hash_and_all_share_two_syncs(
    store: FileStore, sources: list[Path], syncs: list[str]
) -> None:
    outcomes = published(store, sources)
    assert syncs == ["all", "all"]
    for path in sources:
        imported, file = outcomes[path], factories.file_spec(path.read_bytes())
        assert imported == Imported(file.file_id, file.size, file.leaf_digests, existed=False)
        assert store.path(file.file_id).read_bytes() == path.read_bytes()
    assert left_over(store) == []


def test_where_linux_does_not_tell_what_it_could_not_write_each_file_is_synced(
    store: FileStore, sources: list[Path], syncs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "syncs_together", lambda root: False)
    published(store, sources)
    assert "all" not in syncs
    assert len(syncs) >= len(sources)


@pytest.mark.parametrize(("release", "told"), [("5.7.19", False), ("5.8.0-rc1+", True), ("6.1.0-18-amd64", True)])
def test_since_when_linux_tells_it(monkeypatch: pytest.MonkeyPatch, release: str, told: bool) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", release, "#1", "x86_64")))
    assert system.syncfs_tells_errors.__wrapped__() is told


def test_nothing_has_its_name_before_it_is_published(store: FileStore, sources: list[Path]) -> None:
    staged = store.stage(sources)
    assert list(store.files()) == []
    assert len(left_over(store)) == len(sources)
    staged.close()
    staged.close()
    assert left_over(store) == []
    assert list(store.files()) == []


def test_when_the_sync_fails_nothing_is_published_and_all_are_told_why(
    store: FileStore, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = sources[0].with_name("twin")
    twin.write_bytes(sources[0].read_bytes())

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(system, "sync_file_system", fail)
    outcomes = published(store, [*sources, twin])
    assert {type(outcome) for outcome in outcomes.values()} == {StoreMissing}
    assert outcomes.keys() == {*sources, twin}
    assert left_over(store) == []
    assert list(store.files()) == []


def test_of_two_files_with_one_content_the_second_one_is_known(store: FileStore, sources: list[Path]) -> None:
    twin = sources[0].with_name("twin")
    twin.write_bytes(sources[0].read_bytes())
    outcomes = published(store, [*sources, twin])
    existed = [path.name for path, one in outcomes.items() if isinstance(one, Imported) and one.existed]
    assert existed == ["twin"]
    again = published(store, [*sources, twin])
    assert all(isinstance(one, Imported) and one.existed for one in again.values())


def test_what_another_import_has_published_meanwhile_is_known(store: FileStore, sources: list[Path]) -> None:
    with closing(store.stage(sources)) as staged:
        first = published(store, sources[:2])
        outcomes = staged.publish()
    assert not any(isinstance(one, Imported) and one.existed for one in first.values())
    existed = [path for path, one in outcomes.items() if isinstance(one, Imported) and one.existed]
    assert existed == sources[:2]


def test_what_another_store_has_is_thrown_away(store: FileStore, sources: list[Path]) -> None:
    elsewhere = factories.file_spec(sources[4].read_bytes()).file_id
    outcomes = published(store, sources, is_elsewhere=lambda file_id: file_id == elsewhere)
    assert [path for path, one in outcomes.items() if isinstance(one, Imported) and one.existed] == [sources[4]]
    assert not store.has(elsewhere)
    assert left_over(store) == []


def test_one_that_cannot_be_imported_does_not_hold_up_the_others(store: FileStore, sources: list[Path]) -> None:
    sources[1].unlink()
    sources[3].write_bytes(b"")

    def change(path: Path, done: int, total: int) -> None:
        if path == sources[4] and done < total:
            os.truncate(path, 7)

    outcomes = published(store, sources, progress=change)
    failed = {path: type(one) for path, one in outcomes.items() if isinstance(one, TransferError)}
    assert failed == {sources[1]: InvalidInput, sources[3]: InvalidInput, sources[4]: SourceChanged}
    assert len(list(store.files())) == len(sources) - 3
    assert left_over(store) == []


def test_a_store_that_is_full_takes_no_more_and_keeps_what_it_has(store: FileStore, sources: list[Path]) -> None:
    need_room = store._need_room

    def full(size: int, what: str) -> None:
        if size == LEAF + 1:
            raise DiskFull("full")
        need_room(size, what)

    store._need_room = full  # type: ignore[method-assign]
    outcomes = published(store, sources)
    assert [type(outcomes.get(path)) for path in sources] == [Imported] * 4 + [DiskFull] + [type(None)] * 3
    assert len(list(store.files())) == 4


def test_a_batch_that_is_cancelled_keeps_what_is_whole(store: FileStore, sources: list[Path]) -> None:
    done: list[Path] = []
    outcomes = published(
        store, sources, progress=lambda path, *_: done.append(path), cancelled=lambda: sources[1] in done
    )
    imported = [path for path, one in outcomes.items() if isinstance(one, Imported)]
    assert imported[:2] == sources[:2]
    assert any(isinstance(one, Interrupted) for one in outcomes.values())
    assert len(list(store.files())) == len(imported) < len(sources)
    assert left_over(store) == []
