"""Databases: create, describe, delete, settings, compaction."""

from __future__ import annotations

import sqlite3

from aiohttp import web

from dmedia_transfer.couch.embedded import databases, edits, jsontext
from dmedia_transfer.couch.embedded.handlers.common import (
    answer,
    context_of,
    database_name,
    require_json,
)
from dmedia_transfer.couch.embedded.problems import bad_request
from dmedia_transfer.couch.embedded.sqlite import Transaction


async def create(request: web.Request) -> web.Response:
    """`PUT /db`."""
    name = database_name(request)
    await context_of(request).engine.write(lambda transaction: databases.create(transaction, name))
    return answer({"ok": True}, status=201, headers={"Location": str(request.url.with_query(None))})


async def describe(request: web.Request) -> web.Response:
    """`GET /db`."""
    name = database_name(request)
    return answer(await context_of(request).engine.read(lambda connection: databases.describe(connection, name)))


async def delete(request: web.Request) -> web.Response:
    """`DELETE /db`."""
    if "rev" in request.query:
        raise bad_request("You tried to DELETE a database with a ?rev= parameter. Did you mean to DELETE a document?")
    name = database_name(request)
    await context_of(request).engine.write(lambda transaction: databases.delete(transaction, name))
    return answer({"ok": True})


async def ensure_full_commit(request: web.Request) -> web.Response:
    """`POST /db/_ensure_full_commit`: whatever was answered is on the disk already."""
    require_json(request)
    await _find(request)
    return answer({"ok": True, "instance_start_time": "0"}, status=201)


async def compact(request: web.Request) -> web.Response:
    """`POST /db/_compact`: done when it is answered."""
    require_json(request)
    name = database_name(request)
    engine = context_of(request).engine

    def job(transaction: Transaction) -> None:
        edits.compact(transaction, databases.find(transaction.connection, name))

    await engine.write(job)
    await engine.shrink()
    return answer({"ok": True}, status=202)


async def view_cleanup(request: web.Request) -> web.Response:
    """`POST /db/_view_cleanup`: there are no views, so they are clean."""
    await _find(request)
    return answer({"ok": True}, status=202)


async def get_revs_limit(request: web.Request) -> web.Response:
    """`GET /db/_revs_limit`."""
    return answer((await _find(request)).revs_limit)


async def put_revs_limit(request: web.Request) -> web.Response:
    """`PUT /db/_revs_limit`: applied to a document when it next changes."""
    limit = jsontext.loads(await request.read())
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit < 1 << 31:
        raise bad_request("`_revs_limit` must be a positive number")
    name = database_name(request)

    def job(transaction: Transaction) -> None:
        key = databases.find(transaction.connection, name).key
        transaction.execute("UPDATE databases SET revs_limit = ? WHERE key = ?", limit, key)

    await context_of(request).engine.write(job)
    return answer({"ok": True})


async def get_security(request: web.Request) -> web.Response:
    """`GET /db/_security`: kept for whoever asks; there is one user here, who may do everything."""
    name = database_name(request)

    def job(connection: sqlite3.Connection) -> bytes:
        key = databases.find(connection, name).key
        (text,) = connection.execute("SELECT security FROM databases WHERE key = ?", (key,)).fetchone()
        return str(text).encode()

    return answer(await context_of(request).engine.read(job))


async def put_security(request: web.Request) -> web.Response:
    """`PUT /db/_security`."""
    security = jsontext.dumps(jsontext.load_object(await request.read())).decode()
    name = database_name(request)

    def job(transaction: Transaction) -> None:
        key = databases.find(transaction.connection, name).key
        transaction.execute("UPDATE databases SET security = ? WHERE key = ?", security, key)

    await context_of(request).engine.write(job)
    return answer({"ok": True})


async def _find(request: web.Request) -> databases.Database:
    name = database_name(request)
    return await context_of(request).engine.read(lambda connection: databases.find(connection, name))
