"""Errors as CouchDB words them: a status, a short name, a reason."""

from __future__ import annotations

from typing import Any


class Problem(Exception):
    """A request that is answered with an error: `{"error": name, "reason": reason}`."""

    def __init__(self, status: int, name: str, reason: str) -> None:
        super().__init__(status, name, reason)
        self.status = status
        self.name = name
        self.reason = reason

    def as_json(self) -> dict[str, Any]:
        """The body of the answer, also as a row of `_bulk_docs`."""
        return {"error": self.name, "reason": self.reason}


def bad_request(reason: str) -> Problem:
    """The request makes no sense."""
    return Problem(400, "bad_request", reason)


def bad_query(reason: str) -> Problem:
    """A parameter of the query makes no sense."""
    return Problem(400, "query_parse_error", reason)


def illegal_docid(reason: str) -> Problem:
    """A document cannot have this ID."""
    return Problem(400, "illegal_docid", reason)


def missing(reason: str = "missing") -> Problem:
    """There is no such document, revision or attachment."""
    return Problem(404, "not_found", reason)


def no_database() -> Problem:
    """There is no such database."""
    return missing("Database does not exist.")


def conflict() -> Problem:
    """The edit is not of a current revision."""
    return Problem(409, "conflict", "Document update conflict.")


def missing_stub(document_id: str, name: str) -> Problem:
    """A stub names an attachment that the document does not have."""
    return Problem(412, "missing_stub", f"Invalid attachment stub in {document_id} for {name}")


def too_large(what: str) -> Problem:
    """The document is larger than documents may be."""
    return Problem(413, "document_too_large", what)
