"""From a transfer that may start to the job for a worker: where from, where to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from dmedia_transfer.errors import AccessDenied, FileMissing, NoSource, TransferError, Unknown, Waiting
from dmedia_transfer.manager.allowing import Refuses
from dmedia_transfer.model import Direction, Discard, Download, StoreSpec, Transfer, TransferKey, Upload
from dmedia_transfer.ports import KnownFile, Stores, Survey
from dmedia_transfer.states import Reason

MOST_SOURCES: Final = 8  # that one download is given; more would only cost connections


@dataclass(frozen=True, slots=True)
class Pace:
    """What each job is told of how to move bytes."""

    connections: int  # leaves or parts at once
    stall_s: float  # no byte for so long cuts a connection


def download(transfer: Transfer, known: KnownFile, stores: Survey, pace: Pace, refuses: Refuses) -> Download:
    """The job that fetches a file.

    Raises:
        StoreMissing, DiskFull: There is no FileStore to save to.
        NoSource: No store that has the file can be used from here; the message says of each why not.
        Offline, Metered: One could be used, but not with the connection that there is now.
    """
    file = known.file
    destination = stores.destination(file.file_id, file.size)
    return Download(
        key=transfer.key,
        file=file,
        destination=destination,
        sources=sources(transfer, known, stores, destination, refuses),
        connections=pace.connections,
        stall_s=pace.stall_s,
    )


def upload(transfer: Transfer, known: KnownFile, stores: Survey, pace: Pace, refuses: Refuses) -> Upload | Download:
    """The job that sends a file; to another FileStore of this machine it is copied, as a download is.

    Raises:
        FileMissing: No FileStore of this machine has the file.
        Unknown, AccessDenied, InvalidDocument: The store cannot be used from here.
        Offline, Metered: It could be, but not with the connection that there is now.
    """
    holding = stores.holding(known.file.file_id)
    if not holding:
        raise FileMissing(f"file {known.file.file_id} is in no FileStore of this machine")
    destination = stores.spec(transfer.key.store_id)
    if (refusal := refuses(destination)) is not None:
        raise refusal
    if destination.local:
        others = tuple(store for store in holding if store.store_id != destination.store_id)
        return Download(
            key=transfer.key,
            file=known.file,
            destination=destination,
            sources=others or (destination,),  # it is there already, as the worker will find
            connections=pace.connections,
            stall_s=pace.stall_s,
        )
    return Upload(
        key=transfer.key,
        file=known.file,
        source=holding[0],
        destination=destination,
        connections=pace.connections,
        stall_s=pace.stall_s,
        replaces=destination.store_id in known.corrupt,
    )


def discard(key: TransferKey, known: KnownFile | None, stores: Stores) -> Discard | None:
    """The job that removes what an unfinished transfer left, if it can have left something."""
    try:
        store = stores.partial(key.file_id) if key.direction is Direction.DOWNLOAD else stores.spec(key.store_id)
    except TransferError:
        return None  # the store cannot be used now; the sweep comes back to what the journal still has
    return Discard(key, known.file if known else None, store) if store else None


def has_moved(store: StoreSpec, now: StoreSpec) -> bool:
    """Whether another machine that a job speaks to is at none of its addresses any more."""
    before, after = (set(each.settings.get("addresses", ())) for each in (store, now))
    return bool(before and after) and not before & after


def keeping_current(job: Discard) -> Discard:
    """The same, for what earlier uploads of a transfer have left that is still wanted."""
    return replace(job, keep_current=True)


def sources(
    transfer: Transfer, known: KnownFile, stores: Survey, destination: StoreSpec, refuses: Refuses
) -> tuple[StoreSpec, ...]:
    """The stores to read from: the preferred one first, then the cheapest; the preferred one at no higher cost.

    Raises:
        NoSource: There is none that can be used; the message says of each why not.
        Offline, Metered: There is one, but not with the connection that there is now.
    """
    having = [store_id for store_id, copies in known.stored.items() if copies > 0]
    if transfer.preferred_store and transfer.preferred_store not in having:
        having.insert(0, transfer.preferred_store)  # the document may not have heard of it yet
    if transfer.only:
        having = [transfer.preferred_store]
    usable: list[StoreSpec] = []
    refused: list[str] = []
    later: Waiting | None = None  # why one that could be used cannot be now
    for store_id in having:
        if store_id == destination.store_id:
            continue
        try:
            store = stores.spec(store_id)
        except TransferError as error:
            refused.append(f"{store_id}: {error}")
            continue
        refusal = refuses(store)
        if refusal is None:
            usable.append(store)
        else:
            later = later or refusal
    if not usable and later is not None:
        raise later
    if not usable:
        why = "; ".join(refused) if refused else "no store is known to have it"
        raise NoSource(f"file {known.file.file_id} has no source: {why}")
    least = min(store.cost for store in usable)
    ordered = sorted(usable, key=lambda store: (store.store_id != transfer.preferred_store, store.cost, store.store_id))
    return tuple(
        replace(store, cost=least) if store.store_id == transfer.preferred_store else store
        for store in ordered[:MOST_SOURCES]
    )


def waits_for(error: TransferError) -> Reason | None:
    """The reason for which a transfer waits that cannot be planned now, or None if it fails.

    A store that is not known or not enabled yet may be so in a minute, by a document or by a person; a file that is to
    be uploaded may be on its way here.
    """
    if error.reason is not None:
        return Reason(error.reason)
    if isinstance(error, FileMissing):
        return Reason.NO_SOURCE
    if isinstance(error, Unknown | AccessDenied):
        return Reason.STORE_MISSING
    return None
