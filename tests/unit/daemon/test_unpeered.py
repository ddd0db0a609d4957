from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from dmedia_transfer.config import Config
from dmedia_transfer.couch.address import Address
from dmedia_transfer.daemon.peering import Peering
from dmedia_transfer.daemon.unpeered import Unpeered, peering_of
from dmedia_transfer.peers.section import write_section
from tests.factories import MACHINE_ID


class FakeLibrary:
    """Keeps what it is to say."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def say_of_peer(self, section: Any) -> None:
        self.said.append(dict(section))

    def look_at_machine(self, machine_id: str) -> None: ...

    def flush(self) -> None: ...


def test_a_machine_without_peers_takes_back_what_it_published(tmp_path: Path) -> None:
    unpeered = peering_of(Config(state_dir=tmp_path), MACHINE_ID)
    assert isinstance(unpeered, Unpeered)
    assert unpeered.reach is None
    library = FakeLibrary()
    unpeered.start(Address("http://127.0.0.1:1", "", SecretStr("")), library=library)
    assert library.said == [write_section(None, (), ())]
    assert not (tmp_path / "peer").exists()


def test_it_can_be_told_all_that_one_with_peers_is_told() -> None:
    wanted = {name for name in vars(Peering) if not name.startswith("_")} | {"reach"}
    assert wanted <= {name for name in vars(Unpeered) if not name.startswith("_")}


def test_a_machine_without_peers_loads_nothing_for_them() -> None:
    program = "import sys, dmedia_transfer.daemon.joined; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert {"zeroconf", "ifaddr", "cryptography"}.isdisjoint(done.stdout.split())
