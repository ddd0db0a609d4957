"""Pace: bandwidth, memory and patience of the server, shared by all its requests. For the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from dmedia_transfer.errors import Stalled
from dmedia_transfer.limiter import TokenBucket
from dmedia_transfer.serving.refusals import refusal

PIECES_BYTES: Final = 32 * 1024 * 1024  # of pieces of files on their way out, in memory for all requests together
PIECE_MAX_BYTES: Final = 1024 * 1024
PIECE_MIN_BYTES: Final = 64 * 1024
BURST_BYTES: Final = 8 * 1024 * 1024
LEAVES_AT_ONCE: Final = 16  # that are being received, 8 MiB each
BUSY_RETRY_S: Final = 5


class Pace:
    """What all requests share."""

    def __init__(self, *, stall_s: float) -> None:
        """Nothing is limited at first. `stall_s` is how long a piece may take, either way."""
        self.sending = TokenBucket(None)
        self.receiving = TokenBucket(None)
        self.stopped = False  # the timetable allows no transfers
        self.sent_bytes = 0
        self.received_bytes = 0
        self._stall_s = stall_s
        self._senders = 0
        self._leaves = 0

    @contextlib.asynccontextmanager
    async def sender(self) -> AsyncIterator[None]:
        """A file is being sent."""
        self._senders += 1
        try:
            yield
        finally:
            self._senders -= 1

    @property
    def piece_bytes(self) -> int:
        """How much to send at once: the more requests there are, the less, so that memory stays flat."""
        share = PIECES_BYTES // max(1, self._senders)
        return min(max(PIECE_MIN_BYTES, min(PIECE_MAX_BYTES, share)), self.sending.piece_bytes)

    @property
    def burst_bytes(self) -> int:
        """How much a thread may send in one go; it keeps little of it in memory."""
        return BURST_BYTES if self.sending.rate_bps is None else self.piece_bytes

    @contextlib.asynccontextmanager
    async def receiver(self) -> AsyncIterator[None]:
        """A file is being received: the memory of one leaf.

        Raises:
            Refusal: There are too many already.
        """
        if self._leaves >= LEAVES_AT_ONCE:
            raise refusal(503, f"{self._leaves} files are being received already", retry_after_s=BUSY_RETRY_S)
        self._leaves += 1
        try:
            yield
        finally:
            self._leaves -= 1

    async def sent(self, count: int) -> None:
        """So many bytes of files went out; waits until more may."""
        self.sent_bytes += count
        for delay_s in self.sending.delays(count):
            await asyncio.sleep(delay_s)

    async def received(self, count: int) -> None:
        """So many bytes of files came in; waits until more may."""
        self.received_bytes += count
        for delay_s in self.receiving.delays(count):
            await asyncio.sleep(delay_s)

    @contextlib.asynccontextmanager
    async def patience(self, doing: str) -> AsyncIterator[None]:
        """Wait for something that the other side has to do, but not for ever.

        Raises:
            Stalled: It took too long.
        """
        try:
            async with asyncio.timeout(self._stall_s):
                yield
        except TimeoutError:
            raise Stalled(f"{doing}: nothing, or too little, for {self._stall_s:g} s") from None
