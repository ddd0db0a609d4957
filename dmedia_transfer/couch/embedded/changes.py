"""The rows of a changes feed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dmedia_transfer.couch.embedded import databases, reading
from dmedia_transfer.couch.embedded.databases import Database
from dmedia_transfer.couch.embedded.jsontext import dumps
from dmedia_transfer.couch.embedded.narrowing import Narrowing
from dmedia_transfer.couch.embedded.problems import no_database
from dmedia_transfer.couch.embedded.reading import Document, View
from dmedia_transfer.couch.embedded.revtree import Rev, RevTree
from dmedia_transfer.couch.embedded.selector import Matcher

PAGE_ROWS = 500  # documents looked at before another request has its turn
PAGE_BYTES = 1 << 20  # and bytes collected, about


@dataclass(frozen=True, slots=True)
class Query:
    """Which changes, and how they are told."""

    all_leaves: bool = False  # `style=all_docs`
    include_docs: bool = False
    view: View = field(default_factory=View)  # of the included documents
    doc_ids: frozenset[str] | None = None  # only these
    matcher: Matcher | None = None  # only what this selector means
    narrowing: Narrowing | None = None  # what of it SQLite can look up
    design: bool = False  # only design documents
    descending: bool = False
    seq_interval: int = 1  # every so many rows, one has a sequence number


@dataclass(frozen=True, slots=True)
class Row:
    """One change."""

    seq: int
    rest: bytes  # the JSON members after `seq`


@dataclass(frozen=True, slots=True)
class Page:
    """Some changes."""

    rows: list[Row]
    reached: int  # all up to here was looked at (descending: all down to here)
    more: bool  # whether there is more to look at now


Read = Callable[[sqlite3.Connection], Page]


def page(database: Database, query: Query, *, after: int, limit: int | None) -> Read:
    """A job that reads the next changes.

    Args:
        database: Of which database. If it is deleted meanwhile, the job raises Problem 404.
        query: Which changes.
        after: The sequence number that was reached.
        limit: At most so many rows.
    """

    def read(connection: sqlite3.Connection) -> Page:
        now = databases.find(connection, database.name)
        if now.key != database.key:
            raise no_database()
        last = now.update_seq  # of this very moment: a document that has changed meanwhile has moved on
        rows: list[Row] = []
        size = 0
        narrowing = None if query.all_leaves else query.narrowing  # it is about the winner
        for looked, (key, id, seq, text) in enumerate(_scan(connection, database, query, after, last, narrowing), 1):
            row = _row(connection, Document(key, id, seq, RevTree.loads(text)), query)
            if row is not None:
                rows.append(row)
                size += len(row.rest)
            if len(rows) == limit or looked == PAGE_ROWS or size >= PAGE_BYTES:
                return Page(rows, seq, True)
        return Page(rows, after if query.descending else max(after, last), False)

    return read


def pending(database: Database, query: Query, after: int) -> Callable[[sqlite3.Connection], int]:
    """A job that counts the changes that are left, before any filter but `_doc_ids`."""

    def read(connection: sqlite3.Connection) -> int:
        return sum(1 for _ in _scan(connection, database, query, after, 1 << 62)) if not query.descending else 0

    return read


def _scan(
    connection: sqlite3.Connection,
    database: Database,
    query: Query,
    after: int,
    last: int,
    narrowing: Narrowing | None = None,
) -> sqlite3.Cursor:
    direction = "DESC" if query.descending else "ASC"
    statement = "SELECT key, id, seq, tree FROM documents WHERE database = ? AND seq > ? AND seq <= ?"
    arguments: list[Any] = [database.key, 0 if query.descending else after, after if query.descending else last]
    if query.doc_ids is not None:
        statement += " AND id IN (SELECT value FROM json_each(?))"
        arguments.append(json.dumps(sorted(query.doc_ids)))
    if narrowing is not None:
        statement += f" AND {narrowing.clause}"
        arguments += narrowing.arguments
    return connection.execute(f"{statement} ORDER BY seq {direction}", arguments)


def _row(connection: sqlite3.Connection, document: Document, query: Query) -> Row | None:
    if query.design and not document.id.startswith("_design/"):
        return None
    tree = document.tree
    leaves: list[Rev] = list(tree.leaves) if query.all_leaves else [tree.winner]
    if query.matcher is not None:
        leaves = [leaf for leaf in leaves if _matches(connection, document, leaf, query.matcher)]
        if not leaves:
            return None
    rest: dict[str, Any] = {"id": document.id, "changes": [{"rev": str(leaf)} for leaf in leaves]}
    if document.deleted:
        rest["deleted"] = True
    text = dumps(rest)[1:-1]
    if query.include_docs:
        text += b',"doc":' + reading.render_current(connection, document, query.view)
    return Row(document.seq, text)


def _matches(connection: sqlite3.Connection, document: Document, rev: Rev, matcher: Matcher) -> bool:
    found = reading.revision(connection, document, rev)
    return matcher(json.loads(reading.render(connection, document, found, View())))
