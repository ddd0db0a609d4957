"""Members of a library: machines with a daemon and a database of their own, and a phone, which only edits documents."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests

from dmedia_transfer.couch.embedded import launch
from dmedia_transfer.states import Status
from dmedia_transfer.statusdoc import StatusDocument, TransferLine, read_status, transfers_id
from tests.couch import CouchServer
from tests.device import Device, eventually


class Phone(Device):
    """Somebody away from home: sees and edits documents, and runs nothing."""

    def edit(self, machine: Device, change: Callable[[dict[str, Any]], Any]) -> None:
        """Edit another machine's document: read it, change it, write it, again if it changed meanwhile."""
        while True:
            raw = self.get(machine.machine_id)
            change(raw)
            try:
                self.put(raw)
            except requests.HTTPError as error:
                if error.response.status_code != requests.codes.conflict:
                    raise
            else:
                return

    def ask(self, machine: Device, *entries: Mapping[str, Any]) -> None:
        """Put entries into a machine's queue."""
        self.edit(machine, lambda raw: raw["queue"].extend(entries))

    def change(self, machine: Device, entry_id: str, **facts: Any) -> None:
        """Change an entry in a machine's queue."""

        def change(raw: dict[str, Any]) -> None:
            (entry,) = [entry for entry in raw["queue"] if entry["id"] == entry_id]
            entry.update(facts)

        self.edit(machine, change)

    def forget(self, machine: Device, entry_id: str) -> None:
        """Take an entry out of a machine's queue."""

        def change(raw: dict[str, Any]) -> None:
            raw["queue"] = [entry for entry in raw["queue"] if entry["id"] != entry_id]

        self.edit(machine, change)

    def entries(self, machine: Device) -> list[str]:
        """The queue of a machine, by its entries' ids."""
        return [entry["id"] for entry in self.get(machine.machine_id)["queue"]]

    def knows(self, machine: Device) -> bool:
        """Whether a machine's document has come."""
        with contextlib.suppress(requests.HTTPError):
            return bool(self.get(machine.machine_id))
        return False

    def sees(self, machine: Device) -> StatusDocument | None:
        """What a machine says that it does."""
        with contextlib.suppress(requests.HTTPError):
            return read_status(self.get(transfers_id(machine.machine_id)))
        return None

    def sees_transfer(self, machine: Device, file_id: str, *statuses: Status) -> TransferLine:
        """Wait until a machine says that it has a transfer in one of these statuses."""

        def found() -> TransferLine | None:
            status = self.sees(machine)
            lines = [*status.transfers, *status.finished] if status else []
            return next((line for line in lines if line.file_id == file_id and line.status in statuses), None)

        line: TransferLine = eventually(found, every_s=0.05)
        return line


class Member(Device):
    """A machine with a database of its own, in sync with the phone's."""

    @contextlib.contextmanager
    def http(self) -> Iterator[tuple[requests.Session, str]]:
        """The machine's own database, as a program on it sees it."""
        found = launch.running(self.state_dir / "couch.sqlite")
        assert found is not None, "the daemon does not run"
        with CouchServer(found.url, found.user, found.password, embedded=True).session() as session:
            yield session, f"{found.url}/{self.database}"

    def conflicts(self) -> list[str]:
        """The losing revisions of its own document."""
        with self.http() as (session, url):
            answer = session.get(f"{url}/{self.machine_id}", params={"conflicts": "true"}, timeout=20)
            return list(answer.json().get("_conflicts", []))
