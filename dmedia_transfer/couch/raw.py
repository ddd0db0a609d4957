"""Documents of one database, raw: read, written and found through pycouchdb.

pycouchdb is given a session and URLs of our own, because by itself it turns TLS verification off, has no
timeouts, and does not quote ids (pycouchdb 1.17.1, `resource.py`).
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import pycouchdb.exceptions
from pycouchdb.client import Database as PycouchdbDatabase
from pycouchdb.resource import Resource

from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.session import (
    CONNECT_TIMEOUT_S,
    NONSENSE,
    READ_TIMEOUT_S,
    DatabaseMissing,
    Rejected,
    Session,
)
from dmedia_transfer.errors import (
    Conflict,
    DatabaseUnavailable,
    InvalidDocument,
    InvalidRequest,
    TransferError,
    Unknown,
)

log = logging.getLogger(__name__)

PAGE_DOCUMENTS: Final = 500  # documents in one request
FOUND_MAX: Final = 100_000  # without a limit, CouchDB finds 25
AFTER_ALL_IDS: Final = "\ufff0"  # sorts after everything that an id goes on with

Raw = dict[str, Any]


class RawDatabase:
    """Documents as they are. Any thread may call; every call blocks, and none is tried again."""

    def __init__(
        self,
        address: Address,
        name: str,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """Nothing is sent yet.

        Args:
            address: The server and who we are there.
            name: The database's name.
            connect_timeout_s: Seconds that a connection may take.
            read_timeout_s: Seconds without a byte after which the server counts as gone.
        """
        self.address = address
        self.name = name
        self._url = address.database_url(name)
        self._session = Session(address, connect_timeout_s=connect_timeout_s, read_timeout_s=read_timeout_s)
        self._couch = PycouchdbDatabase(_QuotingResource(self._url, session=self._session), name)

    def __repr__(self) -> str:
        return f"<database {self.name} at {self.address.url}>"

    def close(self) -> None:
        """Let go of connections; calls that wait raise `DatabaseUnavailable`."""
        self._session.cut()
        self._session.close()

    def ensure_exists(self) -> None:
        """Create the database if it is not there.

        Raises:
            AccessDenied: It is not there, and we may not create it.
        """
        try:
            self._session.json("GET", self._url)
        except DatabaseMissing:
            with contextlib.suppress(Conflict):  # 412: somebody was quicker
                self._session.json("PUT", self._url)
                log.info("created database %s at %s", self.name, self.address.url)

    # Single documents.

    def get(self, document_id: str, *, conflicts: bool = False) -> Raw | None:
        """A document, its attachments as stubs; None if there is none. With `_conflicts`, if asked for and there."""
        if not document_id or document_id in (".", ".."):  # these would name another resource
            raise InvalidRequest(f"{document_id!r} is no ID of a document")
        query: dict[str, Any] = {"conflicts": "true"} if conflicts else {}
        try:
            with self._sensible():
                return self._document(self._couch.get(document_id, **query))
        except Unknown:
            return None

    def put(self, raw: Mapping[str, Any]) -> str:
        """Write a document and return its revision; without `_rev` it is a new one.

        Raises:
            Conflict: It has changed since it was read, or is there already.
            InvalidDocument: The server does not take it: too large, or not well-formed.
        """
        document_id = str(raw["_id"])
        try:
            with self._sensible():
                return str(self._couch.save(dict(raw))["_rev"])
        except Rejected as error:
            raise InvalidDocument(document_id, "", str(error)) from None
        except Conflict as error:
            raise Conflict(f"document {document_id!r} has changed meanwhile: {error}") from None

    def delete(self, raw: Mapping[str, Any]) -> None:
        """Delete the revision that was read; a document that is gone already is no error.

        Raises:
            Conflict: It has changed since it was read.
        """
        try:
            self._session.json("DELETE", f"{self._url}/{_quoted(raw['_id'])}", params={"rev": raw["_rev"]})
        except Unknown:
            return
        except Conflict:
            if self.get(raw["_id"]) is not None:
                raise

    # Revisions.

    def get_leaves(self, document_id: str) -> list[Raw]:
        """All leaf revisions that do not delete the document, with `_revisions`, their attachments as stubs."""
        return self._open_revs(document_id, "all")

    def get_revision(self, document_id: str, revision: str) -> Raw | None:
        """An older revision; None if the database has it no more: only those of leaves are kept for good."""
        found = self._open_revs(document_id, json.dumps([revision]))
        return found[0] if found else None

    def delete_leaves(self, document_id: str, revisions: Iterable[str]) -> None:
        """Delete these leaf revisions; one that somebody has written over meanwhile is left alone."""
        tips = [{"_id": document_id, "_rev": revision, "_deleted": True} for revision in revisions]
        if tips:
            self.post("_bulk_docs", {"docs": tips})

    def _open_revs(self, document_id: str, which: str) -> list[Raw]:
        query = {"open_revs": which, "revs": "true"}
        try:
            rows = self._session.json("GET", f"{self._url}/{_quoted(document_id)}", params=query)
        except Unknown:
            return []
        with self._sensible():
            found = [self._document(row["ok"]) for row in _list(rows) if "ok" in row]
        return [raw for raw in found if not raw.get("_deleted")]

    # Many documents.

    def get_many(self, ids: Iterable[str], *, attachments: bool = False, conflicts: bool = False) -> dict[str, Raw]:
        """Those of the documents that are there; their attachments as stubs, or inline; with `_conflicts` if asked."""
        found: dict[str, Raw] = {}
        inline = "true" if attachments else "false"
        for page in pages(list(dict.fromkeys(ids)), PAGE_DOCUMENTS):
            with self._sensible():
                # pycouchdb's `all` takes nonsense for a database without documents.
                query = {"include_docs": "true", "attachments": inline, "conflicts": "true" if conflicts else "false"}
                answer: Any = self._couch.resource.post("_all_docs", params=query, data=json.dumps({"keys": page}))[1]
                rows = _list(answer["rows"])
                found.update((row["id"], self._document(row["doc"])) for row in rows if row.get("doc"))
        return found

    def get_prefixed(self, prefix: str, *, limit: int) -> list[Raw]:
        """The documents whose ID begins with `prefix`, at most `limit`."""
        with self._sensible():
            query = {"startkey": json.dumps(prefix), "endkey": json.dumps(prefix + AFTER_ALL_IDS), "limit": limit}
            answer: Any = self._couch.resource.get("_all_docs", params={**query, "include_docs": "true"})[1]
            return [self._document(row["doc"]) for row in _list(answer["rows"])]

    def put_many(self, raws: Sequence[Raw]) -> dict[str, TransferError | None]:
        """Write documents; what became of each. pycouchdb's `save_bulk` forgets all but the first conflict."""
        if not raws:
            return {}
        try:
            rows = self.post("_bulk_docs", {"docs": raws})
        except Rejected as error:
            if error.status not in (400, 413):
                raise
            if len(raws) == 1:
                return {raws[0]["_id"]: InvalidDocument(raws[0]["_id"], "", str(error))}
            half = len(raws) // 2  # one that is not taken fails its whole request
            return self.put_many(raws[:half]) | self.put_many(raws[half:])
        with self._sensible():
            outcomes = {row["id"]: _row_error(row) for row in _list(rows)}
            return {raw["_id"]: outcomes[raw["_id"]] for raw in raws}

    def post(self, resource: str, body: object) -> Any:
        """Send JSON to a resource of the database, and read the JSON in its answer."""
        return self._session.json("POST", f"{self._url}/{resource}", data=json.dumps(body).encode())

    def find(self, selector: Mapping[str, Any], *, limit: int = FOUND_MAX) -> list[Raw]:
        """The documents that a Mango selector means, at most `limit`; looks at every document of the database."""
        query = {"selector": selector, "limit": limit}
        answer = self.post("_find", query)
        with self._sensible():
            return [self._document(raw) for raw in _list(answer["docs"])]

    def _document(self, raw: Any) -> Raw:
        if not isinstance(raw, dict) or "_id" not in raw:
            raise ValueError("this is no document")
        return raw

    @contextlib.contextmanager
    def _sensible(self) -> Iterator[None]:
        """Translate what goes wrong in reading an answer that is not as CouchDB's are."""
        try:
            yield
        except pycouchdb.exceptions.Error as error:
            raise DatabaseUnavailable(f"CouchDB at {self.address.url} answers with an error: {error}") from error
        except NONSENSE as error:
            raise DatabaseUnavailable(
                f"CouchDB at {self.address.url} answers with nonsense: {error!r}"[:300]
            ) from error


class _QuotingResource(Resource):
    """pycouchdb's resource with each piece of a path quoted."""

    def __call__(self, *path: str) -> Resource:
        return super().__call__(*(_quoted(piece) for piece in path))


def _quoted(document_id: str) -> str:
    try:
        return quote(document_id, safe="")
    except UnicodeEncodeError:
        raise InvalidRequest(f"{document_id!r} is no ID of a document") from None


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("this is no list")
    return value


def pages(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _row_error(row: Mapping[str, Any]) -> TransferError | None:
    """What a row of `_bulk_docs` says became of its document."""
    error = row.get("error")
    if error is None:
        return None
    if error == "conflict":
        return Conflict(f"document {row['id']!r} has changed meanwhile")
    if error in ("forbidden", "unauthorized", "doc_validation", "bad_request", "illegal_docid"):
        return InvalidDocument(str(row["id"]), "", f"the database does not take it: {error}: {row.get('reason')}")
    raise DatabaseUnavailable(f"document {row['id']!r} could not be written: {error}: {row.get('reason')}")
