"""Our values as D-Bus sends them, and what callers send as ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Final, TypeVar

import dbus
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from dmedia_transfer import __version__, busnames, leaves
from dmedia_transfer.bus.contract import interfaces
from dmedia_transfer.busnames import INTROSPECTABLE, JOB, MANAGER, PROPERTIES, TRANSFER
from dmedia_transfer.errors import InvalidRequest
from dmedia_transfer.fields import Priority
from dmedia_transfer.model import (
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_NORMAL,
    PRIORITY_NOW,
    JobProblem,
    LongJob,
    SourceUse,
    Transfer,
)
from dmedia_transfer.ports import Summary

_UINT32_MAX: Final = 2**32 - 1
_INT64_MAX: Final = 2**63 - 1
_UINT64_MAX: Final = 2**64 - 1
_WORDS: Final = {"low": PRIORITY_LOW, "normal": PRIORITY_NORMAL, "high": PRIORITY_HIGH, "now": PRIORITY_NOW}


def text(value: str) -> str:
    """A string that D-Bus takes: valid UTF-8, no NUL."""
    if value.isascii() and "\0" not in value:
        return str(value)
    return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def count(value: float) -> int:
    """A number of bytes or seconds that D-Bus takes."""
    return max(0, min(_UINT64_MAX, int(value))) if math.isfinite(value) else 0


def _source(use: SourceUse) -> dbus.Struct:
    received, rate = dbus.UInt64(count(use.received_bytes)), dbus.UInt64(count(use.rate))
    return dbus.Struct((text(use.store_id), received, rate, text(use.state), text(use.reason)), signature="sttss")


_CONVERT: Final[Mapping[str, Callable[[Any], Any]]] = {
    "as": lambda value: dbus.Array([text(each) for each in value], signature="s"),
    "a(sttss)": lambda value: dbus.Array([_source(each) for each in value], signature="(sttss)"),
    "a{st}": lambda value: dbus.Dictionary(
        {text(word): dbus.UInt64(count(number)) for word, number in value.items()}, signature="st"
    ),
    "b": dbus.Boolean,
    "d": dbus.Double,
    "i": dbus.Int32,
    "s": lambda value: dbus.String(text(value)),
    "t": lambda value: dbus.UInt64(count(value)),
    "u": lambda value: dbus.UInt32(min(count(value), _UINT32_MAX)),
    "x": dbus.Int64,
}


@cache
def _converters(interface: str) -> Mapping[str, Callable[[Any], Any]]:
    """What gives each property the type that the XML says: an `a{sv}` does not say it."""
    return {name: _CONVERT[known.type] for name, known in interfaces()[interface].properties.items()}


def _typed(interface: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Properties as D-Bus sends them."""
    converters = _converters(interface)
    return {name: converters[name](value) for name, value in values.items()}


def _seconds_left(eta_s: float | None) -> int:
    if eta_s is None or not 0 <= eta_s <= _INT64_MAX:  # neither infinity nor NaN is
        return busnames.ETA_UNKNOWN
    return math.ceil(eta_s)


# Properties of a transfer that do not change all the time, and what each of them is made of.
_STEADY: Final[Mapping[str, Callable[[Transfer], Any]]] = {
    "FileId": lambda one: one.key.file_id,
    "StoreId": lambda one: one.key.store_id or one.preferred_store,
    "Direction": lambda one: one.key.direction,
    "Status": lambda one: one.status,
    "Reason": lambda one: one.reason or "",
    "Priority": lambda one: one.priority,
    "Order": lambda one: one.order,
    "Metered": lambda one: one.metered,
    "Error": lambda one: str(one.failure or ""),
    "RequestedBy": lambda one: one.requested_by,
}
_TOLD_AT_ONCE: Final[Mapping[str, Callable[[Transfer], Any]]] = {
    **_STEADY,
    "BytesTotal": lambda one: one.progress.bytes_total,  # which is found out once
}
# Of a job, those that do.
_PACED: Final = frozenset({"BytesDone", "BytesTotal", "FilesDone", "FilesTotal", "Outcomes", "Rate", "Eta"})


def transfer_properties(transfer: Transfer) -> dict[str, Any]:
    """All properties of a transfer."""
    steady = {name: read(transfer) for name, read in _STEADY.items()}
    return _typed(TRANSFER, steady) | progress_properties(transfer)


def changed_properties(before: Transfer | LongJob, after: Transfer | LongJob) -> dict[str, Any]:
    """The properties that differ and whose change is told at once.

    With those of the progress where the status differs: who reads properties only has the right numbers while nothing
    moves.
    """
    changed: dict[str, Any]
    if isinstance(before, Transfer) and isinstance(after, Transfer):
        read = {name: (get(before), get(after)) for name, get in _TOLD_AT_ONCE.items()}
        changed = _typed(TRANSFER, {name: now for name, (was, now) in read.items() if was != now})
    else:
        was, now = properties_of(before), properties_of(after)
        changed = {name: value for name, value in now.items() if value != was[name] and name not in _PACED}
    return changed | progress_properties(after) if before.status != after.status else changed


def job_properties(job: LongJob) -> dict[str, Any]:
    """All properties of a job."""
    return _typed(
        JOB,
        {
            "Kind": job.kind,
            "StoreId": job.store_id,
            "Paths": job.paths,
            "RequestedBy": job.requested_by,
            "Time": job.time,
            "Started": job.started,
            "Ended": job.ended,
            "Status": job.status,
            "Reason": job.reason or "",
            "Error": str(job.failure or ""),
            "Listed": job.listed,
            "Problems": job.problem_count,
        },
    ) | progress_properties(job)


def interface_of(moving: Transfer | LongJob) -> str:
    """The interface that is its own."""
    return TRANSFER if isinstance(moving, Transfer) else JOB


