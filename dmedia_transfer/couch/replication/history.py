"""Replication logs: up to where two databases are known to be equal. Pure.

A log is kept under the same ID on both sides, in a `_local/` document of the form that CouchDB and PouchDB keep
(https://docs.couchdb.org/en/stable/replication/protocol.html, section "Compare Replication Logs"). What only one side
knows is not believed: it was deleted, recreated or restored from a backup since.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dmedia_transfer.couch.changes import FROM_START, seq_number

HISTORY_MAX: Final = 50  # sessions that are remembered, as in CouchDB

Log = dict[str, Any]


@dataclass(slots=True)
class Counts:
    """What one session has done."""

    missing_checked: int = 0  # revisions that were asked about
    missing_found: int = 0
    docs_read: int = 0
    docs_written: int = 0
    doc_write_failures: int = 0


class Session:
    """One session's line at the head of a log."""

    def __init__(self, session_id: str, *, since: str, before: Log | None) -> None:
        """Begin a session.

        Args:
            session_id: Its name, that no other session has.
            since: Where it begins.
            before: The log as it was.
        """
        self.id = session_id
        self.counts = Counts()
        self._since = since
        self._began = time.time()
        self._before = [line for line in _lines(before) if line["session_id"] != session_id]

    def log(self, seq: str) -> Log:
        """The log once everything up to `seq` has arrived."""
        line: Log = {
            "session_id": self.id,
            "start_time": email.utils.formatdate(self._began, usegmt=True),
            "end_time": email.utils.formatdate(usegmt=True),
            "start_last_seq": self._since,
            "end_last_seq": seq,
            "recorded_seq": seq,
            **{name: getattr(self.counts, name) for name in Counts.__dataclass_fields__},
        }
        history = [line, *self._before][:HISTORY_MAX]
        return {"session_id": self.id, "source_last_seq": seq, "replication_id_version": 4, "history": history}


def common_seq(source: Log | None, target: Log | None) -> str:
    """From where to go on, with what both sides know of each other; "0" for the start."""
    if not source or not target:
        return FROM_START
    if _is_text(source.get("session_id")) and source.get("session_id") == target.get("session_id"):
        return _lesser(source.get("source_last_seq"), target.get("source_last_seq"))
    known = {line["session_id"]: line["recorded_seq"] for line in _lines(target)}
    for line in _lines(source):  # the newest first
        if line["session_id"] in known:
            return _lesser(line["recorded_seq"], known[line["session_id"]])
    return FROM_START


def same(one: Log | None, other: Log | None) -> bool:
    """Whether two logs say the same of the last session."""
    return _head(one) == _head(other)


def _head(log: Log | None) -> tuple[Any, Any] | None:
    return (log.get("session_id"), log.get("source_last_seq")) if log else None


def _lesser(one: Any, other: Any) -> str:
    """The earlier of two places in one feed, the start if they cannot be compared.

    They differ where a session was cut between its two logs, or where one side came back from a backup.
    """
    if not _is_text(one) or not _is_text(other):
        return FROM_START
    if one == other:
        return str(one)
    left, right = seq_number(one), seq_number(other)
    if left is None or right is None:
        return FROM_START
    return str(one) if left < right else str(other)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _lines(log: Log | None) -> Iterator[Mapping[str, Any]]:
    """The lines of a log that can be understood."""
    history = log.get("history") if log else None
    for line in history if isinstance(history, list) else ():
        if isinstance(line, dict) and _is_text(line.get("session_id")) and _is_text(line.get("recorded_seq")):
            yield line
