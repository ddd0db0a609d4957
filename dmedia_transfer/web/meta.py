"""Meta: the description of the API, and links to the page."""

from __future__ import annotations

import json

from aiohttp import web

from dmedia_transfer.web.api import Api
from dmedia_transfer.web.models import Link
from dmedia_transfer.web.routes import Answer, Route
from dmedia_transfer.web.tokens import LINK_S

TAG = "meta"


async def describe_api(api: Api, request: web.BaseRequest) -> web.StreamResponse:
    """Describe this API as OpenAPI 3.1."""
    return web.Response(text=json.dumps(api.description), content_type="application/json")


async def make_link(api: Api) -> Link:
    """Make a link that opens the page in a browser, once, within five minutes."""
    return Link(url=f"{api.guard.page}/open/{api.tokens.new_link()}", expires_s=LINK_S)


ROUTES = (
    Route(
        "GET",
        "/openapi.json",
        describe_api,
        TAG,
        raw=True,
        answers=(Answer(200, "This document", "application/json"),),
    ),
    Route("POST", "/links", make_link, TAG, status=201),
)
