"""Webbing: joins the REST API and the page with the rest of the daemon."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dmedia_transfer.config import Config
from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.machinequeue import OtherMachineQueue, read_status
from dmedia_transfer.errors import TransferError
from dmedia_transfer.filestore import FileStores
from dmedia_transfer.journal import Journal
from dmedia_transfer.localstores import LocalStores
from dmedia_transfer.model import AddFile, Entry
from dmedia_transfer.ports import Control, JobControl, Vitals

if TYPE_CHECKING:
    from dmedia_transfer.web.edges import Edges
    from dmedia_transfer.web.server import WebServer

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 15.0  # somebody waits for it


class Webbing:
    """The REST API of the daemon, if it is wanted. For the manager's thread."""

    def __init__(
        self,
        config: Config,
        *,
        machine_id: str,
        address: Address,
        control: Control,
        jobs: JobControl | None,
        stores: LocalStores,
        filestores: FileStores,
        journal: Journal,
        flush: Callable[[], None],
        vitals: Callable[[], Vitals],
        call_soon: Callable[[Callable[[], None]], object],
        on_problem: Callable[[str | None], None],
    ) -> None:
        """Nothing is listened to yet.

        Args:
            config: What is served, and where.
            machine_id: Whose API it is.
            address: The server of the documents.
            control: The manager.
            jobs: The long jobs.
            stores: The stores that this machine can use.
            filestores: Its FileStores.
            journal: History, leaves, the outbox.
            flush: Has what is in the outbox written.
            vitals: How the daemon's own parts are.
            call_soon: Calls something on this thread.
            on_problem: Told why the API is not there, if it is not.
        """
        self._config = config
        self._machine_id = machine_id
        self._address = address
        self._control = control
        self._jobs = jobs
        self._stores = stores
        self._filestores = filestores
        self._journal = journal
        self._flush = flush
        self._vitals = vitals
        self._call_soon = call_soon
        self._on_problem = on_problem
        self._database: Database | None = None
        self._server: WebServer | None = None

    def start(self) -> None:
        """Serve, if the configuration says so. What hinders it is a problem, and no reason for the daemon to end."""
        settings = self._config.web
        if not settings.enabled:
            return
        # Only here: it takes a third of a second to import, and 10 MiB, which is not for those who do not want it.
        from dmedia_transfer.web.server import SOCKET_NAME, WebServer
        from dmedia_transfer.web.tokens import FILE_NAME, load_secret

        try:
            secret = load_secret(self._config.state_dir / FILE_NAME)
            self._database = Database(self._address, self._config.database, read_timeout_s=READ_TIMEOUT_S)
            self._server = WebServer(
                self._edges(self._database),
                secret=secret,
                host=settings.host,
                port=settings.port,
                socket_path=self._config.runtime_dir / SOCKET_NAME,
                call_soon=self._call_soon,
            )
            problems = self._server.start()
        except TransferError as error:
            problems = [str(error)]
        if problems:
            self._on_problem("; ".join(problems))

    def stop(self) -> None:
        """Serve no more."""
        if self._database is not None:
            self._database.close()  # whoever waits for it waits no longer
        if self._server is not None:
            self._server.stop()

    def _edges(self, database: Database) -> Edges:
        from dmedia_transfer.web.edges import Edges, Receiver

        def machine_queue(machine_id: str) -> Any:
            return OtherMachineQueue(database, machine_id)

        return Edges(
            machine_id=self._machine_id,
            hostname=self._config.hostname,
            control=self._control,
            jobs=self._jobs,
            documents=database,
            machine_queue=machine_queue,
            machine_status=read_status,
            stores=self._stores,
            filestores=self._filestores,
            history=self._journal.ledger.history,
            receiver=Receiver(
                folder=self._config.state_dir / "web" / "uploads",
                records=self._journal.leaves,
                enter=self._enter,
                expire_s=self._config.web.upload_expire_s,
            ),
            uploads=self._journal.uploads,
            vitals=self._vitals,
        )

    def _enter(self, file: AddFile, entries: Sequence[Entry]) -> None:
        self._journal.outbox.add([file])
        self._flush()
        if entries:
            self._control.queue(entries)
