"""Documents as they arrive: validated, but not yet compared with what is stored."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dmedia_transfer.couch.embedded.jsontext import canonical, dumps
from dmedia_transfer.couch.embedded.problems import Problem, bad_request, illegal_docid, too_large
from dmedia_transfer.couch.embedded.revtree import Rev

MAX_DOCUMENT_BYTES = 8_000_000  # CouchDB's own default; attachments do not count
MAX_ATTACHMENT_BYTES = 256 * 1024 * 1024
HASH_DIGITS = 32  # of a revision, as CouchDB and we make them; others may be anything

LOCAL = "_local/"
DESIGN = "_design/"

# What we say of a document ourselves; who sends it back to us does no harm.
_IGNORED = frozenset({"_revs_info", "_conflicts", "_deleted_conflicts", "_local_seq"})


@dataclass(frozen=True, slots=True)
class NewAttachment:
    """An attachment that came with a document: its bytes, or a stub for one that is stored already."""

    name: str
    content_type: str
    data: bytes | None  # None: a stub
    revpos: int | None = None  # the generation in which it came, if the sender says
    digest: str | None = None  # `md5-…` of a stub, if the sender says


@dataclass(frozen=True, slots=True)
class Incoming:
    """A document as somebody sent it."""

    id: str
    rev: Rev | None
    ancestry: tuple[Rev, ...]  # what `_revisions` says, newest first; just `rev` without it
    deleted: bool
    body: bytes  # a JSON object without special members
    content: Mapping[str, Any] = field(repr=False)  # the same, parsed
    attachments: tuple[NewAttachment, ...] = ()

    def revision_after(self, parent: Rev | None, attachments: list[tuple[str, str, str]]) -> Rev:
        """The name of the revision that this edit makes: equal edits of equal revisions have equal names.

        Args:
            parent: The revision that is edited.
            attachments: Name, content type and digest of each.
        """
        above = [parent.pos, parent.id] if parent else []
        text = canonical([self.deleted, above, self.content, sorted(attachments)])
        pos = parent.pos + 1 if parent else 1
        return Rev(pos, hashlib.md5(text, usedforsecurity=False).hexdigest())


def check_id(id: object) -> str:
    """A document's ID, if it can be one.

    Raises:
        Problem: 400.
    """
    if not isinstance(id, str):
        raise illegal_docid("Document id must be a string")
    if not id:
        raise illegal_docid("Document id must not be empty")
    if id.startswith("_") and not id.startswith((LOCAL, DESIGN)):
        raise illegal_docid("Only reserved document ids may start with underscore.")
    if id in (LOCAL, DESIGN):
        raise illegal_docid("Illegal document id `" + id + "`")
    return id


def parse_rev(text: object) -> Rev:
    """The name of a revision that somebody sent.

    CouchDB keeps a hash of 32 digits as 16 bytes: it has to be hexadecimal, and comes back in small letters.

    Raises:
        Problem: 400.
    """
    try:
        rev = Rev.parse(text)
        if len(rev.id) != HASH_DIGITS:
            return rev
        return Rev(rev.pos, bytes.fromhex(rev.id).hex())
    except ValueError:
        raise bad_request("Invalid rev format") from None


def parse(
    document: object,
    *,
    id: str | None = None,
    rev: Rev | None = None,
    parts: Mapping[str, bytes] | None = None,
) -> Incoming:
    """A document that came as JSON.

    Args:
        document: The parsed JSON.
        id: Its ID where the URL says so; it then goes before the document's own.
        rev: The edited revision, where the URL or a header says so.
        parts: The bytes of attachments that came beside it (`follows`), by name.

    Raises:
        Problem: 400 or 413.
    """
    if not isinstance(document, dict):
        raise bad_request("Document must be a JSON object")
    content = {name: value for name, value in document.items() if not name.startswith("_")}
    special = {name: value for name, value in document.items() if name.startswith("_")}
    id = check_id(special.pop("_id", None) if id is None else id)
    special.pop("_id", None)
    if (own := special.pop("_rev", None)) is not None and not id.startswith(LOCAL):
        own_rev = parse_rev(own)
        if rev is not None and rev != own_rev:
            raise bad_request("Document rev from request body and query string have different values")
        rev = own_rev
    ancestry = _ancestry(special.pop("_revisions", None), rev)
    deleted = special.pop("_deleted", False)
    if not isinstance(deleted, bool):
        raise bad_request("`_deleted` must be a boolean")
    attachments = _attachments(special.pop("_attachments", None), parts or {})
    for name in special.keys() - _IGNORED:
        raise Problem(400, "doc_validation", f"Bad special document member: {name}")
    body = dumps(content)
    if len(body) > MAX_DOCUMENT_BYTES:
        raise too_large(id)
    return Incoming(id, ancestry[0] if ancestry else rev, ancestry, deleted, body, content, attachments)


def _ancestry(revisions: object, rev: Rev | None) -> tuple[Rev, ...]:
    if revisions is None:
        return (rev,) if rev else ()
    match revisions:
        case {"start": int(start), "ids": [*ids]} if ids and start >= len(ids):
            found = tuple(parse_rev(f"{start - index}-{id}") for index, id in enumerate(ids))
        case {"start": 0, "ids": []}:
            return (rev,) if rev else ()
        case _:
            raise Problem(400, "doc_validation", "Bad `_revisions`")
    if rev is not None and rev != found[0]:
        raise Problem(400, "doc_validation", "`_revisions` does not begin with `_rev`")
    return found


def _attachments(attachments: object, parts: Mapping[str, bytes]) -> tuple[NewAttachment, ...]:
    if attachments is None:
        return ()
    if not isinstance(attachments, dict):
        raise bad_request("`_attachments` must be a JSON object")
    return tuple(_attachment(name, value, parts) for name, value in attachments.items())


def check_attachment_name(name: str) -> str:
    """An attachment's name, if it can be one.

    Raises:
        Problem: 400.
    """
    if not name:
        raise bad_request("Attachment name must not be empty")
    if name.startswith("_"):
        raise bad_request(f"Attachment name '{name}' starts with prohibited character '_'")
    return name


def check_content_type(content_type: object) -> str:
    """An attachment's type, if it can be sent back in a header.

    Raises:
        Problem: 400.
    """
    if not isinstance(content_type, str) or not content_type.isascii() or not content_type.isprintable():
        raise bad_request("Attachment has a bad content type")
    return content_type


def _attachment(name: str, value: object, parts: Mapping[str, bytes]) -> NewAttachment:
    check_attachment_name(name)
    if not isinstance(value, dict):
        raise bad_request(f"Attachment `{name}` must be a JSON object")
    content_type = value.get("content_type") or "application/octet-stream"
    revpos = value.get("revpos")
    digest = value.get("digest")
    data: bytes | None
    if value.get("stub") is True:
        data = None
    elif value.get("follows") is True:
        try:
            data = parts[name]
        except KeyError:
            raise bad_request(f"Attachment `{name}` does not follow") from None
        data = _plain(name, data, value.get("encoding"))
    else:
        data = _plain(name, _base64(name, value.get("data")), value.get("encoding"))
    return NewAttachment(
        name,
        check_content_type(content_type),
        data,
        revpos if isinstance(revpos, int) and revpos > 0 else None,
        digest if isinstance(digest, str) else None,
    )


def _base64(name: str, text: object) -> bytes:
    try:
        if not isinstance(text, str):
            raise TypeError  # noqa: TRY301
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise bad_request(f"Invalid attachment data for {name}") from None


def _plain(name: str, data: bytes, encoding: object) -> bytes:
    """The bytes without the gzip in which CouchDB stores and sends what it thinks is text."""
    if encoding in (None, "identity"):
        return data
    if encoding != "gzip":
        raise bad_request(f"Attachment `{name}` has the unknown encoding {encoding!r}")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            plain = file.read(MAX_ATTACHMENT_BYTES + 1)
    except (OSError, EOFError):
        raise bad_request(f"Attachment `{name}` is not gzip") from None
    if len(plain) > MAX_ATTACHMENT_BYTES:
        raise Problem(413, "attachment_too_large", name)
    return plain


def restore(id: str, rev: Rev | None, body: bytes, attachments: tuple[NewAttachment, ...]) -> Incoming:
    """An edit of a stored document that leaves its content as it is."""
    return Incoming(id, rev, (rev,) if rev else (), False, body, json.loads(body), attachments)
