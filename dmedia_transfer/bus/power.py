"""UPower: whether the machine runs on a battery, and whether that is low.

The battery tells its level every half a minute or so; it is heard only while it matters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dmedia_transfer.bus.others import Cancel, Service
from dmedia_transfer.busnames import PROPERTIES

log = logging.getLogger(__name__)

NAME: Final = "org.freedesktop.UPower"
PATH: Final = "/org/freedesktop/UPower"
BATTERY_PATH: Final = "/org/freedesktop/UPower/devices/DisplayDevice"  # all batteries together
BATTERY: Final = f"{NAME}.Device"
RECOVERED_PERCENT: Final = 5.0  # so far above the level it is not low any more: a level that trembles starts nothing


@dataclass(frozen=True, slots=True)
class Supply:
    """What the machine runs on; without UPower, on mains."""

    on_battery: bool = False
    low: bool = False  # below the level of the settings


class Power:
    """Follows UPower."""

    def __init__(self, bus: Any, on_change: Callable[[Supply], None], *, min_percent: float) -> None:
        """`on_change` is told of the first state, too; below `min_percent` a battery is low, and never if that is 0."""
        self._on_change = on_change
        self._min_percent = min_percent
        self._told: Supply | None = None
        self._service = Service(bus, NAME)
        self._deaf: Cancel | None = None  # hears the battery no more
        self._service.hear(PROPERTIES, "PropertiesChanged", self._look, path=PATH, about=NAME)
        self._service.watch(self._there)

    def close(self) -> None:
        """Follow it no more."""
        self._service.close()

    def _there(self, there: bool) -> None:
        if there:
            self._look()
        else:
            self._on_mains()

    def _look(self, *_: object) -> None:
        self._service.properties(PATH, NAME, self._supply)

    def _supply(self, said: Mapping[str, Any]) -> None:
        if not said.get("OnBattery", False):
            self._on_mains()
            return
        self._tell(Supply(on_battery=True, low=self._low))
        if self._min_percent > 0:
            if self._deaf is None:
                self._deaf = self._service.hear(
                    PROPERTIES, "PropertiesChanged", self._look_at_battery, path=BATTERY_PATH, about=BATTERY
                )
            self._look_at_battery()

    @property
    def _low(self) -> bool:
        return self._told is not None and self._told.low

    def _look_at_battery(self, *_: object) -> None:
        self._service.properties(BATTERY_PATH, BATTERY, self._battery)

    def _battery(self, said: Mapping[str, Any]) -> None:
        if self._deaf is None:
            return  # it is on mains by now
        level = self._min_percent + RECOVERED_PERCENT * self._low
        low = bool(said.get("IsPresent", False)) and float(said.get("Percentage", 100.0)) < level
        self._tell(Supply(on_battery=True, low=low))

    def _on_mains(self) -> None:
        if self._deaf is not None:
            self._deaf()
            self._deaf = None
        self._tell(Supply())

    def _tell(self, supply: Supply) -> None:
        if supply != self._told:
            self._told = supply
            battery = "a battery that is low" if supply.low else "a battery"
            log.info("the machine runs on %s", battery if supply.on_battery else "mains")
            self._on_change(supply)
