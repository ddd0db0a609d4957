"""Doors: who comes in. Accepts connections, shakes hands, and cuts whoever is not, or no longer, to be trusted.

The contract: before the first byte of a request is looked at, the other side has shown exactly a certificate that is
trusted at that moment. When trust changes, the next handshake knows it, and connections of those who lost it are cut
at once. A connection that does not bring a whole request in time is cut, however busily it drips.

For the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dmedia_transfer.errors import AccessDenied
from dmedia_transfer.peers import tls
from dmedia_transfer.peers.certificates import Certificate
from dmedia_transfer.peers.identity import Identity
from dmedia_transfer.peers.server.handshake import CLOSE_S, Handshake

HANDSHAKES: Final = 64  # at once; the others wait in the kernel
HANDSHAKE_S: Final = 10.0
CONNECTIONS: Final = 512
CONNECTIONS_PER_MACHINE: Final = 64
REQUEST_S: Final = 60.0  # from the connection, or the last answer, to the end of the next request's headers
MAX_LINE_BYTES: Final = 2048  # of a request
MAX_HEADERS: Final = 64
MAX_HEADER_BYTES: Final = 8192  # of one
READ_BYTES: Final = 256 * 1024  # of a body, in memory for each connection
LINGER_S: Final = 2.0  # for the body of a request that was refused
BACKLOG: Final = 512
WATCH_S: Final = 1.0
QUIET_S: Final = 10.0  # between two lines of the log about one address

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger(__name__)

Handle = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class _Guest:
    """A connection."""

    machine_id: str
    fingerprint: str
    transport: asyncio.Transport
    due_s: float | None  # when its next request has to be there; None while one is answered


class _Server(web.Server):
    """aiohttp's server, which is asked for the connections that come and go."""

    def __init__(self, doors: Doors) -> None:
        super().__init__(
            doors.answer,
            access_log=None,
            keepalive_timeout=REQUEST_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            read_bufsize=READ_BYTES,
            lingering_time=LINGER_S,
            auto_decompress=False,  # a body is what it is; a small one must not become a big one
        )
        self._doors = doors

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._doors.entered(handler, transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self._doors.left(handler)
        super().connection_lost(handler, exc)


class Doors:
    """All listening sockets and connections."""

    def __init__(self, identity: Identity, handle: Handle, *, request_s: float = REQUEST_S) -> None:
        """`handle` answers a request of a machine. Nobody is trusted yet."""
        self._identity = identity
        self._handle = handle
        self._request_s = request_s
        self._trusted: Mapping[str, str] = {}
        self._certificates: list[Certificate] = []
        self._context = tls.server_context(identity, ())
        self._guests: dict[RequestHandler, _Guest] = {}
        self._handshakes = asyncio.Semaphore(HANDSHAKES)
        self._server = _Server(self)
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: dict[str, float] = {}  # when an address was last written of

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._sockets[0].getsockname()[1])

    @property
    def machines(self) -> Counter[str]:
        """How many connections each machine has."""
        return Counter(guest.machine_id for guest in self._guests.values())

    def open(self, host: str, port: int) -> None:
        """Listen; an empty host is all addresses of this machine, IPv6 and IPv4.

        Raises:
            OSError: The address cannot be used.
        """
        if host:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        elif socket.has_dualstack_ipv6():
            listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
        else:
            listener = socket.create_server(("", port), backlog=BACKLOG)
        listener.setblocking(False)
        self._sockets.append(listener)
        self._start(self._accept(listener))
        self._start(self._watch())

    def trust(self, machines: Mapping[str, tuple[Certificate, ...]], identity: Identity | None = None) -> None:
        """These machines, and nobody else, are let in from now on; with an `identity`, that is who we are."""
        self._identity = identity or self._identity
        self._certificates = [each for certificates in machines.values() for each in certificates]
        self._trusted = {
            each.fingerprint: machine_id
            for machine_id, certificates in sorted(machines.items(), reverse=True)
            for each in certificates
        }
        self._context = tls.server_context(self._identity, self._certificates)
        for guest in list(self._guests.values()):
            if self._trusted.get(guest.fingerprint) != guest.machine_id:
                log.info("machine %s: is not trusted any more, its connection is cut", guest.machine_id)
                guest.transport.abort()

    async def close(self, timeout_s: float) -> None:
        """Let nobody in any more, cut all, and give what was under way so long to be put in order."""
        for task in self._tasks:
            task.cancel()
        for listener in self._sockets:
            listener.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for guest in list(self._guests.values()):
            guest.transport.abort()
        until = time.monotonic() + timeout_s
        while self._server.connections and time.monotonic() < until:
            await asyncio.sleep(0.01)
        await self._server.shutdown(0.1)

    # Called by aiohttp.

    def entered(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """A handshake has ended; nothing of what was sent is looked at before this returns."""
        tls_object: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        address = _address(transport.get_extra_info("peername"))
        try:
            der = tls_object.getpeercert(binary_form=True) if tls_object is not None else None
            fingerprint = tls.pinned(der, self._trusted.keys(), who=address)
        except AccessDenied as error:
            self._refused(address, str(error))
            transport.abort()
            return
        due_s = time.monotonic() + self._request_s
        self._guests[handler] = _Guest(self._trusted[fingerprint], fingerprint, transport, due_s)

    def left(self, handler: RequestHandler) -> None:
        """A connection has ended."""
        self._guests.pop(handler, None)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, if who asks is still there, and still trusted."""
        try:
            return await self._answer(request)
        except ConnectionError:  # nobody reads an answer, and aiohttp would log it as a fault of ours
            if request.transport is not None:
                request.transport.abort()
            return web.Response()

    # Inside.

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        guest = self._guests.get(request.protocol)
        if guest is None or self._trusted.get(guest.fingerprint) != guest.machine_id:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("not trusted")
        if len(self._guests) > CONNECTIONS or self.machines[guest.machine_id] > CONNECTIONS_PER_MACHINE:
            response = web.Response(status=503, text="there are too many connections\n", headers={"Retry-After": "5"})
            response.force_close()
            return response
        guest.due_s = None
        try:
            return await self._handle(request, guest.machine_id)
        finally:
            guest.due_s = time.monotonic() + self._request_s

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._handshakes.acquire()
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                self._handshakes.release()
                if error.errno in _EXHAUSTED:
                    log.warning("no more connections can be taken for a moment: %s", error.strerror)
                    await asyncio.sleep(WATCH_S)
                continue
            except BaseException:
                self._handshakes.release()
                raise
            self._start(self._greet(connection, _address(address)))

    async def _greet(self, connection: socket.socket, address: str) -> None:
        handshake, spare = Handshake(self._context), connection.dup()
        try:
            _tune(connection)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._server,
                connection,
                ssl=cast(ssl.SSLContext, handshake),
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=CLOSE_S,
            )
        except (OSError, TimeoutError) as error:
            self._refused(address, str(tls.explained(error, who=address)))
            await handshake.say_why(spare)
            connection.close()
        except BaseException:
            connection.close()
            raise
        finally:
            spare.close()
            self._handshakes.release()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            now_s = time.monotonic()
            for guest in list(self._guests.values()):
                if guest.due_s is not None and guest.due_s < now_s:
                    guest.transport.abort()
            self._said = {address: at for address, at in self._said.items() if now_s - at < QUIET_S}

    def _refused(self, address: str, message: str) -> None:
        host = address.rpartition(":")[0]
        now_s = time.monotonic()
        if now_s - self._said.get(host, -QUIET_S) >= QUIET_S and len(self._said) < CONNECTIONS:
            self._said[host] = now_s
            log.warning("refused: %s", message)


def _tune(connection: socket.socket) -> None:
    """A peer that went away without a word is noticed within a minute or so."""
    connection.setblocking(False)
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)


def _address(peername: Any) -> str:
    if not isinstance(peername, tuple) or len(peername) < 2:
        return "an unknown address"
    return f"[{peername[0]}]:{peername[1]}" if ":" in str(peername[0]) else f"{peername[0]}:{peername[1]}"
