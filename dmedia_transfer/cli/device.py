"""This machine as a command sees it: its configuration, documents, stores and daemon, each loaded when it is needed.

So a command costs what it does, and the daemon's document server starts before what the daemon itself needs is loaded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dmedia_transfer import config as configuration
from dmedia_transfer.cli import names
from dmedia_transfer.errors import ConnectionLost, InvalidDocument

if TYPE_CHECKING:
    from dmedia_transfer.bindings import Bindings
    from dmedia_transfer.client import Client
    from dmedia_transfer.couch.database import Database
    from dmedia_transfer.filestore import FileStores
    from dmedia_transfer.journal import Journal
    from dmedia_transfer.journal.ledger import Ended
    from dmedia_transfer.localstores import LocalStores
    from dmedia_transfer.model import Failure
    from dmedia_transfer.peers.reach import Reach

log = logging.getLogger(__name__)

IMPORT_FIRST = "`dmedia-transfer import` puts files into the library"
LIST_STORES = "`dmedia-transfer stores` lists them"
LIST_MACHINES = "`dmedia-transfer machines` lists them"


class Device:
    """This machine. For one thread; to be used in a `with` block."""

    def __init__(self, config_path: Path | None = None) -> None:
        self.config_path = config_path
        self._opened = ExitStack()
        self._client: Client | None = None
        self._database: Database | None = None
        self.no_daemon = ""  # why there is none, once it was asked for

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def again(self) -> Device:
        """The same machine for another thread, nothing of it opened yet."""
        return Device(self.config_path)

    @cached_property
    def config(self) -> configuration.Config:
        """The configuration."""
        return self.read_config()

    def read_config(self) -> configuration.Config:
        """The configuration as it is now in its file.

        Raises:
            InvalidConfig: Naming the file or variable, the key and what is wrong with it.
        """
        return configuration.load(self.config_path)

    @cached_property
    def machine_id(self) -> str:
        """The ID of this machine's document."""
        from dmedia_transfer import identity

        return identity.machine_id(self.config.state_dir)

    @cached_property
    def bindings(self) -> Bindings:
        """This machine's own list of stores."""
        from dmedia_transfer import bindings

        config = self.config
        return bindings.Bindings(config.state_dir / bindings.FILE_NAME, allowed_http_hosts=config.allowed_http_hosts)

    @cached_property
    def filestores(self) -> FileStores:
        """This machine's FileStores."""
        from dmedia_transfer.filestore import FileStores

        config = self.config
        return FileStores(self.bindings.filestores, floor_bytes=config.floor_bytes, floor_percent=config.floor_percent)

    @cached_property
    def reach(self) -> Reach | None:
        """How other machines are reached, as the daemon has learned it; None if this one speaks to none."""
        from dmedia_transfer.peers import trust
        from dmedia_transfer.peers.reach import Reach

        config = self.config
        if not config.peer.enabled:
            return None
        known = trust.Trust(config.state_dir / trust.FILE_NAME)
        return Reach(known, state_dir=config.state_dir, off_lan=config.peer.off_lan)

    @contextmanager
    def database(self) -> Iterator[Database]:
        """The library's documents; not to be kept while waiting, as a server may run just for this.

        Whoever wants the daemon as well asks for it first: it brings its own server.
        """
        from dmedia_transfer.couch import servers

        if self._database is not None:  # within another such block
            yield self._database
            return
        with servers.connect(self.config) as self._database:
            try:
                yield self._database
            finally:
                self._database = None

    @property
    def client(self) -> Client | None:
        """The daemon, started by D-Bus if it can be; None if it is not there, and `no_daemon` says why."""
        if self._client is None and not self.no_daemon:
            from dmedia_transfer.client import Client

            try:
                self._client = self._opened.enter_context(Client())
            except ConnectionLost as error:
                log.debug("there is no daemon: %s", error)
                self.no_daemon = str(error)
        return self._client

    def new_machine(self) -> dict[str, Any]:
        """This machine's document if it has none yet."""
        from dmedia_transfer import documents

        return documents.new_machine(self.machine_id, self.config.hostname, time=time.time())

    def file(self, database: Database, text: str) -> Mapping[str, Any]:
        """The document of the file that `text` means.

        Raises:
            Unknown, Ambiguous: None or several are meant.
        """
        return names.pick(text, database.find_files(text), kind="file", hint=IMPORT_FIRST)

    def store(self, database: Database, text: str) -> Mapping[str, Any]:
        """The document of the store that `text` means.

        Raises:
            Unknown, Ambiguous: None or several are meant.
        """
        return names.pick(text, database.get_stores(), kind="store", hint=LIST_STORES)

    def machine(self, database: Database, text: str) -> Mapping[str, Any]:
        """The document of the machine that `text` means: its ID, the beginning of it, or its hostname.

        Raises:
            Unknown, Ambiguous: None or several are meant.
        """
        from dmedia_transfer import documents

        machines = {raw["_id"]: raw for raw in database.find({"type": documents.MACHINE})}
        named = [{"_id": machine_id, "name": raw.get("hostname")} for machine_id, raw in machines.items()]
        return machines[names.pick(text, named, kind="machine", hint=LIST_MACHINES)["_id"]]

    def file_id(self, text: str) -> str:
        """The ID of the file that `text` means; a whole ID may be of a file that is not known here yet.

        Raises:
            Unknown, Ambiguous: None or several are meant.
        """
        if names.is_id_of(text, "file"):
            return text.upper()
        with self.database() as database:
            return str(self.file(database, text)["_id"])

    def store_id(self, text: str) -> str:
        """The ID of the store that `text` means; nothing for nothing.

        Raises:
            Unknown, Ambiguous: None or several are meant.
        """
        if not text or names.is_id_of(text, "store"):
            return text.upper()
        with self.database() as database:
            return str(self.store(database, text)["_id"])

    def uploads_under_way(self) -> set[str]:
        """The IDs of the multipart uploads that this machine has begun and still wants."""
        with self._journal() as journal:
            return {record.upload_id for record in journal.uploads.under_way()} if journal else set()

    def failures(self) -> Mapping[str, Failure]:
        """Why transfers failed, as the daemon remembers it; by the identities of their entries."""
        with self._journal() as journal:
            return journal.ledger.failures() if journal else {}

    def history(self) -> Sequence[Ended]:
        """The transfers that ended last, the latest first."""
        with self._journal() as journal:
            return journal.ledger.history() if journal else []

    def local_stores(self, stores: list[dict[str, Any]]) -> LocalStores:
        """The stores that can be used here, out of the documents of all."""
        from dmedia_transfer.localstores import LocalStores

        local = LocalStores(
            bindings=self.bindings, filestores=self.filestores, peers=self.reach, machine_id=self.machine_id
        )
        for raw in stores:
            try:
                local.on_store(raw)
            except InvalidDocument as problem:
                log.debug("%s", problem)
        return local

    @contextmanager
    def _journal(self) -> Iterator[Journal | None]:
        """The daemon's journal; None if it has none yet."""
        from dmedia_transfer.journal import journal

        path = self.config.state_dir / journal.FILE_NAME
        if not path.exists():
            yield None
            return
        with journal.Journal(path) as opened:
            yield opened
