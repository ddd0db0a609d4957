"""A removable drive for tests: a small file system of its own where mounting is permitted, else a folder.

Both can be pulled out, which leaves the empty mount point, and put back. A folder cannot really be full; a test that
needs that raises the floor of the FileStore instead, and says so in a warning.
"""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path


class Drive:
    """A drive that is plugged in at `path` and has room for `size` bytes."""

    def __init__(self, folder: Path, size: int) -> None:
        self.path = folder / "drive"
        self.size = size
        self._kept = folder / "kept"
        self.path.mkdir(parents=True)
        self._kept.mkdir()
        self.mounted = _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(self._kept))
        if not self.mounted:
            warnings.warn("mounting is not permitted here: a folder stands for the drive", stacklevel=2)
        self._plugged = False
        self.plug()

    def plug(self) -> None:
        """Put it (back) in."""
        if self.mounted:
            _must("mount", "--bind", str(self._kept), str(self.path))
        else:
            self.path.rmdir()
            self._kept.rename(self.path)
        self._plugged = True

    def pull(self) -> None:
        """Pull it out, whoever has files open on it: what is left is the empty mount point."""
        if self.mounted:
            _must("umount", "--lazy", str(self.path))
        else:
            self.path.rename(self._kept)
            self.path.mkdir()
        self._plugged = False

    def remove(self) -> None:
        """Throw it away."""
        if self._plugged and self.mounted:
            self.pull()
        if self.mounted:
            _must("umount", "--lazy", str(self._kept))


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False, timeout=30).returncode == 0


def _must(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=True, timeout=30)
