"""What a run was made on, and with which versions: enough to judge the figures, nothing that names the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import rivals

PROGRAMS = {"nginx": ["/usr/sbin/nginx", "-v"], "curl": ["curl", "-V"], "aria2": ["aria2c", "-v"]}


def facts() -> dict[str, Any]:
    """Cores, processor, memory, system, the load at this moment, and the versions of all that is measured."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _found(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text()) or platform.machine(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "load": round(os.getloadavg()[0], 1),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """By name; what is not installed is not in it."""
    told = {"dmedia-transfer": importlib.metadata.version("dmedia-transfer"), "Python": platform.python_version()}
    told |= {rival.name.partition(",")[0]: rival.version() for rival in rivals.present()}
    for name, command in PROGRAMS.items():
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            continue
        if version := _found(r"(\d+(?:\.\d+)+)", done.stdout + done.stderr):
            told[name] = version
    return told


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else ""
