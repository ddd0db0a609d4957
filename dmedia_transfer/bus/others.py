"""Others on a bus: whether a service is there, what it says, and calls to it that never block.

A service that is not there is never started by us, and one that does not answer, or says nonsense, harms nobody: what
goes wrong is a line in the log, for debugging. Called on the thread of the GLib main loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import dbus
import dbus.bus
import dbus.mainloop.glib

from dmedia_transfer.busnames import PROPERTIES

log = logging.getLogger(__name__)

CALL_TIMEOUT_S: Final = 10.0

Cancel = Callable[[], None]


def system_bus() -> Any | None:
    """A connection to the system bus, joined to the GLib main loop; None where there is none."""
    try:
        bus = dbus.bus.BusConnection(dbus.bus.BusConnection.TYPE_SYSTEM, mainloop=dbus.mainloop.glib.DBusGMainLoop())
    except dbus.DBusException as error:
        log.info("there is no system bus: the connection and the power are taken for granted (%s)", error)
        return None
    bus.set_exit_on_disconnect(False)  # libdbus would end the process
    return bus


class Service:
    """Somebody else's service, by its name on a bus."""

    def __init__(self, bus: Any, name: str) -> None:
        self._bus = bus
        self.name = name
        self.owner: str | None = None  # the connection that has the name; empty while the service is not there
        self._cancels: list[Cancel] = []

    def watch(self, on_change: Callable[[bool], None]) -> None:
        """Say whether the service is there: first soon, and then whenever it comes or goes."""

        def owned(owner: str) -> None:
            if owner != self.owner:
                self.owner = str(owner)
                on_change(bool(owner))

        self._guarded(lambda: self._cancels.append(self._bus.watch_name_owner(self.name, _safe(owned)).cancel))

    def hear(
        self,
        interface: str,
        member: str,
        handler: Callable[..., None],
        *,
        path: str | None = None,
        about: str | None = None,
    ) -> Cancel:
        """Hear a signal; nothing else of what the service says wakes us.

        Args:
            interface: Of the signal.
            member: Its name.
            handler: Called with its arguments.
            path: The object that it is of; None: any.
            about: Its first argument: of PropertiesChanged the interface whose properties they are.
        """
        matches: list[Any] = []

        def begin() -> None:
            more = {} if about is None else {"arg0": about}
            matches.append(self._bus.add_signal_receiver(_safe(handler), member, interface, self.name, path, **more))

        def cancel() -> None:
            for match in matches:
                match.remove()
            matches.clear()

        self._guarded(begin)
        self._cancels.append(cancel)
        return cancel

    def call(
        self,
        path: str,
        interface: str,
        method: str,
        signature: str = "",
        *arguments: Any,
        on_reply: Callable[..., None] = lambda *_: None,
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Call a method, without waiting; `on_error` gets a sentence."""

        def failed(error: object) -> None:
            log.debug("%s: %s failed: %s", self.name, method, error)
            on_error(str(error))

        def begin() -> None:
            self._bus.call_async(
                self.name,
                path,
                interface,
                method,
                signature,
                arguments,
                _safe(on_reply),
                _safe(failed),
                timeout=CALL_TIMEOUT_S,
            )

        self._guarded(begin)

    def properties(
        self,
        path: str,
        interface: str,
        on_reply: Callable[[Mapping[str, Any]], None],
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        """All properties of an interface."""
        self.call(path, PROPERTIES, "GetAll", "s", interface, on_reply=on_reply, on_error=on_error)

    def close(self) -> None:
        """Hear no more."""
        for cancel in self._cancels:
            self._guarded(cancel)
        self._cancels.clear()

    def _guarded(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (dbus.DBusException, ValueError, TypeError) as error:  # the bus is gone, or never had such a name
            log.debug("%s: %s", self.name, error)


def _safe(handler: Callable[..., None]) -> Callable[..., None]:
    """What others say may be anything; a handler that fails over it must not show on stderr only."""

    def call(*arguments: Any) -> None:
        try:
            handler(*arguments)
        except Exception:
            log.exception("what another service said was not understood")

    return call
