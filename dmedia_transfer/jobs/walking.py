"""Walking: the files that a path means, in order, and what in it is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dmedia_transfer.model import FileOutcome


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one path."""

    path: Path
    outcome: FileOutcome
    file_id: str = ""
    size: int = 0  # bytes
    reason: str = ""  # why it was skipped, or has failed


def walk(path: Path, *, is_filestore: Callable[[Path], bool]) -> Iterator[Path | Imported]:
    """The files that `path` means: itself, or all that are in it, however deep.

    A link is followed if it is `path` itself, and not within folders. A folder for which `is_filestore` is true is
    passed over: its files are in the library already.
    """
    if not path.is_dir():
        yield path
        return
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(path, onerror=unreadable.append):
        here = Path(folder)
        yield from (_not_readable(error) for error in unreadable)
        unreadable.clear()
        if is_filestore(here):
            folders.clear()
            yield Imported(here, FileOutcome.SKIPPED, reason="it is a FileStore")
            continue
        folders.sort()
        for name in sorted([*files, *(name for name in folders if (here / name).is_symlink())]):
            file = here / name
            if file.is_symlink():
                yield Imported(file, FileOutcome.SKIPPED, reason="it is a symbolic link")
            elif not file.is_file():
                yield Imported(file, FileOutcome.SKIPPED, reason="it is not a file")
            else:
                yield file
    yield from (_not_readable(error) for error in unreadable)


def _not_readable(error: OSError) -> Imported:
    path = Path(error.filename)
    return Imported(path, FileOutcome.FAILED, reason=f"{path} cannot be read: {error.strerror}")
