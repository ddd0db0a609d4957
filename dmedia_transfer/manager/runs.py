"""Runs: which transfer a worker has, under which number, and which of them share a slot.

A transfer stays busy until its worker has let go of it, whatever its status says by then, so that no two workers are
ever on one file. Small files are given to a worker many at a time: they share one slot until all of them have ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dmedia_transfer.model import Direction, Discard, Download, Job, StoreSpec, TransferKey
from dmedia_transfer.ports import WorkerPool
from dmedia_transfer.scheduler import Running


@dataclass(frozen=True, slots=True)
class Live:
    """A job that a worker has."""

    run_id: int
    job: Job
    slot: int  # which one it occupies, maybe with others; 0 for a discard, which counts against no limit


def primary_store(job: Job) -> str:
    """The store whose limit a job counts against: where a download reads first, where an upload goes."""
    match job:
        case Download():
            return job.sources[0].store_id
        case Discard():
            return job.store.store_id
        case _:
            return job.destination.store_id


def stores_beyond(job: Job) -> list[StoreSpec]:
    """The stores of a job that are not FileStores of this machine."""
    match job:
        case Download():
            stores = job.sources
        case Discard():
            stores = (job.store,)
        case _:
            stores = (job.destination,)
    return [store for store in stores if not store.local]


@dataclass(slots=True)
class Slot:
    """What one worker has that counts against the limits. Known by the number of its first run."""

    store_id: str  # the store whose limit it counts against
    direction: Direction
    together: bool  # it was given several transfers at once
    priorities: dict[int, int]  # of the runs that have not ended, by their numbers
    leaving: set[int] = field(default_factory=set)  # those of them that were asked to let go
    asked_back: bool = False  # it was asked to let go of what is not begun
    sent_bytes: int = 0  # by those of its runs that have ended

    @property
    def running(self) -> Running:
        """As the scheduler sees it."""
        return Running(
            self.store_id,
            max(self.priorities.values()),
            leaving=len(self.leaving) == len(self.priorities),
            spare=self.together and not self.asked_back,
            yielding=self.asked_back,
        )


class Runs:
    """All live jobs."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._last_id = 0
        self._live: dict[int, Live] = {}
        self._by_key: dict[TransferKey, int] = {}
        self._slots: dict[int, Slot] = {}
        self._running: dict[int, Running] = {}  # the same, as the scheduler sees them

    @property
    def running(self) -> Mapping[int, Running]:
        """The slots that are occupied."""
        return self._running

    @property
    def slots(self) -> Mapping[int, Slot]:
        """The same, with what is in them."""
        return self._slots

    def staying(self, slot: int) -> list[TransferKey]:
        """The transfers in a slot that were not asked to let go."""
        runs = self._slots[slot]
        return [self._live[run_id].job.key for run_id in runs.priorities if run_id not in runs.leaving]

    def is_leaving(self, key: TransferKey) -> bool:
        """Whether it was asked to let go, or occupies no slot."""
        live = self.of(key)
        return live is None or not live.slot or live.run_id in self._slots[live.slot].leaving

    def __contains__(self, key: TransferKey) -> bool:
        return key in self._by_key

    def __iter__(self) -> Iterator[Live]:
        return iter(list(self._live.values()))

    def __len__(self) -> int:
        return len(self._live)

    def of(self, key: TransferKey) -> Live | None:
        """The live job of a transfer."""
        run_id = self._by_key.get(key)
        return None if run_id is None else self._live[run_id]

    def get(self, run_id: int) -> Live | None:
        """The live job of this number."""
        return self._live.get(run_id)

    def start(self, job: Job, *, priority: int = 0) -> None:
        """Give a job to a worker."""
        if isinstance(job, Discard):
            run_id = self._add(job, 0)
        else:
            (run_id,) = self._occupy([job], priority)
        self._pool.run(run_id, job)

    def start_together(self, jobs: Sequence[Job], *, priority: int) -> None:
        """Give the transfers of several small files to one worker; all from, or to, the same store."""
        run_ids = self._occupy(jobs, priority)
        self._pool.run_together(dict(zip(run_ids, jobs, strict=True)))

    def give_back(self, slot: int) -> None:
        """Ask the worker of several transfers to let go of those that it has not begun."""
        self._slots[slot].asked_back = True
        self._changed(slot)
        self._pool.give_back(list(self._slots[slot].priorities))

    def drain(self, key: TransferKey, grace_s: float) -> None:
        """Ask the worker to let go gently."""
        self._pool.drain(self._leaving(key, leaving=True), grace_s)

    def carry_on(self, key: TransferKey) -> None:
        """Take a drain back."""
        self._pool.carry_on(self._leaving(key, leaving=False))

    def stop(self, key: TransferKey) -> None:
        """Ask the worker to let go at once."""
        self._pool.stop(self._leaving(key, leaving=True))

    def connect(self, connections: int) -> None:
        """All workers have so many connections from now on."""
        for run_id, live in self._live.items():
            if not isinstance(live.job, Discard):
                self._pool.connect(run_id, connections)

    def use_sources(self, key: TransferKey, sources: Sequence[StoreSpec]) -> None:
        """The running download of a file has these sources from now on."""
        live = self._live[self._by_key[key]]
        assert isinstance(live.job, Download)  # noqa: S101 - callers have looked
        self._live[live.run_id] = replace(live, job=replace(live.job, sources=tuple(sources)))
        self._pool.use_sources(live.run_id, sources)

    def reprioritize(self, key: TransferKey, priority: int) -> None:
        """A running transfer has another priority from now on."""
        live = self.of(key)
        if live is not None and live.slot:
            self._slots[live.slot].priorities[live.run_id] = priority
            self._changed(live.slot)

    def ended(self, run_id: int, sent_bytes: int = 0) -> Live | None:
        """The worker has let go, after so many bytes on the wire; None for a run that is not known."""
        live = self._live.pop(run_id, None)
        if live is not None:
            del self._by_key[live.job.key]
            if live.slot:
                slot = self._slots[live.slot]
                del slot.priorities[run_id]
                slot.leaving.discard(run_id)
                slot.sent_bytes += sent_bytes
                self._changed(live.slot)
        return live

    def _add(self, job: Job, slot: int) -> int:
        if job.key in self._by_key:
            raise RuntimeError(f"{job.key} is with a worker already")
        self._last_id += 1
        self._live[self._last_id] = Live(self._last_id, job, slot)
        self._by_key[job.key] = self._last_id
        return self._last_id

    def _occupy(self, jobs: Sequence[Job], priority: int) -> list[int]:
        """Give them numbers, and one slot."""
        slot = self._last_id + 1
        run_ids = [self._add(job, slot) for job in jobs]
        runs = dict.fromkeys(run_ids, priority)
        self._slots[slot] = Slot(primary_store(jobs[0]), jobs[0].key.direction, len(run_ids) > 1, runs)
        self._changed(slot)
        return run_ids

    def _changed(self, slot: int) -> None:
        if self._slots[slot].priorities:
            self._running[slot] = self._slots[slot].running
        else:
            del self._slots[slot], self._running[slot]

    def _leaving(self, key: TransferKey, *, leaving: bool) -> int:
        live = self._live[self._by_key[key]]
        if live.slot:
            runs = self._slots[live.slot]
            (runs.leaving.add if leaving else runs.leaving.discard)(live.run_id)
            self._changed(live.slot)
        return live.run_id
