"""CouchDB documents to values and back, validated, losslessly.

Documents come from other devices. A document is read into a frozen view here, or refused with a message that
names document, key and value. Writes never go through a view: they change single keys of the raw document,
so that keys which this program does not know are carried through unchanged.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dmedia_transfer import leaves
from dmedia_transfer.errors import InvalidDocument, InvalidInput, shown
from dmedia_transfer.fields import (
    Bucket,
    Count,
    Ext,
    FileId,
    Mime,
    Prefix,
    Priority,
    RandomId,
    RandomIdOrNone,
    Region,
    StorageClass,
    UrlOrNone,
)
from dmedia_transfer.model import Direction, Entry, FileSpec

FILE, STORE, MACHINE, TRANSFERS = "dmedia/file", "dmedia/store", "dmedia/machine", "dmedia/transfers"
LEAVES_ATTACHMENT: Final = "leaves"
LEAVES_CONTENT_TYPE: Final = "application/octet-stream"  # CouchDB gzips text, and then serves no ranges of it
MAX_QUEUE_BYTES: Final = 8 * 1024 * 1024  # CouchDB's default max_document_size: a larger one is no honest queue
MAX_PROBLEMS: Final = 100  # bad entries of one queue that are told of one by one
MAX_FILE_BYTES: Final = 5 * 1024**4  # the largest object S3 keeps


class _View(BaseModel):
    """A frozen reading of a raw document; types are taken strictly, unknown keys are left where they are."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class Stored(_View):
    """One store's line in a file document's `stored`."""

    copies: Count = 1
    time: float = 0.0
    corrupt: Any = None  # the leaves that were found corrupt there; for people, and only where there is no copy


class FileDocument(_View):
    """`dmedia/file`: an immutable file."""

    id: FileId = Field(alias="_id")
    rev: str = Field(default="", alias="_rev")
    bytes: int = Field(ge=1, le=MAX_FILE_BYTES)
    ext: Ext = ""
    name: str = Field(default="", max_length=4096)
    mime: Mime = ""
    origin: str = ""
    stored: dict[RandomId, Stored] = Field(default_factory=dict)


class StoreDocument(_View):
    """`dmedia/store`: a place that keeps files. Its plugin's settings are read by `S3Settings` or by the plugin."""

    id: RandomId = Field(alias="_id")
    rev: str = Field(default="", alias="_rev")
    plugin: str = Field(min_length=1, max_length=64)
    name: str = Field(default="", max_length=256)
    copies: Count = 1
    cost: Count | None = None
    machine_id: RandomId | None = None  # the machine that has it, for a FileStore


class S3Settings(_View):
    """What an S3 store document says beyond `StoreDocument`."""

    bucket: Bucket
    endpoint_url: UrlOrNone = ""  # empty: AWS itself
    region: Region = ""
    prefix: Prefix = ""
    use_ext: bool = False  # the object's name ends in .ext
    use_subdir: bool = False  # the first two characters of the ID are a folder
    storage_class: StorageClass = ""


class MachineDocument(_View):
    """`dmedia/machine`: a device. Its queue is read by `read_queue`, entry by entry."""

    id: RandomId = Field(alias="_id")
    rev: str = Field(default="", alias="_rev")
    hostname: str = Field(default="", max_length=256)
    queue: list[Any] = Field(default_factory=list)
    queue_paused: bool = False
    stores: Any = None
    peer: Any = None
    forgotten: bool = False


class _EntryView(_View):
    file_id: FileId
    action: Literal["download", "upload"] = "download"
    store_id: RandomIdOrNone | None = None
    id: str | None = Field(default=None, max_length=128)
    priority: Priority = 0
    paused: bool = False
    only: bool = False
    metered: bool = False
    time: float = 0.0
    requested_by: str = Field(default="", max_length=256)
    moved: float = 0.0


_View_ = TypeVar("_View_", bound=BaseModel)
_entries: Final = TypeAdapter(_EntryView)


def problem_of(document_id: str, error: ValidationError, *, within: str = "") -> InvalidDocument:
    """What pydantic says of a document, in our words: the first key that is wrong, `within` prefixed."""
    first = error.errors(include_url=False)[0]
    loc = [str(part) for part in first["loc"] if part != "[key]"]
    key = ".".join([within, *loc] if within else loc)
    value = shown(first["input"])
    match first["type"]:
        case "missing":
            problem = "is missing"
        case "value_error":
            problem = f"{value} {first['ctx']['error']}"
        case "model_type" | "dict_type":
            problem = f"should be an object, but it is {value}"
        case _:
            problem = f"{first['msg'].removeprefix('Input ')}, but it is {value}"
    return InvalidDocument(document_id, key, problem)


