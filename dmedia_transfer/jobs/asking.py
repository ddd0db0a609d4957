"""Asking: whether what a local program wants imported can be read at all."""

from __future__ import annotations

import os
from pathlib import Path

from dmedia_transfer.errors import InvalidRequest


def check_path(path: str) -> None:
    """A path that a local program wants imported: it is read, and never written to.

    Raises:
        InvalidRequest: Naming the path, and what is wrong with it.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"path {path!a:.200}: is no text; import the folder that it is in") from None
    if not path.startswith("/") or "\0" in path:
        raise InvalidRequest(f"path {path!r:.200}: should be absolute")
    try:
        Path(path).stat()
    except OSError as error:
        raise InvalidRequest(f"path {path!r:.200}: cannot be read: {error.strerror}") from None
    if not os.access(path, os.R_OK):
        raise InvalidRequest(f"path {path!r:.200}: cannot be read: Permission denied")
