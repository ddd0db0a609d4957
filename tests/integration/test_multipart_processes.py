"""The example program, run as users do: paused in one process, gone on with in another, against both S3 servers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmedia_transfer.multipart import Session
from tests.factories import content
from tests.proxy import FaultyProxy
from tests.s3 import S3Server
from tests.waiting import WAIT_S

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "multipart_upload.py"
SIZE = 32 * MIB + 12345
PAUSED = 3


@pytest.fixture(params=["rclone_s3", "moto_s3"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each S3-compatible server in turn."""
    one: S3Server = request.getfixturevalue(request.param)
    return one


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultyProxy]:
    """What sees each request, and is slow enough for a pause to come in the middle."""
    with FaultyProxy(server.address) as proxy:
        proxy.limit(16 * MIB)
        yield proxy


class Program:
    """The example, at work."""

    def __init__(self, server: S3Server, proxy: FaultyProxy, folder: Path, source: str, key: str) -> None:
        self.session = folder / "upload.json"
        self._env = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "PYTHONPATH": str(ROOT),
        }
        options = ["--session", str(self.session), "--endpoint-url", proxy.url, "--part-mib", "5"]
        self._command = [sys.executable, str(EXAMPLE), source, server.bucket, key, *options]

    def run(self, *, stdin: bytes = b"", pause_after_part: bool = False) -> tuple[int, str]:
        """Run it to its end; pause it by Ctrl-C once a part is there. Returns the exit code and what it said."""
        process = subprocess.Popen(
            self._command,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=False,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        feeder = threading.Thread(target=_feed, args=(process, stdin), daemon=True)
        feeder.start()
        said = ""
        late = threading.Timer(WAIT_S, process.kill)
        late.start()
        try:
            for line in process.stdout:
                said += line.decode()
                if pause_after_part and line.startswith(b"part "):
                    pause_after_part = False
                    process.send_signal(signal.SIGINT)
            return process.wait(WAIT_S), said
        finally:
            late.cancel()
            process.kill()
            process.wait(WAIT_S)
            process.stdout.close()
            feeder.join(WAIT_S)


def _feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it was paused, and reads no more
        process.stdin.write(data)
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_an_upload_paused_in_one_process_goes_on_in_another_and_no_part_is_sent_twice(
    server: S3Server, proxy: FaultyProxy, tmp_path: Path, kind: str
) -> None:
    data = content(SIZE, seed=7)
    key = f"example-{uuid.uuid4().hex}"
    path = tmp_path / "film"
    path.write_bytes(data)
    stream = kind == "stream"
    program = Program(server, proxy, tmp_path, "-" if stream else str(path), key)
    with proxy.recording() as recorded:
        code, said = program.run(stdin=data if stream else b"", pause_after_part=True)
        assert code == PAUSED, said
        raw = json.loads(program.session.read_text())
        session = Session.read(raw)
        assert 0 < raw["bytes_sent"] == sum(part.size for part in session.parts) < SIZE
        assert raw["upload_id"] in said
        assert said.index("pausing:") < said.index("paused:")

        proxy.limit(None)
        code, said = program.run(stdin=data[session.bytes_read :] if stream else b"")
        assert code == 0, said
    assert raw["upload_id"] in said
    assert not program.session.exists()
    sent = sorted(int(number) for number in re.findall(rb"PUT /\S*[?&]partNumber=(\d+)", recorded))
    assert sent == list(range(1, -(-SIZE // (5 * MIB)) + 1))
    body = server.client().get_object(Bucket=server.bucket, Key=key)["Body"]
    assert body.read() == data
