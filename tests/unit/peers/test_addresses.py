from __future__ import annotations

import ipaddress

import pytest

from dmedia_transfer.peers import addresses
from dmedia_transfer.peers.section import MAX_ADDRESSES, PeerAddress


def found(*texts: str) -> list[addresses.Interface]:
    return [ipaddress.ip_interface(text) for text in texts]


HOME = found("127.0.0.1/8", "::1/128", "2001:db8::7/64", "192.168.1.7/24", "10.8.0.2/16")


def published(interfaces: list[addresses.Interface], host: str = "", *more: str) -> list[str]:
    named = [PeerAddress.parse(each) for each in more]
    return [str(each) for each in addresses.to_publish(interfaces, host=host, port=5987, more=named)]


def test_this_machine_has_addresses_and_none_that_needs_a_scope() -> None:
    here = addresses.interfaces()
    assert any(each.is_loopback for each in here)
    assert not any(each.version == 6 and each.is_link_local for each in here)


def test_what_is_published_is_of_all_interfaces_but_loopback() -> None:
    assert published(HOME) == ["192.168.1.7:5987", "10.8.0.2:5987", "[2001:db8::7]:5987"]


def test_a_machine_without_any_network_publishes_loopback() -> None:
    assert published(HOME[:2]) == ["127.0.0.1:5987", "[::1]:5987"]
    assert published([]) == []


@pytest.mark.parametrize("host", ["192.168.1.7", "nas.local"])
def test_a_machine_that_listens_on_one_address_publishes_that(host: str) -> None:
    assert published(HOME, host) == [f"{host}:5987"]


def test_a_machine_that_listens_on_ipv4_publishes_no_other() -> None:
    assert published(HOME, "0.0.0.0") == ["192.168.1.7:5987", "10.8.0.2:5987"]


def test_what_the_configuration_names_comes_first_and_once() -> None:
    assert published(HOME[3:4], "", "home.example.org:443", "192.168.1.7:5987") == [
        "home.example.org:443",
        "192.168.1.7:5987",
    ]


def test_no_more_are_published_than_are_read() -> None:
    many = [ipaddress.ip_interface(f"10.0.{number}.1/24") for number in range(100)]
    assert len(published(list(many))) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("192.168.1.200:5987", True),
        ("192.168.2.1:5987", False),
        ("10.8.255.1:5987", True),
        ("[2001:db8::99]:5987", True),
        ("[2001:db8:1::99]:5987", False),
        ("127.0.0.5:5987", True),
        ("tv.local:5987", True),
        ("home.example.org:5987", False),
    ],
)
def test_an_address_is_near_if_it_is_on_a_network_of_ours(address: str, near: bool) -> None:
    assert addresses.is_near(PeerAddress.parse(address), HOME) is near
