"""Steps: what is next of a long job, by what the journal says of it.

A step is something for a worker, or a question to the library and what follows from its answer. Each can be begun again
at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from dmedia_transfer import leaves
from dmedia_transfer.errors import StoreMissing, TransferError
from dmedia_transfer.jobs.item import Item
from dmedia_transfer.jobs.records import Records, Stores
from dmedia_transfer.model import (
    FileSpec,
    ImportFiles,
    JobKind,
    LongJob,
    LongRun,
    ScanFolders,
    ScanStore,
    VerifyFiles,
)
from dmedia_transfer.ports import Inquiries, KnownFile

BATCH_FILES: Final = 100  # verified in one run
BATCH_LEAVES: Final = 32 * 1024  # likewise: a megabyte of digests, unless one file alone has more
LIST_PAGE: Final = 1000


class Turn(Enum):
    """A step that is none."""

    LISTED = auto()  # it is known what there is to do
    AGAIN = auto()  # look again for what is next
    DONE = auto()  # there is nothing left to do


@dataclass(frozen=True, slots=True)
class Question:
    """Something that the library has to be asked."""

    ask: Callable[[Callable[[Any], None]], None]  # called with what takes the answer
    then: Callable[[Any], Step]  # what follows from the answer


Step = LongRun | Question | Turn


class Steps:
    """Looks at a job, and says what is next."""

    def __init__(self, *, inquiries: Inquiries, stores: Stores, records: Records, stall_s: float) -> None:
        self._inquiries = inquiries
        self._stores = stores
        self._records = records
        self._stall_s = stall_s

    def next(self, item: Item) -> Step:
        """What is next of a job that nobody has.

        Raises:
            TransferError: Nothing, because a store is not there.
        """
        job = item.job
        if job.kind is JobKind.IMPORT:
            if job.listed:
                return self._import_files(job)
            return Turn.LISTED if item.scanned else ScanFolders(job.key, job.paths)
        if job.listed:
            return self._verify_files(job)
        store = self._stores.spec(job.store_id)
        if store.local and not item.scanned:
            return ScanStore(job.key, store)
        return self._list_documents(item)

    def _import_files(self, job: LongJob) -> Step:
        if not self._records.open_files(job.id, limit=1):
            return Turn.DONE
        if job.store_id:
            return ImportFiles(job.key, job.paths, (self._stores.spec(job.store_id),), ())
        homes = tuple(self._stores.homes())
        if not homes:
            raise StoreMissing("this machine has no FileStore, or none is there now")
        return ImportFiles(job.key, job.paths, homes, homes)

    def _list_documents(self, item: Item) -> Step:
        """The documents' part of the list: what they say is in the store."""
        job = item.job

        def then(page: Sequence[tuple[str, int]]) -> Step:
            known = [(file_id, size) for file_id, size in page if leaves.is_file_id(file_id)]
            self._records.list_files(job.id, [(file_id.encode(), size, None) for file_id, size in known])
            if len(page) < LIST_PAGE:
                return Turn.LISTED
            item.listed_to = page[-1][0]
            return Turn.AGAIN

        return Question(
            lambda answer: self._inquiries.list_stored(job.store_id, item.listed_to, LIST_PAGE, answer), then
        )

    def _verify_files(self, job: LongJob) -> Step:
        store = self._stores.spec(job.store_id)
        batch: list[str] = []
        count = 0
        for row in self._records.open_files(job.id, limit=BATCH_FILES):
            count += -(-row.size // leaves.LEAF_BYTES)
            if batch and count > BATCH_LEAVES:
                break
            batch.append(row.item.decode())
        if not batch:
            return Turn.DONE

        def then(answers: Mapping[str, KnownFile | TransferError]) -> Step:
            files: list[FileSpec] = []
            said: set[str] = set()
            for answer in answers.values():
                if isinstance(answer, KnownFile):
                    files.append(answer.file)
                    if answer.stored.get(store.store_id, 0) > 0:
                        said.add(answer.file.file_id)
            rest = tuple(file_id for file_id in batch if not isinstance(answers.get(file_id), KnownFile))
            return VerifyFiles(job.key, store, tuple(files), rest, frozenset(said), self._stall_s)

        return Question(lambda answer: self._inquiries.read_files(batch, answer), then)
