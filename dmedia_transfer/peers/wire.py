"""The words of the protocol between peers: paths, headers, numbers. Pure; both sides use it.

    GET, HEAD  /files/FILE_ID[?store_id=STORE_ID]    a file, or the verified leaves of one that is not complete yet
    OPTIONS    /uploads                              what of tus 1.0 there is
    POST       /uploads                              begin an upload; its metadata has file_id, and may have store_id
    HEAD, PATCH, DELETE  /uploads/UPLOAD_ID

Uploads are tus 1.0: https://tus.io/protocols/resumable-upload

An incomplete file is served with `Dmedia-Leaves`, which lists the leaves that are there (`0-3,7`); a complete one is
served without it. A range that touches a leaf that is not there is answered with 416, and the file as a whole, with
HEAD, too, with 404; both with that list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from dmedia_transfer.errors import InvalidInput, shown

FILES: Final = "/files"
UPLOADS: Final = "/uploads"
STORE_QUERY: Final = "store_id"

LEAVES: Final = "Dmedia-Leaves"  # the leaves that are there, of a file that is not complete
LEAF: Final = "Dmedia-Leaf"  # in a 460: which leaf did not match ...
EXPECTED: Final = "Dmedia-Expected"  # ... and which digest it has to have, as `sha-256=:BASE64:`

META_FILE_ID: Final = "file_id"
META_STORE_ID: Final = "store_id"


_UPLOAD_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")

MAX_LEAVES_HEADER: Final = 4096  # characters of `Dmedia-Leaves`; what does not fit is left out


def file_path(file_id: str, store_id: str = "") -> str:
    """Where a file is, in any FileStore of the peer or in this one. IDs need no quoting."""
    return f"{FILES}/{file_id}?{STORE_QUERY}={store_id}" if store_id else f"{FILES}/{file_id}"


def upload_path(upload_id: str) -> str:
    """Where an upload is."""
    return f"{UPLOADS}/{upload_id}"


def is_upload_id(text: str) -> bool:
    """Whether this can be the ID of an upload, and nothing else."""
    return _UPLOAD_ID.match(text) is not None


def write_leaves(leaves: Iterable[int], *, max_length: int = MAX_LEAVES_HEADER) -> str:
    """The value of `Dmedia-Leaves`: `0-3,7`. Whoever reads it may be told of fewer leaves than there are."""
    runs: list[list[int]] = []
    for leaf in sorted(leaves):
        if runs and leaf == runs[-1][1] + 1:
            runs[-1][1] = leaf
        else:
            runs.append([leaf, leaf])
    text = ""
    for first, last in runs:
        more = f"{',' if text else ''}{first}" + (f"-{last}" if last > first else "")
        if len(text) + len(more) > max_length:
            break
        text += more
    return text


def read_leaves(text: str, count: int) -> frozenset[int]:
    """The leaves that a `Dmedia-Leaves` names, of a file that has `count`.

    Raises:
        InvalidInput: It is not such a list, or names leaves that the file does not have.
    """
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and first.isascii() and (not dash or (last.isdecimal() and last.isascii()))):
            raise InvalidInput(f"{LEAVES}: {shown(part)} is no range of leaves")
        if len(first) > 9 or len(last) > 9 or not int(first) <= int(last or first) < count:
            raise InvalidInput(f"{LEAVES}: {shown(part)} is not in a file of {count} leaves")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)
