"""What people call files and stores: an ID, the beginning of one, or a name. Pure functions over documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dmedia_transfer import leaves
from dmedia_transfer.cli import words
from dmedia_transfer.errors import InvalidRequest, TransferError, Unknown

Raw = Mapping[str, Any]

CANDIDATES_MAX: Final = 10  # of those that could be meant, as many are listed


class Ambiguous(TransferError):
    """Several could be meant; the message lists them."""


def name_of(raw: Raw) -> str:
    """What a document calls itself, fit to be shown; empty if it says nothing sensible."""
    name = raw.get("name")
    return words.printable(name) if isinstance(name, str) else ""


def is_id_of(text: str, kind: str) -> bool:
    """Whether `text` is the whole ID of a file, or of a store or machine."""
    return leaves.is_file_id(text.upper()) if kind == "file" else leaves.is_random_id(text.upper())


def pick(text: str, documents: Sequence[Raw], *, kind: str, hint: str = "") -> Raw:
    """The one document that `text` means: its ID, the beginning of its ID (in any case), or its name.

    Args:
        text: What somebody typed.
        documents: Those that it could be.
        kind: `file` or `store`, for the messages.
        hint: What to do if there is none.

    Raises:
        Unknown: None is meant.
        Ambiguous: Several are.
    """
    if not text:
        raise InvalidRequest(f"the {kind} has to be named: its ID, the beginning of its ID, or its name")
    exact = [raw for raw in documents if raw["_id"] == text.upper()]
    meant = exact or [raw for raw in documents if raw["_id"].startswith(text.upper()) or raw.get("name") == text]
    if not meant:
        raise Unknown(f"there is no {kind} {words.printable(text)!r}" + (f"; {hint}" if hint else ""))
    if len(meant) > 1:
        raise Ambiguous(
            f"{words.printable(text)!r} could be {words.counted(len(meant), kind)}: " + ", ".join(_candidates(meant))
        )
    return meant[0]


def _candidates(documents: Sequence[Raw]) -> list[str]:
    ordered = sorted(documents, key=lambda raw: (name_of(raw), str(raw["_id"])))
    listed = [
        f"{raw['_id'][: words.SHORT_ID + 4]} ({name_of(raw)})" if name_of(raw) else str(raw["_id"])
        for raw in ordered[:CANDIDATES_MAX]
    ]
    return [*listed, f"and {len(ordered) - CANDIDATES_MAX} more"] if len(ordered) > CANDIDATES_MAX else listed
