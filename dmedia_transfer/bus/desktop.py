"""The desktop: one notification, and progress in the launcher and in KDE's list of jobs, where they are on the bus.

Nothing here waits for an answer, and a desktop that has none of it gets no error. There is one notification, which is
replaced: it never stacks up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import dbus
import dbus.lowlevel

from dmedia_transfer.bus.others import Service
from dmedia_transfer.bus.values import text

log = logging.getLogger(__name__)

APP: Final = "dmedia-transfer"
ICON: Final = "folder-download"
NOTIFICATIONS, NOTIFICATIONS_PATH = "org.freedesktop.Notifications", "/org/freedesktop/Notifications"
UNITY, LAUNCHER = "com.canonical.Unity", "com.canonical.Unity.LauncherEntry"
LAUNCHER_PATH: Final = "/org/dmedia/Transfer1/launcher"
KUISERVER, JOBS_PATH, JOBS, JOB = "org.kde.kuiserver", "/JobViewServer", "org.kde.JobViewServer", "org.kde.JobView"
SUSPENDABLE: Final = 2  # KJob's capability: pause and resume
URGENCY_LOW, URGENCY_NORMAL = 0, 1


class Notification:
    """The one notification."""

    def __init__(self, bus: Any, on_action: Callable[[str], None]) -> None:
        """`on_action` is told the name of what a person chose."""
        self._service = Service(bus, NOTIFICATIONS)
        self._on_action = on_action
        self._id = 0  # of the one that is shown; 0: none
        self._service.hear(NOTIFICATIONS, "ActionInvoked", self._chosen, path=NOTIFICATIONS_PATH)
        self._service.hear(NOTIFICATIONS, "NotificationClosed", self._closed, path=NOTIFICATIONS_PATH)

    def show(self, title: str, body: str, actions: Sequence[tuple[str, str]] = (), *, urgent: bool = False) -> None:
        """Show this instead of what was shown before.

        Args:
            title: A few words.
            body: A sentence; markup in it is shown as it is written.
            actions: Names, and what they are called.
            urgent: It needs somebody.
        """
        hints = {"urgency": dbus.Byte(URGENCY_NORMAL if urgent else URGENCY_LOW), "category": "transfer"}
        escaped = text(body).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        self._service.call(
            NOTIFICATIONS_PATH,
            NOTIFICATIONS,
            "Notify",
            "susssasa{sv}i",
            APP,
            dbus.UInt32(self._id),
            ICON,
            text(title),
            escaped,
            dbus.Array([word for action in actions for word in action], signature="s"),
            dbus.Dictionary(hints, signature="sv"),
            -1,
            on_reply=self._shown,
        )

    def close(self) -> None:
        """Hear no more of it; what is shown stays."""
        self._service.close()

    def _shown(self, number: int) -> None:
        self._id = int(number)

    def _chosen(self, number: int, action: str) -> None:
        if number == self._id:
            self._on_action(str(action))

    def _closed(self, number: int, _reason: int) -> None:
        if number == self._id:
            self._id = 0


class ProgressDisplays:
    """The launcher's bar and KDE's job, for all transfers together."""

    def __init__(self, bus: Any, *, on_pause: Callable[[bool], None]) -> None:
        """`on_pause` is told when a person pauses (True) or resumes (False) the job."""
        self._bus = bus
        self._launcher = Service(bus, UNITY)
        self._kde = Service(bus, KUISERVER)
        self._job = ""  # the path of the job that is shown
        self._asked = False
        self._shown = False  # whether there is a bar
        for member, paused in (("suspendRequested", True), ("resumeRequested", False)):
            self._kde.hear(JOB, member, lambda paused=paused: on_pause(paused))
        self._launcher.watch(lambda _: None)
        self._kde.watch(self._kde_there)

    @property
    def there(self) -> bool:
        """Whether anybody shows progress."""
        return bool(self._launcher.owner or self._kde.owner)

    def show(self, done: int, total: int, *, count: int, rate: float) -> None:
        """So many bytes of all, of so many transfers."""
        self._shown = True
        share = done / total if total else 0.0
        if self._launcher.owner:
            self._update(progress=dbus.Double(share), count=dbus.Int64(count), visible=True)
        if self._job:
            self._tell("setTotalAmount", "ts", dbus.UInt64(total), "bytes")
            self._tell("setProcessedAmount", "ts", dbus.UInt64(done), "bytes")
            self._tell("setPercent", "u", dbus.UInt32(int(share * 100)))
            self._tell("setSpeed", "t", dbus.UInt64(int(rate)))
        elif self._kde.owner and not self._asked:
            self._asked = True
            self._kde.call(
                JOBS_PATH, JOBS, "requestView", "ssi", APP, ICON, dbus.Int32(SUSPENDABLE), on_reply=self._job_made
            )

    def hide(self) -> None:
        """Nothing moves any more."""
        if self._shown and self._launcher.owner:
            self._update(progress=dbus.Double(0.0), count=dbus.Int64(0), visible=False)
        self._shown = False
        if self._job:
            self._tell("terminate", "s", "")
            self._job = ""
        if not self._asked:
            return
        self._asked = False

    def close(self) -> None:
        """Show nothing any more."""
        self.hide()
        self._launcher.close()
        self._kde.close()

    def _job_made(self, path: str) -> None:
        self._job = str(path)
        if self._shown:
            self._tell("setInfoMessage", "s", "Transferring files")
        else:  # it was over before the job was there
            self.hide()

    def _kde_there(self, _there: bool) -> None:
        self._job, self._asked = "", False

    def _tell(self, method: str, signature: str, *arguments: Any) -> None:
        self._kde.call(self._job, JOB, method, signature, *arguments)

    def _update(self, *, progress: Any, count: Any, visible: bool) -> None:
        values = {"progress": progress, "progress-visible": visible, "count": count, "count-visible": visible}
        signal = dbus.lowlevel.SignalMessage(LAUNCHER_PATH, LAUNCHER, "Update")
        signal.append(f"application://{APP}.desktop", dbus.Dictionary(values, signature="sv"), signature="sa{sv}")
        try:
            self._bus.send_message(signal)
        except dbus.DBusException as error:  # the bus is gone
            log.debug("the launcher was not told: %s", error)
