"""One attachment: read, also a range of it, write, delete."""

from __future__ import annotations

import base64
import sqlite3

from aiohttp import web

from dmedia_transfer.couch.embedded import attachments, databases, edits, incoming, reading
from dmedia_transfer.couch.embedded.attachments import Attachment
from dmedia_transfer.couch.embedded.handlers import document
from dmedia_transfer.couch.embedded.handlers.common import context_of, database_name, given_rev, queried_rev
from dmedia_transfer.couch.embedded.problems import Problem, conflict, missing
from dmedia_transfer.couch.embedded.revtree import Rev
from dmedia_transfer.couch.embedded.sqlite import Transaction


async def get(request: web.Request) -> web.Response:
    """`GET /db/id/name`."""
    name, id, rev = database_name(request), document.document_id(request), queried_rev(request)
    wanted = request.match_info["attachment"]

    def job(connection: sqlite3.Connection) -> tuple[Attachment, slice | None, bytes]:
        stored = reading.find(connection, databases.find(connection, name), id)
        found = reading.current(connection, stored) if rev is None else reading.revision(connection, stored, rev)
        for one in attachments.of_revision(connection, found.key):
            if one.name == wanted:
                break
        else:
            raise missing("Document is missing attachment")
        span = _span(request, one.length)
        start, stop = (span.start, span.stop) if span else (0, one.length)
        content = b"" if request.method == "HEAD" else attachments.data(connection, one.blob, start, stop)
        return one, span, content

    one, span, content = await context_of(request).engine.read(job)
    digest = base64.b64encode(one.md5).decode("ascii")
    headers = {"ETag": f'"{digest}"', "Accept-Ranges": "bytes", "Content-MD5": digest, "Content-Type": one.content_type}
    if request.headers.get("If-None-Match", "").strip('" ') == digest:
        return web.Response(status=304, headers=headers)
    if span is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{one.length}"
    if request.method == "HEAD":
        headers["Content-Length"] = str(span.stop - span.start if span else one.length)
    return web.Response(body=content, status=206 if span else 200, headers=headers)


def _span(request: web.Request, length: int) -> slice | None:
    """The bytes that are asked for; None for all, also if the range makes no sense, as HTTP wants it.

    Raises:
        Problem: 416, if there are no such bytes.
    """
    try:
        asked = request.http_range
    except ValueError:
        return None
    if asked.start is None and asked.stop is None:
        return None
    start = asked.start or 0
    if start < 0:
        start = max(0, length + start)
    stop = length if asked.stop is None else min(asked.stop, length)
    if start >= stop:
        raise Problem(416, "requested_range_not_satisfiable", f"Requested range not satisfiable: of {length} bytes")
    return slice(start, stop)


async def put(request: web.Request) -> web.Response:
    """`PUT /db/id/name?rev=`: a new revision with this attachment, and all others as they were."""
    name = incoming.check_attachment_name(request.match_info["attachment"])
    content_type = incoming.check_content_type(request.headers.get("Content-Type", "application/octet-stream"))
    content = await request.read()
    return await _change(request, incoming.NewAttachment(name, content_type, content), name, status=201)


async def delete(request: web.Request) -> web.Response:
    """`DELETE /db/id/name?rev=`: a new revision without this attachment."""
    return await _change(request, None, request.match_info["attachment"], status=200)


async def _change(request: web.Request, new: incoming.NewAttachment | None, name: str, *, status: int) -> web.Response:
    database, id, rev = database_name(request), document.document_id(request), given_rev(request)

    def job(transaction: Transaction) -> Rev:
        connection = transaction.connection
        where = databases.find(connection, database)
        kept: dict[str, incoming.NewAttachment] = {}
        body = b"{}"
        if rev is not None:
            stored = reading.find(connection, where, id)
            if rev not in stored.tree.leaves:
                raise conflict()
            found = reading.revision(connection, stored, rev)
            body = found.body
            for one in attachments.of_revision(connection, found.key):
                kept[one.name] = incoming.NewAttachment(one.name, one.content_type, None)
        if new is not None:
            kept[name] = new
        elif kept.pop(name, None) is None:
            raise missing("Document is missing attachment") if rev is not None else conflict()
        return edits.apply(transaction, where, incoming.restore(id, rev, body, tuple(kept.values())))

    found_rev = await context_of(request).engine.write(job)
    return document.written(request, id, found_rev, status=status)
