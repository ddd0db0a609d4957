"""Trust: whose certificates are accepted, and which never again.

Trusted is who is in the library: the certificates in its machine documents. A machine whose document says `forgotten`
is cut off at once, and all certificates that it ever had here go onto a list of our own, so that no later revision of
any document brings them back.

The daemon feeds it from the changes feed and asks it on one thread. What it knows is kept in the state folder: peers
are known also while the database does not answer.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dmedia_transfer import documents, leaves
from dmedia_transfer.errors import InvalidConfig
from dmedia_transfer.peers.certificates import Certificate
from dmedia_transfer.peers.section import PeerAddress, PeerSection, read_section

FILE_NAME: Final = "peers.json"
MAX_MACHINES: Final = 1000  # no honest library has more

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """A machine of the library that can be spoken to."""

    machine_id: str
    certificates: tuple[Certificate, ...]
    addresses: tuple[PeerAddress, ...]


class _Known(BaseModel):
    model_config = ConfigDict(extra="ignore")

    certificates: list[str] = Field(default_factory=list)
    addresses: list[str] = Field(default_factory=list)


class _Kept(BaseModel):
    model_config = ConfigDict(extra="ignore")

    ver: int = 0
    machines: dict[str, _Known] = Field(default_factory=dict)
    denied: dict[str, str] = Field(default_factory=dict)  # fingerprint → the machine that was forgotten


class Trust:
    """Whom this machine trusts. For one thread."""

    def __init__(self, path: Path) -> None:
        """Take up what is kept in `path`.

        Raises:
            InvalidConfig: It cannot be read. It is not begun anew, as that would forget who was forgotten.
        """
        self._path = path
        self._kept = _read(path)
        self._peers: dict[str, Peer] = {}
        for machine_id, known in self._kept.machines.items():
            self._peers[machine_id] = _peer(machine_id, _section(machine_id, known))

    def on_machines(self, raws: Iterable[Mapping[str, Any]]) -> bool:
        """These are all machine documents that there are, as after a start; says whether anything changed."""
        raws = list(raws)
        there = {raw.get("_id") for raw in raws}
        gone = [machine_id for machine_id in self._peers if machine_id not in there]
        changed = [self._take(raw) for raw in raws]
        for machine_id in gone:
            del self._peers[machine_id]
        if any(changed) or gone:
            self._save()
        return bool(any(changed) or gone)

    def on_machine(self, raw: Mapping[str, Any]) -> bool:
        """A machine document came in or has changed; says whether that changes who is trusted, or where they are."""
        changed = self._take(raw)
        if changed:
            self._save()
        return changed

    def on_machine_gone(self, machine_id: str) -> bool:
        """A machine document was deleted: the machine is not trusted while it has none."""
        if self._peers.pop(machine_id, None) is None:
            return False
        self._save()
        return True

    def peer(self, machine_id: str) -> Peer | None:
        """A machine, if it can be spoken to."""
        peer = self._peers.get(machine_id)
        if peer is None:
            return None
        allowed = tuple(each for each in peer.certificates if each.fingerprint not in self._kept.denied)
        return Peer(machine_id, allowed, peer.addresses) if allowed else None

    def peers(self) -> list[Peer]:
        """All machines that can be spoken to, this one included once it has published its certificate."""
        return [peer for machine_id in sorted(self._peers) if (peer := self.peer(machine_id)) is not None]

    def is_denied(self, fingerprint: str) -> bool:
        """Whether a certificate was of a machine that was forgotten."""
        return fingerprint in self._kept.denied

    def _take(self, raw: Mapping[str, Any]) -> bool:
        machine_id = raw.get("_id")
        if raw.get("type") != documents.MACHINE or not leaves.is_random_id(machine_id):
            return False
        machine_id = str(machine_id)
        section = read_section(raw)
        for problem in section.problems:
            log.warning("%s", problem)
        before = self._peers.get(machine_id)
        if raw.get("forgotten") is True:  # looked at alone: nothing else in the document keeps a machine trusted
            return self._forget(machine_id, section, before)
        if machine_id not in self._peers and len(self._peers) >= MAX_MACHINES:
            log.warning("machine %s: is not trusted, as there are %s others already", machine_id, MAX_MACHINES)
            return False
        after = _peer(machine_id, section)
        if not after.certificates:
            return self._peers.pop(machine_id, None) is not None
        self._peers[machine_id] = after
        return before != after

    def _forget(self, machine_id: str, section: PeerSection, before: Peer | None) -> bool:
        known = [*section.certificates, *(before.certificates if before else ())]
        fresh = [each.fingerprint for each in known if each.fingerprint not in self._kept.denied]
        self._kept.denied |= dict.fromkeys(fresh, machine_id)
        self._peers.pop(machine_id, None)
        if fresh or before:
            log.info("machine %s: was forgotten; its certificates are denied from now on", machine_id)
        return bool(fresh or before)

    def _save(self) -> None:
        self._kept.machines = {
            machine_id: _Known(
                certificates=[each.text for each in peer.certificates], addresses=[str(each) for each in peer.addresses]
            )
            for machine_id, peer in sorted(self._peers.items())
        }
        try:
            _write(self._path, self._kept.model_dump_json(indent=1))
        except OSError as error:
            # It holds in this life; the documents say it again in the next one.
            log.error("%s: whom we trust cannot be kept: %s", self._path, error.strerror)  # noqa: TRY400 - a sentence


def _peer(machine_id: str, section: PeerSection) -> Peer:
    return Peer(machine_id, section.certificates, section.addresses)


def _section(machine_id: str, known: _Known) -> PeerSection:
    return read_section({"_id": machine_id, "peer": known.model_dump()})


def _read(path: Path) -> _Kept:
    try:
        return _Kept.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Kept()
    except OSError as error:
        raise InvalidConfig(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError:
        raise InvalidConfig(
            f"{path}: whom we trust cannot be understood; with the file removed, it is learned anew from the library, "
            "but for machines that were forgotten and whose documents are gone"
        ) from None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
