"""Transfers: listing, asking for, and steering them, here and on other machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice

from dmedia_transfer.errors import Unknown
from dmedia_transfer.model import Direction, Entry, Transfer, TransferKey, Verb, random_id
from dmedia_transfer.web.api import Api
from dmedia_transfer.web.board import in_order
from dmedia_transfer.web.facts import fact_of
from dmedia_transfer.web.leafmap import leaf_map
from dmedia_transfer.web.models import (
    Changed,
    LeafMap,
    Many,
    ManyChanged,
    NewDownloads,
    NewMetered,
    NewPlace,
    NewPriority,
    NewTransfers,
    OfMachine,
    Queued,
    Rates,
    Sample,
    SourceOut,
    Sources,
    SourceUseOut,
    TransferId,
    TransferOut,
    TransferPage,
    TransferQuery,
    key_of,
    transfer_id,
)
from dmedia_transfer.web.places import store_told
from dmedia_transfer.web.rates import INTERVAL_S, RateSample
from dmedia_transfer.web.routes import Route

TAG = "transfers"


async def list_transfers(api: Api, query: TransferQuery) -> TransferPage:
    """List transfers, a page at a time.

    A page of ten thousand transfers costs no more than one of ten. Then follow the events from `event_id` on: nothing
    is missed in between.
    """
    machine = await api.other_machine(query.machine)
    api.catch_up()
    event_id = api.stream.last_id
    if machine is None:
        transfers: Iterable[Transfer] = api.board.in_order(query.sort)
    else:
        told = await api.bridge.thread(api.edges.machine_queue(machine["_id"]).transfers)
        transfers, event_id = in_order(told, query.sort), ""
    wanted = [one for one in transfers if _is_wanted(one, query)]
    page = islice(wanted, query.offset, query.offset + query.limit)
    return TransferPage(items=await api.told(page), total=len(wanted), event_id=event_id)


def _is_wanted(transfer: Transfer, query: TransferQuery) -> bool:
    key = transfer.key
    return (
        (not query.status or transfer.status in query.status)
        and (query.action is None or key.direction is query.action)
        and (query.file_id is None or key.file_id == query.file_id)
        and (query.store_id is None or query.store_id in (key.store_id, transfer.preferred_store))
    )


async def queue_transfers(api: Api, query: OfMachine, body: NewTransfers) -> Queued:
    """Ask for transfers of one file or of many.

    What is asked for already is not asked for twice. It is kept before the answer is sent, and done as soon as it can
    be; another machine does it when it has synced.
    """
    asked, now = body.root, round(time.time(), 3)
    only_from = asked.only_from if isinstance(asked, NewDownloads) else ""
    entries = [
        Entry(
            file_id,
            Direction(asked.action),
            only_from or asked.store_id,
            id=random_id(),
            priority=asked.priority,
            paused=asked.paused,
            only=bool(only_from),
            metered=asked.metered,
            time=now,
            requested_by=asked.requested_by,
        )
        for file_id in dict.fromkeys(asked.file_ids)
    ]
    machine = await api.other_machine(query.machine)
    if machine is None:
        await api.main(api.edges.control.queue, entries)
    else:
        await api.bridge.thread(api.edges.machine_queue(machine["_id"]).ask, entries)
    return Queued(ids=[transfer_id(entry.key) for entry in entries])


async def show_transfer(api: Api, transfer: TransferId, query: OfMachine) -> TransferOut:
    """Show one transfer."""
    machine = await api.other_machine(query.machine)
    (told,) = await api.told([await _find(api, key_of(transfer), machine["_id"] if machine else "")])
    return told


async def _find(api: Api, key: TransferKey, machine_id: str) -> Transfer:
    if not machine_id:
        return await api.main(_look_up, api, key)
    queue = api.edges.machine_queue(machine_id)
    for one in await api.bridge.thread(queue.transfers):
        if one.key == key:
            return one
    raise Unknown(f"there is no {key} on this machine")


def _look_up(api: Api, key: TransferKey) -> Transfer:
    transfer = api.edges.control.transfers().get(key)
    if transfer is None:
        raise Unknown(f"there is no {key}")
    return transfer


async def pause_transfer(api: Api, transfer: TransferId, query: OfMachine) -> Changed:
    """Pause a transfer, until a person resumes it."""
    return await _steer(api, Verb.PAUSE, transfer, query)


async def resume_transfer(api: Api, transfer: TransferId, query: OfMachine) -> Changed:
    """Let a paused transfer go on."""
    return await _steer(api, Verb.RESUME, transfer, query)


async def cancel_transfer(api: Api, transfer: TransferId, query: OfMachine) -> Changed:
    """Give a transfer up; what has arrived of it is removed."""
    return await _steer(api, Verb.CANCEL, transfer, query)


async def retry_transfer(api: Api, transfer: TransferId, query: OfMachine) -> Changed:
    """Try a failed transfer again."""
    return await _steer(api, Verb.RETRY, transfer, query)


async def prioritize_transfer(api: Api, transfer: TransferId, query: OfMachine, body: NewPriority) -> Changed:
    """Do a transfer sooner or later."""
    return await _steer(api, Verb.PRIORITIZE, transfer, query, priority=body.priority)


async def let_transfer_cost(api: Api, transfer: TransferId, query: OfMachine, body: NewMetered) -> Changed:
    """Let a transfer go on over a connection that costs by the byte, or not any more."""
    return await _steer(api, Verb.SPEND if body.metered else Verb.SPARE, transfer, query)


async def _steer(api: Api, verb: Verb, transfer: str, query: OfMachine, *, priority: int = 0) -> Changed:
    key = key_of(transfer)
    machine = await api.other_machine(query.machine)
    if machine is None:
        return Changed(changed=await api.main(_say, api, verb, key, priority))
    await _find(api, key, machine["_id"])
    queue = api.edges.machine_queue(machine["_id"])
    return Changed(changed=key in await api.bridge.thread(queue.steer, verb, [key], priority=priority))


def _say(api: Api, verb: Verb, key: TransferKey, priority: int) -> bool:
    """On the manager's thread."""
    control = api.edges.control
    commands: dict[Verb, Callable[[TransferKey], bool]] = {
        Verb.PAUSE: control.pause,
        Verb.RESUME: control.resume,
        Verb.CANCEL: control.cancel,
        Verb.RETRY: control.retry,
        Verb.PRIORITIZE: lambda key: control.set_priority(key, priority),
        Verb.SPEND: lambda key: control.set_metered(key, True),
        Verb.SPARE: lambda key: control.set_metered(key, False),
    }
    return commands[verb](key)


