"""What a check of `doctor` finds: a part, how it is, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device


class Verdict(StrEnum):
    """How a part is."""

    GOOD = "good"
    NOTE = "note"  # works, and somebody may want to know
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    part: str
    verdict: Verdict
    sentence: str
    remedy: str = ""  # what to do


Check = Callable[["Device"], Iterator[Finding]]
