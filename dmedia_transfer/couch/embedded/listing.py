"""Documents in the order of their IDs, and those that a selector means."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dmedia_transfer.couch.embedded import collation, databases, reading
from dmedia_transfer.couch.embedded.jsontext import dumps
from dmedia_transfer.couch.embedded.narrowing import Narrowing, narrow
from dmedia_transfer.couch.embedded.problems import Problem, bad_request
from dmedia_transfer.couch.embedded.reading import Document, View
from dmedia_transfer.couch.embedded.revtree import RevTree
from dmedia_transfer.couch.embedded.selector import Matcher, compile_selector, lookup, path_of

OPEN = object()  # a bound that is not given

PAGE_ROWS = 2000
PAGE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Query:
    """Which documents, and what of them."""

    low: Any = OPEN  # `startkey`; with `descending` the greater one
    high: Any = OPEN
    inclusive_end: bool = True
    descending: bool = False
    include_docs: bool = False
    view: View = field(default_factory=View)


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of the answer."""

    head: bytes  # what comes before the first row of all
    rows: list[bytes]
    more: str | None  # the ID after which it goes on


def page(
    name: str, query: Query, *, after: str | None, skip: int, limit: int | None
) -> Callable[[sqlite3.Connection], Page]:
    """A job that reads the next rows of `_all_docs`.

    Pages are read one by one: a document that exists all the while is listed exactly once, one that comes or goes
    meanwhile may or may not be.
    """

    def read(connection: sqlite3.Connection) -> Page:
        database = databases.find(connection, name)
        where, arguments = _range(query)
        if after is not None:
            where += " AND id < ?" if query.descending else " AND id > ?"
            arguments.append(after)
        direction = "DESC" if query.descending else "ASC"
        cursor = connection.execute(
            f"SELECT key, id, seq, winner, tree FROM documents WHERE database = ? AND NOT deleted{where}"  # noqa: S608
            f" ORDER BY id {direction} LIMIT ? OFFSET ?",
            [database.key, *arguments, -1 if limit is None else limit, skip],
        )
        rows: list[bytes] = []
        size = 0
        more = last = None
        for key, id, seq, winner, tree in cursor:
            if len(rows) >= PAGE_ROWS or size >= PAGE_BYTES:
                more = last
                break
            rows.append(_row(connection, Document(key, id, seq, RevTree.loads(tree)), winner, query))
            size += len(rows[-1])
            last = id
        return Page(_head(connection, database, query, skip), rows, more)

    return read


def by_keys(name: str, query: Query, keys: Sequence[Any]) -> Callable[[sqlite3.Connection], bytes]:
    """A job that reads `_all_docs` for a list of IDs, in their order; the whole answer."""

    def read(connection: sqlite3.Connection) -> bytes:
        database = databases.find(connection, name)
        rows = []
        for key in keys:
            try:
                document = reading.find(connection, database, key if isinstance(key, str) else "")
            except Problem:
                rows.append(dumps({"key": key, "error": "not_found"}))
                continue
            rows.append(_row(connection, document, str(document.tree.winner), query))
        return b'{"total_rows":%d,"offset":null,"rows":[\r\n' % database.documents + b",\r\n".join(rows) + b"\r\n]}"

    return read


def _range(query: Query) -> tuple[str, list[Any]]:
    where, arguments = "", []
    low, high = (query.high, query.low) if query.descending else (query.low, query.high)
    for bound, sign, side in ((low, ">", 1), (high, "<", -1)):
        if bound is OPEN:
            continue
        if isinstance(bound, str):
            open_end = bound is query.high and not query.inclusive_end
            where += f" AND id {sign}{'' if open_end else '='} ?"
            arguments.append(bound)
        elif collation.against_strings(bound) == side:
            where += " AND 0"  # before the first, or after the last, that an ID can be
    return where, arguments


