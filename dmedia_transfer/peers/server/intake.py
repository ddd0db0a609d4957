"""Intake: which uploads there are, who holds one, and what becomes of them.

One request at a time holds an upload, and one upload at a time writes a file. For the event loop; what blocks is done
in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from aiohttp import web

from dmedia_transfer import leaves
from dmedia_transfer.errors import DiskFull, TransferError, Transient
from dmedia_transfer.model import FileSpec
from dmedia_transfer.peers import wire
from dmedia_transfer.peers.server import incoming
from dmedia_transfer.peers.server.incoming import Incoming
from dmedia_transfer.peers.server.library import Library
from dmedia_transfer.peers.server.uploads import Upload, Uploads
from dmedia_transfer.peers.server.wish import Wish, read_wish
from dmedia_transfer.ports import LeafRecords
from dmedia_transfer.serving.refusals import refusal, refused

if TYPE_CHECKING:
    from dmedia_transfer.filestore import FileStore, FileStores

MAX_PER_MACHINE: Final = 64
MAX_UPLOADS: Final = 512
TAKE_OVER_S: Final = 10.0  # until an older request of the same upload has let go
LOCKED_RETRY_S: Final = 5
FINISHED_KEPT_S: Final = 600.0  # for a client to whom the last answer did not get through

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass
class _Holder:
    machine_id: str
    request: web.BaseRequest | None  # None: the sweep
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Intake:
    """All uploads of peers."""

    def __init__(
        self,
        *,
        uploads: Uploads,
        library: Library,
        filestores: FileStores,
        records: LeafRecords,
        executor: Executor,
        on_stored: Callable[[Upload], None],
        expire_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`on_stored` is told of each file that was published, again after a restart until `confirm` is called."""
        self._uploads = uploads
        self._library = library
        self._filestores = filestores
        self._records = records
        self._executor = executor
        self._on_stored = on_stored
        self._expire_s = expire_s
        self._clock = clock
        self._holders: dict[tuple[str, str], _Holder] = {}  # by FileStore and file

    def call(self, function: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Do something that blocks in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    def metadata(self, upload: Upload) -> Mapping[str, str]:
        """What a HEAD is told of it."""
        return {wire.META_FILE_ID: upload.file_id}

    async def begin(self, headers: Mapping[str, str], machine_id: str) -> Upload:
        """A new upload of a file of the library, for which there is room.

        Raises:
            InvalidInput: The headers cannot be understood.
            Refusal: It is not taken; the answer says why.
        """
        wish = read_wish(headers)
        under_way = [each.machine_id for each in self._uploads if not each.finished]
        if len(under_way) >= MAX_UPLOADS or under_way.count(machine_id) >= MAX_PER_MACHINE:
            raise refusal(429, f"there are {len(under_way)} uploads under way already", retry_after_s=60)
        file = await self.call(self._library.file, wish.file_id)
        for (_, file_id), holder in list(self._holders.items()):
            if file_id == wish.file_id and holder.machine_id == machine_id:
                await _end(holder)
        if wish.size != file.size:
            raise refusal(422, f"file {wish.file_id} has {file.size} bytes by its document, not {wish.size}")
        upload = await self.call(self._prepare, wish, file, machine_id)
        log.info("%s: begun, %s bytes to store %s", upload, upload.size, upload.store_id)
        return upload

    @contextlib.asynccontextmanager
    async def hold(self, upload_id: str, machine_id: str, request: web.BaseRequest) -> AsyncIterator[Upload]:
        """Hold an upload alone; an older request of the same machine for this file is ended.

        Raises:
            Refusal: This machine has no such upload, or another one is writing the same file.
        """
        key = await self._wait(upload_id, machine_id)
        holder = self._holders[key] = _Holder(machine_id, request)
        try:
            yield self._own(upload_id, machine_id)
        finally:
            del self._holders[key]
            holder.gone.set()

    async def settle(self, upload: Upload) -> Upload:
        """The upload, and whether its file is here by now: by another upload, a download, or before we were killed."""
        if not upload.finished and await self.call(self._is_here, upload):
            return await self._finished(upload)
        return upload

    async def open(self, upload: Upload) -> Incoming:
        """Go on where the upload is.

        Raises:
            TransferError: It cannot be opened.
        """
        file = await self.call(self._library.file, upload.file_id)
        return await self.call(self._open, upload, file)

    async def keep(
        self, upload: Upload, offset: int, *, tail: bytes | memoryview | None = None, durable: bool = True
    ) -> Upload:
        """The upload is so far; with `durable` it is on the disk when this returns."""
        changed = upload.model_copy(update={"offset": offset, "time": self._clock()})
        await self.call(partial(self._uploads.save, changed, tail=tail, durable=durable))
        return changed

    async def finish(self, upload: Upload, file: Incoming) -> Upload:
        """All is here: publish the file, and tell.

        Raises:
            Refusal: It was not published.
        """
        try:
            await self.call(file.publish)
        except TransferError as error:
            raise refused(error) from error
        return await self._finished(upload)

    async def remove(self, upload: Upload) -> None:
        """Forget an upload; nothing of it stays, unless somebody else needs it."""
        if not await self.call(self._uploads.drop, upload):  # not until the daemon has it
            return
        await self.call(self._remove, upload)
        log.info("%s: removed", upload)

    def confirm(self, upload_id: str) -> None:
        """The daemon has taken note of a file that was published."""
        self._uploads.confirm(upload_id)

    async def sweep(self) -> None:
        """Remove what has expired, and tell again what was not confirmed: at the start, and every now and then."""
        for upload in self._uploads:
            key = (upload.store_id, upload.file_id)
            if key in self._holders:
                continue
            if upload.finished and not upload.told:
                self._on_stored(upload)
                continue
            if self._clock() < upload.time + (FINISHED_KEPT_S if upload.finished else self._expire_s):
                continue
            holder = self._holders[key] = _Holder(upload.machine_id, None)
            try:
                log.info("%s: expired at %s of %s bytes", upload, upload.offset, upload.size)
                await self.remove(upload)
            finally:
                del self._holders[key]
                holder.gone.set()

    # Inside.

    def _own(self, upload_id: str, machine_id: str) -> Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.machine_id != machine_id or upload.dropped:
            raise refusal(404, "there is no such upload: it was never begun, has expired, or was deleted", close=True)
        return upload

    async def _wait(self, upload_id: str, machine_id: str) -> tuple[str, str]:
        """Wait until nobody holds the file; nothing is awaited between that and the return."""
        while True:
            upload = self._own(upload_id, machine_id)
            key = (upload.store_id, upload.file_id)
            holder = self._holders.get(key)
            if holder is None:
                return key
            if holder.machine_id != machine_id:
                raise _locked("another machine is sending this file")
            await _end(holder)

    def _prepare(self, wish: Wish, file: FileSpec, machine_id: str) -> Upload:
        if wish.store_id:
            store = self._filestores.get(wish.store_id)
            store.check()
        else:
            found = self._filestores.holding(wish.file_id) or [self._filestores.destination(wish.file_id, file.size)]
            store = self._filestores.get(found[0].store_id)
        if store.has(wish.file_id):
            headers = {"Content-Location": wire.file_path(wish.file_id)}
            raise refusal(409, f"file {wish.file_id} is here already", headers=headers)
        try:
            opened = Incoming(file, store, self._records)  # makes room
        except DiskFull as error:
            raise refused(error) from error
        except Transient:
            raise _locked("this file is just being written") from None
        opened.close()
        upload = Upload(
            id=self._uploads.new_id(),
            file_id=file.file_id,
            store_id=store.store_id,
            machine_id=machine_id,
            size=file.size,
            made_partial=opened.fresh,
            time=self._clock(),
        )
        self._uploads.save(upload, tail=b"")
        return upload

    def _open(self, upload: Upload, file: FileSpec) -> Incoming:
        opened = Incoming(file, self._store(upload), self._records)
        try:
            opened.seek(upload.offset, self._uploads.tail(upload))
        except BaseException:
            opened.close()
            raise
        return opened

    def _store(self, upload: Upload) -> FileStore:
        return self._filestores.get(upload.store_id)

    def _is_here(self, upload: Upload) -> bool:
        try:
            return self._store(upload).has(upload.file_id)
        except TransferError:
            return False

    async def _finished(self, upload: Upload) -> Upload:
        changed = upload.model_copy(update={"offset": upload.size, "finished": True, "time": self._clock()})
        await self.call(partial(self._uploads.save, changed, tail=b""))
        self._on_stored(changed)
        return changed

    def _remove(self, upload: Upload) -> None:
        self._uploads.remove(upload)
        if upload.finished or not upload.made_partial:
            return
        for other in self._uploads:
            if (other.store_id, other.file_id) == (upload.store_id, upload.file_id) and not other.finished:
                self._uploads.save(other.model_copy(update={"made_partial": True}))
                return
        try:
            store = self._store(upload)
        except TransferError:
            return  # the FileStore is not of this machine any more
        incoming.discard(store, self._records, upload.file_id, brought=-(-upload.offset // leaves.LEAF_BYTES))


async def _end(holder: _Holder) -> None:
    """End the older request of a machine that has come back: its connection may be half-open."""
    if holder.request is not None and holder.request.transport is not None:
        holder.request.transport.abort()
    try:
        await asyncio.wait_for(holder.gone.wait(), TAKE_OVER_S)
    except TimeoutError:
        raise _locked("an older request has not let go of this file yet") from None


def _locked(message: str) -> Exception:
    return refusal(423, message, retry_after_s=LOCKED_RETRY_S, close=True)
