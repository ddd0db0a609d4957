"""Doors: the sockets and connections. How many there may be, and how long one may take to ask.

Any user of the machine can connect to the port, and who connects costs the daemon a file descriptor: so connections
are counted, and one that does not bring a whole request in time is cut, however busily it drips. The Unix socket has a
count of its own, so that strangers on the port cannot keep its owner out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dmedia_transfer.errors import AccessDenied, InvalidConfig

CONNECTIONS: Final = 128  # on each of the port and the socket
REQUEST_S: Final = 30.0  # from the connection to the end of its first request's headers
IDLE_S: Final = 120.0  # from an answer to the next request
MAX_LINE_BYTES: Final = 8190
MAX_HEADERS: Final = 64
READ_BYTES: Final = 256 * 1024
LINGER_S: Final = 2.0  # for the body of a request that was refused
WATCH_S: Final = 1.0
BACKLOG: Final = 64

log = logging.getLogger(__name__)

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class _Guest:
    transport: asyncio.Transport
    local: bool
    due_s: float | None  # when its next request has to be there; None while one is answered


class Doors(web.Server):
    """aiohttp's server, which counts who comes in. For one event loop."""

    def __init__(self, handle: Handle, *, request_s: float = REQUEST_S, connections: int = CONNECTIONS) -> None:
        super().__init__(
            self._answer,
            access_log=None,
            keepalive_timeout=IDLE_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
            read_bufsize=READ_BYTES,
            lingering_time=LINGER_S,
            auto_decompress=False,  # a small body must not become a big one
        )
        self._handle = handle
        self._request_s = request_s
        self._most = connections
        self._guests: dict[RequestHandler, _Guest] = {}
        self._servers: list[asyncio.Server] = []
        self._watching: asyncio.Task[None] | None = None

    async def open(self, listener: socket.socket) -> None:
        """Let in who comes to this socket."""
        loop = asyncio.get_running_loop()
        kind = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
        self._servers.append(await kind(self, sock=listener, backlog=BACKLOG))
        if self._watching is None:
            self._watching = loop.create_task(self._watch())

    async def close(self, timeout_s: float) -> None:
        """Let nobody in any more; cut all that have not ended by themselves in this time."""
        if self._watching is not None:
            self._watching.cancel()
        for server in self._servers:
            server.close()
        for guest in list(self._guests.values()):
            if guest.due_s is not None:  # it waits for nothing
                guest.transport.abort()
        until = time.monotonic() + timeout_s
        while self._guests and time.monotonic() < until:
            await asyncio.sleep(0.01)
        for guest in list(self._guests.values()):
            guest.transport.abort()
        await self.shutdown(0.1)

    # Called by aiohttp.

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Somebody has come."""
        super().connection_made(handler, transport)
        sock = transport.get_extra_info("socket")
        local = sock is not None and sock.family == socket.AF_UNIX
        if sum(guest.local is local for guest in self._guests.values()) >= self._most:
            transport.abort()
            return
        self._guests[handler] = _Guest(transport, local, time.monotonic() + self._request_s)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Somebody has gone."""
        self._guests.pop(handler, None)
        super().connection_lost(handler, exc)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        guest = self._guests.get(request.protocol)
        if guest is None:
            raise ConnectionResetError("there are too many connections")
        guest.due_s = None
        try:
            return await self._handle(request)
        finally:
            guest.due_s = time.monotonic() + IDLE_S

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            now_s = time.monotonic()
            for guest in list(self._guests.values()):
                if guest.due_s is not None and guest.due_s < now_s:
                    guest.transport.abort()


def listen_tcp(host: str, port: int) -> socket.socket:
    """Listen on an address of this machine.

    Raises:
        InvalidConfig: It cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise InvalidConfig(f"web.port: {host} port {port} cannot be listened on: {error.strerror or error}") from None


def listen_unix(path: Path) -> socket.socket:
    """Listen on a socket that is its owner's alone; one that an earlier life left is replaced.

    Raises:
        AccessDenied: Its folder is not ours alone, or it cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = path.parent.stat()
        if folder.st_uid != os.getuid() or folder.st_mode & 0o022:
            raise AccessDenied(f"{path.parent}: others may write there, so there is no socket for the REST API")
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Between the two calls nobody can connect: it does not listen yet.
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise AccessDenied(f"{path}: cannot be listened on: {error.strerror or error}") from None
    return listener
