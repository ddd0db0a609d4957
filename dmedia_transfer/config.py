"""One frozen Config from TOML and environment; each field says its unit and why.

Later wins: the defaults below, the file `config.toml`, the environment (`DMEDIA_` and the field's name).
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
import warnings
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from dmedia_transfer.errors import InvalidConfig, shown

APP = "dmedia-transfer"
EMBEDDED = "embedded"
PER_USER = "per-user"
PREFIX = "DMEDIA_"
TABLES = ("sync", "peer", "network", "power", "web", "desktop")  # their errors name the key within
# https://docs.couchdb.org/en/stable/api/database/common.html#put--db
_DATABASE_NAME = r"[a-z][a-z0-9_$()+/-]{0,237}"


class SyncTarget(BaseModel):
    """A database elsewhere that the local one is kept equal with."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str = Field(description="`https://host/database`, without user and password")
    user: str = Field("", description="who we are there; empty: `sync_user`")
    password: SecretStr = Field(SecretStr(""), description="never printed, never logged; empty: `sync_password`")
    ca_file: Path | None = Field(None, description="certificates to trust instead of the system's")

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        if "@" in value:
            raise ValueError("has a user or a password in the URL: they belong into sync_user and sync_password")
        url, database = urlsplit(value), value.rstrip("/").rpartition("/")[2]
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise ValueError(f"should be a URL like https://host:6984/dmedia, not {shown(value)}")
        if not url.path.strip("/") or not re.fullmatch(_DATABASE_NAME, unquote(database)):
            raise ValueError(f"should end with the name of a database, as https://host:6984/dmedia, not {shown(value)}")
        return value.rstrip("/")

    @field_validator("password")
    @classmethod
    def _password(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if value.get_secret_value() and not info.data.get("user"):
            raise ValueError("needs a user beside it")
        return value

    @property
    def server_url(self) -> str:
        """The server that has the database."""
        return self.url.rpartition("/")[0]

    @property
    def database(self) -> str:
        """The database's name."""
        return unquote(self.url.rpartition("/")[2])

    @property
    def host(self) -> str:
        """The server's host."""
        return urlsplit(self.url).hostname or ""


class PeerSettings(BaseModel):
    """The table `[peer]`: whether and where this machine serves the other machines of its library."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    enabled: bool = Field(False, description="whether peers are served at all; off until somebody wants it")
    host: str = Field("", description="the address to listen on; empty: all, IPv6 and IPv4")
    port: int = Field(5987, ge=0, le=65535, description="a fixed one, so that a firewall can let it in; 0: any")
    addresses: tuple[str, ...] = Field(
        (),
        description="`host:port` at which others reach this machine besides the addresses of its interfaces, through a "
        "forwarded port for example; in the environment with commas between them",
    )
    discovery: bool = Field(
        True, description="whether machines find each other on the local network; tells it the machine ID"
    )
    off_lan: bool = Field(True, description="whether other machines are spoken to beyond the networks we are on")
    upload_expire_s: float = Field(
        24 * 3600.0, ge=60, description="seconds after which an upload that a peer does not go on with is removed"
    )

    @field_validator("addresses", mode="before")
    @classmethod
    def _with_commas(cls, value: object) -> object:
        return [each.strip() for each in value.split(",") if each.strip()] if isinstance(value, str) else value

    @field_validator("addresses")
    @classmethod
    def _hosts_and_ports(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            host, _, port = each.rpartition(":")
            if not host or not (port.isdecimal() and port.isascii() and 1 <= int(port[:6]) <= 65535):
                raise ValueError(f"should be host:port, as 192.0.2.7:5987 or [2001:db8::7]:5987, not {shown(each)}")
        return value

    @field_validator("port", "upload_expire_s", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError(f"should not be {str(value).lower()}")  # noqa: TRY004 - pydantic collects ValueErrors only
        return value


class _Table(BaseModel):
    """A table of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError(f"should not be {str(value).lower()}")
        return value


class NetworkSettings(_Table):
    """The table `[network]`: what a connection that NetworkManager knows of is used for."""

    follow: bool = Field(True, description="whether NetworkManager is believed; else there is always a connection")
    metered: Literal["never", "ask-no", "always"] = Field(
        "ask-no",
        description="what goes over a connection that costs by the byte: nothing, the urgent and small, all",
    )
    metered_max_bytes: int = Field(10_000_000, ge=0, description="with `ask-no`, a file of at most so many is small")


class PowerSettings(_Table):
    """The table `[power]`: what happens on a battery, and whether the machine may fall asleep."""

    min_battery_percent: float = Field(
        15.0, ge=0, le=100, description="on a battery below this nothing moves; 0: the battery does not matter"
    )
    keep_awake: bool = Field(True, description="on mains the machine does not fall asleep while something moves")


class WebSettings(_Table):
    """The table `[web]`: the REST API, the event stream and the page."""

    enabled: bool = Field(False, description="whether there is any of it; off until somebody wants it")
    host: str = Field("127.0.0.1", description="the address of this machine to listen on: a loopback one")
    port: int = Field(5988, ge=0, le=65535, description="on loopback; 0: any. `dmedia-transfer web` knows it")

    upload_expire_s: float = Field(
        24 * 3600.0, ge=60, description="seconds after which an upload goes that nobody goes on with"
    )

    @field_validator("host")
    @classmethod
    def _loopback(cls, value: str) -> str:
        if value != "localhost" and not _is_loopback(value):
            raise ValueError(f"should be an address of this machine alone, like 127.0.0.1, not {shown(value)}")
        return value


class DesktopSettings(_Table):
    """The table `[desktop]`: what people see on their desktop."""

    notifications: bool = Field(True, description="a notification of each batch, progress in launcher and job list")


class Config(BaseModel):
    """All that can be set. Nothing in it changes while the daemon runs, but a reload reads it anew."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,  # an error that somebody logs whole has no password in it
    )

    couchdb: str = Field(EMBEDDED, description="`embedded`, `per-user`, or the URL of a CouchDB server")
    couchdb_user: str = Field("", description="who we are there; in the environment or a 0600 file, not in the URL")
    couchdb_password: SecretStr = Field(SecretStr(""), description="never printed, never logged")
    couchdb_ca_file: Path | None = Field(None, description="certificates to trust instead of the system's")
    database: str = Field("dmedia", description="name of the database")

    hostname: str = Field(default_factory=socket.gethostname, description="how other devices show this one")
    state_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_state_dir(APP)), description="journal, machine ID, stores"
    )
    runtime_dir: Path = Field(default_factory=lambda: _runtime_dir(), description="sockets; gone after a logout")

    max_transfers: int = Field(
        4, ge=1, le=64, description="transfers at once; files up to 8 MiB with one store count as one, up to 64 of them"
    )
    max_transfers_per_store: int = Field(4, ge=1, le=64, description="of those, from or to one store")
    connections: int = Field(4, ge=1, le=32, description="the most leaves or parts at once in one transfer; 8 MiB each")
    stall_s: float = Field(60.0, gt=0, description="seconds without a byte after which a connection is cut")
    worker_idle_s: float = Field(60.0, gt=0, description="seconds after which an idle worker leaves")
    pause_grace_s: float = Field(5.0, ge=0, description="seconds that parts in flight may take to finish at a pause")

    floor_bytes: int = Field(2 * 1024**3, ge=0, description="bytes that a FileStore keeps free ...")
    floor_percent: float = Field(5.0, ge=0, le=100, description="... or this share of its disk, whichever is less")

    download_limit: str = Field("", description="bytes per second, `5MB/s`; empty: none")
    upload_limit: str = Field("", description="bytes per second, `500kB/s`; empty: none")
    timetable: str = Field("", description="`08:00 2MB/s, 18:00 off, 23:00 stop`: limits by the time of day")

    expire_days: float = Field(7.0, gt=0, description="days after which what is unfinished and not wanted goes")
    allowed_http_hosts: tuple[str, ...] = Field(
        (), description="hosts that may be spoken to without TLS; in the environment with commas between them"
    )
    sync: tuple[SyncTarget, ...] = Field(
        (),
        description="databases that the local one is kept equal with, both ways: URLs, or tables of url, user, "
        "password and ca_file where they differ; in the environment URLs with commas between them",
    )
    sync_user: str = Field("", description="who we are at those of `sync` that name no user")
    sync_password: SecretStr = Field(SecretStr(""), description="in the environment or a 0600 file; never printed")
    peer: PeerSettings = Field(
        PeerSettings(),
        description="the table of the server for peers; in the environment DMEDIA_PEER__ENABLED and so on",
    )
    network: NetworkSettings = Field(
        NetworkSettings(), description="the table of what a connection is used for; DMEDIA_NETWORK__METERED and so on"
    )
    power: PowerSettings = Field(
        PowerSettings(), description="the table of battery and sleep; DMEDIA_POWER__KEEP_AWAKE and so on"
    )
    web: WebSettings = Field(
        WebSettings(),
        description="the table of the REST API and the page; in the environment DMEDIA_WEB__ENABLED and so on",
    )
    desktop: DesktopSettings = Field(
        DesktopSettings(), description="the table of what people see; DMEDIA_DESKTOP__NOTIFICATIONS"
    )
    log_level: str = Field("INFO", description="how much the log says: DEBUG, INFO, WARNING or ERROR")

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object) -> object:
        # TOML knows true and false, and pydantic would take them for 1 and 0.
        if isinstance(value, bool):
            raise ValueError(f"should not be {str(value).lower()}")  # noqa: TRY004 - pydantic collects ValueErrors only
        return value

    @field_validator("allowed_http_hosts", mode="before")
    @classmethod
    def _with_commas(cls, value: object) -> object:
        return [host.strip() for host in value.split(",") if host.strip()] if isinstance(value, str) else value

    @field_validator("sync", mode="before")
    @classmethod
    def _urls_or_tables(cls, value: object) -> object:
        if isinstance(value, str):
            value = [url.strip() for url in value.split(",") if url.strip()]
        if not isinstance(value, list | tuple):
            return value
        return [{"url": each} if isinstance(each, str) else each for each in value]

    @field_validator("sync")
    @classmethod
    def _safe_to_reach(cls, targets: tuple[SyncTarget, ...], info: ValidationInfo) -> tuple[SyncTarget, ...]:
        own = f"{str(info.data.get('couchdb', '')).rstrip('/')}/{info.data.get('database', '')}"
        seen: set[str] = set()
        for target in targets:
            plain = target.url.startswith("http:") and not _is_loopback(target.host)
            if plain and target.host not in info.data.get("allowed_http_hosts", ()):
                raise ValueError(
                    f"{target.url} is not encrypted: use https, or name {target.host} in `allowed_http_hosts`"
                )
            if target.url in seen:
                raise ValueError(f"{target.url} is there twice")
            if target.url == own:
                raise ValueError(f"{target.url} is the database itself that this device uses")
            seen.add(target.url)
        return targets

    @field_validator("couchdb")
    @classmethod
    def _server(cls, value: str) -> str:
        if value in (EMBEDDED, PER_USER):
            return value
        if "@" in value:
            raise ValueError("has a user or a password in the URL: they belong into couchdb_user and couchdb_password")
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise ValueError(f"should be {EMBEDDED}, {PER_USER} or a URL like https://host:6984, not {shown(value)}")
        return value

    @field_validator("database")
    @classmethod
    def _database(cls, value: str) -> str:
        if not re.fullmatch(_DATABASE_NAME, value):
            raise ValueError(f"should be lower-case letters, digits and any of _$()+-/, not {shown(value)}")
        return value

    @field_validator("log_level")
    @classmethod
    def _log_level(cls, value: str) -> str:
        if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError(f"should be DEBUG, INFO, WARNING or ERROR, not {shown(value)}")
        return value.upper()

    @field_validator("state_dir", "runtime_dir", "couchdb_ca_file", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if value == "":
            raise ValueError("should not be empty")  # it would mean the folder in which we were started
        return value

    @field_validator("state_dir", "runtime_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @property
    def sync_targets(self) -> tuple[SyncTarget, ...]:
        """Those of `sync`, each with the user and password that hold for it."""
        common = {"user": self.sync_user, "password": self.sync_password}
        return tuple(target if target.user else target.model_copy(update=common) for target in self.sync)


def _runtime_dir() -> Path:
    with warnings.catch_warnings(action="ignore"):  # without a login there is none, and another will do
        return Path(platformdirs.user_runtime_dir(APP))


def config_path() -> Path:
    """The configuration file: `$DMEDIA_CONFIG`, else `config.toml` in the user's configuration folder."""
    named = os.environ.get("DMEDIA_CONFIG")
    return Path(named).expanduser() if named else Path(platformdirs.user_config_dir(APP)) / "config.toml"


def load(path: Path | None = None) -> Config:
    """Read the configuration; a file that is not there is an empty one, unless it was named.

    Raises:
        InvalidConfig: Naming the file or variable, the key and what is wrong with it; never a value that is secret.
    """
    named = "" if path is None else "it was asked for"
    if path is None:
        path = config_path()
        named = "DMEDIA_CONFIG names it" if os.environ.get("DMEDIA_CONFIG") else ""
    settings: dict[str, Any] = {}
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise InvalidConfig(f"{path}: there is no such file, but {named}") from None
    except OSError as error:
        raise InvalidConfig(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number that is too long
        raise InvalidConfig(f"{path}: {error}") from None
    try:
        return Config(**_with_environment(settings, os.environ))
    except ValidationError as error:
        raise _problem(path, error) from None


def _with_environment(settings: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings of the file with those of the environment in their place; names are found in any case."""
    merged = dict(settings)
    for variable, value in environment.items():
        key, _, within = variable.upper().removeprefix(PREFIX).lower().partition("__")
        if not variable.upper().startswith(PREFIX) or key not in Config.model_fields:
            continue  # DMEDIA_CONFIG, and what tests have of their own
        if not within:
            merged[key] = value
        elif isinstance(Config.model_fields[key].default, BaseModel):
            table = merged.get(key, {})
            merged[key] = {**table, within: value} if isinstance(table, Mapping) else table
    return merged


def _problem(path: Path, error: ValidationError) -> InvalidConfig:
    first = error.errors(include_url=False, include_input=False)[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    within = ".".join(str(part) for part in first["loc"])  # `sync.0.url`: the first table of a list
    variables = {name.upper(): name for name in os.environ}  # they are found in any case
    nested = "__".join(str(part) for part in first["loc"])
    where = variables.get(f"{PREFIX}{nested}".upper()) or variables.get(f"{PREFIX}{key}".upper(), str(path))
    if first["type"] == "extra_forbidden":
        return InvalidConfig(f"{path}: {shown(within)}: there is no such setting")
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return InvalidConfig(f"{where}: {within if key in TABLES else key}: {message}")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
