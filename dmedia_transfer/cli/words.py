"""Numbers and names as people read them. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import Final

from dmedia_transfer.advice import WAITS_FOR
from dmedia_transfer.errors import InvalidRequest, shown
from dmedia_transfer.model import PRIORITY_HIGH, PRIORITY_LOW, PRIORITY_NORMAL, PRIORITY_NOW, Progress
from dmedia_transfer.states import Reason, Status

SHORT_ID: Final = 12  # characters: enough to tell 2^30 files apart

PRIORITIES: Final = {"low": PRIORITY_LOW, "normal": PRIORITY_NORMAL, "high": PRIORITY_HIGH, "now": PRIORITY_NOW}
PRIORITY_MAX: Final = 1_000_000  # as in a machine document

_OBEYED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # controls, directions, line ends, nothing

_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s*([kmgt]?)(i?)b?", re.ASCII | re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def printable(text: str) -> str:
    """A text that came from elsewhere, on one line and without anything that a terminal would obey."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(each) in _OBEYED else each for each in text)


def short(identifier: str) -> str:
    """The first characters of an ID."""
    return identifier[:SHORT_ID]


def size(count: float) -> str:
    """Bytes: `256.0 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def rate(bytes_per_s: float) -> str:
    """Bytes per second, in the unit that limits are given in: `2.0 MB/s`."""
    for unit in ("B/s", "kB/s", "MB/s"):
        if bytes_per_s < 1000:
            return f"{bytes_per_s:.0f} {unit}" if unit == "B/s" else f"{bytes_per_s:.1f} {unit}"
        bytes_per_s /= 1000
    return f"{bytes_per_s:.1f} GB/s"


def duration(seconds: float) -> str:
    """A time to wait: `45 s`, `3:05`, `2:00:00`, `3 days`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 2 * 86400:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 86400} days"


def moment(unix_s: float) -> str:
    """A point in time, local."""
    try:
        return datetime.fromtimestamp(unix_s).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):  # whatever a document says
        return "?"


def percent(progress: Progress) -> int | None:
    """How much of it is done, rounded down so that only all of it is 100; None while the size is not known."""
    if not progress.bytes_total:
        return None
    return min(100, 100 * progress.bytes_done // progress.bytes_total)


def status(status: Status, reason: Reason | None, error: str = "") -> str:
    """What a transfer is doing, and why not."""
    if status is Status.SUSPENDED and reason is not None:
        text = f"waits for {WAITS_FOR[reason]}"
        return f"{text}: {printable(error)}" if error else text
    if status is Status.FAILED and error:
        return f"failed: {printable(error)}"
    return str(status)


def priority(number: int) -> str:
    """A priority by its name, where it has one."""
    return next((name for name, value in PRIORITIES.items() if value == number), str(number))


def parse_priority(text: str) -> int:
    """Read a priority: a name, or a number.

    Raises:
        InvalidRequest: It is neither.
    """
    known = PRIORITIES.get(text.strip().lower())
    if known is not None:
        return known
    if re.fullmatch(r"[+-]?\d{1,7}", text.strip(), re.ASCII) and abs(int(text)) <= PRIORITY_MAX:
        return int(text)
    raise InvalidRequest(
        f"{shown(text)} is not a priority: low, normal, high, now, or a number up to {PRIORITY_MAX:,} either way"
    )


def parse_size(text: str) -> int:
    """Read a number of bytes: `256MiB`, `1.5 GB`, `1000`.

    Raises:
        InvalidRequest: It is none, or less than one byte.
    """
    match = _SIZE.fullmatch(text.strip())
    if match and (match[2] or not match[3]):
        count = int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()])
        if count >= 1:
            return count
    raise InvalidRequest(f"{shown(text)} is not a size like 256MiB, 1.5GB or 1000")


def counted(number: int, one: str, many: str = "") -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
