"""Files from another machine over loopback with TLS, each leaf verified, beside programs that verify nothing.

The peer is the server that the daemon runs, and the downloads are jobs in the daemon's own worker processes; curl,
rclone and aria2 get the same file from nginx, also with TLS 1.3. All take turns. Of ours the CPU time of the workers
counts, and that of the server apart; of the others that of the program, and that of nginx apart.

    python -m benchmarks.peer [--quick] [--size-mib 1024] [--files 200] [--rounds 5] [--json]

Files are on the disk of temporary files. `nginx` and `curl` have to be installed; rclone comes from the extra `demo`,
and aria2 is there if it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks import nginx
from benchmarks.common import MIB, RunFailed, Usage, as_json, as_table, measure, measuring, tree
from benchmarks.stage import payload_folder
from benchmarks.turns import Turn, speed_ratio, take_turns
from dmedia_transfer.config import Config
from dmedia_transfer.filestore import FileStore
from dmedia_transfer.journal import Journal
from dmedia_transfer.model import Direction, Download, Ended, FileSpec, Outcome, Report, StoreSpec, TransferKey
from dmedia_transfer.workers.pool import WorkerPool
from tests.factories import OTHER_STORE_ID, STORE_ID, content
from tests.peers import Machine, make_machine
from tests.peerserver import Host

OURS: Final = "dmedia from a peer, verified"
HOME_ID: Final = "H" * 24
CONNECTIONS: Final = 4
TRANSFERS: Final = 4
NOWHERE: Final = ("http://u:p@127.0.0.1:9", "none")  # downloads need no database
LIMIT_BPS: Final = 40e6  # of each of two limited sources


class Phone:
    """The machine that downloads: a FileStore, a journal elsewhere, and the daemon's workers."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.machine = make_machine(folder / "phone")
        self._reports: queue.Queue[Report] = queue.Queue()
        self._home = FileStore(FileStore.create(folder / "home", HOME_ID).store_id, folder / "home", floor_bytes=0)
        self._journal = Journal(state / "state" / "journal.sqlite", owner=True)
        self._pool = WorkerPool(
            config=Config(state_dir=state / "state", runtime_dir=state, log_level="WARNING"),
            on_report=self._reports.put,
            call_soon=lambda call, *arguments: call(*arguments),
        )
        self._runs = 0

    @property
    def pids(self) -> list[int]:
        """The processes of the workers, and the one that makes them."""
        return [*self._pool.pids, *filter(None, [self._pool.forker])]

    def get(self, files: Sequence[FileSpec], *sources: StoreSpec) -> None:
        """Download them, as many at once as the daemon would.

        Raises:
            RunFailed: One did not arrive.
        """
        waiting = list(files)
        under_way = 0
        while waiting or under_way:
            while waiting and under_way < TRANSFERS:
                file = waiting.pop()
                self._runs += 1
                key = TransferKey(Direction.DOWNLOAD, file.file_id, "")
                self._pool.run(self._runs, Download(key, file, self._home.spec, sources, CONNECTIONS, 60.0))
                under_way += 1
            report = self._reports.get(timeout=600)
            if isinstance(report, Ended):
                under_way -= 1
                if report.outcome is not Outcome.FINISHED:
                    raise RunFailed(f"a download ended so: {report}")

    def forget(self, files: Sequence[FileSpec]) -> None:
        """Remove what arrived."""
        for file in files:
            self._home.remove(file.file_id)

    def close(self) -> None:
        """End all."""
        self._pool.shutdown(1.0)
        self._journal.close()


@dataclass(frozen=True)
class Scene:
    """All that takes part."""

    folder: Path
    phone: Phone
    host: Host
    files: Sequence[FileSpec]
    url: str  # of nginx, where the files are by their IDs
    nginx_pid: int

    def servers(self) -> list[int]:
        """The processes that send: our server, and those of nginx."""
        assert self.host.server is not None
        assert self.host.server.pid is not None
        return [self.host.server.pid, *tree(self.nginx_pid)]


@contextlib.contextmanager
def hosting(folder: Path, machine: Machine, store_id: str = STORE_ID) -> Iterator[Host]:
    """A machine that serves."""
    host = Host(folder, NOWHERE, store_id=store_id)
    try:
        host.setup = host.setup.model_copy(update={"log_level": "WARNING"})
        host.see(machine.document())
        host.start()
        yield host
    finally:
        host.close()


