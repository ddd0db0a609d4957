"""The demo, as `make demo` runs it: it ends well, ends with its reason, or is ended, and nothing stays."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dmedia_transfer.cli import demo
from dmedia_transfer.cli.demo_processes import DemoFailed
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 100


@dataclass
class Stage:
    """Where the demo is shown: a temporary folder and a home of its own."""

    folder: Path
    home: Path

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dmedia_transfer.cli", "demo", *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "TMPDIR": str(self.folder),
                "HOME": str(self.home),
                "PYTHONUNBUFFERED": "1",
                # None of these may reach anything that the demo starts.
                "AWS_PROFILE": "not-there",
                "DMEDIA_COUCHDB": "http://127.0.0.1:9",
                "HTTP_PROXY": "http://127.0.0.1:9",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def show(self, *arguments: str, code: int = 0, **environment: str) -> list[str]:
        """Show it to the end; returns its lines."""
        program = self.start(*arguments, **environment)
        out, _ = program.communicate(timeout=TIMEOUT_S)
        assert program.returncode == code, out
        return out.splitlines()

    def processes(self) -> list[str]:
        """What runs that has to do with this stage: everything that the demo starts has its home there."""
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    if os.fsencode(self.folder) in (process / "environ").read_bytes():
                        found.append((process / "cmdline").read_text().replace("\0", " "))
                except OSError:  # it has ended, or is not ours
                    continue
        return found

    def check_empty(self) -> None:
        """Nothing is left, running or lying about."""
        assert self.processes() == []
        assert list(self.folder.iterdir()) == []
        assert list(self.home.iterdir()) == []


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    # A socket's path is at most 108 bytes long, and a test's own folder may have used them up.
    root = tmp_path_factory.mktemp("demo")
    folder, home = root / "tmp", root / "home"
    folder.mkdir()
    home.mkdir()
    yield Stage(folder, home)
    shutil.rmtree(root)


def test_the_demo_ends_well_and_leaves_nothing(stage: Stage) -> None:
    lines = stage.show("--size", "40MiB")
    assert lines[-1].startswith("demo: OK: 40.0 MiB up at ")
    assert any(".localhost:" in line and "in a browser" in line for line in lines)
    # What is in between may pass more quickly than it can be shown.
    assert [line for line in lines if line.endswith(" film.mkv: done")] == [
        "upload film.mkv: done",
        "download film.mkv: done",
    ]
    sums = {line.split()[1] for line in lines if line.startswith("  sha256 ")}
    assert len(sums) == 1
    stage.check_empty()


def test_the_demo_takes_a_file_and_leaves_it_as_it_is(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "my film.mkv"
    path.write_bytes(os.urandom(9 * 1024 * 1024 + 1))
    before, digest = path.stat(), hashlib.sha256(path.read_bytes()).hexdigest()
    lines = stage.show("--file", str(path), "--keep")
    assert lines[-1].startswith("demo: OK: 9.0 MiB")
    assert f"  sha256 {digest}  {path}" in lines
    assert (path.stat().st_mtime_ns, path.stat().st_nlink) == (before.st_mtime_ns, 1)
    kept = Path(next(line for line in lines if line.startswith("kept: ")).removeprefix("kept: "))
    copies = [each for each in (kept / "filestore" / "files").rglob("*") if each.is_file()]
    assert [hashlib.sha256(each.read_bytes()).hexdigest() for each in copies] == [digest]
    assert stage.processes() == []


@pytest.mark.parametrize(
    ("at", "number"),
    [("A private", signal.SIGINT), ("Import", signal.SIGINT), ("Upload", signal.SIGINT), ("Download", signal.SIGTERM)],
)
def test_an_interrupted_demo_leaves_nothing(stage: Stage, at: str, number: signal.Signals) -> None:
    program = stage.start("--size", "40MiB")
    assert program.stdout is not None
    assert any(line.startswith(at) for line in iter(program.stdout.readline, "")), "it ended before"
    os.killpg(program.pid, number)  # as a terminal does
    out, _ = program.communicate(timeout=TIMEOUT_S)
    assert program.returncode == 130
    assert out.strip().splitlines()[-1] == "demo: interrupted; nothing of it is left running"
    assert "Traceback" not in out
    stage.check_empty()


def test_a_killed_demo_leaves_nothing_running(stage: Stage) -> None:
    program = stage.start("--size", "40MiB")
    assert program.stdout is not None
    assert any(line.startswith("Upload") for line in iter(program.stdout.readline, ""))
    program.kill()
    program.communicate(timeout=TIMEOUT_S)
    eventually(lambda: not stage.processes())


def test_a_missing_program_is_named(stage: Stage) -> None:
    lines = stage.show(code=1, PATH=str(stage.home))
    assert lines[-1] == "demo: FAILED: the program dbus-daemon is not installed; install the package dbus"
    stage.check_empty()


def test_a_folder_whose_path_is_too_long_is_named(stage: Stage) -> None:
    long = stage.folder / ("x" * 100)
    long.mkdir()
    assert "is too long for a socket; set TMPDIR" in stage.show("--size", "1", code=1, TMPDIR=str(long))[-1]


def test_a_disk_without_room_is_named(stage: Stage) -> None:
    lines = stage.show("--size", "900TB", code=1)
    assert lines[-1].startswith(f"demo: FAILED: {stage.folder}")
    assert "are needed" in lines[-1]
    stage.check_empty()


def test_an_empty_file_is_named(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert "empty files are not transferred" in stage.show("--file", str(tmp_path / "empty"), code=1)[-1]


def test_bytes_that_differ_are_noticed(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"film")
    other.write_bytes(b"filn")
    with pytest.raises(DemoFailed, match="differs from"):
        demo._compare(one, other)
    other.write_bytes(b"film")
    assert demo._compare(one, other) == hashlib.sha256(b"film").hexdigest()
