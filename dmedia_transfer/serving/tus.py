"""Uploads by tus 1.0, with creation (also with the first bytes), expiration, checksum and termination.

What is kept, and where, is the business of an `Intake`. What is particular here:

- The length is known from the beginning; there is no deferred length.
- Bytes are gathered until they are a leaf, and each leaf is committed as a whole. One that is not what it should be is
  refused with 460, at once; the offset is then the beginning of that leaf. It may so be lower than one that was told
  before: a client asks with HEAD, as after any error.
- A newer request for an upload ends an older one: its connection may be half-open, and its client has come back.
- With `Upload-Checksum`, the offset moves only once the whole body has matched; but for the SHA-256 of a whole leaf,
  which is looked at anyway.
- The offset is the length only when the file is published: a client that is told so may forget the file.
- An upload whose first bytes come with its creation is forgotten if they do not get here: nobody knows where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from email.utils import formatdate
from types import MappingProxyType
from typing import Any, Final, Generic, Protocol, TypeVar

from aiohttp import web

from dmedia_transfer import leaves
from dmedia_transfer.errors import InvalidInput, Stalled, TransferError, Transient
from dmedia_transfer.serving import tuswords
from dmedia_transfer.serving.pace import PIECE_MIN_BYTES, Pace
from dmedia_transfer.serving.refusals import Refusal, refusal, refused
from dmedia_transfer.serving.tuswords import Checksum

OFFER: Final = {
    "Tus-Version": tuswords.TUS_VERSION,
    "Tus-Extension": ",".join(tuswords.TUS_EXTENSIONS),
    "Tus-Checksum-Algorithm": ",".join(tuswords.TUS_CHECKSUMS),
}

log = logging.getLogger(__name__)


class Mismatch(Exception):
    """A leaf that is not what it should be. `headers` go into the answer."""

    headers: Mapping[str, str] = MappingProxyType({})


class Upload(Protocol):
    """An upload, as far as the protocol knows it."""

    @property
    def id(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def offset(self) -> int: ...

    @property
    def finished(self) -> bool: ...

    @property
    def time(self) -> float:
        """Unix seconds when something last came in."""


class Incoming(Protocol):
    """An open upload that bytes are added to in order; for threads, one at a time."""

    @property
    def offset(self) -> int:
        """How many bytes are here: leaves that were committed, and what was gathered."""

    @property
    def verified(self) -> int:
        """How many bytes were committed."""

    @property
    def complete(self) -> bool:
        """Whether all were."""

    @property
    def tail(self) -> memoryview:
        """The bytes of the leaf that is not complete yet."""

    def is_leaf(self, size: int | None, sha256: bytes) -> bool:
        """Whether the next `size` bytes are a whole leaf that is checked to have this digest anyway."""

    def room(self) -> int:
        """How many bytes are missing until the leaf is complete; 0 if all are here."""

    def gather(self, data: memoryview) -> None:
        """Add bytes, no more than `room`. Quick."""

    def commit(self) -> None:
        """The leaf is complete.

        Raises:
            Mismatch: It is not what it should be, and is thrown away.
            TransferError: It was not written.
        """

    def close(self) -> None:
        """Let go, and leave it as it is."""


U = TypeVar("U", bound=Upload)
T = TypeVar("T")


class Intake(Protocol[U]):
    """Which uploads there are, who holds one, and what becomes of them. `owner` is who sends them."""

    def call(self, function: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Do something that blocks in a thread."""

    async def begin(self, headers: Mapping[str, str], owner: str) -> U:
        """A new upload, as the headers of a POST want it, for which there is room; or `Refusal`."""

    def metadata(self, upload: U) -> Mapping[str, str]:
        """What a HEAD is told of it."""

    def hold(self, upload_id: str, owner: str, request: web.BaseRequest) -> AbstractAsyncContextManager[U]:
        """Hold an upload alone; an older request for it is ended. `Refusal` if the owner has none of this ID."""

    async def settle(self, upload: U) -> U:
        """The upload, and whether it is finished by now in another way."""

    async def open(self, upload: U) -> Incoming:
        """Go on where the upload is, or raise `TransferError`."""

    async def keep(self, upload: U, offset: int, *, tail: bytes | memoryview | None = None, durable: bool = True) -> U:
        """The upload is so far; with `durable` it is on the disk when this returns."""

    async def finish(self, upload: U, file: Any) -> U:
        """All is here, in the `Incoming` that `open` gave: publish the file; or `Refusal`."""

    async def remove(self, upload: U) -> None:
        """Forget an upload; nothing of it stays, unless somebody else needs it."""


