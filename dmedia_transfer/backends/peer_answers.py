"""What a peer answers that is no success, as our own errors. What it says is shown, but not believed."""

from __future__ import annotations

import base64
import binascii
from http.client import HTTPMessage
from typing import Final

from dmedia_transfer.backends import answers
from dmedia_transfer.errors import (
    AccessDenied,
    ConnectionLost,
    Permanent,
    ServerBusy,
    Stalled,
    TransferError,
    Transient,
)
from dmedia_transfer.peers import wire
from dmedia_transfer.serving import tuswords

MAX_TEXT_BYTES: Final = 2048  # of an answer that is no success
NO_ROOM_RETRY_S: Final = 300.0  # somebody has to make room there
_MAX_DIGITS: Final = 16


def refusal(status: int, headers: HTTPMessage, text: bytes, doing: str) -> TransferError:
    """The error for an answer that no verb knows better.

    Args:
        status: The answer's.
        headers: Its headers.
        text: The beginning of its body.
        doing: What was being done; begins the message.
    """
    said = f"{doing}: {_sentence(text)} ({status})"
    retry_after_s = answers.retry_after_s(headers.get("Retry-After"))
    match status:
        case 408:
            return Stalled(said)
        case 423 | 429 | 503:
            return ServerBusy(said, retry_after_s=retry_after_s)
        case 507:
            return ServerBusy(said, retry_after_s=retry_after_s or NO_ROOM_RETRY_S)
        case 401 | 403:
            return AccessDenied(said)
        case 422:  # its documents are behind ours
            return Transient(said, retry_after_s=retry_after_s)
    if 300 <= status < 400:
        return Permanent(f"{doing}: it says to ask elsewhere ({status}), which is not done")
    if status >= 500:
        return Transient(said, retry_after_s=retry_after_s)
    return Permanent(said)


def offset(headers: HTTPMessage, size: int) -> int:
    """How far an upload of `size` bytes is.

    Raises:
        ConnectionLost: It is not said, or cannot be.
    """
    found = _number(headers.get(tuswords.UPLOAD_OFFSET, ""))
    if found is None or found > size:
        raise ConnectionLost(f"the answer does not say how far the upload of {size} bytes is")
    return found


def size(headers: HTTPMessage) -> int:
    """How large a file is.

    Raises:
        ConnectionLost: It is not said, or cannot be.
    """
    found = _number(headers.get("Content-Length", ""))
    if found is None:
        raise ConnectionLost("the answer does not say how large the file is")
    return found


def upload_id(headers: HTTPMessage) -> str:
    """The ID of an upload that was begun. Nobody is followed elsewhere: only its last part is looked at.

    Raises:
        ConnectionLost: It is not said.
    """
    text = headers.get("Location", "").rpartition(f"{wire.UPLOADS}/")[2]
    if not wire.is_upload_id(text):
        raise ConnectionLost("the answer does not say which upload was begun")
    return text


def sha256(headers: HTTPMessage, name: str) -> bytes | None:
    """The SHA-256 of a `Repr-Digest` or one of its relatives, if it has one."""
    for part in (headers.get(name) or "").split(","):
        algorithm, _, value = part.strip().partition("=")
        if algorithm == "sha-256" and len(value) > 2 and value.startswith(":") and value.endswith(":"):
            try:
                digest = base64.b64decode(value[1:-1], validate=True)
            except (binascii.Error, ValueError):
                return None
            return digest if len(digest) == 32 else None
    return None


def _sentence(text: bytes) -> str:
    """The first line of what a peer says, fit for a terminal."""
    line = text.decode("utf-8", "replace").strip().partition("\n")[0][:200]
    return "".join(character if character.isprintable() else "?" for character in line) or "refused"


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None
