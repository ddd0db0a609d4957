"""As much of an HTTP/1.1 server as the lean S3 endpoint needs: one buffer per connection, no needless copy.

Subclasses answer the requests.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

BUFFER_BYTES: Final = 1024 * 1024
MAX_HEAD_BYTES: Final = 64 * 1024


class Refused(Exception):
    """A request that is answered with an error; the connection goes on."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class Request(NamedTuple):
    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.bucket}/{self.key}"


class Connection:
    """One client's connection, on its own thread; what is asked for is answered by a subclass."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self.rest = b""  # received, not used yet
        self.unread = 0  # bytes of the request's body that nobody has asked for
        self.expects = False  # the client waits for 100 Continue

    def run(self) -> None:
        """Answer requests until the client goes away."""
        with self.sock, contextlib.suppress(ConnectionError, TimeoutError):
            while head := self._head():
                request = self._parse(head)
                try:
                    self.answer(request)
                except Refused as refused:
                    self.skip_body()
                    body = f"<Error><Code>{refused.code}</Code><Message>{refused.code}</Message></Error>"
                    self.send(refused.status, body, without_body=request.method == "HEAD")

    def answer(self, request: Request) -> None:
        """Answer one request with `send`, after reading its `body`, or raise `Refused`."""
        raise NotImplementedError

    # Receiving

    def _more(self) -> None:
        data = self.sock.recv(MAX_HEAD_BYTES)
        if not data:
            raise ConnectionResetError
        self.rest += data

    def _head(self) -> list[str]:
        while b"\r\n\r\n" not in self.rest:
            if len(self.rest) > MAX_HEAD_BYTES:
                raise ConnectionResetError
            self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        return head.decode("latin-1").split("\r\n")

    def _parse(self, head: list[str]) -> Request:
        method, target, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        url = urlsplit(target)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        self.unread = int(headers.get("content-length", 0))
        self.expects = headers.get("expect", "").lower() == "100-continue"
        return Request(method, bucket, key, query, headers)

    def _line(self) -> bytes:
        while b"\r\n" not in self.rest:
            self._more()
        line, _, self.rest = self.rest.partition(b"\r\n")
        return line

    def skip_body(self) -> None:
        if self.expects:
            self.unread = 0  # it was not sent, and will not be
        for _ in self._plain(self.unread):
            pass

    def _plain(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes of the body, in views of the connection's one buffer."""
        self.unread = size
        while self.unread:
            if self.rest:
                count = min(self.unread, len(self.rest), BUFFER_BYTES)
                self.buffer[:count] = self.rest[:count]
                self.rest = self.rest[count:]
            else:
                count = self.sock.recv_into(self.buffer[: min(self.unread, BUFFER_BYTES)])
                if not count:
                    raise ConnectionResetError
            self.unread -= count
            yield self.buffer[:count]

    def body(self, request: Request) -> Iterator[memoryview]:
        if self.expects:
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.expects = False
        framed = request.headers.get("x-amz-content-sha256", "").startswith("STREAMING-")
        if not framed and request.headers.get("transfer-encoding", "").lower() != "chunked":
            yield from self._plain(self.unread)
            return
        while size := int(self._line().split(b";")[0], 16):
            yield from self._plain(size)
            self._line()
        while self._line():
            pass  # trailers
        self.unread = 0

    # Answering

    def send(
        self, status: int, body: str = "", *, without_body: bool = False, headers: Mapping[str, str] | None = None
    ) -> None:
        content = body.encode()
        headers = {"Content-Type": "application/xml", "Content-Length": str(len(content)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} -\r\nServer: lean\r\nDate: {formatdate(usegmt=True)}\r\n{lines}\r\n".encode(
            "latin-1"
        )
        self.sock.sendall(head if without_body else head + content)
