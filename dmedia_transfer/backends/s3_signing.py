"""Signing: AWS Signature Version 4 of requests to S3, as its documentation has it.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html. For the requests of the hot loops only,
and only for those who have shown that they come to the same signature as boto3 (`Signer.agrees`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self
from urllib.parse import quote

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
EMPTY: Final = hashlib.sha256(b"").hexdigest()
_SAFE: Final = "-_.~"
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/, ]+)/(\d{8})/([^/, ]+)/s3/aws4_request, *"
    r"SignedHeaders=([a-z0-9;-]+), *Signature=([0-9a-f]{64})\Z"
)


class Key(NamedTuple):
    """An access key as it is now."""

    access_key: str
    secret_key: str
    token: str  # of temporary ones; else empty

    def __repr__(self) -> str:
        return "Key(...)"


class Signed(NamedTuple):
    """What the Authorization of a request says."""

    access_key: str
    region: str
    names: tuple[str, ...]  # of the headers that were signed
    signature: str

    @classmethod
    def read(cls, authorization: str) -> Self | None:
        """A signature for S3 of this kind; None for any other."""
        match = _AUTHORIZATION.match(authorization)
        return cls(match[1], match[3], tuple(match[4].split(";")), match[5]) if match else None


class Signer:
    """Signs for one region. Any thread may call."""

    def __init__(self, region: str) -> None:
        self.region = region
        self._lock = threading.Lock()
        self._derived: tuple[tuple[str, str], bytes] = (("", ""), b"")  # of which secret and day, and the key for it

    def authorization(
        self, key: Key, method: str, path: str, query: str, headers: Mapping[str, str], *, time: str
    ) -> str:
        """The Authorization of a request.

        Args:
            key: Whose it is.
            method: GET, for example.
            path: As it is sent.
            query: As it is sent, `canonical_query`.
            headers: Those that are signed, by lower-case name; with host and x-amz-content-sha256.
            time: As in x-amz-date.
        """
        names = ";".join(sorted(headers))
        signature = self._signature(key, method, path, query, headers, time)
        scope = f"{key.access_key}/{time[:8]}/{self.region}/s3/aws4_request"
        return f"AWS4-HMAC-SHA256 Credential={scope},SignedHeaders={names},Signature={signature}"

    def agrees(self, key: Key, method: str, path: str, query: str, headers: Mapping[str, str], signed: Signed) -> bool:
        """Whether this request, with all its headers by lower-case name, would be signed here as it was."""
        try:
            chosen = {name: headers[name] for name in signed.names}
            time = chosen["x-amz-date"]
            ours = self._signature(key, method, path, query, chosen, time)
        except KeyError:
            return False
        return hmac.compare_digest(ours, signed.signature)

    def _signature(self, key: Key, method: str, path: str, query: str, headers: Mapping[str, str], time: str) -> str:
        lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))
        names = ";".join(sorted(headers))
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{headers['x-amz-content-sha256']}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{time}\n{time[:8]}/{self.region}/s3/aws4_request\n{digest}"
        return hmac.digest(self._key_of(key.secret_key, time[:8]), text.encode(), "sha256").hex()

    def _key_of(self, secret_key: str, day: str) -> bytes:
        with self._lock:
            if self._derived[0] != (secret_key, day):
                derived = f"AWS4{secret_key}".encode()
                for step in (day, self.region, "s3", "aws4_request"):
                    derived = hmac.digest(derived, step.encode(), "sha256")
                self._derived = ((secret_key, day), derived)
            return self._derived[1]


def canonical_query(parameters: Iterable[tuple[str, str]]) -> str:
    """Names and values as they are both sent and signed."""
    return "&".join(sorted(f"{quote(name, _SAFE)}={quote(value, _SAFE)}" for name, value in parameters))


def canonical_path(key: str) -> str:
    """An object's key in a path."""
    return quote(key, f"/{_SAFE}")