def _head(connection: sqlite3.Connection, database: databases.Database, query: Query, skip: int) -> bytes:
    offset = skip
    if isinstance(query.low, str):
        sign = ">" if query.descending else "<"
        (before,) = connection.execute(
            f"SELECT count(*) FROM documents WHERE database = ? AND NOT deleted AND id {sign} ?",  # noqa: S608
            (database.key, query.low),
        ).fetchone()
        offset += before
    return b'{"total_rows":%d,"offset":%d,"rows":[\r\n' % (database.documents, min(offset, database.documents))


def _row(connection: sqlite3.Connection, document: Document, winner: str, query: Query) -> bytes:
    value: dict[str, Any] = {"rev": winner}
    if document.deleted:
        value["deleted"] = True
    text = dumps({"id": document.id, "key": document.id, "value": value})
    if not query.include_docs:
        return text
    body = b"null" if document.deleted else reading.render_current(connection, document, query.view)
    return text[:-1] + b',"doc":' + body + b"}"


@dataclass(frozen=True, slots=True)
class Find:
    """A question in Mango."""

    matcher: Matcher
    narrowing: Narrowing | None  # what of it SQLite can look up
    fields: list[list[str]] | None  # paths; None for whole documents
    limit: int
    skip: int
    sort: list[tuple[list[str], bool]]  # paths, and whether the greatest comes first
    view: View


def find_query(body: dict[str, Any]) -> Find:
    """What the body of `_find` asks.

    Raises:
        Problem: 400.
    """
    fields = body.get("fields") or None
    if fields is not None and not (isinstance(fields, list) and all(isinstance(one, str) for one in fields)):
        raise bad_request("`fields` must be an array of strings")
    sort = []
    for item in body.get("sort") or []:
        match item:
            case str(name):
                sort.append((path_of(name), False))
            case dict() if len(item) == 1 and set(item.values()) <= {"asc", "desc"}:
                ((name, direction),) = item.items()
                sort.append((path_of(name), direction == "desc"))
            case _:
                raise Problem(400, "invalid_sort_json", f"Invalid sort field: {item!r}")
    limit, skip = body.get("limit", 25), body.get("skip", 0)
    for number in (limit, skip):
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise bad_request("`limit` and `skip` must be whole numbers")
    return Find(
        compile_selector(body["selector"]),
        narrow(body["selector"]),
        None if fields is None else [path_of(one) for one in fields],
        limit,
        skip,
        sort,
        View(conflicts=body.get("conflicts") is True),
    )


def find(name: str, query: Find) -> Callable[[sqlite3.Connection], list[Any]]:
    """A job that looks for documents."""

    def read(connection: sqlite3.Connection) -> list[Any]:
        database = databases.find(connection, name)
        found = []
        statement = "SELECT key, id, seq, tree FROM documents WHERE database = ? AND NOT deleted"
        arguments: list[Any] = [database.key]
        if query.narrowing is not None:
            statement += f" AND {query.narrowing.clause}"
            arguments += query.narrowing.arguments
        cursor = connection.execute(f"{statement} AND id NOT LIKE '\\_design/%' ESCAPE '\\' ORDER BY id", arguments)
        for key, id, seq, tree in cursor:
            document = json.loads(
                reading.render_current(connection, Document(key, id, seq, RevTree.loads(tree)), query.view)
            )
            if query.matcher(document):
                found.append(document)
                if not query.sort and len(found) >= query.skip + query.limit:
                    break
        for path, reverse in reversed(query.sort):
            found.sort(key=lambda document, path=path: collation.key(lookup(document, path)), reverse=reverse)  # type: ignore[misc]
        chosen = found[query.skip : query.skip + query.limit]
        return chosen if query.fields is None else [_project(document, query.fields) for document in chosen]

    return read


def _project(document: dict[str, Any], fields: list[list[str]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for path in fields:
        value = lookup(document, path, OPEN)
        if value is OPEN:
            continue
        at: Any = result
        for name in path[:-1]:
            at = at.setdefault(name, {}) if isinstance(at, dict) else None
        if isinstance(at, dict):  # else something above was asked for, and has it
            at[path[-1]] = value
    return result
