"""Which documents a Mango selector means.

A selector is compiled once into a function. Feeds (`filter=_selector`) and `_find` use the same.

As in CouchDB a field that is not there satisfies no condition but `{"$exists": false}`, and negations are moved inwards
before that rule is applied: `{"$not": {"a": 1}}` means the documents that have an `a` which is not 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from dmedia_transfer.couch.embedded import collation
from dmedia_transfer.couch.embedded.problems import Problem

Matcher = Callable[[Any], bool]
Make = Callable[[str, Any], Matcher]

_ABSENT = object()
_DOT = re.compile(r"(?<!\\)\.")


def compile_selector(selector: object) -> Matcher:
    """A function that says whether a document is meant.

    Raises:
        Problem: 400, if the selector is none, or uses an operator that we do not know.
    """
    return _object(selector, negated=False)


def path_of(field: str) -> list[str]:
    r"""The keys that `a.b\.c` leads along."""
    return [piece.replace("\\.", ".") for piece in _DOT.split(field)]


def lookup(document: Any, path: Sequence[str], default: Any = None) -> Any:
    """What stands at the end of a path; arrays are entered by index."""
    for name in path:
        if isinstance(document, dict) and name in document:
            document = document[name]
        elif isinstance(document, list) and name.isdecimal() and int(name) < len(document):
            document = document[int(name)]
        else:
            return default
    return document


def _every(parts: Sequence[Matcher]) -> Matcher:
    if len(parts) == 1:
        return parts[0]
    return lambda value: all(part(value) for part in parts)


def _any(parts: Sequence[Matcher]) -> Matcher:
    # An empty `$or` means everything, as in CouchDB.
    return lambda value: not parts or any(part(value) for part in parts)


def _object(selector: object, *, negated: bool) -> Matcher:
    """All members of a selector must agree; if it is negated, one must disagree."""
    if not isinstance(selector, dict):
        raise Problem(400, "bad_arg", f"Selector must be a JSON object, not {type(selector).__name__}")
    parts = [_member(name, argument, negated=negated) for name, argument in selector.items()]
    return _any(parts) if negated and parts else _every(parts)


def _member(name: str, argument: Any, *, negated: bool) -> Matcher:
    if name.startswith("$"):
        return _operator(name, argument, negated=negated)
    path = path_of(name)
    condition = _condition(argument, negated=negated)
    return lambda value: condition(lookup(value, path, _ABSENT))


def _condition(argument: Any, *, negated: bool) -> Matcher:
    """What may stand beside a field: a value, operators, or a selector of what is below."""
    if isinstance(argument, dict) and argument:
        return _object(argument, negated=negated)
    return _operator("$eq", argument, negated=negated)


def _operator(name: str, argument: Any, *, negated: bool) -> Matcher:
    if name == "$not":
        return _condition(argument, negated=not negated)
    if name in ("$and", "$or", "$nor"):
        inside = negated != (name == "$nor")
        parts = [_object(one, negated=inside) for one in _list(name, argument)]
        return _every(parts) if (name == "$and") != inside else _any(parts)
    if name == "$exists":
        if not isinstance(argument, bool):
            raise _bad(name, argument)
        wanted = argument != negated
        return lambda value: (value is not _ABSENT) is wanted
    try:
        holds = _OPERATORS[name](name, argument)
    except KeyError:
        raise Problem(400, "invalid_operator", f"Invalid operator: {name}") from None
    return lambda value: value is not _ABSENT and holds(value) is not negated


def _bad(name: str, argument: Any) -> Problem:
    return Problem(400, "bad_arg", f"Bad argument for operator {name}: {argument!r}")


def _list(name: str, argument: Any) -> list[Any]:
    if not isinstance(argument, list):
        raise _bad(name, argument)
    return argument


def _compare(holds: Callable[[Any, Any], bool]) -> Make:
    def make(name: str, argument: Any) -> Matcher:
        bound = collation.key(argument)
        return lambda value: holds(collation.key(value), bound)

    return make


def _eq(name: str, argument: Any) -> Matcher:
    return lambda value: collation.equal(value, argument)


def _ne(name: str, argument: Any) -> Matcher:
    return lambda value: not collation.equal(value, argument)


def _in(name: str, argument: Any) -> Matcher:
    allowed = _list(name, argument)

    def matches(value: Any) -> bool:
        items = value if isinstance(value, list) else [value]
        return any(collation.equal(item, one) for item in items for one in allowed)

    return matches


def _nin(name: str, argument: Any) -> Matcher:
    within = _in(name, argument)
    return lambda value: not within(value)


def _all(name: str, argument: Any) -> Matcher:
    wanted = _list(name, argument)

    def matches(value: Any) -> bool:
        if not isinstance(value, list) or not wanted:
            return False
        return all(any(collation.equal(item, one) for item in value) for one in wanted)

    return matches


_TYPES: dict[str, Matcher] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _type(name: str, argument: Any) -> Matcher:
    if not isinstance(argument, str) or argument not in _TYPES:
        raise _bad(name, argument)
    return _TYPES[argument]


def _elem_match(name: str, argument: Any) -> Matcher:
    part = _condition(argument, negated=False)
    return lambda value: isinstance(value, list) and any(part(item) for item in value)


def _all_match(name: str, argument: Any) -> Matcher:
    part = _condition(argument, negated=False)
    return lambda value: isinstance(value, list) and bool(value) and all(part(item) for item in value)


def _size(name: str, argument: Any) -> Matcher:
    if not isinstance(argument, int) or isinstance(argument, bool):
        raise _bad(name, argument)
    return lambda value: isinstance(value, list) and len(value) == argument


def _regex(name: str, argument: Any) -> Matcher:
    try:
        pattern = re.compile(argument)
    except (re.error, TypeError, RecursionError):
        raise _bad(name, argument) from None
    return lambda value: isinstance(value, str) and pattern.search(value) is not None


def _begins_with(name: str, argument: Any) -> Matcher:
    if not isinstance(argument, str):
        raise _bad(name, argument)
    return lambda value: isinstance(value, str) and value.startswith(argument)


_OPERATORS: dict[str, Make] = {
    "$eq": _eq,
    "$ne": _ne,
    "$gt": _compare(lambda one, other: bool(one > other)),
    "$gte": _compare(lambda one, other: bool(one >= other)),
    "$lt": _compare(lambda one, other: bool(one < other)),
    "$lte": _compare(lambda one, other: bool(one <= other)),
    "$in": _in,
    "$nin": _nin,
    "$all": _all,
    "$type": _type,
    "$elemMatch": _elem_match,
    "$allMatch": _all_match,
    "$size": _size,
    "$regex": _regex,
    "$beginsWith": _begins_with,
}