def properties_of(moving: Transfer | LongJob) -> dict[str, Any]:
    """All its properties."""
    return transfer_properties(moving) if isinstance(moving, Transfer) else job_properties(moving)


def interfaces_of(moving: Transfer | LongJob) -> tuple[str, ...]:
    """The names of its interfaces."""
    return (interface_of(moving), PROPERTIES, INTROSPECTABLE)


def managed(moving: Transfer | LongJob) -> dict[str, dict[str, Any]]:
    """Its interfaces, with their properties, as the ObjectManager tells of them."""
    return {interface_of(moving): properties_of(moving), PROPERTIES: {}, INTROSPECTABLE: {}}


def progress_properties(moving: Transfer | LongJob) -> dict[str, Any]:
    """The properties that are about the bytes, and where they come from; of a job about the files."""
    properties: dict[str, Any] = {
        "BytesDone": moving.progress.bytes_done,
        "BytesTotal": moving.progress.bytes_total,
        "Rate": moving.progress.rate,
        "Eta": _seconds_left(moving.progress.eta_s),
    }
    if isinstance(moving, Transfer):
        return _typed(TRANSFER, properties | {"Sources": moving.sources})
    files = {"FilesDone": moving.files_done, "FilesTotal": moving.files_total, "Outcomes": moving.outcomes}
    return _typed(JOB, properties | files)


def problem_row(problem: JobProblem) -> tuple[str, str, str, str, str, list[int]]:
    """A problem of a job as `a(sssssat)` has it."""
    words = (problem.outcome, problem.message, problem.path, problem.file_id, problem.store_id)
    outcome, message, path, file_id, store_id = map(text, words)
    return outcome, message, path, file_id, store_id, list(problem.leaves)


def manager_properties(summary: Summary) -> dict[str, Any]:
    """All properties of the manager."""
    return _typed(
        MANAGER,
        {
            "Version": __version__,
            "Active": summary.active,
            "Queued": summary.queued,
            "DownloadRate": summary.download_rate,
            "UploadRate": summary.upload_rate,
            "QueuePaused": summary.queue_paused,
            "Online": summary.online,
            "Metered": summary.metered,
            "DownloadLimit": summary.download_limit_bps or 0,
            "UploadLimit": summary.upload_limit_bps or 0,
            "MaxTransfers": summary.max_transfers,
            "Problems": summary.problems,
        },
    )


def _number(value: object) -> object:
    if isinstance(value, str):
        if value not in _WORDS:
            raise ValueError(f"should be a number or one of {', '.join(_WORDS)}")
        return _WORDS[value]
    return value


class _Options(BaseModel):
    """An `a{sv}`: types are taken strictly, and what is not known is an error."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class UploadOptions(_Options):
    """How a transfer is asked for."""

    priority: Annotated[Priority, BeforeValidator(_number)] = PRIORITY_NORMAL
    paused: bool = False
    metered: bool = False
    requested_by: Annotated[str, StringConstraints(max_length=256)] = ""


class DownloadOptions(UploadOptions):
    """How one download is asked for."""

    only: bool = False


class ImportOptions(_Options):
    """How an import is asked for."""

    store_id: str = ""
    requested_by: Annotated[str, StringConstraints(max_length=256)] = ""


class Limits(_Options):
    """Limits to change; None: as it is."""

    download_bps: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    upload_bps: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    max_transfers: Annotated[int, Field(ge=1)] | None = None
    connections: Annotated[int, Field(ge=1)] | None = None
    timetable: Annotated[str, StringConstraints(max_length=1000)] | None = None


_Options_ = TypeVar("_Options_", bound=_Options)


def read_options(kind: type[_Options_], sent: Mapping[Any, Any]) -> _Options_:
    """What a caller sent as an `a{sv}`.

    Raises:
        InvalidRequest: Naming the first option that is not known, or whose value cannot be used.
    """
    plain = {str(name): _plain(value) for name, value in sent.items()}
    try:
        return kind.model_validate(plain)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = first["loc"][0]
        unknown = sorted(set(plain) - set(kind.model_fields))
        if unknown:
            known = ", ".join(kind.model_fields)
            names = ", ".join(shown(each) for each in unknown[:10])
            raise InvalidRequest(f"unknown option {names}: the options are {known}") from None
        problem = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"option {name}: {problem}, but it is {shown(plain[str(name)])}") from None


def file_id(name: str, value: object) -> str:
    """An argument that is a file ID.

    Raises:
        InvalidRequest: It is none.
    """
    if not leaves.is_file_id(value):
        raise InvalidRequest(f"{name}: {shown(value)} is not a file ID (48 characters of base32)")
    return str(value)


def store_id(name: str, value: object, *, may_be_empty: bool = False) -> str:
    """An argument that is a store ID.

    Raises:
        InvalidRequest: It is none.
    """
    if not leaves.is_random_id(value) and not (may_be_empty and value == ""):
        raise InvalidRequest(f"{name}: {shown(value)} is not a store ID (24 characters of base32)")
    return str(value)


def priority(value: int) -> int:
    """An argument that is a priority.

    Raises:
        InvalidRequest: It is too far away.
    """
    return read_options(UploadOptions, {"priority": value}).priority


def shown(value: object) -> str:
    """A value as an error message shows it: short, whatever somebody sent."""
    short = repr(str(value) if isinstance(value, str) else value)
    return short if len(short) <= 80 else f"{short[:77]}..."


def _plain(value: Any) -> Any:
    """A D-Bus value as a plain one; dbus.Boolean is an int, which strict validation would not take for a bool."""
    if isinstance(value, dbus.Boolean):
        return bool(value)
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    return value
