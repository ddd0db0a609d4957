"""tus-js-client, which others have written, sends files to a machine: interrupted, resumed, refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.model import FileSpec
from dmedia_transfer.peers import wire
from tests import factories
from tests.peers import Machine
from tests.peerserver import Host

FOLDER = Path(__file__).parents[1] / "javascript"
DATA = factories.content(leaves.LEAF_BYTES + 4_000_000, seed=41)
TIMEOUT_S = 60

Send = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def send(host: Host, phone: Machine, tmp_path: Path) -> Send:
    """Runs the client with the phone's key: how it ended, and what it told."""
    assert (FOLDER / "node_modules" / "tus-js-client").is_dir(), "run `make test`, which installs tus-js-client"
    pinned = tmp_path / "pinned.pem"
    pinned.write_text(host.machine.certificate.pem)

    def run(file: FileSpec, data: bytes, **options: Any) -> tuple[int, list[dict[str, Any]]]:
        source = tmp_path / "source"
        source.write_bytes(data)
        said = {
            "endpoint": f"https://127.0.0.1:{host.port}{wire.UPLOADS}",
            "pem": str(phone.identity.file),
            "ca": str(pinned),
            "file": str(source),
            "fileId": file.file_id,
            **options,
        }
        command = ["node", "tus.mjs", json.dumps(said)]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, timeout=TIMEOUT_S, check=False)
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert told, done.stderr.decode()
        return done.returncode, told

    return run


def test_it_sends_a_file_is_killed_and_goes_on_in_another_process(host: Host, send: Send) -> None:
    file = host.document(DATA)
    status, told = send(file, DATA, dieAt=6_000_000)
    assert status == -9
    url = next(each["url"] for each in told if "url" in each)
    host.stop()  # as when the machine goes to sleep as well
    host.setup = host.setup.model_copy(update={"port": host.port})
    host.start()
    status, told = send(file, DATA, uploadUrl=url)
    assert status == 0, told
    assert min(each["accepted"] for each in told if "accepted" in each) > 6_000_000  # nothing was sent twice
    assert told[-1] == {"done": True}
    assert host.store.path(file.file_id).read_bytes() == DATA
    assert host.stored.get(timeout=10).file_id == file.file_id


def test_it_sends_the_first_bytes_with_the_creation(host: Host, send: Send) -> None:
    data = factories.content(4_000_000, seed=42)
    file = host.document(data)
    status, told = send(file, data, duringCreation=True)
    assert (status, told[-1]) == (0, {"done": True})
    assert host.store.path(file.file_id).read_bytes() == data


def test_it_is_told_of_a_wrong_leaf(host: Host, send: Send) -> None:
    data = factories.content(4_000_000, seed=43)
    file = host.document(data)
    status, told = send(file, data[:-1] + bytes([data[-1] ^ 1]))
    assert (status, told[-1]["status"]) == (1, 460)
    assert not host.store.has(file.file_id)
