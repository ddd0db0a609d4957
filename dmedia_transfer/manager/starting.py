"""Starting: from a transfer that waits to a job with a worker, and what it waits for if that cannot be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from dmedia_transfer.errors import TransferError
from dmedia_transfer.manager import planning, returning
from dmedia_transfer.manager.allowing import Allowing
from dmedia_transfer.manager.board import Board
from dmedia_transfer.manager.endings import Endings
from dmedia_transfer.manager.gathering import Gathering
from dmedia_transfer.manager.item import CancelTimer, Item
from dmedia_transfer.manager.rechecking import WAITING, Rechecking
from dmedia_transfer.manager.runs import Runs, primary_store, stores_beyond
from dmedia_transfer.manager.settings import Settings
from dmedia_transfer.manager.sourcing import Sourcing
from dmedia_transfer.manager.wanted import Wanted
from dmedia_transfer.model import Direction, Download, Failure, Job, SourceUse, TransferKey, Upload
from dmedia_transfer.ports import Library, Stores, Survey
from dmedia_transfer.progress import RateMeter
from dmedia_transfer.reach import Surroundings
from dmedia_transfer.scheduler import Scheduler
from dmedia_transfer.states import Event, Reason, Status

log = logging.getLogger(__name__)

LOOK_AHEAD: Final = 256  # file documents read before their turn, in bulk; more would only cost memory
LOOK_FURTHER: Final = 1024  # the same, where they are used up within moments: small files have short documents
MOMENT_S: Final = 1.0
ASK_AGAIN_S: Final = 0.25  # so long a document that is asked for may keep those behind it from being looked at
GATED: Final = frozenset({Reason.OFFLINE, Reason.METERED})  # looked at again when the connection changes
LOOKED_AT: Final = WAITING | GATED


class Starting:
    """Offers transfers to the scheduler, and starts what it picks."""

    def __init__(
        self,
        *,
        board: Board,
        runs: Runs,
        endings: Endings,
        wanted: Wanted,
        stores: Stores,
        library: Library,
        call_later: Callable[[float, Callable[[], None]], CancelTimer],
        clock: Callable[[], float],
        settings: Settings,
    ) -> None:
        self.settings = settings
        self.on_started: Callable[[TransferKey], None] = lambda _: None  # told of each job that a worker gets
        self._board = board
        self._runs = runs
        self._endings = endings
        self._wanted = wanted
        self._stores = stores
        self._library = library
        self._call_later = call_later
        self._clock = clock
        self._scheduler = Scheduler(
            max_transfers=settings.max_transfers, max_transfers_per_store=settings.max_transfers_per_store
        )
        self._rechecking = Rechecking(
            board=board,
            stores=stores,
            look=self.recheck,
            after=self._rechecked,
            call_later=call_later,
            clock=clock,
        )
        self._gathering = Gathering(board=board, scheduler=self._scheduler, prepare=self._prepare, ready=self._ready)
        self._ahead = 0  # at least so many of the next ones have their documents read, or on the way
        self._asked_ahead_s = float("-inf")
        self._pump_timer: CancelTimer | None = None
        self._allowing = Allowing(settings.over_metered)
        self._sourcing = Sourcing(
            board=board,
            runs=runs,
            stores=stores,
            library=library,
            allowing=self._allowing,
            call_later=call_later,
            clock=clock,
        )
        self._missed: set[str] = set()  # what is waited for, and was told
        self._stopped = False

    def change(self, settings: Settings) -> None:
        """Go by these settings from now on."""
        before, self.settings = self.settings, settings
        self._scheduler.max_transfers = settings.max_transfers
        self._scheduler.max_transfers_per_store = settings.max_transfers_per_store
        if settings.over_metered != before.over_metered:
            self._allowing.rule = settings.over_metered
            for item in self._board:
                self.keep_allowed(item)
        if settings.connections != before.connections:
            self._runs.connect(settings.connections)
        self.pump()

    def stop(self) -> None:
        """Start nothing any more."""
        self._stopped = True
        self._rechecking.stop()
        self._sourcing.stop()
        if self._pump_timer is not None:
            self._pump_timer()

    def close(self, reason: Reason) -> None:
        """Nothing may move, for this reason: suspend all that does or would."""
        if not self._allowing.close(reason):
            return
        for item in self._board:
            if item.transfer.status is Status.ONGOING:
                self._runs.stop(item.transfer.key)
            if item.transfer.status in (Status.ONGOING, Status.QUEUED):
                self._board.event(item, Event.SUSPEND, reason)
                self._scheduler.withdraw(item.transfer.key)

    def open(self, reason: Reason) -> None:
        """The reason has gone away."""
        if not self._allowing.open(reason):
            return
        for item in self._board:
            if item.transfer.reason is reason:
                self.wake(item)
        self.pump()

    @property
    def around(self) -> Surroundings:
        """What is around this machine, as far as is known."""
        return self._allowing.around

    def follow(self, around: Surroundings) -> None:
        """Go by these surroundings from now on: what they do not allow stops, and what waited for them goes on."""
        before, self._allowing.around = self._allowing.around, around
        for reason, closed in ((Reason.SHUTDOWN, around.asleep), (Reason.BATTERY, around.battery_low)):
            if closed:
                self.close(reason)
            else:
                self.open(reason)
        if (before.reach, before.metered) != (around.reach, around.metered):
            for item in self._board:
                self.keep_allowed(item)
            self.pump()

    def keep_allowed(self, item: Item) -> None:
        """Bring a transfer in line with the connection that there is."""
        transfer = item.transfer
        live = self._runs.of(transfer.key)
        if live is None:
            if transfer.reason in GATED:
                self.recheck(item)
        elif transfer.status is Status.ONGOING and (refusal := self._allowing.refused(transfer, live.job)) is not None:
            if isinstance(live.job, Download) and self._sourcing.refresh(item):
                return  # it has other sources
            self._runs.stop(transfer.key)
            self.cannot(item, refusal)
        elif transfer.status is Status.ONGOING and self._allowing.goes_too_far(transfer, live.job):
            if live.job.key.direction is Direction.DOWNLOAD:
                self._sourcing.refresh(item)
            else:
                self._runs.stop(transfer.key)  # and it is planned anew

    def try_again_now(self, machine_id: str = "") -> None:
        """There is another connection (to this machine only): what lost the last one need not wait any longer."""
        for item in list(returning.lost(self._board, self._stores, machine_id)):
            item.stay_asleep()
            self.wake(item)
        self.pump()

    def offer(self, item: Item) -> None:
        """Let the scheduler have it if it can start, and take it back if it cannot."""
        closed = self._allowing.closed
        if closed is not None and item.transfer.status is Status.QUEUED:
            self._board.event(item, Event.SUSPEND, closed)
        transfer = item.transfer
        preempted = transfer.status is Status.SUSPENDED and transfer.reason is Reason.PREEMPTED
        if (transfer.status is Status.QUEUED or preempted) and transfer.key not in self._runs and not item.asked:
            self._ready(item, transfer.key.store_id or transfer.preferred_store)
        else:
            self._scheduler.withdraw(transfer.key)
            self.keep_allowed(item)

    def pump(self) -> None:
        """Start what can be started."""
        if self._stopped or self._allowing.closed or self._wanted.paused:
            return
        while (key := self._scheduler.next(self._runs.running)) is not None:
            item = self._board.item(key)
            if item.known is None:
                self._ask_ahead(item)
                # Not on to the next ones at once: a long queue would be read in full. But not only when there is an
                # answer: further behind may be some that are known, while the database is away.
                self._pump_later()
                break
            self._start(item)
        while (victim := self._scheduler.victim(self._runs.running)) is not None:
            for key in self._runs.staying(victim):
                log.info("%s: gives way", key)
                self._board.event(self._board.item(key), Event.SUSPEND, Reason.PREEMPTED)
                self._runs.stop(key)
        if (slot := self._scheduler.outranked(self._runs.running)) is not None:
            self._runs.give_back(slot)

    def ask(self, items: Iterable[Item]) -> None:
        """Have the file documents of these read, as far as they are not known."""
        unknown = [
            item
            for item in items
            if item.known is None
            and not item.asked
            and not item.transfer.status.ended
            and item.transfer.reason is not Reason.NO_SOURCE  # its document was not there, and is watched
        ]
        for item in unknown:
            item.asked = True
            self._scheduler.withdraw(item.transfer.key)
        if unknown:
            self._library.request_files(dict.fromkeys(item.transfer.key.file_id for item in unknown))

    def cannot(self, item: Item, error: TransferError) -> None:
        """It cannot start: it waits for what is missing, or it has failed."""
        reason = planning.waits_for(error)
        failure = Failure.of(error)
        if reason is None:
            self._endings.failed(item, failure)
        else:
            self.wait(item, failure, reason)

    def wait(self, item: Item, failure: Failure, reason: Reason) -> None:
        """Suspend it until the reason has gone away; a full disk and the like are looked at now and then."""
        if reason in GATED:  # nothing is wrong with it
            if item.transfer.reason is not reason:
                log.info("%s: waits (%s): %s", item.transfer.key, reason, failure)
        else:
            if item.transfer.failure != failure:
                # A drive that is not there holds up thousands: one of them says so, until one of them goes on.
                told = str(failure) in self._missed
                self._missed.add(str(failure))
                log.log(
                    logging.DEBUG if told else logging.WARNING, "%s: waits (%s): %s", item.transfer.key, reason, failure
                )
            self._board.change(item, failure=failure)
        self._board.event(item, Event.SUSPEND, reason)
        self._scheduler.withdraw(item.transfer.key)
        if reason in WAITING:
            self._sourcing.watch()
            self._rechecking.soon(item.transfer.key)

    def wake(self, item: Item) -> None:
        """The reason has gone away."""
        self._missed.discard(str(item.transfer.failure))
        self._board.event(item, Event.CLEAR)
        self.offer(item)

    def end_if_here(self, item: Item) -> None:
        """A paused download has nothing to wait for if its file is here: it came before a crash, or in another way."""
        if (
            item.transfer.status is Status.PAUSED
            and item.transfer.key not in self._runs
            and self._is_here(item, self._stores)
        ):
            self._endings.done(item)

    def recheck(self, item: Item) -> None:
        """See whether what it waits for is there; if so it queues again."""
        transfer = item.transfer
        if transfer.reason not in LOOKED_AT or item.known is None or transfer.key in self._runs:
            return  # a document that was not there is watched
        try:
            if not self._is_here(item, self._stores):
                self._plan(item, self._stores)
        except TransferError as error:
            self.cannot(item, error)
        else:
            self.wake(item)

    def let_go_of_refused(self) -> None:
        """Stop the jobs with a store that may not be used any more, or that has moved; they are planned anew."""
        for live in self._runs:
            if self._runs.is_leaving(live.job.key):
                continue
            item = self._board.get(live.job.key)
            if item is not None and self._sourcing.refresh(item):
                live = self._runs.of(live.job.key) or live  # a download may have other sources: it keeps those
            for store in stores_beyond(live.job):
                try:
                    if planning.has_moved(store, self._stores.spec(store.store_id)):
                        log.info("%s: store %s is elsewhere now", live.job.key, store.store_id)
                        self._runs.stop(live.job.key)
                        break
                except TransferError as error:
                    log.warning("%s: lets go of a store: %s", live.job.key, error)
                    self._runs.stop(live.job.key)
                    break

    def refresh_sources(self, item: Item) -> None:
        """What is known of its file has changed: a download that runs may have other sources now."""
        self._sourcing.refresh(item)

    def look_at_stores(self) -> None:
        """See whether a FileStore came or went, for those that wait."""
        self._rechecking.look()

    def recheck_all(self) -> None:
        """See of all whether what they wait for is there: of the first ones at once, of thousands in a moment."""
        self._rechecking.all()
        self._sourcing.refresh_all()

    def _rechecked(self) -> None:
        self._sourcing.watch()
        self.pump()

    def _ready(self, item: Item, store_id: str) -> None:
        self._scheduler.ready(
            item.transfer.key, store_id=store_id, priority=item.transfer.priority, order=item.transfer.order
        )

    def _start(self, item: Item) -> None:
        waited_for = item.transfer.key.store_id or item.transfer.preferred_store
        with self._stores.survey() as stores:
            job = self._prepare(item, stores)
            if job is None:
                return
            if not self._scheduler.has_room(primary_store(job), self._runs.running):
                self._ready(item, primary_store(job))
                return
            together = [(item, job), *self._gathering.with_it(item, job, waited_for, self.settings, stores)]
        priority = item.transfer.priority
        for each, its_job in together:
            self._begin(each, its_job)
        if len(together) == 1:
            self._runs.start(job, priority=priority)
        else:
            self._runs.start_together([its_job for _, its_job in together], priority=priority)
        for each, _ in together:
            self._sourcing.started(each)
        self.on_started(item.transfer.key)

    def _prepare(self, item: Item, stores: Survey) -> Download | Upload | None:
        """What a worker has to do; None if that is nothing, or cannot be done now."""
        self._ahead -= 1
        if self._ahead < LOOK_AHEAD // 2:
            self._ask_ahead(item)
        try:
            if self._is_here(item, stores):
                self._endings.done(item)
                return None
            return self._plan(item, stores)
        except TransferError as error:
            self.cannot(item, error)
            return None

    def _begin(self, item: Item, job: Job) -> None:
        """It is about to be given to a worker."""
        item.alone = False
        if item.transfer.status is Status.SUSPENDED:  # it was preempted
            self._board.event(item, Event.CLEAR)
        sources = job.sources if isinstance(job, Download) else ()
        self._board.event(item, Event.START, sources=tuple(SourceUse(store.store_id) for store in sources))
        item.leaves_done = item.sent_bytes = 0
        item.meter = RateMeter(self._clock, bytes_done=item.transfer.progress.bytes_done)

    def _ask_ahead(self, item: Item) -> None:
        """Have the documents of this one and of the next ones read, before it is their turn."""
        now_s = self._clock()
        fast = self.settings.together_files > 1 and now_s - self._asked_ahead_s < MOMENT_S
        count = LOOK_FURTHER if fast else LOOK_AHEAD
        self.ask([item, *(self._board.item(key) for key in self._scheduler.first(count))])
        self._ahead, self._asked_ahead_s = count, now_s

    def _pump_later(self) -> None:
        if self._pump_timer is None:
            self._pump_timer = self._call_later(ASK_AGAIN_S, self._time_to_pump)

    def _time_to_pump(self) -> None:
        self._pump_timer = None
        self.pump()

    def _plan(self, item: Item, stores: Survey) -> Download | Upload:
        assert item.known is not None  # noqa: S101 - callers have looked
        plan = planning.download if item.transfer.key.direction is Direction.DOWNLOAD else planning.upload
        pace = planning.Pace(self.settings.connections, self.settings.stall_s)
        refuses = self._allowing.refuses(item.transfer, item.known.file.size)
        job = plan(item.transfer, item.known, stores, pace, refuses)
        return self._allowing.narrowed(item.transfer, job)

    def _is_here(self, item: Item, stores: Survey) -> bool:
        """Whether a download's file is here already; of an upload the worker asks the store."""
        if item.transfer.key.direction is not Direction.DOWNLOAD or item.known is None:
            return False
        holding = stores.holding(item.transfer.key.file_id)
        for store in holding:
            if item.known.stored.get(store.store_id, 0) < 1:
                self._endings.record(item.transfer.key.file_id, store.store_id)
        return bool(holding)
