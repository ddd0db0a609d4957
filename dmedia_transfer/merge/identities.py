"""Identities: what an entry of a raw queue is known by.

A queue may be long, and most of its entries are known already: `likely_identity` looks at the text alone, and says
what `Entry.identity` would be if the entry can be understood. Whether it can is said by `identity`, which costs more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dmedia_transfer import documents
from dmedia_transfer.errors import InvalidDocument
from dmedia_transfer.model import Direction, Entry

_WITHOUT_ID: Final = tuple(f"{direction}:" for direction in Direction)


def likely_identity(raw: Any) -> str | None:
    """The identity of an entry if it can be understood; None for what is no entry at all."""
    if isinstance(raw, str):
        return Entry(raw).identity
    if not isinstance(raw, dict):
        return None
    return str(raw.get("id") or f"{raw.get('action', 'download')}:{raw.get('file_id')}:{raw.get('store_id') or ''}")


def identity(raw: Any) -> str | None:
    """The identity of an entry; None for one that cannot be understood."""
    try:
        return documents.read_entry(raw, document_id="", position=0).identity
    except InvalidDocument:
        return None


def identities_in(raw: Mapping[str, Any]) -> set[str]:
    """All that a machine document's queue names, be it understood or not."""
    queue = raw.get("queue")
    found = {likely_identity(entry) for entry in queue} if isinstance(queue, list) else set()
    return {each for each in found if each is not None}


def has_id(identity: str) -> bool:
    """Whether an entry has an `id`, or is known by (action, file_id, store_id)."""
    return not identity.startswith(_WITHOUT_ID)


def as_mapping(raw: Any) -> dict[str, Any]:
    """An entry that can be understood, as an object."""
    return {"file_id": raw} if isinstance(raw, str) else raw
