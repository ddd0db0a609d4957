"""What progress and the journal cost: a transfer with both, beside the same transfer with neither.

Both run the worker's own engine in a process of their own, on one file, to or from the memory backend, which costs
next to nothing: with a real store the same overhead is a smaller part. With both, leaves and uploads are recorded in a
journal on the disk, and progress goes through a pipe to a manager with the bus as listener, as from a worker to the
daemon. With neither, nothing is recorded, and nobody is told anything. The two take turns; what counts is the median
of the rounds' ratios.

    python -m benchmarks.overhead [--mib 1024] [--rounds 7] [--json]

The CPU is that of the transfer alone: a start of the process would hide a part of the difference, and the daemon has
its journal and its place on the bus already.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import dbus
import dbus.bus
import dbus.mainloop.glib
from gi.repository import GLib

from benchmarks.common import MIB, Usage, as_json, peak_bytes, report
from dmedia_transfer import documents, leaves
from dmedia_transfer.backends.memory import MemoryBackend
from dmedia_transfer.buffers import LeafBuffers
from dmedia_transfer.bus import mainloop
from dmedia_transfer.bus.service import BusService
from dmedia_transfer.crew import Crew
from dmedia_transfer.download import Download, Source
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.journal import Journal
from dmedia_transfer.manager import Settings, TransferManager
from dmedia_transfer.model import Direction, Entry, FileSpec, Moved, StoreSpec, TransferKey
from dmedia_transfer.ports import KnownFile, LeafRecords, LocalFile, Part, UploadRecord, UploadRecords
from dmedia_transfer.tally import Tally
from dmedia_transfer.upload import Upload
from dmedia_transfer.workers.running import Progress
from tests.bus import running_bus
from tests.factories import MACHINE_ID, OTHER_STORE_ID, STORE_ID
from tests.fakes import HOME_ID, FakeLedger, FakeLibrary, FakeOutbox, FakePool, FakeStores
from tests.jobcontrol import FakeJobs

CONNECTIONS: Final = 4
REPORT_INTERVAL_S: Final = 0.1  # as a worker's
MARK: Final = 4096  # so many bytes of each leaf are its own, so that no two are equal
TARGET_PERCENT: Final = 3.0
OBJECTS: Final = StoreSpec(STORE_ID, "memory", {"folder": "objects"})
SPEC: Final = "leaves"  # a file with the leaf digests of the file that is moved

BOTH, NEITHER = "with both", "with neither"


class NoLeafRecords:
    """`ports.LeafRecords` that remember nothing."""

    def load(self, key: TransferKey, store_id: str, identity: str) -> set[int]:
        return set()

    def record(self, key: TransferKey, store_id: str, identity: str, leaf: int) -> None: ...

    def record_all(self, key: TransferKey, store_id: str, identity: str, leaves: Iterable[int]) -> None: ...

    def forget(self, key: TransferKey, store_id: str) -> None: ...


class NoUploadRecords:
    """`ports.UploadRecords` that remember nothing."""

    def load(self, key: TransferKey) -> UploadRecord | None:
        return None

    def parts(self, key: TransferKey) -> list[Part]:
        return []

    def ids_at(self, object_name: str) -> set[str]:
        return set()

    def intend(self, record: UploadRecord) -> None: ...

    def begun(self, key: TransferKey, upload_id: str) -> None: ...

    def confirmed(self, key: TransferKey, part: Part) -> None: ...

    def forget(self, key: TransferKey) -> None: ...


def prepare(folder: Path, mib: int) -> None:
    """A FileStore and a memory store that both have one file of so many MiB."""
    path, common = folder / "film", os.urandom(MIB - MARK)
    with path.open("wb") as out:
        for _ in range(mib):
            out.write(os.urandom(MARK) + common)
    with path.open("rb") as written:
        digests = b"".join(map(leaves.leaf_digest, iter(lambda: written.read(leaves.LEAF_BYTES), b"")))
    (folder / SPEC).write_bytes(digests)
    home = FileStore.create(folder / "home", HOME_ID)
    home.import_file(path)
    path.unlink()
    file = file_in(folder, mib)
    with home.open(file.file_id) as local:
        _upload(file, local, NoUploadRecords(), Tally(file.size))


def file_in(folder: Path, mib: int) -> FileSpec:
    """The file that is moved."""
    digests = (folder / SPEC).read_bytes()
    return FileSpec(leaves.file_id(digests), mib * MIB, digests)


def key_of(file: FileSpec, direction: Direction) -> TransferKey:
    """The transfer of this file."""
    return TransferKey(direction, file.file_id, STORE_ID if direction is Direction.UPLOAD else "")


def _upload(file: FileSpec, local: LocalFile, records: UploadRecords, tally: Tally) -> None:
    Upload(
        key_of(file, Direction.UPLOAD),
        file,
        local=local,
        backend=MemoryBackend(OBJECTS),
        records=records,
        crew=Crew(CONNECTIONS),
        buffers=LeafBuffers(CONNECTIONS),
        tally=tally,
        pace=lambda _: None,
    ).run()


def _download(file: FileSpec, folder: Path, records: LeafRecords, progress: Progress | None) -> None:
    tally = Tally(file.size, progress)
    download = Download(
        key_of(file, Direction.DOWNLOAD),
        file,
        sources=[Source(STORE_ID, MemoryBackend(OBJECTS))],
        destination=FileStore.create(folder / "away", OTHER_STORE_ID),
        records=records,
        crew=Crew(CONNECTIONS),
        buffers=LeafBuffers(CONNECTIONS),
        tally=tally,
        pace=lambda _: None,
    )
    if progress is not None:
        progress.sources = download.sources
    download.run()
    if progress is not None:
        progress.last(tally)


def move(
    file: FileSpec, folder: Path, direction: Direction, journal: Journal | None, progress: Progress | None
) -> None:
    """Do the transfer, as a worker does."""
    if direction is Direction.DOWNLOAD:
        _download(file, folder, journal.leaves if journal else NoLeafRecords(), progress)
        return
    tally = Tally(file.size, progress)
    with FileStore(HOME_ID, folder / "home").open(file.file_id) as local:
        _upload(file, local, journal.uploads if journal else NoUploadRecords(), tally)
    if progress is not None:
        progress.last(tally)


def move_and_tell(file: FileSpec, folder: Path, direction: Direction) -> Usage:
    """Do the transfer with a journal, and tell a manager that is on the bus, as a worker tells the daemon."""
    journal = Journal(folder / "journal.sqlite", owner=True)
    stores = FakeStores()
    stores.files.update([file.file_id] if direction is Direction.UPLOAD else [])
    manager = TransferManager(
        pool=FakePool(),
        library=FakeLibrary(),
        stores=stores,
        outbox=FakeOutbox(),
        ledger=FakeLedger(),
        call_later=mainloop.call_later,
        settings=Settings(),
    )
    entry = Entry(file.file_id, direction, STORE_ID, id="entry", time=1.0)
    machine = documents.new_machine(MACHINE_ID, "benchmark", time=1.0)
    manager.start({**machine, "_rev": "1-a", "queue": [documents.write_entry(entry)]})
    stored = {STORE_ID: 1} if direction is Direction.DOWNLOAD else {}
    manager.files_known({file.file_id: KnownFile(file, stored)})
    bus = dbus.bus.BusConnection(dbus.bus.BusConnection.TYPE_SESSION, mainloop=dbus.mainloop.glib.DBusGMainLoop())
    BusService(manager, bus, jobs=FakeJobs()).publish()
    loop = GLib.MainLoop()
    reading, writing = multiprocessing.Pipe(duplex=False)
    heard = threading.Thread(target=_hear, args=(reading, manager.report))
    heard.start()

    def work() -> None:
        move(file, folder, direction, journal, Progress(1, writing.send, REPORT_INTERVAL_S))
        writing.close()
        heard.join()
        mainloop.call_soon(loop.quit)

    worker = threading.Thread(target=work)
    used = meter()
    worker.start()
    loop.run()
    worker.join()
    usage = used()
    journal.close()
    told = manager.transfers()[key_of(file, direction)].progress.bytes_done
    assert told == file.size, f"the manager has heard of {told} bytes of {file.size}"
    return usage


def meter() -> Callable[[], Usage]:
    """Ask what this process uses from now on until the result is called."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    return lambda: Usage(time.perf_counter() - wall_s, time.process_time() - cpu_s, peak_bytes(os.getpid()))


