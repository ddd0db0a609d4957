"""What a long queue of small files costs: entries per second, and what is written into CouchDB for each.

Queues so many files of 4 KiB at once over D-Bus and waits until all are there and the queue of the machine document is
empty again. What an entry costs must not depend on how many there are. Between the daemon and its database is a proxy
that counts; the bytes are all that the daemon sends to the database, headers included.

The daemon runs already, and its workers are warm: for each length, the same number of files goes before. Short queues
are measured several times in a row. The CPU time is that of an entry's whole life: it is taken when the last trace of
the files is gone, some seconds after their end. Beside it is what a daemon costs that has no worker yet (`cold start`).

    python -m benchmarks.queue [--entries 100,1000,10000] [--json]

`first` is the time until the call that queues them has returned, `revision` how long the manager alone takes for a
revision of a queue of that length (best of five): with one entry changed, and with a tenth more entries.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common import MIB, cpu_seconds
from benchmarks.revisions import FILE_BYTES, revision_ms
from benchmarks.stage import database_server
from dmedia_transfer import documents
from dmedia_transfer.backends.memory import MemoryBackend
from dmedia_transfer.couch.flushing import UNITE_S
from dmedia_transfer.manager.wanted import generation
from dmedia_transfer.model import StoreSpec, random_id
from tests.bus import running_bus
from tests.couch import TIMEOUT_S, CouchServer
from tests.device import Device, eventually
from tests.factories import BytesBody, content, file_spec
from tests.proxy import FaultyProxy

WARM_UP = 2000  # files that go before, so that all workers are there
ENOUGH = 2000  # entries, over all rounds: of a hundred the CPU time would be a few ticks of the clock
COLD = 100  # entries for a daemon without workers
AFTER_S = UNITE_S + 3.0  # after which nothing is done any more for what has ended
PAGE = 500  # documents in one request
LOOK_S = 0.02  # how often it is looked whether all is over: a hundred files take some tenths of a second
MEMORY_S = 0.1  # how often the memory is looked at meanwhile, which costs the daemon more


@dataclass(frozen=True, slots=True)
class Cost:
    """What a queue of one length cost."""

    entries: int
    rounds: int  # so many queues of this length, one after the other
    first_ms: float  # until the call that queues all has returned; of this and of `wall_s` the median
    wall_s: float  # until all files are there and the queue is empty
    cpu_s: float  # of the daemon and its workers, for one queue
    daemon_cpu_s: float  # of the daemon alone
    machine_writes: float  # revisions of the machine document, for one queue
    document_writes: float  # revisions of all documents
    bytes_written: float  # that the daemon sent to the database
    peak_bytes: int  # the most memory (PSS: what is shared with workers counts in part) of the daemon's main process
    changed_ms: float  # the manager alone, for a revision with one entry changed
    added_ms: float  # the manager alone, for a revision with a tenth more entries

    @property
    def entries_per_s(self) -> float:
        """How many entries came through the queue in a second."""
        return self.entries / self.wall_s

    @property
    def bytes_per_entry(self) -> float:
        """What the daemon sent to the database for each."""
        return self.bytes_written / self.entries


@dataclass
class Stage:
    """A daemon, and a store that costs almost nothing."""

    device: Device
    couch: CouchServer  # the database, past the proxy
    proxy: FaultyProxy
    source: str
    peak_bytes: int = 0  # the most that `daemon_bytes` said while a queue was drained

    def pids(self) -> list[int]:
        """The daemon, what makes its workers, and these."""
        return [self.device.pid, *self.device.forkers(), *self.device.workers()]

    def add_files(self, count: int, *, seed: int) -> list[str]:
        """Files with documents, in the store; their IDs."""
        spec = StoreSpec(self.source, "memory", {"folder": "objects"})
        backend = MemoryBackend(spec)
        raws: list[dict[str, Any]] = []
        stored = {self.source: {"copies": 1, "time": 1.0}}
        for number in range(count):
            data = content(FILE_BYTES, seed=seed + number)
            file = file_spec(data)
            backend.put(file, BytesBody(data), lambda _: None)
            raws.append(documents.new_file(file.file_id, file.size, file.leaf_digests, time=1.0, stored=stored))
        for start in range(0, count, PAGE):
            self.post("_bulk_docs", {"docs": raws[start : start + PAGE]})
        return [str(raw["_id"]) for raw in raws]

    def drain(self, file_ids: Sequence[str]) -> float:
        """Queue all of these, wait until all are there and the queue is empty; milliseconds until the call was over."""
        with self.device.client() as client:
            began_s = time.perf_counter()
            client.queue_downloads(file_ids)
            called_ms = (time.perf_counter() - began_s) * 1000

            looked_s = 0.0

            def is_over() -> bool:
                nonlocal looked_s
                if time.perf_counter() - looked_s >= MEMORY_S:
                    looked_s = time.perf_counter()
                    self.peak_bytes = max(self.peak_bytes, self.daemon_bytes())
                state = client.state()
                return state.queued + state.active == 0

            eventually(is_over, within_s=600, every_s=LOOK_S)
        eventually(lambda: not self.queued(), within_s=120, every_s=LOOK_S)
        return called_ms

    def post(self, resource: str, body: object) -> Any:
        """Ask the database, past the proxy."""
        with self.couch.session() as session:
            answer = session.post(f"{self.couch.base}/{self.device.database}/{resource}", json=body, timeout=TIMEOUT_S)
            answer.raise_for_status()
            return answer.json()

    def queued(self) -> int:
        """How many entries the database has."""
        row = self.post("_all_docs?include_docs=true", {"keys": [self.device.machine_id]})["rows"][0]
        return len(row["doc"]["queue"])

    def daemon_bytes(self) -> int:
        """The memory of the daemon's main process (PSS)."""
        lines = Path(f"/proc/{self.device.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))

    def revisions(self, file_ids: Sequence[str]) -> tuple[int, int]:
        """How often the machine document, and all of these together, were written."""
        generations = {}
        ids = [*file_ids, self.device.machine_id]
        for start in range(0, len(ids), PAGE):
            for row in self.post("_all_docs", {"keys": ids[start : start + PAGE]})["rows"]:
                generations[row["id"]] = generation({"_rev": row["value"]["rev"]})
        machine = generations.pop(self.device.machine_id)
        return machine, machine + sum(generations.values())


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Build it, start the daemon, and take all away at the end."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dmedia-benchmark-")))
        couch = stack.enter_context(database_server(folder))
        host, _, port = couch.base.partition("://")[2].partition(":")
        proxy = stack.enter_context(FaultyProxy((host, int(port))))
        bus = stack.enter_context(running_bus(folder))
        root = folder / "memory"
        root.mkdir()
        memory = {"DMEDIA_MEMORY_ROOT": str(root)}
        os.environ.update(memory)  # for this process's own view of the store
        device = Device(
            folder / "device",
            bus=bus,
            couch=replace(couch, base=proxy.url),
            settings={"log_level": "WARNING"},
            env=memory,
        )
        stack.callback(device.close)
        with device.http() as (session, url):
            session.put(url, timeout=TIMEOUT_S).raise_for_status()
        source = device.add_store(documents.new_store(random_id(), "memory", time=1.0, folder="objects"))
        device.add_filestore()
        device.start()
        yield Stage(device, couch, proxy, source)


