"""`_local/` documents: checkpoints of replications; never replicated themselves, no history."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from aiohttp import web

from dmedia_transfer.couch.embedded import databases, edits, incoming, jsontext
from dmedia_transfer.couch.embedded.handlers.common import answer, context_of, database_name, etag
from dmedia_transfer.couch.embedded.incoming import LOCAL
from dmedia_transfer.couch.embedded.problems import missing
from dmedia_transfer.couch.embedded.sqlite import Transaction


async def get(request: web.Request) -> web.Response:
    """`GET /db/_local/id`."""
    return await get_named(request, LOCAL + request.match_info["id"])


async def put(request: web.Request) -> web.Response:
    """`PUT /db/_local/id`."""
    return await put_named(request, LOCAL + request.match_info["id"], jsontext.load_object(await request.read()))


async def delete(request: web.Request) -> web.Response:
    """`DELETE /db/_local/id`."""
    return await delete_named(request, LOCAL + request.match_info["id"])


async def get_named(request: web.Request, id: str) -> web.Response:
    """Read one."""
    name = database_name(request)

    def job(connection: sqlite3.Connection) -> bytes:
        key = databases.find(connection, name).key
        row = connection.execute("SELECT rev, body FROM locals WHERE database = ? AND id = ?", (key, id)).fetchone()
        if row is None:
            raise missing()
        return render(id, row[0], row[1])

    return answer(await context_of(request).engine.read(job))


async def put_named(request: web.Request, id: str, document: dict[str, Any]) -> web.Response:
    """Write one."""
    edit = incoming.parse(document, id=id)
    previous = document.get("_rev", request.query.get("rev"))
    name = database_name(request)

    def job(transaction: Transaction) -> str:
        return edits.apply_local(transaction, databases.find(transaction.connection, name), edit, previous)

    rev = await context_of(request).engine.write(job)
    return answer({"ok": True, "id": id, "rev": rev}, status=201, headers=etag(rev))


async def delete_named(request: web.Request, id: str) -> web.Response:
    """Delete one."""
    name = database_name(request)

    def job(transaction: Transaction) -> None:
        edits.delete_local(transaction, databases.find(transaction.connection, name), id)

    await context_of(request).engine.write(job)
    return answer({"ok": True, "id": id, "rev": "0-0"})


async def listing(request: web.Request) -> web.Response:
    """`GET /db/_local_docs`."""
    name = database_name(request)
    include = request.query.get("include_docs") == "true"

    def job(connection: sqlite3.Connection) -> dict[str, Any]:
        key = databases.find(connection, name).key
        rows = []
        for id, rev, body in connection.execute(
            "SELECT id, rev, body FROM locals WHERE database = ? ORDER BY id", (key,)
        ):
            row: dict[str, Any] = {"id": id, "key": id, "value": {"rev": f"0-{rev}"}}
            if include:
                row["doc"] = json.loads(render(id, rev, body))
            rows.append(row)
        return {"total_rows": None, "offset": None, "rows": rows}

    return answer(await context_of(request).engine.read(job))


def render(id: str, rev: int, body: bytes) -> bytes:
    """A `_local/` document as JSON."""
    return jsontext.splice({"_id": id, "_rev": f"0-{rev}"}, body, {})
