"""Moves the bytes of requests that boto3 has built and signed: the hot path of the S3 backend.

botocore asks `before-send` handlers whether one of them sends the request itself; `Transport.send` does, for calls
made inside `Transport.call()`. A GET's body is received straight into the caller's buffer, a part is sent from the
caller's pieces, and nothing is copied in between: that is worth a factor of two over botocore's own sending. Where a
proxy applies, botocore sends as ever.

Redirects are not followed. A request is sent once; only where a kept-alive connection turns out to be closed before
any byte of an answer, and the request may be repeated (RFC 9110, 9.2.2), it is sent again on a fresh one.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from botocore.utils import get_environ_proxies

from dmedia_transfer.backends.s3_bodies import Answer, Payload
from dmedia_transfer.backends.s3_connections import Connection, ConnectionPool, Origin, faults
from dmedia_transfer.backends.s3_pace import Pace
from dmedia_transfer.errors import ConnectionLost, Permanent, TransferError

_REPEATABLE: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_PORTS: Final = {"http": 80, "https": 443}


class Redirected(Permanent):
    """The server says to ask elsewhere; nobody follows."""


class Transport:
    """Sends what botocore has prepared. Any thread may call; `cut` ends what the others are doing."""

    def __init__(self, *, stall_s: float, connections: int) -> None:
        self._pool = ConnectionPool(stall_s=stall_s, max_idle=connections + 1)
        self._thread = threading.local()  # `generation`: of the pool when this thread's call began, or None
        self.follows_regions = False  # botocore may ask another region of AWS; elsewhere it would ask for ever
        self._sending = Pace()
        self._proxies: Mapping[str, str] | None = None
        self._proxied: dict[str, bool] = {}  # whether a base URL is reached through a proxy

    def use_tls(self, context: ssl.SSLContext) -> None:
        """How new connections to https origins are secured; without it there are none."""
        self._pool.context = context

    def use_proxies(self, proxies: Mapping[str, str] | None) -> None:
        """Proxies by scheme; None: what the environment says."""
        self._proxies, self._proxied = proxies, {}

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Requests that this thread makes within are sent here; a cut from now on ends them."""
        self._thread.generation = self._pool.generation
        try:
            yield
        finally:
            self._thread.generation = None

    def check(self) -> None:
        """Raise ConnectionLost if there was a cut since the call began (for what botocore sends through a proxy)."""
        if getattr(self._thread, "generation", None) not in {None, self._pool.generation}:
            raise ConnectionLost("the connection was cut")

    def cut(self) -> None:
        """End all calls that are under way, at once."""
        self._pool.cut()

    @property
    def open_connections(self) -> int:
        """How many connections are in use or at rest."""
        return self._pool.open_connections

    def send(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        """Handler of `before-send`: send the request and return the answer, or None to let botocore do it.

        Raises:
            ConnectionLost: Cut, refused, reset, or not HTTP.
            Stalled: Not a byte for too long.
        """
        if getattr(self._thread, "generation", None) is None:
            return None
        self.check()
        url = urlsplit(request.url)
        if self._needs_proxy(f"{url.scheme}://{url.netloc}"):
            return None
        origin = Origin(url.scheme, url.hostname or "", url.port or _PORTS[url.scheme])
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        while True:
            connection = self._pool.take(origin)
            try:
                response = self._exchange(connection, request, target, _host(origin))
            except _Stale:
                self._pool.discard(connection)
                self.check()
                continue
            except BaseException:
                self._pool.discard(connection)
                raise
            answer = Answer(self._pool, connection, response)
            # A status of 300 and above comes with a short body that botocore reads at once.
            headers: Any = HeadersDict(response.getheaders())  # what botocore takes, whatever its stubs say
            reply = AWSResponse(request.url, response.status, headers, answer)
            if 300 <= response.status < 400 and not self.follows_regions:
                raise _redirected(origin, answer.read())
            if not request.stream_output:
                reply.content  # noqa: B018  read now, so that the connection is free again
            return reply

    def _exchange(
        self, connection: Connection, request: AWSPreparedRequest, target: str, host: str
    ) -> http.client.HTTPResponse:
        if connection.sock is None:
            with faults(connection, "connecting"):
                connection.connect()
        self.check()
        repeatable = connection.reused and request.method in _REPEATABLE
        try:
            with faults(connection, "sending"):
                connection.putrequest(request.method, target, skip_host=True)
                connection.putheader("Host", host)
                for name, value in request.headers.items():
                    if name.lower() not in {"expect", "host"}:  # waiting for a 100 costs a round trip per part
                        connection.putheader(name, value)
                connection.endheaders()
            self._send_body(connection, request.body)
            with faults(connection, "waiting for an answer"):
                connection.wait_for_answer()
                return connection.getresponse()
        except ConnectionLost as error:
            if repeatable and not connection.severed and isinstance(error.__cause__, ConnectionError):
                raise _Stale from error
            raise

    def _send_body(self, connection: Connection, body: Any) -> None:
        if body is None:
            return
        if not isinstance(body, Payload):
            with faults(connection, "sending"):
                connection.send(body)
            return
        for piece in body.pieces():
            rest = piece
            while rest:
                sent, rest = rest[: self._sending.piece_bytes], rest[self._sending.piece_bytes :]
                with faults(connection, "sending"):
                    whole = connection.send_piece(sent)
                if not whole:  # it refuses, or it hung up: what it says comes next, and then the connection is done
                    connection.spent = True
                    return
                self._sending.moved(len(sent), body.moved)

    def _needs_proxy(self, base_url: str) -> bool:
        if base_url not in self._proxied:
            proxies = get_environ_proxies(base_url) if self._proxies is None else self._proxies
            self._proxied[base_url] = bool(proxies.get(urlsplit(base_url).scheme))
        return self._proxied[base_url]


def _redirected(origin: Origin, body: bytes) -> TransferError:
    if b"<Code>" in body:
        return Redirected(f"{origin.host} says that the bucket is somewhere else; endpoint or region is wrong")
    return ConnectionLost(f"{origin.host} answers with a redirect, as networks do that want a login first")


class _Stale(Exception):
    """A kept-alive connection was closed before any byte of an answer."""


def _host(origin: Origin) -> str:
    """The Host header as botocore has signed it."""
    name = f"[{origin.host}]" if ":" in origin.host else origin.host
    return name if origin.port == _PORTS[origin.scheme] else f"{name}:{origin.port}"
