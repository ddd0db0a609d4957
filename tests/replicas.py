"""One document in several databases that replicate: CouchDB's revision trees in a few lines, for tests of what merges.

As in CouchDB: revisions are named after their content and their parent; the winner is the longest branch that is not
deleted, then the greater hash; replication brings leaves with the names of their ancestors, but not their bodies; and
compaction forgets the bodies of all but the leaves.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dmedia_transfer.errors import Conflict
from dmedia_transfer.merge.leaf import rank_of

Raw = dict[str, Any]


@dataclass(slots=True)
class Revision:
    """A revision in a tree."""

    parent: str | None
    deleted: bool
    body: Raw | None  # None: not here, or compacted away


class Replica:
    """A database with one document; the `Revisions` that `OwnMachine` asks for."""

    def __init__(self, document_id: str) -> None:
        self.document_id = document_id
        self.tree: dict[str, Revision] = {}

    # What the owner's library asks for.

    def get(self, document_id: str, *, conflicts: bool = False) -> Raw | None:
        assert document_id == self.document_id
        if self.winner is None or self.tree[self.winner].deleted:
            return None
        others = [leaf for leaf in self.leaves()[1:] if not self.tree[leaf].deleted]
        return {**self._body(self.winner), **({"_conflicts": others} if conflicts and others else {})}

    def get_leaves(self, document_id: str) -> list[Raw]:
        return [self._with_revisions(leaf) for leaf in self.leaves() if not self.tree[leaf].deleted]

    def get_revision(self, document_id: str, revision: str) -> Raw | None:
        known = self.tree.get(revision)
        return None if known is None or known.body is None or known.deleted else self._with_revisions(revision)

    def put(self, raw: Mapping[str, Any]) -> str:
        parent = raw.get("_rev")
        if parent is None and self.winner is not None and self.tree[self.winner].deleted:
            parent = self.winner
        elif (parent is None and self.winner is not None) or (parent is not None and parent not in self.leaves()):
            raise Conflict("it has changed meanwhile")
        return self._add(parent, {key: value for key, value in raw.items() if key != "_rev"}, deleted=False)

    def delete_leaves(self, document_id: str, revisions: Iterable[str]) -> None:
        for revision in revisions:
            if revision in self.leaves() and not self.tree[revision].deleted:
                self._add(revision, {"_id": self.document_id}, deleted=True)

    # What happens to a database.

    def pull(self, other: Replica) -> None:
        """Replicate from another one."""
        for leaf in other.leaves():
            for place, revision in enumerate(other.ancestry(leaf)):
                theirs = other.tree[revision]
                ours = self.tree.setdefault(revision, Revision(theirs.parent, theirs.deleted, None))
                if place == 0 and ours.body is None:
                    ours.body = copy.deepcopy(theirs.body)

    def compact(self) -> None:
        """Forget the bodies of all but the leaves."""
        leaves = self.leaves()
        for revision, known in self.tree.items():
            if revision not in leaves:
                known.body = None

    def snapshot(self) -> dict[str, Revision]:
        """A backup, for `restore`."""
        return copy.deepcopy(self.tree)

    def restore(self, tree: Mapping[str, Revision]) -> None:
        """Be as the backup says, and nothing else."""
        self.tree = copy.deepcopy(dict(tree))

    # The tree.

    @property
    def winner(self) -> str | None:
        """The revision that is the document."""
        return next(iter(self.leaves()), None)

    def leaves(self) -> list[str]:
        """The leaves, the winner first."""
        parents = {known.parent for known in self.tree.values()}
        found = [revision for revision in self.tree if revision not in parents]
        return sorted(found, key=lambda each: (not self.tree[each].deleted, rank_of(each)), reverse=True)

    def ancestry(self, revision: str) -> list[str]:
        """A revision and its ancestors, newest first."""
        found = [revision]
        while (parent := self.tree[found[-1]].parent) is not None and parent in self.tree:
            found.append(parent)
        return found

    def _add(self, parent: str | None, body: Raw, *, deleted: bool) -> str:
        body = copy.deepcopy(body)
        generation = rank_of(parent)[0] + 1 if parent else 1
        text = json.dumps([parent, deleted, body], sort_keys=True)
        revision = f"{generation}-{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"
        self.tree.setdefault(revision, Revision(parent, deleted, body))
        return revision

    def _body(self, revision: str) -> Raw:
        body = self.tree[revision].body
        assert body is not None, f"{revision} has no body here"
        return {**copy.deepcopy(body), "_rev": revision}

    def _with_revisions(self, revision: str) -> Raw:
        ancestry = self.ancestry(revision)
        ids = [each.partition("-")[2] for each in ancestry]
        return {**self._body(revision), "_revisions": {"start": rank_of(revision)[0], "ids": ids}}
