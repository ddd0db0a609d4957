"""The `_changes` of a database as requests: what it is, a page of changes, a stream of them.

One thread calls; `cut` is for the others. Nothing is tried again here, and errors are `TransferError`.

Only machines, stores and wanted files cross the wire (`filter=_selector`), and deletions, which have lost their
type. A server that has no such filter sends everything, and the caller picks with `is_meant`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final

import requests
import urllib3

from dmedia_transfer import documents, leaves
from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.session import CONNECT_TIMEOUT_S, NONSENSE, Rejected, Session
from dmedia_transfer.errors import DatabaseUnavailable, Unknown

log = logging.getLogger(__name__)

FROM_START: Final = "0"
TYPES: Final = (documents.MACHINE, documents.STORE)
PAGE_CHANGES: Final = 500  # changes in one bounded answer
CHUNK_BYTES: Final = 64 * 1024
LINE_MAX_BYTES: Final = 64 * 1024 * 1024  # CouchDB takes documents of 8 MB unless it is told to take larger ones
ASK_TIMEOUT_S: Final = 15.0  # seconds until a simple question is answered
SCAN_TIMEOUT_S: Final = 300.0  # seconds without a byte while a server filters what it has from the start


class Garbage(DatabaseUnavailable):
    """A line of the feed that is no change."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which database it is, as far as it says: one that was created anew is another one."""

    born: str  # the built-in server's `uuid`; CouchDB's `instance_start_time`, which is "0" before version 3.3
    update_seq: str


@dataclass(frozen=True, slots=True)
class Change:
    """A row of the feed."""

    seq: str | None  # where to go on after it; None where the server does not say
    raw: dict[str, Any] | None  # the document, `_deleted` set if it was deleted; None where there is none


@dataclass(frozen=True, slots=True)
class Page:
    """A bounded answer."""

    changes: list[Change]
    last_seq: str
    complete: bool  # there was no more at that moment


class Changes:
    """Requests to one database's `_changes`."""

    def __init__(self, address: Address, name: str, *, heartbeat_s: float) -> None:
        self.address = address
        self.name = name
        self.filtered = True  # whether the server picks; False once it has turned out that it cannot
        self._url = address.database_url(name)
        self._session = Session(address, read_timeout_s=ASK_TIMEOUT_S)
        self._heartbeat_ms = round(heartbeat_s * 1000)
        self._silence_s = heartbeat_s * 1.5 + 1.0  # after that the server, or the way to it, is gone

    def identify(self) -> Identity:
        """Ask the database who it is."""
        info = self._session.json("GET", self._url)
        if not isinstance(info, dict):
            raise DatabaseUnavailable(f"CouchDB at {self.address.url} says nothing sensible of database {self.name}")
        born = info.get("uuid") or info.get("instance_start_time", "")
        return Identity(str(born), str(info.get("update_seq", "")))

    def page(self, since: str, wanted: Set[str]) -> Page:
        """The next changes after `since`.

        Raises:
            Rejected: The server does not know `since`.
        """
        timeout_s = SCAN_TIMEOUT_S if since == FROM_START else ASK_TIMEOUT_S * 4
        query = {"feed": "normal", "since": since, "limit": PAGE_CHANGES}
        try:
            response = self._request(query, wanted, timeout_s=timeout_s)
        except (Rejected, Unknown) as error:
            if not self.filtered:
                raise
            self.filtered = False
            try:
                response = self._request(query, wanted, timeout_s=timeout_s)
            except (Rejected, Unknown):
                self.filtered = True  # so it is not the filter that it does not like
                raise
            log.warning("database %s: the server cannot filter its feed, so all of it is read: %s", self.name, error)
        try:
            answer = response.json()
            rows, last_seq = answer["results"], answer["last_seq"]
        except NONSENSE as error:
            raise Garbage(f"the changes of database {self.name} cannot be read: {error!r}"[:300]) from None
        return Page([_change(row) for row in rows], _seq(last_seq), complete=len(rows) < PAGE_CHANGES)

    def stream(self, since: str, wanted: Set[str]) -> Stream:
        """Changes after `since` as they happen."""
        query = {"feed": "continuous", "since": since, "heartbeat": self._heartbeat_ms}
        response = self._request(query, wanted, timeout_s=self._silence_s, stream=True)
        return Stream(response, self.name)

    def cut(self) -> None:
        """Cut what is under way; it raises `DatabaseUnavailable`, or a stream ends."""
        self._session.cut()

    def close(self) -> None:
        """Let go of connections."""
        self._session.close()

    def _request(
        self, query: Mapping[str, Any], wanted: Set[str], *, timeout_s: float, stream: bool = False
    ) -> requests.Response:
        params = {**query, "include_docs": "true", "conflicts": "true"}
        # Without `identity` some servers compress, and then hold changes back until a block is full.
        headers = {"Accept-Encoding": "identity"}
        timeout = (CONNECT_TIMEOUT_S, timeout_s)
        url = f"{self._url}/_changes"
        if not self.filtered:
            return self._session.request("GET", url, params=params, headers=headers, stream=stream, timeout=timeout)
        data = json.dumps({"selector": selector(wanted)}).encode()
        params["filter"] = "_selector"
        return self._session.request(
            "POST", url, params=params, headers=headers, data=data, stream=stream, timeout=timeout
        )


