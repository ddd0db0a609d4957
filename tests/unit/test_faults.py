"""Fault points."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from dmedia_transfer import faults
from tests.waiting import eventually

PASSES = """
from dmedia_transfer import faults
for number in range(5):
    faults.point("here")
    faults.point("there")
    print(number, flush=True)
"""


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a program with two fault points, each passed five times."""
    return subprocess.run(
        [sys.executable, "-c", PASSES], env=environment, capture_output=True, text=True, check=False, timeout=30
    )


def test_a_point_does_nothing_unless_the_environment_names_one() -> None:
    assert run().stdout.split() == ["0", "1", "2", "3", "4"]
    assert faults.point is faults._nothing


def test_another_point_does_nothing() -> None:
    assert run(DMEDIA_FAULT="elsewhere").returncode == 0


def test_the_program_is_killed_at_the_point_that_is_named() -> None:
    done = run(DMEDIA_FAULT="there")
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


def test_the_program_is_killed_at_the_passage_that_is_named() -> None:
    done = run(DMEDIA_FAULT="here:3")
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["0", "1"])


def test_what_is_started_again_is_not_killed_again_once_the_mark_is_there(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    first = run(DMEDIA_FAULT="here", DMEDIA_FAULT_MARK=str(mark))
    assert (first.returncode, mark.exists()) == (-signal.SIGKILL, True)
    assert run(DMEDIA_FAULT="here", DMEDIA_FAULT_MARK=str(mark)).returncode == 0


def test_the_points_of_transfers_and_jobs_are_those_that_are_listed() -> None:
    package = Path(faults.__file__).parent
    passed = {
        name
        for room in ("download", "upload", "jobs")
        for source in (package / room).glob("*.py")
        for name in re.findall(r'faults\.point\("([^"]+)"\)', source.read_text(encoding="utf-8"))
    }
    assert passed == {
        *faults.DOWNLOAD_POINTS,
        *faults.UPLOAD_POINTS,
        *faults.IMPORT_POINTS,
        *faults.VERIFY_POINTS,
    }


def test_it_can_stand_still_there_until_it_is_told_to_go_on(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    environment = {"DMEDIA_FAULT": "here:3", "DMEDIA_FAULT_SIGNAL": "STOP", "DMEDIA_FAULT_MARK": str(mark)}
    with subprocess.Popen(
        [sys.executable, "-c", PASSES], env=environment, stdout=subprocess.PIPE, text=True
    ) as program:
        eventually(lambda: "T (stopped)" in Path(f"/proc/{program.pid}/status").read_text(encoding="utf-8"))
        assert mark.exists()
        program.send_signal(signal.SIGCONT)
        said, _ = program.communicate(timeout=30)
    assert (program.returncode, said.split()) == (0, ["0", "1", "2", "3", "4"])
