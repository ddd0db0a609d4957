"""Service: one request in, one answer out; whether it is let in, what it is for, and errors as problems."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final

from aiohttp import web

from dmedia_transfer.errors import TransferError
from dmedia_transfer.serving import refusals as serving
from dmedia_transfer.web import page
from dmedia_transfer.web.api import Api
from dmedia_transfer.web.guard import secured
from dmedia_transfer.web.refusals import Refusal, refused
from dmedia_transfer.web.routes import API, Table

ANSWER_S: Final = 120.0  # for a request and its answer, where they are no stream
_LINK: Final = re.compile(r"/open/([\w-]{8,64})", re.ASCII)

log = logging.getLogger(__name__)


class Service:
    """All that can be asked for."""

    def __init__(self, api: Api, table: Table) -> None:
        self._api = api
        self._table = table

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        what = f"{request.method} {request.rel_url.raw_path}"
        try:
            response = await self._route(request)
        except Refusal as refusal:
            log.debug("%s: %s %s", what, refusal.status, refusal)
            response = refusal.response()
        except serving.Refusal as error:
            log.debug("%s: %s %s", what, error.status, error)
            response = Refusal(error.status, error.message, headers=error.headers, close=error.close).response()
        except TransferError as error:
            log.debug("%s: %s", what, error)
            response = refused(error).response()
        except TimeoutError:
            response = Refusal(408, "the request took too long", close=True).response()
        except ConnectionError:
            raise  # the other side has gone away
        except web.HTTPException as error:
            response = Refusal(error.status, error.reason, close=True).response()
        except Exception as error:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError(str(error)) from error
            log.exception("%s failed", what)
            fault = f"a fault of dmedia-transfer ({type(error).__name__}); its log says more"
            response = Refusal(500, fault, close=True).response()
        if not response.prepared:
            secured(response)
        return response

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if page.is_page(path):
            self._api.guard.check(request, public=True)
            _only_read(request)
            return page.serve(request)
        if match := _LINK.fullmatch(path):
            self._api.guard.check(request, public=True)
            if request.method != "GET":
                raise Refusal(405, "a link is followed with GET", headers={"Allow": "GET"})
            return self._api.guard.sign_in(request, match[1])
        self._api.guard.check(request)
        if not self._table.knows(path):
            raise Refusal(404, f"the API is at {API}, and {API}/openapi.json describes it")
        route, parts = self._table.find(request.method, path)
        if route.raw:
            return await route(self._api, request, parts)
        async with asyncio.timeout(ANSWER_S):
            return await route(self._api, request, parts)


def _only_read(request: web.BaseRequest) -> None:
    if request.method not in ("GET", "HEAD"):
        raise Refusal(405, "the page can only be read", headers={"Allow": "GET, HEAD"}, close=True)
