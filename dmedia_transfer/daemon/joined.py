"""Joined: all parts of the daemon, built and wired; main loop, signals, sd_notify.

The GLib main loop owns the manager. The feed's thread, the library's, and the pool's reader hand it their events
through `call_soon`, and nothing else touches it.

Starting does not wait for the database: if it does not answer at once, the daemon goes on with the queue that it saw
last, and takes up the newer one when it comes.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import dbus
import dbus.bus
import dbus.mainloop.glib
from gi.repository import Gio, GLib

from dmedia_transfer import backends, documents, notify
from dmedia_transfer import config as configuration
from dmedia_transfer.bindings import FILE_NAME as STORES_FILE
from dmedia_transfer.bindings import Bindings
from dmedia_transfer.bus import mainloop
from dmedia_transfer.bus.service import BusService
from dmedia_transfer.config import Config
from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.feed import Feed
from dmedia_transfer.couch.library import CouchLibrary
from dmedia_transfer.couch.machinememory import MachineMemory
from dmedia_transfer.couch.replication import Replication, targets_of
from dmedia_transfer.daemon import longjobs, metering, settings
from dmedia_transfer.daemon.mounts import Mounts
from dmedia_transfer.daemon.people import People
from dmedia_transfer.daemon.reloading import Reloading
from dmedia_transfer.daemon.surroundings import Around
from dmedia_transfer.daemon.unpeered import peering_of
from dmedia_transfer.daemon.watchdog import Watchdog
from dmedia_transfer.daemon.webbing import Webbing
from dmedia_transfer.daemon.workerlog import relay
from dmedia_transfer.errors import ConnectionLost, InvalidDocument, TransferError
from dmedia_transfer.filestore import FileStores
from dmedia_transfer.identity import machine_id
from dmedia_transfer.journal import Journal
from dmedia_transfer.localstores import LocalStores
from dmedia_transfer.manager import TransferManager
from dmedia_transfer.manager.telling import Telling
from dmedia_transfer.model import Advanced, Ended, Logged, Moved, Report, Several
from dmedia_transfer.workers.pool import WorkerPool

log = logging.getLogger(__name__)

DATABASE_GRACE_S: Final = 0.5  # so long a start waits for the queue before it goes on with the one it saw last
SHUTDOWN_S: Final = 1.0  # what workers may take to let go


class Daemon:
    """All parts of the daemon, joined."""

    def __init__(
        self, config: Config, *, address: Callable[[], Address], reread: Callable[[], Config] | None = None
    ) -> None:
        """Nothing moves before `start`.

        Args:
            config: As it was read.
            address: Where the documents are, when that is known; may wait and raise TransferError.
            reread: Reads the configuration anew, for a SIGHUP.
        """
        self._config = config
        self._address = address
        self._reloading = Reloading(config, read=reread or configuration.load, problem=self._problem)
        self._watchdog = Watchdog(mainloop.call_later, within_s=notify.watchdog_s())
        self._machine_id = machine_id(config.state_dir)
        self._loop = GLib.MainLoop()
        self._cleanup = contextlib.ExitStack()
        self._journal = self._cleanup.enter_context(Journal(config.state_dir / "journal.sqlite", owner=True))
        self._bindings = Bindings(config.state_dir / STORES_FILE, allowed_http_hosts=config.allowed_http_hosts)
        self._filestores = FileStores(
            self._bindings.filestores, floor_bytes=config.floor_bytes, floor_percent=config.floor_percent
        )
        self._peering = peering_of(config, self._machine_id)
        self._stores = LocalStores(
            bindings=self._bindings,
            filestores=self._filestores,
            plugins=backends.names,
            peers=self._peering.reach,
            machine_id=self._machine_id,
        )
        self._started = False
        self._fatal: Exception | None = None  # what ended the main loop
        self._followed = False  # the database has answered once

    def start(self) -> None:
        """Build and join the edges, and take the bus name.

        Raises:
            TransferError: It cannot start; the message says why.
        """
        bus = dbus.bus.BusConnection(dbus.bus.BusConnection.TYPE_SESSION, mainloop=dbus.mainloop.glib.DBusGMainLoop())
        address = self._address()
        self._feed = Feed(
            address,
            self._config.database,
            call_soon=_call_soon,
            on_document=self._document,
            on_state=partial(self._problem, "feed"),
            on_reset=self._database_reset,
            checkpoint=self._journal.checkpoints,
        )
        self._library = CouchLibrary(
            database=Database(address, self._config.database),
            outbox=self._journal.outbox,
            machine_id=self._machine_id,
            hostname=self._config.hostname,
            call_soon=_call_soon,
            on_files=lambda answers: self._manager.files_known(answers),
            on_taken=lambda seqs, machine: self._manager.edits_taken(seqs, machine),
            on_loaded=self._loaded,
            on_state=partial(self._problem, "database"),
            on_machine=self._machine_in_force,
            on_machines=self._peering.machines_loaded,
            on_other=self._peering.machine_changed,
            watch=self._feed.set_wanted,
            memory=MachineMemory(
                lineage=self._journal.lineage, tombstones=self._journal.ledger, bases=self._journal.bases
            ),
        )
        self._replication = Replication(
            address,
            self._config.database,
            targets_of(self._config),
            machine_id=self._machine_id,
            call_soon=_call_soon,
            on_state=lambda url, problem: self._problem(f"sync {url}", problem),
        )
        self._pool = WorkerPool(config=self._config, on_report=self._report, call_soon=_call_soon)
        self._manager = TransferManager(
            pool=self._pool,
            library=self._library,
            stores=self._stores,
            outbox=self._journal.outbox,
            ledger=self._journal.ledger,
            call_later=mainloop.call_later,
            settings=settings.of(self._config),
        )
        self._jobs = longjobs.build(
            config=self._config,
            journal=self._journal,
            library=self._library,
            stores=self._stores,
            filestores=self._filestores,
            pool=self._pool,
            manager=self._manager,
        )
        self._telling = Telling(
            self._manager,
            machine_id=self._machine_id,
            publish=self._library.publish,
            call_later=mainloop.call_later,
            clock=time.monotonic,
            wall=time.time,
        )
        self._manager.subscribe(self._telling)
        self._webbing = Webbing(
            self._config,
            machine_id=self._machine_id,
            address=address,
            control=self._manager,
            jobs=self._jobs,
            stores=self._stores,
            filestores=self._filestores,
            journal=self._journal,
            flush=self._library.flush,
            vitals=metering.vitals_of(
                self._manager, self._pool, peers=self._peering.known_count, syncs=bool(self._config.sync)
            ),
            call_soon=mainloop.call_soon,
            on_problem=partial(self._problem, "web"),
        )
        self._bus = BusService(self._manager, bus, jobs=self._jobs, on_lost=self._bus_lost)
        self._around = Around(self._config, self._manager, cut=self._cut)
        self._cleanup.callback(self._around.close)
        if self._config.desktop.notifications:
            people = People(self._manager, bus, path_of=self._stores.path)
            self._cleanup.callback(people.close)
        # The command line adds and enables stores in this file.
        self._stores_watch = Gio.File.new_for_path(str(self._config.state_dir / STORES_FILE)).monitor_file(
            Gio.FileMonitorFlags.NONE, None
        )
        self._stores_watch.connect("changed", self._stores_edited)
        mounts = Mounts(self._mounts_changed, call_later=mainloop.call_later)
        mounts.start()
        self._cleanup.callback(mounts.stop)
        self._peering.start(
            address,
            library=self._library,
            outbox=self._journal.outbox,
            on_changed=self._peers_changed,
            on_back=self._peer_is_back,
            on_stored=self._manager.file_changed,
            on_problem=self._problem,
            on_moved=self._manager.peers_moved,
            call_soon=_call_soon,
        )
        self._manager.admit_peers(self._peering.limit)
        self._cleanup.callback(self._peering.stop)
        self._library.load(self._last_seen())
        self._library.start()
        self._cleanup.callback(self._library.stop)
        settings.live(
            self._reloading,
            manager=self._manager,
            pool=self._pool,
            filestores=self._filestores,
            bindings=self._bindings,
            around=self._around,
        )
        self._give_up_waiting = mainloop.call_later(DATABASE_GRACE_S, self._start_without_database)

    def loop(self) -> None:
        """Run until a signal says stop.

        Raises:
            TransferError: It cannot go on; the message says why.
            Exception: A fault of ours on the way to the bus.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, self._quit)
        # From a terminal it means that the terminal is gone; else that somebody wants the configuration read.
        on_terminal = sys.stdin is not None and sys.stdin.isatty()
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGHUP, self._quit if on_terminal else self._reload)
        self._loop.run()
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        """Suspend what moves, and end everything, within two seconds."""
        notify.stopping()
        self._watchdog.stop()
        if self._started:
            self._webbing.stop()
            self._manager.shutdown()
            self._jobs.shutdown()
            self._telling.close()
            self._pool.shutdown(SHUTDOWN_S)
            self._bus.close()
            self._feed.stop()
            self._replication.stop()
        self._cleanup.close()
        log.info("stopped")

    def _bus_lost(self) -> None:
        self._fatal = ConnectionLost("the session bus is gone: nobody can reach the daemon any more")
        self._loop.quit()

    def _quit(self) -> bool:
        self._loop.quit()
        return bool(GLib.SOURCE_REMOVE)

    # Starting: with what the database has, or else with what was seen last.

    def _last_seen(self) -> Mapping[str, Any] | None:
        kept = self._journal.bases.load(self._machine_id)
        return kept[1] if kept else None

    def _start_without_database(self) -> None:
        if not self._started:
            last = self._last_seen()
            log.info("the database does not answer yet: going on with the queue that was seen last")
            self._begin(last or documents.new_machine(self._machine_id, self._config.hostname, time=0.0))

    def _loaded(self, machine: Mapping[str, Any], stores: Sequence[Mapping[str, Any]]) -> None:
        for raw in stores:
            self._store(raw)
        if self._started:
            self._machine_in_force(machine)
            self._manager.stores_changed()
        else:
            self._begin(machine)
        if not self._followed:
            self._followed = True
            self._feed.start()
            self._replication.start()
            self._manager.sweep()
            for filestore in self._filestores.all():
                with contextlib.suppress(TransferError):  # a drive that is not there
                    filestore.sweep_imports()

    def _begin(self, machine: Mapping[str, Any]) -> None:
        self._started = True
        self._give_up_waiting()
        try:
            self._manager.start(machine)
            self._jobs.start()
            self._bus.publish()
            self._webbing.start()
        except Exception as error:  # a daemon that nobody can reach is of no use: it ends, and systemd starts it again
            self._fatal = error
            self._loop.quit()
            return
        log.info("machine %s (%s) is ready", self._machine_id, self._config.hostname)
        notify.ready()
        self._watchdog.start()

    def _reload(self) -> bool:
        if self._started:
            notify.reloading()
            self._reloading.reload()
            notify.ready()
        return bool(GLib.SOURCE_CONTINUE)

    # Documents.

    def _document(self, raw: Mapping[str, Any]) -> None:
        document_id, kind = str(raw.get("_id")), raw.get("type")
        if raw.get("_deleted"):
            self._deleted(document_id)
        elif kind == documents.STORE:
            self._store(raw)
            self._manager.stores_changed()
        elif kind == documents.MACHINE:
            self._peering.machine_changed(raw)
            if document_id == self._machine_id:
                self._machine_seen(raw)
        elif kind == documents.FILE:
            self._manager.file_changed(document_id)

    def _deleted(self, document_id: str) -> None:
        if document_id == self._machine_id:
            log.warning("the document of this machine was deleted: it is written back")
            self._library.load()
        else:
            self._stores.on_store_gone(document_id)
            self._peering.machine_gone(document_id)

    def _store(self, raw: Mapping[str, Any]) -> None:
        source = f"document {raw.get('_id')}"
        try:
            self._stores.on_store(raw)
        except InvalidDocument as problem:
            self._manager.set_problem(source, str(problem))
        else:
            self._manager.set_problem(source, None)

    def _machine_seen(self, raw: Mapping[str, Any]) -> None:
        if self._library.remember(raw):
            self._machine_in_force(raw)

    def _machine_in_force(self, raw: Mapping[str, Any]) -> None:
        if self._started:
            self._manager.machine_changed(raw)

    def _database_reset(self) -> None:
        log.warning("the database is another one than before: what this machine knows is written back")
        self._library.load()
        self._manager.database_changed()

    # Others.

    def _peers_changed(self) -> None:
        if self._started:
            self._manager.stores_changed()

    def _peer_is_back(self, machine_id: str) -> None:
        if self._started:
            self._manager.machine_is_back(machine_id)

    def _stores_edited(self, *_: object) -> None:
        if self._started:
            self._manager.stores_changed()
            self._jobs.stores_changed()

    def _mounts_changed(self) -> None:
        if self._started:
            self._manager.mounts_changed()
            self._jobs.stores_changed()

    def _report(self, report: Report) -> None:
        match report:
            case Advanced():
                self._jobs.report(report)
            case Ended() if self._jobs.owns(report.run_id):
                self._jobs.report(report)
            case Moved() | Ended() | Several():
                self._manager.report(report)
            case Logged():
                relay(report)

    def _cut(self) -> None:
        """What was connected before is of no use any more: another network, or the machine has slept."""
        self._pool.cut()
        self._feed.reconnect()
        self._replication.reconnect()

    def _problem(self, source: str, problem: str | None) -> None:
        self._manager.set_problem(source, problem)


def _call_soon(callback: Callable[..., object], *arguments: object) -> None:
    def call() -> None:
        try:
            callback(*arguments)
        except Exception:
            log.exception("a fault of dmedia-transfer")

    mainloop.call_soon(call)
