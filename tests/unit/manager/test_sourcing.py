"""Where running downloads take their leaves from, as documents, stores and the connection change."""

from __future__ import annotations

import pytest

from dmedia_transfer.errors import AccessDenied
from dmedia_transfer.manager.sourcing import SETTLED_S
from dmedia_transfer.model import (
    Direction,
    Download,
    Entry,
    FileSpec,
    Moved,
    RecordStored,
    SourceState,
    SourceUse,
    StoreSpec,
    TransferKey,
)
from dmedia_transfer.ports import KnownFile
from tests.factories import OTHER_STORE_ID, STORE_ID, content, file_spec
from tests.fakes import World

THIRD_STORE_ID = "T" * 24


@pytest.fixture
def world() -> World:
    made = World()
    made.stores.remote[THIRD_STORE_ID] = StoreSpec(THIRD_STORE_ID, "memory", cost=10)
    return made


def running(world: World, *stored: str, seed: int = 0, **wishes: object) -> tuple[FileSpec, TransferKey]:
    """A download that a worker has."""
    file = world.add_file(file_spec(content(1000, seed=seed)), *stored)
    (key,) = world.queue(Entry(file.file_id, **wishes))  # type: ignore[arg-type]
    assert world.status(key) == "ongoing"
    return file, key


def sources(world: World, key: TransferKey) -> list[str]:
    job = world.pool.jobs[world.pool.run_of(key)]
    assert isinstance(job, Download)
    return [store.store_id for store in job.sources]


def now_in(world: World, file: FileSpec, *stored: str) -> None:
    """The document says that these stores have the file, and the feed tells of it."""
    world.files[file.file_id] = KnownFile(file, dict.fromkeys(stored, 1))
    world.manager.file_changed(file.file_id)
    world.answer()


def test_a_download_that_runs_for_a_moment_is_watched_and_no_longer_than_it_runs(world: World) -> None:
    file, key = running(world, STORE_ID)
    assert world.library.watched == []
    world.clock.advance(SETTLED_S)
    assert world.library.watched == [file.file_id]
    world.end(key)
    other, _ = running(world, STORE_ID, seed=1)
    world.clock.advance(SETTLED_S)
    assert world.library.watched == [other.file_id]


def test_a_store_that_has_the_file_now_joins_and_one_that_has_it_no_more_leaves(world: World) -> None:
    file, key = running(world, STORE_ID)
    now_in(world, file, STORE_ID, THIRD_STORE_ID)
    assert sources(world, key) == [THIRD_STORE_ID, STORE_ID]
    now_in(world, file, THIRD_STORE_ID)
    assert sources(world, key) == [THIRD_STORE_ID]
    said = len(world.pool.said)
    now_in(world, file, THIRD_STORE_ID)
    assert len(world.pool.said) == said, "nothing has changed"
    assert world.status(key) == "ongoing"


def test_while_no_store_is_named_any_more_the_worker_goes_on_as_it_is(world: World) -> None:
    file, key = running(world, STORE_ID)
    now_in(world, file)
    assert sources(world, key) == [STORE_ID]
    assert world.status(key) == "ongoing"


def test_an_entry_with_only_stays_on_its_source(world: World) -> None:
    file, key = running(world, STORE_ID, store_id=STORE_ID, only=True)
    now_in(world, file, STORE_ID, OTHER_STORE_ID, THIRD_STORE_ID)
    assert sources(world, key) == [STORE_ID]


def test_a_store_that_is_enabled_joins_and_one_that_is_disabled_leaves(world: World) -> None:
    world.stores.remote[OTHER_STORE_ID] = AccessDenied("not enabled")
    _, key = running(world, STORE_ID, OTHER_STORE_ID)
    assert sources(world, key) == [STORE_ID]
    world.stores.remote[OTHER_STORE_ID] = StoreSpec(OTHER_STORE_ID, "memory", cost=10)
    world.manager.stores_changed()
    assert sources(world, key) == [OTHER_STORE_ID, STORE_ID]
    world.stores.remote[STORE_ID] = AccessDenied("not enabled")
    world.manager.stores_changed()
    assert sources(world, key) == [OTHER_STORE_ID]
    assert world.status(key) == "ongoing"


def test_the_preferred_source_is_first_and_as_cheap_as_the_cheapest(world: World) -> None:
    _, key = running(world, OTHER_STORE_ID, STORE_ID, store_id=STORE_ID)
    job = world.pool.jobs[world.pool.run_of(key)]
    assert isinstance(job, Download)
    assert [(store.store_id, store.cost) for store in job.sources] == [(STORE_ID, 10), (OTHER_STORE_ID, 10)]


def test_what_the_worker_says_of_its_sources_is_the_transfers(world: World) -> None:
    _, key = running(world, STORE_ID)
    assert world.manager.transfers()[key].sources == (SourceUse(STORE_ID),)
    said = (SourceUse(STORE_ID, 400, 80.0, SourceState.ACTIVE),)
    world.manager.report(Moved(world.pool.run_of(key), 400, 0, said))
    assert world.manager.transfers()[key].sources == said
    assert key.direction is Direction.DOWNLOAD
    world.end(key)
    assert world.manager.transfers()[key].sources == ()


def test_an_upload_to_another_filestore_of_this_machine_is_a_copy(world: World) -> None:
    drive = StoreSpec("D" * 24, "filestore", {"path": "/media/drive"}, cost=0, local=True)
    world.stores.remote[drive.store_id] = drive
    file = world.add_file(file_spec(content(1000)))
    world.stores.files.add(file.file_id)
    (key,) = world.queue(Entry(file.file_id, Direction.UPLOAD, drive.store_id))
    job = world.pool.jobs[world.pool.run_of(key)]
    assert isinstance(job, Download)
    assert (job.destination, job.sources) == (drive, (world.stores.home,))
    world.clock.advance(SETTLED_S)
    assert world.library.watched == []
    world.end(key)
    assert world.status(key) == "done"
    world.clock.advance(1)
    stored = next(edit for edit in world.take_edits() if isinstance(edit, RecordStored))
    assert (stored.store_id, stored.copies) == (drive.store_id, 1)
