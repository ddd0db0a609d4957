"""Opening: a partial file for one worker at a time, with the room that it needs."""

from __future__ import annotations

import errno
import os
from typing import Final

from dmedia_transfer.errors import DiskFull, Transient
from dmedia_transfer.filestore import layout, system

TRIES: Final = 10


def open_locked(root: int, name: str, what: str) -> tuple[int, bool]:
    """Open or make a partial file and lock it; again, if it was published or discarded in between."""
    system.make_directory(layout.folder_of(name), root)
    for _ in range(TRIES):
        try:
            fd, fresh = _open_or_make(root, name)
        except FileExistsError:  # made by somebody else just now
            continue
        try:
            if _lock(fd, what) and system.is_at(fd, name, root):
                return fd, fresh
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise Transient(f"{what} is being replaced all the time")


def _lock(fd: int, what: str) -> bool:
    if not system.lock(fd):
        raise Transient(f"{what} is in use by another worker")
    return True


def _open_or_make(root: int, name: str) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=root), False
    except FileNotFoundError:
        return os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=root), True
    except PermissionError:  # killed after it was made read-only and before it got its name
        os.chmod(name, 0o600, dir_fd=root)
        return os.open(name, flags, dir_fd=root), False


def give_room(root: int, fd: int, name: str, size: int) -> None:
    """Give the file its length and its room; one that gets no room is left as it was, or not at all."""
    status = os.fstat(fd)
    if status.st_size > size:
        os.ftruncate(fd, size)
    if status.st_size >= size and status.st_blocks * 512 >= size:
        return
    try:
        system.preallocate(fd, size)
    except OSError as error:
        if status.st_size == 0:
            os.unlink(name, dir_fd=root)
        elif status.st_size < size:
            os.ftruncate(fd, status.st_size)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room for {size} bytes of {name}") from error
        raise
