"""One large file up and down through the daemon, verified, beside the programs that people use for it.

All speak to the same endpoint and take turns. Ours is measured from the request over D-Bus until the signal that says
that it is done; daemon and workers are running, as they always are. boto3 is measured in a process that is warm, too,
and once more as a program that is started for the file, like all the others. Of the daemon all processes count, its own
and its workers', not the database.

    python -m benchmarks.s3 [--size-mib 1024] [--rounds 5] [--server lean|md5|rclone] [--only NAME] [--json]

`lean` is an endpoint of our own that costs next to nothing, `md5` the same with real ETags, `rclone` is `rclone serve
s3`, which checks signatures. Files are on the disk of temporary files, at both ends, and we alone wait until it has
them; `DMEDIA_BENCH_DIR` names another folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import lean_s3, rivals
from benchmarks.common import MIB, RunFailed, Usage, measure, measuring, reports
from benchmarks.rivals import Rival, WarmBoto3
from benchmarks.stage import CREDENTIALS, Stage, payload_folder, stage
from benchmarks.turns import Turn, take_turns
from tests.s3 import running_rclone

OURS = "dmedia, verified"
WARM = "boto3, warm process"
KEY = "film"


@dataclass(frozen=True)
class Scene:
    """Endpoint, daemon and file."""

    on: Stage
    folder: Path  # of the others' files
    server_pid: int
    file_id: str
    size: int


@contextlib.contextmanager
def endpoint(kind: str, folder: Path) -> Iterator[tuple[str, int]]:
    """An S3 server; its URL and its process."""
    if kind == "rclone":
        with running_rclone(folder, access_key=CREDENTIALS["AWS_ACCESS_KEY_ID"]) as server:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            names = {int(pid): Path(f"/proc/{pid}/comm").read_text().strip() for pid in children}
            yield server.url, next(pid for pid, name in names.items() if name == "rclone")
    else:
        with lean_s3.running(folder, md5=kind == "md5") as lean:
            yield lean.url, lean.pid


@contextlib.contextmanager
def scene(size: int, kind: str) -> Iterator[Scene]:
    """Build it; the file is in the FileStore, and beside it for the others."""
    with contextlib.ExitStack() as stack:
        payload = stack.enter_context(payload_folder(4 * size))
        url, server_pid = stack.enter_context(endpoint(kind, payload / "server"))
        on = stack.enter_context(stage(url, payload=payload))
        file_id = on.plant(size)
        folder = payload / "others"
        folder.mkdir()
        os.link(on.device.path_of(file_id), folder / KEY)
        yield Scene(on, folder, server_pid, file_id, size)


def ours(at: Scene, direction: str) -> Turn:
    """The daemon's turn."""
    on, path = at.on, at.on.device.path_of(at.file_id)

    def turn() -> Usage:
        if direction == "up":
            on.forget(at.file_id)
        else:
            path.unlink(missing_ok=True)
        with measuring(on.pids, payload_bytes=at.size) as usages:
            on.move("upload" if direction == "up" else "download", at.file_id)
        there = on.size_of(at.file_id) if direction == "up" else path.stat().st_size
        _must_be(at.size, there, OURS)
        return usages[0]

    return turn


def theirs(at: Scene, direction: str, name: str, work: Callable[[], Usage]) -> Turn:
    """A rival's turn, with what has to be before and after."""
    source, target = at.folder / KEY, at.folder / "down" / KEY

    def turn() -> Usage:
        if direction == "up":
            at.on.forget(KEY)
        else:
            target.parent.mkdir(exist_ok=True)
        usage = work()
        there = at.on.size_of(KEY) if direction == "up" else target.stat().st_size
        _must_be(source.stat().st_size, there, name)
        if direction == "down":
            target.unlink()
        return replace(usage, payload_bytes=at.size)

    return turn


def _must_be(wanted: int, found: int, name: str) -> None:
    if wanted != found:
        raise RunFailed(f"{name}: {found} of {wanted} bytes arrived")


def contestants(at: Scene, direction: str, warm: WarmBoto3, others: Sequence[Rival]) -> dict[str, Turn]:
    """Everybody's turn."""
    folder = at.folder if direction == "up" else at.folder / "down"
    environment = rivals.environment()

    def with_warm_boto3() -> Usage:
        with measuring(lambda: [warm.pid]) as usages:
            warm.move(direction, folder, [KEY], at_once=1)
        return usages[0]

    def with_program(rival: Rival) -> Callable[[], Usage]:
        command = rival.command(at.on.endpoint_url, direction, folder, [KEY])
        return lambda: measure(command, environment=environment, inherit=False)

    turns = {OURS: ours(at, direction), WARM: theirs(at, direction, WARM, with_warm_boto3)}
    return turns | {rival.name: theirs(at, direction, rival.name, with_program(rival)) for rival in others}


def run(size: int, rounds: int, kind: str = "lean", only: Sequence[str] = ()) -> dict[str, dict[str, list[Usage]]]:
    """All rounds, first upwards and then downwards."""
    others = [rival for rival in rivals.present() if not only or rival.name in only]
    with scene(size, kind) as at, contextlib.closing(WarmBoto3(at.on.endpoint_url)) as warm:
        up = take_turns(contestants(at, "up", warm, others), rounds=rounds, servers=lambda: [at.server_pid])
        down = take_turns(contestants(at, "down", warm, others), rounds=rounds, servers=lambda: [at.server_pid])
    return {"upload": up, "download": down}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--server", choices=("lean", "md5", "rclone"), default="lean")
    parser.add_argument("--only", action="append", default=[], help="beside these alone; may be given again")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = run(options.size_mib * MIB, options.rounds, options.server, options.only)
    names = {"lean": "lean endpoint", "md5": "lean endpoint with real ETags", "rclone": "rclone serve s3"}
    reports(
        {
            f"{word} of one file of {options.size_mib} MiB, {names[options.server]}": each
            for word, each in results.items()
        },
        as_json_text=options.json,
    )


if __name__ == "__main__":
    main()
