"""Bytes that belong to revisions. Equal bytes are stored once, whatever documents they are attached to."""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dmedia_transfer.couch.embedded.incoming import Incoming, NewAttachment
from dmedia_transfer.couch.embedded.problems import missing_stub
from dmedia_transfer.couch.embedded.revtree import Rev
from dmedia_transfer.couch.embedded.sqlite import Transaction


@dataclass(frozen=True, slots=True)
class Attachment:
    """An attachment of a stored revision, without its bytes."""

    name: str
    content_type: str
    revpos: int  # the generation in which it came
    blob: int
    md5: bytes
    length: int

    @property
    def digest(self) -> str:
        """The digest as CouchDB writes it."""
        return "md5-" + base64.b64encode(self.md5).decode("ascii")

    def as_stub(self) -> dict[str, Any]:
        """What a document says of it."""
        return {
            "content_type": self.content_type,
            "revpos": self.revpos,
            "digest": self.digest,
            "length": self.length,
            "stub": True,
        }

    def as_following(self) -> dict[str, Any]:
        """What a document says of it when the bytes come in another part of the answer."""
        stub = self.as_stub()
        del stub["stub"]
        return {**stub, "follows": True}

    def as_inline(self, data: bytes) -> dict[str, Any]:
        """What a document says of it with its bytes."""
        return {
            "content_type": self.content_type,
            "revpos": self.revpos,
            "digest": self.digest,
            "data": base64.b64encode(data).decode("ascii"),
        }


def of_revision(connection: sqlite3.Connection, revision: int) -> list[Attachment]:
    """The attachments of a stored revision, by name."""
    rows = connection.execute(
        "SELECT name, content_type, revpos, blob, md5, length FROM attachments JOIN blobs ON blobs.key = blob"
        " WHERE revision = ? ORDER BY name",
        (revision,),
    )
    return [Attachment(*row) for row in rows]


def data(connection: sqlite3.Connection, blob: int, start: int = 0, stop: int | None = None) -> bytes:
    """The bytes of an attachment, or a range of them."""
    with connection.blobopen("blobs", "data", blob, readonly=True) as opened:
        opened.seek(start)
        return opened.read((len(opened) if stop is None else stop) - start)


def store(transaction: Transaction, content: bytes) -> tuple[int, bytes, int]:
    """Store bytes; the key, MD5 and length of the blob."""
    sha256 = hashlib.sha256(content).digest()
    row = transaction.execute("SELECT key, md5, length FROM blobs WHERE sha256 = ?", sha256).fetchone()
    if row is not None:
        key, md5, length = row
        return key, md5, length
    md5 = hashlib.md5(content, usedforsecurity=False).digest()
    key = transaction.execute(
        "INSERT INTO blobs (sha256, md5, length, data) VALUES (?, ?, ?, ?)", sha256, md5, len(content), content
    ).lastrowid
    assert key is not None  # noqa: S101 - an INSERT has a row
    return key, md5, len(content)


def resolve(
    transaction: Transaction, document: int | None, edit: Incoming, rev_pos: int, above: Iterable[Rev]
) -> list[Attachment]:
    """The attachments that a new revision has: new bytes are stored, stubs are looked up in what it descends from.

    Args:
        transaction: The write under way.
        document: The key of the stored document, if there is one.
        edit: What came.
        rev_pos: The generation of the new revision.
        above: The revisions that it descends from, newest first.

    Raises:
        Problem: 412, if a stub has nothing to stand for.
    """
    stubs = [new for new in edit.attachments if new.data is None]
    stored = _stored(transaction, document, above) if stubs and document is not None else []
    behind = {stub.name: _behind_stub(edit.id, stub, stored) for stub in stubs}  # a problem is told before any write
    return [
        behind[new.name] if new.data is None else _new(transaction, new, new.data, rev_pos) for new in edit.attachments
    ]


def _new(transaction: Transaction, new: NewAttachment, content: bytes, rev_pos: int) -> Attachment:
    blob, md5, length = store(transaction, content)
    return Attachment(new.name, new.content_type, min(new.revpos or rev_pos, rev_pos), blob, md5, length)


def _stored(transaction: Transaction, document: int, revs: Iterable[Rev]) -> list[dict[str, Attachment]]:
    """What is attached to these revisions, as far as they are stored."""
    rows = transaction.execute(
        "SELECT rev, name, content_type, revpos, blob, md5, length FROM revisions"
        " JOIN attachments ON attachments.revision = revisions.key JOIN blobs ON blobs.key = blob WHERE document = ?",
        document,
    )
    found: dict[str, dict[str, Attachment]] = {}
    for rev, *fields in rows:
        attachment = Attachment(*fields)
        found.setdefault(rev, {})[attachment.name] = attachment
    return [found[str(rev)] for rev in revs if str(rev) in found]


def _behind_stub(id: str, stub: NewAttachment, revisions: Iterable[dict[str, Attachment]]) -> Attachment:
    for attachments in revisions:
        attachment = attachments.get(stub.name)
        if attachment is not None and stub.digest in (None, attachment.digest):
            return attachment
    raise missing_stub(id, stub.name)


def attach(transaction: Transaction, revision: int, attachments: Iterable[Attachment]) -> None:
    """Record the attachments of a revision that was stored."""
    for one in attachments:
        transaction.execute(
            "INSERT INTO attachments (revision, name, content_type, revpos, blob) VALUES (?, ?, ?, ?, ?)",
            revision,
            one.name,
            one.content_type,
            one.revpos,
            one.blob,
        )
