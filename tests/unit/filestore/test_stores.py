"""All FileStores of a machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dmedia_transfer.errors import DiskFull, StoreMissing, Unknown
from dmedia_transfer.filestore import FileStore, FileStores, layout
from tests import factories
from tests.drives import Drive
from tests.unit.filestore.conftest import MIB, fill, make_store

ONE, TWO = factories.STORE_ID, factories.OTHER_STORE_ID
FILE_ID = "A" * 48


def stores_at(paths: dict[str, Path]) -> FileStores:
    """These FileStores, without a floor."""
    return FileStores(lambda: paths, floor_bytes=0)


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    """Two FileStores on one disk."""
    return {store_id: make_store(tmp_path / store_id, store_id).root for store_id in (ONE, TWO)}


def test_the_store_with_the_most_free_space_is_the_destination(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileStore, "free_bytes", lambda self: {ONE: 10, TWO: 20}[self.store_id])
    assert stores_at(paths).destination(FILE_ID, 5).store_id == TWO
    with pytest.raises(DiskFull, match="20"):
        stores_at(paths).destination(FILE_ID, 21)


def test_a_store_with_a_partial_file_is_the_destination_however_little_space_it_has(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = stores_at(paths)
    stores.get(ONE).partial(FILE_ID, MIB).close()
    monkeypatch.setattr(FileStore, "free_bytes", lambda self: {ONE: 0, TWO: 1 << 40}[self.store_id])
    assert stores.destination(FILE_ID, MIB).store_id == ONE
    found = stores.partial(FILE_ID)
    assert found is not None
    assert found.store_id == ONE


def test_a_partial_file_whose_rest_finds_no_room_is_no_reason(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = stores_at(paths)
    stores.get(ONE).partial(FILE_ID, MIB).close()
    monkeypatch.setattr(FileStore, "free_bytes", lambda self: {ONE: 0, TWO: 1 << 40}[self.store_id])
    assert stores.destination(FILE_ID, 2 * MIB).store_id == TWO


def test_a_machine_without_filestores_has_no_destination() -> None:
    with pytest.raises(StoreMissing, match="no FileStore"):
        stores_at({}).destination(FILE_ID, 1)


def test_a_store_that_is_not_there_is_passed_over(paths: dict[str, Path], tmp_path: Path) -> None:
    paths[ONE] = tmp_path / "gone"
    stores = stores_at(paths)
    assert stores.destination(FILE_ID, 1).store_id == TWO
    paths[TWO] = tmp_path / "gone, too"
    with pytest.raises(StoreMissing, match="gone, too"):
        stores.destination(FILE_ID, 1)
    with pytest.raises(StoreMissing):
        stores.spec(ONE)


def test_the_stores_that_have_the_file_are_found(paths: dict[str, Path]) -> None:
    stores = stores_at(paths)
    file = fill(stores.get(TWO), b"content")
    assert [spec.store_id for spec in stores.holding(file.file_id)] == [TWO]
    assert stores.path(file.file_id) == str(stores.get(TWO).path(file.file_id))
    assert stores.holding(FILE_ID) == []
    assert stores.path(FILE_ID) is None
    assert stores.partial(FILE_ID) is None


def test_a_store_that_is_added_later_is_seen(paths: dict[str, Path]) -> None:
    two = paths.pop(TWO)
    stores = stores_at(paths)
    with pytest.raises(Unknown, match=TWO):
        stores.get(TWO)
    paths[TWO] = two
    assert stores.spec(TWO).settings["path"] == str(two)
    assert [store.store_id for store in stores.all()] == [ONE, TWO]


def test_a_drive_comes_and_goes(drive: Drive) -> None:
    store = make_store(drive.path / "store")
    file = fill(store, b"content")
    stores = stores_at({ONE: store.root})
    drive.pull()
    assert stores.holding(file.file_id) == []
    assert stores.path(file.file_id) is None
    with pytest.raises(StoreMissing):
        stores.destination(FILE_ID, 1)
    drive.plug()
    assert [spec.store_id for spec in stores.holding(file.file_id)] == [ONE]


def test_partial_files_that_were_left_alone_for_long_are_told_of(paths: dict[str, Path], tmp_path: Path) -> None:
    stores = stores_at({**paths, "X" * 24: tmp_path / "gone"})
    for letter, store_id, age_s in (("A", ONE, 500), ("B", TWO, 500), ("C", TWO, 5)):
        stores.get(store_id).partial(letter * 48, 10).close()
        moment = time.time() - age_s
        os.utime(paths[store_id] / "partial" / (letter * 2) / (letter * 48), (moment, moment))
    found = stores.unfinished(time.time() - 100)
    assert [(file_id, spec.store_id) for file_id, spec in found] == [("A" * 48, ONE), ("B" * 48, TWO)]


def test_a_survey_answers_for_many_files_and_looks_for_each_store_once(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = stores_at(paths)
    here = [fill(stores.get(TWO), bytes([number])) for number in range(5)]
    stores.get(ONE).partial("B" * 48, 10).close()
    looked: list[Path] = []
    open_root = layout.open_root

    def look(root: Path, store_id: str) -> int:
        looked.append(root)
        return open_root(root, store_id)

    monkeypatch.setattr(layout, "open_root", look)
    with stores.survey() as survey:
        for file in here:
            (holding,) = survey.holding(file.file_id)
            assert holding == stores.get(TWO).spec
        assert survey.holding(FILE_ID) == []
        assert survey.destination("B" * 48, 10).store_id == ONE
        assert survey.destination(FILE_ID, 1) is survey.destination("C" * 48, 1)  # so it crosses to a worker once
    assert looked == [paths[ONE], paths[TWO]]


def test_a_survey_lets_go_of_the_stores(paths: dict[str, Path]) -> None:
    stores = stores_at(paths)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with stores.survey() as survey:
        survey.holding(FILE_ID)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_survey_says_of_a_drive_that_is_not_there_what_each_look_says(drive: Drive, paths: dict[str, Path]) -> None:
    store = make_store(drive.path / "store")
    drive.pull()
    with stores_at({ONE: store.root}).survey() as survey:
        assert survey.holding(FILE_ID) == []
        with pytest.raises(StoreMissing):
            survey.destination(FILE_ID, 1)
    with stores_at({ONE: store.root, TWO: paths[TWO]}).survey() as survey:
        assert survey.destination(FILE_ID, 1).store_id == TWO
