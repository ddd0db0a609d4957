"""What crosses the pipe between pool and worker besides the commands and reports of `model`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is told when it starts: the first message."""

    journal_path: Path
    log_level: str  # as the daemon's
    report_interval_s: float = 0.1  # progress is reported at most so often


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker reads commands from now on: its first message."""


@dataclass(frozen=True, slots=True)
class Leave:
    """End once there is nothing to do."""
