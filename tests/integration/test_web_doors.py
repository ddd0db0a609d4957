"""Who gets in at the REST API: other origins, other names, no token, other users, and those who only wait."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from dmedia_transfer.web.tokens import Tokens, load_secret
from tests.web import SECRET, TIMEOUT_S, WebHost

SUMMARY = "/api/v1/summary"
PAUSE = "/api/v1/queue/pause"
STRANGER = 65534


def bearer(web: WebHost, **more: str) -> dict[str, str]:
    return {"Host": f"127.0.0.1:{web.server.port}", "Authorization": f"Bearer {SECRET}", **more}


def page(web: WebHost) -> str:
    return f"{Tokens(SECRET).host_name}:{web.server.port}"


def signed_in(web: WebHost) -> dict[str, str]:
    """The headers of the page, after its link was followed."""
    link = web.post("/links", status=201)["url"]
    assert link.startswith(f"http://{page(web)}/open/")
    answer = requests.get(
        f"{web.url}{link.removeprefix(f'http://{page(web)}')}",
        headers={"Host": page(web), "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
        allow_redirects=False,
        timeout=TIMEOUT_S,
    )
    assert answer.status_code == 303
    cookie = answer.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="))
    return {"Host": page(web), "Cookie": cookie.partition(";")[0]}


def test_the_token_opens_and_every_answer_has_the_headers_that_browsers_keep_to(web: WebHost) -> None:
    answer = web.ask("GET", SUMMARY)
    assert answer.status_code == 200
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", f"Basic {SECRET}", f"Bearer {SECRET}x"])
def test_without_the_token_there_is_nothing(web: WebHost, authorization: str) -> None:
    answer = web.ask("GET", SUMMARY, headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "org.dmedia.Transfer1.Error.AccessDenied"


@pytest.mark.parametrize(
    "host", ["evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""]
)
def test_a_name_that_was_made_to_point_here_gets_nothing(web: WebHost, host: str) -> None:
    """DNS rebinding: the page of another site whose name leads to this machine by now."""
    status, body = web.raw("GET", SUMMARY, bearer(web, Host=host.format(port=web.server.port)))
    assert status == 403, body


def test_two_hosts_are_none(web: WebHost) -> None:
    with socket.create_connection(("127.0.0.1", web.server.port), timeout=TIMEOUT_S) as connection:
        good = f"Host: 127.0.0.1:{web.server.port}\r\n"
        request = f"GET {SUMMARY} HTTP/1.1\r\n{good}Host: evil.example\r\nAuthorization: Bearer {SECRET}\r\n\r\n"
        connection.sendall(request.encode())
        assert connection.recv(12)[8:] in (b" 403", b" 400")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"])
def test_a_page_of_another_origin_gets_nothing_even_with_the_token(web: WebHost, origin: str) -> None:
    headers = bearer(web, Origin=origin.format(port=web.server.port))
    assert web.raw("POST", PAUSE, headers)[0] == 403
    assert web.raw("GET", SUMMARY, headers)[0] == 403
    assert not web.control.summary().queue_paused


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_browser_says_comes_from_another_site_gets_nothing(web: WebHost, site: str) -> None:
    headers = signed_in(web) | {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
    assert web.raw("GET", SUMMARY, headers)[0] == 403


def test_there_is_no_preflight(web: WebHost) -> None:
    headers = bearer(web, Origin="http://evil.example") | {"Access-Control-Request-Method": "POST"}
    assert web.raw("OPTIONS", PAUSE, headers)[0] == 403
    assert web.ask("OPTIONS", PAUSE).status_code == 405


def test_a_link_opens_the_page_once(web: WebHost) -> None:
    headers = signed_in(web)
    assert web.raw("GET", SUMMARY, headers)[0] == 200
    link = web.post("/links", status=201)["url"]
    path = link.removeprefix(f"http://{page(web)}")
    assert web.raw("GET", path, {"Host": page(web)})[0] == 303
    assert web.raw("GET", path, {"Host": page(web)})[0] == 410
    assert web.raw("GET", "/open/wrong-code-wrong-code", {"Host": page(web)})[0] == 410


def test_a_session_is_good_under_the_name_of_the_page_only(web: WebHost) -> None:
    """Cookies do not know ports: under 127.0.0.1, another user's server on another port would be sent it."""
    headers = signed_in(web)
    for host in ("127.0.0.1", "localhost"):
        assert web.raw("GET", SUMMARY, headers | {"Host": f"{host}:{web.server.port}"})[0] == 401
    link = web.post("/links", status=201)["url"]
    path = link.removeprefix(f"http://{page(web)}")
    assert web.raw("GET", path, {"Host": f"127.0.0.1:{web.server.port}"})[0] == 403


def test_a_session_changes_something_only_for_its_own_page(web: WebHost) -> None:
    headers = signed_in(web)
    assert web.raw("POST", PAUSE, headers)[0] == 403  # a form elsewhere sends no Origin in some old browsers
    assert web.raw("POST", PAUSE, headers | {"Origin": f"http://{page(web)}"})[0] == 200
    assert web.raw("POST", PAUSE, headers | {"Origin": f"http://127.0.0.1:{web.server.port}"})[0] == 403


