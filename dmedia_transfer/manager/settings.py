"""Settings: what of the configuration the manager goes by."""

from __future__ import annotations

from dataclasses import dataclass, field

from dmedia_transfer.limiter import Timetable
from dmedia_transfer.reach import MeteredRule


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the configuration the manager goes by; rates in bytes per second, None for no limit."""

    max_transfers: int = 4
    max_transfers_per_store: int = 4
    connections: int = 4
    stall_s: float = 60.0
    pause_grace_s: float = 5.0
    expire_s: float = 7 * 24 * 3600.0  # after which what is unfinished and not wanted goes
    download_bps: float | None = None
    upload_bps: float | None = None
    timetable: Timetable = field(default_factory=Timetable)
    over_metered: MeteredRule = field(default_factory=MeteredRule)
    together_files: int = 1  # so many files of one leaf are given to a worker at once, and share a slot
    together_bytes: int = 64 * 1024**2  # of these at most
