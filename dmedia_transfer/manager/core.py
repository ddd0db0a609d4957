"""TransferManager: owns all transfers, and decides what becomes of each.

Everything here runs on one thread, the main loop's, and nothing blocks: commands come from people through D-Bus, REST
and the command line; documents from the library; reports from the workers. Each of them may come twice, late, or
while something else was decided. The manager therefore reconciles: it compares what is wanted with what is and takes
the next step, and doing so twice changes nothing.

A command is an edit of the queue that takes effect at once: it is put into the outbox, and the same comparison that
serves an edit made on another device carries it out.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from dmedia_transfer.errors import InvalidConfig, InvalidRequest, NoSource, TransferError, Unknown
from dmedia_transfer.limiter import Timetable
from dmedia_transfer.manager.board import Board
from dmedia_transfer.manager.budget import Budget, GuestLimits
from dmedia_transfer.manager.endings import Endings
from dmedia_transfer.manager.item import CancelTimer
from dmedia_transfer.manager.reconciling import Reconciling
from dmedia_transfer.manager.reports import Reports
from dmedia_transfer.manager.runs import Runs
from dmedia_transfer.manager.settings import Settings
from dmedia_transfer.manager.settling import Settling
from dmedia_transfer.manager.starting import Starting
from dmedia_transfer.manager.sweeping import Sweeping
from dmedia_transfer.manager.traffic import TrafficCounter
from dmedia_transfer.manager.wanted import Wanted
from dmedia_transfer.model import (
    PRIORITY_NOW,
    AddEntry,
    ChangeEntries,
    Direction,
    Ended,
    Entry,
    Moved,
    MoveEntries,
    PauseQueue,
    QueueEdit,
    RemoveEntries,
    RenewEntry,
    Several,
    Transfer,
    TransferKey,
    random_id,
)
from dmedia_transfer.ports import (
    KnownFile,
    Ledger,
    Library,
    Listener,
    Outbox,
    Pieces,
    Stores,
    Summary,
    Traffic,
    WorkerPool,
)
from dmedia_transfer.reach import Distance, Surroundings
from dmedia_transfer.states import Event, Reason, Status

log = logging.getLogger(__name__)


class TransferManager:
    """The `ports.Control` of this machine. All methods on one thread; none blocks."""

    def __init__(
        self,
        *,
        pool: WorkerPool,
        library: Library,
        stores: Stores,
        outbox: Outbox,
        ledger: Ledger,
        call_later: Callable[[float, Callable[[], None]], CancelTimer],
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._library = library
        self._stores = stores
        self._outbox = outbox
        self._ledger = ledger
        self._wall = wall
        self._moved_s = 0.0  # when somebody gave a transfer another place last; no two at once
        self._problems: dict[str, str] = {}  # by where they come from
        self._board = Board()
        self._runs = Runs(pool)
        self._wanted = Wanted()
        self._settling = Settling(
            outbox=outbox, ledger=ledger, library=library, wanted=self._wanted, call_later=call_later
        )
        self._endings = Endings(
            board=self._board,
            runs=self._runs,
            settling=self._settling,
            ledger=ledger,
            stores=stores,
            call_later=call_later,
            clock=clock,
            wall=wall,
        )
        self._starting = Starting(
            board=self._board,
            runs=self._runs,
            endings=self._endings,
            wanted=self._wanted,
            stores=stores,
            library=library,
            call_later=call_later,
            clock=clock,
            settings=settings,
        )
        self._reconciling = Reconciling(
            board=self._board,
            runs=self._runs,
            wanted=self._wanted,
            settling=self._settling,
            starting=self._starting,
            endings=self._endings,
            ledger=ledger,
        )
        self._traffic = TrafficCounter(board=self._board, runs=self._runs)
        self._reports = Reports(
            board=self._board,
            runs=self._runs,
            starting=self._starting,
            endings=self._endings,
            traffic=self._traffic,
            call_later=call_later,
            chance=chance,
            on_discarded=lambda job, failed: self._sweeping.ended(job, failed=failed),
        )
        self._budget = Budget(
            runs=self._runs,
            pool=pool,
            sent=lambda key: item.sent_bytes if (item := self._board.get(key)) is not None else 0,
            on_stop=self._timetable_stops,
            call_later=call_later,
            clock=clock,
            now=now,
        )
        self._starting.on_started = self._budget.started
        self._sweeping = Sweeping(
            board=self._board,
            runs=self._runs,
            stores=stores,
            ledger=ledger,
            call_later=call_later,
            wall=wall,
            expire_s=settings.expire_s,
        )

    # Events from the edges.

    def start(self, machine: Mapping[str, Any]) -> None:
        """Begin with this revision of the machine document and with what the journal remembers."""
        self._endings.remember()
        self._wanted.machine(machine)
        pending = self._outbox.pending()
        self._wanted.edited(pending)
        self._reconciling.all()
        self._apply_limits()
        if pending:
            self._library.flush()

    def machine_changed(self, machine: Mapping[str, Any]) -> None:
        """The feed has a revision of this machine's document."""
        self._wants(self._wanted.machine(machine))

    def edits_taken(self, seqs: Iterable[int], machine: Mapping[str, Any] | None) -> None:
        """CouchDB has these edits; `machine` is the revision that was written, if one was."""
        if machine is not None:
            self._wants(self._wanted.taken(seqs, machine))

    def database_changed(self) -> None:
        """The database is another one than before: made anew, or restored from a backup."""
        self._endings.record_all_again()

    def files_known(self, answers: Mapping[str, KnownFile | TransferError]) -> None:
        """File documents were read, or cannot be; by the IDs of the files."""
        for file_id, answer in answers.items():
            self._file_known(file_id, answer)
        self._starting.pump()

    def file_changed(self, file_id: str) -> None:
        """The feed says that a file document has a new revision."""
        items = [item for item in self._board.of_file(file_id) if not item.transfer.status.ended]
        if items and not any(item.asked for item in items):
            for item in items:
                item.asked = True
            self._library.request_files([file_id])

    def stores_changed(self) -> None:
        """A store was added, enabled, changed, mounted; a machine is trusted, can be reached, or not any more."""
        self._starting.let_go_of_refused()
        self._starting.recheck_all()

    def surroundings_changed(self, around: Surroundings) -> None:
        """The connection, the power or the machine's sleep."""
        if around != self._starting.around:
            self._starting.follow(around)
            self._board.tell_summary()

    def connection_changed(self) -> None:
        """There is another connection than before, or the machine has slept: what lost the last one tries again."""
        self._starting.try_again_now()

    def machine_is_back(self, machine_id: str) -> None:
        """Another machine says that it is there, or is elsewhere now: what lost it tries again."""
        self._starting.try_again_now(machine_id)

    def mounts_changed(self) -> None:
        """A file system was mounted or unmounted, which on many machines happens all the time."""
        self._starting.look_at_stores()

    def report(self, report: Moved | Ended | Several) -> None:
        """A worker has something to say."""
        match report:
            case Moved():
                self._reports.moved(report)
                return
            case Ended():
                self._reports.ended(report)
            case Several():
                self._reports.several(report)
        self._sweeping.proceed()
        self._board.tell_summary()

    def admit_peers(self, limits: GuestLimits) -> None:
        """There is a server for peers: the limits hold for it, too."""
        self._budget.admit(limits)

    def peers_moved(self, sent_bytes: int, received_bytes: int) -> None:
        """Peers have fetched and sent so much since this was said last."""
        self._budget.guest_moved(sent_bytes=sent_bytes, received_bytes=received_bytes)

    def sweep(self) -> None:
        """Remove what is unfinished and not wanted: once the queue of the database is in force, and daily from then."""
        wanted = (self._wanted.entries(key) for key in self._wanted.in_order())
        self._ledger.keep_failures({entry.identity for entries in wanted for entry in entries})
        self._sweeping.sweep()

    def set_problem(self, source: str, problem: str | None) -> None:
        """Something outside a transfer is wrong (a sentence) or right again (None)."""
        if self._problems.get(source) == problem:
            return
        if problem is None:
            log.info("right again: %s", self._problems.pop(source))
        else:
            log.warning("%s", problem)
            self._problems[source] = problem
        self._board.tell_summary()

    def troubled(self) -> frozenset[str]:
        """Where something outside a transfer is wrong: the sources that `set_problem` was told of."""
        return frozenset(self._problems)

    def traffic(self) -> list[Traffic]:
        """What has crossed the network since the start, by store."""
        return self._traffic.now()

    def served(self) -> Mapping[Direction, int]:
        """The bytes that peers have fetched from us (upload) and sent to us (download) since the start."""
        return self._budget.guest_bytes

    def shutdown(self) -> None:
        """Suspend all that moves and write what was gathered; the pool is ended by whoever made it."""
        self._starting.stop()
        self._budget.stop()
        self._sweeping.stop()
        for live in self._runs:
            item = self._board.get(live.job.key)
            if item is not None:
                self._board.event(item, Event.SUSPEND, Reason.SHUTDOWN)
            self._runs.stop(live.job.key)
        self._settling.close()

    # Commands.

    def queue(self, entries: Sequence[Entry]) -> list[TransferKey]:
        """See `ports.Control.queue`."""
        edits: list[AddEntry | RenewEntry] = []
        for entry in entries:
            if entry.direction is Direction.UPLOAD and not entry.store_id:
                raise InvalidRequest(f"an upload of {entry.file_id} names the store that it goes to")
            there = self._wanted.entries(entry.key)
            item = self._board.get(entry.key)
            if item is not None and item.transfer.status is Status.FAILED:
                edits.extend(RenewEntry(one.identity, random_id()) for one in there)
            if not any(_covers(one, entry) for one in there):
                time_s = entry.time or round(self._wall(), 3)
                edits.append(AddEntry(replace(entry, id=entry.id or random_id(), time=time_s)))
        if edits:
            self._edit(edits)
        return [entry.key for entry in entries]

    def resolve(self, file_id: str) -> tuple[str, str]:
        """See `ports.Control.resolve`."""
        path = self._stores.path(file_id)
        if path is not None:
            return "here", path
        (key,) = self.queue([Entry(file_id, priority=PRIORITY_NOW)])
        return str(self._board.item(key).transfer.status), ""

    def pause(self, key: TransferKey) -> bool:
        """See `ports.Control.pause`."""
        return self._change_entries(key, paused=True)

    def resume(self, key: TransferKey) -> bool:
        """See `ports.Control.resume`."""
        return self._change_entries(key, paused=False)

    def set_priority(self, key: TransferKey, priority: int) -> bool:
        """See `ports.Control.set_priority`."""
        return self._change_entries(key, priority=priority)

    def set_metered(self, key: TransferKey, metered: bool) -> bool:
        """See `ports.Control.set_metered`."""
        return self._change_entries(key, metered=metered)

    def put_before(self, keys: Sequence[TransferKey], before: TransferKey | None) -> bool:
        """See `ports.Control.put_before`."""
        items = [self._board.item(key) for key in keys]
        target = None if before is None else self._board.item(before)
        there = self._wanted.entries(before) if before is not None else ()
        identities = tuple(identity for item in items for identity in item.identities)
        if not identities or (target is not None and (not there or target in items)):
            return False
        self._moved_s = max(round(self._wall(), 3), round(self._moved_s + 0.001, 3))
        edits: list[QueueEdit] = [MoveEntries(identities, there[0].identity if there else "", self._moved_s)]
        if target is not None:
            priority = target.transfer.priority
            others = tuple(one for item in items if item.transfer.priority != priority for one in item.identities)
            edits += [ChangeEntries(others, priority=priority)] if others else []
        self._settling.now(edits)
        self._reconciling.all()
        self._settling.hand_over()
        return True

    def cancel(self, key: TransferKey) -> bool:
        """See `ports.Control.cancel`."""
        item = self._board.item(key)
        if item.transfer.status in (Status.DONE, Status.CANCELLED):
            return False
        identities = item.identities
        self._edit([RemoveEntries(identities)])
        self._ledger.ended(key, identities, Status.CANCELLED, item.transfer.progress.bytes_total)
        return True

    def retry(self, key: TransferKey) -> bool:
        """See `ports.Control.retry`."""
        item = self._board.item(key)
        if item.transfer.status is not Status.FAILED:
            return False
        self._edit([RenewEntry(identity, random_id()) for identity in item.identities])
        return True

    def pause_all(self) -> bool:
        """See `ports.Control.pause_all`."""
        return self._pause_queue(paused=True)

    def resume_all(self) -> bool:
        """See `ports.Control.resume_all`."""
        return self._pause_queue(paused=False)

    def set_limits(
        self,
        *,
        download_bps: float | None = None,
        upload_bps: float | None = None,
        max_transfers: int | None = None,
        connections: int | None = None,
        timetable: str | None = None,
    ) -> None:
        """See `ports.Control.set_limits`."""
        for name, value in (("download_bps", download_bps), ("upload_bps", upload_bps)):
            if value is not None and not 0 <= value < float("inf"):
                raise InvalidRequest(f"{name} is {value}, but a rate is 0 (no limit) or more bytes per second")
        for name, count, most in (("max_transfers", max_transfers, 64), ("connections", connections, 32)):
            if count is not None and not 1 <= count <= most:
                raise InvalidRequest(f"{name} is {count}, but it goes from 1 to {most}")
        try:
            times = None if timetable is None else Timetable.parse(timetable)
        except InvalidConfig as error:
            raise InvalidRequest(str(error)) from None
        old = self._starting.settings
        self._starting.change(
            replace(
                old,
                download_bps=old.download_bps if download_bps is None else download_bps or None,
                upload_bps=old.upload_bps if upload_bps is None else upload_bps or None,
                max_transfers=old.max_transfers if max_transfers is None else max_transfers,
                connections=old.connections if connections is None else connections,
                timetable=old.timetable if times is None else times,
            )
        )
        self._apply_limits()
        self._board.tell_summary()

    def configure(self, **changes: Any) -> None:
        """From now on these of `Settings` are other ones; the rest stays as it is, also what `set_limits` has set."""
        self._starting.change(replace(self._starting.settings, **changes))
        self._sweeping.expire_s = self._starting.settings.expire_s
        self._apply_limits()
        self._board.tell_summary()

    def transfers(self) -> Mapping[TransferKey, Transfer]:
        """See `ports.Control.transfers`."""
        return self._board.transfers

    def pieces(self, key: TransferKey) -> Pieces:
        """See `ports.Control.pieces`."""
        item = self._board.item(key)
        return Pieces(item.in_flight, item.wrong)

    def summary(self) -> Summary:
        """See `ports.Control.summary`."""
        moving = [item for live in self._runs if (item := self._board.get(live.job.key)) and item.meter]
        rates = {
            direction: sum(
                item.meter.rate for item in moving if item.meter and item.transfer.key.direction is direction
            )
            for direction in Direction
        }
        settings = self._starting.settings
        return Summary(
            active=len(moving),
            queued=self._board.waiting - len(moving),
            download_rate=rates[Direction.DOWNLOAD],
            upload_rate=rates[Direction.UPLOAD],
            queue_paused=self._wanted.paused,
            online=self._starting.around.reach is Distance.FAR,
            metered=self._starting.around.metered,
            download_limit_bps=settings.download_bps,
            upload_limit_bps=settings.upload_bps,
            max_transfers=settings.max_transfers,
            problems=(*self._problems.values(), *self._wanted.problems),
            connections=settings.connections,
            timetable=str(settings.timetable),
        )

    def subscribe(self, listener: Listener) -> None:
        """See `ports.Control.subscribe`."""
        self._board.subscribe(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """See `ports.Control.unsubscribe`."""
        self._board.unsubscribe(listener)

    def _edit(self, edits: Sequence[QueueEdit]) -> None:
        """What a person asks for: durable when this returns, in force, and on its way into the database."""
        self._reconciling.these(self._settling.now(edits))
        self._settling.hand_over()

    def _wants(self, unwanted: Iterable[TransferKey] | None) -> None:
        """Another revision of the queue is in force; None: it is as it was, and need not be gone through."""
        if unwanted is not None:
            self._reconciling.all(unwanted)

    def _file_known(self, file_id: str, answer: KnownFile | TransferError) -> None:
        for item in self._board.of_file(file_id):
            item.asked = False
            if isinstance(answer, KnownFile):
                item.known = answer
                progress = replace(item.transfer.progress, bytes_total=answer.file.size)
                self._board.change(item, progress=progress)
                self._starting.end_if_here(item)
                self._starting.recheck(item)
                self._starting.refresh_sources(item)
                self._starting.offer(item)
            elif item.transfer.status in (Status.QUEUED, Status.SUSPENDED) and item.transfer.key not in self._runs:
                # The document may come yet, with the next replication.
                self._starting.cannot(item, NoSource(str(answer)) if isinstance(answer, Unknown) else answer)

    def _apply_limits(self) -> None:
        settings = self._starting.settings
        self._budget.limit(download_bps=settings.download_bps, upload_bps=settings.upload_bps)
        self._budget.follow(settings.timetable)

    def _timetable_stops(self, stops: bool) -> None:
        if stops:
            log.info("the timetable allows no transfers now")
            self._starting.close(Reason.SCHEDULE)
        else:
            self._starting.open(Reason.SCHEDULE)
        self._board.tell_summary()

    def _change_entries(
        self,
        key: TransferKey,
        *,
        paused: bool | None = None,
        priority: int | None = None,
        metered: bool | None = None,
    ) -> bool:
        item = self._board.item(key)
        if item.transfer.status in (Status.DONE, Status.CANCELLED):
            return False
        if all(
            (paused is None or entry.paused == paused)
            and (priority is None or entry.priority == priority)
            and (metered is None or entry.metered == metered)
            for entry in item.entries
        ):
            return False
        edit = ChangeEntries(item.identities, paused=paused, priority=priority, metered=metered)
        self._edit([edit])
        return True

    def _pause_queue(self, *, paused: bool) -> bool:
        if self._wanted.paused == paused:
            return False
        self._edit([PauseQueue(paused)])
        self._board.tell_summary()
        return True


def _covers(there: Entry, asked: Entry) -> bool:
    """Whether what is asked for is asked for already."""
    return (
        there.priority >= asked.priority
        and (asked.paused or not there.paused)
        and there.only == asked.only
        and (there.metered or not asked.metered)
        and asked.store_id in ("", there.store_id)
    )
