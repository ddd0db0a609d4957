"""Documents and the bytes of their attachments in one body, as replicators send and want them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import BodyPartReader, web

from dmedia_transfer.couch.embedded import jsontext
from dmedia_transfer.couch.embedded.attachments import Attachment
from dmedia_transfer.couch.embedded.problems import bad_request

Parts = Sequence[tuple[Attachment, bytes]]

_UNSAFE = re.compile(r'[\x00-\x1f"\\\x7f]')


def related(boundary: str, document: bytes, parts: Parts) -> bytes:
    """A `multipart/related` body: the document, then its attachments in the order in which it names them."""
    edge = b"--" + boundary.encode("ascii")
    pieces = [edge, b"\r\nContent-Type: application/json\r\n\r\n", document]
    for attachment, content in parts:
        name = _UNSAFE.sub("_", attachment.name)  # who reads it goes by the order
        head = (
            f'Content-Disposition: attachment; filename="{name}"\r\n'
            f"Content-Type: {attachment.content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        pieces += [b"\r\n", edge, b"\r\n", head.encode(), content]
    pieces += [b"\r\n", edge, b"--"]
    return b"".join(pieces)


def mixed(boundary: str, documents: Iterable[tuple[bytes, Parts]], absent: Iterable[bytes]) -> bytes:
    """A `multipart/mixed` body: revisions, with their attachments, and the names of those that are not there."""
    edge = b"--" + boundary.encode("ascii")
    pieces = [edge]
    for index, (document, parts) in enumerate(documents):
        if parts:
            inner = f"{index}-{boundary}"  # must not begin with the outer one: CouchDB would take it for that
            head = f'\r\nContent-Type: multipart/related; boundary="{inner}"\r\n\r\n'
            pieces += [head.encode("ascii"), related(inner, document, parts)]
        else:
            pieces += [b"\r\nContent-Type: application/json\r\n\r\n", document]
        pieces += [b"\r\n", edge]
    for text in absent:
        pieces += [b'\r\nContent-Type: application/json; error="true"\r\n\r\n', text, b"\r\n", edge]
    return b"".join([*pieces, b"--"])


async def read_related(request: web.Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The document of a `multipart/related` request, and the bytes that follow, by attachment.

    Raises:
        Problem: 400.
    """
    try:
        reader = await request.multipart()
        contents: list[tuple[str | None, bytes]] = []
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise ValueError("a part has parts")  # noqa: TRY301, TRY004
            contents.append((part.filename, bytes(await part.read(decode=False))))
    except (ValueError, RuntimeError, AssertionError) as error:
        raise bad_request(f"Bad multipart/related body: {error}") from None
    if not contents:
        raise bad_request("Bad multipart/related body: it is empty")
    document = jsontext.load_object(contents[0][1])
    stubs = document.get("_attachments")
    following = [
        name
        for name, value in (stubs.items() if isinstance(stubs, dict) else ())
        if isinstance(value, dict) and value.get("follows") is True
    ]
    named = [name for name, _ in contents[1:]]
    if sorted(following) == sorted(name for name in named if name is not None):
        return document, {str(name): content for name, content in contents[1:]}
    return document, dict(zip(following, (content for _, content in contents[1:]), strict=False))
