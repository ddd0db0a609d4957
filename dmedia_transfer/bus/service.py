"""The service on the bus: name, objects and calls.

Called on the thread of the GLib main loop. One message filter serves all paths, so that ten thousand transfers are
rows of the manager's table and not objects of ours. Nothing that a caller sends raises beyond this module.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

import dbus
import dbus.lowlevel

from dmedia_transfer import busnames
from dmedia_transfer.bus.announcer import Announcer
from dmedia_transfer.bus.calls import Calls, Refused
from dmedia_transfer.bus.contract import interfaces
from dmedia_transfer.bus.mainloop import CallLater, call_later
from dmedia_transfer.bus.values import text
from dmedia_transfer.busnames import BUS_NAME
from dmedia_transfer.errors import TransferError
from dmedia_transfer.ports import Control, JobControl
from dmedia_transfer.progress import Clock

log = logging.getLogger(__name__)

_INTERNAL: Final = busnames.ERROR_PREFIX + "Internal"


class NameTaken(TransferError):
    """Another process has the bus name: a daemon is already running."""


class BusService:
    """Offers a `Control` and a `JobControl` on the bus.

    Args:
        control: The manager.
        jobs: The long jobs.
        bus: A connection of dbus-python that is joined to the GLib main loop; it stays the caller's to close.
        call_later: Calls a function later on the main loop's thread.
        clock: Monotonic seconds.
        on_lost: Called when the bus goes away, as at the end of a session.
    """

    def __init__(
        self,
        control: Control,
        bus: Any,
        *,
        jobs: JobControl,
        call_later: CallLater = call_later,
        clock: Clock = time.monotonic,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self._control = control
        self._jobs = jobs
        self._bus = bus
        self._calls = Calls(control, jobs)
        self._call_later = call_later
        self._clock = clock
        self._on_lost = on_lost
        self._announcer: Announcer | None = None
        self._filter = self._handle  # one object: libdbus aborts the process when it is asked to remove another

    def publish(self) -> None:
        """Answer calls, tell of changes, and take the bus name.

        Raises:
            NameTaken: A daemon is already running on this bus.
        """
        self._bus.set_exit_on_disconnect(False)  # libdbus would end the process in the middle of anything
        self._bus.call_on_disconnection(self._lost)
        self._bus.add_message_filter(self._filter)
        self._announcer = Announcer(
            emit=self._emit, summary=self._control.summary, call_later=self._call_later, clock=self._clock
        )
        self._control.subscribe(self._announcer)
        self._jobs.subscribe(self._announcer)
        if self._bus.request_name(BUS_NAME, dbus.bus.NAME_FLAG_DO_NOT_QUEUE) not in (
            dbus.bus.REQUEST_NAME_REPLY_PRIMARY_OWNER,
            dbus.bus.REQUEST_NAME_REPLY_ALREADY_OWNER,
        ):
            self._withdraw()
            raise NameTaken(f"dmedia-transfer is already running: another process has the name {BUS_NAME} on this bus")
        log.info("%s is on the bus", BUS_NAME)

    def close(self) -> None:
        """Give the name back and answer no more; what was said before is sent first."""
        if self._announcer is None:
            return
        try:
            self._bus.release_name(BUS_NAME)
            self._bus.flush()
        except dbus.DBusException as error:  # the bus itself is gone
            log.info("the bus name %s could not be given back: %s", BUS_NAME, error)
        self._withdraw()

    def _withdraw(self) -> None:
        if self._announcer is not None:
            self._control.unsubscribe(self._announcer)
            self._jobs.unsubscribe(self._announcer)
            self._announcer.close()
            self._announcer = None
        self._bus.remove_message_filter(self._filter)

    def _lost(self, _bus: Any) -> None:
        if self._announcer is None:
            return
        log.warning("the bus went away; %s is not reachable any more", BUS_NAME)
        if self._on_lost:
            self._on_lost()

    def _handle(self, _bus: Any, message: Any) -> int:
        if not isinstance(message, dbus.lowlevel.MethodCallMessage) or not self._calls.knows(message.get_path()):
            return int(dbus.lowlevel.HANDLER_RESULT_NOT_YET_HANDLED)
        reply = self._answer(message)
        if not message.get_no_reply():
            self._bus.send_message(reply)
        return int(dbus.lowlevel.HANDLER_RESULT_HANDLED)

    def _answer(self, message: Any) -> Any:
        path, member = message.get_path(), message.get_member()
        try:
            interface, method = self._calls.find(path, message.get_interface(), member, message.get_signature())
            results = self._calls.call(path, interface, member, message.get_args_list())
            reply = dbus.lowlevel.MethodReturnMessage(message)
            if method.returns:
                reply.append(*results, signature=method.returns)
        except Refused as error:
            return _error(message, error.name, str(error))
        except TransferError as error:
            return _error(message, busnames.error_name(error), str(error))
        except Exception as error:
            log.exception("%s: %s of %s failed", path, member, message.get_sender())
            return _error(message, _INTERNAL, f"a fault of dmedia-transfer ({type(error).__name__}); its log says more")
        return reply

    def _emit(self, path: str, interface: str, member: str, *arguments: Any) -> None:
        try:
            signal = dbus.lowlevel.SignalMessage(path, interface, member)
            signal.append(*arguments, signature=interfaces()[interface].signals[member])
            self._bus.send_message(signal)
        except dbus.DBusException as error:  # the bus is gone; `on_lost` tells of that
            log.debug("%s: %s was not sent: %s", path, member, error)
        except Exception:  # a signal that cannot be made must not stop the manager, whose notice this is
            log.exception("%s: %s could not be sent", path, member)


def _error(message: Any, name: str, sentence: str) -> Any:
    return dbus.lowlevel.ErrorMessage(message, name, text(sentence))
