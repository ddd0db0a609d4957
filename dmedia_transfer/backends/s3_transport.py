"""Moves the bytes of requests that boto3 has built and signed, over the connections of `exchange`.

botocore asks `before-send` handlers whether one of them sends the request itself; `Transport.send` does, for calls
made inside `Transport.call()`: that is worth a factor of two over botocore's own sending. Where a proxy applies,
botocore sends as ever.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from botocore.utils import get_environ_proxies

from dmedia_transfer.backends.bodies import Answer
from dmedia_transfer.backends.connections import ConnectionPool, Origin
from dmedia_transfer.backends.exchange import Exchanges, Request
from dmedia_transfer.errors import ConnectionLost, Permanent, TransferError
from dmedia_transfer.ports import Meter

_REPEATABLE: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_PORTS: Final = {"http": 80, "https": 443}


class Redirected(Permanent):
    """The server says to ask elsewhere; nobody follows."""


class Transport:
    """Sends what botocore has prepared. Any thread may call; `cut` ends what the others are doing."""

    def __init__(self, *, stall_s: float, connections: int) -> None:
        self._pool = ConnectionPool(stall_s=stall_s, max_idle=connections + 1)
        self._exchanges = Exchanges(self._pool)
        self.follows_regions = False  # botocore may ask another region of AWS; elsewhere it would ask for ever
        self._proxies: Mapping[str, str] | None = None
        self._proxied: dict[str, bool] = {}  # whether a base URL is reached through a proxy
        self._thread = threading.local()  # `request`: what botocore sent last for this thread

    def use_tls(self, context: ssl.SSLContext) -> None:
        """How new connections to https origins are secured; without it there are none."""
        self._pool.context = context

    def use_proxies(self, proxies: Mapping[str, str] | None) -> None:
        """Proxies by scheme; None: what the environment says."""
        self._proxies, self._proxied = proxies, {}

    def call(self) -> AbstractContextManager[None]:
        """Requests that this thread makes within are sent here; a cut from now on ends them."""
        return self._exchanges.call()

    def check(self) -> None:
        """Raise ConnectionLost if there was a cut since the call began (for what botocore sends through a proxy)."""
        self._exchanges.check()

    def cut(self) -> None:
        """End all calls that are under way, at once."""
        self._pool.cut()

    @property
    def open_connections(self) -> int:
        """How many connections are in use or at rest."""
        return self._pool.open_connections

    def receive(self, body: Any, into: memoryview, meter: Meter) -> None:
        """Fill `into` from the body of an answer, as `Exchanges.receive`."""
        self._exchanges.receive(body, into, meter)

    def ask(self, origin: Origin, request: Request) -> tuple[http.client.HTTPResponse, Answer]:
        """Send a request that is signed already, as `Exchanges.ask`."""
        return self._exchanges.ask(origin, request)

    @property
    def sent(self) -> AWSPreparedRequest | None:
        """What botocore sent last for this thread; None where a proxy applies."""
        return getattr(self._thread, "request", None)

    def needs_proxy(self, url: str) -> bool:
        """Whether this is reached through a proxy."""
        parts = urlsplit(url)
        base_url = f"{parts.scheme}://{parts.netloc}"
        if base_url not in self._proxied:
            proxies = get_environ_proxies(base_url) if self._proxies is None else self._proxies
            self._proxied[base_url] = bool(proxies.get(parts.scheme))
        return self._proxied[base_url]

    def send(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        """Handler of `before-send`: send the request and return the answer, or None to let botocore do it.

        Raises:
            ConnectionLost: Cut, refused, reset, or not HTTP.
            Stalled: Not a byte for too long.
        """
        if not self._exchanges.calling:
            return None
        self.check()
        self._thread.request = None
        if self.needs_proxy(request.url):
            return None
        self._thread.request = request
        url = urlsplit(request.url)
        origin = origin_of(url)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = [("Host", host_header(origin))]
        headers += [  # waiting for a 100 costs a round trip per part
            (name, value) for name, value in request.headers.items() if name.lower() not in {"expect", "host"}
        ]
        response, answer = self._exchanges.ask(
            origin, Request(request.method, target, headers, request.body, request.method in _REPEATABLE)
        )
        # A status of 300 and above comes with a short body that botocore reads at once.
        told: Any = HeadersDict(response.getheaders())  # what botocore takes, whatever its stubs say
        reply = AWSResponse(request.url, response.status, told, answer)
        if 300 <= response.status < 400 and not self.follows_regions:
            raise _redirected(origin, answer.read())
        if not request.stream_output:
            reply.content  # noqa: B018  read now, so that the connection is free again
        return reply


def _redirected(origin: Origin, body: bytes) -> TransferError:
    if b"<Code>" in body:
        return Redirected(f"{origin.host} says that the bucket is somewhere else; endpoint or region is wrong")
    return ConnectionLost(f"{origin.host} answers with a redirect, as networks do that want a login first")


def origin_of(url: SplitResult) -> Origin:
    """Where a URL leads."""
    return Origin(url.scheme, url.hostname or "", url.port or _PORTS[url.scheme])


def host_header(origin: Origin) -> str:
    """The Host header as botocore signs it."""
    name = f"[{origin.host}]" if ":" in origin.host else origin.host
    return name if origin.port == _PORTS[origin.scheme] else f"{name}:{origin.port}"
