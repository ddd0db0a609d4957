"""Guard: which requests are let in, and what a browser is told to keep to.

On TCP everybody on this machine can knock, and so can every page that a browser here has open:

- `Host` has to be one of ours, or a page whose name was made to point here (DNS rebinding) could read what we answer.
- A request of another origin is refused, whatever it brings; there is no CORS.
- Then the secret of programs, or the session of the page, which is good under the page's own host name only.

Whoever can open the Unix socket is the user, by the modes of the socket and its folder, and by what the kernel says of
the other side.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection
from typing import Final

from aiohttp import web

from dmedia_transfer.web.refusals import Refusal
from dmedia_transfer.web.tokens import SESSION_S, Tokens

COOKIE: Final = "dmedia"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

# Pages may load what we serve and nothing else; no code or style within a page; nobody shows us in a frame.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def secured(response: web.StreamResponse) -> web.StreamResponse:
    """With the headers that all answers have, unless it has its own; before it is sent."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


class Guard:
    """Decides for each request. For one event loop."""

    def __init__(self, tokens: Tokens, names: Collection[str]) -> None:
        """`names` are those that this machine may be called by on TCP, without the port, besides the page's own."""
        self._tokens = tokens
        self._names = {name.lower() for name in names} | {tokens.host_name}
        self._hosts: frozenset[str] = frozenset()
        self._page = ""

    def listens(self, port: int) -> None:
        """The port is known."""
        ports = [f":{port}", *([""] if port == 80 else [])]
        self._hosts = frozenset(f"{name}{each}" for name in self._names for each in ports)
        self._page = f"{self._tokens.host_name}:{port}"

    @property
    def page(self) -> str:
        """Where the page is."""
        return f"http://{self._page}"

    def check(self, request: web.BaseRequest, *, public: bool = False) -> None:
        """Let a request in, or not. `public`: what tells nothing, and has to be there before anybody is known.

        Raises:
            Refusal: It is not let in.
        """
        if is_local(request):
            if "Origin" in request.headers:
                raise Refusal(403, "no page asks through a socket", close=True)
            _check_user(request)
            return
        host = request.headers.get("Host", "").lower()
        if host not in self._hosts or len(request.headers.getall("Host", [])) != 1:
            raise Refusal(403, "this machine is not called so here: see the Host of the request", close=True)
        self._check_origin(request, host, public=public)
        if not public:
            self._check_identity(request, host)

    def _check_origin(self, request: web.BaseRequest, host: str, *, public: bool) -> None:
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{host}":
            raise Refusal(403, "requests of other origins are not answered", close=True)
        site = request.headers.get("Sec-Fetch-Site", "none")
        if site not in ("same-origin", "none"):
            # A link from elsewhere may lead to the page itself; nothing is done, and nothing can be read by who links.
            if public and request.method in _SAFE and request.headers.get("Sec-Fetch-Mode") == "navigate":
                return
            raise Refusal(403, "requests of other origins are not answered", close=True)

    def _check_identity(self, request: web.BaseRequest, host: str) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme:
            if scheme.lower() == "bearer" and self._tokens.is_token(token.strip()):
                return
            raise _stranger("this token is not good")
        cookie = request.cookies.get(COOKIE)
        if cookie is None or host != self._page or not self._tokens.is_session(cookie):
            raise _stranger("a token, or a session that the link of `dmedia-transfer web` opens, is needed")
        if request.method not in _SAFE and "Origin" not in request.headers:
            raise Refusal(403, "a page says where it is from", close=True)

    def sign_in(self, request: web.BaseRequest, code: str) -> web.Response:
        """Open a session for whoever has a link.

        Raises:
            Refusal: It is not good, or not any more.
        """
        if is_local(request) or request.headers.get("Host", "").lower() != self._page:
            raise Refusal(403, "the link is for the page's own address")
        if not self._tokens.use_link(code):
            raise Refusal(410, "this link was used already, or is too old; `dmedia-transfer web` makes another one")
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(
            COOKIE, self._tokens.new_session(), max_age=int(SESSION_S), path="/", httponly=True, samesite="Strict"
        )
        return response


def is_local(request: web.BaseRequest) -> bool:
    """Whether a request came through the Unix socket."""
    sock = request.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX


def _check_user(request: web.BaseRequest) -> None:
    sock = request.get_extra_info("socket")
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    if uid not in (os.getuid(), 0):
        raise Refusal(403, "this is the socket of another user", close=True)


def _stranger(detail: str) -> Refusal:
    return Refusal(401, detail, headers={"WWW-Authenticate": 'Bearer realm="dmedia_transfer"'}, close=True)
