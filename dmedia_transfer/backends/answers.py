"""Answers of HTTP servers, held against what was asked of them."""

from __future__ import annotations

import datetime
import email.utils
import re
from typing import Final

from dmedia_transfer.errors import ConnectionLost, Permanent, SizeDisputed
from dmedia_transfer.model import FileSpec

MAX_RETRY_AFTER_S: Final = 3600.0  # nobody can put us to sleep for longer
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z", re.ASCII)


def check_range(
    status: int, content_range: str | None, length: int | None, *, file: FileSpec, start: int, end: int, doing: str
) -> None:
    """Whether a 200 or 206 has exactly the bytes from `start` up to and without `end` of this file.

    Args:
        status: The answer's.
        content_range: Its Content-Range.
        length: Its Content-Length.
        file: What was asked for.
        start: Offset of the first byte.
        end: Offset after the last one.
        doing: Begins the message.

    Raises:
        ConnectionLost: It has others, or does not say which.
        SizeDisputed: The object has another size than the document says.
        Permanent: The server can only send all of it.
    """
    stated = _CONTENT_RANGE.match(content_range or "")
    if stated is None:
        if content_range is not None or length is None or status == 206:
            raise ConnectionLost("the answer does not say which bytes it has")
        first, last, total = 0, length - 1, length  # the whole object
    else:
        first, last = int(stated[1]), int(stated[2])
        total = file.size if stated[3] == "*" else int(stated[3])
    if total != file.size:
        raise SizeDisputed(f"{doing}: the object has {total} bytes, but the document says {file.size}")
    if stated is None and (start, end) != (0, total):
        raise Permanent(f"{doing}: the server cannot send parts of an object")
    if (first, last + 1) != (start, end) or length not in {None, end - start}:
        raise ConnectionLost(f"the answer has {length} bytes, {first} to {last}")


def retry_after_s(text: str | None) -> float | None:
    """A `Retry-After` in seconds from now: a number of them, or a date (RFC 9110, 10.2.3)."""
    text = (text or "").strip()
    if not text:
        return None
    if text.isascii() and text.isdecimal():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        then = email.utils.parsedate_to_datetime(text)
        now = datetime.datetime.now(datetime.UTC)
        return min(max((then - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)
    except (TypeError, ValueError):
        return None
