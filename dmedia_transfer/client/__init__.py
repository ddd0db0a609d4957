"""The small public D-Bus client for apps.

    from dmedia_transfer.client import Client

    with Client() as client:
        transfer = client.queue_download(file_id)
        end = transfer.wait(on_progress=lambda state: print(state.progress.bytes_done))
        print(end.status, end.error)

Every call blocks until it is answered. The first one starts the daemon, if D-Bus or systemd know how to. A transfer
goes on when the client leaves. A client belongs to the thread that uses it; it has a connection and a GLib context
of its own, so it neither needs nor disturbs a main loop of the app. Errors are those of `errors`; a bus or daemon that
does not answer is `ConnectionLost`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Self

from dmedia_transfer import busnames
from dmedia_transfer.busnames import JOB, MANAGER, OBJECT_MANAGER, PROPERTIES, ROOT, TRANSFER
from dmedia_transfer.client.connection import Connection, Inbox, variant
from dmedia_transfer.client.job import Job
from dmedia_transfer.client.state import (
    JobState,
    ManagerState,
    Problem,
    Resolved,
    TransferState,
    apply,
    job_state,
    manager_state,
    transfer_state,
)
from dmedia_transfer.client.transfer import Transfer
from dmedia_transfer.errors import InvalidRequest
from dmedia_transfer.model import TransferKey

__all__ = ["Client", "Job", "JobState", "ManagerState", "Problem", "Resolved", "Transfer", "TransferState"]

CALL_TIMEOUT_S: Final = 25.0  # as libdbus; a first call includes the start of the daemon


class Client:
    """A connection to the daemon.

    Args:
        address: Of the bus; None: the session bus.
        timeout_s: Seconds that a call may take, the start of the daemon included.

    Raises:
        ConnectionLost: There is no bus, or the daemon is not there and cannot be started.
    """

    def __init__(self, address: str | None = None, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._connection = Connection(address, timeout_s=timeout_s)
        try:
            self.version = self.state().version
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection. What was asked for goes on."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def queue_download(
        self,
        file_id: str,
        store_id: str = "",
        *,
        priority: int | str | None = None,
        only: bool = False,
        paused: bool = False,
        metered: bool = False,
        requested_by: str = "",
    ) -> Transfer:
        """Ask for a file to be brought to this machine.

        Args:
            file_id: The file.
            store_id: The store to prefer as a source; empty: the daemon picks.
            priority: A number, or low, normal, high or now.
            only: From `store_id` and nowhere else.
            paused: Wait until somebody resumes it.
            metered: Also over a connection that costs by the byte, whatever the settings say of such ones.
            requested_by: Who asks, for people to read.

        Raises:
            InvalidRequest: Naming the argument and its value.
        """
        options = _options(priority=priority, only=only, paused=paused, metered=metered, requested_by=requested_by)
        return self._queue("QueueDownload", file_id, store_id, options)

    def queue_upload(
        self,
        file_id: str,
        store_id: str,
        *,
        priority: int | str | None = None,
        paused: bool = False,
        metered: bool = False,
        requested_by: str = "",
    ) -> Transfer:
        """Ask for a file of this machine to be sent to a store; arguments and errors as for `queue_download`."""
        options = _options(priority=priority, paused=paused, metered=metered, requested_by=requested_by)
        return self._queue("QueueUpload", file_id, store_id, options)

    def queue_downloads(
        self,
        file_ids: Sequence[str],
        *,
        priority: int | str | None = None,
        paused: bool = False,
        metered: bool = False,
        requested_by: str = "",
    ) -> list[Transfer]:
        """Ask for many files at once; arguments and errors as for `queue_download`."""
        options = _options(priority=priority, paused=paused, metered=metered, requested_by=requested_by)
        arguments = variant("(asa{sv})", (list(file_ids), options))
        return [
            self.transfer(path) for path in self._connection.call(ROOT, MANAGER, "QueueDownloads", arguments, "(ao)")[0]
        ]

    def import_files(self, paths: Sequence[str], *, store_id: str = "", requested_by: str = "") -> Job:
        """Have files, and folders with all that is in them, copied into the library.

        Args:
            paths: Absolute; the daemon reads them.
            store_id: The FileStore to copy into; empty: for each file the one with the most room.
            requested_by: Who asks, for people to read.

        Raises:
            InvalidRequest: Naming the path, and what is wrong with it.
        """
        options = {"store_id": variant("s", store_id), "requested_by": variant("s", requested_by)}
        arguments = variant("(asa{sv})", (list(paths), options))
        return self.job(self._connection.call(ROOT, MANAGER, "Import", arguments, "(o)")[0])

    def verify(self, store_id: str) -> Job:
        """Have every file of a store proven anew; the job that is under way for this store, if one is."""
        return self.job(self._connection.call(ROOT, MANAGER, "Verify", variant("(s)", (store_id,)), "(o)")[0])

    def heal(self, file_id: str) -> Transfer:
        """Have a corrupt or missing file brought to this machine again, out of what is good of it and other stores."""
        return self.transfer(self._connection.call(ROOT, MANAGER, "Heal", variant("(s)", (file_id,)), "(o)")[0])

    def job(self, which: str) -> Job:
        """A handle on a job, by its object path or its ID; whether there is one is not looked at.

        Raises:
            InvalidRequest: It is neither.
        """
        job_id = busnames.job_of(which) or busnames.job_of(busnames.job_path(which))
        if job_id is None:
            raise InvalidRequest(f"{which!r} is neither the path of a job nor its ID")
        return Job(self._connection, job_id)

    def jobs(self) -> list[JobState]:
        """All jobs, also those that ended."""
        objects = self._connection.call(ROOT, OBJECT_MANAGER, "GetManagedObjects", None, "(a{oa{sa{sv}}})")[0]
        jobs = [job_state(path, interfaces[JOB]) for path, interfaces in objects.items() if JOB in interfaces]
        return sorted(jobs, key=lambda job: job.time)

    def resolve(self, file_id: str) -> Resolved:
        """Where a file is; one that is not here is queued as "now"."""
        return Resolved(*self._connection.call(ROOT, MANAGER, "Resolve", variant("(s)", (file_id,)), "(ss)"))

    def transfer(self, which: str | TransferKey) -> Transfer:
        """A handle on a transfer, by its object path or its key; whether there is one is not looked at.

        Raises:
            InvalidRequest: The path is not one of a transfer.
        """
        key = busnames.key_of(which) if isinstance(which, str) else which
        if key is None:
            raise InvalidRequest(f"{which!r} is not the path of a transfer")
        return Transfer(self._connection, key)

    def transfers(self) -> list[TransferState]:
        """All transfers, also those that ended a moment ago."""
        return [transfer_state(properties) for properties in self._managed(self._connection).values()]

    def state(self) -> ManagerState:
        """The daemon as a whole."""
        said = self._connection.call(ROOT, PROPERTIES, "GetAll", variant("(s)", (MANAGER,)), "(a{sv})")[0]
        return manager_state(said)

    def put_before(self, transfers: Sequence[Transfer], before: Transfer | None) -> bool:
        """Give transfers another place in the queue: just before another one, with its priority, or after all: None."""
        target = busnames.AFTER_ALL if before is None else before.path
        arguments = variant("(aoo)", ([each.path for each in transfers], target))
        return bool(self._connection.call(ROOT, MANAGER, "PutBefore", arguments, "(b)")[0])

    def pause_all(self) -> bool:
        """Hold the whole queue; says whether that changed anything."""
        return bool(self._connection.call(ROOT, MANAGER, "PauseAll", None, "(b)")[0])

    def resume_all(self) -> bool:
        """Let the queue go on; says whether that changed anything."""
        return bool(self._connection.call(ROOT, MANAGER, "ResumeAll", None, "(b)")[0])

    def set_limits(
        self,
        *,
        download_bps: int | None = None,
        upload_bps: int | None = None,
        max_transfers: int | None = None,
        connections: int | None = None,
    ) -> None:
        """Change limits from now on; None leaves one as it is, a rate of 0 is no limit.

        Raises:
            InvalidRequest: Naming the limit and its value.
        """
        given = {
            "download_bps": download_bps,
            "upload_bps": upload_bps,
            "max_transfers": max_transfers,
            "connections": connections,
        }
        limits = {name: variant("x", value) for name, value in given.items() if value is not None}
        self._connection.call(ROOT, MANAGER, "SetLimits", variant("(a{sv})", (limits,)), None)

    def watch(self, *, every_s: float = 0.25) -> Generator[Mapping[str, TransferState], None, None]:
        """All transfers by object path: now, and again after changes, at most once in `every_s` seconds, without end.

        The mapping is the same live one each time.

        Raises:
            ConnectionLost: The daemon or the bus went away.
        """
        with self._connection.listening(None) as inbox:
            raw = self._managed(inbox)
            states = {path: transfer_state(properties) for path, properties in raw.items()}
            while True:
                yield MappingProxyType(states)
                not_before = time.monotonic() + every_s
                changed = apply(raw, inbox.next(None))
                while time.monotonic() < not_before:
                    changed |= apply(raw, inbox.next(not_before, or_raise=False))
                for path in changed:
                    if path in raw:
                        states[path] = transfer_state(raw[path])
                    else:
                        states.pop(path, None)

    def _queue(self, method: str, file_id: str, store_id: str, options: Mapping[str, Any]) -> Transfer:
        arguments = variant("(ssa{sv})", (file_id, store_id, options))
        return self.transfer(self._connection.call(ROOT, MANAGER, method, arguments, "(o)")[0])

    def _managed(self, through: Connection | Inbox) -> dict[str, dict[str, Any]]:
        objects = through.call(ROOT, OBJECT_MANAGER, "GetManagedObjects", None, "(a{oa{sa{sv}}})")[0]
        return {path: interfaces[TRANSFER] for path, interfaces in objects.items() if TRANSFER in interfaces}


def _options(
    *, priority: int | str | None, paused: bool, metered: bool, requested_by: str, only: bool = False
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if priority is not None:
        options["priority"] = variant("s" if isinstance(priority, str) else "i", priority)
    if only:
        options["only"] = variant("b", True)
    if paused:
        options["paused"] = variant("b", True)
    if metered:
        options["metered"] = variant("b", True)
    if requested_by:
        options["requested_by"] = variant("s", requested_by)
    return options
