"""The server itself: welcome, health, who am I, which databases."""

from __future__ import annotations

import secrets

from aiohttp import web

from dmedia_transfer import __version__
from dmedia_transfer.couch.embedded import databases
from dmedia_transfer.couch.embedded.handlers.common import answer, context_of, number
from dmedia_transfer.couch.embedded.problems import missing


async def welcome(request: web.Request) -> web.Response:
    """`GET /`."""
    return answer(
        {
            "couchdb": "Welcome",
            "version": "3.3.3",  # whose protocol we speak; clients look at it to know what they may ask
            "uuid": context_of(request).uuid,
            "features": [],
            "vendor": {"name": "dmedia-transfer", "version": __version__},
        }
    )


async def up(request: web.Request) -> web.Response:
    """`GET /_up`."""
    return answer({"status": "ok"})


async def session(request: web.Request) -> web.Response:
    """`GET /_session`: whoever comes this far is the one user, with Basic authentication."""
    return answer(
        {
            "ok": True,
            "userCtx": {"name": context_of(request).user, "roles": ["_admin"]},
            "info": {"authentication_handlers": ["default"], "authenticated": "default"},
        }
    )


async def no_cookies(request: web.Request) -> web.Response:
    """`POST /_session`: there are no cookies here; told by a 404, Apache's replicator goes on with Basic."""
    raise missing("Sessions are not supported; use Basic authentication.")


async def all_dbs(request: web.Request) -> web.Response:
    """`GET /_all_dbs`."""
    return answer(await context_of(request).engine.read(databases.names))


async def uuids(request: web.Request) -> web.Response:
    """`GET /_uuids`."""
    count = number(request, "count")
    return answer({"uuids": [secrets.token_hex(16) for _ in range(min(1 if count is None else count, 1000))]})
