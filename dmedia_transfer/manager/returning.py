"""Returning: which transfers lost their connection and need not wait any longer, now that there is another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from dmedia_transfer.errors import TransferError
from dmedia_transfer.manager.board import Board
from dmedia_transfer.manager.item import Item
from dmedia_transfer.model import Direction
from dmedia_transfer.ports import Stores
from dmedia_transfer.states import Reason

LOST: Final = frozenset({"ConnectionLost", "Stalled"})  # failures that another connection may mend


def lost(board: Board, stores: Stores, machine_id: str = "") -> Iterator[Item]:
    """Those that wait for their next attempt since they lost a connection; only of this machine, if one is named."""
    for item in board:
        failure = item.transfer.failure
        if item.transfer.reason is not Reason.BACKOFF or failure is None or failure.kind not in LOST:
            continue
        if not machine_id or _speaks_to(item, machine_id, stores):
            yield item


def _speaks_to(item: Item, machine_id: str, stores: Stores) -> bool:
    """Whether another machine has the store of an upload, or one that a download can read from."""
    transfer = item.transfer
    places = {transfer.key.store_id, transfer.preferred_store} - {""}
    if transfer.key.direction is Direction.DOWNLOAD and item.known is not None:
        places |= {store_id for store_id, copies in item.known.stored.items() if copies > 0}
    for store_id in places:
        with contextlib.suppress(TransferError):
            if stores.spec(store_id).settings.get("machine_id") == machine_id:
                return True
    return False
