"""FileStore: a local directory that is a store.

Complete files are in `files/`, those on their way in `partial/`, and those that turned out to be corrupt in
`quarantine/`. Any number of processes may use a FileStore at the same time, and each may be killed at any instant: a
file is in `files/` only once it is complete and on the disk.
Nothing is remembered between calls; a drive may come and go, and each call looks at what is there.
"""

from __future__ import annotations

import contextlib
import copy
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from dmedia_transfer import leaves
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.errors import (
    AccessDenied,
    DiskFull,
    FileMissing,
    InvalidRequest,
    StoreMissing,
    TransferError,
    Transient,
)
from dmedia_transfer.filestore import layout, listing, system
from dmedia_transfer.filestore.glimpse import Glimpse
from dmedia_transfer.filestore.importing import Imported, Progress, Staged
from dmedia_transfer.filestore.listing import Found
from dmedia_transfer.filestore.partial import Partial
from dmedia_transfer.filestore.reader import Reader
from dmedia_transfer.filestore.scrubbing import Scrub
from dmedia_transfer.model import StoreSpec

PLUGIN: Final = "filestore"
FLOOR_BYTES: Final = 2 * 1024**3
FLOOR_PERCENT: Final = 5.0
_IMPORT_LEFT_OVER_S: Final = 3600.0  # a copy that nobody has locked and that is so old is of a process that died


