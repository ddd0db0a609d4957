"""What is stored stays consistent, whatever is edited, replicated, stemmed and compacted in whatever order."""

from __future__ import annotations

import base64
import json
import sqlite3
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dmedia_transfer.couch.embedded import attachments, databases, edits, incoming, reading
from dmedia_transfer.couch.embedded.problems import Problem
from dmedia_transfer.couch.embedded.reading import View
from dmedia_transfer.couch.embedded.revtree import Rev
from dmedia_transfer.couch.embedded.sqlite import Transaction, make_schema

IDS = st.sampled_from(["x", "y"])
DATA = st.sampled_from([None, b"", b"one", b"two"])
HASHES = st.sampled_from("abc")


def new_store() -> Transaction:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    make_schema(connection)
    transaction = Transaction(connection)
    databases.create(transaction, "db")
    return transaction


def document(n: int, data: bytes | None, *, deleted: bool = False, **special: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"n": n, "_deleted": deleted, **special}
    if data is not None:
        value["_attachments"] = {"leaves": {"content_type": "x/y", "data": base64.b64encode(data).decode()}}
    return value


class Store(RuleBasedStateMachine):
    """Two databases of one file, so that attachments are shared between them."""

    @initialize()
    def begin(self) -> None:
        self.transaction = new_store()
        databases.create(self.transaction, "other")
        self.count = 0

    def database(self, name: str = "db") -> databases.Database:
        self.transaction.finish()
        return databases.find(self.transaction.connection, name)

    @rule(id=IDS, n=st.integers(0, 3), data=DATA, deleted=st.booleans(), branch=st.integers(0, 3))
    def edit(self, id: str, n: int, data: bytes | None, deleted: bool, branch: int) -> None:
        """Edit one of the leaves, or make the document."""
        connection = self.transaction.connection
        special = {}
        try:
            leaves = reading.find(connection, self.database(), id).tree.leaves
            special["_rev"] = str(leaves[branch % len(leaves)])
        except Problem:
            pass
        edit = incoming.parse(document(n, data, deleted=deleted, **special), id=id)
        rev = edits.apply(self.transaction, self.database(), edit)
        stored = reading.find(connection, self.database(), id)
        assert rev in stored.tree.leaves
        found = json.loads(reading.render(connection, stored, reading.revision(connection, stored, rev), View()))
        assert found["n"] == n

    @rule(
        id=IDS, start=st.integers(1, 5), ids=st.lists(HASHES, min_size=1, max_size=4), data=DATA, deleted=st.booleans()
    )
    def replicate(self, id: str, start: int, ids: list[str], data: bytes | None, deleted: bool) -> None:
        """Take over a revision, twice: the second time nothing changes."""
        start = max(start, len(ids))
        history = {"start": start, "ids": ids}
        edit = incoming.parse(document(start, data, deleted=deleted, _revisions=history), id=id)
        edits.replicate(self.transaction, self.database(), edit)
        before = self.database().update_seq
        if (
            edit.ancestry[0] in reading.find(self.transaction.connection, self.database(), id).tree
        ):  # not stemmed at once
            edits.replicate(self.transaction, self.database(), edit)
            assert self.database().update_seq == before

    @rule(data=DATA)
    def edit_the_other_database(self, data: bytes | None) -> None:
        """Attach what others may have, too."""
        self.count += 1
        edits.apply(self.transaction, self.database("other"), incoming.parse(document(1, data), id=f"d{self.count}"))

    @rule()
    def compact(self) -> None:
        """Forget old bodies."""
        edits.compact(self.transaction, self.database())

    @rule(limit=st.integers(1, 6))
    def limit_revisions(self, limit: int) -> None:
        """Shorten histories from now on."""
        self.transaction.execute("UPDATE databases SET revs_limit = ? WHERE name = 'db'", limit)

    @rule()
    def recreate_the_other_database(self) -> None:
        """Delete a database with all that only it has."""
        databases.delete(self.transaction, "other")
        databases.create(self.transaction, "other")

    @invariant()
    def every_leaf_has_its_body(self) -> None:
        """Also all attachments can be read."""
        connection = self.transaction.connection
        for (id,) in connection.execute(
            "SELECT id FROM documents WHERE database = ?", (self.database().key,)
        ).fetchall():
            stored = reading.find(connection, self.database(), id)
            for leaf in stored.tree.leaves:
                found = reading.revision(connection, stored, leaf)
                reading.render(connection, stored, found, View(attachments=True, revs=True, conflicts=True))

    @invariant()
    def the_columns_say_what_the_tree_says(self) -> None:
        """Winner, deletion, and the counters of the database."""
        alive = gone = 0
        rows = self.transaction.execute(
            "SELECT id, winner, deleted FROM documents WHERE database = ?", self.database().key
        ).fetchall()
        for id, winner, deleted in rows:
            stored = reading.find(self.transaction.connection, self.database(), id)
            assert (winner, bool(deleted)) == (str(stored.tree.winner), stored.deleted)
            alive, gone = alive + (not deleted), gone + deleted
        assert (self.database().documents, self.database().deletions) == (alive, gone)

    @invariant()
    def nothing_is_kept_that_nobody_has(self) -> None:
        """Bodies belong to known revisions, bytes to attachments."""
        orphans = "SELECT count(*) FROM blobs WHERE NOT EXISTS (SELECT 1 FROM attachments WHERE blob = blobs.key)"
        assert self.transaction.execute(orphans).fetchone() == (0,)
        rows = self.transaction.execute(
            "SELECT id, rev FROM revisions JOIN documents ON documents.key = document WHERE database = ?",
            self.database().key,
        ).fetchall()
        for id, rev in rows:
            assert Rev.parse(rev) in reading.find(self.transaction.connection, self.database(), id).tree


