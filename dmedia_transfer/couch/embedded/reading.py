"""Documents that go out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dmedia_transfer.couch.embedded import attachments
from dmedia_transfer.couch.embedded.attachments import Attachment
from dmedia_transfer.couch.embedded.databases import Database
from dmedia_transfer.couch.embedded.jsontext import splice
from dmedia_transfer.couch.embedded.problems import missing
from dmedia_transfer.couch.embedded.revtree import Rev, RevTree


@dataclass(frozen=True, slots=True)
class View:
    """What a client wants to be told of a document."""

    revs: bool = False
    revs_info: bool = False
    conflicts: bool = False
    deleted_conflicts: bool = False
    local_seq: bool = False
    attachments: bool = False  # with their bytes
    follows: bool = False  # the bytes come in other parts of the answer
    atts_since: tuple[Rev, ...] | None = None  # only the bytes that came after these

    @property
    def plain(self) -> bool:
        """Whether it is the document alone, so that its revision names the whole answer."""
        return self == View()


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document: all its revisions, no body."""

    key: int
    id: str
    seq: int
    tree: RevTree

    @property
    def deleted(self) -> bool:
        """Whether all its branches are deleted."""
        return self.tree.is_deleted(self.tree.winner)


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision whose body is stored."""

    key: int
    rev: Rev
    deleted: bool
    body: bytes  # a JSON object without special members


def find(connection: sqlite3.Connection, database: Database, id: str) -> Document:
    """The document of this ID, which may be deleted.

    Raises:
        Problem: 404.
    """
    row = connection.execute(
        "SELECT key, id, seq, tree FROM documents WHERE database = ? AND id = ?", (database.key, id)
    ).fetchone()
    if row is None:
        raise missing()
    return Document(row[0], row[1], row[2], RevTree.loads(row[3]))


def revision(connection: sqlite3.Connection, document: Document, rev: Rev) -> Revision:
    """A revision with its body.

    Raises:
        Problem: 404, if there is none, or its body is forgotten.
    """
    row = connection.execute(
        "SELECT key, body FROM revisions WHERE document = ? AND rev = ?", (document.key, str(rev))
    ).fetchone()
    if row is None or rev not in document.tree:
        raise missing()
    return Revision(row[0], rev, document.tree.is_deleted(rev), row[1])


def current(connection: sqlite3.Connection, document: Document) -> Revision:
    """The winning revision.

    Raises:
        Problem: 404, if the document is deleted.
    """
    if document.deleted:
        raise missing("deleted")
    return revision(connection, document, document.tree.winner)


def open_revs(
    connection: sqlite3.Connection, document: Document, revs: Sequence[Rev] | None, *, latest: bool
) -> Iterator[Revision | Rev]:
    """The leaves (`None`), or the revisions asked for; just the name of one that we do not have."""
    tree = document.tree
    if revs is None:
        wanted = sorted(tree.leaves)
    elif latest:
        wanted = list(dict.fromkeys(found for rev in revs for found in (tree.latest(rev) if rev in tree else [rev])))
    else:
        wanted = list(revs)
    for rev in wanted:
        row = connection.execute(
            "SELECT key, body FROM revisions WHERE document = ? AND rev = ?", (document.key, str(rev))
        ).fetchone()
        yield rev if row is None or rev not in tree else Revision(row[0], rev, tree.is_deleted(rev), row[1])


def sent_attachments(
    connection: sqlite3.Connection, document: Document, found: Revision, view: View
) -> list[Attachment]:
    """The attachments whose bytes a client wants."""
    return _sent(attachments.of_revision(connection, found.key), document, found, view)


def _sent(everything: list[Attachment], document: Document, found: Revision, view: View) -> list[Attachment]:
    if not view.attachments:
        return []
    if view.atts_since is None:
        return everything
    known = max((rev.pos for rev in document.tree.history(found.rev) if rev in view.atts_since), default=0)
    return [one for one in everything if one.revpos > known]


def render(connection: sqlite3.Connection, document: Document, found: Revision, view: View) -> bytes:
    """A revision as JSON."""
    tree = document.tree
    head: dict[str, Any] = {"_id": document.id, "_rev": str(found.rev)}
    if found.deleted:
        head["_deleted"] = True
    tail: dict[str, Any] = {}
    if stored := attachments.of_revision(connection, found.key):
        full = {one.name for one in _sent(stored, document, found, view)}
        tail["_attachments"] = {one.name: _attachment(connection, one, view, one.name in full) for one in stored}
    if view.revs:
        history = tree.history(found.rev)
        tail["_revisions"] = {"start": found.rev.pos, "ids": [rev.id for rev in history]}
    if view.revs_info:
        tail["_revs_info"] = _revs_info(connection, document, found.rev)
    if view.conflicts:
        others = [str(leaf) for leaf in tree.leaves if leaf != found.rev and not tree.is_deleted(leaf)]
        if others:
            tail["_conflicts"] = others
    if view.deleted_conflicts:
        others = [str(leaf) for leaf in tree.leaves if leaf != found.rev and tree.is_deleted(leaf)]
        if others:
            tail["_deleted_conflicts"] = others
    if view.local_seq:
        tail["_local_seq"] = document.seq
    return splice(head, found.body, tail)


def render_current(connection: sqlite3.Connection, document: Document, view: View) -> bytes:
    """The winning revision as JSON, also if it is a deletion."""
    return render(connection, document, revision(connection, document, document.tree.winner), view)


def without_bytes(view: View) -> View:
    """The same view with stubs only."""
    return replace(view, attachments=False, follows=False, atts_since=None)


def _attachment(connection: sqlite3.Connection, one: Attachment, view: View, full: bool) -> dict[str, Any]:
    if not full:
        return one.as_stub()
    if view.follows:
        return one.as_following()
    return one.as_inline(attachments.data(connection, one.blob))


def _revs_info(connection: sqlite3.Connection, document: Document, rev: Rev) -> list[dict[str, str]]:
    stored = {row for (row,) in connection.execute("SELECT rev FROM revisions WHERE document = ?", (document.key,))}

    def status(one: Rev) -> str:
        if document.tree.is_deleted(one):
            return "deleted"
        return "available" if str(one) in stored else "missing"

    return [{"rev": str(one), "status": status(one)} for one in document.tree.history(rev)]
