"""Together: small files on their way into a FileStore, written one by one and published in groups.

A file of one leaf costs little to fetch again, so nothing is recorded of it: it is verified in memory, written to a
partial file that nobody else has, and gets its name once its data is on the disk, as any other file does. What has to
wait for the disk is done for a whole group at once: one sync of its data, all renames, one sync of the names.

Any number of threads may write; one publishes. Killed at any instant, it leaves partial files, complete or not, that
are hashed by whoever fetches these files next.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from dmedia_transfer import faults
from dmedia_transfer.errors import StoreMissing, TransferError, Transient
from dmedia_transfer.filestore import layout, system
from dmedia_transfer.filestore.store import FileStore


@dataclass(frozen=True, slots=True)
class Written:
    """A file whose verified bytes are in its partial file, and perhaps not on the disk yet."""

    file_id: str
    size: int  # bytes
    fd: int  # open and locked; closed when it is published or dropped
    name: str  # below the store's directory


class Together:
    """One FileStore, open for small files. To be closed."""

    def __init__(self, store: FileStore) -> None:
        """Open the store.

        Raises:
            StoreMissing: It is not there.
        """
        self._store = store
        self._root = layout.open_root(store.root, store.store_id)
        self._as_one = system.syncs_together(self._root)
        with system.translated(f"looking at store {store.store_id}"):
            self._quarantine = _there(self._root, layout.QUARANTINE)

    def takes(self, file_id: str) -> bool:
        """Whether the store has nothing of this file: neither the file, nor a part of it, nor a corrupt copy.

        Raises:
            StoreMissing: The drive went away.
        """
        kinds = [layout.FILES, layout.PARTIAL, *([layout.QUARANTINE] if self._quarantine else [])]
        with system.translated(f"looking for file {file_id} in store {self._store.store_id}"):
            return not any(_there(self._root, layout.name_in(kind, file_id)) for kind in kinds)

    def write(self, file_id: str, data: memoryview) -> Written:
        """Write a verified file of one leaf.

        Raises:
            Transient: Somebody else is at it.
            DiskFull, StoreMissing: It was not written.
        """
        name = layout.name_in(layout.PARTIAL, file_id)
        with system.translated(f"writing file {file_id} in store {self._store.store_id}"):
            fd = self._make(name, file_id)
            if not system.lock(fd):
                os.close(fd)
                raise Transient(f"partial file {file_id} in store {self._store.store_id} is in use")
            try:
                system.write_at(fd, 0, data)
                layout.make_read_only(fd, file_id)
                if not self._as_one:
                    system.start_writing(fd, 0, len(data))
            except BaseException:
                self._drop(fd, name)
                raise
        faults.point("together.written")
        return Written(file_id, len(data), fd, name)

    def publish(self, group: Sequence[Written]) -> dict[str, TransferError]:
        """Make these files last and give them their names; why not, of those of which that was not possible.

        What was not published is not there any more, and has to be fetched again. All of the group are let go.
        """
        failed: dict[str, TransferError] = {}
        try:
            self._publish(group, failed)
        except TransferError as error:
            failed.update((one.file_id, error) for one in group if one.file_id not in failed)
        for one in group:
            if one.file_id in failed:
                self._drop(one.fd, one.name)
            else:
                os.close(one.fd)
        return failed

    def drop(self, group: Iterable[Written]) -> None:
        """Remove what is not to be published."""
        for one in group:
            self._drop(one.fd, one.name)

    def close(self) -> None:
        """Let go of the store."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _publish(self, group: Sequence[Written], failed: dict[str, TransferError]) -> None:
        doing = f"publishing {len(group)} files in store {self._store.store_id}"
        with system.translated(doing):
            if not os.path.samestat(self._store.root.stat(), os.fstat(self._root)):
                raise StoreMissing(f"{doing}: the drive is not at {self._store.root} any more")
            if self._as_one:
                system.sync_file_system(self._root)
        if not self._as_one:
            for one in group:
                with self._failing(one, failed):
                    os.fsync(one.fd)
        faults.point("together.synced")
        folders: set[str] = set()
        for one in group:
            if one.file_id not in failed:
                with self._failing(one, failed):
                    folders |= self._rename(one)
        with system.translated(doing):
            layout.sync_names(self._root, folders, together=self._as_one)
        faults.point("together.published")

    def _rename(self, one: Written) -> set[str]:
        """Give a file its name; the folders that changed."""
        status = system.status_at(one.fd, one.name, self._root)
        if status is None:
            raise Transient(f"partial file {one.file_id} was removed while it was written")
        if status.st_size != one.size:
            raise Transient(f"partial file {one.file_id} changed its length while it was written")
        folders = layout.give_name(self._root, one.name, one.file_id)
        faults.point("together.renamed")
        return folders

    @contextlib.contextmanager
    def _failing(self, one: Written, failed: dict[str, TransferError]) -> Iterator[None]:
        try:
            yield
        except TransferError as error:
            failed[one.file_id] = error
        except OSError as error:
            doing = f"publishing file {one.file_id} in store {self._store.store_id}"
            failed[one.file_id] = system.storage_error(error, doing)

    def _make(self, name: str, file_id: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(name, flags, 0o600, dir_fd=self._root)
        except FileNotFoundError:
            system.make_directory(layout.folder_of(name), self._root, sync=False)
            return os.open(name, flags, 0o600, dir_fd=self._root)
        except FileExistsError:
            raise Transient(f"there is a partial file {file_id} in store {self._store.store_id}") from None

    def _drop(self, fd: int, name: str) -> None:
        """Remove a partial file of ours; what cannot be removed is hashed by whoever finds it."""
        with contextlib.suppress(OSError):
            if system.is_at(fd, name, self._root):
                os.unlink(name, dir_fd=self._root)
        os.close(fd)


def _there(root: int, name: str) -> bool:
    try:
        return bool(stat.S_IFMT(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode))
    except FileNotFoundError:
        return False
