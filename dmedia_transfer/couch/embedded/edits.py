"""How a document that came in changes what is stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dmedia_transfer.couch.embedded import attachments
from dmedia_transfer.couch.embedded.databases import Database, drop_revisions
from dmedia_transfer.couch.embedded.incoming import LOCAL, Incoming
from dmedia_transfer.couch.embedded.problems import Problem, bad_request, conflict, missing
from dmedia_transfer.couch.embedded.revtree import Rev, RevTree
from dmedia_transfer.couch.embedded.sqlite import Counts, Transaction

KEPT_BODIES = 8  # older bodies kept of a document until the database is compacted; CouchDB promises none at all


@dataclass(slots=True)
class _Stored:
    """A document as it is stored; empty if it is not."""

    key: int | None
    tree: RevTree
    deleted: bool
    winner: str = ""
    type: str | None = None  # of the winning revision


def apply(transaction: Transaction, database: Database, edit: Incoming) -> Rev:
    """Make an edit: `new_edits=true`. The new revision.

    Raises:
        Problem: 409, if the edit is not of a leaf; 412 for a stub with nothing behind it.
    """
    stored = _load(transaction, database, edit.id)
    parent = _parent(stored, edit)
    above = stored.tree.history(parent) if parent else []
    pos = parent.pos + 1 if parent else 1
    found = attachments.resolve(transaction, stored.key, edit, pos, above)
    rev = edit.revision_after(parent, [(one.name, one.content_type, one.digest) for one in found])
    tree = stored.tree.merge(RevTree.path([rev, *above[:1]], deleted=edit.deleted))
    _store(transaction, database, stored, edit, tree=tree, rev=rev, found=found)
    return rev


def replicate(transaction: Transaction, database: Database, edit: Incoming) -> Rev:
    """Take over a revision that was made elsewhere: `new_edits=false`. What is known already changes nothing.

    Raises:
        Problem: 400 without a revision; 412 for a stub with nothing behind it.
    """
    if not edit.ancestry:
        raise bad_request("A document needs a _rev when new_edits is false")
    rev, *above = edit.ancestry
    stored = _load(transaction, database, edit.id)
    merged = stored.tree.merge(RevTree.path(edit.ancestry, deleted=edit.deleted))
    tree = merged.stem(database.revs_limit)
    if stored.tree in (merged, tree):
        return rev
    found: list[attachments.Attachment] | None = None
    if rev not in stored.tree and rev in tree.leaves:
        found = attachments.resolve(transaction, stored.key, edit, rev.pos, above)
    _store(transaction, database, stored, edit, tree=merged, rev=rev, found=found)
    return rev


def apply_local(transaction: Transaction, database: Database, edit: Incoming, previous: object) -> str:
    """Write or delete a `_local/` document, which has no history and is not replicated; its new `_rev`.

    As in CouchDB nothing is compared: the last writer wins.
    """
    if edit.deleted:
        delete_local(transaction, database, edit.id)
        return "0-0"
    text = str(previous).removeprefix("0-") if previous is not None else "0"
    if not text.isdecimal() or len(text) > 15:
        raise bad_request("Invalid rev format")
    number = int(text) + 1
    transaction.execute(
        "INSERT INTO locals (database, id, rev, body) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET rev = excluded.rev, body = excluded.body",
        database.key,
        edit.id,
        number,
        edit.body,
    )
    return f"0-{number}"


def delete_local(transaction: Transaction, database: Database, id: str) -> None:
    """Delete a `_local/` document.

    Raises:
        Problem: 404.
    """
    if not transaction.execute("DELETE FROM locals WHERE database = ? AND id = ?", database.key, id).rowcount:
        raise missing()


def apply_all(
    transaction: Transaction, database: Database, edits: Sequence[tuple[Incoming, Any]], *, new_edits: bool
) -> list[dict[str, Any]]:
    """Make many edits; one that fails does not hinder the others. The rows of the answer.

    Args:
        transaction: The write under way.
        database: Where.
        edits: Each with the `_rev` that the document named.
        new_edits: Whether we make revisions, or take over those of others (then only failures have a row).
    """
    rows: list[dict[str, Any]] = []
    for edit, named_rev in edits:
        try:  # nothing is written before the last problem that there may be
            if edit.id.startswith(LOCAL):
                rev = apply_local(transaction, database, edit, named_rev)
            else:
                rev = str((apply if new_edits else replicate)(transaction, database, edit))
        except Problem as problem:
            rows.append({"id": edit.id, **({} if new_edits else {"rev": named_rev}), **problem.as_json()})
        else:
            if new_edits:
                rows.append({"ok": True, "id": edit.id, "rev": rev})
    return rows


def compact(transaction: Transaction, database: Database) -> None:
    """Forget the bodies of all revisions that are not leaves."""
    documents = transaction.execute("SELECT key, tree FROM documents WHERE database = ?", database.key).fetchall()
    for document, tree in documents:
        _prune(transaction, document, RevTree.loads(tree), keep=0)


def _load(transaction: Transaction, database: Database, id: str) -> _Stored:
    row = transaction.execute(
        "SELECT key, tree, deleted, winner, type FROM documents WHERE database = ? AND id = ?", database.key, id
    ).fetchone()
    if row is None:
        return _Stored(None, RevTree(), False)
    return _Stored(row[0], RevTree.loads(row[1]), bool(row[2]), row[3], row[4])


def _parent(stored: _Stored, edit: Incoming) -> Rev | None:
    """The leaf that an edit is of; None for a new document."""
    if edit.rev is not None:
        if edit.rev not in stored.tree.leaves:
            raise conflict()
        return edit.rev
    if stored.key is None:
        return None
    if not stored.deleted:
        raise conflict()
    return stored.tree.winner  # a deleted document is made anew on top of its deletion


def _store(
    transaction: Transaction,
    database: Database,
    stored: _Stored,
    edit: Incoming,
    *,
    tree: RevTree,
    rev: Rev,
    found: list[attachments.Attachment] | None,
) -> None:
    """Write the tree, and the body if `found` is given, and count the change."""
    kept = tree.stem(database.revs_limit)
    winner = kept.winner
    deleted = kept.is_deleted(winner)
    is_new = winner == rev and found is not None
    kind = edit.content.get("type") if is_new else _type_of(transaction, stored, winner)
    kind = kind if isinstance(kind, str) else None
    counts = transaction.counts.setdefault(
        database.key, Counts(database.update_seq, database.documents, database.deletions)
    )
    counts.update_seq += 1
    counts.documents += (not deleted) - (stored.key is not None and not stored.deleted)
    counts.deletions += deleted - (stored.key is not None and stored.deleted)
    row = (counts.update_seq, str(winner), int(deleted), kept.dumps())
    document = stored.key
    if document is None:
        document = transaction.execute(
            "INSERT INTO documents (seq, winner, deleted, tree, database, id, type) VALUES (?, ?, ?, ?, ?, ?, ?)",
            *row,
            database.key,
            edit.id,
            kind,
        ).lastrowid
        assert document is not None  # noqa: S101 - an INSERT has a row
    else:
        transaction.execute(
            "UPDATE documents SET seq = ?, winner = ?, deleted = ?, tree = ? WHERE key = ?", *row, document
        )
        if kind != stored.type:  # it has an index, which would be written each time
            transaction.execute("UPDATE documents SET type = ? WHERE key = ?", kind, document)
    if found is not None:
        revision = transaction.execute(
            "INSERT INTO revisions (document, rev, body) VALUES (?, ?, ?)", document, str(rev), edit.body
        ).lastrowid
        assert revision is not None  # noqa: S101 - an INSERT has a row
        attachments.attach(transaction, revision, found)
    if kept is not tree or len(kept) - len(kept.leaves) > KEPT_BODIES:  # else there cannot be too many
        _prune(transaction, document, kept, keep=KEPT_BODIES)


def _type_of(transaction: Transaction, stored: _Stored, winner: Rev) -> Any:
    """The `type` of a revision that is stored already; None if its body is forgotten."""
    if str(winner) == stored.winner:
        return stored.type
    row = transaction.execute(
        "SELECT body FROM revisions WHERE document = ? AND rev = ?", stored.key, str(winner)
    ).fetchone()
    return json.loads(row[0]).get("type") if row else None


def _prune(transaction: Transaction, document: int, tree: RevTree, *, keep: int) -> None:
    """Forget the bodies of revisions that are not leaves, but for the newest few that the tree still knows."""
    rows = transaction.execute("SELECT key, rev FROM revisions WHERE document = ? ORDER BY key DESC", document)
    inner = {Rev.parse(rev): key for key, rev in rows.fetchall()}
    for leaf in tree.leaves:
        inner.pop(leaf, None)
    known = [rev for rev in inner if rev in tree]
    for rev in known[:keep]:
        del inner[rev]
    drop_revisions(transaction, inner.values())
