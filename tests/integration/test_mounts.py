"""A drive that is plugged in is noticed at once, by what the kernel says of its mounts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dmedia_transfer.cli import sandbox

# In a namespace of its own, so that nobody else sees the mount.
CHILD = """
import ctypes, sys, time
from gi.repository import GLib
from dmedia_transfer.bus.mainloop import call_later
from dmedia_transfer.daemon.mounts import Mounts

libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x10000000 | 0x00020000) == 0
seen = []
loop = GLib.MainLoop()
mounts = Mounts(lambda: (seen.append(1), loop.quit()), call_later=call_later)
mounts.start()
call_later(0.5, loop.quit)
loop.run()
assert not seen, "told of nothing"
for _ in range(3):
    assert libc.mount(b"tmpfs", sys.argv[1].encode(), b"tmpfs", 0, None) == 0
call_later(60, loop.quit)
loop.run()
assert seen, "not told of a mount"
call_later(0.5, loop.quit)
loop.run()
assert seen == [1], "told of one burst several times"
mounts.stop()
assert libc.umount(sys.argv[1].encode()) == 0
call_later(0.5, loop.quit)
loop.run()
assert seen == [1], "told when nobody wanted to know"
"""


def test_a_mount_is_told_once_and_nothing_is_told_without_one(tmp_path: Path) -> None:
    if not sandbox.user_namespaces():
        pytest.xfail("nobody may mount here")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
