"""Stream: the events of the last while, numbered one by one, for any number of readers.

An event's number is one more than that of the event before it, and begins anew with each start of the daemon, whose
life has a name. So a reader knows when it missed something, and says where it goes on: `LIFE.NUMBER`. The last events
are kept once for all readers; one that is too slow for them is cut, and told to look at everything anew.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

KEPT_EVENTS: Final = 2000
KEPT_BYTES: Final = 4 * 1024 * 1024


class TooSlow(Exception):
    """What the reader has not read yet is not kept any more."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event."""

    number: int
    kind: str
    text: bytes  # as it goes over the wire


class Stream:
    """The events. For one event loop."""

    def __init__(self, *, kept_events: int = KEPT_EVENTS, kept_bytes: int = KEPT_BYTES) -> None:
        self.life = secrets.token_hex(4)
        self._kept_events = kept_events
        self._kept_bytes = kept_bytes
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._last = 0
        self._changed: asyncio.Event | None = None

    @property
    def last_id(self) -> str:
        """What is known up to now: where somebody goes on who has just looked at everything."""
        return self.id_of(self._last)

    def id_of(self, number: int) -> str:
        """An event's ID."""
        return f"{self.life}.{number}"

    def publish(self, kind: str, data: object) -> None:
        """Something happened."""
        self._last += 1
        event = Event(self._last, kind, render(self.id_of(self._last), kind, data))
        self._events.append(event)
        self._bytes += len(event.text)
        while len(self._events) > self._kept_events or (self._bytes > self._kept_bytes and len(self._events) > 1):
            self._bytes -= len(self._events.popleft().text)
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def after(self, event_id: str) -> int | None:
        """The number after which a reader goes on; None if it has missed something."""
        life, _, text = event_id.partition(".")
        if life != self.life or not (text.isascii() and text.isdecimal()) or len(text) > 18:
            return None
        number = int(text)
        oldest = self._events[0].number if self._events else self._last + 1
        return number if oldest - 1 <= number <= self._last else None

    async def read(self, after: int, *, wait_s: float) -> Sequence[Event]:
        """The events after this number; waits for some, and gives none if none come in time.

        Raises:
            TooSlow: Not all of them are kept any more.
        """
        if after >= self._last:
            if self._changed is None:
                self._changed = asyncio.Event()
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                return ()
        if self._events and self._events[0].number > after + 1:
            raise TooSlow
        return [event for event in self._events if event.number > after]

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self._last


def render(event_id: str, kind: str, data: Any) -> bytes:
    """An event as the wire has it (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    text = json.dumps(data, separators=(",", ":"))  # one line: it has no line ends of its own
    return f"id: {event_id}\nevent: {kind}\ndata: {text}\n\n".encode()
