"""Hope: whether the sources may still give a leaf, and if not, which of their errors says best why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from dmedia_transfer.download.source import Standing
from dmedia_transfer.errors import CorruptLeaf, NoSource, SizeDisputed, TransferError, Waiting
from dmedia_transfer.model import TransferKey


def is_there(leaf: int, standings: Collection[Standing]) -> bool:
    """Whether a source may have this leaf right, now or after a rest."""
    can = [one for one in standings if leaf not in one.convicted]
    if any(one.up for one in can):
        return True
    return any(one.up for one in standings) and any(one.may_come_back for one in can)


def waiting(leaves: Sequence[int], standings: Collection[Standing]) -> list[Standing]:
    """The sources that have none of these leaves yet, and may get them."""
    return [
        one
        for one in standings
        if one.up and one.poll_in_s is not None and any(leaf not in one.convicted for leaf in leaves)
    ]


def verdict(key: TransferKey, leaf: int, standings: Collection[Standing]) -> TransferError:
    """Why no source gives this leaf: of all reasons the one that trying again helps most against."""
    nobody = NoSource(f"{key}: there is no store to fetch it from")
    return min(_reasons(leaf, standings), key=_hopelessness, default=nobody)


def _reasons(leaf: int, standings: Collection[Standing]) -> Iterator[TransferError]:
    for standing in standings:
        if standing.demotion is not None:
            yield standing.demotion
        elif leaf in standing.convicted:
            yield standing.convicted[leaf]
        elif standing.lacking is not None:
            yield standing.lacking


def _hopelessness(error: TransferError) -> int:
    if error.transient:
        return 0
    if isinstance(error, Waiting):
        return 1
    if isinstance(error, SizeDisputed):
        return 2
    return 3 if isinstance(error, CorruptLeaf) else 4
