"""Revision trees: which revision of a document descends from which, and which one wins.

A tree is a set of nodes, each with the parents that somebody named for it. Merging is the union of the nodes and of
their parents, so it does not matter in which order, how often, or in which grouping revisions arrive. Nothing here
knows what a revision contains.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

_REV = re.compile(r"([1-9][0-9]{0,14})-([!#-~]{1,128})", re.ASCII)


class Rev(NamedTuple):
    """The name of a revision; greater names win over smaller ones."""

    pos: int  # generation: 1 for the first revision of a document
    id: str  # a hash, usually 32 hexadecimal digits

    @classmethod
    def parse(cls, text: object) -> Rev:
        """Read `3-c0ffee`.

        Raises:
            ValueError: It is not the name of a revision.
        """
        match = _REV.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"{text!r} is not the name of a revision")
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.pos}-{self.id}"


class Node(NamedTuple):
    """What a tree knows of one revision."""

    parents: frozenset[str] = frozenset()  # hashes one generation below: none for a root, and hardly ever several
    deleted: bool = False

    def merge(self, other: Node) -> Node:
        """What both know."""
        return Node(self.parents | other.parents, self.deleted or other.deleted)


class RevTree:
    """An immutable revision tree."""

    __slots__ = ("_leaves", "_nodes")

    def __init__(self, nodes: Mapping[Rev, Node] | None = None) -> None:
        self._nodes: Mapping[Rev, Node] = nodes or {}
        self._leaves: tuple[Rev, ...] | None = None

    @classmethod
    def path(cls, revs: Sequence[Rev], *, deleted: bool = False) -> RevTree:
        """A tree of one branch: `revs` from the newest down, each one generation below the last."""
        nodes = {}
        for index, rev in enumerate(revs):
            parents = frozenset({revs[index + 1].id}) if index + 1 < len(revs) else frozenset[str]()
            nodes[rev] = Node(parents, deleted and index == 0)
        return cls(nodes)

    @classmethod
    def loads(cls, text: str) -> RevTree:
        """The tree that `dumps` wrote."""
        nodes = {}
        for pos, ids, deleted, parents in json.loads(text):
            last = len(ids) - 1
            for index, id in enumerate(ids):
                above = frozenset(parents) if index == last else frozenset((ids[index + 1],))
                nodes[Rev(pos - index, id)] = Node(above, index in deleted)
        return cls(nodes)

    def dumps(self) -> str:
        """The tree as text: a list of branches, each with the generation and hashes from its tip down, the indexes of
        those that are deleted, and the parents of its last.
        """
        rows = []
        done: set[Rev] = set()
        for tip in sorted(self._nodes, reverse=True):
            if tip in done:
                continue
            ids: list[str] = []
            deleted: list[int] = []
            rev = tip
            while True:
                done.add(rev)
                node = self._nodes[rev]
                if node.deleted:
                    deleted.append(len(ids))
                ids.append(rev.id)
                if len(node.parents) != 1:
                    break
                (parent,) = node.parents
                above = Rev(rev.pos - 1, parent)
                if above in done or above not in self._nodes:
                    break
                rev = above
            rows.append([tip.pos, ids, deleted, sorted(node.parents)])
        return json.dumps(rows, separators=(",", ":"))

    def __contains__(self, rev: Rev) -> bool:
        return rev in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __eq__(self, other: object) -> bool:
        return self._nodes == other._nodes if isinstance(other, RevTree) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self._nodes.items()))

    def __repr__(self) -> str:
        return f"RevTree.loads({self.dumps()!r})"

    def __iter__(self) -> Iterator[Rev]:
        return iter(self._nodes)

    def is_deleted(self, rev: Rev) -> bool:
        """Whether this revision deletes the document (or its branch of it)."""
        return self._nodes[rev].deleted

    def merge(self, other: RevTree) -> RevTree:
        """All that both trees know."""
        nodes = dict(self._nodes)
        for rev, node in other._nodes.items():
            known = nodes.get(rev)
            nodes[rev] = node if known is None else known.merge(node)
        return RevTree(nodes)

    @property
    def leaves(self) -> tuple[Rev, ...]:
        """The revisions that nobody descends from, the winner first, in the order in which they would win.

        As in CouchDB: one that is not deleted before one that is, then the longer history, then the greater hash.
        """
        if self._leaves is None:
            inner = {Rev(rev.pos - 1, parent) for rev, node in self._nodes.items() for parent in node.parents}
            found = (rev for rev in self._nodes if rev not in inner)
            self._leaves = tuple(sorted(found, key=lambda rev: (not self._nodes[rev].deleted, rev), reverse=True))
        return self._leaves

    @property
    def winner(self) -> Rev:
        """The revision that is the document, for who does not ask for another. The tree must not be empty."""
        return self.leaves[0]

    def history(self, rev: Rev) -> list[Rev]:
        """`rev` and what it descends from, newest first."""
        found = [rev]
        while parents := self._nodes[rev].parents:
            rev = Rev(rev.pos - 1, max(parents))
            if rev not in self._nodes:
                break
            found.append(rev)
        return found

    def ancestors(self, rev: Rev) -> set[Rev]:
        """All that `rev` descends from."""
        found: set[Rev] = set()
        todo = [rev]
        while todo:
            at = todo.pop()
            above = {Rev(at.pos - 1, parent) for parent in self._nodes[at].parents}
            new = {one for one in above if one in self._nodes} - found
            found |= new
            todo.extend(new)
        return found

    def latest(self, rev: Rev) -> list[Rev]:
        """The leaves that descend from `rev`, or are it."""
        return [leaf for leaf in self.leaves if leaf == rev or rev in self.ancestors(leaf)]

    def missing(self, revs: Iterable[Rev]) -> list[Rev]:
        """Those that are not in the tree."""
        return [rev for rev in revs if rev not in self._nodes]

    def stem(self, limit: int) -> RevTree:
        """The tree without what is `limit` or more generations above every leaf that descends from it.

        The oldest that are left still name their parents: one that arrives again is then known to be no leaf.
        """
        if len(self._nodes) <= limit:
            return self
        distance = dict.fromkeys(self.leaves, 0)
        dropped = set()
        for rev in sorted(self._nodes, reverse=True):
            below = distance.get(rev, limit)
            if below >= limit:
                dropped.add(rev)
            for parent in self._nodes[rev].parents:
                above = Rev(rev.pos - 1, parent)
                if distance.get(above, limit) > below:
                    distance[above] = below + 1
        if not dropped:
            return self
        return RevTree({rev: node for rev, node in self._nodes.items() if rev not in dropped})