TestStore = Store.TestCase


def test_bodies_of_old_revisions_are_few() -> None:
    transaction = new_store()
    rev: Rev | None = None
    for n in range(50):
        rev = edits.apply(
            transaction, databases.find(transaction.connection, "db"), incoming.parse({"n": n}, id="x", rev=rev)
        )
    (bodies,) = transaction.execute("SELECT count(*) FROM revisions").fetchone()
    assert bodies == edits.KEPT_BODIES + 1


def test_a_failed_row_of_a_bulk_leaves_nothing_behind() -> None:
    transaction = new_store()
    transaction.execute("BEGIN")
    broken = {"_attachments": {"a": {"data": "AAAA"}, "b": {"stub": True}}}
    rows = edits.apply_all(
        transaction,
        databases.find(transaction.connection, "db"),
        [(incoming.parse(broken, id="x"), None), (incoming.parse({}, id="y"), None)],
        new_edits=True,
    )
    assert [row.get("error") for row in rows] == ["missing_stub", None]
    assert transaction.execute("SELECT count(*) FROM blobs").fetchone() == (0,)
    transaction.finish()
    assert databases.find(transaction.connection, "db").documents == 1


def test_equal_bytes_are_stored_once() -> None:
    transaction = new_store()
    keys = {attachments.store(transaction, content)[0] for content in (b"same", b"same", b"other")}
    assert len(keys) == 2


def test_a_file_of_another_schema_is_refused() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA user_version = 99")
    with pytest.raises(sqlite3.DatabaseError, match="schema 99"):
        make_schema(connection)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("", 0), ("now", 7), ("3-{uuid}", 3), ("7-{uuid}", 7), ("8-{uuid}", 0), (f"3-{'f' * 32}", 0)],
)
def test_a_feed_goes_on_from_its_own_numbers_only(text: str, number: int) -> None:
    uuid = "0" * 32
    database = databases.Database(1, "db", uuid, update_seq=7, documents=0, deletions=0, revs_limit=1000)
    assert database.since(text.format(uuid=uuid)) == number