def _id_of(raw: Mapping[str, Any]) -> str:
    document_id = raw.get("_id", "?")
    return document_id if isinstance(document_id, str) else shown(document_id)


def _read(view: type[_View_], raw: Mapping[str, Any], expected_type: str) -> _View_:
    if not isinstance(raw, Mapping):
        raise InvalidDocument("?", "", f"should be an object, but it is {shown(raw)}")
    document_id = _id_of(raw)
    if "type" not in raw:
        raise InvalidDocument(document_id, "type", "is missing")
    if raw["type"] != expected_type:
        raise InvalidDocument(document_id, "type", f"should be {expected_type!r}, but it is {shown(raw['type'])}")
    try:
        return view.model_validate(raw)
    except ValidationError as error:
        raise problem_of(document_id, error) from None


def read_file(raw: Mapping[str, Any]) -> FileDocument:
    """Read a `dmedia/file` document.

    Raises:
        InvalidDocument: Naming the first key that cannot be believed.
    """
    return _read(FileDocument, raw, FILE)


def read_store(raw: Mapping[str, Any]) -> StoreDocument:
    """Read a `dmedia/store` document.

    Raises:
        InvalidDocument: Naming the first key that cannot be believed.
    """
    return _read(StoreDocument, raw, STORE)


def read_s3_settings(raw: Mapping[str, Any]) -> S3Settings:
    """Read what an S3 store's document says of its bucket.

    Raises:
        InvalidDocument: Naming the first key that cannot be believed.
    """
    return _read(S3Settings, raw, STORE)


def read_machine(raw: Mapping[str, Any]) -> MachineDocument:
    """Read a `dmedia/machine` document, but not the entries of its queue.

    Raises:
        InvalidDocument: Naming the first key that cannot be believed.
    """
    machine = _read(MachineDocument, raw, MACHINE)
    try:
        size = len(json.dumps(machine.queue, separators=(",", ":")))
    except RecursionError:
        raise InvalidDocument(machine.id, "queue", "is nested too deeply") from None
    if size > MAX_QUEUE_BYTES:
        raise InvalidDocument(machine.id, "queue", f"has {size:,} bytes, and {MAX_QUEUE_BYTES:,} are allowed")
    return machine


def read_entry(raw: object, *, document_id: str, position: int) -> Entry:
    """Read one entry of a queue; a bare string is a download of that file.

    Raises:
        InvalidDocument: Naming the document, the entry's position and the key.
    """
    if isinstance(raw, str):
        raw = {"file_id": raw}
    try:
        view = _entries.validate_python(raw)
    except ValidationError as error:
        raise problem_of(document_id, error, within=f"queue.{position}") from None
    if view.action == "upload" and not view.store_id:
        raise InvalidDocument(document_id, f"queue.{position}.store_id", "is missing: an upload names its store")
    return Entry(
        file_id=view.file_id,
        direction=Direction(view.action),
        store_id=view.store_id or "",
        id=view.id or "",
        priority=view.priority,
        paused=view.paused,
        only=view.only,
        metered=view.metered,
        time=view.time,
        requested_by=view.requested_by,
        moved=view.moved,
    )


def is_entry(raw: object) -> bool:
    """Whether `read_entry` understands it, only quicker."""
    if isinstance(raw, str):
        raw = {"file_id": raw}
    try:
        view = _entries.validate_python(raw)
    except ValidationError:
        return False
    return view.action == "download" or bool(view.store_id)


@dataclass(frozen=True, slots=True)
class Queue:
    """What a machine's queue asks for, and what in it cannot be understood."""

    entries: tuple[Entry, ...] = ()
    problems: tuple[InvalidDocument, ...] = ()
    paused: bool = False


Known = Mapping[str, tuple[Any, Entry]]
"""Entries by their `id`, as they stood in a queue and as they were read."""


def read_queue(machine: MachineDocument, *, known: Known = MappingProxyType({})) -> Queue:
    """Read all entries of a queue; the bad ones are told of (up to `MAX_PROBLEMS`) and disturb no other.

    Most entries of a long queue stand there from one revision to the next: those that equal a `known` one are not read
    again, and are the same objects.
    """
    entries: list[Entry] = []
    problems: list[InvalidDocument] = []
    for position, raw in enumerate(machine.queue):
        entry_id = raw.get("id") if isinstance(raw, dict) else None
        same = known.get(entry_id) if isinstance(entry_id, str) else None
        if same is not None and same[0] == raw:
            entries.append(same[1])
            continue
        try:
            entries.append(read_entry(raw, document_id=machine.id, position=position))
        except InvalidDocument as problem:
            problems.append(problem)
    if len(problems) > MAX_PROBLEMS:
        more = len(problems) - MAX_PROBLEMS
        problems[MAX_PROBLEMS:] = [InvalidDocument(machine.id, "queue", f"has {more} more bad entries")]
    return Queue(tuple(entries), tuple(problems), machine.queue_paused)


