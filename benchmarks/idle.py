"""What the daemon costs while it does nothing: wake-ups, processor time, memory; and how soon it is there.

Starts the daemon with its built-in document server on a session bus of its own, so many times, from the start of the
program to its name on the bus; then lets it be for half a minute, and counts, in all threads of all its processes, how
often one of them woke up. Once with an empty queue, and once with so many entries that wait for a source.

    python -m benchmarks.idle [--seconds 30] [--starts 5] [--entries 10000] [--json]

The heartbeat of the feed is one wake-up of the daemon and one of the server every half minute; what is more is ours.
Memory is the PSS: what processes share is divided among them. The first start of all reads the program from the disk.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.common import MIB, cpu_seconds
from dmedia_transfer.busnames import BUS_NAME
from dmedia_transfer.model import random_id
from tests.bus import running_bus
from tests.device import Device, eventually

SETTLE_S = 5.0  # after the start, until what belongs to it is over
SERVER = "dmedia_transfer.couch.embedded"


@dataclass(frozen=True, slots=True)
class Idle:
    """What one idle daemon cost."""

    entries: int  # that wait
    start_s: float  # from the start of the program to its name on the bus; median
    daemon_bytes: int  # PSS of the daemon and its workers
    server_bytes: int  # PSS of its document server
    daemon_wakes_per_s: float  # of all its threads and workers
    server_wakes_per_s: float
    cpu_percent: float  # of a core, all of them together


def processes(pid: int) -> list[int]:
    """A process and all below it."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [pid, *(below for child in children for below in processes(child))]


def wakes(pid: int) -> int:
    """How often the threads of a process have gone to sleep so far, which is once for each time that they woke up."""
    lines = [
        line
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches:")
    ]
    return sum(int(line.split()[1]) for line in lines)


def pss(pid: int) -> int:
    """The memory of a process, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def is_server(pid: int) -> bool:
    """Whether this is the document server."""
    return SERVER.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()


def start_s(device: Device) -> float:
    """Start the daemon; the seconds until it had its name."""
    began_s = time.perf_counter()
    device.launch()
    eventually(lambda: device.bus.has_owner(BUS_NAME), every_s=0.005)
    return time.perf_counter() - began_s


def measure(device: Device, *, entries: int, seconds: float, started_s: float) -> Idle:
    """Let the daemon be for so long."""
    time.sleep(SETTLE_S)
    pids = processes(device.pid)
    before: Mapping[int, int] = {pid: wakes(pid) for pid in pids}
    cpu_before_s = sum(cpu_seconds(pid) for pid in pids)
    time.sleep(seconds)
    woken = {pid: wakes(pid) - before[pid] for pid in pids}
    cpu_s = sum(cpu_seconds(pid) for pid in pids) - cpu_before_s
    servers = [pid for pid in pids if is_server(pid)]
    ours = [pid for pid in pids if pid not in servers]
    return Idle(
        entries=entries,
        start_s=started_s,
        daemon_bytes=sum(map(pss, ours)),
        server_bytes=sum(map(pss, servers)),
        daemon_wakes_per_s=sum(woken[pid] for pid in ours) / seconds,
        server_wakes_per_s=sum(woken[pid] for pid in servers) / seconds,
        cpu_percent=100 * cpu_s / seconds,
    )


def run(*, seconds: float, starts: int, entries: int) -> list[Idle]:
    """Measure both."""
    with tempfile.TemporaryDirectory(prefix="dmedia-benchmark-") as name:
        folder = Path(name)
        with running_bus(folder) as bus:
            device = Device(folder / "tv", bus=bus, settings={"log_level": "WARNING"})
            try:
                took: list[float] = []
                for _ in range(starts):
                    if device.is_running:
                        device.stop()
                    took.append(start_s(device))
                started_s = statistics.median(took)
                told = [measure(device, entries=0, seconds=seconds, started_s=started_s)]
                if entries:
                    file_ids = [random_id() + random_id() for _ in range(entries)]  # no document tells of them
                    with device.client() as client:
                        client.queue_downloads(file_ids)
                        eventually(lambda: client.state().queued == entries, within_s=300, every_s=0.5)
                    time.sleep(SETTLE_S)
                    told.append(measure(device, entries=entries, seconds=seconds, started_s=started_s))
            finally:
                device.close()
    return told


def show(told: list[Idle]) -> None:
    """A table."""
    table = Table("waiting", "start s", "daemon MiB", "server MiB", "wakes/s", "server wakes/s", "CPU %")
    for one in told:
        table.add_row(
            str(one.entries),
            f"{one.start_s:.2f}",
            f"{one.daemon_bytes / MIB:.1f}",
            f"{one.server_bytes / MIB:.1f}",
            f"{one.daemon_wakes_per_s:.2f}",
            f"{one.server_wakes_per_s:.2f}",
            f"{one.cpu_percent:.2f}",
        )
    Console().print(table)


def main() -> int:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the daemon is left alone")
    parser.add_argument("--starts", type=int, default=5, help="how often it is started")
    parser.add_argument("--entries", type=int, default=10_000, help="so many wait, the second time; 0: no second time")
    parser.add_argument("--json", action="store_true", help="a list of results")
    options = parser.parse_args()
    told = run(seconds=options.seconds, starts=options.starts, entries=options.entries)
    if options.json:
        print(json.dumps([asdict(one) for one in told], indent=2))
    else:
        show(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
