"""What crosses the pipes between pool, forker and workers besides the commands and reports of `model`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_MESSAGE: Final = 4096  # bytes of what the pool and the forker tell each other


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is told when it starts: the first message."""

    journal_path: Path
    log_level: str  # as the daemon's
    report_interval_s: float = 0.1  # progress is reported at most so often


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker reads commands from now on: its first message."""

    pid: int


@dataclass(frozen=True, slots=True)
class Leave:
    """End once there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Bear:
    """To the forker: fork a worker, whose end of its pipe comes along."""

    number: int  # by which it is known
    plugins: tuple[str, ...]  # the backends that it is going to use first


@dataclass(frozen=True, slots=True)
class Kill:
    """To the forker: end a worker now."""

    number: int


@dataclass(frozen=True, slots=True)
class Died:
    """Of the forker: a worker has ended."""

    number: int
    code: int | None  # its exit status, or minus the signal that killed it; None: nobody knows
    why: str = ""  # if it was never there
