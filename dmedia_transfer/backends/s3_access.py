"""Access to one S3 endpoint: the login of now, the transport, and the border where boto3's errors become ours."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from dmedia_transfer.backends import s3_errors
from dmedia_transfer.backends.s3_client import (
    Login,
    client_config,
    login_of,
    quiet_botocore,
    signs_bodies,
    tls_context,
)
from dmedia_transfer.backends.s3_shortcut import Shortcut
from dmedia_transfer.backends.s3_transport import Redirected, Transport
from dmedia_transfer.credentials import SessionSource
from dmedia_transfer.documents import S3Settings
from dmedia_transfer.errors import ConnectionLost, CredentialsExpired, Permanent, TransferError, Transient
from dmedia_transfer.ports import Meter

DEFAULT_REGION: Final = "us-east-1"  # what S3-compatible servers that have no regions expect in a signature


class Access:
    """Hands out boto3's client for one attempt at a time. Any thread may call."""

    def __init__(
        self,
        settings: S3Settings,
        sessions: SessionSource,
        *,
        stall_s: float,
        connections: int,
        client: Any = None,  # a boto3 client of the caller's, used as it is; never replaced
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._config = client_config(settings.endpoint_url, stall_s=stall_s, connections=connections)
        self._transport = Transport(stall_s=stall_s, connections=connections)
        self._transport.follows_regions = not settings.endpoint_url
        self._lock = threading.Lock()
        self._login: Login | None = None
        self._shortcut: Shortcut | None = None  # of the login of now
        self._given = client is not None
        self._url = client.meta.endpoint_url if self._given else settings.endpoint_url or "https:"
        if client is not None:
            self._login = self._attach(Login(client, fingerprint="", temporary=False))

    @contextlib.contextmanager
    def attempt(
        self,
        doing: str,
        *,
        upload: bool = False,
        damaged: Callable[[str], TransferError] = Transient,
    ) -> Iterator[Any]:
        """One attempt at something: yields the client, and lets only errors of ours out.

        Args:
            doing: What is done to what; begins every message.
            upload: What is not found is the multipart upload.
            damaged: Makes the error for "the server saw other bytes".
        """
        login: Login | None = None
        try:
            with self._transport.call():  # first: a cut while the credentials are loaded counts as well
                login = self._current()
                yield login.client
        except RecursionError:  # botocore follows a bucket from region to region, also in a circle
            raise ConnectionLost(f"{doing}: redirected again and again") from None
        except (ValueError, KeyError) as error:  # botocore's parsers trust what numbers and dates look like
            raise ConnectionLost(f"{doing}: the answer is not one of S3 ({type(error).__name__})") from error
        except Redirected as error:
            raise Permanent(f"{doing}: {error}") from None
        except ConnectionLost as error:
            raise type(error)(f"{doing}: {error}") from error
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            ours = s3_errors.translate(error, doing, upload=upload, temporary=login is not None and login.temporary)
            if isinstance(ours, s3_errors.Damaged):
                raise damaged(str(ours)) from None
            if login is not None and s3_errors.maybe_rotated(error) and self._replaced(login):
                ours = CredentialsExpired(f"{doing}: the access key was replaced, the new one is used next")
            if login is not None and isinstance(ours, CredentialsExpired):
                self._forget(login)
            # Not `from error`: botocore's exceptions carry URLs and whole answers, and a traceback may be logged.
            raise ours from None

    @property
    def shortcut(self) -> Shortcut | None:
        """The way past boto3, where there is one; within an attempt."""
        return self._shortcut

    def learn(self, key: str) -> None:
        """The last request of boto3 for this thread was about the object `key`, and a success."""
        shortcut = self._shortcut
        if shortcut is not None:
            shortcut.learn(self._transport.sent, key)

    def receive(self, body: Any, into: memoryview, meter: Meter) -> None:
        """Fill `into` from the body of an answer; a cut since this thread's attempt began ends it."""
        self._transport.receive(body, into, meter)

    def cut(self) -> None:
        """End all attempts that are under way, at once."""
        self._transport.cut()

    def close(self) -> None:
        """Let go of connections, and of the client."""
        self._transport.cut()
        with self._lock:
            if self._login is not None:
                self._login.client.meta.events.unregister("before-send.s3", self._transport.send)
            self._login = self._shortcut = None

    @property
    def encrypted(self) -> bool:
        """Whether bytes go over TLS; known from the settings."""
        return self._url.startswith("https:")

    @property
    def open_connections(self) -> int:
        """How many connections are in use or at rest."""
        return self._transport.open_connections

    def _current(self) -> Login:
        with self._lock:
            if self._login is None:
                self._login = self._load()
            return self._login

    def _forget(self, login: Login) -> None:
        with self._lock:
            if self._login is login and not self._given:
                self._login = self._shortcut = None

    def _replaced(self, login: Login) -> bool:
        """Load the credentials anew and say whether they are others than those that were used."""
        if self._given:
            return False
        with self._lock:
            if self._login is login:
                self._login = self._load()
            return self._login is not None and self._login.fingerprint != login.fingerprint

    def _load(self) -> Login:
        quiet_botocore()
        session = self._sessions()
        client = session.client(
            "s3",
            region_name=self._settings.region or session.region_name or DEFAULT_REGION,
            endpoint_url=self._settings.endpoint_url or None,
            config=self._config,
        )
        return self._attach(login_of(client, session.get_credentials()))

    def _attach(self, login: Login) -> Login:
        client = login.client
        if client.meta.endpoint_url.startswith("https:"):
            self._transport.use_tls(tls_context(client))
        self._transport.use_proxies(client.meta.config.proxies)
        client.meta.events.register("before-send.s3", self._transport.send)
        if login.credentials is not None:
            signs = signs_bodies(self._settings.endpoint_url)
            self._shortcut = Shortcut(self._transport, client, login.credentials, signs_bodies=signs)
        return login
