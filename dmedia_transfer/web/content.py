"""The content of files: resumable downloads by Range, from a FileStore of this machine.

A file is named by its content and never changes, so its ID is a strong ETag: what was begun a week ago goes on, and
never with the bytes of another file. A page must not run what is in somebody's file: it is always something to be saved
(or a film, a song or a picture to be shown), and a sandbox if a browser shows it all the same.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final
from urllib.parse import quote

from aiohttp import web

from dmedia_transfer.errors import FileMissing, TransferError
from dmedia_transfer.ports import LocalFile
from dmedia_transfer.serving import ranges
from dmedia_transfer.serving.ranges import Slice
from dmedia_transfer.web.api import Api
from dmedia_transfer.web.guard import secured
from dmedia_transfer.web.models import FileId
from dmedia_transfer.web.refusals import Refusal
from dmedia_transfer.web.routes import Answer, Header, Route

TAG = "places"
PIECE_BYTES: Final = 1024 * 1024
SLICE_BYTES: Final = 64 * 1024  # more in one piece would be copied once more
PATIENCE_S: Final = 120.0  # for a reader that takes nothing: a browser whose download is paused is cut, and comes back
_SHOWN: Final = re.compile(r"(video|audio)/[\w.+-]+|image/(png|jpeg|gif|webp|avif)", re.ASCII)

log = logging.getLogger(__name__)


async def download_file(api: Api, request: web.BaseRequest, file_id: FileId) -> web.StreamResponse:
    """Download a file that is on this machine, or a part of it.

    The ETag is the file's ID. With `Range`, and maybe `If-Range`, a download goes on where it was cut: `curl -C -`.
    """
    etag = f'"{file_id}"'
    file = await api.bridge.thread(_open, api, file_id)
    try:
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, max-age=31536000, immutable"}
        if ranges.precondition_failed(request.headers, etag):
            raise Refusal(412, "another file is wanted", headers=headers)
        if ranges.not_modified(request.headers, etag):
            return web.Response(status=304, headers=headers)
        try:
            # RFC 9110, section 14.2: ranges are for GET only.
            asked = ranges.wanted(request.headers, file.size, etag) if request.method == "GET" else None
        except ranges.Unsatisfiable:
            told = {**headers, "Content-Range": f"bytes */{file.size}"}
            raise Refusal(416, "the file ends before this range", headers=told) from None
        part = asked or Slice(0, file.size)
        if asked is not None:
            headers["Content-Range"] = asked.content_range(file.size)
        headers |= await _presentation(api, file_id)
        response = web.StreamResponse(status=206 if asked is not None else 200, headers=headers)
        response.content_length = part.end - part.start
        secured(response)
        await response.prepare(request)
        if request.method == "GET":
            await _send(api, request, response, file, part)
        await response.write_eof()
        return response
    finally:
        await api.bridge.thread(file.close)


def _open(api: Api, file_id: str) -> LocalFile:
    for store in api.edges.filestores.all():
        try:
            return store.open(file_id)
        except TransferError:
            continue
    raise FileMissing(f"file {file_id} is in no FileStore of this machine")


async def _presentation(api: Api, file_id: str) -> dict[str, str]:
    """How a browser has to take it."""
    await api.facts.names([file_id])
    fact = api.facts.fact(file_id)
    mime, name = (fact.mime, fact.name) if fact is not None else ("", "")
    plain = re.sub(r"[^\w. -]", "_", name, flags=re.ASCII)[:200] or file_id
    if fact is not None and not name and fact.ext:
        plain = f"{file_id}.{fact.ext}"
    extended = f"; filename*=UTF-8''{quote(name.encode('utf-8', 'replace')[:600], safe='')}" if name else ""
    return {
        "Content-Type": mime if _SHOWN.fullmatch(mime) else "application/octet-stream",
        "Content-Disposition": f'attachment; filename="{plain}"{extended}',
        "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    }


async def _send(api: Api, request: web.BaseRequest, response: web.StreamResponse, file: LocalFile, part: Slice) -> None:
    """Send the bytes, reading one piece ahead. Once begun, all that can be said of an error is to cut."""

    def ahead(start: int) -> asyncio.Task[memoryview] | None:
        if start >= part.end:
            return None
        size = min(PIECE_BYTES, part.end - start)
        return asyncio.get_running_loop().create_task(api.bridge.thread(_read, file, start, size))

    start, following = part.start, ahead(part.start)
    try:
        while following is not None:
            piece = await following
            start += len(piece)
            following = ahead(start)
            async with asyncio.timeout(PATIENCE_S):
                for offset in range(0, len(piece), SLICE_BYTES):
                    await response.write(piece[offset : offset + SLICE_BYTES])
    except (TransferError, TimeoutError) as error:
        log.info("sending %s: %s", request.path, error or "nobody takes it")
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError(str(error)) from error
    finally:
        if following is not None:  # the file stays open until its last read has ended
            await asyncio.shield(asyncio.wait([following]))
            following.exception()


def _read(file: LocalFile, start: int, size: int) -> memoryview:
    into = memoryview(bytearray(size))
    file.read(start, into)
    return into


_HEADERS: Final = (
    Header("Content-Disposition", "its name"),
    Header("ETag", "the file's ID"),
    Header("Accept-Ranges", "`bytes`"),
)

ROUTES = (
    Route(
        "GET",
        "/files/{file_id}/content",
        download_file,
        TAG,
        raw=True,
        headers=(
            Header("Range", "`bytes=FIRST-`, `bytes=FIRST-LAST` or `bytes=-COUNT`"),
            Header("If-Range", "the ETag of what was begun: of another file, all is sent"),
            Header("If-None-Match", "ETags of what is there already"),
            Header("If-Match", "ETags of what is wanted"),
        ),
        answers=(
            Answer(200, "The whole file", "application/octet-stream", _HEADERS),
            Answer(206, "The part that was asked for", "application/octet-stream", _HEADERS),
            Answer(304, "It is there already"),
        ),
        refuses=(412, 416),
    ),
)
