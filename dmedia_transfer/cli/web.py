"""`web`: open the page of this machine's daemon."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dmedia_transfer.cli.options import command, json_option, with_device
from dmedia_transfer.cli.output import Output, note
from dmedia_transfer.errors import ConnectionLost, InvalidRequest

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device

TIMEOUT_S: Final = 10.0
START_S: Final = 10.0  # until a daemon that was just started listens
POLL_S: Final = 0.05


@command("web", "Open the page in a browser.")
@click.option("--print", "print_only", is_flag=True, help="Print the link, and open nothing.")
@json_option()
@with_device
def web_command(device: Device, *, print_only: bool, as_json: bool) -> int:
    """Open the page of this machine's daemon in a browser.

    The link works once, within five minutes; the browser it is opened in stays signed in for 30 days. The setting
    `web` switches the page on.

    \b
    Examples:
      dmedia-transfer web
      dmedia-transfer web --print
    """
    if not device.config.web.enabled:
        raise InvalidRequest("the page is off: put `enabled = true` below `[web]` into the configuration, and restart")
    link = new_link(device)
    output = Output(as_json=as_json)
    output.value(link)
    output.line(str(link["url"]))
    if not print_only and not as_json and not _opened(str(link["url"])):
        note("there is no browser here: open the link in one on this machine")
    return 0


def new_link(device: Device) -> dict[str, Any]:
    """A link that opens the page once.

    Raises:
        ConnectionLost: The daemon is not there, or does not serve.
    """
    path = device.config.runtime_dir / "web.sock"
    if device.client is None:
        raise ConnectionLost(f"the daemon is not running: {device.no_daemon}")
    deadline = time.monotonic() + START_S
    while True:
        try:
            return _ask(path)
        except OSError as error:
            if time.monotonic() > deadline:
                raise ConnectionLost(
                    f"the daemon does not serve the page at {path} ({error.strerror or error}); its log says why"
                ) from None
            time.sleep(POLL_S)


class _Connection(http.client.HTTPConnection):
    """HTTP through a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _ask(path: Path) -> dict[str, Any]:
    connection = _Connection(path)
    try:
        connection.request("POST", "/api/v1/links")
        answer = connection.getresponse()
        body: dict[str, Any] = json.loads(answer.read())
    except (http.client.HTTPException, ValueError) as error:
        raise ConnectionLost(f"the daemon's answer at {path} makes no sense: {error!r}") from None
    finally:
        connection.close()
    if answer.status != 201:
        raise ConnectionLost(f"the daemon makes no link: {body.get('detail', answer.status)}")
    return body


def _opened(url: str) -> bool:
    """Whether a browser was asked to open it. One in a terminal would take this terminal over."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    return webbrowser.open(url)
