"""The methods of all objects: find which one is meant, convert, call the manager, convert."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from dmedia_transfer import busnames
from dmedia_transfer.bus import values
from dmedia_transfer.bus.contract import Interface, Method, interfaces, introspection
from dmedia_transfer.busnames import (
    AFTER_ALL,
    INTROSPECTABLE,
    JOB,
    MANAGER,
    OBJECT_MANAGER,
    PROPERTIES,
    ROOT,
    TRANSFER,
    job_of,
    key_of,
    path_of,
)
from dmedia_transfer.errors import InvalidRequest
from dmedia_transfer.model import Direction, Entry, LongJob, Transfer
from dmedia_transfer.ports import Control, JobControl

MAX_FILES: Final = 10_000  # of one QueueDownloads
MAX_PROBLEMS: Final = 1000  # of one ListProblems

_ANCESTORS: Final = frozenset({"/", "/org", "/org/dmedia"})
_MANAGER_INTERFACES: Final = (MANAGER, OBJECT_MANAGER, PROPERTIES, INTROSPECTABLE)
_TRANSFER_INTERFACES: Final = (TRANSFER, PROPERTIES, INTROSPECTABLE)
_JOB_INTERFACES: Final = (JOB, PROPERTIES, INTROSPECTABLE)


class Refused(Exception):
    """The call itself is wrong: D-Bus has a standard name for each way."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name


