"""How boto3's client for an S3 store is configured, and what is read from one."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.httpsession import get_cert_path

from dmedia_transfer.backends.connections import CONNECT_TIMEOUT_S


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """A client and what its credentials are like; not the credentials."""

    client: Any  # boto3's
    fingerprint: str  # of the credentials, to see whether they have been replaced; empty if not known
    temporary: bool  # has a session token, and so an end
    credentials: Any = None  # botocore's, which renews them by itself where it can


def login_of(client: Any, credentials: Any) -> Login:
    """A login with this client; `credentials` are botocore's, or None where there are none."""
    if credentials is None:
        return Login(client, fingerprint="", temporary=False)
    frozen = credentials.get_frozen_credentials()
    facts = "\0".join([frozen.access_key or "", frozen.secret_key or "", frozen.token or ""])
    fingerprint = hashlib.sha256(facts.encode()).hexdigest()
    return Login(client, fingerprint, temporary=bool(frozen.token), credentials=credentials)


def client_config(endpoint_url: str, *, stall_s: float, connections: int) -> Config:
    """boto3's settings for this endpoint (empty: AWS itself)."""
    options: dict[str, Any] = {"ignore_configured_endpoint_urls": True}  # AWS_ENDPOINT_URL is not our store's
    return Config(
        signature_version="s3v4",
        retries={"total_max_attempts": 1, "mode": "standard"},  # when to try again is not for an SDK to decide
        # Checksums that we want, we pass: SHA-256, which we have already. boto3 would add a CRC32 of its own.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=connections + 1,
        connect_timeout=min(CONNECT_TIMEOUT_S, stall_s),
        read_timeout=stall_s,
        user_agent_extra="dmedia-transfer",
        s3={
            "addressing_style": "path" if endpoint_url else "auto",  # bucket.host has no DNS entry on most servers
            # Over TLS nobody can change the body on the way, and on loopback there is no way. Elsewhere it is signed.
            "payload_signing_enabled": signs_bodies(endpoint_url),
        },
        **options,
    )


def signs_bodies(endpoint_url: str) -> bool:
    """Whether what a body has is part of a request's signature."""
    return endpoint_url.startswith("http://") and not is_loopback(endpoint_url)


def tls_context(client: Any) -> ssl.SSLContext:
    """TLS as this client does it: its `verify`, which may come from AWS_CA_BUNDLE or a profile's `ca_bundle`."""
    # botocore keeps what all those settings came to in no public place.
    verify = getattr(getattr(getattr(client, "_endpoint", None), "http_session", None), "_verify", True)
    if not verify:
        context = ssl.create_default_context()
        context.check_hostname = False  # whoever made the client said verify=False
        context.verify_mode = ssl.CERT_NONE
        return context
    path = str(get_cert_path(verify))
    if Path(path).is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)


def quiet_botocore() -> None:
    """Keep botocore's debug lines out of every log: they show session tokens (in the canonical request)."""
    logger = logging.getLogger("botocore")
    if logger.getEffectiveLevel() < logging.INFO:
        logger.setLevel(logging.INFO)


def is_loopback(url: str) -> bool:
    """Whether what is sent there does not leave this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
