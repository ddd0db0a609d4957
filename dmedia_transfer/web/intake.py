"""Intake: the uploads of new files, from a browser or any client of tus; who holds one, and what becomes of them.

The file is hashed as it comes, gets a document when it is complete, and is queued where its metadata says. One request
at a time holds an upload; a newer one ends an older one, whose connection may be half-open. Cancelling removes what has
arrived; so does time, if nobody goes on with it. For the web's event loop.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import mimetypes
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from aiohttp import web
from pydantic import Field

from dmedia_transfer import leaves
from dmedia_transfer.errors import InvalidInput, TransferError, Transient, shown
from dmedia_transfer.fields import RandomIdOrNone
from dmedia_transfer.model import AddFile, Direction, Entry, TransferKey, random_id
from dmedia_transfer.ports import LeafRecords
from dmedia_transfer.serving import tuswords
from dmedia_transfer.serving.refusals import refusal, refused
from dmedia_transfer.serving.uploads import Kept, Uploads
from dmedia_transfer.web.arriving import Arriving
from dmedia_transfer.web.bridge import Bridge
from dmedia_transfer.web.edges import LocalStores, Receiver

MOST_UPLOADS: Final = 64
TAKE_OVER_S: Final = 10.0  # until an older request has let go
FINISHED_KEPT_S: Final = 3600.0  # for a client that wants to know what became of it
SWEEP_S: Final = 300.0
ORIGIN: Final = "user"
_EXT: Final = re.compile(r"[a-z0-9]{1,16}", re.ASCII)
_MIME: Final = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}", re.ASCII)
_NAME_MAX: Final = 1024

T = TypeVar("T")

log = logging.getLogger(__name__)


class NewFile(Kept):
    """One upload."""

    store_id: str  # the FileStore that it goes to
    place_id: str  # under which its partial file is there
    name: str = ""
    mime: str = ""
    upload_to: RandomIdOrNone = ""  # a store that it is sent on to
    file_id: str = ""  # once all is here
    leaf_digests: str = Field(default="", repr=False)  # packed, base64; likewise
    told: bool = False  # the library knows of it

    def __str__(self) -> str:
        return f"upload {self.id:.8}"


@dataclass
class _Holder:
    request: web.BaseRequest | None  # None: the sweep
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class WebIntake:
    """`serving.tus.Intake` for new files."""

    def __init__(
        self,
        receiver: Receiver,
        filestores: LocalStores,
        *,
        bridge: Bridge,
        executor: Executor,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take up what an earlier life has left.

        Raises:
            InvalidConfig: The folder for uploads cannot be used.
        """
        self._receiver = receiver
        self._filestores = filestores
        self._bridge = bridge
        self._executor = executor
        self._clock = clock
        self._uploads = Uploads(receiver.folder, NewFile)
        self._holders: dict[str, _Holder] = {}

    @property
    def expire_s(self) -> float:
        """Seconds after which an upload goes that nobody goes on with."""
        return self._receiver.expire_s

    def call(self, function: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Do something that blocks in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    def get(self, upload_id: str) -> NewFile | None:
        """An upload, as it was kept last."""
        return self._uploads.get(upload_id)

    def metadata(self, upload: NewFile) -> Mapping[str, str]:
        """What a HEAD is told of it."""
        told = {"filename": upload.name, "filetype": upload.mime, "store_id": upload.store_id}
        told |= {"upload_to": upload.upload_to, "file_id": upload.file_id}
        return {key: value for key, value in told.items() if value}

    async def begin(self, headers: Mapping[str, str], owner: str) -> NewFile:
        """A new upload, for which there is room.

        Raises:
            InvalidInput: The headers cannot be understood.
            Refusal: It is not taken; the answer says why.
        """
        size, wish = tuswords.read_length(headers), tuswords.read_metadata(headers)
        if not size:
            raise InvalidInput("the file is empty, and empty files are not kept")
        if sum(not each.finished for each in self._uploads) >= MOST_UPLOADS:
            raise refusal(429, f"there are {MOST_UPLOADS} uploads under way already", retry_after_s=60)
        for key in ("store_id", "upload_to"):
            if wish.get(key) and not leaves.is_random_id(wish[key]):
                raise InvalidInput(f"{tuswords.UPLOAD_METADATA}: {key}: {shown(wish[key])} is no ID of a store")
        upload = await self.call(self._prepare, size, wish)
        log.info("%s: begun, %s bytes to store %s", upload, upload.size, upload.store_id)
        return upload

    @contextlib.asynccontextmanager
    async def hold(self, upload_id: str, owner: str, request: web.BaseRequest) -> AsyncIterator[NewFile]:
        """Hold an upload alone; an older request that does is ended.

        Raises:
            Refusal: There is no such upload, or the older request does not let go.
        """
        while (holder := self._holders.get(upload_id)) is not None:
            if holder.request is not None and holder.request.transport is not None:
                holder.request.transport.abort()
            try:
                await asyncio.wait_for(holder.gone.wait(), TAKE_OVER_S)
            except TimeoutError:
                raise refusal(423, "an older request has not let go of this upload yet", close=True) from None
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise refusal(404, "there is no such upload: it was never begun, has expired, or was deleted", close=True)
        holder = self._holders[upload_id] = _Holder(request)
        try:
            yield upload
        finally:
            del self._holders[upload_id]
            holder.gone.set()

    async def settle(self, upload: NewFile) -> NewFile:
        """The upload; finished, if its file was published before we were killed."""
        if not upload.finished and upload.file_id and await self.call(self._is_here, upload):
            return await self._finished(upload)
        return upload

    async def open(self, upload: NewFile) -> Arriving:
        """Go on where the upload is.

        Raises:
            TransferError: It cannot be opened.
        """
        return await self.call(self._open, upload)

    async def keep(
        self, upload: NewFile, offset: int, *, tail: bytes | memoryview | None = None, durable: bool = True
    ) -> NewFile:
        """The upload is so far; with `durable` it is on the disk when this returns."""
        changed = upload.model_copy(update={"offset": offset, "time": self._clock()})
        await self.call(partial(self._uploads.save, changed, tail=tail, durable=durable))
        return changed

    async def finish(self, upload: NewFile, file: Arriving) -> NewFile:
        """All is here: publish the file, and bring it into the library.

        Raises:
            Refusal: It was not published.
        """
        digests = base64.b64encode(file.leaf_digests).decode("ascii")
        named = upload.model_copy(update={"file_id": file.file_id, "leaf_digests": digests})
        try:
            await self.call(partial(self._uploads.save, named, tail=b""))  # a kill from here on finds the file
            await self.call(self._publish, named, file)
        except TransferError as error:
            raise refused(error) from error
        return await self._finished(named)

    async def remove(self, upload: NewFile) -> None:
        """Forget an upload, and remove what has arrived of it; a file that is complete stays."""
        await self.call(self._remove, upload)
        log.info("%s: removed", upload)

    async def sweep(self) -> None:
        """Now and then: remove what has expired, and bring into the library what could not be brought there."""
        while True:
            for upload in self._uploads:
                if upload.id not in self._holders:
                    holder = self._holders[upload.id] = _Holder(None)
                    try:
                        await self._look_at(upload)
                    except TransferError as error:
                        log.warning("%s: %s", upload, error)
                    finally:
                        del self._holders[upload.id]
                        holder.gone.set()
            await asyncio.sleep(SWEEP_S)

    # Inside.

    async def _look_at(self, upload: NewFile) -> None:
        upload = await self.settle(upload)
        if upload.finished and not upload.told:
            await self._enter(upload)
        elif self._clock() >= upload.time + (FINISHED_KEPT_S if upload.finished else self.expire_s):
            await self.remove(upload)

    def _prepare(self, size: int, wish: Mapping[str, str]) -> NewFile:
        place_id = base64.b32encode(secrets.token_bytes(30)).decode("ascii")
        try:
            store_id = wish.get("store_id") or self._filestores.destination(place_id, size).store_id
            self._filestores.get(store_id).partial(place_id, size).close()  # makes room
        except TransferError as error:
            raise refused(error) from error
        name = Path(wish.get("filename") or wish.get("name") or "").name[:_NAME_MAX]
        mime = wish.get("filetype") or wish.get("type") or mimetypes.guess_type(name)[0] or ""
        upload = NewFile(
            id=self._uploads.new_id(),
            size=size,
            store_id=store_id,
            place_id=place_id,
            name=name,
            mime=mime if _MIME.fullmatch(mime) else "",
            upload_to=wish.get("upload_to", ""),
            time=self._clock(),
        )
        self._uploads.save(upload, tail=b"")
        return upload

    def _open(self, upload: NewFile) -> Arriving:
        place = self._filestores.get(upload.store_id).partial(upload.place_id, upload.size)
        arriving = Arriving(
            place,
            upload.place_id,
            store_id=upload.store_id,
            size=upload.size,
            digests=self._uploads.folder(upload.id) / "digests",
            records=self._records,
        )
        try:
            arriving.seek(upload.offset, self._uploads.tail(upload))
        except BaseException:
            arriving.close()
            raise
        return arriving

    def _publish(self, upload: NewFile, file: Arriving) -> None:
        if self._is_here(upload):  # it was in this store before: what has just come is not needed
            file.close()
            self._discard(upload)
        else:
            file.publish()

    def _is_here(self, upload: NewFile) -> bool:
        try:
            return self._filestores.get(upload.store_id).has(upload.file_id)
        except TransferError:
            return False

    async def _finished(self, upload: NewFile) -> NewFile:
        changed = upload.model_copy(update={"offset": upload.size, "finished": True, "time": self._clock()})
        await self.call(partial(self._uploads.save, changed, tail=b""))
        log.info("%s: is file %s in store %s", upload, upload.file_id, upload.store_id)
        return await self._enter(changed)

    async def _enter(self, upload: NewFile) -> NewFile:
        """Have the library know of the file, and send it on."""
        ext = Path(upload.name).suffix.removeprefix(".").lower()
        now = round(self._clock(), 3)
        edit = AddFile(
            upload.file_id,
            upload.store_id,
            upload.size,
            upload.leaf_digests,
            now,
            name=upload.name,
            ext=ext if _EXT.fullmatch(ext) else "",
            mime=upload.mime,
            origin=ORIGIN,
        )
        entries = []
        if upload.upload_to:
            entries = [Entry(upload.file_id, Direction.UPLOAD, upload.upload_to, id=random_id(), time=now)]
        await self._bridge.main(self._receiver.enter, edit, entries)
        told = upload.model_copy(update={"told": True, "leaf_digests": ""})
        await self.call(partial(self._uploads.save, told, tail=b""))
        return told

    def _remove(self, upload: NewFile) -> None:
        self._uploads.remove(upload)
        if not upload.finished:
            self._discard(upload)

    def _discard(self, upload: NewFile) -> None:
        try:
            self._filestores.get(upload.store_id).discard(upload.place_id)
        except Transient:
            raise
        except TransferError as error:  # the drive is away; the daily sweep of partial files finds it
            log.info("%s: what has arrived of it is left in store %s: %s", upload, upload.store_id, error)
            return
        self._records.forget(TransferKey(Direction.DOWNLOAD, upload.place_id, ""), upload.store_id)

    @property
    def _records(self) -> LeafRecords:
        return self._receiver.records