class Calls:
    """Calls on any of our paths."""

    def __init__(self, control: Control, jobs: JobControl) -> None:
        self._control = control
        self._jobs = jobs
        self._of_manager: Mapping[str, Callable[..., tuple[Any, ...]]] = {
            "QueueDownload": self._queue_download,
            "QueueUpload": self._queue_upload,
            "QueueDownloads": self._queue_downloads,
            "Resolve": self._resolve,
            "PutBefore": self._put_before,
            "PauseAll": lambda: (control.pause_all(),),
            "ResumeAll": lambda: (control.resume_all(),),
            "SetLimits": self._set_limits,
            "Import": self._import,
            "Verify": lambda store_id: (self._job_path(jobs.verify(values.store_id("store_id", store_id))),),
            "Heal": lambda file_id: (path_of(jobs.heal(values.file_id("file_id", file_id))),),
        }
        self._of_job: Mapping[str, Callable[..., object]] = {
            "Pause": jobs.pause,
            "Resume": jobs.resume,
            "Cancel": jobs.cancel,
            "Retry": jobs.retry,
            "Forget": jobs.forget,
            "ListProblems": self._list_problems,
        }
        self._of_transfer: Mapping[str, Callable[..., bool]] = {
            "Pause": control.pause,
            "Resume": control.resume,
            "Cancel": control.cancel,
            "Retry": control.retry,
            "SetPriority": lambda key, priority: control.set_priority(key, values.priority(priority)),
            "SetMetered": lambda key, metered: control.set_metered(key, bool(metered)),
        }

    def knows(self, path: str) -> bool:
        """Whether calls on this path are ours to answer."""
        return path == ROOT or path in _ANCESTORS or path.startswith(ROOT + "/")

    def find(self, path: str, interface_name: str | None, member: str, signature: str) -> tuple[str, Method]:
        """The interface and method that a call means.

        Raises:
            Refused: There is no such object, interface or method, or the arguments have another type.
        """
        available = self._interfaces(path)
        if interface_name is not None and all(interface_name != each.name for each in available):
            raise Refused(busnames.UNKNOWN_INTERFACE, f"{path} has no interface {interface_name}")
        for interface in available:
            if interface_name in (None, interface.name) and (method := interface.methods.get(member)):
                if signature != method.takes:
                    problem = f"{member} takes ({method.takes}), but was called with ({signature})"
                    raise Refused(busnames.INVALID_ARGS, problem)
                return interface.name, method
        raise Refused(busnames.UNKNOWN_METHOD, f"{path} has no method {member}")

    def call(self, path: str, interface: str, member: str, arguments: Sequence[Any]) -> Sequence[Any]:
        """Do it; `find` has found it. Returns the values of the reply."""
        if interface == MANAGER:
            return self._of_manager[member](*arguments)
        if interface == TRANSFER:
            return (self._of_transfer[member](self._transfer(path).key, *arguments),)
        if interface == JOB:
            return (self._of_job[member](self._job(path).id, *arguments),)
        if interface == INTROSPECTABLE:
            return (introspection((each.name for each in self._interfaces(path)), self._children(path)),)
        if interface == OBJECT_MANAGER:
            return (self._managed_objects(),)
        return self._property_call(path, member, *arguments)

    def _queue_download(self, file_id: str, store_id: str, sent: Mapping[Any, Any]) -> tuple[str]:
        options = values.read_options(values.DownloadOptions, sent)
        entry = Entry(
            file_id=values.file_id("file_id", file_id),
            direction=Direction.DOWNLOAD,
            store_id=values.store_id("store_id", store_id, may_be_empty=True),
            **options.model_dump(),
        )
        if entry.only and not entry.store_id:
            raise InvalidRequest("option only: needs a store_id, but it is empty")
        return (path_of(self._control.queue([entry])[0]),)

    def _queue_upload(self, file_id: str, store_id: str, sent: Mapping[Any, Any]) -> tuple[str]:
        options = values.read_options(values.UploadOptions, sent)
        entry = Entry(
            file_id=values.file_id("file_id", file_id),
            direction=Direction.UPLOAD,
            store_id=values.store_id("store_id", store_id),
            **options.model_dump(),
        )
        return (path_of(self._control.queue([entry])[0]),)

    def _queue_downloads(self, file_ids: Sequence[str], sent: Mapping[Any, Any]) -> tuple[list[str]]:
        options = values.read_options(values.UploadOptions, sent).model_dump()
        if len(file_ids) > MAX_FILES:
            raise InvalidRequest(f"file_ids: has {len(file_ids)} files, more than the {MAX_FILES} of one call")
        checked = [values.file_id(f"file_ids[{number}]", each) for number, each in enumerate(file_ids)]
        entries = [Entry(file_id=each, direction=Direction.DOWNLOAD, **options) for each in checked]
        return ([path_of(key) for key in self._control.queue(entries)] if entries else [],)

    def _resolve(self, file_id: str) -> tuple[str, str]:
        status, path = self._control.resolve(values.file_id("file_id", file_id))
        return values.text(status), values.text(path)

    def _put_before(self, paths: Sequence[str], before: str) -> tuple[bool]:
        if len(paths) > MAX_FILES:
            raise InvalidRequest(f"transfers: has {len(paths)} transfers, more than the {MAX_FILES} of one call")
        keys = [self._transfer(str(path)).key for path in dict.fromkeys(paths)]
        target = None if before == AFTER_ALL else self._transfer(str(before)).key
        return (self._control.put_before(keys, target),)

    def _set_limits(self, sent: Mapping[Any, Any]) -> tuple[()]:
        given = values.read_options(values.Limits, sent).model_dump(exclude_unset=True)
        if given:
            self._control.set_limits(**given)
        return ()

    def _import(self, paths: Sequence[str], sent: Mapping[Any, Any]) -> tuple[str]:
        options = values.read_options(values.ImportOptions, sent)
        store_id = values.store_id("option store_id", options.store_id, may_be_empty=True)
        job_id = self._jobs.import_files(
            [str(path) for path in paths], store_id=store_id, requested_by=options.requested_by
        )
        return (self._job_path(job_id),)

    def _job_path(self, job_id: str) -> str:
        return path_of(self._jobs.jobs()[job_id].key)

    def _list_problems(self, job_id: str, offset: int, limit: int) -> list[tuple[Any, ...]]:
        found = self._jobs.problems(job_id, offset=int(offset), limit=min(int(limit), MAX_PROBLEMS))
        return [values.problem_row(each) for each in found]

    def _property_call(self, path: str, member: str, interface_name: str, *arguments: Any) -> tuple[Any, ...]:
        names = {each.name: each for each in self._interfaces(path)}
        if interface_name not in names:
            raise Refused(busnames.UNKNOWN_INTERFACE, f"{path} has no interface {interface_name}")
        known = names[interface_name].properties
        if member == "GetAll":
            return (self._properties(path) if known else {},)
        name = str(arguments[0])
        if name not in known:
            raise Refused(busnames.UNKNOWN_PROPERTY, f"{interface_name} has no property {values.shown(name)}")
        if member == "Set":
            raise Refused(busnames.PROPERTY_READ_ONLY, f"{name} can only be read; methods change things")
        return (self._properties(path)[name],)

    def _properties(self, path: str) -> dict[str, Any]:
        if path == ROOT:
            return values.manager_properties(self._control.summary())
        if job_of(path):
            return values.job_properties(self._job(path))
        return values.transfer_properties(self._transfer(path))

    def _managed_objects(self) -> dict[str, Any]:
        everything: list[Transfer | LongJob] = [*self._control.transfers().values(), *self._jobs.jobs().values()]
        return {path_of(each.key): values.managed(each) for each in everything}

    def _job(self, path: str) -> LongJob:
        job = self._jobs.jobs().get(job_of(path) or "")
        if job is None:
            raise Refused(busnames.UNKNOWN_OBJECT, f"there is no object {path}")
        return job

    def _transfer(self, path: str) -> Transfer:
        key = key_of(path)
        transfer = self._control.transfers().get(key) if key else None
        if transfer is None:
            raise Refused(busnames.UNKNOWN_OBJECT, f"there is no {key or f'object {path}'}")
        return transfer

    def _interfaces(self, path: str) -> list[Interface]:
        """The interfaces of the object at a path; a node that only has children can be introspected."""
        if path == ROOT:
            names: Iterable[str] = _MANAGER_INTERFACES
        elif key_of(path):
            self._transfer(path)
            names = _TRANSFER_INTERFACES
        elif job_of(path):
            self._job(path)
            names = _JOB_INTERFACES
        elif path in _ANCESTORS or self._children(path):
            names = (INTROSPECTABLE,)
        else:
            raise Refused(busnames.UNKNOWN_OBJECT, f"there is no object {path}")
        return [interfaces()[name] for name in names]

    def _children(self, path: str) -> list[str]:
        """The names of the nodes below a path."""
        if path in _ANCESTORS:
            return [ROOT.removeprefix(path).lstrip("/").partition("/")[0]]
        below = f"{path}/"
        paths = itertools.chain(
            (path_of(key) for key in self._control.transfers()),
            (path_of(job.key) for job in self._jobs.jobs().values()),
        )
        return sorted({each.removeprefix(below).partition("/")[0] for each in paths if each.startswith(below)})
