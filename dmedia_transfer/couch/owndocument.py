"""OwnDocument: a document that only this machine writes, of which only the newest body matters."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

from dmedia_transfer.errors import Conflict


class Documents(Protocol):
    """What is asked of the database."""

    def get(self, document_id: str) -> dict[str, Any] | None:
        """A document; None if there is none."""

    def put(self, raw: Mapping[str, Any]) -> str:
        """Write a document; returns its revision. Raises Conflict."""


class OwnDocument:
    """Keeps the newest body until it is written; bodies that were overtaken are never written."""

    def __init__(self, database: Documents) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._body: Mapping[str, Any] | None = None  # waits to be written
        self._revision = ""  # as we wrote it last

    def set(self, body: Mapping[str, Any]) -> None:
        """This is the newest body, with its `_id` and without a revision. Any thread may call."""
        with self._lock:
            self._body = body

    def write(self) -> None:
        """Write what waits; what cannot be written goes on waiting.

        Raises:
            TransferError: The database does not take it.
        """
        with self._lock:
            body = self._body
        if body is None:
            return
        try:
            self._revision = self._put(body)
        except Conflict:
            # Written in an earlier life, or the database was restored: what is there is older than what we say.
            there = self._database.get(str(body["_id"]))
            self._revision = str(there["_rev"]) if there else ""
            self._revision = self._put(body)
        with self._lock:
            if self._body is body:
                self._body = None

    def _put(self, body: Mapping[str, Any]) -> str:
        return self._database.put({**body, "_rev": self._revision} if self._revision else dict(body))
