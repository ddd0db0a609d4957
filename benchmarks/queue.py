"""What a long queue of small files costs: entries per second, and what is written into CouchDB for each.

Queues so many files of 4 KiB at once over D-Bus and waits until all are there and the queue of the machine document is
empty again. What an entry costs must not depend on how many there are. Between the daemon and its database is a proxy
that counts; the bytes are all that the daemon sends to the database, headers included.

    python -m benchmarks.queue [--entries 100,1000,10000] [--json]

`first` is the time until the call that queues them has returned, `revision` how long the manager alone takes for a
revision of a queue of that length (best of five): with one entry changed, and with a tenth more entries.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common import MIB, cpu_seconds
from benchmarks.stage import database_server
from dmedia_transfer import documents
from dmedia_transfer.backends.memory import MemoryBackend
from dmedia_transfer.manager.wanted import generation
from dmedia_transfer.model import Entry, FileSpec, StoreSpec, random_id
from tests.bus import running_bus
from tests.couch import TIMEOUT_S, CouchServer
from tests.device import Device, eventually
from tests.factories import BytesBody, content, file_spec
from tests.fakes import World
from tests.proxy import FaultyProxy

FILE_BYTES = 4096
WARM_UP = 50  # files that go before, so that workers are there
PAGE = 500  # documents in one request
LOOK_S = 0.02  # how often it is looked whether all is over: a hundred files take some tenths of a second
MEMORY_S = 0.1  # how often the memory is looked at meanwhile, which costs the daemon more


@dataclass(frozen=True, slots=True)
class Cost:
    """What a queue of one length cost."""

    entries: int
    first_ms: float  # until the call that queues all has returned
    wall_s: float  # until all files are there and the queue is empty
    cpu_s: float  # of the daemon and its workers
    daemon_cpu_s: float  # of the daemon alone
    machine_writes: int  # revisions of the machine document
    document_writes: int  # revisions of all documents
    bytes_written: int  # that the daemon sent to the database
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


def measure(entries: int) -> Cost:
    """Queue and drain so many, with a daemon of their own."""
    with stage() as on:
        on.drain(on.add_files(WARM_UP, seed=0))
        file_ids = on.add_files(entries, seed=1_000_000)
        pids = on.pids()
        machine_before, all_before = on.revisions(file_ids)
        cpu_before = {pid: cpu_seconds(pid) for pid in pids}
        on.proxy.reset_counts()
        began_s = time.perf_counter()
        called_ms = on.drain(file_ids)
        wall_s = time.perf_counter() - began_s
        cpu = {pid: cpu_seconds(pid) - cpu_before.get(pid, 0.0) for pid in on.pids()}
        written = on.proxy.bytes_up
        machine_after, all_after = on.revisions(file_ids)
        for file_id in file_ids:
            assert on.device.path_of(file_id).stat().st_size == FILE_BYTES
    return Cost(
        entries=entries,
        first_ms=called_ms,
        wall_s=wall_s,
        cpu_s=sum(cpu.values()),
        daemon_cpu_s=cpu[pids[0]],
        machine_writes=machine_after - machine_before,
        document_writes=all_after - all_before,
        bytes_written=written,
        peak_bytes=on.peak_bytes,
        changed_ms=revision_ms(entries, added=0),
        added_ms=revision_ms(entries, added=entries // 10),
    )


def revision_ms(entries: int, *, added: int, rounds: int = 5) -> float:
    """Milliseconds that the manager takes for a revision with one entry changed, or with so many more."""
    best = float("inf")
    for _ in range(rounds):
        world = World()
        for number in range(entries + added):
            world.add_file(_file(number))
        queue = [_raw_entry(number) for number in range(entries)]
        world.edit_queue(*queue)
        if added:
            queue = [*queue, *(_raw_entry(entries + number) for number in range(added))]
        else:
            queue[entries // 2] = {**queue[entries // 2], "priority": 10}
        raw = {**world.machine, "_rev": "7-x", "queue": json.loads(json.dumps(queue))}
        gc.collect()
        began_s = time.thread_time()  # of this thread: other programs do not count
        world.manager.machine_changed(raw)
        best = min(best, (time.thread_time() - began_s) * 1000)
    return best


def _file(number: int) -> FileSpec:
    return FileSpec(f"{number:048d}".translate(str.maketrans("0189", "WXYZ")), FILE_BYTES, b"")


def _raw_entry(number: int) -> dict[str, Any]:
    entry = Entry(_file(number).file_id, id=f"entry-{number}", time=1.0, requested_by="tests")
    return documents.write_entry(entry)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", default="100,1000,10000")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable()  # the manager that is measured alone has no files
    costs = [measure(int(count)) for count in options.entries.split(",")]
    if options.json:
        told = [{**asdict(cost), "entries_per_s": cost.entries_per_s} for cost in costs]
        print(json.dumps({"title": "queue", "results": told}))
        return
    table = Table(title=f"queues of files of {FILE_BYTES:,} bytes, memory backend")
    for heading in (
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
    for cost in costs:
        table.add_row(
            f"{cost.entries:,}",
            f"{cost.first_ms:.0f}",
            f"{cost.wall_s:.2f}",
            f"{cost.entries_per_s:,.0f}",
            f"{cost.cpu_s / cost.entries * 1000:.2f}",
            f"{cost.daemon_cpu_s / cost.entries * 1000:.2f}",
            f"{cost.machine_writes}",
            f"{cost.document_writes / cost.entries:.2f}",
            f"{cost.bytes_per_entry:,.0f}",
            f"{cost.peak_bytes / MIB:.0f}",
            f"{cost.changed_ms:.0f}",
            f"{cost.added_ms:.0f}",
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
