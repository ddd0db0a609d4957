"""The programs that move files to and from S3 and are measured beside ours, each as its users run it.

`make bench` installs them into environments of their own, which are found beside the one that runs this. One that is
not there is left out, and named.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.stage import BUCKET, CREDENTIALS

PEERS: Final = Path(os.environ.get("DMEDIA_BENCH_PEERS", Path(sys.prefix, "peers")))
CRT: Final = Path(os.environ.get("DMEDIA_BENCH_CRT", Path(sys.prefix, "crt")))
PROGRAMS: Final = Path(__file__).parent / "programs"
STREAMS: Final = 8  # of rclone for one file, and of files at once for all
POOL: Final = 10  # files that boto3 moves at once: its own default for connections

# Certificates and proxies of the machine are nobody's business on loopback, and slow some programs' start.
_NOT_INHERITED: Final = re.compile(r"AWS_.*|.*_PROXY|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rival:
    """A program, and how it is called."""

    name: str
    program: Path  # what has to be there
    command: Callable[[str, str, Path, Sequence[str]], list[str]]  # URL, "up" or "down", folder, keys; one key: a file
    version: Callable[[], str]


def environment() -> dict[str, str]:
    """What rivals inherit: credentials for the endpoint, and nothing that this machine sets for other purposes."""
    kept = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.fullmatch(name)}
    return {
        **kept,
        **CREDENTIALS,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _script(python: Path, name: str, at_once: int) -> Callable[[str, str, Path, Sequence[str]], list[str]]:
    def command(url: str, direction: str, folder: Path, keys: Sequence[str]) -> list[str]:
        script = str(PROGRAMS / f"{name}.py")
        return [str(python), script, url, BUCKET, direction, str(folder), str(at_once), *keys]

    return command


def _s5cmd(url: str, direction: str, folder: Path, keys: Sequence[str]) -> list[str]:
    call = [str(PEERS / "bin/s5cmd"), "--log", "error", "--endpoint-url", url, "cp"]
    here, there = (f"{folder}/", f"s3://{BUCKET}/")
    if len(keys) == 1:
        here, there = here + keys[0], there + keys[0]
        return [*call, here, there] if direction == "up" else [*call, there, here]
    return [*call, f"{here}*", there] if direction == "up" else [*call, f"{there}*", here]


def _rclone(url: str, direction: str, folder: Path, keys: Sequence[str]) -> list[str]:
    call = [str(PEERS / "bin/rclone"), "copyto" if len(keys) == 1 else "copy", "--config", os.devnull]
    call += ["--s3-provider", "Other", "--s3-endpoint", url, "--s3-env-auth", "--s3-no-check-bucket"]
    # The endpoint's ETags are no MD5, unless it is told to make some: rclone would take that for damage.
    call += ["--s3-use-multipart-etag=false", "--s3-upload-concurrency", str(STREAMS)]
    call += ["--multi-thread-streams", str(STREAMS), "--transfers", str(STREAMS)]
    name = f"/{keys[0]}" if len(keys) == 1 else ""
    here, there = f"{folder}{name}", f":s3:{BUCKET}{name}"
    return [*call, here, there] if direction == "up" else [*call, there, here]


def _aws(url: str, direction: str, folder: Path, keys: Sequence[str]) -> list[str]:
    call = [str(PEERS / "bin/aws"), "--endpoint-url", url, "s3", "cp", "--only-show-errors"]
    name = f"/{keys[0]}" if len(keys) == 1 else ""
    call += [] if name else ["--recursive"]
    here, there = f"{folder}{name}", f"s3://{BUCKET}{name}"
    return [*call, here, there] if direction == "up" else [*call, there, here]


def _says(*command: str | Path) -> Callable[[], str]:
    """The first version number in what a program says of itself."""

    def version() -> str:
        done = subprocess.run([*command], capture_output=True, text=True, check=False, env=environment())
        found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
        return found[0] if found else "?"

    return version


def _library(python: Path, name: str) -> Callable[[], str]:
    return _says(python, "-c", f"import importlib.metadata as m; print(m.version({name!r}))")


_PYTHON: Final = Path(sys.executable)
BOTO3: Final = Rival("boto3", _PYTHON, _script(_PYTHON, "boto3_files", POOL), _library(_PYTHON, "boto3"))
RIVALS: Final = (
    BOTO3,
    Rival("s5cmd", PEERS / "bin/s5cmd", _s5cmd, _says(PEERS / "bin/s5cmd", "version")),
    Rival(f"rclone, {STREAMS} streams", PEERS / "bin/rclone", _rclone, _says(PEERS / "bin/rclone", "version")),
    Rival("aws-cli v1", PEERS / "bin/aws", _aws, _says(PEERS / "bin/aws", "--version")),
    Rival(
        "AWS CRT",
        CRT / "bin/python",
        _script(CRT / "bin/python", "crt_files", POOL),
        _library(CRT / "bin/python", "awscrt"),
    ),
    Rival(
        "obstore",
        PEERS / "bin/python",
        _script(PEERS / "bin/python", "obstore_files", POOL),
        _library(PEERS / "bin/python", "obstore"),
    ),
)


def present() -> list[Rival]:
    """Those that are installed; the others are named on stderr."""
    for rival in RIVALS:
        if not rival.program.exists():
            print(f"{rival.name} is not installed (`make bench` does it): left out", file=sys.stderr)
    return [rival for rival in RIVALS if rival.program.exists()]


class WarmBoto3:
    """boto3 in a process that is there already, with its client made and its connections kept, as our daemon is."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "boto3_files.py"), url, BUCKET, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self._hear("ready")

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def move(self, direction: str, folder: Path, keys: Sequence[str], *, at_once: int) -> None:
        """Move files, and return when they have arrived."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([direction, str(folder), str(at_once), *keys]) + "\n")
        self._process.stdin.flush()
        self._hear("done")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _hear(self, word: str) -> None:
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        if said != word:
            raise RuntimeError(f"boto3 did not say {word}: {said!r}, exit code {self._process.poll()}")
