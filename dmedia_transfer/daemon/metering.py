"""Metering: what the metrics tell of the daemon's own parts, when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dmedia_transfer.manager import TransferManager
from dmedia_transfer.ports import Vitals
from dmedia_transfer.workers.pool import WorkerPool

SYNC: Final = "sync"  # followed by the URL, in the sources of problems


def vitals_of(
    manager: TransferManager, pool: WorkerPool, *, peers: Callable[[], int], syncs: bool
) -> Callable[[], Vitals]:
    """A function for the manager's thread, which blocks as little as it does.

    Args:
        manager: Is told of problems by all parts.
        pool: The workers.
        peers: How many other machines are trusted.
        syncs: Whether the database is kept equal with others.
    """

    def look() -> Vitals:
        troubled = manager.troubled()
        parts = {"database": "database" not in troubled, "feed": "feed" not in troubled}
        if syncs:
            parts[SYNC] = not any(source.startswith(f"{SYNC} ") for source in troubled)
        return Vitals(
            parts=parts, workers=len(pool.pids), peers=peers(), traffic=manager.traffic(), served=manager.served()
        )

    return look
