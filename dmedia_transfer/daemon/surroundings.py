"""The daemon's surroundings: the connection, the power and sleep, as others on the system bus tell of them.

All of it is optional: without a system bus, or without one of the services on it, what nobody tells of is taken for
granted. Nothing here polls. Called on the thread of the main loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from dmedia_transfer.bus import mainloop
from dmedia_transfer.bus.network import Connection, Network
from dmedia_transfer.bus.others import system_bus
from dmedia_transfer.bus.power import Power, Supply
from dmedia_transfer.bus.sleep import Sleep
from dmedia_transfer.config import Config
from dmedia_transfer.manager import TransferManager
from dmedia_transfer.model import Transfer
from dmedia_transfer.reach import Surroundings

log = logging.getLogger(__name__)

LOOK_S: Final = 0.2  # how soon after a change it is looked at whether something moves: once for all of a burst
RELEASE_S: Final = 3.0  # from one file to the next the machine stays awake


class Around:
    """Watches the surroundings, and tells the manager. A `ports.Listener`, to know whether something moves."""

    def __init__(
        self,
        config: Config,
        manager: TransferManager,
        *,
        cut: Callable[[], None],
        connect: Callable[[], Any | None] = system_bus,
        call_later: mainloop.CallLater = mainloop.call_later,
    ) -> None:
        """Begin to watch.

        Args:
            config: Its tables `network` and `power`.
            manager: Is told of what changes.
            cut: Cuts all connections to elsewhere, so that they are made anew.
            connect: Gives the system bus, or None where there is none.
            call_later: Calls a function later on the main loop's thread.
        """
        self._config = config
        self._manager = manager
        self._cut = cut
        self._call_later = call_later
        self._around = Surroundings()
        self._identity: str | None = None  # of the connection that was there last
        self._supply = Supply()
        self._moving = False
        self._look: mainloop.Cancel | None = None
        self._network: Network | None = None
        self._power: Power | None = None
        self._sleep: Sleep | None = None
        self._bus = connect()
        if self._bus is None:
            return
        self._sleep = Sleep(self._bus, self._sleeps)
        self._begin()
        manager.subscribe(self)

    def change(self, config: Config) -> None:
        """Go by these settings from now on."""
        self._config = config
        if self._bus is not None:
            self._end()
            self._begin()
            self._inhibit()

    def close(self) -> None:
        """Watch no more, and keep nobody awake."""
        if self._look is not None:
            self._look()
            self._look = None
        self._end()
        if self._sleep is not None:
            self._sleep.close()
            self._sleep = None
        if self._bus is not None:
            self._manager.unsubscribe(self)
            self._bus.close()
            self._bus = None

    def _begin(self) -> None:
        network, power = self._config.network, self._config.power
        if network.follow:
            self._network = Network(self._bus, self._connection)
        else:
            self._connection(Connection())
        self._power = Power(self._bus, self._supplied, min_percent=power.min_battery_percent)

    def _end(self) -> None:
        for watcher in (self._network, self._power):
            if watcher is not None:
                watcher.close()
        self._network = self._power = None

    # What others tell.

    def _connection(self, found: Connection) -> None:
        other = bool(found.identity) and found.identity != self._identity
        first = self._identity is None
        self._identity = found.identity
        if other and not first:
            log.info("this is another connection: what went over the last one is cut")
            self._cut()
        self._now(replace(self._around, reach=found.reach, metered=found.metered))
        if other and not first:
            self._manager.connection_changed()

    def _supplied(self, supply: Supply) -> None:
        self._supply = supply
        self._now(replace(self._around, battery_low=supply.low))
        self._inhibit()

    def _sleeps(self, asleep: bool) -> None:
        if not asleep:
            self._cut()
        self._now(replace(self._around, asleep=asleep))
        if asleep:
            self._look_soon(0.0)  # logind waits for us
        else:
            self._manager.connection_changed()

    def _now(self, around: Surroundings) -> None:
        self._around = around
        self._manager.surroundings_changed(around)

    # What the manager tells: whether something moves.

    def transfer_added(self, transfer: Transfer) -> None:
        """Does not matter before it moves."""

    def transfer_changed(self, before: Transfer, after: Transfer) -> None:
        """Maybe it moves now, or does no more."""
        if before.status is not after.status:
            self._look_soon(LOOK_S)

    def transfer_moved(self, transfer: Transfer) -> None:
        """Known already."""

    def transfer_removed(self, transfer: Transfer) -> None:
        """Had ended before."""

    def summary_changed(self) -> None:
        """Told after a worker has let go."""
        if self._moving:
            self._look_soon(LOOK_S)

    def _look_soon(self, delay_s: float) -> None:
        if self._look is not None and delay_s == 0:
            self._look()
            self._look = None
        if self._look is None:
            self._look = self._call_later(delay_s, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        moving = self._manager.summary().active > 0
        if self._moving and not moving and not self._around.asleep:
            self._look = self._call_later(RELEASE_S, self._rested)
        else:
            self._moving = moving
            self._inhibit()

    def _rested(self) -> None:
        self._look = None
        self._moving = self._manager.summary().active > 0
        self._inhibit()

    def _inhibit(self) -> None:
        if self._sleep is not None:
            block = self._moving and self._config.power.keep_awake and not self._supply.on_battery
            self._sleep.want(delay=self._moving, block=block and not self._around.asleep)
