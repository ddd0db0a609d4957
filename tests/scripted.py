"""An HTTP server on loopback that answers what a test tells it to, sense or nonsense."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came in."""

    method: str
    path: str  # as it came, quoting included, without the query
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(slots=True)
class Answer:
    """What to say: JSON, bytes, or pieces that are sent one after another without a length."""

    status: int = 200
    json: Any = None
    body: bytes = b""
    pieces: Iterable[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


Respond = Callable[[Asked], Answer]


class ScriptedServer:
    """Answers each request with what `respond` returns; remembers what it was asked."""

    def __init__(self, respond: Respond, *, tls: ssl.SSLContext | None = None) -> None:
        self.respond = respond
        self.asked: list[Asked] = []
        self.closing = threading.Event()  # for answers that take their time
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_GET(self) -> None:
                outer._handle(self)

            do_POST = do_PUT = do_DELETE = do_HEAD = do_GET  # noqa: N815 - what http.server asks for

            def log_message(self, *_: Any) -> None:
                """Nothing: tests read `asked`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def freeze(self) -> None:
        """Take requests from now on, and never answer one."""
        self.respond = self._wait

    def _wait(self, _: Asked) -> Answer:
        self.closing.wait(30)
        return Answer(503)

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        asked = Asked(request.command, parts.path, query, dict(request.headers), body)
        self.asked.append(asked)
        answer = self.respond(asked)
        content = json.dumps(answer.json).encode() if answer.json is not None else answer.body
        request.send_response(answer.status)
        for name, value in {"Content-Type": answer.content_type, **answer.headers}.items():
            request.send_header(name, value)
        if answer.pieces is None:
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)
            return
        request.send_header("Connection", "close")  # the end of the answer is the end of the connection
        request.end_headers()
        for piece in answer.pieces:
            request.wfile.write(piece)
            request.wfile.flush()
        request.close_connection = True
