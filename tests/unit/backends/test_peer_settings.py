"""What a store of another machine says of how it is reached."""

from __future__ import annotations

import pytest

from dmedia_transfer.backends import create
from dmedia_transfer.errors import AccessDenied, InvalidDocument
from dmedia_transfer.model import StoreSpec
from tests import factories

FILE = factories.file_spec(b"x")
SETTINGS = {
    "machine_id": factories.MACHINE_ID,
    "addresses": ["tv.example:8443"],
    "certificates": [],
    "identity_dir": "/",
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("machine_id", "../x"),
        ("machine_id", None),
        ("addresses", ["nowhere"]),
        ("addresses", ["http://a:1/"]),
        ("certificates", ["AAAA"]),
    ],
)
def test_settings_that_cannot_be_used_are_named(key: str, value: object) -> None:
    with pytest.raises(InvalidDocument, match=key):
        create(StoreSpec(factories.STORE_ID, "peer", {**SETTINGS, key: value}), stall_s=1, connections=1)


def test_a_machine_without_a_key_of_its_own_says_so() -> None:
    backend = create(StoreSpec(factories.STORE_ID, "peer", SETTINGS), stall_s=1, connections=1)
    with pytest.raises(AccessDenied, match="own key cannot be used"):
        backend.stat(FILE)


def test_an_object_is_named_with_its_machine_and_store() -> None:
    backend = create(StoreSpec(factories.STORE_ID, "peer", SETTINGS), stall_s=1, connections=1)
    assert backend.object_name(FILE) == f"{factories.MACHINE_ID}/{factories.STORE_ID}/{FILE.file_id}"
