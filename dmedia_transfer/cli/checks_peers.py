"""Checks of `doctor` that are about peers: our key, what we publish, our server, and whom we can reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from dmedia_transfer import documents
from dmedia_transfer.cli import words
from dmedia_transfer.cli.findings import Finding, Verdict
from dmedia_transfer.errors import AccessDenied, InvalidConfig, TransferError
from dmedia_transfer.model import FileSpec, StoreSpec, random_id

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device

PART: Final = "peers"
STALL_S: Final = 5.0  # somebody is waiting
AT_ONCE: Final = 16
START_DAEMON: Final = "the daemon does it when it runs: `systemctl --user start dmedia-transfer`"


def peers(device: Device) -> Iterator[Finding]:
    """All that is between this machine and the others."""
    reach = device.reach
    if reach is None:
        yield Finding(
            PART,
            Verdict.NOTE,
            "this machine serves no others and fetches from none",
            "`[peer]` with `enabled = true` in the configuration changes that",
        )
        return
    with device.database() as database:
        machines = {str(raw["_id"]): raw for raw in database.find({"type": documents.MACHINE})}
    yield from _ourselves(device, machines.get(device.machine_id) or {})
    asked: dict[str, Mapping[str, Any]] = {}
    for machine_id, raw in sorted(machines.items()):
        if machine_id == device.machine_id or raw.get("forgotten"):
            continue
        try:
            asked[machine_id] = reach.settings(machine_id)
        except TransferError as error:
            yield Finding(f"machine {_name(raw)}", Verdict.NOTE, str(error))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for machine_id, problem in zip(asked, pool.map(_problem_with, asked.values()), strict=True):
            part = f"machine {_name(machines[machine_id])}"
            if problem is None:
                yield Finding(part, Verdict.GOOD, "it answers, and each of us knows who the other is")
            elif isinstance(problem, AccessDenied):
                yield Finding(part, Verdict.WRONG, str(problem), "both have to sync: look at `sync`, and at the clocks")
            else:
                yield Finding(part, Verdict.NOTE, f"it may be off: {problem}")


def _ourselves(device: Device, raw: Mapping[str, Any]) -> Iterator[Finding]:
    from dmedia_transfer.peers import identity
    from dmedia_transfer.peers.section import read_section

    try:
        ours = identity.load(device.config.state_dir)
    except InvalidConfig as error:
        yield Finding(PART, Verdict.WRONG, str(error), START_DAEMON)
        return
    if not ours.certificate.is_valid(datetime.now(UTC)):
        yield Finding(
            PART,
            Verdict.WRONG,
            f"our certificate ended on {words.moment(ours.certificate.not_after.timestamp())}, or the clock is wrong",
            "`dmedia-transfer machines new-key --at-once` makes another one",
        )
        return
    section = read_section(raw)
    if ours.certificate not in section.certificates:
        yield Finding(PART, Verdict.WRONG, "our certificate is not in our machine document yet", START_DAEMON)
        return
    if not section.addresses:
        yield Finding(
            PART,
            Verdict.WRONG,
            f"this machine says nowhere that it can be reached at port {device.config.peer.port}",
            "another program may have that port: see the daemon's problems, and `port` in `[peer]`",
        )
        return
    settings = {
        "machine_id": device.machine_id,
        "addresses": [str(each) for each in section.addresses],
        "certificates": [each.text for each in ours.published],
        "identity_dir": str(device.config.state_dir),
    }
    problem = _problem_with(settings)
    if problem is None:
        told = ", ".join(map(str, section.addresses))
        yield Finding(PART, Verdict.GOOD, f"others can reach this machine at {told}, if no firewall is between")
    else:
        yield Finding(PART, Verdict.WRONG, f"our own server does not answer: {problem}", START_DAEMON)


def _problem_with(settings: Mapping[str, Any]) -> TransferError | None:
    """Why a machine does not answer us, or None if it does."""
    from dmedia_transfer import backends

    backend = backends.create(StoreSpec(random_id(), "peer", settings), stall_s=STALL_S, connections=1)
    try:
        backend.stat(FileSpec("A" * 48, 1, bytes(32)))  # that it does not have it is answer enough
    except TransferError as error:
        return error
    finally:
        backend.close()
    return None


def _name(raw: Mapping[str, Any]) -> str:
    return words.printable(str(raw.get("hostname") or raw["_id"]))
