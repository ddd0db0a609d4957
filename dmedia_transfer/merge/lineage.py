"""Lineage: what the owning machine remembers of its queue, to tell a removal from what a revision never had.

A revision that lacks an entry has removed it only if it descends from one that had it. CouchDB says what a revision
descends from, but not what those revisions contained, and it forgets the oldest ones. So the owner remembers

- the *views*: the revisions that were in force here, numbered in the order in which they came into force. Each of
  them takes in all that the earlier ones knew, also across branches, since what is in force is always the merge of
  all branches. A revision that descends from view 7 therefore knows what views 1 to 7 knew.
- the *branches*: leaves that were merged, and the view that took each of them in. What they say is in there, also
  while they are not deleted yet.
- for each entry in force, the *appearances*: the first view that had it, and revisions of other branches that had it
  when they were merged.
- for entries without `id` that have left, the view from which on they were gone: they may be asked for again, and
  only a revision that knows of the removal does so. (Entries with an `id` never come back, they have tombstones.)

Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from dmedia_transfer.merge.identities import has_id


@dataclass(frozen=True, slots=True)
class News:
    """What one revision has added to the lineage; the journal keeps it."""

    revision: str
    number: int  # of the view that it became, or that took it in
    in_force: bool = True  # False: a revision of another branch, that was merged
    appeared: tuple[str, ...] = ()  # identities that were first seen in it
    departed: tuple[str, ...] = ()  # identities that were in force and are gone from it on


class Lineage:
    """The lineage of one machine's document."""

    def __init__(
        self,
        *,
        views: Mapping[str, int] | None = None,
        branches: Mapping[str, int] | None = None,
        appearances: Iterable[tuple[str, str]] = (),
        departures: Mapping[str, int] | None = None,
    ) -> None:
        """As the journal has kept it.

        Args:
            views: Revisions that were in force, and their numbers.
            branches: Revisions that were merged, and the numbers of the views that took them in.
            appearances: Identities of entries, and revisions in which they appeared.
            departures: Entries without `id` that have left, and the number of the view from which on they were gone.
        """
        self._views = dict(views or {})
        self._branches = dict(branches or {})
        self._last = max(self._views.values(), default=0)
        self._gone = dict(departures or {})
        self._since: dict[str, int] = {}  # in force: the number of the first view that had it
        self._elsewhere: dict[str, set[str]] = {}  # revisions of other branches that had it
        for identity, revision in appearances:
            number = self._views.get(revision)
            if number is None:
                self._elsewhere.setdefault(identity, set()).add(revision)
            else:
                self._since[identity] = min(number, self._since.get(identity, number))

    @property
    def in_force(self) -> Set[str]:
        """The identities in the newest view."""
        return self._since.keys()

    def number(self, revision: str) -> int | None:
        """The number of a view; None for a revision that was never in force."""
        return self._views.get(revision)

    def taken_in_at(self, revision: str) -> int | None:
        """The number of the view that took in a revision of another branch; None if none did."""
        return None if revision in self._views else self._branches.get(revision)

    def newest_view(self, of: Iterable[str]) -> tuple[int, str]:
        """The newest view among these revisions, as number and revision; (0, "") if none is."""
        return max(((self._views[each], each) for each in of if each in self._views), default=(0, ""))

    def had(self, identity: str, ancestry: Set[str], known: int) -> bool:
        """Whether a revision descends from one that had this entry; `known` is the number of its newest view."""
        since = self._since.get(identity)
        if since is not None and known >= since:
            return True
        elsewhere = self._elsewhere.get(identity)
        return elsewhere is not None and not elsewhere.isdisjoint(ancestry)

    def gone_at(self, identity: str) -> int | None:
        """The number of the view from which on an entry without `id` was gone; None if it is not."""
        return self._gone.get(identity)

    def takes_nothing_away(self, identities: Set[str]) -> bool:
        """Whether a queue with these has all that is in force, and nothing that had left."""
        return self._since.keys() <= identities and (
            not self._gone or self._gone.keys().isdisjoint(identities - self._since.keys())
        )

    def branch(self, revision: str, identities: Iterable[str], ancestry: Set[str]) -> News:
        """A leaf with these entries was merged; what came out of it is the next `view`."""
        self._branches[revision] = self._last + 1
        known, _ = self.newest_view(ancestry)
        appeared = tuple(sorted(each for each in set(identities) if not self.had(each, ancestry, known)))
        for each in appeared:
            self._elsewhere.setdefault(each, set()).add(revision)
        return News(revision, self._last + 1, in_force=False, appeared=appeared)

    def view(self, revision: str, identities: Collection[str]) -> News:
        """A revision with these entries has come into force."""
        self._last += 1
        self._views[revision] = self._last
        now = set(identities)
        departed = tuple(sorted(self._since.keys() - now))
        appeared = tuple(sorted(now - self._since.keys()))
        for each in departed:
            del self._since[each]
            self._elsewhere.pop(each, None)
            if not has_id(each):
                self._gone[each] = self._last
        for each in appeared:
            self._since[each] = self._last
            self._gone.pop(each, None)
        return News(revision, self._last, appeared=appeared, departed=departed)


def ancestry(raw: Mapping[str, Any]) -> frozenset[str]:
    """A revision and all that it descends from, as far as CouchDB still knows: `_rev` and `_revisions`."""
    own = raw.get("_rev")
    found = {own} if isinstance(own, str) else set()
    revisions = raw.get("_revisions")
    if isinstance(revisions, Mapping):
        start, ids = revisions.get("start"), revisions.get("ids")
        if isinstance(start, int) and isinstance(ids, list):
            found.update(f"{start - place}-{each}" for place, each in enumerate(ids) if start - place > 0)
    return frozenset(found)
