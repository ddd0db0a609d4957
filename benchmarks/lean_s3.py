"""An S3 endpoint that costs almost nothing, so that a benchmark measures the client.

A thread per connection; bodies go from the socket through one buffer into a file per part, nothing is copied when an
upload is completed, and downloads leave by `sendfile`. It checks no signature and no checksum, keeps its table of
objects in memory, and takes any bucket for an existing one: for benchmarks and tests on loopback, not for files.

    python -m benchmarks.lean_s3 --dir D --port 0 --ready-fd N     writes its port to N when it listens
    with running(Path("D")) as server: boto3.client("s3", endpoint_url=server.url, ...)
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Final
from urllib.request import urlopen
from xml.sax.saxutils import escape

from benchmarks import lean_http
from benchmarks.lean_http import Refused, Request
from benchmarks.lean_objects import Object, Objects, Piece, Upload

STATS_PATH: Final = "/-/stats"


class Server(Objects):
    """The tables, and a socket whose connections read and write them."""

    def __init__(self, folder: Path, *, port: int = 0, md5: bool = False, discard: bool = False) -> None:
        super().__init__(folder, md5=md5, discard=discard)
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        # Loopback may run under bbr, which paces it; an accepted socket inherits this.
        with contextlib.suppress(OSError):
            self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        self.port: int = self.listener.getsockname()[1]

    def serve(self, connection_class: type[Connection] | None = None) -> None:
        """Accept connections until the listener is closed; `connection_class` may do more with each request."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=(connection_class or Connection)(self, connection).run, daemon=True).start()


