"""Advice: why something waits, and what a person can do about what is wrong, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from dmedia_transfer.states import Reason

WAITS_FOR: Final[Mapping[Reason, str]] = {
    Reason.OFFLINE: "a connection",
    Reason.METERED: "a connection that does not cost by the byte",
    Reason.BATTERY: "the mains",
    Reason.SCHEDULE: "its time of day",
    Reason.SHUTDOWN: "the daemon to start again",
    Reason.DISK_FULL: "room on the disk",
    Reason.STORE_MISSING: "its store to come back",
    Reason.NO_SOURCE: "a store that has the file",
    Reason.PREEMPTED: "one that is more urgent",
    Reason.BACKOFF: "the next attempt",
}

_BY_WORDS: Final = (
    (r"was not enabled on this machine", "If you trust the store, allow it: `dmedia-transfer stores enable STORE`."),
    (
        r"has changed since it was enabled",
        "Somebody edited the store's document. Look at what changed, then enable the store again.",
    ),
    (r"without TLS|not encrypted", "Use https, or name the host in the setting `allowed_http_hosts`."),
    (r"does not accept user", "Check the user and the password of the database in the configuration."),
    (
        r"cannot be reached|does not answer|no answer|refused",
        "Check the address and the network; it is tried again by itself.",
    ),
    (r"is the drive mounted", "Plug the drive in, or mount it; it goes on by itself."),
    (r"^document ", "Mend the document, or remove it; everything else goes on meanwhile."),
)

_BY_REASON: Final[Mapping[Reason, str]] = {
    Reason.OFFLINE: "It goes on by itself when there is a connection.",
    Reason.METERED: "It goes on by itself on another connection.",
    Reason.BATTERY: "It goes on by itself when the device is plugged in.",
    Reason.SCHEDULE: "The timetable allows no transfers now. Change it, or wait.",
    Reason.DISK_FULL: "Make room on the disk; it goes on by itself when there is some above the floor.",
    Reason.STORE_MISSING: "Plug the drive in, or enable the store; it goes on by itself.",
    Reason.NO_SOURCE: "Upload the file from a machine that has it, or enable a store that does.",
}

_BY_KIND: Final[Mapping[str, str]] = {
    "CorruptLeaf": "The copy is damaged. Mend or remove it there, or name another store, then retry.",
    "AccessDenied": "Check the credentials and what they allow, then retry.",
    "ObjectDiffers": "Something else is under this file's name in the store. Move it away, then retry.",
    "FileMissing": "No FileStore of this machine has the file. Import or download it, then retry.",
    "SourceChanged": "The file was changed while it was read. Import it again, then retry.",
    "SizeDisputed": "The file's document tells another size than the store. Mend the document, then retry.",
}


def what_to_do(message: str, *, kind: str = "", reason: Reason | None = None) -> str:
    """One sentence for a person; empty if nothing can be said that helps.

    Args:
        message: What is wrong, in the words of an error.
        kind: The error's kind, if it is known.
        reason: What a transfer waits for, if it waits.
    """
    for pattern, words in _BY_WORDS:
        if re.search(pattern, message):
            return words
    if reason is not None and reason in _BY_REASON:
        return _BY_REASON[reason]
    return _BY_KIND.get(kind, "")