def measure(entries: int, *, warm_up: int = WARM_UP, rounds: int = 1) -> Cost:
    """Queue and drain so many, so many times, with a daemon of their own."""
    with stage() as on:
        if warm_up:
            on.drain(on.add_files(warm_up, seed=0))
        queues = [on.add_files(entries, seed=1_000_000 + entries * number) for number in range(rounds)]
        file_ids = [file_id for queue in queues for file_id in queue]
        time.sleep(AFTER_S)
        machine_before, all_before = on.revisions(file_ids)
        cpu_before = {pid: cpu_seconds(pid) for pid in on.pids()}
        on.proxy.reset_counts()
        called_ms, walls_s = [], []
        for queue in queues:
            began_s = time.perf_counter()
            called_ms.append(on.drain(queue))
            walls_s.append(time.perf_counter() - began_s)
        written = on.proxy.bytes_up
        machine_after, all_after = on.revisions(file_ids)
        time.sleep(AFTER_S)
        cpu = {pid: cpu_seconds(pid) - cpu_before.get(pid, 0.0) for pid in on.pids()}
        for file_id in file_ids:
            assert on.device.path_of(file_id).stat().st_size == FILE_BYTES
    return Cost(
        entries=entries,
        rounds=rounds,
        first_ms=statistics.median(called_ms),
        wall_s=statistics.median(walls_s),
        cpu_s=sum(cpu.values()) / rounds,
        daemon_cpu_s=cpu[on.device.pid] / rounds,
        machine_writes=(machine_after - machine_before) / rounds,
        document_writes=(all_after - all_before) / rounds,
        bytes_written=written / rounds,
        peak_bytes=on.peak_bytes,
        changed_ms=revision_ms(entries, added=0),
        added_ms=revision_ms(entries, added=entries // 10),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", default="100,1000,10000")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable()  # the manager that is measured alone has no files
    lengths = [int(count) for count in options.entries.split(",")]
    cold = measure(COLD, warm_up=0)
    costs = [measure(length, rounds=max(1, ENOUGH // length)) for length in lengths]
    if options.json:
        told, told_cold = (
            [{**asdict(each), "entries_per_s": each.entries_per_s} for each in of] for of in (costs, [cold])
        )
        print(json.dumps({"title": "queue", "results": told, "cold_start": told_cold}))
        return
    table = Table(title=f"queues of files of {FILE_BYTES:,} bytes, memory backend")
    for heading in (
        "",
        "entries",
        "first ms",
        "wall s",
        "per s",
        "CPU ms/entry",
        "daemon's",
        "machine writes",
        "writes/entry",
        "bytes/entry",
        "daemon MiB",
        "revision ms: changed",
        "added",
    ):
        table.add_column(heading, justify="right")
    for name, cost in [("cold start", cold), *(("", cost) for cost in costs)]:
        table.add_row(
            name,
            f"{cost.entries:,}",
            f"{cost.first_ms:.0f}",
            f"{cost.wall_s:.2f}",
            f"{cost.entries_per_s:,.0f}",
            f"{cost.cpu_s / cost.entries * 1000:.2f}",
            f"{cost.daemon_cpu_s / cost.entries * 1000:.2f}",
            f"{cost.machine_writes:.1f}",
            f"{cost.document_writes / cost.entries:.2f}",
            f"{cost.bytes_per_entry:,.0f}",
            f"{cost.peak_bytes / MIB:.0f}",
            f"{cost.changed_ms:.0f}",
            f"{cost.added_ms:.0f}",
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