class FileStore:
    """One FileStore. Any thread may call; all calls but `path` look at the disk."""

    def __init__(
        self, store_id: str, root: Path, *, floor_bytes: int = FLOOR_BYTES, floor_percent: float = FLOOR_PERCENT
    ) -> None:
        """Nothing is looked at yet. `floor_bytes`, or `floor_percent` of the disk if that is less, stay free."""
        self.store_id = store_id
        self.root = root
        self.floor_bytes = floor_bytes
        self.floor_percent = floor_percent
        self._held: int | None = None  # its open directory, while it is held

    @classmethod
    def create(cls, root: Path, store_id: str) -> Self:
        """Make a directory a FileStore, or find that it is this one already.

        Raises:
            InvalidRequest: The ID is none, the path is relative, or the directory is another store's.
            AccessDenied, DiskFull, StoreMissing: As the file system says.
        """
        if not leaves.is_random_id(store_id):
            raise InvalidRequest(f"{store_id!r:.80} is not a store ID (24 characters of base32)")
        if not root.is_absolute():
            raise InvalidRequest(f"the path of a FileStore has to be absolute, not {root}")
        with system.translated(f"making a FileStore at {root}"):
            try:
                root.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise InvalidRequest(f"{root} is not a directory") from None
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                there = layout.read_marker(fd)
                if there not in (None, store_id):
                    raise InvalidRequest(f"{root} is the FileStore {there} already")
                system.make_directory(layout.FILES, fd)
                system.make_directory(layout.PARTIAL, fd)
                if there is None:
                    layout.write_marker(fd, store_id)
            finally:
                os.close(fd)
        return cls(store_id, root)

    @classmethod
    def store_at(cls, root: Path) -> str | None:
        """The ID of the FileStore in this directory, None if there is none: for a drive that was brought along."""
        try:
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            found = layout.read_marker(fd)
        except OSError:
            return None
        finally:
            os.close(fd)
        return found if leaves.is_random_id(found) else None

    @classmethod
    def of(cls, spec: StoreSpec) -> Self:
        """The FileStore that a job names."""
        settings = spec.settings
        return cls(
            spec.store_id,
            Path(settings["path"]),
            floor_bytes=settings["floor_bytes"],
            floor_percent=settings["floor_percent"],
        )

    @property
    def spec(self) -> StoreSpec:
        """The FileStore as a job names it; `of` is the way back."""
        settings = {"path": str(self.root), "floor_bytes": self.floor_bytes, "floor_percent": self.floor_percent}
        return StoreSpec(self.store_id, PLUGIN, settings, cost=0, local=True)

    def check(self) -> None:
        """See whether the store is there.

        Raises:
            StoreMissing: It is not: not mounted, or another store's directory.
        """
        with self._opened():
            pass

    def path(self, file_id: str) -> Path:
        """Where a complete file is, or would be."""
        return self.root / layout.name_in(layout.FILES, file_id)

    def has(self, file_id: str) -> bool:
        """Whether the file is here, complete; False also when the store is not there, or not for us."""
        try:
            self.size(file_id)
        except (FileMissing, StoreMissing, AccessDenied):
            return False
        return True

    def size(self, file_id: str) -> int:
        """The bytes of a complete file.

        Raises:
            FileMissing: It is not here.
            StoreMissing: The store is not there.
        """
        return self._stat(layout.FILES, file_id).st_size

    def partial_mtime(self, file_id: str) -> float | None:
        """Unix seconds of the last write to the partial file; None if there is none, or the store is not there."""
        try:
            return self._stat(layout.PARTIAL, file_id).st_mtime
        except (FileMissing, StoreMissing, AccessDenied):
            return None

    def open(self, file_id: str) -> Reader:
        """Open a complete file for reading.

        Raises:
            FileMissing: It is not here.
            StoreMissing: The store is not there.
        """
        name = layout.name_in(layout.FILES, file_id)
        with self._opened() as root, system.translated(f"opening file {file_id} in store {self.store_id}"):
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root)
            except FileNotFoundError:
                raise self._missing(file_id) from None
        return Reader(fd, file_id=file_id, store_id=self.store_id, check_store=self.check)

    def free_bytes(self) -> int:
        """What can still be written: the free space less the floor, and never less than 0.

        Raises:
            StoreMissing: The store is not there.
        """
        with self._opened() as root, system.translated(f"asking for the free space of store {self.store_id}"):
            disk = os.fstatvfs(root)
        floor = min(self.floor_bytes, int(disk.f_blocks * disk.f_frsize * self.floor_percent / 100))
        return max(0, disk.f_bavail * disk.f_frsize - floor)

    def total_bytes(self) -> int:
        """The size of the disk that it is on.

        Raises:
            StoreMissing: The store is not there.
        """
        with self._opened() as root, system.translated(f"asking for the size of store {self.store_id}"):
            disk = os.fstatvfs(root)
        return disk.f_blocks * disk.f_frsize

    def room_for(self, size: int) -> bool:
        """Whether so many bytes fit above the floor."""
        return size <= self.free_bytes()

    def missing_bytes(self, file_id: str, size: int) -> int:
        """The room that a file of `size` bytes still needs here: less, where its partial file has some already."""
        try:
            status = self._stat(layout.PARTIAL, file_id)
        except FileMissing:
            return size
        return max(0, size - status.st_blocks * 512)

    def partial(self, file_id: str, size: int) -> Partial:
        """Open the partial file of a file of `size` bytes, or make it, with room for all of them.

        Raises:
            DiskFull: There is no room above the floor.
            StoreMissing: The store is not there.
            Transient: Another worker has it open.
        """
        self._need_room(self.missing_bytes(file_id, size), f"the rest of file {file_id}")
        root = layout.open_root(self.root, self.store_id)
        try:
            return Partial.open_in(root, store_root=self.root, store_id=self.store_id, file_id=file_id, size=size)
        except BaseException:
            os.close(root)
            raise

    def glimpse(self, file_id: str) -> Glimpse:
        """Open a partial file for reading, also while a worker writes it.

        Raises:
            FileMissing: There is none.
            StoreMissing: The store is not there.
        """
        name = layout.name_in(layout.PARTIAL, file_id)
        with self._opened() as root, system.translated(f"opening partial file {file_id} in store {self.store_id}"):
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root)
            except FileNotFoundError:
                raise self._missing(file_id) from None
        return Glimpse(fd, file_id=file_id, store_id=self.store_id)

    def discard(self, file_id: str) -> bool:
        """Remove a partial file; False if there was none.

        Raises:
            Transient: A worker has it open.
            StoreMissing: The store is not there.
        """
        name = layout.name_in(layout.PARTIAL, file_id)
        with self._opened() as root:
            return self._discard(root, name, f"partial file {file_id} in store {self.store_id}")

    def remove(self, file_id: str) -> bool:
        """Remove a complete file, and what is in quarantine of it; False if there was no complete one.

        Raises:
            StoreMissing: The store is not there.
        """
        name = layout.name_in(layout.FILES, file_id)
        with self._opened() as root, system.translated(f"removing file {file_id} from store {self.store_id}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(layout.name_in(layout.QUARANTINE, file_id), dir_fd=root)
            try:
                os.unlink(name, dir_fd=root)
            except FileNotFoundError:
                return False
            system.sync_directory(layout.folder_of(name), root)
        return True

    def scrub(self, file_id: str) -> Scrub | None:
        """Open a file to have it proven anew: the complete one, else the one in quarantine; None if there is neither.

        Raises:
            StoreMissing: The store is not there.
        """
        with self._opened() as root, system.translated(f"opening file {file_id} in store {self.store_id}"):
            for kind in (layout.FILES, layout.QUARANTINE):
                with contextlib.suppress(FileNotFoundError):
                    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                    fd = os.open(layout.name_in(kind, file_id), flags, dir_fd=root)
                    return Scrub(fd, file_id=file_id, store_id=self.store_id, check_store=self.check)
        return None

    def quarantine(self, file_id: str) -> bool:
        """Put a corrupt complete file aside, so that nobody reads it any more; False if there is none.

        Raises:
            StoreMissing: The store is not there.
        """
        with self._opened() as root, system.translated(f"putting file {file_id} aside in store {self.store_id}"):
            return layout.move(root, file_id, layout.FILES, layout.QUARANTINE)

    def quarantined(self, file_id: str) -> bool:
        """Whether a corrupt copy was put aside; False also when the store is not there."""
        try:
            self._stat(layout.QUARANTINE, file_id)
        except (FileMissing, StoreMissing, AccessDenied):
            return False
        return True

    def salvage(self, file_id: str) -> bool:
        """Make a copy in quarantine the partial file, whose good leaves a download keeps; False if there is none.

        Of a file that is complete or has a partial file already, the copy in quarantine is of no use and goes.

        Raises:
            StoreMissing: The store is not there.
        """
        with self._opened() as root, system.translated(f"salvaging file {file_id} in store {self.store_id}"):
            if self.has(file_id) or self.partial_mtime(file_id) is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(layout.name_in(layout.QUARANTINE, file_id), dir_fd=root)
                return False
            moved = layout.move(root, file_id, layout.QUARANTINE, layout.PARTIAL)
            if moved:
                name = layout.name_in(layout.PARTIAL, file_id)
                os.chmod(name, 0o600, dir_fd=root)
                os.utime(name, dir_fd=root)  # it is as old as the file; old partial files are swept away
        return moved

    def files(self) -> Iterator[Found]:
        """All complete files, in no order; what does not belong there is passed over."""
        return self._walk(layout.FILES)

    def partials(self) -> Iterator[Found]:
        """All partial files, in no order."""
        return self._walk(layout.PARTIAL)

    def sweep_imports(self) -> int:
        """Remove what imports left behind that were killed; how many."""
        removed = 0
        with self._opened() as root, system.translated(f"sweeping store {self.store_id}"):
            for name, status in listing.listed(root, layout.PARTIAL):
                old = time.time() - status.st_mtime > _IMPORT_LEFT_OVER_S
                if not name.startswith(layout.IMPORT_PREFIX) or not stat.S_ISREG(status.st_mode) or not old:
                    continue
                with contextlib.suppress(Transient):
                    removed += self._discard(root, f"{layout.PARTIAL}/{name}", f"{name} in store {self.store_id}")
        return removed

    def import_file(
        self,
        source: Path,
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Imported:
        """Copy or reflink a file into the store; see `stage`, which is for many.

        Raises:
            InvalidInput: There is no such file, it is empty, or it is no file.
            SourceChanged: It changed meanwhile.
            DiskFull, StoreMissing: The store has no room, or is not there.
            Interrupted: `cancelled` said so.
        """
        with contextlib.closing(
            self.stage([source], progress=lambda path, done, total: progress(done, total), cancelled=cancelled)
        ) as staged:
            outcome = staged.publish()[source]
        if isinstance(outcome, TransferError):
            raise outcome
        return outcome

    def stage(
        self,
        sources: Sequence[Path],
        *,
        buffers: LeafBuffers | None = None,
        progress: Progress = lambda path, done, total: None,
        cancelled: Callable[[], bool] = lambda: False,
        is_elsewhere: Callable[[str], bool] = lambda file_id: False,
    ) -> Staged:
        """Copy or reflink files into the store; what is hashed is what was copied. The caller publishes and closes it.

        A copy is thrown away if the file is here already, or elsewhere, as `is_elsewhere` says when its ID is known.
        `publish` tells what became of each file, and why one could not be imported: see `import_file`. After
        Interrupted, DiskFull and StoreMissing, it tells nothing of those that follow. Who stages several times has
        `buffers` for all of them.

        Raises:
            StoreMissing: The store is not there.
        """
        self.sweep_imports()
        staged = Staged(
            layout.open_root(self.root, self.store_id),
            need_room=lambda size: self._need_room(size, "what is imported"),
            is_elsewhere=is_elsewhere,
        )
        try:
            staged.copy(sources, buffers=buffers or LeafBuffers(0), progress=progress, cancelled=cancelled)
        except BaseException:
            staged.close()
            raise
        return staged

    @contextlib.contextmanager
    def held(self) -> Iterator[Self]:
        """The same FileStore, opened once for all calls in the block; one that is not there is looked for in each."""
        held = copy.copy(self)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(TransferError):
                held._held = stack.enter_context(self._opened())
            yield held

    def _opened(self) -> contextlib.AbstractContextManager[int]:
        if self._held is not None:
            return contextlib.nullcontext(self._held)
        return layout.opened(self.root, self.store_id)

    def _missing(self, file_id: str) -> TransferError:
        return FileMissing(f"file {file_id} is not in store {self.store_id}")

    def _stat(self, kind: str, file_id: str) -> os.stat_result:
        name = layout.name_in(kind, file_id)
        with self._opened() as root, system.translated(f"looking for file {file_id} in store {self.store_id}"):
            try:
                status = os.stat(name, dir_fd=root, follow_symlinks=False)
            except FileNotFoundError:
                raise self._missing(file_id) from None
        if not stat.S_ISREG(status.st_mode):
            raise self._missing(file_id)
        return status

    def _need_room(self, size: int, what: str) -> None:
        if size:
            free = self.free_bytes()
            if size > free:
                raise DiskFull(f"store {self.store_id} has {free} bytes above its floor, and {what} needs {size}")

    def _discard(self, root: int, name: str, what: str) -> bool:
        with system.translated(f"removing {what}"):
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root)
            except FileNotFoundError:
                return False
            try:
                if not system.lock(fd):
                    raise Transient(f"{what} is in use by a worker")
                if not system.is_at(fd, name, root):
                    return False
                os.unlink(name, dir_fd=root)
            finally:
                os.close(fd)
        return True

    def _walk(self, kind: str) -> Iterator[Found]:
        with self._opened() as root, system.translated(f"listing store {self.store_id}"):
            yield from listing.walk(root, kind)