def write_entry(entry: Entry) -> dict[str, Any]:
    """An entry as it goes into a machine document."""
    raw: dict[str, Any] = {
        "id": entry.id,
        "action": str(entry.direction),
        "file_id": entry.file_id,
        "priority": entry.priority,
        "paused": entry.paused,
        "time": entry.time,
        "requested_by": entry.requested_by,
    }
    if entry.store_id:
        raw["store_id"] = entry.store_id
    if entry.only:
        raw["only"] = True
    if entry.metered:
        raw["metered"] = True
    if entry.moved:
        raw["moved"] = entry.moved
    return raw


def new_machine(machine_id: str, hostname: str, *, time: float) -> dict[str, Any]:
    """The document of a machine that is started for the first time."""
    return {"_id": machine_id, "type": MACHINE, "time": time, "ver": 0, "hostname": hostname, "stores": {}, "queue": []}


def new_store(store_id: str, plugin: str, *, time: float, **settings: Any) -> dict[str, Any]:
    """The document of a new store."""
    return {"_id": store_id, "type": STORE, "time": time, "ver": 0, "plugin": plugin, "copies": 1, **settings}


def new_file(
    file_id: str, file_bytes: int, leaf_digests: bytes, *, time: float, stored: Mapping[str, Any], **facts: Any
) -> dict[str, Any]:
    """The document of a new file, its packed leaf digests attached."""
    return {
        "_id": file_id,
        "type": FILE,
        "time": time,
        "ver": 0,
        "bytes": file_bytes,
        **facts,
        "stored": dict(stored),
        "_attachments": {
            LEAVES_ATTACHMENT: {
                "content_type": LEAVES_CONTENT_TYPE,
                "data": base64.b64encode(leaf_digests).decode("ascii"),
            }
        },
    }


def inline_leaves(raw: Mapping[str, Any]) -> bytes:
    """The packed leaf digests out of a document that was read with its attachments.

    Raises:
        InvalidDocument: There is no such attachment, or it is not inline.
    """
    key = f"_attachments.{LEAVES_ATTACHMENT}"
    try:
        data = raw["_attachments"][LEAVES_ATTACHMENT]["data"]
    except (KeyError, TypeError):
        raise InvalidDocument(_id_of(raw), key, "is missing") from None
    try:
        return base64.b64decode(data, validate=True)
    except (TypeError, ValueError):
        raise InvalidDocument(_id_of(raw), key, f"is not base64: {shown(data)}") from None


def file_spec(file: FileDocument, leaf_digests: bytes) -> FileSpec:
    """A file as workers need it, its leaf digests checked against its ID.

    Raises:
        InvalidDocument: The digests are those of another file, or of another size.
    """
    try:
        leaves.check_leaf_digests(file.id, file.bytes, leaf_digests)
    except InvalidInput as error:
        raise InvalidDocument(file.id, f"_attachments.{LEAVES_ATTACHMENT}", str(error)) from None
    return FileSpec(file.id, file.bytes, leaf_digests, ext=file.ext, mime=file.mime)


def merge_stored(bodies: Sequence[object]) -> dict[str, Any]:
    """The union of several revisions' `stored`: per store the later time wins, then the greater copies.

    A `stored` that is no object tells of no copy. Pure and symmetric, so that two machines that resolve the same
    conflict at once write equal bodies.
    """
    merged: dict[str, Any] = {}
    for body in bodies:
        if not isinstance(body, Mapping):
            continue  # it tells of no copy
        for store_id, line in body.items():
            if store_id not in merged or _stored_order(line) > _stored_order(merged[store_id]):
                merged[store_id] = line
    return dict(sorted(merged.items()))


def _stored_order(line: Any) -> tuple[bool, float, int, str]:
    """A total order, whatever was written: equal places mean equal lines, so that the merge is symmetric."""
    try:
        text = json.dumps(line)
    except RecursionError:
        text = ""
    if not isinstance(line, Mapping):
        return (False, 0.0, 0, text)
    time, copies = line.get("time"), line.get("copies")
    return (
        True,
        time if isinstance(time, int | float) and time < 1e15 else 0.0,
        copies if isinstance(copies, int) else 0,
        text,
    )
