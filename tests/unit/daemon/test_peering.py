"""What the daemon makes of machines that say where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer.bus import mainloop
from dmedia_transfer.config import Config
from dmedia_transfer.daemon.peering import Peering
from dmedia_transfer.peers.section import PeerAddress, write_section
from tests.factories import MACHINE_ID
from tests.peers import Machine, make_machine

AT = PeerAddress.parse("192.168.1.4:5987")


class Watched(Peering):
    """One that was not started: it serves nobody, and hears what a test says."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Config(state_dir=folder / "state"), MACHINE_ID)
        self.said: list[str] = []
        self.there: dict[str, list[PeerAddress]] = {}
        self._on_changed = lambda: self.said.append("changed")
        self._on_back = self.said.append
        self._server: Any = type("Server", (), {"trust": lambda *_: None})()

    def _discovered(self, machine_id: str) -> list[PeerAddress]:
        return self.there.get(machine_id, [])


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    found: list[Callable[[], None]] = []
    monkeypatch.setattr(mainloop, "call_later", lambda _seconds, call: _keep(found, call))
    return found


def _keep(found: list[Callable[[], None]], call: Callable[[], None]) -> Callable[[], None]:
    found.append(call)
    return lambda: None


@pytest.fixture
def tv(tmp_path: Path) -> Machine:
    return make_machine(tmp_path / "tv")


def test_a_machine_that_is_heard_is_back_and_one_that_says_goodbye_is_not(
    tmp_path: Path, tv: Machine, timers: list[Callable[[], None]]
) -> None:
    peering = Watched(tmp_path)
    peering.machines_loaded([tv.document()])
    peering.said.clear()
    peering.there[tv.id] = [AT]
    peering._heard(tv.id)
    peering._heard(tv.id)
    peering._heard("Q" * 24)  # nobody of ours
    (settled,) = timers
    settled()
    assert peering.said == ["changed", tv.id]
    del peering.there[tv.id]
    peering._heard(tv.id)
    timers[-1]()
    assert peering.said == ["changed", tv.id, "changed"]


def test_a_machine_that_publishes_another_address_is_back(tmp_path: Path, tv: Machine) -> None:
    peering = Watched(tmp_path)
    peering.machines_loaded([tv.document()])
    peering.said.clear()
    elsewhere = tv.document(peer=write_section(None, tv.identity.published, [AT]))
    peering.machine_changed(elsewhere)
    peering.machine_changed(elsewhere)
    assert peering.said == ["changed", tv.id]
