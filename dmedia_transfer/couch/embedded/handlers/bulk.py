"""Many documents at once: `_bulk_docs`, `_all_docs`, `_find`."""

from __future__ import annotations

import secrets
from typing import Any

from aiohttp import web

from dmedia_transfer.couch.embedded import databases, edits, incoming, listing
from dmedia_transfer.couch.embedded.handlers.common import (
    answer,
    context_of,
    database_name,
    flag,
    json_parameter,
    number,
    read_object,
    view_of,
)
from dmedia_transfer.couch.embedded.problems import bad_request
from dmedia_transfer.couch.embedded.sqlite import Transaction


async def bulk_docs(request: web.Request) -> web.Response:
    """`POST /db/_bulk_docs`: one transaction; conflicts are per row."""
    body = await read_object(request)
    documents = body.get("docs")
    if not isinstance(documents, list):
        raise bad_request("POST body must include `docs` parameter.")
    new_edits = body.get("new_edits", True)
    if not isinstance(new_edits, bool):
        raise bad_request("`new_edits` must be a boolean")
    parsed: list[tuple[incoming.Incoming, Any]] = []
    for document in documents:
        if isinstance(document, dict):
            document.setdefault("_id", secrets.token_hex(16))
        edit = incoming.parse(document)
        parsed.append((edit, document.get("_rev")))
    name = database_name(request)

    def job(transaction: Transaction) -> list[dict[str, Any]]:
        database = databases.find(transaction.connection, name)
        return edits.apply_all(transaction, database, parsed, new_edits=new_edits)

    return answer(await context_of(request).engine.write(job), status=201)


async def all_docs(request: web.Request) -> web.StreamResponse:
    """`GET` or `POST /db/_all_docs`."""
    body = await read_object(request) if request.method == "POST" and request.can_read_body else {}

    def parameter(*names: str) -> Any:
        for name in names:
            if name in body:
                return body[name]
        return json_parameter(request, *names, default=listing.OPEN)

    keys = parameter("keys")
    if keys is listing.OPEN:
        keys = None
    elif not isinstance(keys, list):
        raise bad_request("`keys` parameter must be an array.")
    low, high = parameter("startkey", "start_key"), parameter("endkey", "end_key")
    if (only := parameter("key")) is not listing.OPEN:
        low = high = only
    limit, skip = _number(request, body, "limit"), _number(request, body, "skip") or 0
    query = listing.Query(
        low=low,
        high=high,
        inclusive_end=body.get("inclusive_end", request.query.get("inclusive_end") != "false") is not False,
        descending=_flag(request, body, "descending"),
        include_docs=_flag(request, body, "include_docs"),
        view=view_of(request),
    )
    engine, name = context_of(request).engine, database_name(request)
    if keys is not None:
        if query.descending:
            keys = keys[::-1]
        keys = keys[skip : None if limit is None else skip + limit]
        return answer(await engine.read(listing.by_keys(name, query, keys)))
    first = await engine.read(listing.page(name, query, after=None, skip=skip, limit=limit))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    await response.write(first.head + b",\r\n".join(first.rows))
    at = first
    while at.more is not None:
        left = None if limit is None else (limit := limit - len(at.rows))
        at = await engine.read(listing.page(name, query, after=at.more, skip=0, limit=left))
        await response.write(b"".join(b",\r\n" + row for row in at.rows))
    await response.write(b"\r\n]}\n")
    await response.write_eof()
    return response


def _number(request: web.Request, body: dict[str, Any], name: str) -> int | None:
    if name not in body:
        return number(request, name)
    value = body[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise bad_request(f"Invalid value for {name}")
    return value


def _flag(request: web.Request, body: dict[str, Any], name: str) -> bool:
    if name not in body:
        return flag(request, name)
    if not isinstance(body[name], bool):
        raise bad_request(f"Invalid value for {name}")
    return bool(body[name])


async def find(request: web.Request) -> web.Response:
    """`POST /db/_find`: every document is looked at, or what the types and IDs in the selector leave."""
    body = await read_object(request)
    if "selector" not in body:
        raise bad_request("Missing required key: selector")
    query = listing.find_query(body)
    found = await context_of(request).engine.read(listing.find(database_name(request), query))
    result: dict[str, Any] = {"docs": found, "bookmark": "nil"}
    if query.narrowing is None:
        result["warning"] = "No matching index found, create an index to optimize query time."
    return answer(result)
