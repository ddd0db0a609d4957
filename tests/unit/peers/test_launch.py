from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from dmedia_transfer.config import Config, PeerSettings
from dmedia_transfer.couch.address import Address
from dmedia_transfer.peers.server import launch
from dmedia_transfer.peers.server.messages import Setup
from dmedia_transfer.peers.trust import Trust
from tests.peers import make_machine

ADDRESS = Address("http://127.0.0.1:5984", "ann", SecretStr("hunter2"))


def test_the_setup_is_what_the_configuration_says(tmp_path: Path) -> None:
    config = Config(state_dir=tmp_path, floor_bytes=5, peer=PeerSettings(host="::1", port=7, upload_expire_s=90))
    setup = launch.setup_of(config, ADDRESS)
    assert (setup.host, setup.port, setup.expire_s, setup.floor_bytes) == ("::1", 7, 90, 5)
    assert (setup.database.url, setup.database.name) == ("http://127.0.0.1:5984", "dmedia")
    assert setup.trusted.machines == {}


def test_the_password_crosses_the_pipe_and_is_shown_nowhere_else(tmp_path: Path) -> None:
    setup = launch.setup_of(Config(state_dir=tmp_path), ADDRESS)
    assert "hunter2" not in repr(setup)
    read = Setup.model_validate_json(setup.model_dump_json())
    assert read.database.password.get_secret_value() == "hunter2"


def test_whom_to_let_in_is_said_with_all_their_certificates(tmp_path: Path) -> None:
    tv = make_machine(tmp_path / "tv")
    trust = Trust(tmp_path / "peers.json")
    trust.on_machine(tv.document())
    assert launch.trusted(trust.peers()).machines == {tv.id: [tv.certificate.text]}
