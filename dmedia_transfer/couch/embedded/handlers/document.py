"""One document: read, write, delete."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web
from yarl import URL

from dmedia_transfer.couch.embedded import attachments, databases, edits, incoming, jsontext, multipart, reading
from dmedia_transfer.couch.embedded.handlers import local
from dmedia_transfer.couch.embedded.handlers.common import (
    accepts,
    answer,
    context_of,
    database_name,
    etag,
    flag,
    given_rev,
    given_revs,
    queried_rev,
    read_object,
    view_of,
)
from dmedia_transfer.couch.embedded.incoming import DESIGN, LOCAL, Incoming
from dmedia_transfer.couch.embedded.problems import Problem, conflict, missing
from dmedia_transfer.couch.embedded.revtree import Rev
from dmedia_transfer.couch.embedded.sqlite import Transaction


def document_id(request: web.Request) -> str:
    """The document that the URL names.

    Raises:
        Problem: 400.
    """
    prefix = DESIGN if "design" in request.match_info else ""
    return incoming.check_id(prefix + (request.match_info.get("design") or request.match_info["id"]))


async def get(request: web.Request) -> web.StreamResponse:
    """`GET /db/id`."""
    id = document_id(request)
    if id.startswith(LOCAL):
        return await local.get_named(request, id)
    if "open_revs" in request.query:
        return await _get_revs(request, id)
    name, rev, view = database_name(request), queried_rev(request), view_of(request)
    latest = flag(request, "latest")
    related = view.attachments and accepts(request, "multipart/related")
    unchanged = request.headers.get("If-None-Match", "").strip('" ') if view.plain else ""

    def job(connection: sqlite3.Connection) -> tuple[Rev, bytes | None, multipart.Parts]:
        document = reading.find(connection, databases.find(connection, name), id)
        if rev is None or (latest and rev not in document.tree):
            found = reading.current(connection, document)
        elif latest:
            found = reading.revision(connection, document, document.tree.latest(rev)[0])
        else:
            found = reading.revision(connection, document, rev)
        if str(found.rev) == unchanged:
            return found.rev, None, []
        parts: multipart.Parts = []
        if related:
            sent = reading.sent_attachments(connection, document, found, view)
            parts = [(one, attachments.data(connection, one.blob)) for one in sent]
        text = reading.render(connection, document, found, replace(view, follows=bool(parts)))
        return found.rev, text, parts

    found_rev, text, parts = await context_of(request).engine.read(job)
    headers = etag(found_rev) if view.plain else {}
    if text is None:
        return web.Response(status=304, headers=headers)
    if parts:
        boundary = secrets.token_hex(16)
        return web.Response(
            body=multipart.related(boundary, text, parts),
            headers={"Content-Type": f'multipart/related; boundary="{boundary}"'},
        )
    return answer(text, headers=headers)


async def _get_revs(request: web.Request, id: str) -> web.Response:
    """`GET /db/id?open_revs=`: several revisions at once."""
    name, view = database_name(request), view_of(request)
    revs = None if request.query["open_revs"] in ("all", '"all"') else given_revs(request, "open_revs")
    latest = flag(request, "latest")
    mixed = accepts(request, "multipart/mixed")
    if mixed:
        view = replace(view, attachments=True, follows=True)

    def job(connection: sqlite3.Connection) -> bytes:
        database = databases.find(connection, name)
        try:
            document = reading.find(connection, database, id)
        except Problem:
            if revs is None:
                raise
            absent = [jsontext.dumps({"missing": str(rev)}) for rev in revs]
            return multipart.mixed(boundary, [], absent) if mixed else b"[" + b",".join(absent) + b"]"
        documents: list[tuple[bytes, multipart.Parts]] = []
        rows, absent = [], []
        for found in reading.open_revs(connection, document, revs, latest=latest):
            if isinstance(found, Rev):
                absent.append(jsontext.dumps({"missing": str(found)}))
                rows.append(absent[-1])
                continue
            text = reading.render(connection, document, found, view)
            rows.append(b'{"ok":' + text + b"}")
            if mixed:
                sent = reading.sent_attachments(connection, document, found, view)
                documents.append((text, [(one, attachments.data(connection, one.blob)) for one in sent]))
        return multipart.mixed(boundary, documents, absent) if mixed else b"[" + b",".join(rows) + b"]"

    boundary = secrets.token_hex(16)
    body = await context_of(request).engine.read(job)
    if mixed:
        return web.Response(body=body, headers={"Content-Type": f'multipart/mixed; boundary="{boundary}"'})
    return answer(body)


async def put(request: web.Request) -> web.Response:
    """`PUT /db/id`, with attachments inline or, as `multipart/related`, behind it."""
    id = document_id(request)
    parts: Mapping[str, bytes] = {}
    if request.content_type == "multipart/related":
        document, parts = await multipart.read_related(request)
    else:
        document = jsontext.load_object(await request.read())
    if id.startswith(LOCAL):
        return await local.put_named(request, id, document)
    edit = incoming.parse(document, id=id, rev=given_rev(request), parts=parts)
    status = 200 if edit.deleted else 201
    return await write(request, edit, new_edits=request.query.get("new_edits") != "false", status=status)


async def post(request: web.Request) -> web.Response:
    """`POST /db`: a document that may have no ID yet."""
    document = await read_object(request)
    document.setdefault("_id", secrets.token_hex(16))
    if str(document["_id"]).startswith(LOCAL):
        return await local.put_named(request, str(document["_id"]), document)
    return await write(request, incoming.parse(document), new_edits=request.query.get("new_edits") != "false")


async def delete(request: web.Request) -> web.Response:
    """`DELETE /db/id?rev=`."""
    id = document_id(request)
    if id.startswith(LOCAL):
        return await local.delete_named(request, id)
    edit = incoming.parse({"_deleted": True}, id=id, rev=given_rev(request))
    name = database_name(request)

    def job(transaction: Transaction) -> Rev:
        database = databases.find(transaction.connection, name)
        document = reading.find(transaction.connection, database, id)
        if document.deleted and edit.rev is None:
            raise missing("deleted")
        if edit.rev is None:
            raise conflict()
        return edits.apply(transaction, database, edit)

    rev = await context_of(request).engine.write(job)
    return written(request, id, rev, status=200)


async def write(request: web.Request, edit: Incoming, *, new_edits: bool, status: int = 201) -> web.Response:
    """Store a document and say so."""
    name = database_name(request)
    make = edits.apply if new_edits else edits.replicate

    def job(transaction: Transaction) -> Rev:
        return make(transaction, databases.find(transaction.connection, name), edit)

    rev = await context_of(request).engine.write(job)
    return written(request, edit.id, rev, status=status)


def written(request: web.Request, id: str, rev: Rev, *, status: int) -> web.Response:
    """Say that a document was stored."""
    value: dict[str, Any] = {"ok": True, "id": id, "rev": str(rev)}
    headers = etag(rev)
    if status == 201:
        headers["Location"] = str(URL(str(request.url.origin())) / database_name(request) / id)
    return answer(value, status=status, headers=headers)
