"""Logging in to a store, and that what was entered is nowhere but in the keyring."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmedia_transfer.bindings import FILE_NAME as STORES_FILE
from dmedia_transfer.bindings import Bindings
from dmedia_transfer.model import Direction
from dmedia_transfer.states import Status
from tests.couch import TIMEOUT_S
from tests.device import WAIT_S, Device, eventually
from tests.e2e.acting import LEAF, begin, download_of, on_one_server
from tests.e2e.conftest import Scene
from tests.factories import content
from tests.keyring import running_keyring

pytestmark = on_one_server


@pytest.fixture
def keyless(stage: Scene, tmp_path: Path) -> Iterator[Scene]:
    """A device that finds no credentials anywhere, with an unlocked keyring on its session bus."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del stage.device.extra_env[name]
    stage.device.extra_env["AWS_EC2_METADATA_DISABLED"] = "true"
    with running_keyring(stage.device.bus, tmp_path / "keyring"):
        yield stage


PROMPTS = (b"Access key for", b"Secret key:")


def typed(device: Device, *arguments: str, answers: list[str]) -> tuple[int, str]:
    """Run a command in a terminal and answer its prompts; the exit code, and what was on the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir("/")
        os.execve(sys.executable, [sys.executable, "-m", "dmedia_transfer.cli", *arguments], device.env)
    screen, waiting, until = b"", list(zip(PROMPTS, answers, strict=True)), time.monotonic() + WAIT_S
    try:
        while True:
            assert time.monotonic() < until, screen.decode()
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                screen += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
            if waiting and waiting[0][0] in screen and screen.endswith(b": "):
                os.write(terminal, waiting.pop(0)[1].encode() + b"\n")
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen.decode()


def test_what_was_entered_is_tried_used_and_nowhere_but_in_the_keyring(keyless: Scene, tmp_path: Path) -> None:
    scene, device = keyless, keyless.device
    secrets = [scene.s3.secret_key, scene.s3.access_key]
    heard = tmp_path / "heard"
    with heard.open("wb") as file:
        ear = subprocess.Popen(["dbus-monitor", "--address", device.bus.address, "--pcap"], stdout=file)
    try:
        eventually(lambda: heard.stat().st_size)
        code, screen = typed(device, "stores", "login", scene.bucket, answers=[secrets[1], "a wrong one"])
        assert code == 1, screen
        assert "denied" in screen.lower() or "refused" in screen.lower() or "403" in screen, screen
        code, screen = typed(device, "stores", "login", scene.bucket, answers=[secrets[1], secrets[0]])
        assert code == 0, screen
        assert "works" in screen
        assert not any(secret in screen for secret in secrets)

        device.start()
        written = b""
        with device.client() as client:
            up, data = begin(scene, client, Direction.UPLOAD, LEAF + 5, seed=901)
            assert client.transfer(up).wait(timeout_s=WAIT_S).status is Status.DONE
            assert scene.get_object(up.file_id) == data
            down = download_of(scene.remote_file(content(LEAF, seed=902)))
            assert client.queue_download(down.file_id).wait(timeout_s=WAIT_S).status is Status.DONE
            pids = [device.pid, *device.workers()]
            assert len(pids) > 1
            for pid in pids:
                written += Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
                (cores,) = [
                    line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in line
                ]
                assert cores.split()[4:6] == ["1", "1"]
        for command in (("list", "--json"), ("stores", "--json"), ("doctor", "--json")):
            told = device.cli(*command, check=False)
            written += (told.stdout + told.stderr).encode()
        with device.http() as (session, url):
            written += session.get(f"{url}/_all_docs?include_docs=true", timeout=TIMEOUT_S).content
            written += session.get(f"{url}/_changes?include_docs=true", timeout=TIMEOUT_S).content
        device.stop()
    finally:
        ear.terminate()
        ear.wait(WAIT_S)
    written += heard.read_bytes()
    for path in device.folder.rglob("*"):
        if path.is_file():
            written += path.read_bytes()
    assert written.count(scene.bucket.encode()) > 10, "what was written was not looked at"
    for secret in secrets:
        assert secret.encode() not in written
    assert device.cli("stores", "logout", scene.bucket).stdout.endswith("logged out\n")
    assert "nobody was logged in" in device.cli("stores", "logout", scene.bucket).stdout


def test_without_a_keyring_a_login_says_what_else_there_is(stage: Scene) -> None:
    device, s3 = stage.device, stage.s3
    told = subprocess.run(
        [sys.executable, "-m", "dmedia_transfer.cli", "stores", "login", stage.bucket],
        env=device.env,
        input=f"{s3.access_key}\n{s3.secret_key}\n",
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert told.returncode == 1
    for word in ("no keyring", "~/.aws/credentials", "--profile", f"LoadCredential=s3-{stage.bucket}"):
        assert word in told.stderr
    assert s3.secret_key not in told.stderr + told.stdout


def test_a_profile_is_a_login_too(keyless: Scene) -> None:
    scene, device = keyless, keyless.device
    folder = device.folder / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        f"[films]\naws_access_key_id = {scene.s3.access_key}\naws_secret_access_key = {scene.s3.secret_key}\n"
    )
    assert device.cli("stores", "login", scene.bucket, "--profile", "films").returncode == 0
    assert device.cli("stores", "login", scene.bucket, "--profile", "photos", check=False).returncode == 1
    bindings = Bindings(device.state_dir / STORES_FILE)
    assert bindings.login(device.get(scene.bucket)) == "profile:films"
    assert bindings.login({**device.get(scene.bucket), "bucket": "another"}) == ""
