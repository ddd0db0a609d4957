"""Many small files up and down through the daemon, verified, beside the programs that people use for it.

Ours is measured from the PUT of the machine document with so many new entries until the document's queue is empty
again: all that the daemon does for each of them is in it, documents and journal too. The others move a folder; boto3
has no function for that, and so gets a loop, one file after the other and with a pool of threads.

    python -m benchmarks.small [--files 200] [--size-kib 1024] [--rounds 5] [--only NAME] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks import lean_s3, rivals
from benchmarks.common import RunFailed, Usage, measure, measuring, reports
from benchmarks.rivals import POOL, Rival, WarmBoto3
from benchmarks.stage import BUCKET, Stage, payload_folder, stage
from benchmarks.turns import Turn, take_turns
from dmedia_transfer.model import random_id

OURS: Final = "dmedia, verified"
WARM: Final = f"boto3, warm, {POOL} threads"
ONE_BY_ONE: Final = "boto3, warm, one by one"
LOOK_S: Final = 0.02  # how often it is looked whether all have arrived
WAIT_S: Final = 300.0


@dataclass(frozen=True)
class Scene:
    """Endpoint, daemon and files."""

    on: Stage
    server: lean_s3.Running
    folder: Path  # of the others' files
    file_ids: Sequence[str]
    size: int  # of each

    @property
    def total(self) -> int:
        """Of all, in bytes."""
        return self.size * len(self.file_ids)

    def names(self) -> list[str]:
        """All objects that there are."""
        return [each["Key"] for each in self.on.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def clear(self) -> None:
        """Remove all objects."""
        for name in self.names():
            self.on.forget(name)


@contextlib.contextmanager
def scene(count: int, size: int) -> Iterator[Scene]:
    """Build it; the files are in the FileStore, and beside it for the others."""
    with contextlib.ExitStack() as stack:
        payload = stack.enter_context(payload_folder(4 * count * size))
        server = stack.enter_context(lean_s3.running(payload / "server"))
        on = stack.enter_context(stage(server.url, payload=payload))
        file_ids = [on.plant(size, seed=number * 10_000_000) for number in range(count)]
        folder = payload / "others"
        folder.mkdir()
        for file_id in file_ids:
            os.link(on.device.path_of(file_id), folder / file_id)
        yield Scene(on, server, folder, file_ids, size)


def ours(at: Scene, direction: str) -> Turn:
    """The daemon's turn."""
    device = at.on.device
    paths = [device.path_of(file_id) for file_id in at.file_ids]

    def has_arrived() -> bool:
        if direction == "up":
            return at.server.stats()["received"] >= target
        return all(path.exists() for path in paths)

    target = 0

    def turn() -> Usage:
        nonlocal target
        if direction == "up":
            at.clear()
        else:
            for path in paths:
                path.unlink()
        target = at.server.stats()["received"] + at.total
        common = {"action": f"{direction}load", "store_id": at.on.bucket}
        raw = device.get(device.machine_id)
        raw["queue"] = [{"id": random_id(), "file_id": file_id, **common} for file_id in at.file_ids]
        with measuring(at.on.pids, payload_bytes=at.total) as usages:
            device.put(raw)
            _wait(has_arrived)
            _wait(lambda: not device.queued())
        there = len(at.names()) if direction == "up" else sum(path.stat().st_size == at.size for path in paths)
        _must_be(len(paths), there, OURS)
        return usages[0]

    return turn


def theirs(at: Scene, direction: str, name: str, work: Callable[[Path], Usage]) -> Turn:
    """A rival's turn, with what has to be before and after."""

    def turn() -> Usage:
        folder = at.folder
        if direction == "up":
            at.clear()
        else:
            folder = at.folder.with_name("down")
            folder.mkdir()
        usage = work(folder)
        _must_be(len(at.file_ids), len(at.names() if direction == "up" else list(folder.iterdir())), name)
        if direction == "down":
            shutil.rmtree(folder)
        return replace(usage, payload_bytes=at.total)

    return turn


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not until():
        if time.monotonic() > deadline:
            raise RunFailed(f"{OURS}: not within {WAIT_S:.0f} s")
        time.sleep(LOOK_S)


def _must_be(wanted: int, found: int, name: str) -> None:
    if wanted != found:
        raise RunFailed(f"{name}: {found} of {wanted} files arrived")


def contestants(at: Scene, direction: str, warm: WarmBoto3, others: Sequence[Rival]) -> dict[str, Turn]:
    """Everybody's turn."""
    environment = rivals.environment()

    def with_warm_boto3(at_once: int) -> Callable[[Path], Usage]:
        def work(folder: Path) -> Usage:
            with measuring(lambda: [warm.pid]) as usages:
                warm.move(direction, folder, at.file_ids, at_once=at_once)
            return usages[0]

        return work

    def with_program(rival: Rival) -> Callable[[Path], Usage]:
        def work(folder: Path) -> Usage:
            command = rival.command(at.server.url, direction, folder, at.file_ids)
            return measure(command, environment=environment, inherit=False)

        return work

    turns = {OURS: ours(at, direction)}
    turns |= {name: theirs(at, direction, name, with_warm_boto3(n)) for name, n in ((WARM, POOL), (ONE_BY_ONE, 1))}
    return turns | {rival.name: theirs(at, direction, rival.name, with_program(rival)) for rival in others}


def run(count: int, size: int, rounds: int, only: Sequence[str] = ()) -> dict[str, dict[str, list[Usage]]]:
    """All rounds, first upwards and then downwards."""
    others = [rival for rival in rivals.present() if not only or rival.name in only]
    with scene(count, size) as at, contextlib.closing(WarmBoto3(at.server.url)) as warm:
        return {
            direction: take_turns(
                contestants(at, direction, warm, others), rounds=rounds, servers=lambda: [at.server.pid]
            )
            for direction in ("up", "down")
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--size-kib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], help="beside these alone; may be given again")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = run(options.files, options.size_kib * 1024, options.rounds, options.only)
    title = f"load of {options.files} files of {options.size_kib:,} KiB, queue to done"
    reports({f"{direction}{title}": each for direction, each in results.items()}, as_json_text=options.json)


if __name__ == "__main__":
    main()
