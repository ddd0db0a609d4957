"""The bus service in a process of its own, over a manager that is not real. `python -m tests.bus_server`."""

from __future__ import annotations

import signal

import dbus
import dbus.mainloop.glib
from gi.repository import GLib

from dmedia_transfer.bus.service import BusService
from tests.control import FakeControl
from tests.jobcontrol import FakeJobs


def main() -> None:
    """Serve on the session bus until SIGTERM, or until the bus goes away."""
    loop = GLib.MainLoop()
    bus = dbus.SessionBus(mainloop=dbus.mainloop.glib.DBusGMainLoop())
    service = BusService(FakeControl(), bus, jobs=FakeJobs(), on_lost=loop.quit)
    service.publish()
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGTERM, loop.quit)
    print("ready", flush=True)
    loop.run()
    service.close()


if __name__ == "__main__":
    main()