class Stream(Iterator["Change | None"]):
    """A continuous answer: changes, and None for each heartbeat; ends when the server ends it.

    A line is handed on in the moment in which its last byte is there. One that is no change raises `Garbage`, and
    the next ones may still be read.
    """

    def __init__(self, response: requests.Response, name: str) -> None:
        self._response = response
        self._name = name
        self._buffer = bytearray()
        self._searched = 0

    def __next__(self) -> Change | None:
        line = self._line()
        if line is None:
            self.close()
            raise StopIteration
        if not line.strip():
            return None
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise Garbage(f"the feed of database {self._name} has a line that is no JSON: {line[:60]!r}") from None
        if isinstance(row, dict) and "last_seq" in row:
            return Change(_seq(row["last_seq"]), None)
        return _change(row)

    def close(self) -> None:
        """Drop the connection."""
        self._response.close()

    def _line(self) -> bytes | None:
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > LINE_MAX_BYTES:
                raise DatabaseUnavailable(f"the feed of database {self._name} has a line without an end")
            try:
                # requests' own `iter_lines` waits for full blocks where the answer is not chunked.
                chunk = self._response.raw.read1(CHUNK_BYTES, decode_content=True)
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                raise DatabaseUnavailable(f"the feed of database {self._name} was cut: {error}") from error
            if not chunk:
                return None  # a line without its end was cut
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line


def selector(wanted: Set[str]) -> dict[str, Any]:
    """What the server should send: machines, stores, deletions, and these files."""
    kinds: list[dict[str, Any]] = [{"type": {"$in": list(TYPES)}}, {"_deleted": True}]
    if wanted:
        kinds.append({"_id": {"$in": sorted(wanted)}})
    return {"$or": kinds}


def is_meant(raw: Mapping[str, Any], wanted: Set[str]) -> bool:
    """Whether a document is among those that the feed is for; of the deleted ones, what was a machine or a store."""
    document_id = raw.get("_id")
    if raw.get("_deleted"):
        return document_id in wanted or leaves.is_random_id(document_id)
    return raw.get("type") in TYPES or document_id in wanted


def seq_number(seq: str) -> int | None:
    """The number that an otherwise opaque `seq` begins with; it only grows as long as the database lives."""
    head = seq.partition("-")[0]
    return int(head) if head.isdecimal() else None


def _change(row: Any) -> Change:
    if not isinstance(row, dict) or "seq" not in row:
        raise Garbage(f"the feed has a line that is no change: {repr(row)[:60]}")
    raw = row.get("doc")
    return Change(None if row["seq"] is None else _seq(row["seq"]), raw if isinstance(raw, dict) else None)


def _seq(seq: Any) -> str:
    """A seq as a parameter: CouchDB 1 has numbers, BigCouch had lists."""
    return seq if isinstance(seq, str) else json.dumps(seq)
