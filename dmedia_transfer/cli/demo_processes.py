"""Programs that run for the demo: found, bound to its life, and ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from dmedia_transfer.errors import TransferError

STOP_S: Final = 10.0  # a program may take so long to end


class DemoFailed(TransferError):
    """The demo cannot go on; the message says why."""


def program(name: str, install: str) -> str:
    """A program of this virtual environment, else of the machine."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise DemoFailed(f"the program {name} is not installed; install {install}")
    return found


def ending_with_us() -> list[str]:
    """What a command line begins with, so that the kernel ends the program when the demo is killed.

    Not a `preexec_fn`: Python then runs hooks around the fork, and a Ctrl-C that comes within one of them is lost.
    """
    setpriv = shutil.which("setpriv")  # of util-linux
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def end(name: str, process: subprocess.Popen[bytes]) -> int:
    """End a process of ours; returns its exit code.

    Raises:
        DemoFailed: It had to be killed.
    """
    process.terminate()
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise DemoFailed(f"{name} did not end within {STOP_S:g} s, and was killed") from None


def end_orphans() -> int:
    """End what those left behind that we started; how many there were."""
    ended = 0
    deadline = time.monotonic() + STOP_S
    while children := _children():
        for pid in children:
            ended += 1
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        if time.monotonic() > deadline:
            break
    return ended


def _children() -> list[int]:
    """The processes whose parent we are."""
    me = os.getpid()
    text = Path(f"/proc/{me}/task/{me}/children").read_text()
    return [int(pid) for pid in text.split()]
