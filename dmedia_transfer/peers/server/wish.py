"""Wish: what a peer wants to upload. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dmedia_transfer import leaves
from dmedia_transfer.errors import InvalidInput, shown
from dmedia_transfer.peers import wire
from dmedia_transfer.serving import tuswords


@dataclass(frozen=True, slots=True)
class Wish:
    """What a POST wants to upload."""

    file_id: str
    size: int
    store_id: str = ""  # empty: any FileStore


def read_wish(headers: Mapping[str, str]) -> Wish:
    """What a POST wants to upload.

    Raises:
        InvalidInput: A header is missing or cannot be understood.
    """
    size, metadata = tuswords.read_length(headers), tuswords.read_metadata(headers)
    file_id = metadata.get(wire.META_FILE_ID, "")
    if not leaves.is_file_id(file_id):
        raise InvalidInput(
            f"{tuswords.UPLOAD_METADATA} should name the file in `{wire.META_FILE_ID}`, not {shown(file_id)}"
        )
    store_id = metadata.get(wire.META_STORE_ID, "")
    if store_id and not leaves.is_random_id(store_id):
        raise InvalidInput(f"{tuswords.UPLOAD_METADATA}: {shown(store_id)} is no ID of a store")
    return Wish(file_id, size, store_id)
