"""GET and HEAD of files, with ranges, preconditions and digests as RFC 9110 and RFC 9530 have them.

A file is named by its content and never changes, so its ID is a strong ETag. Of an incomplete file the leaves that
are verified are served; which they are is said in `Dmedia-Leaves`.

Digests are said only if they are asked for (`Want-Content-Digest`, `Want-Repr-Digest`), as they cost a second reading,
and only where they are true: the file's own digest is one of leaf digests and no SHA-256 of its bytes, so
`Repr-Digest` is for files of one leaf, and `Content-Digest` for answers that are no larger than one. Both are made
from the bytes as they are on the disk, not taken from the document: a disk that rotted shows itself.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

from aiohttp import web

from dmedia_transfer import leaves
from dmedia_transfer.errors import FileMissing, TransferError
from dmedia_transfer.peers import wire
from dmedia_transfer.peers.server import outlet
from dmedia_transfer.peers.server.holdings import Holding
from dmedia_transfer.peers.server.outlet import Outlet
from dmedia_transfer.serving import ranges
from dmedia_transfer.serving.pace import Pace
from dmedia_transfer.serving.ranges import Slice
from dmedia_transfer.serving.refusals import refusal

HASH_PIECE_BYTES: Final = 1024 * 1024
PIECE_BYTES: Final = 64 * 1024  # of an answer, where it goes through asyncio

T = TypeVar("T")

log = logging.getLogger(__name__)


class Files:
    """The handler of `/files/FILE_ID`."""

    def __init__(self, find: Callable[[str, str], Holding], *, pace: Pace, executor: Executor) -> None:
        """`find` opens what there is of a file; it blocks, and is called in a thread."""
        self._find = find
        self._pace = pace
        self._executor = executor

    async def get(self, request: web.BaseRequest, file_id: str) -> web.StreamResponse:
        """Answer a GET or HEAD."""
        if not leaves.is_file_id(file_id):
            raise refusal(404, "this is no file ID (48 characters of base32)")
        store_id = request.query.get(wire.STORE_QUERY, "")
        if store_id and not leaves.is_random_id(store_id):
            raise refusal(400, f"{wire.STORE_QUERY} is no ID of a store")
        try:
            holding = await self._call(self._find, file_id, store_id)
        except FileMissing as error:
            raise refusal(404, str(error)) from None
        try:
            return await self._answer(request, file_id, holding)
        finally:
            holding.close()

    async def _answer(self, request: web.BaseRequest, file_id: str, holding: Holding) -> web.StreamResponse:
        etag, size = f'"{file_id}"', holding.file.size
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, max-age=31536000, immutable"}
        if ranges.precondition_failed(request.headers, etag):
            raise refusal(412, "another file is wanted", headers=headers)
        if ranges.not_modified(request.headers, etag):
            return web.Response(status=304, headers=headers)
        if holding.leaves is not None:
            headers[wire.LEAVES] = wire.write_leaves(holding.leaves)
        try:
            # RFC 9110, section 14.2: ranges are for GET only.
            asked = ranges.wanted(request.headers, size, etag) if request.method == "GET" else None
        except ranges.Unsatisfiable:
            raise self._not_there(headers, size, "the file ends before this range") from None
        if asked is not None and not holding.has(asked.start, asked.end):
            raise self._not_there(headers, size, "not all of this range is on this machine yet")
        if asked is None and not holding.has(0, size):
            raise refusal(404, "not all of this file is on this machine yet", headers=headers)
        part = asked or Slice(0, size)
        if asked is not None:
            headers["Content-Range"] = asked.content_range(size)
        headers |= await self._digests(request, holding, part, size)
        response = web.StreamResponse(status=206 if asked is not None else 200, headers=headers)
        response.content_type = "application/octet-stream"
        response.content_length = part.end - part.start
        await response.prepare(request)
        if request.method == "GET":
            await self._send(request, response, file_id, holding, part)
        async with self._pace.patience(f"sending file {file_id}"):
            await response.write_eof()
        return response

    async def _send(
        self, request: web.BaseRequest, response: web.StreamResponse, file_id: str, holding: Holding, part: Slice
    ) -> None:
        """Send the bytes. Once begun, all that can be said of an error is to cut."""
        doing = f"sending file {file_id} to {request.remote}"
        start = part.start
        try:
            async with self._pace.sender():
                while start < part.end:
                    with outlet.opened(request, part.end - start) as way:
                        if way is not None:
                            start = await self._push(doing, way, holding, start, part.end)
                            continue
                    start = await self._write(doing, response, holding, start, part.end)
        except TransferError as error:
            log.warning("%s", error)
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError(str(error)) from error

    async def _write(self, doing: str, response: web.StreamResponse, holding: Holding, start: int, end: int) -> int:
        """Send a piece through asyncio."""
        size = min(PIECE_BYTES, self._pace.piece_bytes, end - start)
        piece = await self._reading(holding.read, start, size)
        async with self._pace.patience(doing):
            await response.write(piece)
        await self._pace.sent(size)
        return start + size

    async def _push(self, doing: str, way: Outlet, holding: Holding, start: int, end: int) -> int:
        """Send all the rest past asyncio."""
        while start < end or way.is_full:
            way.check()
            before = start
            start = await self._reading(way.push, holding.file.read, start, min(end, start + self._pace.burst_bytes))
            if way.is_full:
                async with self._pace.patience(doing):
                    await way.drain()
            await self._pace.sent(start - before)
        return start

    async def _reading(self, function: Callable[..., T], *arguments: object) -> T:
        """As `_call`; does not return before the thread has let go of the file."""
        work = self._call(function, *arguments)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    async def _digests(self, request: web.BaseRequest, holding: Holding, part: Slice, size: int) -> dict[str, str]:
        found: dict[str, str] = {}
        whole = Slice(0, size)
        for name, span in (("Content-Digest", part), ("Repr-Digest", whole)):
            if (
                ranges.wants_sha256(request.headers.get(f"Want-{name}"))
                and span.end - span.start <= leaves.LEAF_BYTES
                and holding.has(span.start, span.end)
            ):
                digest = await self._call(_sha256, holding, span)
                found[name] = f"sha-256=:{base64.b64encode(digest).decode('ascii')}:"
        return found

    def _not_there(self, headers: dict[str, str], size: int, message: str) -> Exception:
        return refusal(416, message, headers={**headers, "Content-Range": f"bytes */{size}"})

    def _call(self, function: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


def _sha256(holding: Holding, span: Slice) -> bytes:
    found = hashlib.sha256()
    for start in range(span.start, span.end, HASH_PIECE_BYTES):
        found.update(holding.read(start, min(HASH_PIECE_BYTES, span.end - start)))
    return found.digest()
