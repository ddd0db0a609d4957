from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from dmedia_transfer.errors import StoreMissing
from dmedia_transfer.model import StoreSpec
from dmedia_transfer.peers.reach import Reach
from dmedia_transfer.peers.section import PeerAddress, write_section
from dmedia_transfer.peers.trust import Trust
from dmedia_transfer.reach import Distance, distance
from tests.factories import STORE_ID
from tests.peers import Machine, make_machine

FAR, NEAR, HEARD = "203.0.113.9:5987", "192.168.1.9:5987", "192.168.1.10:6000"


@pytest.fixture
def tv(tmp_path: Path) -> Machine:
    return make_machine(tmp_path / "tv")


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return Trust(tmp_path / "peers.json")


def reach(trust: Trust, tmp_path: Path, *, off_lan: bool = True, heard: tuple[str, ...] = ()) -> Reach:
    return Reach(
        trust,
        state_dir=tmp_path,
        off_lan=off_lan,
        discovered=lambda machine_id: map(PeerAddress.parse, heard),
        found=lambda: [ipaddress.ip_interface("192.168.1.2/24")],
    )


def see(trust: Trust, tv: Machine, *addresses: str) -> None:
    section = write_section(None, tv.identity.published, map(PeerAddress.parse, addresses))
    trust.on_machine(tv.document(peer=section))


def test_a_machine_that_is_trusted_is_reached_with_its_certificates(trust: Trust, tv: Machine, tmp_path: Path) -> None:
    see(trust, tv, NEAR)
    assert reach(trust, tmp_path).settings(tv.id) == {
        "machine_id": tv.id,
        "addresses": [NEAR],
        "certificates": [tv.certificate.text],
        "identity_dir": str(tmp_path),
        "near": True,
        "near_addresses": [NEAR],
    }


def test_a_private_address_of_another_network_is_not_near(trust: Trust, tv: Machine, tmp_path: Path) -> None:
    see(trust, tv, FAR, "10.0.0.9:5987")
    far = reach(trust, tmp_path).settings(tv.id)
    assert far["near"] is False
    assert far["near_addresses"] == []
    assert distance(StoreSpec(STORE_ID, "peer", far)) is Distance.FAR
    see(trust, tv, FAR, NEAR)
    assert distance(StoreSpec(STORE_ID, "peer", reach(trust, tmp_path).settings(tv.id))) is Distance.NEAR


def test_what_is_near_comes_first_and_of_that_what_was_heard(trust: Trust, tv: Machine, tmp_path: Path) -> None:
    see(trust, tv, FAR, NEAR, HEARD)
    heard = (HEARD, "172.17.0.1:5987")  # on a bridge within that machine, which nobody else can reach
    assert reach(trust, tmp_path, heard=heard).settings(tv.id)["addresses"] == [HEARD, NEAR, "172.17.0.1:5987", FAR]
    assert reach(trust, tmp_path, heard=heard).settings(tv.id)["near_addresses"] == [HEARD, NEAR]


def test_a_machine_that_is_not_trusted_is_not_reached_wherever_it_says_that_it_is(
    trust: Trust, tv: Machine, tmp_path: Path
) -> None:
    with pytest.raises(StoreMissing, match=f"{tv.id} is not trusted"):
        reach(trust, tmp_path, heard=(HEARD,)).settings(tv.id)
    see(trust, tv, NEAR)
    trust.on_machine(tv.document(forgotten=True))
    with pytest.raises(StoreMissing, match="is not trusted"):
        reach(trust, tmp_path, heard=(HEARD,)).settings(tv.id)


def test_a_machine_without_an_address_is_not_reached_until_it_is_heard(
    trust: Trust, tv: Machine, tmp_path: Path
) -> None:
    see(trust, tv)
    with pytest.raises(StoreMissing, match="no address"):
        reach(trust, tmp_path).settings(tv.id)
    assert reach(trust, tmp_path, heard=(HEARD,)).settings(tv.id)["addresses"] == [HEARD]


def test_off_the_network_no_machine_is_reached_if_that_is_set(trust: Trust, tv: Machine, tmp_path: Path) -> None:
    see(trust, tv, FAR, NEAR)
    assert reach(trust, tmp_path, off_lan=False).settings(tv.id)["addresses"] == [NEAR]
    see(trust, tv, FAR)
    assert reach(trust, tmp_path).settings(tv.id)["addresses"] == [FAR]
    with pytest.raises(StoreMissing, match="is not on this network"):
        reach(trust, tmp_path, off_lan=False).settings(tv.id)
