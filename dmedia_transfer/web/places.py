"""Places: the machines of the library, the stores, and the files in them."""

from __future__ import annotations

from typing import Any

from dmedia_transfer import documents, statusdoc
from dmedia_transfer.advice import what_to_do
from dmedia_transfer.errors import InvalidDocument, TransferError, Unknown
from dmedia_transfer.model import Direction
from dmedia_transfer.states import Status
from dmedia_transfer.web.answers import hostname
from dmedia_transfer.web.api import Api
from dmedia_transfer.web.edges import Raw
from dmedia_transfer.web.facts import fact_of
from dmedia_transfer.web.models import (
    FileId,
    FileOut,
    FileQuery,
    Files,
    MachineOut,
    Machines,
    StoreOut,
    Stores,
)
from dmedia_transfer.web.routes import Route

TAG = "places"


async def list_machines(api: Api) -> Machines:
    """List the machines of the library: what each one does, and when it was last heard of."""
    return Machines(items=await api.bridge.thread(_machines, api))


def _machines(api: Api) -> list[MachineOut]:
    machines = [raw for raw in api.edges.documents.find({"type": documents.MACHINE}) if isinstance(raw["_id"], str)]
    told = api.edges.documents.get_many([statusdoc.transfers_id(raw["_id"]) for raw in machines])
    found = [_machine(api, raw, told.get(statusdoc.transfers_id(raw["_id"]))) for raw in machines]
    return sorted((one for one in found if one is not None), key=lambda one: (not one.this, one.hostname, one.id))


def _machine(api: Api, raw: Raw, told: Raw | None) -> MachineOut | None:
    try:
        machine: documents.MachineDocument | None = documents.read_machine(raw)
    except InvalidDocument as problem:
        if problem.key == "_id":
            return None
        machine = None
    status = api.edges.machine_status(told)
    moving = [line for line in status.transfers if line.status is Status.ONGOING] if status else []
    return MachineOut(
        id=raw["_id"],
        hostname=hostname(raw),
        this=raw["_id"] == api.edges.machine_id,
        forgotten=raw.get("forgotten") is True,
        queued=len(machine.queue) if machine is not None else None,
        queue_paused=raw.get("queue_paused") is True,
        heard=status.time if status else None,
        counts=dict(status.counts) if status else {},
        download_rate=sum(line.rate for line in moving if line.action is Direction.DOWNLOAD),
        upload_rate=sum(line.rate for line in moving if line.action is Direction.UPLOAD),
        problems=list(status.problems) if status else [],
    )


async def list_stores(api: Api) -> Stores:
    """List the stores: where they are, how much room there is, and why one cannot be used."""
    return Stores(items=await api.bridge.thread(_stores, api))


def _stores(api: Api) -> list[StoreOut]:
    known = {str(raw["_id"]): raw for raw in api.edges.stores.known()}
    ids = dict.fromkeys([*(one.store_id for one in api.edges.filestores.all()), *known])
    found = [store_told(api, store_id, known.get(store_id)) for store_id in ids]
    return sorted(found, key=lambda one: (not one.local, not one.usable, one.name, one.id))


def store_told(api: Api, store_id: str, raw: Raw | None) -> StoreOut:
    """What is told of a store; looks at the disk."""
    facts: dict[str, Any] = {"name": "", "plugin": "", "machine_id": "", "copies": 1}
    if raw is not None:
        try:
            store = documents.read_store(raw)
        except InvalidDocument as error:
            facts["name"] = str(error)
        else:
            facts = {
                "name": store.name,
                "plugin": store.plugin,
                "machine_id": store.machine_id or "",
                "copies": store.copies,
            }
    local = next((one for one in api.edges.filestores.all() if one.store_id == store_id), None)
    problem, total, free = "", None, None
    try:
        api.edges.stores.spec(store_id)
        if local is not None:
            total, free = local.total_bytes(), local.free_bytes()
    except TransferError as error:
        problem = str(error)
    if local is not None:
        facts["plugin"] = facts["plugin"] or "filestore"
        facts["machine_id"] = api.edges.machine_id
    return StoreOut(
        id=store_id,
        **facts,
        where=str(local.root) if local is not None else _where(raw or {}),
        local=local is not None,
        usable=not problem,
        problem=problem,
        advice=what_to_do(problem) if problem else "",
        total_bytes=total,
        free_bytes=free,
    )


def _where(raw: Raw) -> str:
    if raw.get("plugin") != "s3":
        return ""
    bucket, endpoint = raw.get("bucket"), raw.get("endpoint_url")
    return f"{bucket} at {endpoint}" if endpoint else f"{bucket}"


async def find_files(api: Api, query: FileQuery) -> Files:
    """Find files by their name, or by the beginning of their ID."""
    found = await api.bridge.thread(api.edges.documents.find_files, query.q)
    files = [await api.bridge.thread(_file, api, raw) for raw in found]
    return Files(items=[file for file in files if file is not None])


async def show_file(api: Api, file_id: FileId) -> FileOut:
    """Show a file: what it is called, and where it is."""
    raw = await api.bridge.thread(api.edges.documents.get, file_id)
    found = await api.bridge.thread(_file, api, raw)
    if found is None:
        raise Unknown(f"there is no document of file {file_id}, or none that can be believed")
    return found


def _file(api: Api, raw: Raw | None) -> FileOut | None:
    fact = fact_of(raw)
    if fact is None or raw is None:
        return None
    return FileOut(
        id=raw["_id"],
        name=fact.name,
        mime=fact.mime,
        bytes=fact.size,
        stored=dict(fact.stored),
        here=api.edges.filestores.path(raw["_id"]) is not None,
    )


ROUTES = (
    Route("GET", "/machines", list_machines, TAG),
    Route("GET", "/stores", list_stores, TAG),
    Route("GET", "/files", find_files, TAG),
    Route("GET", "/files/{file_id}", show_file, TAG),
)
