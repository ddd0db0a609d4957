"""The page: static files beside this module, read once; nothing else of the disk can be named."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from aiohttp import web

_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".txt": "text/plain",
}
_TEXTS: Final = ("text/", "application/", "image/svg")


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str
    etag: str


@cache
def _files() -> dict[str, _File]:
    """All files of the page by the path at which they are served."""
    found: dict[str, _File] = {}
    _walk(resources.files(__package__) / "static", "/", found)
    if "/index.html" in found:
        found["/"] = found["/index.html"]
    return found


def _walk(folder: Traversable, path: str, found: dict[str, _File]) -> None:
    if not folder.is_dir():
        return
    for each in folder.iterdir():
        suffix = f".{each.name.rpartition('.')[2]}"
        if each.is_dir():
            _walk(each, f"{path}{each.name}/", found)
        elif suffix in _TYPES:
            body = each.read_bytes()
            found[path + each.name] = _File(body, _TYPES[suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def is_page(path: str) -> bool:
    """Whether a path is of the page."""
    return path in _files()


def serve(request: web.BaseRequest) -> web.Response:
    """A file of the page; it has nothing of anybody in it, so anybody may have it."""
    file = _files()[request.path]
    headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match") == file.etag:
        return web.Response(status=304, headers=headers)
    charset = "utf-8" if file.content_type.startswith(_TEXTS) else None
    return web.Response(body=file.body, content_type=file.content_type, charset=charset, headers=headers)
