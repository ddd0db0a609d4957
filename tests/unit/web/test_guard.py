"""Who may use the Unix socket: by what the kernel says of the other side, and not by what that says of itself."""

from __future__ import annotations

import os
import socket
import struct

import pytest
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import Request

from dmedia_transfer.web.guard import Guard
from dmedia_transfer.web.refusals import Refusal
from dmedia_transfer.web.tokens import Tokens

SECRET = "s" * 43


class Socket:
    """The daemon's end of a connection on its Unix socket."""

    family = socket.AF_UNIX

    def __init__(self, uid: int) -> None:
        self._uid = uid

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option, size) == (socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return struct.pack("3i", 4711, self._uid, self._uid)


class Transport:
    """What aiohttp knows of a connection."""

    def __init__(self, sock: object) -> None:
        self._sock = sock

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._sock if name == "socket" else default


def request(uid: int, **headers: str) -> Request:
    return make_mocked_request("GET", "/api/v1/summary", headers=headers, transport=Transport(Socket(uid)))


@pytest.fixture
def guard() -> Guard:
    return Guard(Tokens(SECRET), ["127.0.0.1"])


def test_its_owner_and_root_are_let_in(guard: Guard) -> None:
    guard.check(request(os.getuid()))
    guard.check(request(0))


@pytest.mark.parametrize("headers", [{}, {"Authorization": f"Bearer {SECRET}"}], ids=["without", "with a token"])
def test_another_user_is_not(guard: Guard, headers: dict[str, str]) -> None:
    """Who has the token may come by TCP; on the socket of another user there is something wrong."""
    with pytest.raises(Refusal) as refused:
        guard.check(request(os.getuid() + 1, **headers))
    assert refused.value.status == 403


def test_public_things_are_not_for_other_users_either(guard: Guard) -> None:
    with pytest.raises(Refusal):
        guard.check(request(os.getuid() + 1), public=True)
