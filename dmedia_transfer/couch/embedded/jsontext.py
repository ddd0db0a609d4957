"""JSON in and out: compact, UTF-8, refusing what is not JSON."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from dmedia_transfer.couch.embedded.problems import bad_request

MAX_DEPTH = 200  # levels; Python's own limit depends on who asks, and a document must stay readable for everybody

_CONTAINERS = frozenset({dict, list})

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_sorted = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def loads(text: bytes | str) -> Any:
    """Parse JSON from outside.

    Raises:
        Problem: 400, if it is not JSON, not UTF-8, or cannot be written back as such.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        if "\\ud" in text or "\\uD" in text:
            _encode(value).encode("utf-8")  # half a surrogate pair parses, but cannot be stored as UTF-8
    except (ValueError, RecursionError):
        raise bad_request("invalid UTF-8 JSON") from None
    if _is_deep(value):
        raise bad_request(f"JSON is nested more than {MAX_DEPTH} levels deep")
    return value


def _is_deep(value: Any) -> bool:
    """Whether reading it back in a deeper stack could fail."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if type(item) is dict else item if type(item) is list else ())
            if type(child) in _CONTAINERS
        ]
        if not level:
            return False
    return True


def load_object(text: bytes | str) -> dict[str, Any]:
    """Parse a JSON object from outside.

    Raises:
        Problem: 400, if it is anything else.
    """
    value = loads(text)
    if not isinstance(value, dict):
        raise bad_request("Request body must be a JSON object")
    return value


def dumps(value: Any) -> bytes:
    """Write JSON."""
    return _encode(value).encode("utf-8")


def canonical(value: Any) -> bytes:
    """Write JSON so that equal values give equal bytes."""
    return _encode_sorted(value).encode("utf-8")


def splice(head: dict[str, Any], body: bytes, tail: dict[str, Any]) -> bytes:
    """One object of the members of `head`, of the object in `body`, and of `tail`, without parsing `body`."""
    pieces = [dumps(head)[1:-1], body[1:-1], dumps(tail)[1:-1]]
    return b"{" + b",".join(piece for piece in pieces if piece) + b"}"
