"""One database as a replicator sees it: the requests of CouchDB's replication protocol.

One thread calls; `cut` is for the others. Nothing is tried again here, and errors are `TransferError`. What a peer
says is not believed: an answer that is not of the form that was asked for raises `Garbage`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import requests
import urllib3

from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.changes import Garbage
from dmedia_transfer.couch.raw import Raw
from dmedia_transfer.couch.replication.history import Log
from dmedia_transfer.couch.session import (
    CONNECT_TIMEOUT_S,
    JSON_HEADERS,
    NONSENSE,
    DatabaseMissing,
    Rejected,
    Session,
)
from dmedia_transfer.errors import AccessDenied, Conflict, DatabaseUnavailable, Unknown

ANSWER_TIMEOUT_S: Final = 60.0  # without a byte
LATE_S: Final = 15.0  # that the end of a wait may be late
# What trying again does not help; anything else that a row says may be over next time.
REFUSALS: Final = (
    "forbidden",
    "unauthorized",
    "doc_validation",
    "bad_request",
    "illegal_docid",
    "too_large",
    "document_too_large",
    "attachment_too_large",
    "illegal_rev",
)
CHUNK_BYTES: Final = 256 * 1024
ANSWER_MAX_BYTES: Final = 32 * 1024 * 1024  # of several documents
DOCUMENT_MAX_BYTES: Final = 512 * 1024 * 1024  # of one, its attachments in base64


class TooLarge(DatabaseUnavailable):
    """An answer that is larger than we want to hold at once: ask for less."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A revision to bring over."""

    id: str
    rev: str
    known: tuple[str, ...] = ()  # revisions at the target that may be its ancestors: their attachments are there


