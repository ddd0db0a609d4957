"""Sandbox: whether systemd can shut a service of this user into a user namespace.

The drop-in 50-namespaces.conf needs that, and where it cannot be had the service would not start. As a program
(`python -m dmedia_transfer.cli.sandbox`) it answers whoever installs, with its exit code.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from typing import Final

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000  # linux/sched.h
_PR_CAPBSET_DROP: Final = 24  # linux/prctl.h
_TIMEOUT_S: Final = 20


def user_namespaces() -> bool:
    """Whether this user may make a user namespace, and may do in it what the drop-in wants."""
    command = [sys.executable, "-P", "-m", __name__]
    return subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False).returncode == 0


def main() -> int:
    """Do what systemd does, to this process; 0 if all of it is allowed.

    Ubuntu lets everybody make the namespace, and then nobody do anything in it.
    """
    libc = ctypes.CDLL(None)
    steps: tuple[Callable[[], int], ...] = (
        lambda: libc.unshare(_CLONE_NEWUSER),
        lambda: libc.unshare(_CLONE_NEWNS),
        lambda: libc.prctl(_PR_CAPBSET_DROP, 0, 0, 0, 0),
    )
    return 0 if all(step() == 0 for step in steps) else 1


if __name__ == "__main__":
    sys.exit(main())
