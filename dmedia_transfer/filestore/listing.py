"""What lies in the folders of a FileStore."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from dmedia_transfer import leaves


@dataclass(frozen=True, slots=True)
class Found:
    """A file that lies in a FileStore."""

    file_id: str
    size: int  # bytes; of a partial file what it will have
    mtime: float  # Unix seconds of the last write


def walk(root: int, kind: str) -> Iterator[Found]:
    """The files in `files/` or `partial/` (`kind`) of the store with this open directory."""
    for folder, status in listed(root, kind):
        if len(folder) == 2 and stat.S_ISDIR(status.st_mode):
            for name, each in listed(root, f"{kind}/{folder}"):
                if leaves.is_file_id(name) and name.startswith(folder) and stat.S_ISREG(each.st_mode):
                    yield Found(name, each.st_size, each.st_mtime)


def listed(root: int, name: str) -> list[tuple[str, os.stat_result]]:
    """What is in a directory below `root`; things that go away meanwhile are left out."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root)
    except FileNotFoundError:
        return []
    found = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found.append((entry.name, entry.stat(follow_symlinks=False)))
    finally:
        os.close(fd)
    return found
