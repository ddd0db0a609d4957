"""What D-Bus costs the daemon: many transfers that move at once, several listeners, and calls in between.

The service runs over a manager without work behind it, in a process of its own, and is compared with the same process
that is not on the bus: the difference is the price of signals and calls.

    python -m benchmarks.bus [--transfers 100] [--listeners 5] [--seconds 10] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import dbus
import dbus.mainloop.glib
from gi.repository import GLib
from rich.console import Console
from rich.table import Table

from benchmarks.common import MIB, cpu_seconds
from dmedia_transfer.bus.service import BusService
from dmedia_transfer.client import Client
from dmedia_transfer.model import Direction, Transfer, TransferKey
from dmedia_transfer.states import Status
from tests.bus import PrivateBus, running_bus
from tests.control import FakeControl
from tests.factories import file_spec
from tests.jobcontrol import FakeJobs

MOVES_PER_S: Final = 10  # of each transfer: what a worker reports at most
CALL_EVERY_S: Final = 0.1
TOTAL: Final = 10_000 * MIB
TARGET_CPU_PERCENT: Final = 3.0
TARGET_CALL_MS: Final = 50.0


def keys(transfers: int) -> list[TransferKey]:
    """The transfers that move."""
    return [TransferKey(Direction.DOWNLOAD, file_spec(b"%d" % number).file_id, "") for number in range(transfers)]


def serve(transfers: int, *, on_bus: bool) -> None:
    """Move all transfers until standard input ends."""
    loop = GLib.MainLoop()
    control = FakeControl()
    for key in keys(transfers):
        control.add(Transfer(key=key, status=Status.ONGOING))
    if on_bus:
        bus = dbus.SessionBus(mainloop=dbus.mainloop.glib.DBusGMainLoop())
        BusService(control, bus, jobs=FakeJobs()).publish()
    done = 0

    def move() -> bool:
        nonlocal done
        done += MIB
        for key in keys_:
            control.move(key, done, TOTAL, rate=10.0 * MIB, eta_s=60.0)
        return True

    keys_ = keys(transfers)
    GLib.timeout_add(1000 // MOVES_PER_S, move)
    GLib.io_add_watch(sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IOCondition.HUP, lambda *_: loop.quit())
    print("ready", flush=True)
    loop.run()


def listen() -> None:
    """Hear all, as an app with a list of transfers does."""
    with Client() as client:
        for number, _states in enumerate(client.watch()):
            if not number:
                print("ready", flush=True)


@contextlib.contextmanager
def running(bus: PrivateBus, *arguments: str) -> Iterator[int]:
    """One of these, in a process of its own; gives its pid."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bus", *arguments],
        env=bus.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def calls(client: Client, seconds: float, key: TransferKey) -> dict[str, list[float]]:
    """Call again and again; milliseconds of each call, by its name."""
    took: dict[str, list[float]] = {}
    transfer = client.transfer(key)
    each: dict[str, Callable[[], object]] = {
        "GetManagedObjects": client.transfers,
        "GetAll (manager)": client.state,
        "GetAll (transfer)": transfer.state,
        "Pause": transfer.pause,
        "Resume": transfer.resume,
    }
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name, call in each.items():
            start_s = time.perf_counter()
            call()
            took.setdefault(name, []).append((time.perf_counter() - start_s) * 1000)
            time.sleep(CALL_EVERY_S)
    return took


def cpu_percent(pid: int, seconds: float) -> float:
    """What a process uses of one core."""
    before, start_s = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - start_s) * 100


def measure(transfers: int, listeners: int, seconds: float) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The daemon's CPU with and without the bus, in percent of a core, and the milliseconds of calls."""
    with tempfile.TemporaryDirectory() as folder, running_bus(Path(folder)) as bus, contextlib.ExitStack() as stack:
        with running(bus, "--serve", "silent", "--transfers", str(transfers)) as pid:
            silent = cpu_percent(pid, seconds)
        pid = stack.enter_context(running(bus, "--serve", "bus", "--transfers", str(transfers)))
        alone = cpu_percent(pid, seconds)
        for _ in range(listeners):
            stack.enter_context(running(bus, "--listen"))
        heard = cpu_percent(pid, seconds)
        with Client(bus.address) as client:
            took = calls(client, seconds, keys(transfers)[0])
    return {
        "not on the bus": silent,
        "on the bus, nobody listens": alone,
        f"{listeners} listeners": heard,
        "price of D-Bus": heard - silent,
    }, took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transfers", type=int, default=100)
    parser.add_argument("--listeners", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", choices=["bus", "silent"], help=argparse.SUPPRESS)
    parser.add_argument("--listen", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.transfers, on_bus=options.serve == "bus")
        return
    if options.listen:
        listen()
        return
    cpu, took = measure(options.transfers, options.listeners, options.seconds)
    title = f"D-Bus with {options.transfers} transfers that move, load {os.getloadavg()[0]:.1f}"
    told = {name: {"median_ms": statistics.median(each), "max_ms": max(each)} for name, each in took.items()}
    if options.json:
        print(json.dumps({"title": title, "cpu_percent": cpu, "calls": told}))
        return
    table = Table(title=title)
    for heading in ("", "median", "max", "target"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, percent in cpu.items():
        target = f"< {TARGET_CPU_PERCENT:.0f} %" if name.startswith("price") else ""
        table.add_row(name, f"{percent:.2f} % of a core", "", target)
    for name, figures in told.items():
        table.add_row(
            name, f"{figures['median_ms']:.1f} ms", f"{figures['max_ms']:.1f} ms", f"< {TARGET_CALL_MS:.0f} ms"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
