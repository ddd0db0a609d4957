"""What a replicator asks: which revisions are missing here, and many revisions at once."""

from __future__ import annotations

import sqlite3
from typing import Any

from aiohttp import web

from dmedia_transfer.couch.embedded import databases, incoming, jsontext, reading
from dmedia_transfer.couch.embedded.databases import Database
from dmedia_transfer.couch.embedded.handlers.common import (
    answer,
    context_of,
    database_name,
    flag,
    read_object,
    view_of,
)
from dmedia_transfer.couch.embedded.problems import Problem, bad_request
from dmedia_transfer.couch.embedded.reading import View
from dmedia_transfer.couch.embedded.revtree import Rev, RevTree


async def revs_diff(request: web.Request) -> web.Response:
    """`POST /db/_revs_diff`."""
    asked = await _asked(request)
    name = database_name(request)

    def job(connection: sqlite3.Connection) -> dict[str, Any]:
        database = databases.find(connection, name)
        result = {}
        for id, revs in asked.items():
            tree = _tree(connection, database, id)
            if absent := tree.missing(revs):
                row = {"missing": [str(rev) for rev in absent]}
                newest = max(absent)
                if ancestors := [str(leaf) for leaf in tree.leaves if leaf.pos < newest.pos]:
                    row["possible_ancestors"] = ancestors
                result[id] = row
        return result

    return answer(await context_of(request).engine.read(job))


async def missing_revs(request: web.Request) -> web.Response:
    """`POST /db/_missing_revs`."""
    asked = await _asked(request)
    name = database_name(request)

    def job(connection: sqlite3.Connection) -> dict[str, Any]:
        database = databases.find(connection, name)
        absent = {id: _tree(connection, database, id).missing(revs) for id, revs in asked.items()}
        return {"missing_revs": {id: [str(rev) for rev in revs] for id, revs in absent.items() if revs}}

    return answer(await context_of(request).engine.read(job))


async def _asked(request: web.Request) -> dict[str, list[Rev]]:
    asked = {}
    for id, revs in (await read_object(request)).items():
        if not isinstance(revs, list):
            raise bad_request("Revisions must be a JSON array")
        asked[id] = [incoming.parse_rev(rev) for rev in revs]
    return asked


def _tree(connection: sqlite3.Connection, database: Database, id: str) -> RevTree:
    try:
        return reading.find(connection, database, id).tree
    except Problem:
        return RevTree()


async def bulk_get(request: web.Request) -> web.Response:
    """`POST /db/_bulk_get`."""
    body = await read_object(request)
    documents = body.get("docs")
    if not isinstance(documents, list):
        raise bad_request("Missing JSON list of 'docs'.")
    asked = [_one(document) for document in documents]
    name, view, latest = database_name(request), view_of(request), flag(request, "latest")

    def job(connection: sqlite3.Connection) -> bytes:
        database = databases.find(connection, name)
        rows = []
        for id, rev, since in asked:
            one = view if since is None else View(**{**_members(view), "attachments": True, "atts_since": since})
            found = b",".join(_revisions(connection, database, id, rev, one, latest=latest))
            rows.append(b'{"id":' + jsontext.dumps(id) + b',"docs":[' + found + b"]}")
        return b'{"results":[' + b",".join(rows) + b"]}"

    return answer(await context_of(request).engine.read(job))


def _members(view: View) -> dict[str, Any]:
    return {name: getattr(view, name) for name in View.__dataclass_fields__}


def _one(document: object) -> tuple[str, Rev | None, tuple[Rev, ...] | None]:
    match document:
        case {"id": str(id), **rest}:
            rev, since = rest.get("rev"), rest.get("atts_since")
            return (
                id,
                None if rev is None else incoming.parse_rev(rev),
                tuple(incoming.parse_rev(one) for one in since) if isinstance(since, list) else None,
            )
    raise bad_request("Each of 'docs' needs an 'id'")


def _revisions(
    connection: sqlite3.Connection, database: Database, id: str, rev: Rev | None, view: View, *, latest: bool
) -> list[bytes]:
    try:
        document = reading.find(connection, database, id)
    except Problem:
        return [_absent(id, rev)]
    wanted = None if rev is None else [rev]
    return [
        _absent(id, found)
        if isinstance(found, Rev)
        else b'{"ok":' + reading.render(connection, document, found, view) + b"}"
        for found in reading.open_revs(connection, document, wanted, latest=latest)
    ]


def _absent(id: str, rev: Rev | None) -> bytes:
    named = "undefined" if rev is None else str(rev)
    return jsontext.dumps({"error": {"id": id, "rev": named, "error": "not_found", "reason": "missing"}})
