"""Machines on a network of their own, each with addresses, interfaces and loopback as separate hosts have them.

Where the test may make network namespaces (it is root, and iproute2 is there), each machine lives in one, and a bridge
in another one joins them. Elsewhere each has a loopback address of its own, and nothing else differs. Nothing is
changed in the namespace of the test itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

_CLONE_NEWNET: Final = 0x40000000
_PREFIX: Final = "10.77.0"
_numbers: Final = itertools.count(1)

_Result = TypeVar("_Result")


@functools.cache
def may_make_namespaces() -> bool:
    """Whether namespaces, bridges and links between them can be made here; DMEDIA_TEST_NO_NAMESPACES=1 says no."""
    if os.environ.get("DMEDIA_TEST_NO_NAMESPACES") or os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"dmedia-probe-{os.getpid()}"
    commands = ("link add name lan0 type bridge", "link add name left0 type veth peer name right0")
    try:
        _ip("netns", "add", name)
        for command in commands:
            _ip("-n", name, *command.split())
    except subprocess.CalledProcessError:
        return False
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "del", name)
    return True


class Place:
    """Where a machine is on the network."""

    def __init__(self, namespace: str, address: str) -> None:
        self.namespace = namespace  # empty where there are none
        self.address = address

    @property
    def prefix(self) -> Sequence[str]:
        """What a command begins with that is to run there."""
        return ("ip", "netns", "exec", self.namespace) if self.namespace else ()

    def listener(self) -> socket.socket:
        """A socket on this machine's own loopback for something that is really with the test."""
        return self.do(lambda: socket.create_server(("127.0.0.1", 0)))

    def do(self, function: Callable[[], _Result]) -> _Result:
        """Call a function whose sockets are there."""
        return _within(self.namespace, function) if self.namespace else function()


class Lan:
    """A network."""

    def __init__(self) -> None:
        self.is_real = may_make_namespaces()
        self._name = f"dmedia-{os.getpid()}-{next(_numbers)}"
        self._hub = f"{self._name}-hub"
        self._places: list[Place] = []
        self._next_host = 10
        if self.is_real:
            _clear_away()
            _ip("netns", "add", self._hub)
            _ip("-n", self._hub, "link", "add", "name", "lan", "type", "bridge")
            _ip("-n", self._hub, "link", "set", "lan", "up")

    def join(self) -> Place:
        """A new machine comes onto the network."""
        if not self.is_real:
            place = Place("", self._new_address())
            self._places.append(place)
            return place
        namespace = f"{self._name}-{len(self._places)}"
        link = f"p{len(self._places)}"
        place = Place(namespace, self._new_address())
        self._places.append(place)
        _ip("netns", "add", namespace)
        _ip("-n", self._hub, "link", "add", "name", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("-n", self._hub, "link", "set", link, "master", "lan", "up")
        _ip("-n", namespace, "addr", "add", f"{place.address}/24", "dev", "eth0")
        for own in ("lo", "eth0"):
            _ip("-n", namespace, "link", "set", own, "up")
        return place

    def readdress(self, place: Place) -> None:
        """A machine gets another address, and loses the one that it had; its connections die without a word."""
        before, place.address = place.address, self._new_address()
        if not self.is_real:
            return
        _ip("-n", place.namespace, "addr", "del", f"{before}/24", "dev", "eth0")  # would take a second one with it
        _ip("-n", place.namespace, "addr", "add", f"{place.address}/24", "dev", "eth0")

    def close(self) -> None:
        """Leave nothing of it."""
        if self.is_real:
            for namespace in [self._hub, *(place.namespace for place in self._places)]:
                with contextlib.suppress(subprocess.CalledProcessError):
                    _ip("netns", "del", namespace)

    def _new_address(self) -> str:
        self._next_host += 1
        return f"{_PREFIX if self.is_real else '127.0.0'}.{self._next_host}"


def _clear_away() -> None:
    """Remove what tests have left that were killed."""
    for path in Path("/run/netns").glob("dmedia-*-*-*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", path.name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


def _within(namespace: str, function: Callable[[], _Result]) -> _Result:
    """Call a function on a thread of its own that is in this namespace."""
    results: list[_Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            with Path("/run/netns", namespace).open("rb") as handle:
                if libc.setns(handle.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            results.append(function())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name=f"in-{namespace}")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
