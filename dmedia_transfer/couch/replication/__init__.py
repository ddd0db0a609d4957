"""Sync: the local database is kept equal with others, both ways, for as long as the daemon lives.

The daemon makes one `Replication`. Apache CouchDB replicates by itself if we may ask it to; for the built-in
server, and where we may not, this program has a replicator of its own.

    replication  all of it, as the daemon has it
    scheduled    what Apache CouchDB does for us
    pair         what we do ourselves: both directions of one database
    replicator   one direction
    peer         one database, as a replicator sees it
    history      replication logs                                  (pure)
"""

from dmedia_transfer.couch.replication.replication import Replication, Target, targets_of

__all__ = ["Replication", "Target", "targets_of"]
