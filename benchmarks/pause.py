"""How long a pause takes until it is `paused`, and a resume until the first byte: at 50 MB/s with 8 connections.

A proxy between the daemon and the bucket keeps the line at its rate and sees the bytes; the pool is warm. Times are
as a local app has them: from before the call over D-Bus to the signal, or to the byte on the line.

    python -m benchmarks.pause [--rounds 10] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from benchmarks import lean_s3
from benchmarks.common import MIB
from benchmarks.stage import Stage, stage
from dmedia_transfer.client import Client
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.states import Status
from tests.factories import content
from tests.proxy import FaultyProxy

RATE_BPS = 50_000_000.0
CONNECTIONS = 8
BEFORE_S = 1.0  # that a transfer runs at its rate before it is paused
QUIET_S = 0.3  # after a pause, so that what was on its way is not taken for the first byte
TARGETS_MS = {
    "download: pause to paused": 1000.0,
    "download: resume to the first byte": 200.0,
    "upload: pause to paused": 1500.0,
    "upload: resume to the first byte": 200.0,
}


def until(what: Callable[[], bool], *, within_s: float = 30.0) -> float:
    """Look until it is so; returns when (perf_counter)."""
    deadline = time.perf_counter() + within_s
    while not what():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"not within {within_s} s")
        time.sleep(0.001)
    return time.perf_counter()


def paused_at(client: Client, key: TransferKey, begun: float) -> float:
    """Milliseconds until a signal says that it is paused."""
    for states in client.watch(every_s=0.0):
        if any(state.key == key and state.status is Status.PAUSED for state in states.values()):
            return (time.perf_counter() - begun) * 1000
    raise RuntimeError("the daemon went away")


def one_direction(
    on: Stage, proxy: FaultyProxy, direction: Direction, rounds: int, size: int
) -> dict[str, list[float]]:
    """Pause and resume one transfer again and again; a new one is begun when it is nearly done."""
    name = str(direction)
    pauses: list[float] = []
    resumes: list[float] = []

    def count() -> int:
        return proxy.bytes_down if direction is Direction.DOWNLOAD else proxy.bytes_up

    with on.device.client() as client:
        number = 0
        while len(pauses) < rounds:
            number += 1
            key = _begin(on, client, direction, size, number)
            transfer = client.transfer(key)
            left_s = size / RATE_BPS
            while len(pauses) < rounds and left_s > 2 * BEFORE_S:
                proxy.reset_counts()
                until(lambda: count() > RATE_BPS * BEFORE_S)
                begun = time.perf_counter()
                if not transfer.pause():
                    raise RuntimeError(f"it cannot be paused: {transfer.state()}")
                pauses.append(paused_at(client, key, begun))
                time.sleep(QUIET_S)
                before = count()
                begun = time.perf_counter()
                transfer.resume()
                # An upload first asks what is there: a request or two are not the first byte of a part.
                resumes.append((until(lambda before=before: count() > before + 8192) - begun) * 1000)  # type: ignore[misc]
                left_s = size / RATE_BPS * (1 - transfer.state().progress.bytes_done / size)
            transfer.cancel()
    return {f"{name}: pause to paused": pauses, f"{name}: resume to the first byte": resumes}


def _begin(on: Stage, client: Client, direction: Direction, size: int, number: int) -> TransferKey:
    block = content(MIB, seed=number + (1000 if direction is Direction.UPLOAD else 0))
    data = block * (size // MIB)
    if direction is Direction.DOWNLOAD:
        file_id = on.device.add_file(data, on.bucket)
        with on.device.http() as (session, _):
            session.put(f"{on.endpoint_url}/films/{file_id}", data=data, timeout=60).raise_for_status()
        return client.queue_download(file_id, on.bucket).key
    file_id = on.device.add_file(data, on.home)
    path = on.device.path_of(file_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return client.queue_upload(file_id, on.bucket).key


def measure(rounds: int, size: int) -> dict[str, list[float]]:
    """All figures, in milliseconds."""
    results: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dmedia-objects-")))
        server = stack.enter_context(lean_s3.running(folder))
        address = urlsplit(server.url)
        proxy = stack.enter_context(FaultyProxy((str(address.hostname), int(address.port or 80))))
        on = stack.enter_context(stage(proxy.url, settings={"connections": CONNECTIONS}))
        on.endpoint_url = server.url  # what the benchmark itself puts there does not go through the proxy
        proxy.limit(RATE_BPS)
        for direction in Direction:
            results |= one_direction(on, proxy, direction, rounds=rounds, size=size)
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {
        name: {
            "median_ms": round(statistics.median(values), 1),
            "max_ms": round(max(values), 1),
            "target_ms": TARGETS_MS[name],
        }
        for name, values in measure(options.rounds, options.size_mib * MIB).items()
    }
    title = f"pause and resume at {RATE_BPS / 1e6:.0f} MB/s, {CONNECTIONS} connections, {options.rounds} rounds"
    if options.json:
        print(json.dumps({"title": title, "results": results}))
        return
    table = Table(title=title)
    for heading in ("", "median ms", "max ms", "target ms"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, figure in results.items():
        table.add_row(name, f"{figure['median_ms']:.0f}", f"{figure['max_ms']:.0f}", f"< {figure['target_ms']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
