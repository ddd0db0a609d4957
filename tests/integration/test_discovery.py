"""Machines that find each other on a network, with what others can say there."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import pytest
from zeroconf import ServiceInfo, Zeroconf

from dmedia_transfer.model import random_id
from dmedia_transfer.peers.discovery import SERVICE, Discovery
from dmedia_transfer.peers.section import PeerAddress
from tests.device import eventually
from tests.lan import Lan, Place


@pytest.fixture
def lan() -> Iterator[Lan]:
    """A network."""
    lan = Lan()
    yield lan
    lan.close()


class Listener:
    """A machine on the network that hears others."""

    def __init__(self, lan: Lan) -> None:
        self.id = random_id()
        self.place: Place = lan.join()
        self.heard: queue.Queue[str] = queue.Queue()
        self.discovery = Discovery(
            self.id, call_soon=lambda callback, *arguments: callback(*arguments), on_heard=self.heard.put
        )

    def announce(self, *addresses: str) -> None:
        """Say where we are."""
        self.place.do(lambda: self.discovery.announce(map(PeerAddress.parse, addresses)))

    def hears(self, machine_id: str) -> list[str]:
        """Where a machine says that it is."""
        return [str(each) for each in self.discovery.heard(machine_id)]


@pytest.fixture
def pair(lan: Lan) -> Iterator[tuple[Listener, Listener]]:
    """Two machines."""
    pair = Listener(lan), Listener(lan)
    yield pair
    for each in pair:
        each.discovery.close(10)


def test_machines_find_each_other_and_notice_when_one_moves_or_goes(pair: tuple[Listener, Listener]) -> None:
    tv, laptop = pair
    laptop.announce()  # it only listens
    tv.announce("192.0.2.7:5987", "[2001:db8::7]:5987", "tv.example.org:443", "127.0.0.1:5987")
    eventually(lambda: sorted(laptop.hears(tv.id)) == ["192.0.2.7:5987", "[2001:db8::7]:5987"])
    assert laptop.heard.get(timeout=20) == tv.id
    assert tv.hears(tv.id) == []
    assert tv.hears(laptop.id) == []

    tv.announce("192.0.2.8:6000")
    eventually(lambda: laptop.hears(tv.id) == ["192.0.2.8:6000"])
    tv.discovery.close(10)
    eventually(lambda: laptop.hears(tv.id) == [])


def test_what_anybody_says_is_a_hint_or_nothing(pair: tuple[Listener, Listener]) -> None:
    tv, laptop = pair
    laptop.announce()

    def say(name: str, address: str) -> ServiceInfo:
        return ServiceInfo(
            SERVICE, f"{name}.{SERVICE}", port=1, parsed_addresses=[address], server=f"{name.lower()}.local."
        )

    voice = tv.place.do(Zeroconf)
    try:
        for each in (say("not-a-machine", "192.0.2.1"), say(random_id(), "127.0.0.1"), say(laptop.id, "192.0.2.2")):
            voice.register_service(each)
        honest = random_id()
        voice.register_service(say(honest, "192.0.2.3"))
        eventually(lambda: laptop.hears(honest) == ["192.0.2.3:1"])
        assert laptop.discovery._heard.keys() == {honest}
    finally:
        voice.close()


def test_one_that_never_said_anything_can_be_closed(lan: Lan) -> None:
    Listener(lan).discovery.close()
