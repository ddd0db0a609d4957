"""How far away stores are, and what is held back when there is no connection, or one that costs by the byte."""

from __future__ import annotations

import pytest

from dmedia_transfer.model import PRIORITY_HIGH, PRIORITY_NOW, Direction, StoreSpec, Transfer, TransferKey
from dmedia_transfer.reach import Distance, MeteredRule, OverMetered, Surroundings, distance, refusal, within
from dmedia_transfer.states import Reason
from tests.factories import STORE_ID

MB = 1_000_000


def bucket(endpoint_url: str) -> StoreSpec:
    return StoreSpec(STORE_ID, "s3", {"bucket": "films", "endpoint_url": endpoint_url, "prefix": ""})


def transfer(*, priority: int = 0, metered: bool = False) -> Transfer:
    key = TransferKey(Direction.UPLOAD, "A" * 48, STORE_ID)
    return Transfer(key, priority=priority, metered=metered)


@pytest.mark.parametrize(
    ("url", "far"),
    [
        ("", Distance.FAR),
        ("https://s3.example.org", Distance.FAR),
        ("https://203.0.113.7:9000", Distance.NEAR),  # for documentation: routed nowhere
        ("https://93.184.216.34:9000", Distance.FAR),
        ("https://[2606:2800:220:1::1]:9000", Distance.FAR),
        ("https://nas", Distance.NEAR),
        ("https://nas.local:9000", Distance.NEAR),
        ("https://NAS.Fritz.Box.", Distance.NEAR),
        ("https://nas.home.arpa/s3", Distance.NEAR),
        ("http://192.168.1.4:9000", Distance.NEAR),
        ("https://[fd00::4]:9000", Distance.NEAR),
        ("https://[fe80::4%25eth0]:9000", Distance.NEAR),
        ("http://169.254.3.4", Distance.NEAR),
        ("http://127.0.0.1:9000", Distance.HERE),
        ("http://[::1]:9000", Distance.HERE),
        ("http://localhost:9000", Distance.HERE),
        ("https://local.example.org", Distance.FAR),
        ("https://[", Distance.FAR),
    ],
)
def test_an_endpoint_says_how_far_away_its_bucket_is(url: str, far: Distance) -> None:
    if url == "https://[":
        assert distance(bucket(url)) is Distance.FAR
    else:
        assert distance(bucket(url)) is far


def test_a_filestore_of_this_machine_is_here() -> None:
    assert distance(StoreSpec(STORE_ID, "filestore", {"path": "/mnt/disk"}, local=True)) is Distance.HERE


@pytest.mark.parametrize(
    ("addresses", "far"),
    [
        (["192.168.1.4:5987"], Distance.NEAR),
        (["tv.example.org:5987", "[fd00::4]:5987"], Distance.NEAR),
        (["tv.example.org:5987"], Distance.FAR),
        (["127.0.0.1:5987"], Distance.HERE),
        ([], Distance.FAR),
        ([7, "tv.local:5987"], Distance.NEAR),
    ],
)
def test_a_peer_is_as_near_as_its_nearest_address_where_nobody_looked(addresses: list[object], far: Distance) -> None:
    assert distance(StoreSpec(STORE_ID, "peer", {"addresses": addresses})) is far


@pytest.mark.parametrize(
    ("address", "near", "far"),
    [
        ("192.168.1.9:5987", True, Distance.NEAR),
        ("192.168.1.9:5987", False, Distance.FAR),  # private, but in somebody else's network
        ("[2a01:4f8::9]:5987", True, Distance.NEAR),  # public, and on our cable
        ("127.0.0.1:5987", True, Distance.HERE),
    ],
)
def test_a_peer_is_near_if_it_is_on_a_network_of_ours_whatever_its_address(
    address: str, near: bool, far: Distance
) -> None:
    assert distance(StoreSpec(STORE_ID, "peer", {"addresses": [address], "near": near})) is far


@pytest.mark.parametrize(
    ("around", "asked", "narrowed"),
    [
        (Surroundings(), transfer(), False),
        (Surroundings(metered=True), transfer(), True),
        (Surroundings(metered=True), transfer(metered=True), False),
        (Surroundings(metered=True), transfer(priority=PRIORITY_NOW), False),
        (Surroundings(Distance.NEAR), transfer(), True),
    ],
)
def test_of_a_peer_that_is_near_the_far_addresses_are_tried_only_if_bytes_may_go_there(
    around: Surroundings, asked: Transfer, narrowed: bool
) -> None:
    near, far = "192.168.1.4:5987", "tv.example.org:5987"
    store = StoreSpec(STORE_ID, "peer", {"addresses": [near, far], "near_addresses": [near], "near": True})
    found = within(store, asked, 900 * MB, around, MeteredRule())
    assert found.settings == {**store.settings, "addresses": [near] if narrowed else [near, far]}


def test_a_store_that_nobody_looked_for_near_addresses_of_stays_as_it_is() -> None:
    store = bucket("https://s3.example.org")
    assert within(store, transfer(), 1, Surroundings(metered=True), MeteredRule()) is store


@pytest.mark.parametrize("reach", list(Distance))
@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "http://192.168.1.4:9000", "https://s3.example.org"])
def test_what_is_farther_away_than_the_connection_reaches_waits_until_it_does(reach: Distance, url: str) -> None:
    store = bucket(url)
    problem = refusal(store, transfer(), 1, Surroundings(reach), MeteredRule())
    if distance(store) <= reach:
        assert problem is None
    else:
        assert problem is not None
        assert problem.reason == Reason.OFFLINE
        assert STORE_ID in str(problem)


@pytest.mark.parametrize(
    ("policy", "asked", "size", "goes"),
    [
        (OverMetered.NEVER, transfer(), 1, False),
        (OverMetered.NEVER, transfer(priority=PRIORITY_NOW), 1, False),
        (OverMetered.NEVER, transfer(metered=True), 900 * MB, True),
        (OverMetered.ASK_NO, transfer(), 10 * MB, True),
        (OverMetered.ASK_NO, transfer(), 10 * MB + 1, False),
        (OverMetered.ASK_NO, transfer(priority=PRIORITY_HIGH), 11 * MB, False),
        (OverMetered.ASK_NO, transfer(priority=PRIORITY_NOW), 900 * MB, True),
        (OverMetered.ASK_NO, transfer(metered=True), 900 * MB, True),
        (OverMetered.ALWAYS, transfer(), 900 * MB, True),
    ],
)
def test_what_goes_over_a_connection_that_costs_is_a_setting_with_an_override(
    policy: OverMetered, asked: Transfer, size: int, goes: bool
) -> None:
    costs = Surroundings(metered=True)
    problem = refusal(bucket("https://s3.example.org"), asked, size, costs, MeteredRule(policy, 10 * MB))
    assert (problem is None) is goes
    assert problem is None or problem.reason == Reason.METERED
    assert refusal(bucket("http://192.168.1.4"), asked, size, costs, MeteredRule(policy, 10 * MB)) is None
