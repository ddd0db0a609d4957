"""Service: one request in, one answer out; which handler it is for, and errors as sentences."""

from __future__ import annotations

import logging

from aiohttp import web

from dmedia_transfer.errors import TransferError
from dmedia_transfer.peers import wire
from dmedia_transfer.peers.server.files import Files
from dmedia_transfer.peers.server.uploads import Upload
from dmedia_transfer.serving.pace import Pace
from dmedia_transfer.serving.refusals import Refusal, refusal, refused
from dmedia_transfer.serving.tus import Tus

STOPPED_RETRY_S = 300

log = logging.getLogger(__name__)


class Service:
    """All that peers can ask for."""

    def __init__(self, files: Files, tus: Tus[Upload], pace: Pace) -> None:
        self._files = files
        self._tus = tus
        self._pace = pace

    async def __call__(self, request: web.BaseRequest, machine_id: str) -> web.StreamResponse:
        """Answer a request of this machine of the library."""
        try:
            return await self._route(request, machine_id)
        except Refusal as answer:
            log.debug("%s %s of machine %s: %s %s", request.method, request.path, machine_id, answer.status, answer)
            return answer.response()
        except TransferError as error:
            log.info("%s %s of machine %s: %s", request.method, request.path, machine_id, error)
            return refused(error).response()
        except ConnectionError:
            raise  # the other side has gone away
        except Exception as error:
            if isinstance(error, web.HTTPException):
                raise
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError(str(error)) from error
            log.exception("%s %s of machine %s failed", request.method, request.path, machine_id)
            return refusal(500, "this is a fault of dmedia-transfer", close=True).response()

    async def _route(self, request: web.BaseRequest, machine_id: str) -> web.StreamResponse:
        if self._pace.stopped and request.method in ("GET", "POST", "PATCH"):
            raise refusal(503, "no transfers at this time of day", retry_after_s=STOPPED_RETRY_S, close=True)
        # As it was sent: IDs need no quoting, and so nothing that is quoted is one.
        parts = request.rel_url.raw_path.split("/")
        match parts:
            case ["", "files", file_id]:
                _allow(request, "GET", "HEAD")
                return await self._files.get(request, file_id)
            case ["", "uploads"]:
                _allow(request, "OPTIONS", "POST")
                if request.method == "OPTIONS":
                    return self._tus.options()
                return await self._tus.create(request, machine_id)
            case ["", "uploads", upload_id]:
                return await self._upload(request, upload_id, machine_id)
        raise refusal(404, f"there are {wire.FILES}/FILE_ID and {wire.UPLOADS} here")

    async def _upload(self, request: web.BaseRequest, upload_id: str, machine_id: str) -> web.StreamResponse:
        method = request.method
        if method == "POST":  # of tus, for clients that can do no other methods
            method = request.headers.get("X-HTTP-Method-Override", method).upper()
        match method:
            case "OPTIONS":
                return self._tus.options()
            case "HEAD":
                return await self._tus.head(request, upload_id, machine_id)
            case "PATCH":
                return await self._tus.patch(request, upload_id, machine_id)
            case "DELETE":
                return await self._tus.delete(request, upload_id, machine_id)
        raise _not_allowed("OPTIONS", "HEAD", "PATCH", "DELETE")


def _allow(request: web.BaseRequest, *methods: str) -> None:
    if request.method not in methods:
        raise _not_allowed(*methods)


def _not_allowed(*methods: str) -> Refusal:
    return refusal(405, f"only {', '.join(methods)} here", headers={"Allow": ", ".join(methods)}, close=True)
