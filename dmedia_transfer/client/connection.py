"""A connection to the bus with a GLib context of its own: calls that block, and signals read one by one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from gi.repository import Gio, GLib

from dmedia_transfer import busnames
from dmedia_transfer.busnames import BUS_NAME, MANAGER, ROOT
from dmedia_transfer.errors import ConnectionLost, InvalidRequest, TransferError

_BUS: Final = "org.freedesktop.DBus"  # the bus itself, as a name and as an interface


class Connection:
    """A connection to the bus on which the daemon is.

    Args:
        address: Of the bus; None: the session bus.
        timeout_s: Seconds that a call may take.

    Raises:
        ConnectionLost: There is no bus.
    """

    def __init__(self, address: str | None, *, timeout_s: float) -> None:
        self._timeout_ms = max(1, round(timeout_s * 1000))
        self._context = GLib.MainContext()
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        with self._own_context(), _translated("connect to the session bus"):
            address = address or Gio.dbus_address_get_for_bus_sync(Gio.BusType.SESSION, None)
            self._connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)

    def close(self) -> None:
        """Let go of it; again is no error."""
        if not self._connection.is_closed():
            with self._own_context(), _translated("close the connection"):
                self._connection.close_sync(None)

    def call(self, path: str, interface: str, method: str, arguments: Any, reply: str | None) -> Any:
        """Call a method of the daemon, which is started if need be, and return the values of its reply.

        Args:
            path: The object.
            interface: Of the method.
            method: Its name.
            arguments: A tuple, made by `variant`; None: none.
            reply: Signature of the tuple of results; None: there are none.

        Raises:
            TransferError: What the daemon, the bus or GDBus said.
        """
        with _translated(f"call {method}"):
            return self._connection.call_sync(
                BUS_NAME,
                path,
                interface,
                method,
                arguments,
                GLib.VariantType(reply) if reply else None,
                Gio.DBusCallFlags.NONE,
                self._timeout_ms,
                None,
            ).unpack()

    @contextmanager
    def _own_context(self) -> Iterator[None]:
        """What GDBus starts in here answers to our own context, not to the app's main loop."""
        self._context.push_thread_default()
        try:
            yield
        finally:
            self._context.pop_thread_default()

    @contextmanager
    def listening(self, path: str | None) -> Iterator[Inbox]:
        """Hear the signals of one transfer or job, or of all."""
        inbox = Inbox(self._connection, self._context, self._timeout_ms)
        subscribe, flags = self._connection.signal_subscribe, Gio.DBusSignalFlags.NONE
        with self._own_context():
            ids = [
                subscribe(BUS_NAME, None, None, path, None, flags, inbox.put),
                subscribe(_BUS, _BUS, "NameOwnerChanged", None, BUS_NAME, flags, inbox.put),
            ]
            if path is not None:
                for member in ("TransferRemoved", "JobRemoved"):
                    ids.append(subscribe(BUS_NAME, MANAGER, member, ROOT, None, flags, inbox.put))
        try:
            yield inbox
        finally:
            for subscription in ids:
                self._connection.signal_unsubscribe(subscription)
            inbox.clear()


class Signal(NamedTuple):
    """A signal of the daemon, or of the bus about it."""

    path: str
    interface: str
    member: str
    arguments: tuple[Any, ...]


class Inbox:
    """Signals as they come in, read one by one."""

    def __init__(self, connection: Any, context: Any, timeout_ms: int) -> None:
        self._connection = connection
        self._context = context
        self._timeout_ms = timeout_ms
        self._signals: deque[Signal] = deque()
        self._rang = False

    def put(
        self, _connection: Any, _sender: str, path: str, interface: str, member: str, arguments: Any, *_: Any
    ) -> None:
        """Called by GDBus within our context."""
        self._signals.append(Signal(path, interface, member, arguments.unpack()))

    def call(self, path: str, interface: str, method: str, arguments: Any, reply: str) -> Any:
        """Call a method as `Connection.call` does. Signals from before its reply are forgotten, later ones are kept.

        The reply comes in through our context, in its place among the signals. To wait for it elsewhere and to forget
        what is here then would lose what was said just after it.
        """
        replies: list[Any] = []

        def take(connection: Any, result: Any, *_: object) -> None:
            self._signals.clear()
            replies.append(result)

        self._context.push_thread_default()
        try:
            self._connection.call(
                BUS_NAME,
                path,
                interface,
                method,
                arguments,
                GLib.VariantType(reply),
                Gio.DBusCallFlags.NONE,
                self._timeout_ms,
                None,
                take,
            )
            while not replies:
                self._context.iteration(True)
        finally:
            self._context.pop_thread_default()
        with _translated(f"call {method}"):
            return self._connection.call_finish(replies[0]).unpack()

    def clear(self) -> None:
        """Forget all that has come in so far."""
        while self._context.pending():
            self._context.iteration(False)
        self._signals.clear()

    def next(self, deadline: float | None, *, or_raise: bool = True) -> list[Signal]:
        """Wait for signals, at most until `deadline` (monotonic seconds).

        Raises:
            TimeoutError: There was none until then, and `or_raise`.
            ConnectionLost: The daemon or the bus went away.
        """
        with self._alarm(deadline):
            while not self._signals and not self._connection.is_closed():
                if self._rang:
                    if or_raise:
                        raise TimeoutError("it has not ended in time; it goes on")
                    return []
                self._context.iteration(True)
        if not self._signals:
            raise ConnectionLost("the connection to the session bus was lost")
        if _is_farewell(self._signals[0]):
            raise ConnectionLost("dmedia-transfer went away")
        signals = []
        while self._signals and not _is_farewell(self._signals[0]):  # what was said before it went counts
            signals.append(self._signals.popleft())
        return signals

    @contextmanager
    def _alarm(self, deadline: float | None) -> Iterator[None]:
        self._rang = False
        if deadline is None:
            yield
            return
        source = GLib.timeout_source_new(max(0, round((deadline - time.monotonic()) * 1000)))
        source.set_callback(self._ring)
        source.attach(self._context)
        try:
            yield
        finally:
            source.destroy()

    def _ring(self, *_: object) -> bool:
        self._rang = True
        return False


def _is_farewell(signal: Signal) -> bool:
    return signal.member == "NameOwnerChanged" and signal.arguments[2] == ""


def variant(signature: str, value: Any) -> Any:
    """A value as D-Bus sends it.

    Raises:
        InvalidRequest: It does not fit the type.
    """
    try:
        return GLib.Variant(signature, value)
    except (TypeError, OverflowError, ValueError) as error:
        raise InvalidRequest(f"{value!r} cannot be sent: {error}") from None


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except GLib.Error as error:
        raise _error_of(error, doing) from None


def _error_of(error: Any, doing: str) -> TransferError:
    name = Gio.DBusError.get_remote_error(error)
    if name is None:
        return ConnectionLost(f"cannot {doing}: {error.message}")
    message = error.message.removeprefix(f"GDBus.Error:{name}: ")
    translated = busnames.error_of(name, message)
    if isinstance(translated, ConnectionLost) and not name.startswith(busnames.ERROR_PREFIX):
        return ConnectionLost(f"dmedia-transfer does not answer: {message}")
    return translated
