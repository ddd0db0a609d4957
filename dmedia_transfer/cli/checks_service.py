"""Checks of `doctor` that are about the service: D-Bus, the daemon, systemd. None of them starts it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dmedia_transfer import __version__, busnames
from dmedia_transfer.cli import sandbox
from dmedia_transfer.cli.findings import Finding, Verdict

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device

UNIT: Final = "dmedia-transfer.service"
SANDBOX: Final = "50-namespaces.conf"  # the part of the unit that needs user namespaces
BUS_TIMEOUT_MS: Final = 5000
SYSTEMCTL_TIMEOUT_S: Final = 10


def bus(device: Device) -> Iterator[Finding]:
    """The session bus, and the daemon on it."""
    from gi.repository import Gio, GLib

    part = "D-Bus"
    try:
        address = Gio.dbus_address_get_for_bus_sync(Gio.BusType.SESSION, None)
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
        owned = _ask_bus(connection, "NameHasOwner", GLib.Variant("(s)", (busnames.BUS_NAME,)), "(b)")
        startable = _ask_bus(connection, "ListActivatableNames", None, "(as)")
        connection.close_sync(None)
    except GLib.Error as error:
        yield Finding(
            part,
            Verdict.WRONG,
            f"there is no session bus: {error.message}",
            "log in to a session, or use dbus-run-session",
        )
        return
    yield Finding(part, Verdict.GOOD, "the session bus answers")
    if owned:
        yield from _daemon(device)
    elif busnames.BUS_NAME in startable:
        yield Finding("daemon", Verdict.NOTE, "it is not running; D-Bus starts it when somebody asks for it")
    else:
        yield Finding(
            "daemon",
            Verdict.WRONG,
            "it is not running, and D-Bus does not know how to start it",
            f"`systemctl --user enable --now {UNIT}`, or `dmedia-transfer daemon`",
        )


def _ask_bus(connection: Any, method: str, arguments: Any, reply: str) -> Any:
    from gi.repository import Gio, GLib

    bus = "org.freedesktop.DBus"
    return connection.call_sync(
        bus,
        "/org/freedesktop/DBus",
        bus,
        method,
        arguments,
        GLib.VariantType(reply),
        Gio.DBusCallFlags.NONE,
        BUS_TIMEOUT_MS,
        None,
    ).unpack()[0]


def _daemon(device: Device) -> Iterator[Finding]:
    client = device.client
    if client is None:
        yield Finding(
            "daemon",
            Verdict.WRONG,
            f"it has its name on the bus and does not answer: {device.no_daemon}",
            "start it again",
        )
        return
    state = client.state()
    if state.version == __version__:
        yield Finding(
            "daemon", Verdict.GOOD, f"version {state.version} is running, {state.active} active, {state.queued} waiting"
        )
    else:
        yield Finding(
            "daemon",
            Verdict.WRONG,
            f"version {state.version} is running, and this is {__version__}",
            f"start it again: `systemctl --user restart {UNIT}`",
        )
    for problem in state.problems:
        yield Finding("daemon", Verdict.WRONG, problem)


def systemd(device: Device) -> Iterator[Finding]:
    """The unit that starts the daemon."""
    part = "systemd"
    if shutil.which("systemctl") is None or not Path("/run/systemd/system").is_dir():
        yield Finding(part, Verdict.NOTE, "systemd does not run this machine; something else has to start the daemon")
        return
    said = subprocess.run(
        ["systemctl", "--user", "is-enabled", UNIT],
        capture_output=True,
        text=True,
        timeout=SYSTEMCTL_TIMEOUT_S,
        check=False,
    )
    state = said.stdout.strip() or said.stderr.strip()
    if said.returncode == 0:
        yield Finding(part, Verdict.GOOD, f"{UNIT} is {state}")
    else:
        yield Finding(
            part,
            Verdict.NOTE,
            f"{UNIT} does not start with the session ({state})",
            f"`systemctl --user enable --now {UNIT}`",
        )
    yield from _sandbox()


def _sandbox() -> Iterator[Finding]:
    said = subprocess.run(
        ["systemctl", "--user", "show", "--property", "PrivateUsers", "--value", UNIT],
        capture_output=True,
        text=True,
        timeout=SYSTEMCTL_TIMEOUT_S,
        check=False,
    )
    if said.stdout.strip() == "yes" and not sandbox.user_namespaces():
        yield Finding(
            "systemd",
            Verdict.WRONG,
            "the unit wants a user namespace, and this system lets no user have one: the service cannot start",
            f"mkdir -p ~/.config/systemd/user/{UNIT}.d && ln -s /dev/null ~/.config/systemd/user/{UNIT}.d/{SANDBOX} && "
            "systemctl --user daemon-reload",
        )
