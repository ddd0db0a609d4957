"""One large file up and down through the daemon, verified, beside boto3's own upload_file and download_file.

Both are warm processes that speak to the same lean endpoint, and take turns. Of the daemon all processes count: itself
and its workers, not the database.

    python -m benchmarks.s3 [--size-mib 1024] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import lean_s3
from benchmarks.common import MIB, Usage, measuring, report
from benchmarks.stage import BUCKET, stage
from tests.factories import content

_PEER = """
import sys, boto3
url, bucket, path = sys.argv[1:4]
client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
print("ready", flush=True)
for line in sys.stdin:
    word, key = line.split()
    if word == "up":
        client.upload_file(path, bucket, key)
    else:
        client.download_file(bucket, key, path + ".down")
    print("done", flush=True)
"""


class Peer:
    """A process that uses boto3 as its documentation says, with its defaults."""

    def __init__(self, url: str, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PEER, url, BUCKET, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hear("ready")

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def do(self, word: str, key: str) -> None:
        """Move the file, and return when it has arrived."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word} {key}\n")
        self._process.stdin.flush()
        self._hear("done")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _hear(self, word: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == word


@contextlib.contextmanager
def peer(url: str, path: Path) -> Iterator[Peer]:
    """boto3 in a process of its own."""
    one = Peer(url, path)
    try:
        yield one
    finally:
        one.close()


def run(size: int, rounds: int) -> dict[str, list[Usage]]:
    """All rounds; the first one warms up and is not counted."""
    results: dict[str, list[Usage]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dmedia-objects-")))
        server = stack.enter_context(lean_s3.running(folder / "objects"))
        on = stack.enter_context(stage(server.url))
        data = b"".join(content(MIB, seed=number) for number in range(size // MIB))
        file_id = on.device.add_file(data, on.home)
        path = on.device.path_of(file_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        source = folder / "source"
        source.write_bytes(data)
        boto3 = stack.enter_context(peer(server.url, source))

        def one(name: str, pids: Callable[[], list[int]], work: Callable[[], None], *, counts: bool) -> None:
            with measuring(pids, payload_bytes=size) as usages:
                work()
            if counts:
                results.setdefault(name, []).extend(usages)

        for number in range(rounds + 1):
            counts = number > 0
            on.forget(file_id)
            one("dmedia upload", on.pids, lambda: on.move("upload", file_id), counts=counts)
            one("boto3 upload_file", lambda: [boto3.pid], lambda: boto3.do("up", "peer"), counts=counts)
            path.unlink()
            one("dmedia download", on.pids, lambda: on.move("download", file_id), counts=counts)
            one("boto3 download_file", lambda: [boto3.pid], lambda: boto3.do("down", "peer"), counts=counts)
            assert path.stat().st_size == size
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    title = f"one file of {options.size_mib} MiB, lean endpoint"
    report(title, run(options.size_mib * MIB, options.rounds), as_json_text=options.json)


if __name__ == "__main__":
    main()
