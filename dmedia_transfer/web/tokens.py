"""Tokens: who may ask. A secret in a file for programs, one-time links for the page, and the sessions they open.

A session is a signed text in a cookie, made of the secret: it outlives a restart, and ends when the secret is removed.
Cookies do not know ports, and any user of the machine can listen on one: so the page has a host name of its own below
`localhost`, which browsers take for this machine, and a session is good there only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dmedia_transfer.errors import AccessDenied

FILE_NAME: Final = "web.token"
SESSION_S: Final = 30 * 86400.0
LINK_S: Final = 300.0
MAX_LINKS: Final = 32  # that were made and not used
_TOKEN_BYTES: Final = 32


class Tokens:
    """All that opens the door. For one event loop."""

    def __init__(self, secret: str, *, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock
        self._links: dict[str, float] = {}  # until when each can be used

    @property
    def host_name(self) -> str:
        """The page's own name for this machine."""
        digest = hashlib.sha256(b"host name of " + self._secret.encode()).digest()
        return f"dmedia-{base64.b32encode(digest[:10]).decode('ascii').lower()}.localhost"

    def is_token(self, text: str) -> bool:
        """Whether this is the secret that programs show."""
        return hmac.compare_digest(text.encode(), self._secret.encode())

    def new_link(self) -> str:
        """A code that opens the page once, soon."""
        self._forget_old()
        while len(self._links) >= MAX_LINKS:
            del self._links[next(iter(self._links))]
        code = secrets.token_urlsafe(24)
        self._links[code] = self._clock() + LINK_S
        return code

    def use_link(self, code: str) -> bool:
        """Whether the code is good; from now on it is not."""
        self._forget_old()
        return self._links.pop(code, None) is not None

    def new_session(self) -> str:
        """What a cookie has to say from now on."""
        text = f"{int(self._clock() + SESSION_S)}.{secrets.token_urlsafe(12)}"
        return f"{text}.{self._signature(text)}"

    def is_session(self, cookie: str) -> bool:
        """Whether a cookie was given by us, and not too long ago."""
        text, _, signature = cookie.rpartition(".")
        until, _, _ = text.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(text).encode()):
            return False
        return until.isdecimal() and self._clock() < int(until)

    def _signature(self, text: str) -> str:
        return hmac.new(self._secret.encode(), b"session " + text.encode(), hashlib.sha256).hexdigest()

    def _forget_old(self) -> None:
        now = self._clock()
        self._links = {code: until for code, until in self._links.items() if now < until}


def load_secret(path: Path) -> str:
    """The secret in this file, for its owner only; made if it is not there, or too short to be one.

    Raises:
        AccessDenied: The file cannot be read, or others can read it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            status = os.fstat(fd)
            if status.st_uid != os.getuid() or status.st_mode & 0o077:
                raise AccessDenied(f"{path}: others may have read it; remove it, and start the daemon again")
            found = os.read(fd, 1024).decode("ascii", "replace").strip()
        finally:
            os.close(fd)
    except FileNotFoundError:
        found = ""
    except OSError as error:
        raise AccessDenied(f"{path}: cannot be read: {error.strerror}") from None
    if len(found) >= _TOKEN_BYTES:
        return found
    return _make(path)


def _make(path: Path) -> str:
    secret = secrets.token_urlsafe(_TOKEN_BYTES)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(secret + "\n")
        temporary.replace(path)
    except OSError as error:
        raise AccessDenied(f"{path}: cannot be written: {error.strerror}") from None
    return secret
