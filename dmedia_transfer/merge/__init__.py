"""Queues that several devices write: edits of one, and one out of several revisions.

`apply` and its kin do edits; `merge_leaves` makes one document of all that CouchDB has kept in conflict; a `Lineage`
remembers what it takes to tell a removal from an entry that a revision never had. Pure: no I/O.
"""

from dmedia_transfer.merge.conflicts import Merged, merge_leaves
from dmedia_transfer.merge.edits import additions, apply, queue_edits, queue_in_force
from dmedia_transfer.merge.identities import identities_in
from dmedia_transfer.merge.leaf import unbelievable_keys
from dmedia_transfer.merge.lineage import Lineage, News, ancestry

__all__ = [
    "Lineage",
    "Merged",
    "News",
    "additions",
    "ancestry",
    "apply",
    "identities_in",
    "merge_leaves",
    "queue_edits",
    "queue_in_force",
    "unbelievable_keys",
]
