"""Copying: many files into FileStores, in batches; one is copied while the one before is published and told of.

A batch shares one sync, one commit and one request to the database. The first ones are small, so that something is
done soon; a large file is one by itself. A batch is told of before the next one is published: a kill in between has one
batch hashed once more, and loses the copies of another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final, Protocol, TypeVar

from dmedia_transfer.errors import TransferError

BATCH_FILES: Final = 128
BATCH_BYTES: Final = 64 * 1024**2

T = TypeVar("T")


class Copy(Protocol):
    """A file that was copied into a FileStore, and hashed on the way."""

    @property
    def file_id(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def leaf_digests(self) -> bytes: ...

    @property
    def existed(self) -> bool:
        """It was here already, and the copy was thrown away."""


Outcomes = Mapping[Path, Copy | TransferError]


class Staged(Protocol):
    """Files that were copied, and have their names only once they are published."""

    def publish(self) -> Outcomes:
        """Give them their names; what became of each file that was begun."""

    def close(self) -> None:
        """Throw away what was not published."""


def in_batches(files: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """The files, in their order, in batches that grow: of one file, of two, of four, up to 128 files or 64 MiB."""
    batch: list[T] = []
    total, most = 0, 1
    for file in files:
        if batch and (len(batch) >= most or total + size(file) > BATCH_BYTES):
            yield batch
            batch, total, most = [], 0, min(2 * most, BATCH_FILES)
        batch.append(file)
        total += size(file)
    if batch:
        yield batch


def copied(
    batches: Iterable[list[T]], stage: Callable[[list[T], Callable[[], bool]], Staged]
) -> Generator[tuple[list[T], Outcomes], None, None]:
    """Copy batches of files, and publish each, on threads of their own; tells of each as it is published.

    Args:
        batches: The files.
        stage: Copies the files of a batch, until its second argument says that nobody waits for it any more.

    Raises:
        Exception: As `stage` does, after what was copied before is published and told.
    """
    abandoned = threading.Event()
    before: tuple[list[T], Future[Outcomes]] | None = None
    with (
        ThreadPoolExecutor(1, thread_name_prefix="copy") as copier,
        ThreadPoolExecutor(1, thread_name_prefix="publish") as publisher,
    ):
        for batch in batches:
            staging = copier.submit(stage, batch, abandoned.is_set)
            try:
                if before is not None:
                    yield before[0], before[1].result()
                staged = staging.result()
            except BaseException:  # or nobody asks for the next one; somebody may press Ctrl+C
                abandoned.set()
                if staging.exception() is None:
                    staging.result().close()
                raise
            before = (batch, publisher.submit(_publish, staged))  # nobody knows of more than one batch too little
        if before is not None:
            yield before[0], before[1].result()


def _publish(staged: Staged) -> Outcomes:
    with closing(staged):
        return staged.publish()