@contextlib.contextmanager
def scene(sizes: Sequence[int]) -> Iterator[Scene]:
    """Build it for files of these sizes."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(payload_folder(4 * sum(sizes)))
        phone = Phone(folder, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dmedia-peers-"))))
        stack.callback(phone.close)
        host = stack.enter_context(hosting(folder / "host", phone.machine))
        (folder / "www").mkdir()
        folder.chmod(0o755)  # nginx may serve as somebody else
        files = []
        for number, size in enumerate(sizes):
            pieces = [content(min(MIB, size - start), seed=number * 10_000 + start) for start in range(0, size, MIB)]
            file = host.publish(b"".join(pieces))
            shutil.copyfile(host.store.path(file.file_id), folder / "www" / file.file_id)
            files.append(file)
        yield Scene(folder, phone, host, files, *stack.enter_context(nginx.running(folder / "nginx", folder / "www")))


def programs(on: Scene) -> dict[str, list[str]]:
    """What others do with the same files."""
    out = on.folder / "out"
    found = {}
    curl = ["curl", "--silent", "--show-error", "--fail", "--insecure", "--noproxy", "*"]
    if len(on.files) == 1:
        found["curl from nginx"] = [*curl, "--output", str(out / "curl"), f"{on.url}/{on.files[0].file_id}"]
    else:
        at_once = ["--parallel", "--parallel-max", str(TRANSFERS)]
        urls = [word for file in on.files for word in ("-o", str(out / file.file_id), f"{on.url}/{file.file_id}")]
        found["curl from nginx"] = [*curl, *at_once, *urls]
    rclone = shutil.which("rclone") or str(Path(sys.executable).with_name("rclone"))
    if Path(rclone).exists():
        listing = on.folder / "listing"
        listing.write_text("".join(f"{file.file_id}\n" for file in on.files))
        found["rclone from nginx"] = [
            rclone, "copy", "--config", "/dev/null", "--no-check-certificate", "--http-url", on.url,
            "--files-from-raw", str(listing), "--no-traverse", "--transfers", str(TRANSFERS),
            "--multi-thread-streams", str(CONNECTIONS), ":http:", str(out),
        ]  # fmt: skip
    if shutil.which("aria2c"):
        listing = on.folder / "urls"
        listing.write_text("".join(f"{on.url}/{file.file_id}\n" for file in on.files))
        found["aria2 from nginx"] = [
            "aria2c", "--no-conf", "--quiet", "--check-certificate=false", "--file-allocation", "none",
            "--input-file", str(listing), "--dir", str(out), "--max-concurrent-downloads", str(TRANSFERS),
            "--split", str(CONNECTIONS), "--max-connection-per-server", str(CONNECTIONS),
        ]  # fmt: skip
    return found


def run(sizes: Sequence[int], rounds: int) -> dict[str, list[Usage]]:
    """All rounds."""
    total = sum(sizes)
    with scene(sizes) as on:
        spec, out = on.host.spec(on.phone.machine), on.folder / "out"

        def ours() -> Usage:
            with measuring(lambda: on.phone.pids, payload_bytes=total) as usages:
                on.phone.get(on.files, spec)
            on.phone.forget(on.files)
            return usages[0]

        def turn_of(name: str, command: list[str]) -> Turn:
            def turn() -> Usage:
                out.mkdir()
                # AWS_CA_BUNDLE and the like are nobody's business here.
                usage = measure(command, environment={"SSL_CERT_FILE": os.devnull} if "rclone" in name else None)
                arrived = sum(path.stat().st_size for path in out.iterdir())
                shutil.rmtree(out)
                if arrived != total:
                    raise RunFailed(f"{name}: {arrived} of {total} bytes arrived")
                return replace(usage, payload_bytes=total)

            return turn

        turns = {OURS: ours} | {name: turn_of(name, command) for name, command in programs(on).items()}
        return take_turns(turns, rounds=rounds, servers=on.servers)


def run_limited(size: int, rounds: int) -> dict[str, list[Usage]]:
    """One file from two machines, each of which sends at most so fast."""
    results: dict[str, list[Usage]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dmedia-peers-")))
        phone = Phone(folder, folder)
        stack.callback(phone.close)
        hosts = [
            stack.enter_context(hosting(folder / name, phone.machine, store_id))
            for name, store_id in (("tv", STORE_ID), ("nas", OTHER_STORE_ID))
        ]
        data = b"".join(content(MIB, seed=start) for start in range(size // MIB))
        for host in hosts:
            file = host.publish(data)
            assert host.server is not None
            host.server.limit(send_bps=LIMIT_BPS, receive_bps=None)
        specs = [host.spec(phone.machine) for host in hosts]

        def pids() -> list[int]:
            return [*phone.pids, *(host.server.pid for host in hosts if host.server and host.server.pid)]

        for number in range(rounds + 1):
            for name, sources in (("one limited source", specs[:1]), ("two limited sources", specs)):
                with measuring(pids, payload_bytes=size) as usages:
                    phone.get([file], *sources)
                phone.forget([file])
                if number:
                    results.setdefault(name, []).extend(usages)
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=200, help="how many files of 1 MiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("one", "many", "limited"))
    parser.add_argument("--quick", action="store_true", help="128 MiB, 50 files, 2 rounds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.size_mib, options.files, options.rounds = 128, 50, 2
    parts: dict[str, tuple[str, Callable[[], dict[str, list[Usage]]]]] = {
        "one": (
            f"one file of {options.size_mib} MiB, TLS on loopback",
            lambda: run([options.size_mib * MIB], options.rounds),
        ),
        "many": (f"{options.files} files of 1 MiB", lambda: run([MIB] * options.files, options.rounds)),
        "limited": (
            f"one file from machines that send {LIMIT_BPS / 1e6:.0f} MB/s each",
            lambda: run_limited(min(options.size_mib, 256) * MIB, min(options.rounds, 3)),
        ),
    }
    told = []
    for name, (title, measured) in parts.items():
        if options.only not in {None, name}:
            continue
        results = measured()
        if options.json:
            told.append(as_json(title, results))
            continue
        from rich.console import Console

        Console(file=sys.stdout).print(as_table(title, results))
        if name != "limited":
            ratio = speed_ratio(results[OURS], results["curl from nginx"])
            print(f"dmedia has {ratio:.0%} of curl's speed")
    if options.json:
        print(f"[{','.join(told)}]")


if __name__ == "__main__":
    main()
