"""In which order JSON values come: null, booleans, numbers, strings, arrays, objects, as in CouchDB.

Strings are compared by code point, as CouchDB does for document IDs. Its views and `_find` compare with ICU; nobody
here sorts prose.
"""

from __future__ import annotations

from typing import Any

Key = tuple[Any, ...]

_STRING_RANK = 3


def key(value: Any) -> Key:
    """A key for sorting and comparing."""
    match value:
        case None:
            return (0,)
        case bool():
            return (1, value)
        case int() | float():
            return (2, value)
        case str():
            return (_STRING_RANK, value)
        case list():
            return (4, [key(item) for item in value])
        case dict():
            return (5, [(key(name), key(item)) for name, item in value.items()])
    raise TypeError(f"{type(value).__name__} is not JSON")


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(item, other[name]) for name, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def against_strings(value: Any) -> int:
    """Where a value stands towards all strings: -1 before them, 0 among them, 1 after them."""
    rank: int = key(value)[0]
    return (rank > _STRING_RANK) - (rank < _STRING_RANK)
