"""The aiohttp application: routes, who may ask, and errors as JSON."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
import sqlite3
from hashlib import sha256
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from dmedia_transfer.couch.embedded.handlers import (
    attachment,
    bulk,
    changes,
    database,
    document,
    local,
    replication,
    server,
)
from dmedia_transfer.couch.embedded.handlers.common import CONTEXT, Context, answer
from dmedia_transfer.couch.embedded.problems import Problem

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 512 * 1024 * 1024  # attachments included, in base64


def make_app(context: Context, *, password: str) -> web.Application:
    """The application. `context.user` with `password` may do everything, everybody else nothing."""
    app = web.Application(middlewares=[_errors, _guard(context.user, password)], client_max_size=MAX_REQUEST_BYTES)
    app[CONTEXT] = context
    app.add_routes(_routes())
    return app


def _routes() -> list[web.RouteDef]:
    db, id, design = r"/{db:[^/]+}", r"/{id:[^/]+}", r"/_design/{design:[^/]+}"
    attached = r"/{attachment:[\s\S]+}"
    routes = [
        web.get("/", server.welcome),
        web.get("/_up", server.up),
        web.get("/_session", server.session),
        web.post("/_session", server.no_cookies),
        web.get("/_all_dbs", server.all_dbs),
        web.get("/_uuids", server.uuids),
    ]
    for path in (db, db + "/"):
        routes += [
            web.get(path, database.describe),
            web.put(path, database.create),
            web.delete(path, database.delete),
            web.post(path, document.post),
        ]
    routes += [
        web.get(db + "/_all_docs", bulk.all_docs),
        web.post(db + "/_all_docs", bulk.all_docs),
        web.post(db + "/_bulk_docs", bulk.bulk_docs),
        web.post(db + "/_bulk_get", replication.bulk_get),
        web.get(db + "/_changes", changes.feed, allow_head=False),
        web.post(db + "/_changes", changes.feed),
        web.post(db + "/_compact", database.compact),
        web.post(db + "/_ensure_full_commit", database.ensure_full_commit),
        web.post(db + "/_find", bulk.find),
        web.get(db + "/_local_docs", local.listing),
        web.post(db + "/_missing_revs", replication.missing_revs),
        web.post(db + "/_revs_diff", replication.revs_diff),
        web.get(db + "/_revs_limit", database.get_revs_limit),
        web.put(db + "/_revs_limit", database.put_revs_limit),
        web.get(db + "/_security", database.get_security),
        web.put(db + "/_security", database.put_security),
        web.post(db + "/_view_cleanup", database.view_cleanup),
        web.get(db + "/_local" + id, local.get),
        web.put(db + "/_local" + id, local.put),
        web.delete(db + "/_local" + id, local.delete),
    ]
    for path in (db + design, db + id):
        routes += [
            web.get(path, document.get),
            web.put(path, document.put),
            web.delete(path, document.delete),
            web.get(path + attached, attachment.get),
            web.put(path + attached, attachment.put),
            web.delete(path + attached, attachment.delete),
        ]
    return routes


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever goes wrong is told in CouchDB's words."""
    try:
        return await handler(request)
    except Problem as problem:
        headers = {"WWW-Authenticate": 'Basic realm="dmedia-transfer"'} if problem.status == 401 else None
        return answer(problem.as_json(), status=problem.status, headers=headers)
    except web.HTTPMethodNotAllowed as error:
        allowed = ",".join(sorted(error.allowed_methods))
        return answer(
            {"error": "method_not_allowed", "reason": f"Only {allowed} allowed"}, status=405, headers={"Allow": allowed}
        )
    except web.HTTPRequestEntityTooLarge:
        return answer({"error": "too_large", "reason": "the request entity is too large"}, status=413)
    except web.HTTPNotFound:
        return answer({"error": "not_found", "reason": "missing"}, status=404)
    except ConnectionError:
        raise  # the client has gone away
    except sqlite3.Error as error:
        log.exception("%s %s failed", request.method, request.path)
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        if full:
            return answer({"error": "insufficient_storage", "reason": "the disk is full"}, status=507)
        return answer({"error": "internal_server_error", "reason": type(error).__name__}, status=500)
    except Exception as error:
        if isinstance(error, web.HTTPException):
            raise
        log.exception("%s %s failed", request.method, request.path)
        return answer({"error": "internal_server_error", "reason": type(error).__name__}, status=500)


def _guard(user: str, password: str) -> Middleware:
    """Let only the one user in, and no web page at all."""
    expected = sha256(f"{user}:{password}".encode()).digest()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        # A web page that lets its own name resolve to 127.0.0.1 still sends that name.
        if not _is_loopback(f"//{request.headers.get('Host', '')}"):
            raise Problem(403, "forbidden", "This server answers to loopback names only.")
        if (origin := request.headers.get("Origin")) is not None and not _is_loopback(origin):
            raise Problem(403, "forbidden", "This server does not answer web pages.")
        given = sha256(_credentials(request.headers.get("Authorization", ""))).digest()
        if not hmac.compare_digest(given, expected):
            raise Problem(401, "unauthorized", "Authentication required.")
        return await handler(request)

    return guard


def _credentials(header: str) -> bytes:
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (ValueError, binascii.Error):
        return b""


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
