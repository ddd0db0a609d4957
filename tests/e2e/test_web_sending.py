"""A film is sent to the REST API by a client that others have written, over a line and to a daemon that both fail.

`HYPOTHESIS_PROFILE=soak` sends one of 1 GiB.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from dmedia_transfer import leaves
from tests.device import WAIT_S, Device, eventually
from tests.e2e.acting import LEAF
from tests.e2e.conftest import SERVERS, Scene
from tests.proxy import FaultyProxy

pytestmark = pytest.mark.parametrize("s3", SERVERS[:1], indirect=True)

FOLDER: Final = Path(__file__).parents[1] / "javascript"
SOAK: Final = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
SIZE: Final = (1024**3 if SOAK else 7 * LEAF) + 12_345
MEMORY_BYTES: Final = 64 * 1024 * 1024  # more than a few leaves are in memory nowhere


def film(path: Path) -> str:
    """Make a file of which no two leaves are equal, and that takes no room on the disk; returns its ID."""
    zeros, digests = bytes(LEAF), b""
    with path.open("wb") as file:
        file.truncate(SIZE)
        for index in range(leaves.leaf_count(SIZE)):
            span = leaves.leaf_span(SIZE, index)
            mark = b"leaf %d" % index
            os.pwrite(file.fileno(), mark, span.start)
            digests += hashlib.sha256(mark + zeros[: span.size - len(mark)]).digest()
    return leaves.file_id(digests)


def facts(device: Device, name: str, key: str) -> int:
    """What the kernel counts of the daemon's process: bytes read from files, or memory."""
    found = re.search(rf"^{key}:\s+(\d+)", Path(f"/proc/{device.pid}/{name}").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@contextlib.contextmanager
def sending(proxy: FaultyProxy, log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The client at work; what it tells is in `log`."""
    assert (FOLDER / "node_modules" / "tus-js-client").is_dir(), "run `make test`, which installs tus-js-client"
    command = ["node", "rest.mjs", json.dumps({"via": proxy.address[1], **options})]
    with log.open("wb") as output:
        client = subprocess.Popen(command, cwd=FOLDER, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield client
    finally:
        client.kill()
        client.wait()


def test_a_film_comes_whole_through_a_cut_a_stall_and_a_kill_and_goes_on_to_the_bucket(
    stage: Scene, tmp_path: Path
) -> None:
    device, path, log = stage.device, tmp_path / "film", tmp_path / "told"
    file_id = film(path)
    device.extra_env.update(DMEDIA_WEB__ENABLED="true", DMEDIA_WEB__PORT="0")
    device.start()
    port = json.loads(device.cli("web", "--json").stdout)["url"].split("/")[2].rpartition(":")[2]
    device.extra_env["DMEDIA_WEB__PORT"] = port
    token = (device.state_dir / "web.token").read_text().strip()
    url = f"http://127.0.0.1:{port}/api/v1"
    memory = facts(device, "status", "VmHWM")
    third = SIZE // 4

    with FaultyProxy(("127.0.0.1", int(port))) as proxy:
        metadata = {"filename": "film.mkv", "filetype": "video/x-matroska", "upload_to": stage.bucket}
        proxy.hold(up=True, after=third)
        with sending(proxy, log, endpoint=f"{url}/uploads", token=token, file=str(path), metadata=metadata) as client:

            def held() -> bool:
                assert client.poll() is None, log.read_text()
                return proxy.holding

            eventually(held)  # in the middle of the one request that has all of it
            proxy.cut()
            proxy.hold(up=True, after=third)

            eventually(held)  # a stall: connections stay open, and new ones bring nothing either
            proxy.cut()
            eventually(lambda: proxy.open_connections > 0)
            proxy.cut()
            proxy.hold(up=True, after=third)

            eventually(held)
            assert facts(device, "status", "VmHWM") - memory < MEMORY_BYTES // 1024
            device.kill()
            device.start()
            memory, read = facts(device, "status", "VmHWM"), facts(device, "io", "rchar")
            proxy.release()
            assert client.wait(WAIT_S) == 0, log.read_text()
            # Hashed as it came: what was here is not read again to know what it is.
            assert facts(device, "io", "rchar") - read < 3 * LEAF
            assert facts(device, "status", "VmHWM") - memory < MEMORY_BYTES // 1024
        told = [json.loads(line) for line in log.read_text().splitlines()]
        assert told[-1] == {"done": True}
        # Each time it asked how far it is, and went on from there: a leaf that was under way is sent again.
        offsets = [each["offset"] for each in told if each.get("method") == "HEAD" and each["status"] == 200]
        assert len(offsets) >= 3
        assert offsets == sorted(offsets)
        assert offsets[-1] > SIZE // 2
        assert proxy.bytes_up - SIZE < 3 * 2 * LEAF

    here = device.path_of(file_id)
    assert here.stat().st_size == SIZE
    assert subprocess.run(["cmp", str(path), str(here)], check=False).returncode == 0
    shown = requests.get(f"{url}/files/{file_id}", headers={"Authorization": f"Bearer {token}"}, timeout=WAIT_S).json()
    assert (shown["name"], shown["mime"], shown["bytes"]) == ("film.mkv", "video/x-matroska", SIZE)
    eventually(lambda: device.get(file_id)["stored"].get(stage.bucket, {}).get("copies") == 1, within_s=2 * WAIT_S)
    assert stage.s3.client().head_object(Bucket=stage.s3.bucket, Key=stage.key(file_id))["ContentLength"] == SIZE
    assert list((device.store_dir / "partial").rglob("*/*")) == []
