"""`daemon`, `doctor` and `demo`: the service itself."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dmedia_transfer import journald
from dmedia_transfer.cli import words
from dmedia_transfer.cli.options import command, json_option, with_device

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device


@command("daemon", "Run the daemon in the foreground.")
@with_device
def daemon_command(device: Device) -> int:
    """Run the daemon in the foreground, until SIGTERM or Ctrl-C.

    Usually systemd or D-Bus start it: `systemctl --user enable --now dmedia-transfer`.
    """
    from dmedia_transfer import daemon

    _log(device.config.log_level)
    return daemon.run(device.config, reread=device.read_config)


@command("doctor", "Say what is wrong and what to do.")
@json_option()
@with_device
def doctor_command(device: Device, *, as_json: bool) -> int:
    """Look at every part, and say what is wrong and what to do.

    The exit code is 1 if something is wrong. Of enabled S3 stores it tries whether they can be written.
    """
    from dmedia_transfer.cli import doctor

    return doctor.run(device, as_json=as_json)


@command("demo", "Show the main job, on loopback.")
@click.option("--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Use this file.")
@click.option(
    "--size", default="256MiB", metavar="SIZE", help="Or one of this size with random content.  [default: 256MiB]"
)
@click.option("--keep", is_flag=True, help="Keep the folder with all that was made, and say where it is.")
def demo_command(*, file: Path | None, size: str, keep: bool) -> int:
    """Show the main job on this machine: import, upload, drop, download, compare.

    Everything is private and temporary: a session bus, a document server, an S3 server (rclone) and a daemon, all on
    loopback. Nothing of yours is touched, and nothing stays.
    """
    from dmedia_transfer.cli import demo

    return demo.run(file=file, size=words.parse_size(size), keep=keep)


class _Journald(logging.Formatter):
    """Lines with their level in front, as journald takes them from stderr (sd-daemon(3)); it knows the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{journald.PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def _log(level: str) -> None:
    """Log to stderr, in a form that suits who reads it; with --debug that is set up already."""
    root = logging.getLogger()
    if root.level == logging.DEBUG:
        return
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if journald.is_stderr():
        handler.setFormatter(_Journald("%(name)s: %(message)s"))
        handler = journald.JournalHandler(handler)
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.handlers[:] = [handler]
    root.setLevel(level)
