"""Import: what becomes of each path."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer import documents, leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.errors import (
    Conflict,
    DatabaseUnavailable,
    DiskFull,
    Interrupted,
    SourceChanged,
    TransferError,
    Waiting,
)
from dmedia_transfer.jobs import importing, walking
from dmedia_transfer.model import AddFile, RecordStored
from dmedia_transfer.model import FileOutcome as Outcome
from tests.factories import OTHER_STORE_ID, STORE_ID, leaf_digests_of

NOW = 1_790_000_000.0


@dataclass(frozen=True)
class Copied:
    file_id: str
    size: int
    leaf_digests: bytes
    existed: bool = False


class Staged:
    """What was copied is published at once."""

    def __init__(self) -> None:
        self.outcomes: dict[Path, Copied | TransferError] = {}
        self.published = self.closed = False

    def publish(self) -> Mapping[Path, Copied | TransferError]:
        self.published = True
        return self.outcomes

    def close(self) -> None:
        self.closed = True


class MemoryStore:
    """A FileStore that keeps nothing but what was copied."""

    def __init__(self, store_id: str = STORE_ID) -> None:
        self.store_id = store_id
        self.batches: list[list[Path]] = []
        self.staged: list[Staged] = []
        self.fail: dict[str, TransferError] = {}

    @property
    def copied(self) -> list[Path]:
        return [path for batch in self.batches for path in batch]

    def stage(
        self,
        sources: Sequence[Path],
        *,
        buffers: LeafBuffers,
        progress: Callable[[Path, int, int], None],
        cancelled: Callable[[], bool],
    ) -> Staged:
        staged = Staged()
        self.staged.append(staged)
        self.batches.append([])
        for source in sources:
            if cancelled():
                staged.outcomes[source] = Interrupted("the import was cancelled")
                break
            if source.name in self.fail:
                staged.outcomes[source] = self.fail[source.name]
                if isinstance(self.fail[source.name], Waiting):
                    break
                continue
            data = source.read_bytes()
            progress(source, len(data), len(data))
            self.batches[-1].append(source)
            digests = leaf_digests_of(data)
            staged.outcomes[source] = Copied(leaves.file_id(digests), len(data), digests)
        return staged


def new_document(file: AddFile) -> dict[str, Any]:
    """As the database makes it."""
    facts = {"name": file.name, "ext": file.ext, "mime": file.mime, "origin": file.origin}
    stored = {file.store_id: {"copies": 1, "time": file.time}}
    digests = base64.b64decode(file.leaf_digests)
    return documents.new_file(file.file_id, file.size, digests, time=file.time, stored=stored, **facts)


class MemoryFiles:
    """File documents in memory."""

    def __init__(self) -> None:
        self.raws: dict[str, dict[str, Any]] = {}
        self.records: list[RecordStored] = []
        self.requests = 0
        self.broken: TransferError | None = None
        self.problem: TransferError | None = None

    def get_many(self, ids: Iterable[str]) -> Mapping[str, Mapping[str, Any]]:
        return {file_id: self.raws[file_id] for file_id in ids if file_id in self.raws}

    def add_files(self, files: Sequence[AddFile]) -> Mapping[str, TransferError]:
        self.requests += 1
        if self.broken:
            raise self.broken
        there = [file.record for file in files if file.file_id in self.raws]
        self.raws |= {file.file_id: new_document(file) for file in files if file.file_id not in self.raws}
        self.records += there
        return {record.file_id: self.problem for record in there} if self.problem else {}


@dataclass
class Scene:
    store: MemoryStore
    files: MemoryFiles
    importer: importing.Importer

    def run(self, *paths: Path, **options: Any) -> list[walking.Imported]:
        return list(self.importer.run(paths, **options))


@pytest.fixture
def scene() -> Scene:
    store, files = MemoryStore(), MemoryFiles()
    importer = importing.Importer(
        destination=lambda size: store,
        files=lambda: files,
        is_filestore=lambda folder: (folder / "filestore.json").exists(),
        wall=lambda: NOW,
    )
    return Scene(store, files, importer)


def test_a_file_gets_a_document_that_can_be_believed(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "Film.MKV"
    path.write_bytes(b"film")
    (imported,) = scene.run(path)
    assert (imported.outcome, imported.path, imported.size) == (Outcome.IMPORTED, path, 4)
    raw = scene.files.raws[imported.file_id]
    file = documents.read_file(raw)
    assert (file.name, file.ext, file.mime, file.origin, file.bytes) == (
        "Film.MKV",
        "mkv",
        mimetypes.guess_type("film.mkv")[0],  # which has changed its name since Debian 12
        "user",
        4,
    )
    assert raw["stored"] == {STORE_ID: {"copies": 1, "time": NOW}}
    assert documents.file_spec(file, documents.inline_leaves(raw)).leaf_digests == hashlib.sha256(b"film").digest()


def test_a_file_that_is_known_only_gets_a_line_in_stored(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"film")
    (first,) = scene.run(path)
    before = dict(scene.files.raws[first.file_id])
    scene.store.store_id = OTHER_STORE_ID
    (again,) = scene.run(path)
    assert (again.outcome, again.file_id) == (Outcome.KNOWN, first.file_id)
    assert scene.files.raws[first.file_id] == before
    assert scene.files.records == [RecordStored(first.file_id, OTHER_STORE_ID, copies=1, time=NOW)]


def test_a_folder_means_all_files_in_it_in_order(scene: Scene, tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a/c/3", "0"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    outcomes = scene.run(tmp_path)
    assert [str(each.path.relative_to(tmp_path)) for each in outcomes] == ["0", "a/c/3", "b/1", "b/2"]
    assert {each.outcome for each in outcomes} == {Outcome.IMPORTED}


def test_one_that_fails_does_not_stop_the_others(scene: Scene, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode())
    scene.store.fail["b"] = SourceChanged("b changed while it was imported")
    outcomes = scene.run(tmp_path / "a", tmp_path / "b", tmp_path / "gone", tmp_path / "c")
    assert [each.outcome for each in outcomes] == [Outcome.IMPORTED, Outcome.FAILED, Outcome.FAILED, Outcome.IMPORTED]
    assert outcomes[1].reason == "b changed while it was imported"
    assert outcomes[2].reason == f"{tmp_path / 'gone'} cannot be imported: No such file or directory"


def test_a_database_that_does_not_answer_fails_the_file(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    scene.files.broken = DatabaseUnavailable("CouchDB does not answer")
    (imported,) = scene.run(tmp_path / "a")
    assert (imported.outcome, imported.reason) == (Outcome.FAILED, "CouchDB does not answer")


def test_nothing_is_published_without_a_way_to_the_documents(scene: Scene, tmp_path: Path) -> None:
    def refused() -> MemoryFiles:
        raise DatabaseUnavailable("CouchDB does not answer")

    (tmp_path / "a").write_bytes(b"a")
    importer = importing.Importer(destination=lambda size: scene.store, files=refused)
    with pytest.raises(DatabaseUnavailable):
        list(importer.run([tmp_path / "a"]))
    assert [(staged.published, staged.closed) for staged in scene.store.staged] == [(False, True)]


def test_many_files_cost_few_requests_and_few_syncs(scene: Scene, tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number:03}").write_bytes(b"%d" % number)
    outcomes = scene.run(tmp_path)
    assert [each.path.name for each in outcomes] == [f"{number:03}" for number in range(100)]
    assert {each.outcome for each in outcomes} == {Outcome.IMPORTED}
    assert [len(batch) for batch in scene.store.batches] == [1, 2, 4, 8, 16, 32, 37]
    assert scene.files.requests == 7


def test_a_store_that_is_full_is_tried_with_the_files_that_follow(scene: Scene, tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_bytes(name.encode())
    scene.store.fail["b"] = DiskFull("b does not fit")
    outcomes = scene.run(tmp_path)
    assert [(each.path.name, each.outcome) for each in outcomes] == [
        ("a", Outcome.IMPORTED),
        ("b", Outcome.FAILED),
        ("c", Outcome.IMPORTED),
        ("d", Outcome.IMPORTED),
    ]


def test_what_was_published_is_told_when_somebody_presses_ctrl_c(scene: Scene, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())

    def press(path: Path, done: int, total: int) -> None:
        if path.name == "b":
            raise KeyboardInterrupt

    told = scene.importer.run([tmp_path], progress=press)
    assert next(told).path.name == "a"
    with pytest.raises(KeyboardInterrupt):
        next(told)
    assert [raw["name"] for raw in scene.files.raws.values()] == ["a"]


def test_a_line_in_stored_that_cannot_be_written_fails_the_file(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    scene.run(tmp_path / "a")
    scene.files.problem = Conflict("it changed too often")
    (again,) = scene.run(tmp_path / "a")
    assert (again.outcome, again.reason) == (Outcome.FAILED, "it changed too often")


def test_empty_files_links_and_what_is_no_file_are_skipped_and_listed(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "1-empty").touch()
    (tmp_path / "2-link").symlink_to("4-file")
    os.mkfifo(tmp_path / "3-pipe")
    (tmp_path / "4-file").write_bytes(b"x")
    outcomes = scene.run(tmp_path)
    assert [(each.path.name, each.outcome, each.reason) for each in outcomes] == [
        ("1-empty", Outcome.SKIPPED, "it is empty"),
        ("2-link", Outcome.SKIPPED, "it is a symbolic link"),
        ("3-pipe", Outcome.SKIPPED, "it is not a file"),
        ("4-file", Outcome.IMPORTED, ""),
    ]
    assert scene.store.copied == [tmp_path / "4-file"]


def test_a_link_that_is_named_is_followed(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(b"x")
    (tmp_path / "link.mkv").symlink_to("film")
    (imported,) = scene.run(tmp_path / "link.mkv")
    assert imported.outcome is Outcome.IMPORTED


def test_a_filestore_is_not_imported_into_itself(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "store" / "files").mkdir(parents=True)
    (tmp_path / "store" / "filestore.json").write_text("{}")
    (tmp_path / "store" / "files" / "X").write_bytes(b"x")
    (tmp_path / "z").write_bytes(b"z")
    outcomes = scene.run(tmp_path)
    assert [(each.path.name, each.outcome) for each in outcomes] == [
        ("z", Outcome.IMPORTED),
        ("store", Outcome.SKIPPED),
    ]


def test_a_folder_that_cannot_be_read_is_named(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "z").write_bytes(b"z")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    outcomes = scene.run(tmp_path)
    failed = [each for each in outcomes if each.outcome is Outcome.FAILED]
    assert [each.reason for each in failed] == [f"{tmp_path / 'closed'} cannot be read: Permission denied"]
    assert len(outcomes) == 2


def test_a_cancel_ends_it_at_once(scene: Scene, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(Interrupted):
        scene.run(tmp_path / "a", tmp_path / "b", cancelled=lambda: bool(scene.store.copied))
    assert scene.store.copied == [tmp_path / "a"]


def test_the_progress_names_the_file(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"xyz")
    seen: list[tuple[Path, int, int]] = []
    scene.run(tmp_path / "a", progress=lambda path, done, total: seen.append((path, done, total)))
    assert seen == [(tmp_path / "a", 3, 3)]


@pytest.mark.parametrize(
    ("name", "ext", "mime"),
    [
        ("a.tar.gz", "gz", "application/x-tar"),
        ("README", "", ""),
        (".hidden", "", ""),
        ("x.not an ext", "", ""),
        ("x.jpeg", "jpeg", "image/jpeg"),
        ("x.\N{LATIN SMALL LETTER U WITH DIAERESIS}", "", ""),
    ],
)
def test_facts_are_told_by_the_name(name: str, ext: str, mime: str) -> None:
    facts = importing.facts(name)
    assert (facts["name"], facts["ext"], facts["mime"]) == (name, ext, mime)


def test_a_name_that_is_no_text_is_made_one() -> None:
    facts = importing.facts(os.fsdecode(b"f\xfflm.mkv"))
    assert facts["name"] == "f\N{REPLACEMENT CHARACTER}lm.mkv"
    assert facts["ext"] == "mkv"
