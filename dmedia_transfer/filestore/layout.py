"""Where things are in a FileStore's directory, and the one way in which a file gets its name there.

    filestore.json        the marker: which store this is; not there while the drive is not mounted
    files/AB/ABCD…        complete, verified, read-only
    partial/AB/ABCD…      preallocated, written by leaf
    partial/import-…      a copy whose ID is not known yet
    quarantine/AB/ABCD…   what was complete and is corrupt; never served

All names are relative to an open directory whose marker was read through that same directory. A drive that is pulled
out can so never make us write into the empty mount point below it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dmedia_transfer import faults, leaves
from dmedia_transfer.errors import InvalidInput, StoreMissing
from dmedia_transfer.filestore import system

MARKER: Final = "filestore.json"
FILES: Final = "files"
PARTIAL: Final = "partial"
QUARANTINE: Final = "quarantine"
IMPORT_PREFIX: Final = "import-"
TOGETHER: Final = 4  # so many files are synced faster by syncing their file system

_MAX_MARKER_BYTES: Final = 4096

_log = logging.getLogger(__name__)


def name_in(kind: str, file_id: str) -> str:
    """The relative name of a file: the border at which an ID that came from anywhere is looked at.

    Raises:
        InvalidInput: It is no file ID.
    """
    if not leaves.is_file_id(file_id):
        raise InvalidInput(f"{file_id!r:.80} is not a file ID (48 characters of base32)")
    return f"{kind}/{file_id[:2]}/{file_id}"


def folder_of(name: str) -> str:
    """The relative name of the folder that a file is in."""
    return name.rpartition("/")[0]


@contextlib.contextmanager
def opened(root: Path, store_id: str) -> Iterator[int]:
    """The open directory of a store, while it is needed.

    Raises:
        StoreMissing: The directory is not there, or is not this store's.
    """
    fd = open_root(root, store_id)
    try:
        yield fd
    finally:
        os.close(fd)


def open_root(root: Path, store_id: str) -> int:
    """Open a store's directory for good; the caller closes it.

    Raises:
        StoreMissing: The directory is not there, or is not this store's.
    """
    with system.translated(f"opening store {store_id} at {root}"):
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check_marker(fd, root, store_id)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_marker(fd: int, root: Path, store_id: str) -> None:
    with system.translated(f"reading {MARKER} of store {store_id} at {root}"):
        found = read_marker(fd)
    if found is None:
        raise StoreMissing(f"store {store_id} is not at {root}: there is no {MARKER} (is the drive mounted?)")
    if found != store_id:
        raise StoreMissing(f"store {store_id} is not at {root}: the store there is {found}")


def read_marker(root: int) -> str | None:
    """The ID of the store in this directory; None if it is none, `?` if its marker cannot be understood."""
    try:
        fd = os.open(MARKER, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=root)
    except FileNotFoundError:
        return None
    try:
        body = json.loads(os.read(fd, _MAX_MARKER_BYTES))
        store_id = body["store_id"]
    except (ValueError, KeyError, TypeError):
        return "?"
    finally:
        os.close(fd)
    return store_id if leaves.is_random_id(store_id) else "?"


def write_marker(root: int, store_id: str) -> None:
    """Make the directory this store's; the marker is there whole or not at all."""
    body = json.dumps({"store_id": store_id, "ver": 0}, indent=1) + "\n"
    temporary = f".{MARKER}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644, dir_fd=root)
    try:
        system.write_at(fd, 0, memoryview(body.encode()))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, MARKER, src_dir_fd=root, dst_dir_fd=root)
    system.sync_directory(".", root)


@dataclass(frozen=True, slots=True)
class Unpublished:
    """An open file, whose every leaf was verified, and that is to have its name."""

    fd: int
    name: str  # the one that it has, below the store's directory
    file_id: str


def publish(root: int, fd: int, name: str, file_id: str) -> None:
    """Give an open file, whose every leaf was verified, its name for good; see `publish_all`."""
    publish_all(root, [Unpublished(fd, name, file_id)])


def publish_all(root: int, files: Sequence[Unpublished]) -> None:
    """Give open files, whose every leaf was verified, their names for good.

    The data is on the disk before a name is there. A complete file under that name is replaced by an equal one; who
    reads it goes on reading. Of many files neither each nor each folder is synced, but their file system, twice.

    Args:
        root: The store's directory, opened before anything was written to them.
        files: No two of one name.

    Raises:
        OSError: They were not published, or not all; after an error from the sync their data must not be trusted.
    """
    for file in files:
        make_read_only(file.fd, file.file_id)
    faults.point("publish.chmod")
    together = len(files) >= TOGETHER and system.syncs_together(root)
    if together:
        system.sync_file_system(root)
    else:
        for file in files:
            os.fsync(file.fd)
    faults.point("publish.fsync")
    changed: set[str] = set()
    for file in files:
        changed |= give_name(root, file.name, file.file_id)
        faults.point("publish.rename")
    sync_names(root, changed, together=together)
    faults.point("publish.done")


def give_name(root: int, name: str, file_id: str) -> set[str]:
    """Move a file, whose data is on the disk, to its name; the folders that have changed, for `sync_names`."""
    target = name_in(FILES, file_id)
    folder = folder_of(target)
    changed = {folder, folder_of(name)}
    try:
        os.rename(name, target, src_dir_fd=root, dst_dir_fd=root)
    except FileNotFoundError:
        system.make_directory(folder, root, sync=False)
        changed.add(FILES)
        os.rename(name, target, src_dir_fd=root, dst_dir_fd=root)
    return changed


def sync_names(root: int, folders: Iterable[str], *, together: bool) -> None:
    """Make the names in these folders last: of each, or `together` with all else on their file system."""
    if together:
        system.sync_file_system(root)
        return
    for folder in sorted(folders):
        system.sync_directory(folder, root)


def make_read_only(fd: int, file_id: str) -> None:
    """Take all rights to write from a file, where its file system has rights."""
    try:
        os.fchmod(fd, 0o444)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        _log.debug("file %s: its file system has no permissions, it stays writable", file_id)


def move(root: int, file_id: str, from_kind: str, to_kind: str) -> bool:
    """Move a file from one folder to another for good; False if it is not there."""
    source, target = name_in(from_kind, file_id), name_in(to_kind, file_id)
    system.make_directory(to_kind, root)
    system.make_directory(folder_of(target), root)
    try:
        os.rename(source, target, src_dir_fd=root, dst_dir_fd=root)
    except FileNotFoundError:
        return False
    system.sync_directory(folder_of(target), root)
    system.sync_directory(folder_of(source), root)
    return True
