"""Uploads by tus 1.0, with creation (also with the first bytes), expiration, checksum and termination.

What is particular here:

- Only files of the library are taken: `Upload-Metadata` names the file, and length and leaves are held against its
  document. The length is known from the beginning; there is no deferred length.
- A leaf that does not match is refused with 460, at once; the offset is then the beginning of that leaf. It may so be
  lower than one that was told before: a client asks with HEAD, as after any error.
- A newer request for an upload ends an older one: its connection may be half-open, and its client has come back.
- With `Upload-Checksum`, the offset moves only once the whole body has matched; but for the SHA-256 of a whole leaf,
  which is looked at anyway.
- The offset is the length only when the file is published: a client that is told so may forget the file.
- An upload whose first bytes come with its creation is forgotten if they do not get here: nobody knows where it is.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from email.utils import formatdate
from typing import Final

from aiohttp import web

from dmedia_transfer import leaves
from dmedia_transfer.errors import InvalidInput, Stalled, TransferError, Transient
from dmedia_transfer.peers import wire
from dmedia_transfer.peers.server import tuswords
from dmedia_transfer.peers.server.incoming import BadLeaf, Incoming
from dmedia_transfer.peers.server.intake import Intake
from dmedia_transfer.peers.server.pace import PIECE_MIN_BYTES, Pace
from dmedia_transfer.peers.server.refusals import Refusal, refusal, refused
from dmedia_transfer.peers.server.tuswords import Checksum
from dmedia_transfer.peers.server.uploads import Upload

OFFER: Final = {
    "Tus-Version": wire.TUS_VERSION,
    "Tus-Extension": ",".join(wire.TUS_EXTENSIONS),
    "Tus-Checksum-Algorithm": ",".join(wire.TUS_CHECKSUMS),
}

log = logging.getLogger(__name__)


class Tus:
    """The handlers of `/uploads`. For the event loop."""

    def __init__(self, intake: Intake, *, pace: Pace, expire_s: float) -> None:
        self._intake = intake
        self._pace = pace
        self._expire_s = expire_s

    def options(self) -> web.StreamResponse:
        """What there is."""
        return web.Response(status=204, headers={wire.TUS_RESUMABLE: wire.TUS_VERSION, **OFFER})

    async def create(self, request: web.BaseRequest, machine_id: str) -> web.StreamResponse:
        """POST: begin an upload, maybe with its first bytes."""
        _check_version(request)
        has_bytes = request.body_exists and request.content_length != 0
        checksum = _checked(request) if has_bytes else None
        upload = await self._intake.begin(tuswords.read_wish(request.headers), machine_id)
        headers = {"Location": wire.upload_path(upload.id)}
        if not has_bytes:
            headers |= self._headers(upload)
            del headers[wire.UPLOAD_OFFSET]
            return web.Response(status=201, headers=headers)
        try:
            upload = await self._take(request, upload.id, machine_id, 0, checksum)
        except BaseException:
            await asyncio.shield(self._forget(request, upload.id, machine_id))
            raise
        return web.Response(status=201, headers=headers | self._headers(upload))

    async def head(self, request: web.BaseRequest, upload_id: str, machine_id: str) -> web.StreamResponse:
        """HEAD: how far it is."""
        _check_version(request)
        async with self._intake.hold(upload_id, machine_id, request) as upload:
            upload = await self._intake.settle(upload)
        headers = self._headers(upload) | {
            wire.UPLOAD_LENGTH: str(upload.size),
            wire.UPLOAD_METADATA: f"{wire.META_FILE_ID} {base64.b64encode(upload.file_id.encode()).decode('ascii')}",
            "Cache-Control": "no-store",
        }
        return web.Response(status=200, headers=headers)

    async def delete(self, request: web.BaseRequest, upload_id: str, machine_id: str) -> web.StreamResponse:
        """DELETE: it is not wanted any more."""
        _check_version(request)
        async with self._intake.hold(upload_id, machine_id, request) as upload:
            await self._intake.remove(upload)
        return web.Response(status=204, headers={wire.TUS_RESUMABLE: wire.TUS_VERSION})

    async def patch(self, request: web.BaseRequest, upload_id: str, machine_id: str) -> web.StreamResponse:
        """PATCH: more bytes."""
        _check_version(request)
        checksum = _checked(request)
        try:
            offset = tuswords.read_number(request.headers, wire.UPLOAD_OFFSET)
        except InvalidInput as error:
            raise refusal(400, str(error), close=True) from None
        upload = await self._take(request, upload_id, machine_id, offset, checksum)
        return web.Response(status=204, headers=self._headers(upload))

    async def _take(
        self, request: web.BaseRequest, upload_id: str, machine_id: str, offset: int, checksum: Checksum | None
    ) -> Upload:
        """Take in the bytes of a request, which should go to `offset`."""
        async with self._intake.hold(upload_id, machine_id, request) as upload, self._pace.receiver():
            upload = await self._intake.settle(upload)
            if offset != upload.offset:
                raise self._conflict(upload, offset)
            if offset + (request.content_length or 0) > upload.size:
                raise self._too_long(upload)
            if upload.finished:
                return upload
            try:
                incoming = await self._intake.open(upload)
            except Transient as error:
                raise refusal(423, f"the file is being written: {error}", retry_after_s=5, close=True) from None
            except TransferError as error:
                raise _closing(refused(error)) from error
            try:
                if incoming.offset != upload.offset:  # not all is here that was: a drive or a disk failed
                    upload = await self._intake.keep(upload, incoming.offset, tail=incoming.tail)
                    raise self._conflict(upload, offset)
                if (
                    checksum is not None
                    and checksum.algorithm == "sha256"
                    and incoming.is_leaf(request.content_length, checksum.digest)
                ):
                    checksum = None
                return await self._receive(request, upload, incoming, checksum)
            finally:
                await self._intake.call(incoming.close)

    async def _forget(self, request: web.BaseRequest, upload_id: str, machine_id: str) -> None:
        with contextlib.suppress(Refusal):
            async with self._intake.hold(upload_id, machine_id, request) as upload:
                if not upload.finished:
                    await self._intake.remove(upload)

    async def _receive(
        self, request: web.BaseRequest, upload: Upload, incoming: Incoming, checksum: Checksum | None
    ) -> Upload:
        """Take the body in. However it ends, what can be kept of it is kept, and the offset says how much that is."""
        hashing = checksum.begin() if checksum is not None else None
        began = upload.offset
        try:
            while True:
                async with self._pace.patience(f"{upload}"):
                    data = await _piece(request)
                if not data:
                    break
                if hashing is not None:
                    hashing.update(data)
                surplus = len(data) - (upload.size - incoming.offset)  # of a body whose length was not said
                await self._pace.received(len(data))
                rest = memoryview(data)[: len(data) - max(0, surplus)]
                while rest:
                    taken = min(len(rest), incoming.room())
                    incoming.gather(rest[:taken])
                    rest = rest[taken:]
                    if not incoming.room():
                        await self._intake.call(incoming.commit)
                        if checksum is None and not incoming.complete:
                            upload = await self._intake.keep(upload, incoming.offset, durable=False)
                if surplus > 0:
                    raise self._too_long(upload)  # noqa: TRY301 - what is of the file is kept, as after any error
        except BadLeaf as bad:
            offset = incoming.offset if checksum is None else min(incoming.offset, began)
            upload = await self._intake.keep(upload, offset, tail=None if offset % leaves.LEAF_BYTES else b"")
            log.warning("%s: %s", upload, bad)
            raise self._mismatch(upload, bad) from None
        except Exception as error:
            if incoming.complete:  # what went wrong then is of no more concern
                upload = await self._intake.finish(upload, incoming)
            elif checksum is None:
                upload = await self._intake.keep(upload, incoming.offset, tail=incoming.tail)
            elif incoming.verified > began:  # these leaves are right, whatever the checksum would have said
                upload = await self._intake.keep(upload, incoming.verified, tail=b"")
            log.info(
                "%s: ended at %s of %s bytes: %s", upload, upload.offset, upload.size, error or type(error).__name__
            )
            raise self._ended(upload, error) from error
        if checksum is not None and hashing is not None and hashing.digest() != checksum.digest:
            raise refusal(
                wire.CHECKSUM_MISMATCH,
                f"the body has another {checksum.algorithm} than {wire.UPLOAD_CHECKSUM} says",
                headers=self._headers(upload),
            )
        if incoming.complete:
            return await self._intake.finish(upload, incoming)
        return await self._intake.keep(upload, incoming.offset, tail=incoming.tail)

    def _headers(self, upload: Upload) -> dict[str, str]:
        headers = {wire.TUS_RESUMABLE: wire.TUS_VERSION, wire.UPLOAD_OFFSET: str(upload.offset)}
        if not upload.finished:
            headers[wire.UPLOAD_EXPIRES] = formatdate(upload.time + self._expire_s, usegmt=True)
        return headers

    def _conflict(self, upload: Upload, offset: int) -> Refusal:
        message = f"{wire.UPLOAD_OFFSET} is {upload.offset}, not {offset}"
        return refusal(409, message, headers=self._headers(upload), close=True)

    def _too_long(self, upload: Upload) -> Refusal:
        return refusal(413, f"the file has {upload.size} bytes", headers=self._headers(upload), close=True)

    def _mismatch(self, upload: Upload, bad: BadLeaf) -> Refusal:
        expected = f"sha-256=:{base64.b64encode(bad.expected).decode('ascii')}:"
        headers = {**self._headers(upload), wire.LEAF: str(bad.index), wire.EXPECTED: expected}
        return refusal(wire.CHECKSUM_MISMATCH, str(bad), headers=headers, close=True)

    def _ended(self, upload: Upload, error: Exception) -> Exception:
        if isinstance(error, Refusal):
            error.headers = {**error.headers, **self._headers(upload)}
            return error
        if isinstance(error, Stalled):
            return refusal(408, str(error), close=True)
        if isinstance(error, TransferError):
            return _closing(refused(error))
        return error


def _checked(request: web.BaseRequest) -> Checksum | None:
    """The checksum of a request's bytes, which are to be just that."""
    if request.content_type != wire.UPLOAD_CONTENT_TYPE or "Content-Encoding" in request.headers:
        raise refusal(415, f"the Content-Type should be {wire.UPLOAD_CONTENT_TYPE}, without encoding", close=True)
    try:
        return tuswords.read_checksum(request.headers)
    except InvalidInput as error:
        raise refusal(400, str(error), close=True) from None


async def _piece(request: web.BaseRequest) -> bytes:
    """Some of the body, and not too little: whoever drips does not get a piece together in time. Empty at the end."""
    data = await request.content.readany()
    if not data or len(data) >= PIECE_MIN_BYTES:
        return data
    gathered = bytearray(data)
    while len(gathered) < PIECE_MIN_BYTES and (data := await request.content.readany()):
        gathered += data
    return bytes(gathered)


def _check_version(request: web.BaseRequest) -> None:
    if request.headers.get(wire.TUS_RESUMABLE) != wire.TUS_VERSION:
        message = f"{wire.TUS_RESUMABLE} should be {wire.TUS_VERSION}"
        raise refusal(412, message, headers={"Tus-Version": wire.TUS_VERSION}, close=True)


def _closing(answer: Refusal) -> Refusal:
    return Refusal(answer.status, answer.message, answer.headers, close=True)
