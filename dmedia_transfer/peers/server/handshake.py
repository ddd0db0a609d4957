"""Handshake: TLS of one connection, whose failure the other side is told of."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any, Final

CLOSE_S: Final = 1.0  # for the last words of TLS
DRAIN_BYTES: Final = 64 * 1024
OUTGOING: Final = "outgoing"  # attribute of a connection's `ssl.SSLObject`: what it has encrypted


class Handshake:
    """A context for one connection, which keeps what OpenSSL had to say when it failed.

    asyncio closes a connection whose handshake failed and throws the alert away that says why (Python 3.11).
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._alert = b""

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **options: Any) -> ssl.SSLObject:
        """As `ssl.SSLContext.wrap_bio`, which asyncio calls."""
        wrapped = self._context.wrap_bio(incoming, outgoing, **options)
        shake_hands = wrapped.do_handshake

        def do_handshake() -> None:
            try:
                shake_hands()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError:
                self._alert = outgoing.read()
                raise

        setattr(wrapped, OUTGOING, outgoing)
        wrapped.do_handshake = do_handshake  # type: ignore[method-assign]
        return wrapped

    async def say_why(self, connection: socket.socket) -> None:
        """Send the alert, and read what is still coming: a reset would take the alert with it."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                if self._alert:
                    await loop.sock_sendall(connection, self._alert)
                    connection.shutdown(socket.SHUT_WR)
                    while await loop.sock_recv(connection, DRAIN_BYTES):
                        pass