def test_a_forged_session_is_none(web: WebHost) -> None:
    forged = Tokens("another secret of forty-three characters ...").new_session()
    assert web.raw("GET", SUMMARY, {"Host": page(web), "Cookie": f"dmedia={forged}"})[0] == 401


def test_the_socket_is_its_owners_alone_and_needs_no_token(web: WebHost) -> None:
    assert stat.S_IMODE(web.socket_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(web.socket_path.parent.stat().st_mode) == 0o700
    assert web.by_socket("GET", SUMMARY)[0] == 200
    assert web.by_socket("GET", SUMMARY, {"Origin": "http://localhost"})[0] == 403


_INTRUDER = """
import os, socket, sys
token_file, socket_path, port, request = sys.argv[1:]
def tries(attempt):
    try:
        return attempt()
    except PermissionError:
        return "kept out"
def ask(family, address):
    with socket.socket(family) as connection:
        connection.settimeout(20)
        connection.connect(address)
        connection.sendall(request.encode())
        return connection.recv(12).decode()
print(os.getuid())
print(tries(lambda: open(token_file).read().strip()))
print(tries(lambda: ask(socket.AF_UNIX, socket_path)))
print(tries(lambda: ask(socket.AF_INET, ("127.0.0.1", int(port)))))
"""


def intrude(web: WebHost, token_file: Path, *, uid: int) -> list[str]:
    """What another program gets: its user, the token's file, the socket, the port without the token."""
    request = f"GET {SUMMARY} HTTP/1.1\r\nHost: 127.0.0.1:{web.server.port}\r\nConnection: close\r\n\r\n"
    other = {"user": uid, "group": uid, "extra_groups": []} if uid != os.getuid() else {}
    python = str(Path(sys.executable).resolve())
    done = subprocess.run(
        [python, "-ISc", _INTRUDER, str(token_file), str(web.socket_path), str(web.server.port), request],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
        **other,  # type: ignore[call-overload] # mypy does not know which of them are there
    )
    return str(done.stdout).splitlines()


@contextmanager
def opened_up(path: Path) -> Iterator[None]:
    """As if nothing on the way to this file kept others out but the file itself."""
    before = {each: each.stat().st_mode for each in path.parents if each != Path("/")}
    for folder, mode in before.items():
        if not mode & 0o001 and os.access(folder, os.W_OK):
            folder.chmod(mode | 0o011)
    try:
        yield
    finally:
        for folder, mode in before.items():
            if folder.stat().st_mode != mode:
                folder.chmod(mode)


def test_another_user_of_the_machine_gets_nothing(web: WebHost, tmp_path: Path) -> None:
    """By the modes, and by who the kernel says it is. Only root can become somebody else, and then really is."""
    token_file = tmp_path / "web.token"
    load_secret(token_file)
    for kept in (token_file, web.socket_path):
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert kept.stat().st_uid == os.getuid()
    itself = intrude(web, token_file, uid=os.getuid())
    assert itself == [str(os.getuid()), token_file.read_text().strip(), "HTTP/1.1 200", "HTTP/1.1 401"]
    if os.getuid() != 0:
        return
    with opened_up(token_file), opened_up(web.socket_path):
        assert intrude(web, token_file, uid=STRANGER) == [str(STRANGER), "kept out", "kept out", "HTTP/1.1 401"]
        web.socket_path.chmod(0o666)  # a mistake of somebody's
        try:
            assert intrude(web, token_file, uid=STRANGER)[2] == "HTTP/1.1 403"
        finally:
            web.socket_path.chmod(0o600)


def test_who_only_connects_does_not_keep_others_out(web: WebHost) -> None:
    """More connections than there may be on the port: they are cut, and the socket has room of its own."""
    idle = [socket.create_connection(("127.0.0.1", web.server.port), timeout=TIMEOUT_S) for _ in range(160)]
    try:
        assert web.by_socket("GET", SUMMARY)[0] == 200
        cut = 0
        for connection in idle[-20:]:
            connection.settimeout(TIMEOUT_S)
            try:
                cut += connection.recv(1) == b""
            except ConnectionResetError:
                cut += 1
        assert cut == 20
    finally:
        for connection in idle:
            connection.close()
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            assert web.ask("GET", SUMMARY).status_code == 200
        except requests.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            break


def test_bodies_are_bounded_before_they_are_read(web: WebHost) -> None:
    headers = bearer(web) | {"Content-Type": "application/json"}
    with socket.create_connection(("127.0.0.1", web.server.port), timeout=TIMEOUT_S) as connection:
        lines = ["POST /api/v1/transfers HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        connection.sendall("\r\n".join([*lines, "Content-Length: 99999999999", "", ""]).encode())
        assert connection.recv(12) == b"HTTP/1.1 413"
    answer = web.ask(
        "POST", "/api/v1/transfers", data=iter([b"x" * 600_000] * 3), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path", ["/../web.token", "/static/../../etc/passwd", "/%2e%2e/x", "/index.html/..", "//etc/passwd"]
)
def test_no_path_leads_to_the_disk(web: WebHost, path: str) -> None:
    status, body = web.raw("GET", path, bearer(web))
    assert status == 404
    assert b"root:" not in body
