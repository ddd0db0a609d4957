"""The names of the D-Bus service: bus name, paths, interfaces, and errors; for those who serve them and those who ask.

Words only: nothing here needs a bus.
"""

from __future__ import annotations

from typing import Final

from dmedia_transfer import errors, leaves
from dmedia_transfer.errors import TransferError
from dmedia_transfer.model import Direction, JobKey, TransferKey

BUS_NAME: Final = "org.dmedia.Transfer1"
ROOT: Final = "/org/dmedia/Transfer1"  # of the manager, and of the ObjectManager that lists the transfers
MANAGER: Final = "org.dmedia.Transfer1.Manager"
TRANSFER: Final = "org.dmedia.Transfer1.Transfer"
JOB: Final = "org.dmedia.Transfer1.Job"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"
INTROSPECTABLE: Final = "org.freedesktop.DBus.Introspectable"

ETA_UNKNOWN: Final = -1  # D-Bus has no null
AFTER_ALL: Final = "/"  # in the place of a transfer that others come before

ERROR_PREFIX: Final = "org.dmedia.Transfer1.Error."
_DBUS_ERROR: Final = "org.freedesktop.DBus.Error."
INVALID_ARGS: Final = _DBUS_ERROR + "InvalidArgs"
UNKNOWN_INTERFACE: Final = _DBUS_ERROR + "UnknownInterface"
UNKNOWN_METHOD: Final = _DBUS_ERROR + "UnknownMethod"
UNKNOWN_OBJECT: Final = _DBUS_ERROR + "UnknownObject"
UNKNOWN_PROPERTY: Final = _DBUS_ERROR + "UnknownProperty"
PROPERTY_READ_ONLY: Final = _DBUS_ERROR + "PropertyReadOnly"

_SPAWN_ERROR: Final = _DBUS_ERROR + "Spawn."

_DOWNLOADS: Final = f"{ROOT}/downloads/"
_UPLOADS: Final = f"{ROOT}/uploads/"
_JOBS: Final = f"{ROOT}/jobs/"


def path_of(key: TransferKey | JobKey) -> str:
    """The object path of a transfer or a job. IDs are base32, so they are elements of a path as they are."""
    if isinstance(key, JobKey):
        return job_path(key.id)
    if key.direction is Direction.DOWNLOAD:
        return _DOWNLOADS + key.file_id
    return f"{_UPLOADS}{key.file_id}/{key.store_id}"


def key_of(path: str) -> TransferKey | None:
    """The transfer that an object path names; None for a path that can be no transfer's."""
    if path.startswith(_DOWNLOADS):
        file_id = path.removeprefix(_DOWNLOADS)
        return TransferKey(Direction.DOWNLOAD, file_id, "") if leaves.is_file_id(file_id) else None
    file_id, _, store_id = path.removeprefix(_UPLOADS).partition("/")
    if path.startswith(_UPLOADS) and leaves.is_file_id(file_id) and leaves.is_random_id(store_id):
        return TransferKey(Direction.UPLOAD, file_id, store_id)
    return None


def job_path(job_id: str) -> str:
    """The object path of a job."""
    return _JOBS + job_id


def job_of(path: str) -> str | None:
    """The ID of the job that an object path names; None for a path that can be no job's."""
    job_id = path.removeprefix(_JOBS)
    return job_id if path.startswith(_JOBS) and leaves.is_random_id(job_id) else None


def error_name(error: TransferError) -> str:
    """The D-Bus name of an error of ours."""
    return ERROR_PREFIX + error.kind


def _kinds(root: type[TransferError]) -> dict[str, type[TransferError]]:
    found = {root.__name__: root}
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            found.update(_kinds(kind))
    return found


# These are made of facts that do not cross the bus, only their sentence does: what is above them stands for them.
_MADE_OF_FACTS: Final = frozenset({errors.InvalidDocument, errors.CorruptLeaf})
_KINDS: Final[dict[str, type[TransferError]]] = {
    name: kind.__mro__[1] if kind in _MADE_OF_FACTS else kind for name, kind in _kinds(TransferError).items()
}
_STANDARD: Final[dict[str, type[TransferError]]] = {
    INVALID_ARGS: errors.InvalidRequest,
    UNKNOWN_OBJECT: errors.Unknown,
    _DBUS_ERROR + "AccessDenied": errors.AccessDenied,
    _DBUS_ERROR + "Disconnected": errors.ConnectionLost,
    _DBUS_ERROR + "NameHasNoOwner": errors.ConnectionLost,
    _DBUS_ERROR + "NoReply": errors.ConnectionLost,
    _DBUS_ERROR + "ServiceUnknown": errors.ConnectionLost,
    _DBUS_ERROR + "TimedOut": errors.ConnectionLost,
    _DBUS_ERROR + "Timeout": errors.ConnectionLost,
}


def error_of(name: str, message: str) -> TransferError:
    """The error that a D-Bus name stands for; one that is not known is the root of all."""
    if name.startswith(ERROR_PREFIX):
        return _KINDS.get(name.removeprefix(ERROR_PREFIX), TransferError)(message)
    if name.startswith(_SPAWN_ERROR):  # the bus could not start the service
        return errors.ConnectionLost(message)
    return _STANDARD.get(name, TransferError)(message)