@dataclass(frozen=True, slots=True)
class Batch:
    """Some changes."""

    revs: dict[str, list[str]]  # the leaves of each document that has changed, without design documents
    last_seq: str
    looked: int  # rows, design documents included


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that a peer does not take."""

    id: str
    rev: str
    why: str


class Peer:
    """A database that is replicated from or to."""

    def __init__(self, address: Address, name: str) -> None:
        self.address = address
        self.name = name
        self.url = address.database_url(name)
        self._session = Session(address, read_timeout_s=ANSWER_TIMEOUT_S)
        self._bulk_get = True  # until the server turns out to have none

    def exists(self) -> bool:
        """Whether the database is there; who may not read it is told so."""
        try:
            self._session.json("GET", self.url)
        except DatabaseMissing:
            return False
        return True

    def create(self) -> None:
        """Make the database.

        Raises:
            AccessDenied: We may not.
        """
        try:
            self._session.json("PUT", self.url)
        except Conflict:
            return  # 412: somebody was quicker
        except AccessDenied as error:
            raise AccessDenied(f"database {self.name} is not there, and we may not create it: {error}") from None

    # Logs.

    def get_log(self, log_id: str) -> Log | None:
        """A replication log; None if there is none."""
        try:
            found = self._session.json("GET", f"{self.url}/_local/{log_id}")
        except Unknown:
            return None
        return found if isinstance(found, dict) else None

    def put_log(self, log_id: str, log: Log, previous: Log | None) -> None:
        """Write a replication log over the one that was read before."""
        revision = {"_rev": previous["_rev"]} if previous and "_rev" in previous else {}
        body = json.dumps({"_id": f"_local/{log_id}", **revision, **log}).encode()
        self._session.json("PUT", f"{self.url}/_local/{log_id}", data=body)

    # As a source.

    def changes(self, since: str, *, limit: int, wait_s: float) -> Batch:
        """The next changes; waits for the first one.

        Args:
            since: After which.
            limit: At most so many rows.
            wait_s: Seconds to wait while there are none. No heartbeats are asked for: what lies between us and the
                server may hold those back, and an answer that ends is not held back.
        """
        query = {"feed": "longpoll" if wait_s else "normal", "style": "all_docs", "since": since, "limit": limit}
        query["timeout"] = round(wait_s * 1000)
        timeout = (CONNECT_TIMEOUT_S, wait_s + LATE_S if wait_s else ANSWER_TIMEOUT_S)
        response = self._session.request(
            "GET", f"{self.url}/_changes", params=query, headers=JSON_HEADERS, timeout=timeout, stream=True
        )
        answer = self._read(response, ANSWER_MAX_BYTES)
        try:
            rows = answer["results"]
            revs = {
                _text(row["id"]): [_text(change["rev"]) for change in row["changes"]]
                for row in rows
                if not row["id"].startswith("_")  # design documents are each server's own business
            }
            last_seq = answer["last_seq"]
            return Batch(revs, last_seq if isinstance(last_seq, str) else json.dumps(last_seq), len(rows))
        except NONSENSE as error:
            raise self._garbage("_changes", error) from None

    def fetch(self, leaves: Sequence[Leaf]) -> list[Raw]:
        """Revisions with their history and attachments, or their descendants; those that are gone are left out.

        Raises:
            TooLarge: They are more than we want to hold at once.
            Garbage: An answer is none.
        """
        limit = DOCUMENT_MAX_BYTES if len(leaves) == 1 else ANSWER_MAX_BYTES
        if self._bulk_get:
            try:
                return self._fetch_bulk(leaves, limit)
            except (Rejected, Unknown):
                self._bulk_get = False  # CouchDB before version 2
        return [raw for each in leaves for raw in self._fetch_open(each, limit)]

    def _fetch_bulk(self, leaves: Sequence[Leaf], limit: int) -> list[Raw]:
        asked = [
            {"id": each.id, "rev": each.rev, **({"atts_since": list(each.known)} if each.known else {})}
            for each in leaves
        ]
        answer = self._post("_bulk_get", {"docs": asked}, limit, revs="true", attachments="true", latest="true")
        try:
            found = [row["ok"] for result in answer["results"] for row in result["docs"] if "ok" in row]
            return [_revision(raw, {each.id for each in leaves}) for raw in found]
        except NONSENSE as error:
            raise self._garbage("_bulk_get", error) from None

    def _fetch_open(self, leaf: Leaf, limit: int) -> list[Raw]:
        query = {"open_revs": json.dumps([leaf.rev]), "revs": "true", "attachments": "true", "latest": "true"}
        if leaf.known:
            query["atts_since"] = json.dumps(leaf.known)
        url = f"{self.url}/{quote(leaf.id, safe='')}"
        try:
            response = self._session.request("GET", url, params=query, headers=JSON_HEADERS, stream=True)
        except Unknown:
            return []
        answer = self._read(response, limit)
        try:
            return [_revision(row["ok"], {leaf.id}) for row in answer if "ok" in row]
        except NONSENSE as error:
            raise self._garbage(leaf.id, error) from None

    # As a target.

    def missing(self, revs: Mapping[str, Sequence[str]]) -> list[Leaf]:
        """Those of the revisions that are not here."""
        if not revs:
            return []
        answer = self._post("_revs_diff", revs, ANSWER_MAX_BYTES)
        try:
            return [
                Leaf(_among(revs, id), _text(rev), tuple(map(_text, row.get("possible_ancestors") or ())))
                for id, row in answer.items()
                for rev in row["missing"]
            ]
        except NONSENSE as error:
            raise self._garbage("_revs_diff", error) from None

    def write(self, documents: Sequence[bytes]) -> list[Refused]:
        """Take over revisions that were made elsewhere, each as JSON.

        Raises:
            Rejected: One of them is such that the server does not take the request.
            Conflict: One of them has an attachment without bytes, which this database does not have either.
        """
        body = b'{"new_edits":false,"docs":[' + b",".join(documents) + b"]}"
        answer = self._read(self._send("_bulk_docs", body, {}), ANSWER_MAX_BYTES)
        try:
            errors = [row for row in answer if "error" in row]
            if any(row["error"] == "missing_stub" for row in errors):
                raise Conflict(f"an attachment is neither sent nor stored at {self.url}")
            refused = [
                Refused(str(row["id"]), str(row.get("rev", "")), f"{row['error']}: {row.get('reason', '')}")
                for row in errors
            ]
        except NONSENSE as error:
            raise self._garbage("_bulk_docs", error) from None
        for row, each in zip(errors, refused, strict=True):
            if row["error"] not in REFUSALS:
                raise DatabaseUnavailable(f"{self.url} could not write document {each.id!r:.64}: {each.why:.200}")
        return refused

    def cut(self) -> None:
        """Cut what is under way; it raises `DatabaseUnavailable`."""
        self._session.cut()

    def close(self) -> None:
        """Let go of connections."""
        self._session.close()

    def _post(self, resource: str, body: object, limit: int, **query: str) -> Any:
        return self._read(self._send(resource, json.dumps(body).encode(), query), limit)

    def _send(self, resource: str, body: bytes, query: Mapping[str, str]) -> requests.Response:
        url = f"{self.url}/{resource}"
        return self._session.request("POST", url, params=query, data=body, headers=JSON_HEADERS, stream=True)

    def _read(self, response: requests.Response, limit: int) -> Any:
        """The JSON of an answer that is not longer than `limit`."""
        content = bytearray()
        with response:
            try:
                while chunk := response.raw.read(CHUNK_BYTES, decode_content=True):
                    content += chunk
                    if len(content) > limit:
                        raise TooLarge(f"{self.url} answers with more than {limit:,} bytes")
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                raise DatabaseUnavailable(f"{self.url} has cut its answer short: {error}") from error
        try:
            return json.loads(content)
        except NONSENSE as error:
            raise self._garbage("the server", error) from None

    def _garbage(self, what: str, error: BaseException) -> Garbage:
        return Garbage(f"{self.url} does not answer as CouchDB does ({what}): {error!r}"[:300])


def _revision(raw: Any, ids: Iterable[str]) -> Raw:
    """A revision as a source sent it, if it can be one of those that were asked for."""
    if not isinstance(raw, dict) or raw["_id"] not in ids:
        raise TypeError("this is not the document that was asked for")
    _text(raw["_rev"])
    history = raw.get("_revisions")
    if not isinstance(history, dict) or not history.get("ids"):
        raise TypeError("this is a revision without its history")
    return raw


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no text")
    return value


def _among(known: Mapping[str, Any], id: str) -> str:
    if id not in known:
        raise KeyError(id)
    return id
