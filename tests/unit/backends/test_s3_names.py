"""Where an S3 store puts a file, and what it tells S3 about it."""

from __future__ import annotations

import pytest

from dmedia_transfer.backends.s3 import MIN_PART_BYTES, S3Backend
from dmedia_transfer.backends.s3_client import client_config, is_loopback
from dmedia_transfer.model import StoreSpec
from tests import factories
from tests.factories import STORE_ID

FILE = factories.file_spec(b"film", ext="mov", mime="video/quicktime")
ID = FILE.file_id


def backend(**settings: object) -> S3Backend:
    return S3Backend(StoreSpec(STORE_ID, "s3", {"bucket": "films", **settings}), stall_s=1, connections=1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, f"films/{ID}"),
        ({"use_ext": True}, f"films/{ID}.mov"),
        ({"use_subdir": True}, f"films/{ID[:2]}/{ID}"),
        ({"prefix": "a/b/"}, f"films/a/b/{ID}"),
        ({"prefix": "a-"}, f"films/a-{ID}"),
        ({"prefix": "a/", "use_subdir": True, "use_ext": True}, f"films/a/{ID[:2]}/{ID}.mov"),
    ],
)
def test_an_object_is_named_as_the_settings_say(settings: dict[str, object], expected: str) -> None:
    assert backend(**settings).object_name(FILE) == expected


def test_a_file_without_an_extension_has_none_in_its_name() -> None:
    assert backend(use_ext=True).object_name(factories.file_spec(b"film")) == (
        f"films/{factories.file_spec(b'film').file_id}"
    )


def test_aws_is_known_to_verify_and_other_servers_have_to_show_it() -> None:
    assert backend().capabilities.verifies_sha256
    assert not backend(endpoint_url="https://store.example").capabilities.verifies_sha256
    assert backend().capabilities.min_part_bytes == MIN_PART_BYTES


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        ("", False),
        ("https://store.example", False),
        ("http://127.0.0.1:9000", False),
        ("http://localhost:9000", False),
        ("http://[::1]:9000", False),
        ("http://store.example", True),
        ("http://192.168.1.2:9000", True),
        ("http://127.0.0.1.evil.example", True),
    ],
)
def test_a_body_is_signed_where_others_could_change_it_on_the_way(url: str, signed: bool) -> None:
    config = client_config(url, stall_s=1, connections=1)
    assert config.s3["payload_signing_enabled"] is signed  # type: ignore[attr-defined]


def test_loopback_is_known_by_its_address_and_not_by_its_looks() -> None:
    assert is_loopback("http://127.8.9.10/")
    assert not is_loopback("http://localhost.example/")
    assert not is_loopback("")


def test_nothing_is_connected_and_no_credentials_are_read_before_the_first_call() -> None:
    def sessions() -> None:
        raise AssertionError("the credentials were read")

    spec = StoreSpec(STORE_ID, "s3", {"bucket": "films"})
    made = S3Backend(spec, stall_s=1, connections=1, sessions=sessions)  # type: ignore[arg-type]
    made.cut()
    made.close()
