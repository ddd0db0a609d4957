"""Runs: which transfer a worker has, and under which number.

A transfer stays busy until its worker has let go of it, whatever its status says by then, so that no two workers are
ever on one file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dmedia_transfer.model import Discard, Download, Job, StoreSpec, TransferKey
from dmedia_transfer.ports import WorkerPool
from dmedia_transfer.scheduler import Running


@dataclass(frozen=True, slots=True)
class Live:
    """A job that a worker has."""

    run_id: int
    job: Job
    running: Running | None  # how it counts against the limits; None for a discard, which does not


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


class Runs:
    """All live jobs."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._last_id = 0
        self._live: dict[int, Live] = {}
        self._by_key: dict[TransferKey, int] = {}
        self._running: dict[TransferKey, Running] = {}

    @property
    def running(self) -> Mapping[TransferKey, Running]:
        """What occupies a slot."""
        return self._running

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
        if job.key in self._by_key:
            raise RuntimeError(f"{job.key} is with a worker already")
        self._last_id += 1
        running = None if isinstance(job, Discard) else Running(primary_store(job), priority)
        self._live[self._last_id] = Live(self._last_id, job, running)
        self._by_key[job.key] = self._last_id
        if running is not None:
            self._running[job.key] = running
        self._pool.run(self._last_id, job)

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
        if key in self._running:
            self._running[key] = replace(self._running[key], priority=priority)

    def ended(self, run_id: int) -> Live | None:
        """The worker has let go; None for a run that is not known."""
        live = self._live.pop(run_id, None)
        if live is not None:
            del self._by_key[live.job.key]
            self._running.pop(live.job.key, None)
        return live

    def _leaving(self, key: TransferKey, *, leaving: bool) -> int:
        if key in self._running:
            self._running[key] = replace(self._running[key], leaving=leaving)
        return self._by_key[key]