async def steer_transfers(api: Api, query: OfMachine, body: Many) -> ManyChanged:
    """Say the same to many transfers."""
    verb = Verb(body.verb)
    keys = {key_of(each): each for each in body.ids}
    machine = await api.other_machine(query.machine)
    if machine is None:
        changed, unknown = await api.main(_say_to_all, api, verb, list(keys), body.priority)
    else:
        queue = api.edges.machine_queue(machine["_id"])
        there = {one.key for one in await api.bridge.thread(queue.transfers)}
        changed = await api.bridge.thread(
            queue.steer, verb, [key for key in keys if key in there], priority=body.priority
        )
        unknown = {key for key in keys if key not in there}
    return ManyChanged(
        changed=[text for key, text in keys.items() if key in changed],
        unknown=[text for key, text in keys.items() if key in unknown],
    )


async def move_transfers(api: Api, query: OfMachine, body: NewPlace) -> Changed:
    """Give transfers another place in the queue: just before another one, with its priority, or after all others.

    The order is that of transfers of one priority; whatever has a higher one goes first.
    """
    keys = list(dict.fromkeys(key_of(each) for each in body.ids))
    before = None if body.before is None else key_of(body.before)
    machine = await api.other_machine(query.machine)
    if machine is None:
        return Changed(changed=await api.main(api.edges.control.put_before, keys, before))
    queue = api.edges.machine_queue(machine["_id"])
    return Changed(changed=await api.bridge.thread(queue.put_before, keys, before))