class Connection(lean_http.Connection):
    """One client's connection, on its own thread."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        super().__init__(sock)
        self.server = server

    def _receive(self, request: Request) -> Piece:
        """Take the body into a file of its own."""
        path = None if self.server.discard else self.server.folder / f"{next(self.server.serial):08}"
        md5 = hashlib.md5() if self.server.md5 else None
        size = 0
        try:
            with contextlib.ExitStack() as stack:
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) if path else None
                if file is not None:
                    stack.callback(os.close, file)
                for view in self.body(request):
                    if md5:
                        md5.update(view)
                    start = 0
                    while file is not None and start < len(view):
                        start += os.pwrite(file, view[start:], size + start)
                    size += len(view)
        except BaseException:
            if path:
                path.unlink(missing_ok=True)
            raise
        finally:
            self.server.count(received=size)
        return Piece(path, size, md5.digest() if md5 else b"", request.headers.get("x-amz-checksum-sha256", ""))

    def answer(self, request: Request) -> None:
        self.server.count(requests=1)
        query, method = request.query, request.method
        if "/".join(("", request.bucket, request.key)) == STATS_PATH:
            self.send(200, json.dumps(self.server.stats))
        elif not request.key:
            self._bucket(request)
        elif method in ("GET", "HEAD") and "uploadId" not in query:
            self._get(request)
        elif method == "PUT" and "x-amz-copy-source" in request.headers:
            raise Refused(501, "NotImplemented")
        elif method == "PUT" and "uploadId" not in query:
            self._put(request)
        elif method == "DELETE" and "uploadId" not in query:
            with self.server.lock:
                gone = self.server.objects.pop(request.name, None)
            self.server.drop(gone.pieces if gone else ())
            self.send(204)
        elif method == "POST" and "uploads" in query:
            upload_id = f"upload-{next(self.server.serial)}"
            mime = request.headers.get("content-type", "binary/octet-stream")
            self.server.uploads[upload_id] = Upload(request.name, mime)
            names = f"<Bucket>{escape(request.bucket)}</Bucket><Key>{escape(request.key)}</Key>"
            answer = "InitiateMultipartUploadResult"
            self.send(200, f"<{answer}>{names}<UploadId>{upload_id}</UploadId></{answer}>")
        elif "uploadId" in query:
            self._upload(request)
        else:
            raise Refused(405, "MethodNotAllowed")

    def _bucket(self, request: Request) -> None:
        if request.method != "GET":
            self.skip_body()
            self.send(200, without_body=True)
        elif "location" in request.query:
            self.send(200, "<LocationConstraint/>")
        elif "uploads" in request.query:
            found = [(upload_id, upload) for upload_id, upload in list(self.server.uploads.items())]
            rows = "".join(
                f"<Upload><Key>{escape(upload.name.partition('/')[2])}</Key><UploadId>{upload_id}</UploadId></Upload>"
                for upload_id, upload in found
                if upload.name.startswith(f"{request.bucket}/")
            )
            self.send(200, f"<ListMultipartUploadsResult>{rows}</ListMultipartUploadsResult>")
        else:
            start = f"{request.bucket}/{request.query.get('prefix', '')}"
            found_objects = sorted(
                (name, each) for name, each in list(self.server.objects.items()) if name.startswith(start)
            )
            rows = "".join(
                f"<Contents><Key>{escape(name.partition('/')[2])}</Key><Size>{each.size}</Size>"
                f"<ETag>&quot;{each.etag}&quot;</ETag><LastModified>{_iso(each.time)}</LastModified></Contents>"
                for name, each in found_objects
            )
            truncated = f"<KeyCount>{len(found_objects)}</KeyCount><IsTruncated>false</IsTruncated>"
            self.send(200, f"<ListBucketResult>{truncated}{rows}</ListBucketResult>")

    def _put(self, request: Request) -> None:
        if request.headers.get("if-none-match") == "*" and request.name in self.server.objects:
            raise Refused(412, "PreconditionFailed")
        piece = self._receive(request)
        mime = request.headers.get("content-type", "binary/octet-stream")
        made = self.server.publish(request.name, [piece], mime, composite=False)
        self.send(200, headers={"ETag": f'"{made.etag}"', **_checksum(piece.sha256)})

    def _get(self, request: Request) -> None:
        found = self.server.objects.get(request.name)
        if found is None:
            raise Refused(404, "NoSuchKey")
        start, end, status = 0, found.size, 200
        if match := re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", "")):
            first, last = match.groups()
            start = int(first) if first else max(0, found.size - int(last or 0))
            end = min(found.size, int(last) + 1) if first and last else found.size
            status = 206
            if start >= end:
                raise Refused(416, "InvalidRange")
        headers = {"ETag": f'"{found.etag}"', "Accept-Ranges": "bytes", "Content-Type": found.mime}
        headers |= {"Last-Modified": formatdate(found.time, usegmt=True), "Content-Length": str(end - start)}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
        elif request.headers.get("x-amz-checksum-mode"):
            headers |= _checksum(found.sha256)
        if request.method == "GET" and self.server.discard:
            raise Refused(501, "NotImplemented")
        self.send(status, without_body=True, headers=headers)
        if request.method == "GET":
            self._send_range(found, start, end)

    def _send_range(self, found: Object, start: int, end: int) -> None:
        offset = 0
        for piece in found.pieces:
            low, high = max(start - offset, 0), min(end - offset, piece.size)
            offset += piece.size
            if low >= high:
                continue
            with piece.path.open("rb") if piece.path else contextlib.nullcontext() as file:
                while file is not None and low < high:
                    count = os.sendfile(self.sock.fileno(), file.fileno(), low, high - low)
                    if not count:
                        raise ConnectionResetError
                    low += count
                    self.server.count(sent=count)

    def _upload(self, request: Request) -> None:
        upload_id = request.query["uploadId"]
        upload = self.server.uploads.get(upload_id)
        if upload is None or upload.name != request.name:
            raise Refused(404, "NoSuchUpload")
        match request.method:
            case "PUT":
                number = int(request.query["partNumber"])
                piece = self._receive(request)
                before = upload.parts.get(number)
                upload.parts[number] = piece
                self.server.drop([before] if before else [])
                self.send(200, headers={"ETag": f'"{_part_etag(piece)}"', **_checksum(piece.sha256)})
            case "GET":
                self._list_parts(request, upload)
            case "DELETE":
                self.server.uploads.pop(upload_id, None)
                self.server.drop(list(upload.parts.values()))
                self.send(204)
            case "POST":
                listed = b"".join(bytes(view) for view in self.body(request))
                numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", listed)]
                if not numbers or not upload.parts.keys() >= set(numbers) or numbers != sorted(set(numbers)):
                    raise Refused(400, "InvalidPart")
                self.server.uploads.pop(upload_id, None)
                pieces = [upload.parts[number] for number in numbers]
                self.server.drop([piece for number, piece in upload.parts.items() if number not in set(numbers)])
                made = self.server.publish(request.name, pieces, upload.mime, composite=True)
                checksum = f"<ChecksumSHA256>{made.sha256}</ChecksumSHA256>" if made.sha256 else ""
                answer = "CompleteMultipartUploadResult"
                self.send(200, f"<{answer}><ETag>&quot;{made.etag}&quot;</ETag>{checksum}</{answer}>")
            case _:
                raise Refused(405, "MethodNotAllowed")

    def _list_parts(self, request: Request, upload: Upload) -> None:
        marker, most = int(request.query.get("part-number-marker", 0)), int(request.query.get("max-parts", 1000))
        after = sorted((number, piece) for number, piece in list(upload.parts.items()) if number > marker)
        rows = "".join(
            f"<Part><PartNumber>{number}</PartNumber><Size>{piece.size}</Size><ETag>&quot;{_part_etag(piece)}&quot;</ETag>"
            + (f"<ChecksumSHA256>{piece.sha256}</ChecksumSHA256>" if piece.sha256 else "")
            + "</Part>"
            for number, piece in after[:most]
        )
        more = len(after) > most
        marker = after[:most][-1][0] if after[:most] else marker
        page = f"<IsTruncated>{str(more).lower()}</IsTruncated><NextPartNumberMarker>{marker}</NextPartNumberMarker>"
        self.send(200, f"<ListPartsResult>{page}{rows}</ListPartsResult>")


def _part_etag(piece: Piece) -> str:
    return piece.md5.hex() or f"{piece.path.name if piece.path else piece.size}-lean"


def _checksum(sha256: str) -> dict[str, str]:
    if not sha256:
        return {}
    return {"x-amz-checksum-sha256": sha256, "x-amz-checksum-type": "COMPOSITE" if "-" in sha256 else "FULL_OBJECT"}


def _iso(unix_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(unix_s))


@dataclass(frozen=True, slots=True)
class Running:
    """A server in a process of its own."""

    url: str
    pid: int

    def stats(self) -> dict[str, int]:
        """Requests, and bytes of payload received and sent, since the start."""
        with urlopen(f"{self.url}{STATS_PATH}", timeout=10) as answer:
            counted: dict[str, int] = json.load(answer)
            return counted


@contextlib.contextmanager
def running(folder: Path, *, md5: bool = False, discard: bool = False) -> Iterator[Running]:
    """A server in a process of its own; it ends with the context, and with us if we are killed."""
    ready, ready_child = os.pipe()
    flags = [*(["--md5"] if md5 else []), *(["--discard"] if discard else [])]
    command = [sys.executable, "-m", __spec__.name, "--dir", str(folder), "--ready-fd", str(ready_child), "--until-eof"]
    with os.fdopen(ready) as port:
        process = subprocess.Popen(
            [*command, *flags],
            stdin=subprocess.PIPE,
            pass_fds=[ready_child],
            cwd=Path(__file__).resolve().parent.parent,
        )
        os.close(ready_child)
        try:
            said = port.readline().strip()
            if not said:
                raise RuntimeError(f"the S3 endpoint did not start: exit code {process.wait(timeout=10)}")
            yield Running(f"http://127.0.0.1:{said}", process.pid)
        finally:
            process.terminate()
            process.wait(timeout=10)
            if process.stdin:
                process.stdin.close()


def main() -> None:
    """Serve until SIGTERM, Ctrl-C, or the end of stdin."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dir", type=Path, required=True, help="where bodies are kept")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 for any free one")
    parser.add_argument("--ready-fd", type=int, help="write the port there when listening")
    parser.add_argument("--md5", action="store_true", help="real MD5 ETags, which rclone and s3cmd demand")
    parser.add_argument("--discard", action="store_true", help="throw uploads away: no disk in the measurement")
    parser.add_argument("--until-eof", action="store_true", help="end when stdin does")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = Server(options.dir, port=options.port, md5=options.md5, discard=options.discard)
    threading.Thread(target=server.serve, daemon=True).start()
    if options.ready_fd is not None:
        with os.fdopen(options.ready_fd, "w") as ready:
            ready.write(f"{server.port}\n")
    else:
        print(f"http://127.0.0.1:{server.port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        if options.until_eof:
            sys.stdin.buffer.read()
        else:
            signal.pause()
    os._exit(0)


if __name__ == "__main__":
    main()
