"""The process: joins the parts, listens to the daemon, ends with it.

    python -m dmedia_transfer.peers.server

Everything comes through stdin (see `messages`), so that no secret is in the arguments. It ends when stdin does, which
happens when the daemon dies, on SIGTERM, and on SIGINT; it may be killed at any instant.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from pydantic import ValidationError

from dmedia_transfer.bindings import FILE_NAME as STORES_FILE
from dmedia_transfer.bindings import Bindings
from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.database import Database
from dmedia_transfer.errors import InvalidInput, TransferError
from dmedia_transfer.filestore import FileStores
from dmedia_transfer.journal import Journal
from dmedia_transfer.peers import identity, wire
from dmedia_transfer.peers.certificates import Certificate
from dmedia_transfer.peers.server import messages, uploads
from dmedia_transfer.peers.server.doors import Doors
from dmedia_transfer.peers.server.files import Files
from dmedia_transfer.peers.server.holdings import Holdings
from dmedia_transfer.peers.server.intake import Intake
from dmedia_transfer.peers.server.library import Library
from dmedia_transfer.peers.server.messages import (
    Confirm,
    Event,
    Failed,
    Limits,
    Listening,
    Moved,
    Setup,
    Stored,
    Trusted,
)
from dmedia_transfer.peers.server.service import Service
from dmedia_transfer.peers.server.uploads import Upload, Uploads
from dmedia_transfer.serving.pace import Pace
from dmedia_transfer.serving.tus import Tus

JOURNAL: Final = "journal.sqlite"  # in the state folder, as the daemon opens it
MAX_LINE_BYTES: Final = 64 * 1024 * 1024  # of an order: the certificates of a thousand machines are less
THREADS: Final = 8  # that read and write disks
SWEEP_S: Final = 60.0
TELL_S: Final = 1.0
CLOSE_S: Final = 1.0  # for what is under way, at the end

log = logging.getLogger("dmedia_transfer.peers.server")


def main() -> int:
    """Run until the daemon does not want it any more."""
    os.umask(0o077)
    try:
        line, rest = _first_line()
        setup = Setup.model_validate_json(line)
    except ValidationError as error:
        print(f"error: {error.error_count()} settings cannot be understood", file=sys.stderr)
        return 2
    logging.basicConfig(level=setup.log_level, format="%(name)s: %(levelname)s: %(message)s")
    try:
        asyncio.run(_Process(setup, rest).run())
    except (TransferError, OSError) as error:
        _say(Failed(problem=str(error)))
        return 1
    return 0


def _first_line() -> tuple[bytes, bytes]:
    """The first line of stdin, and what came with it."""
    found = b""
    while b"\n" not in found and (more := os.read(0, 65536)):
        found += more
    line, _, rest = found.partition(b"\n")
    return line, rest


def _say(event: Event) -> None:
    data = memoryview(event.model_dump_json().encode() + b"\n")
    with contextlib.suppress(BrokenPipeError):  # the daemon is gone, and stdin says so, too
        while data:
            data = data[os.write(1, data) :]


class _Process:
    """All parts, joined."""

    def __init__(self, setup: Setup, first_orders: bytes) -> None:
        self._setup = setup
        self._first_orders = first_orders
        self._pace = Pace(stall_s=setup.stall_s)
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to end."""
        setup = self._setup
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        at = setup.database
        database = Database(Address(at.url, at.user, at.password, at.ca_file), at.name)
        bindings = Bindings(setup.state_dir / STORES_FILE)
        filestores = FileStores(bindings.filestores, floor_bytes=setup.floor_bytes, floor_percent=setup.floor_percent)
        with contextlib.ExitStack() as cleanup:
            journal = cleanup.enter_context(Journal(setup.state_dir / JOURNAL))
            cleanup.callback(database.close)
            executor = cleanup.enter_context(ThreadPoolExecutor(THREADS, thread_name_prefix="disk"))
            holdings = Holdings(filestores, journal.leaves)
            self._intake = Intake(
                uploads=Uploads(setup.state_dir / identity.FOLDER / uploads.FOLDER),
                library=Library(database.get_with_leaves),
                filestores=filestores,
                records=journal.leaves,
                executor=executor,
                on_stored=_tell_stored,
                expire_s=setup.expire_s,
            )
            service = Service(
                Files(holdings.find, pace=self._pace, executor=executor),
                Tus(self._intake, location=wire.upload_path, pace=self._pace, expire_s=setup.expire_s),
                self._pace,
            )
            self._doors = Doors(identity.load(setup.state_dir), service)
            self._obey(setup.trusted)
            self._obey(setup.limits)
            self._doors.open(setup.host, setup.port)
            _say(Listening(port=self._doors.port))
            tasks = [loop.create_task(work) for work in (self._listen(), self._sweep(), self._tell())]
            try:
                await self._ended.wait()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._doors.close(CLOSE_S)

    async def _listen(self) -> None:
        """Do what the daemon says, until it says no more."""
        reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        reader.feed_data(self._first_orders)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb", closefd=False)
        )
        try:
            while line := await reader.readline():
                try:
                    self._obey(messages.orders.validate_json(line))
                except Exception:
                    log.exception("an order of the daemon cannot be followed")
        finally:
            self._ended.set()

    def _obey(self, order: Trusted | Limits | Confirm) -> None:
        match order:
            case Trusted(machines=machines):
                self._doors.trust(
                    {machine_id: _certificates(machine_id, texts) for machine_id, texts in machines.items()},
                    identity.load(self._setup.state_dir),
                )
            case Limits():
                self._pace.sending.set_rate(order.send_bps)
                self._pace.receiving.set_rate(order.receive_bps)
                self._pace.stopped = order.stopped
            case Confirm(upload_id=upload_id):
                self._intake.confirm(upload_id)

    async def _sweep(self) -> None:
        while True:
            try:
                await self._intake.sweep()
            except (TransferError, OSError) as error:
                log.warning("expired uploads cannot be removed now: %s", error)
            await asyncio.sleep(SWEEP_S)

    async def _tell(self) -> None:
        sent = received = 0
        while True:
            await asyncio.sleep(TELL_S)
            if (self._pace.sent_bytes, self._pace.received_bytes) != (sent, received):
                _say(
                    Moved(
                        sent_bytes=self._pace.sent_bytes - sent,
                        received_bytes=self._pace.received_bytes - received,
                        machines=dict(self._doors.machines),
                    )
                )
                sent, received = self._pace.sent_bytes, self._pace.received_bytes


def _tell_stored(upload: Upload) -> None:
    _say(
        Stored(
            upload_id=upload.id,
            file_id=upload.file_id,
            store_id=upload.store_id,
            machine_id=upload.machine_id,
            size=upload.size,
        )
    )


def _certificates(machine_id: str, texts: list[str]) -> tuple[Certificate, ...]:
    """Those that can be read: the daemon has looked at them, and one bad one must not keep all others out."""
    found: list[Certificate] = []
    for text in texts:
        try:
            found.append(Certificate.parse(text))
        except InvalidInput as error:
            log.warning("machine %s: %s", machine_id, error)
    return tuple(found)


if __name__ == "__main__":
    sys.exit(main())