def _say_to_all(
    api: Api, verb: Verb, keys: Iterable[TransferKey], priority: int
) -> tuple[set[TransferKey], set[TransferKey]]:
    """On the manager's thread."""
    changed: set[TransferKey] = set()
    unknown: set[TransferKey] = set()
    for key in keys:
        try:
            if _say(api, verb, key, priority):
                changed.add(key)
        except Unknown:
            unknown.add(key)
    return changed, unknown


async def show_sources(api: Api, transfer: TransferId) -> Sources:
    """Show where a transfer's file is, and which of these stores it is read from now."""
    found = await _find(api, key_of(transfer), "")
    raw = await api.bridge.thread(api.edges.documents.get, found.key.file_id)
    return Sources(items=await api.bridge.thread(_sources, api, found, raw))


def _sources(api: Api, transfer: Transfer, raw: object) -> list[SourceOut]:
    """In a thread: it looks at disks."""
    fact = fact_of(raw if isinstance(raw, dict) else None)
    stored = dict(fact.stored) if fact is not None else {}
    uses = {use.store_id: use for use in transfer.sources}
    for store_id in (*uses, transfer.preferred_store):
        if store_id:
            stored.setdefault(store_id, 0)
    known = {str(each["_id"]): each for each in api.edges.stores.known()}
    found = []
    for store_id, copies in stored.items():
        if not copies and store_id not in uses and store_id != transfer.preferred_store:
            continue
        told = store_told(api, store_id, known.get(store_id))
        found.append(
            SourceOut(
                store_id=store_id,
                name=told.name,
                plugin=told.plugin,
                local=told.local,
                copies=copies,
                use=SourceUseOut.of(uses[store_id]) if store_id in uses else None,
                usable=told.usable,
                problem=told.problem,
            )
        )
    return sorted(found, key=lambda one: (one.use is None, not one.usable, not one.local, one.name))


async def show_leaves(api: Api, transfer: TransferId) -> LeafMap:
    """Show which leaves of a transfer's file are there, on their way, missing, or were not what they should be."""
    key = key_of(transfer)
    found = await _find(api, key, "")
    pieces = await api.main(api.edges.control.pieces, key)
    return await api.bridge.thread(leaf_map, api, found, pieces)


async def show_rates(api: Api) -> Rates:
    """Show how fast it went in the last ten minutes, of all transfers together."""
    return _rates(api.rates.all())


async def show_transfer_rates(api: Api, transfer: TransferId) -> Rates:
    """Show how fast a transfer went in the last ten minutes."""
    return _rates(api.rates.of((await _find(api, key_of(transfer), "")).key))


def _rates(samples: Iterable[RateSample]) -> Rates:
    return Rates(interval_s=INTERVAL_S, samples=[Sample(**sample._asdict()) for sample in samples])


ROUTES = (
    Route("GET", "/transfers", list_transfers, TAG),
    Route("POST", "/transfers", queue_transfers, TAG, status=202),
    Route("POST", "/steer", steer_transfers, TAG),
    Route("POST", "/order", move_transfers, TAG),
    Route("GET", "/transfers/{transfer}", show_transfer, TAG),
    Route("POST", "/transfers/{transfer}/pause", pause_transfer, TAG),
    Route("POST", "/transfers/{transfer}/resume", resume_transfer, TAG),
    Route("POST", "/transfers/{transfer}/cancel", cancel_transfer, TAG),
    Route("POST", "/transfers/{transfer}/retry", retry_transfer, TAG),
    Route("POST", "/transfers/{transfer}/priority", prioritize_transfer, TAG),
    Route("POST", "/transfers/{transfer}/metered", let_transfer_cost, TAG),
    Route("GET", "/transfers/{transfer}/sources", show_sources, TAG),
    Route("GET", "/transfers/{transfer}/leaves", show_leaves, TAG),
    Route("GET", "/transfers/{transfer}/rates", show_transfer_rates, TAG),
    Route("GET", "/rates", show_rates, TAG),
)