def _hear(reading: Connection, report: Callable[[Moved], object]) -> None:
    while True:
        try:
            said = reading.recv()
        except EOFError:
            return
        mainloop.call_soon(partial(_tell, report, said))


def _tell(report: Callable[[Moved], object], said: Moved) -> None:
    report(said)


def run_here(folder: Path, mib: int, direction: Direction, *, both: bool) -> None:
    """One run in this process; says on standard output what it cost."""
    file = file_in(folder, mib)
    if both:
        usage = move_and_tell(file, folder, direction)
    else:
        used = meter()
        move(file, folder, direction, None, None)
        usage = used()
    print(json.dumps({"wall_s": usage.wall_s, "cpu_s": usage.cpu_s, "peak_bytes": usage.peak_bytes}))


def run(folder: Path, mib: int, direction: Direction, contestant: str, environment: Mapping[str, str]) -> Usage:
    """One run in a process of its own."""
    for left in ("away", "journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"):
        subprocess.run(["rm", "-rf", str(folder / left)], check=True)
    if direction is Direction.UPLOAD:
        MemoryBackend(OBJECTS).delete(file_in(folder, mib))
    command = [sys.executable, "-m", "benchmarks.overhead", "--mib", str(mib), "--run", contestant]
    command += ["--folder", str(folder), "--direction", str(direction)]
    done = subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
    return Usage(**json.loads(done.stdout.splitlines()[-1]), payload_bytes=mib * MIB)


