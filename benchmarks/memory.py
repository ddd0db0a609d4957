"""The most memory that a worker and the daemon had, for files of several sizes, up and down.

The peak is that of the kernel (`VmHWM`), set back before each transfer; pages of mapped files count in it.

    python -m benchmarks.memory [--sizes-mib 64,1024,2048] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import lean_s3
from benchmarks.common import MIB, peak_bytes
from benchmarks.stage import payload_folder, stage


@dataclass(frozen=True, slots=True)
class Peak:
    """What one transfer needed."""

    size_mib: int
    direction: str
    worker_bytes: int  # of the largest worker
    daemon_bytes: int


def measure(size_mib: int) -> list[Peak]:
    """One file up and down, with a daemon of its own."""
    told = []
    with contextlib.ExitStack() as stack:
        payload = stack.enter_context(payload_folder(2 * size_mib * MIB))
        server = stack.enter_context(lean_s3.running(payload / "server"))
        on = stack.enter_context(stage(server.url, payload=payload))
        file_id = on.plant(size_mib * MIB)
        for direction in ("upload", "download"):
            if direction == "download":
                on.device.path_of(file_id).unlink()
            for pid in on.pids():
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # sets the peak back
            on.move(direction, file_id)
            workers = max(map(peak_bytes, on.device.workers()))
            told.append(Peak(size_mib, direction, workers, peak_bytes(on.device.pid)))
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes-mib", default="64,1024,2048")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told = [peak for size in options.sizes_mib.split(",") for peak in measure(int(size))]
    if options.json:
        print(json.dumps({"title": "memory by size of the file", "results": [asdict(peak) for peak in told]}))
        return
    table = Table("file MiB", "", "worker MiB", "daemon MiB", title="memory by size of the file")
    for peak in told:
        figures = (f"{each / MIB:.0f}" for each in (peak.worker_bytes, peak.daemon_bytes))
        table.add_row(f"{peak.size_mib:,}", peak.direction, *figures)
    Console().print(table)


if __name__ == "__main__":
    main()
