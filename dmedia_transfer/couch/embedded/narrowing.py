"""What of a selector SQLite can look up by itself, so that not every document has to be read to be refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A condition on rows of `documents` that holds for each document which a selector means, and maybe for others."""

    clause: str
    arguments: tuple[Any, ...] = ()


def narrow(selector: object) -> Narrowing | None:
    """The narrowest condition that is plain to see; None if there is none.

    It is about the winning revision, whose `type`, if that is a text, and whose deletion have columns of their own.
    """
    if not isinstance(selector, dict):
        return None
    found = [part for name, argument in selector.items() if (part := _member(name, argument)) is not None]
    return _joined(found, " AND ") if found else None


def _member(name: str, argument: Any) -> Narrowing | None:
    match name, argument:
        case "$and", [*parts]:
            found = [part for part in map(narrow, parts) if part is not None]
            return _joined(found, " AND ") if found else None
        case "$or", [_, *_] as parts:
            each = [narrow(part) for part in parts]
            known = [part for part in each if part is not None]
            return _joined(known, " OR ") if len(known) == len(each) else None
        case "_deleted", True | {"$eq": True}:
            return Narrowing("deleted") if argument is True or argument["$eq"] is True else None
        case "_id", _ if (texts := _texts(argument)) is not None:
            return Narrowing("id IN (SELECT value FROM json_each(?))", (json.dumps(texts),))
        case "type", str(only) | {"$eq": str(only)}:
            return Narrowing("type = ?", (only,))
        case "type", _ if (texts := _texts(argument)) is not None:
            # `$in` also looks into lists, and a type that is a list has no text in its column.
            return Narrowing("(type IS NULL OR type IN (SELECT value FROM json_each(?)))", (json.dumps(texts),))
    return None


def _texts(argument: Any) -> list[str] | None:
    """The texts of which a field has to be one; None if that is not what is asked."""
    match argument:
        case str(only) | {"$eq": str(only)}:
            return [only]
        case {"$in": [*several]} if all(isinstance(one, str) for one in several):
            return several
    return None


def _joined(parts: list[Narrowing], word: str) -> Narrowing:
    clause = word.join(part.clause for part in parts)
    return Narrowing(f"({clause})", tuple(argument for part in parts for argument in part.arguments))