def measure(mib: int, rounds: int) -> dict[str, list[Usage]]:
    """All runs, by direction and contestant."""
    results: dict[str, list[Usage]] = {}
    with tempfile.TemporaryDirectory(prefix="dmedia-benchmark-") as name, running_bus(Path(name)) as bus:
        folder = Path(name)
        os.environ["DMEDIA_MEMORY_ROOT"] = str(folder)
        (folder / "objects").mkdir()
        prepare(folder, mib)
        for number in range(rounds + 1):  # the first one is to warm up
            turns = [(direction, contestant) for direction in Direction for contestant in (BOTH, NEITHER)]
            for direction, contestant in turns if number % 2 else turns[::-1]:
                usage = run(folder, mib, direction, contestant, bus.env)
                if number:
                    results.setdefault(f"{direction} {contestant}", []).append(usage)
    return results


def percent(results: Mapping[str, list[Usage]], direction: Direction) -> float:
    """How much more CPU a transfer takes with both: the median of the rounds."""
    pairs = zip(results[f"{direction} {BOTH}"], results[f"{direction} {NEITHER}"], strict=True)
    return (statistics.median(both.cpu_s / neither.cpu_s for both, neither in pairs) - 1) * 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run", choices=[BOTH, NEITHER], help=argparse.SUPPRESS)
    parser.add_argument("--direction", type=Direction, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_here(options.folder, options.mib, options.direction, both=options.run == BOTH)
        return
    results = measure(options.mib, options.rounds)
    title = f"one file of {options.mib} MiB, progress and journal"
    more = {str(direction): percent(results, direction) for direction in Direction}
    if options.json:
        told = {**json.loads(as_json(title, results)), "more_cpu_percent": max(more.values()), "more_cpu": more}
        print(json.dumps(told, indent=2))
        return
    report(title, results)
    for direction, figure in more.items():
        print(f"{direction}: {figure:+.1f} % CPU; the target is at most {TARGET_PERCENT:.0f} %")


if __name__ == "__main__":
    main()