class Tus(Generic[U]):
    """The handlers of the protocol. For the event loop."""

    def __init__(self, intake: Intake[U], *, location: Callable[[str], str], pace: Pace, expire_s: float) -> None:
        """`location` is the path of an upload, by its ID."""
        self._intake = intake
        self._location = location
        self._pace = pace
        self._expire_s = expire_s

    def options(self) -> web.StreamResponse:
        """What there is."""
        return web.Response(status=204, headers={tuswords.TUS_RESUMABLE: tuswords.TUS_VERSION, **OFFER})

    async def create(self, request: web.BaseRequest, owner: str) -> web.StreamResponse:
        """POST: begin an upload, maybe with its first bytes."""
        _check_version(request)
        has_bytes = request.body_exists and request.content_length != 0
        checksum = _checked(request) if has_bytes else None
        upload = await self._intake.begin(request.headers, owner)
        headers = {"Location": self._location(upload.id)}
        if not has_bytes:
            headers |= self._headers(upload)
            del headers[tuswords.UPLOAD_OFFSET]
            return web.Response(status=201, headers=headers)
        try:
            upload = await self._take(request, upload.id, owner, 0, checksum)
        except BaseException:
            await asyncio.shield(self._forget(request, upload.id, owner))
            raise
        return web.Response(status=201, headers=headers | self._headers(upload))

    async def head(self, request: web.BaseRequest, upload_id: str, owner: str) -> web.StreamResponse:
        """HEAD: how far it is."""
        _check_version(request)
        async with self._intake.hold(upload_id, owner, request) as upload:
            upload = await self._intake.settle(upload)
        headers = self._headers(upload) | {
            tuswords.UPLOAD_LENGTH: str(upload.size),
            tuswords.UPLOAD_METADATA: tuswords.write_metadata(self._intake.metadata(upload)),
            "Cache-Control": "no-store",
        }
        return web.Response(status=200, headers=headers)

    async def delete(self, request: web.BaseRequest, upload_id: str, owner: str) -> web.StreamResponse:
        """DELETE: it is not wanted any more."""
        _check_version(request)
        async with self._intake.hold(upload_id, owner, request) as upload:
            await self._intake.remove(upload)
        return web.Response(status=204, headers={tuswords.TUS_RESUMABLE: tuswords.TUS_VERSION})

    async def patch(self, request: web.BaseRequest, upload_id: str, owner: str) -> web.StreamResponse:
        """PATCH: more bytes."""
        _check_version(request)
        checksum = _checked(request)
        try:
            offset = tuswords.read_number(request.headers, tuswords.UPLOAD_OFFSET)
        except InvalidInput as error:
            raise refusal(400, str(error), close=True) from None
        upload = await self._take(request, upload_id, owner, offset, checksum)
        return web.Response(status=204, headers=self._headers(upload))

    async def _take(
        self, request: web.BaseRequest, upload_id: str, owner: str, offset: int, checksum: Checksum | None
    ) -> U:
        """Take in the bytes of a request, which should go to `offset`."""
        async with self._intake.hold(upload_id, owner, request) as upload, self._pace.receiver():
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

    async def _forget(self, request: web.BaseRequest, upload_id: str, owner: str) -> None:
        with contextlib.suppress(Refusal):
            async with self._intake.hold(upload_id, owner, request) as upload:
                if not upload.finished:
                    await self._intake.remove(upload)

    async def _receive(self, request: web.BaseRequest, upload: U, incoming: Incoming, checksum: Checksum | None) -> U:
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
        except Mismatch as bad:
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
                tuswords.CHECKSUM_MISMATCH,
                f"the body has another {checksum.algorithm} than {tuswords.UPLOAD_CHECKSUM} says",
                headers=self._headers(upload),
            )
        if incoming.complete:
            return await self._intake.finish(upload, incoming)
        return await self._intake.keep(upload, incoming.offset, tail=incoming.tail)

    def _headers(self, upload: U) -> dict[str, str]:
        headers = {tuswords.TUS_RESUMABLE: tuswords.TUS_VERSION, tuswords.UPLOAD_OFFSET: str(upload.offset)}
        if not upload.finished:
            headers[tuswords.UPLOAD_EXPIRES] = formatdate(upload.time + self._expire_s, usegmt=True)
        return headers

    def _conflict(self, upload: U, offset: int) -> Refusal:
        message = f"{tuswords.UPLOAD_OFFSET} is {upload.offset}, not {offset}"
        return refusal(409, message, headers=self._headers(upload), close=True)

    def _too_long(self, upload: U) -> Refusal:
        return refusal(413, f"the file has {upload.size} bytes", headers=self._headers(upload), close=True)

    def _mismatch(self, upload: U, bad: Mismatch) -> Refusal:
        headers = {**self._headers(upload), **bad.headers}
        return refusal(tuswords.CHECKSUM_MISMATCH, str(bad), headers=headers, close=True)

    def _ended(self, upload: U, error: Exception) -> Exception:
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
    if request.content_type != tuswords.UPLOAD_CONTENT_TYPE or "Content-Encoding" in request.headers:
        raise refusal(415, f"the Content-Type should be {tuswords.UPLOAD_CONTENT_TYPE}, without encoding", close=True)
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
    if request.headers.get(tuswords.TUS_RESUMABLE) != tuswords.TUS_VERSION:
        message = f"{tuswords.TUS_RESUMABLE} should be {tuswords.TUS_VERSION}"
        raise refusal(412, message, headers={"Tus-Version": tuswords.TUS_VERSION}, close=True)


def _closing(answer: Refusal) -> Refusal:
    return Refusal(answer.status, answer.message, answer.headers, close=True)
