"""The map of a transfer's leaves: there, on their way, missing, or wrong. For threads: it looks at disks."""

from __future__ import annotations

from typing import Final

from dmedia_transfer import leaves
from dmedia_transfer.errors import TransferError
from dmedia_transfer.model import Direction, Transfer
from dmedia_transfer.ports import Pieces
from dmedia_transfer.states import Status
from dmedia_transfer.web.api import Api
from dmedia_transfer.web.models import LeafMap

MISSING, THERE, IN_FLIGHT, WRONG = ".", "#", ">", "!"
MOST_LEAVES: Final = 1_000_000  # 8 TB


def leaf_map(api: Api, transfer: Transfer, pieces: Pieces) -> LeafMap:
    """What is where."""
    size = transfer.progress.bytes_total
    count = min(leaves.leaf_count(size), MOST_LEAVES) if size else 0
    states = [THERE if transfer.status is Status.DONE else MISSING] * count
    width = 1
    if count and transfer.status is not Status.DONE:
        if transfer.key.direction is Direction.DOWNLOAD:
            _mark(states, _downloaded(api, transfer), THERE)
        else:
            width, parts = _uploaded(api, transfer)
            _mark_parts(states, parts, width, THERE)
    if transfer.key.direction is Direction.DOWNLOAD:
        _mark(states, set(pieces.in_flight), IN_FLIGHT)
        blamed = transfer.failure.leaf if transfer.failure is not None else None
        _mark(states, {*pieces.wrong, *([] if blamed is None else [blamed])}, WRONG)
    else:
        _mark_parts(states, set(pieces.in_flight), width, IN_FLIGHT)
    text = "".join(states)
    return LeafMap(
        leaf_bytes=leaves.LEAF_BYTES,
        count=count,
        states=text,
        there=text.count(THERE),
        in_flight=text.count(IN_FLIGHT),
        wrong=text.count(WRONG),
    )


def _mark(states: list[str], indexes: set[int], mark: str) -> None:
    for index in indexes:
        if 0 <= index < len(states):
            states[index] = mark


def _mark_parts(states: list[str], parts: set[int], width: int, mark: str) -> None:
    """Parts count from 1, and each has so many leaves; one of a small file that goes as a whole counts from 0."""
    for part in parts:
        start = max(0, part - 1) * width
        _mark(states, set(range(start, start + width)), mark)


def _downloaded(api: Api, transfer: Transfer) -> set[int]:
    """The leaves that are in a partial file, as the journal has them."""
    try:
        spec = api.edges.filestores.partial(transfer.key.file_id)
        if spec is None:
            return set()
        with api.edges.filestores.get(spec.store_id).glimpse(transfer.key.file_id) as glimpse:
            return api.edges.receiver.records.load(transfer.key, spec.store_id, glimpse.identity)
    except TransferError:
        return set()


def _uploaded(api: Api, transfer: Transfer) -> tuple[int, set[int]]:
    """How many leaves a part has, and the parts that the server has confirmed."""
    record = api.edges.uploads.load(transfer.key)
    if record is None:
        return 1, set()
    return record.part_leaves, {part.number for part in api.edges.uploads.parts(transfer.key)}
