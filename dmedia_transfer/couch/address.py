"""Address: where a CouchDB server is, and who we are there. Loads nothing that could ask it anything."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from pydantic import SecretStr

from dmedia_transfer.errors import InvalidConfig

NO_PASSWORD: Final = SecretStr("")


@dataclass(frozen=True, slots=True)
class Address:
    """A CouchDB server, and who we are there."""

    url: str  # without credentials, and without a slash at its end
    user: str = ""
    password: SecretStr = NO_PASSWORD
    ca_file: Path | None = None  # certificates to trust instead of the system's

    @classmethod
    def parse(
        cls, url: str, *, user: str = "", password: SecretStr = NO_PASSWORD, ca_file: Path | None = None
    ) -> Address:
        """Read a URL; credentials that are in it are taken out, so that they are never shown.

        Raises:
            InvalidConfig: It is no http or https URL.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise InvalidConfig("couchdb: the URL cannot be read") from None  # and may hold a password
        if parts.scheme not in ("http", "https") or not host:
            raise InvalidConfig(
                "couchdb: should be `embedded`, `per-user`, or a URL that begins with https:// or http://"
            )
        if parts.username and not user:
            user, password = unquote(parts.username), SecretStr(unquote(parts.password or ""))
        netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        return cls(urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", "")), user, password, ca_file)

    @property
    def host(self) -> str:
        """The host's name or IP address."""
        return urlsplit(self.url).hostname or ""

    @property
    def loopback(self) -> bool:
        """Whether the server is on this machine, so that nothing leaves it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def encrypted(self) -> bool:
        """Whether the connection is TLS."""
        return self.url.startswith("https://")

    def database_url(self, name: str) -> str:
        """The URL of a database."""
        return f"{self.url}/{quote(name, safe='')}"
