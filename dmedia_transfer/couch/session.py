"""An HTTP session to a CouchDB server: credentials, certificates, timeouts, and errors in our words.

Documents (through pycouchdb) and the changes feed (through requests) both speak through a `Session`. It raises
`errors.TransferError` only:

    401, 403                          AccessDenied
    404 of a document                 Unknown
    404 of the database               DatabaseMissing, a DatabaseUnavailable
    409, 412                          Conflict
    400, 413, other 4xx, 501          Rejected: the request itself is at fault
    429, 5xx, a redirect, no answer,
    an answer that is not CouchDB's   DatabaseUnavailable, with the time of `Retry-After` where there is one
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import MutableMapping
from http.cookiejar import DefaultCookiePolicy
from socket import SHUT_RDWR, socket
from typing import Any, Final
from weakref import WeakSet

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.cookies import RequestsCookieJar
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from dmedia_transfer.couch.address import Address
from dmedia_transfer.errors import (
    AccessDenied,
    Conflict,
    DatabaseUnavailable,
    InvalidConfig,
    InvalidInput,
    TransferError,
    Unknown,
)

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 60.0  # without a byte: a view or a `_find` over a big database says nothing for long
ERROR_BYTES: Final = 64 * 1024  # no honest error is longer
NONSENSE: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError)  # what reading it may raise
JSON_HEADERS: Final = {"Accept": "application/json", "Content-Type": "application/json"}
RETRY_AFTER_MAX_S: Final = 300.0  # whatever a server asks for, we look again within five minutes


class DatabaseMissing(DatabaseUnavailable):
    """The server is there, the database is not."""


class Rejected(InvalidInput):
    """The server does not take the request as it is; `status` is its HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Session(requests.Session):
    """Requests to one server. Any thread may call; `cut` wakes those that wait for an answer."""

    def __init__(
        self, address: Address, *, connect_timeout_s: float = CONNECT_TIMEOUT_S, read_timeout_s: float = READ_TIMEOUT_S
    ) -> None:
        super().__init__()
        self.address = address
        self._timeout = (connect_timeout_s, read_timeout_s)
        # The system's list may be replaced by environment variables; a file of ours goes before them.
        self._trusted: bool | str = str(address.ca_file) if address.ca_file else True
        if address.user:
            # As bytes: of text, requests takes Latin-1 only.
            self.auth = HTTPBasicAuth(address.user.encode(), address.password.get_secret_value().encode())
        self.headers.update(JSON_HEADERS)
        self.trust_env = not address.loopback  # proxies are for the others
        self.cookies = RequestsCookieJar(DefaultCookiePolicy(allowed_domains=[]))  # a stale one is answered with 400
        adapter = _CuttableAdapter()
        self._sockets = adapter.sockets
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; see the table at the top for what is raised.

        An answer that is not JSON is an error, unless it is streamed.
        """
        kwargs.setdefault("timeout", self._timeout)
        kwargs["verify"] = self._trusted  # pycouchdb sets `verify` of its session to False with each resource
        kwargs["allow_redirects"] = False  # CouchDB has none; whoever redirects is something else
        try:
            response = super().request(method, url, *args, **kwargs)
            if response.status_code >= 300:
                raise self._refusal(response)
        except (requests.exceptions.MissingSchema, requests.exceptions.InvalidURL, UnicodeError) as error:
            raise InvalidConfig(f"the URL {self.address.url} of CouchDB cannot be used: {error}") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise DatabaseUnavailable(f"CouchDB at {self.address.url} {_why(error)}") from error
        except OSError as error:  # after RequestException, which is one: the file of certificates
            raise InvalidConfig(f"couchdb_ca_file: {error}") from None
        kind = response.headers.get("Content-Type", "")
        if not kwargs.get("stream") and "application/json" not in kind:
            raise DatabaseUnavailable(
                f"{self.address.url} does not answer as CouchDB does: {_shown(kind, 100) or 'no type'}, no JSON"
            )
        return response

    def json(self, method: str, url: str, **kwargs: Any) -> Any:
        """Send a request and read the JSON in its answer."""
        response = self.request(method, url, headers=JSON_HEADERS, **kwargs)
        try:
            return response.json()
        except NONSENSE:
            raise DatabaseUnavailable(f"CouchDB at {self.address.url} answers with broken JSON") from None

    def cut(self) -> None:
        """Cut all connections: calls that wait raise `DatabaseUnavailable` now, later calls connect anew."""
        for each in list(self._sockets):
            try:
                socket.shutdown(each, SHUT_RDWR)  # not SSLSocket's own, which is not for a second thread
            except OSError:  # closed already
                continue

    def _refusal(self, response: requests.Response) -> TransferError:
        status, (error, reason), at = response.status_code, _reason(response), f"CouchDB at {self.address.url}"
        said = f": {reason}" if reason else ""
        response.close()
        if status == 401:
            return AccessDenied(f"{at} does not accept user {self.address.user!r} with this password{said}")
        if status == 403:
            return AccessDenied(f"{at} refuses user {self.address.user!r}{said}")
        if status == 404 and error == "not_found" and reason in ("missing", "deleted"):
            return Unknown(f"{at} has no such document: {reason}")
        if status == 404 and error == "not_found" and "attachment" in reason:
            return Unknown(f"{at} has no such attachment{said}")
        if status == 404 and error == "not_found":
            return DatabaseMissing(f"{at} has no such database{said}")
        if status in (409, 412):
            return Conflict(f"{at} answers {status}{said}")
        if status == 413:
            return Rejected(f"{at} does not take anything so large{said}", status=status)
        if status in (405, 501) or (400 <= status < 500 and error and status not in (404, 408, 429)):
            return Rejected(f"{at} answers {status} {error}{said}", status=status)
        if 300 <= status < 400:
            return DatabaseUnavailable(f"{at} answers with a redirect, which CouchDB does not: look at the URL")
        return DatabaseUnavailable(f"{at} answers {status}{said}", retry_after_s=_retry_after_s(response.headers))


class _CuttableAdapter(HTTPAdapter):
    """Connections that are known while they are open."""

    def __init__(self) -> None:
        self.sockets: WeakSet[socket] = WeakSet()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pool_classes(self.sockets)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _pool_classes(self.sockets)
        return manager


def _pool_classes(sockets: WeakSet[socket]) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            _remember(self.sock, sockets)

    class Encrypted(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            _remember(self.sock, sockets)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}


def _remember(connected: object, sockets: WeakSet[socket]) -> None:
    if isinstance(connected, socket):  # TLS to a server through TLS to a proxy is none
        sockets.add(connected)


def _reason(response: requests.Response) -> tuple[str, str]:
    """CouchDB's `error` and `reason`, shortened; empty if the answer is not CouchDB's."""
    try:
        body = json.loads(
            response.content if response.raw.closed else response.raw.read(ERROR_BYTES, decode_content=True)
        )
        return _shown(body["error"], 100), _shown(body.get("reason") or "", 300)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, *NONSENSE):
        return "", ""


def _why(error: Exception) -> str:
    """What went wrong, without the layers that it came through."""
    if isinstance(error, requests.exceptions.SSLError):
        return f"has no certificate that we trust: {_innermost(error)}"
    if isinstance(error, requests.ConnectTimeout):
        return "cannot be reached in time"
    if isinstance(error, requests.Timeout):
        return "does not answer in time"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"cannot be reached through the proxy: {_innermost(error)}"
    if isinstance(error, requests.ConnectionError):
        return f"does not answer: {_innermost(error)}"
    return f"does not answer sensibly: {type(error).__name__}"


def _innermost(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return _shown(getattr(error, "strerror", None) or error, 200)


def _shown(text: object, length: int) -> str:
    """What somebody else said, as it may stand in a line of the log."""
    return "".join(each if each.isprintable() else "?" for each in str(text)[:length])


def _retry_after_s(headers: MutableMapping[str, str]) -> float | None:
    """The seconds of a `Retry-After`, which is a number or a date (RFC 9110, section 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isdecimal():
        return min(float(text), RETRY_AFTER_MAX_S)
    try:
        at = email.utils.parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
    return min(max(0.0, at - time.time()), RETRY_AFTER_MAX_S)
