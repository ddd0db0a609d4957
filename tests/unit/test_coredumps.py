"""A process that has secrets in its memory leaves no core dump."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

CRASH = """
import os, sys
if sys.argv[1] == "forbid":
    from dmedia_transfer import coredumps
    coredumps.forbid()
os.abort()
"""


def crashed(how: str, folder: Path) -> bool:
    """Whether a process that has crashed was dumped, as the kernel says."""

    def allow() -> None:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    pid = subprocess.Popen(
        [sys.executable, "-c", CRASH, how],
        cwd=folder,
        preexec_fn=allow,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.DEVNULL,
    ).pid
    return os.WCOREDUMP(os.waitpid(pid, 0)[1])


def test_a_crash_leaves_nothing(tmp_path: Path) -> None:
    assert not crashed("forbid", tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_started_later_leaves_nothing_either() -> None:
    code = (
        "import os; from dmedia_transfer import coredumps; coredumps.forbid(); os.execlp('sh', 'sh', '-c', 'ulimit -c')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    assert told.stdout.strip() == "0" or limits[1] == 0  # in blocks, rounded down
    assert limits != (1, 1), "of this process nothing has changed"
