"""Replications that Apache CouchDB does itself: documents of its `_replicator` database.

CouchDB follows them also while no daemon runs. Each has an ID that is made of the machine and the URL, so that a
restart changes nothing, and what the configuration no longer names is found and removed
(https://docs.couchdb.org/en/stable/replication/replicator.html).
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from dmedia_transfer.couch.address import Address
from dmedia_transfer.couch.raw import Raw, RawDatabase
from dmedia_transfer.couch.session import Rejected, Session
from dmedia_transfer.errors import AccessDenied, DatabaseUnavailable, TransferError, Unknown

log = logging.getLogger(__name__)

DATABASE: Final = "_replicator"
OURS_MAX: Final = 1000  # documents of one machine; there are two for each database
SECOND_CHANCE_S: Final = 300.0  # after which CouchDB is asked again for what it has given up, or tries too rarely
HURRY_S: Final = 5.0  # the same, when the way to the other server may be open again
# CouchDB waits 30 s after a failure, and twice as long after each further one, up to 8.5 hours.
FAILURES_MAX: Final = 4
# It begins anew only for a document that asks for something else. Of these two either will do; neither is its default.
CONNECTION_TIMEOUTS_MS: Final = (30_001, 30_002)
# Design documents are each server's own business; and who may write them there, may run code.
SELECTOR: Final = {"_id": {"$not": {"$regex": "^_design/"}}}

# How it says that a password is wrong.
_UNAUTHORIZED: Final = re.compile(r'session_request_unauthorized,\s*"(?P<server>[^"]*?)/_session",\s*"(?P<user>[^"]*)"')


@dataclass(frozen=True, slots=True)
class _Seen:
    """What CouchDB says of a replication."""

    state: str
    why: str = ""  # where it says so
    failures: int = 0  # one after the other


class Scheduled:
    """The replications of one machine. For one thread at a time."""

    def __init__(self, local: Address, database: str, *, machine_id: str) -> None:
        """Nothing is sent yet.

        Args:
            local: The CouchDB that should do them.
            database: The local database.
            machine_id: Whose replications.
        """
        self._local, self._database = local, database
        self._prefix = f"dmedia-{machine_id}-"
        self._documents = RawDatabase(local, DATABASE)
        self._session = Session(local)
        self._asked: dict[str, float] = {}  # when a document was written, on the monotonic clock

    def close(self) -> None:
        """Let go of connections; calls that wait raise `DatabaseUnavailable`."""
        self._documents.close()
        self._session.cut()
        self._session.close()

    def arrange(self, targets: Iterable[tuple[str, Address, str]]) -> None:
        """Have exactly these replicated: the URL in the configuration, the server, the database there.

        Raises:
            AccessDenied: We are no administrator here.
            DatabaseUnavailable: The server does not answer, or has no such database.
        """
        wanted = {raw["_id"]: raw for target in targets for raw in self._both(*target)}
        there = {raw["_id"]: raw for raw in self._documents.get_prefixed(self._prefix, limit=OURS_MAX)}
        for document_id in there.keys() - wanted.keys():
            log.info("sync: %s is not wanted any more, removing it", document_id)
            self._documents.delete(there[document_id])
        for document_id, raw in wanted.items():
            found = there.get(document_id)
            if found is None or any(found.get(key) != value for key, value in raw.items()):
                self._put(raw, found)

    def problem(self, url: str, *, hurry: bool = False) -> str | None:
        """What CouchDB says is wrong with the replications with this URL; None if nothing is.

        Args:
            url: As it was arranged.
            hurry: Whether CouchDB should try again now what fails: the network has changed, or the machine has slept.
        """
        problems = []
        for direction in ("pull", "push"):
            document_id = self._id(url, direction)
            seen = self._state(document_id)
            if seen.state == "failed" and "already" in seen.why:
                continue  # another machine has asked this CouchDB for the same
            if seen.state in ("failed", "error", "crashing"):
                if hurry or seen.state == "failed" or seen.failures >= FAILURES_MAX:
                    self._try_again(document_id, hurry=hurry)
                problems.append(f"CouchDB cannot {direction}: {seen.why or seen.state}")
        return problems[0] if problems else None

    def _both(self, url: str, remote: Address, remote_database: str) -> list[Raw]:
        here, there = _endpoint(self._local, self._database), _endpoint(remote, remote_database)
        common = {"continuous": True, "selector": SELECTOR, "use_checkpoints": True}
        pull = {"_id": self._id(url, "pull"), "source": there, "target": here, "create_target": False, **common}
        push = {"_id": self._id(url, "push"), "source": here, "target": there, "create_target": True, **common}
        return [pull, push]

    def _id(self, url: str, direction: str) -> str:
        return f"{self._prefix}{hashlib.sha256(url.encode()).hexdigest()[:16]}-{direction}"

    def _put(self, raw: Raw, found: Raw | None) -> None:
        """Write a document; what CouchDB has noted in it goes, so that it looks at it anew."""
        revision = {"_rev": found["_rev"]} if found else {}
        log.info("sync: asking CouchDB for %s", raw["_id"])
        self._documents.put({**raw, **revision})
        self._asked[raw["_id"]] = time.monotonic()

    def _try_again(self, document_id: str, *, hurry: bool) -> None:
        now = time.monotonic()
        asked = self._asked.setdefault(document_id, now - HURRY_S)
        if now - asked < (HURRY_S if hurry else SECOND_CHANCE_S):
            return
        found = self._documents.get(document_id)
        if found is not None:
            raw = {key: value for key, value in found.items() if not key.startswith("_replication")}
            raw["connection_timeout"] = CONNECTION_TIMEOUTS_MS[
                raw.get("connection_timeout") == CONNECTION_TIMEOUTS_MS[0]
            ]
            self._put(raw, found)

    def _state(self, document_id: str) -> _Seen:
        """What CouchDB does about a document."""
        try:
            url = f"{self._local.url}/_scheduler/docs/{DATABASE}/{quote(document_id, safe='')}"
            row = self._session.json("GET", url)
            if not isinstance(row, dict):
                raise DatabaseUnavailable(f"CouchDB at {self._local.url} says nothing sensible of {document_id}")
            failures = row.get("error_count")
            return _Seen(str(row.get("state")), _why(row.get("info")), failures if isinstance(failures, int) else 0)
        except (Unknown, Rejected, AccessDenied):  # it has not seen it yet, or is an older one
            raw = self._documents.get(document_id) or {}
            return _Seen(str(raw.get("_replication_state")), _why(raw.get("_replication_state_reason")))


def may_schedule(local: Address) -> bool:
    """Whether the server is an Apache CouchDB on which we may have replications done.

    Raises:
        DatabaseUnavailable: It does not answer.
    """
    with Session(local) as session:
        welcome = session.json("GET", f"{local.url}/")
        vendor = welcome.get("vendor") if isinstance(welcome, dict) else None
        if not isinstance(vendor, dict) or "Apache" not in str(vendor.get("name")):
            return False
        try:
            session.json("GET", f"{local.url}/{DATABASE}")
        except DatabaseUnavailable as error:
            if type(error) is DatabaseUnavailable:
                raise
            return False  # there is none: a CouchDB that nobody has set up
        except TransferError as error:
            log.debug("sync: CouchDB does not let us use its replicator: %s", error)
            return False
    return True


def _endpoint(address: Address, database: str) -> dict[str, Any]:
    """A database as a document names it. Only administrators may read documents of `_replicator`."""
    endpoint: dict[str, Any] = {"url": address.database_url(database)}
    if address.user:
        basic = {"username": address.user, "password": address.password.get_secret_value()}
        endpoint["auth"] = {"basic": basic}
    return endpoint


def _why(info: object) -> str:
    said = str((info.get("error") or info.get("reason") if isinstance(info, Mapping) else info) or "")
    if refused := _UNAUTHORIZED.search(said):
        return f"{refused['server']} does not accept user '{refused['user']}' with this password"
    return "".join(each if each.isprintable() else "?" for each in " ".join(said.split())[:300])
