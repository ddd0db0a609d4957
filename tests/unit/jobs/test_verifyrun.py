"""VerifyRun: one file at a time, with a store that is not real."""

from __future__ import annotations

from typing import Any

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.errors import Interrupted, SourceChanged
from dmedia_transfer.jobs.files import Account
from dmedia_transfer.jobs.verifyrun import VerifyRun
from dmedia_transfer.journal import OpenFile
from dmedia_transfer.model import (
    Advanced,
    FileEdit,
    FileOutcome,
    FileSpec,
    JobKey,
    JobKind,
    JobProblem,
    RecordStored,
    StoreSpec,
    VerifyFiles,
)
from tests.factories import STORE_ID, file_spec

LEAVES = 4


@pytest.fixture(autouse=True)
def small_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaves, "LEAF_BYTES", 10)


class Copy:
    """What a store has of a file; some of it may not be readable."""

    proven = False

    def __init__(self, data: bytes, *, bad: frozenset[int] = frozenset(), changes: bool = False) -> None:
        self.data = data
        self.size = len(data)
        self.identity = "one"
        self.read_leaves: list[int] = []
        self._bad = bad
        self._changes = changes

    def read(self, start: int, into: memoryview) -> bool:
        if self._changes:
            raise SourceChanged("somebody writes to it")
        self.read_leaves.append(start // 10)
        if start // 10 in self._bad:
            return False
        into[:] = self.data[start : start + len(into)]
        return True

    def close(self) -> None:
        """Nothing is open."""


class Scene:
    """A run over one file. It is also the store, and the journal's list."""

    store_id = STORE_ID

    def __init__(self, file: FileSpec, copy: Copy | None, *, documented: bool = True, said: bool = True) -> None:
        self.file = file
        self.copy = copy
        self.aside: list[str] = []
        self.so_far = b""
        self.settled: list[tuple[FileOutcome, tuple[int, ...], list[FileEdit]]] = []
        self.reports: list[Advanced] = []
        self.let_go_after: int | None = None
        self._job = VerifyFiles(
            JobKey(JobKind.VERIFY, "J"),
            StoreSpec(STORE_ID, "memory"),
            (file,) if documented else (),
            () if documented else (file.file_id,),
            frozenset({file.file_id} if said else ()),
            stall_s=1.0,
        )

    def run(self) -> None:
        """Prove it."""
        VerifyRun(
            self._job,
            records=self,  # type: ignore[arg-type]  # what is not asked of it here is not there
            copies=self,
            account=Account(1, self.reports.append, interval_s=0.0),
            buffers=LeafBuffers(1),
            check=self._check,
        ).run([OpenFile(self.file.file_id.encode(), self.file.size, self.so_far)])

    def _check(self) -> None:
        if self.copy is not None and self.let_go_after is not None and len(self.copy.read_leaves) >= self.let_go_after:
            raise Interrupted("a pause")

    def open(self, file: FileSpec) -> Copy | None:
        return self.copy

    def set_aside(self, file_id: str) -> None:
        assert not self.settled, "it is served until it is settled"
        self.aside.append(file_id)

    def keep(self, job_id: str, item: bytes, so_far: bytes) -> None:
        self.so_far = so_far

    def settle(self, job_id: str, item: bytes, outcome: FileOutcome, **said: Any) -> None:
        problem: JobProblem | None = said.get("problem")
        self.settled.append((outcome, problem.leaves if problem else (), list(said.get("edits", ()))))


DATA = bytes(range(35))


def file_of(data: bytes = DATA) -> FileSpec:
    return file_spec(data)


def test_a_pause_in_the_middle_loses_no_leaf() -> None:
    copy = Copy(DATA, bad=frozenset({0}))
    scene = Scene(file_of(), copy)
    scene.let_go_after = 2
    with pytest.raises(Interrupted):
        scene.run()
    assert scene.settled == []
    scene.let_go_after = None
    scene.run()
    assert copy.read_leaves == [0, 1, 2, 3]
    ((outcome, bad, _),) = scene.settled
    assert (outcome, bad) == (FileOutcome.CORRUPT, (0,))


def test_what_was_hashed_of_another_copy_is_not_believed() -> None:
    copy = Copy(DATA)
    scene = Scene(file_of(), copy)
    scene.let_go_after = 2
    with pytest.raises(Interrupted):
        scene.run()
    scene.let_go_after = None
    copy.identity = "another"
    scene.run()
    assert copy.read_leaves == [0, 1, 0, 1, 2, 3]
    assert scene.settled == [(FileOutcome.VERIFIED, (), [])]


def test_a_sector_that_cannot_be_read_is_a_corrupt_leaf() -> None:
    scene = Scene(file_of(), Copy(DATA, bad=frozenset({1, 3})))
    scene.run()
    ((outcome, bad, edits),) = scene.settled
    assert (outcome, bad, scene.aside) == (FileOutcome.CORRUPT, (1, 3), [scene.file.file_id])
    (edit,) = edits
    assert isinstance(edit, RecordStored)
    assert (edit.copies, edit.corrupt, edit.store_id) == (0, (1, 3), STORE_ID)


def test_a_corrupt_copy_without_a_document_is_put_aside_and_told_of() -> None:
    scene = Scene(file_of(), Copy(DATA[:-1] + b"!"), documented=False, said=False)
    scene.run()
    assert scene.settled == [(FileOutcome.CORRUPT, (), [])]
    assert scene.aside == [scene.file.file_id]


def test_an_empty_copy_is_corrupt() -> None:
    scene = Scene(file_of(), Copy(b""))
    scene.run()
    ((outcome, bad, _),) = scene.settled
    assert (outcome, bad) == (FileOutcome.CORRUPT, (0, 1, 2, 3))


def test_a_document_with_a_wrong_size_is_the_suspect_and_the_copy_stays() -> None:
    right = file_of()
    scene = Scene(FileSpec(right.file_id, right.size + 1, right.leaf_digests), Copy(DATA))
    scene.run()
    ((outcome, _, edits),) = scene.settled
    assert (outcome, edits, scene.aside) == (FileOutcome.FAILED, [], [])


def test_a_copy_that_is_written_to_fails_alone() -> None:
    scene = Scene(file_of(), Copy(DATA, changes=True))
    scene.run()
    assert scene.settled == [(FileOutcome.FAILED, (), [])]
    assert scene.aside == []


def test_what_was_removed_meanwhile_is_no_problem() -> None:
    scene = Scene(file_of(), None, said=False)
    scene.run()
    assert scene.settled == [(FileOutcome.GONE, (), [])]
    assert scene.reports[-1].outcomes == ((FileOutcome.GONE, 1),)
