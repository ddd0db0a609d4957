"""nginx with TLS 1.3 and a certificate of a peer's kind: what others get their files from."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.common import RunFailed
from dmedia_transfer.peers import certificates

_NGINX: Final = """
daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;
  fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.3; ssl_certificate {pem}; ssl_certificate_key {pem};
    location / {{ root {root}; }}
  }}
}}
"""


@contextlib.contextmanager
def running(folder: Path, root: Path) -> Iterator[tuple[str, int]]:
    """Serve a folder; the URL, and the first of its processes.

    Raises:
        RunFailed: It does not start.
    """
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key, certificate = certificates.make("N" * 24)
    folder.mkdir()
    (folder / "nginx.pem").write_bytes(key + certificate.pem.encode())
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=folder, port=port, pem=folder / "nginx.pem", root=root))
    process = subprocess.Popen([program, "-c", str(configuration), "-p", str(folder)], stderr=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None or time.monotonic() > until_s:
                raise RunFailed("nginx does not start")
            time.sleep(0.05)
        yield f"https://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()
